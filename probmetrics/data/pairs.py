"""Pairs of distributions to tell apart, the plainest: shift, scale, correlation and shape."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from probmetrics import _checks as checks

Seed = torch.Generator | int | None


class PublishedPower(NamedTuple):
    """The power a paper reports for a test at level 0.05."""

    method: str
    n: int
    power: float


class AbstractTwoSampleFamily(ABC):
    """Two distributions; points are ``float64`` and independent unless the class says otherwise."""

    @abstractmethod
    def sample_x(self, n: int, *, generator: Seed = None) -> Tensor:
        """Points of the first distribution, shape (n, d)."""

    @abstractmethod
    def sample_y(self, n: int, *, generator: Seed = None) -> Tensor:
        """Points of the second distribution, shape (n, d)."""

    def sample(
        self, n: int, m: int | None = None, *, generator: Seed = None
    ) -> tuple[Tensor, Tensor]:
        """Independent samples of both, n points of the first and m (default n) of the second."""
        source = checks.generator(generator)
        x = self.sample_x(n, generator=source)
        return x, self.sample_y(n if m is None else m, generator=source)

    @property
    def published(self) -> tuple[PublishedPower, ...]:
        """What is published for these parameters, with the sample size n = m; may be empty."""
        return ()


@dataclass(frozen=True)
class MeanShift(AbstractTwoSampleFamily):
    """N(0, I) against N(shift·1_d, I).

    Measured power at level 0.05, n = m = 50, d = 10, shift 0.25: energy .76, MMDAgg .67,
    MMD-FUSE .53.
    """

    d: int = 10
    shift: float | int = 0.25

    def __post_init__(self) -> None:
        checks.count(self.d, "d")
        checks.real(self.shift, "shift")

    def sample_x(self, n: int, *, generator: Seed = None) -> Tensor:
        """Standard normal points, shape (n, d)."""
        return normal(n, self.d, generator)

    def sample_y(self, n: int, *, generator: Seed = None) -> Tensor:
        """Normal points with every coordinate shifted, shape (n, d)."""
        return self.shift + normal(n, self.d, generator)

    @property
    def published(self) -> tuple[PublishedPower, ...]:
        """Energy, MMDAgg and MMD-FUSE at d = 10, shift 0.25."""
        if (self.d, self.shift) != (10, 0.25):
            return ()
        powers = {"energy": 0.76, "MMDAgg": 0.67, "MMD-FUSE": 0.53}
        return tuple(PublishedPower(method, 50, power) for method, power in powers.items())


@dataclass(frozen=True)
class Scale(AbstractTwoSampleFamily):
    """N(0, I) against N(0, factor² I): the standard deviation is multiplied by ``factor``.

    Measured power at level 0.05, n = m = 50, d = 10, factor 1.4: energy .79, MMDAgg .99,
    MMD-FUSE 1.0.
    """

    d: int = 10
    factor: float | int = 1.4

    def __post_init__(self) -> None:
        checks.count(self.d, "d")
        checks.positive(self.factor, "factor")

    def sample_x(self, n: int, *, generator: Seed = None) -> Tensor:
        """Standard normal points, shape (n, d)."""
        return normal(n, self.d, generator)

    def sample_y(self, n: int, *, generator: Seed = None) -> Tensor:
        """Normal points with standard deviation ``factor``, shape (n, d)."""
        return self.factor * normal(n, self.d, generator)

    @property
    def published(self) -> tuple[PublishedPower, ...]:
        """Energy, MMDAgg and MMD-FUSE at d = 10, factor 1.4."""
        if (self.d, self.factor) != (10, 1.4):
            return ()
        powers = {"energy": 0.79, "MMDAgg": 0.99, "MMD-FUSE": 1.0}
        return tuple(PublishedPower(method, 50, power) for method, power in powers.items())


@dataclass(frozen=True)
class Correlation(AbstractTwoSampleFamily):
    """N(0, I) against a Gaussian with equal marginals whose first two coordinates correlate."""

    d: int = 2
    correlation: float | int = 0.5

    def __post_init__(self) -> None:
        checks.count(self.d, "d", minimum=2)
        checks.between(self.correlation, "correlation", -1.0, 1.0)

    def sample_x(self, n: int, *, generator: Seed = None) -> Tensor:
        """Standard normal points, shape (n, d)."""
        return normal(n, self.d, generator)

    def sample_y(self, n: int, *, generator: Seed = None) -> Tensor:
        """Normal points with the given correlation, shape (n, d)."""
        n, source = checks.count(n, "n"), checks.generator(generator)
        slant = torch.full((n,), self.correlation, dtype=torch.float64)
        return correlated(n, self.d, 1.0, slant, source)


@dataclass(frozen=True)
class EqualMomentBimodal(AbstractTwoSampleFamily):
    """N(0, I) against ½N(−μ, 1 − μ²) + ½N(μ, 1 − μ²) in each coordinate: equal mean and variance.

    The modes of different coordinates are independent, so all covariances are equal as well and
    only moments of order four and higher tell the two apart.
    """

    d: int = 1
    mu: float | int = 0.9

    def __post_init__(self) -> None:
        checks.count(self.d, "d")
        checks.between(self.mu, "mu", 0.0, 1.0)

    def sample_x(self, n: int, *, generator: Seed = None) -> Tensor:
        """Standard normal points, shape (n, d)."""
        return normal(n, self.d, generator)

    def sample_y(self, n: int, *, generator: Seed = None) -> Tensor:
        """Points with two modes in each coordinate, shape (n, d)."""
        n, source = checks.count(n, "n"), checks.generator(generator)
        side = 2 * torch.randint(2, (n, self.d), generator=source, dtype=torch.float64) - 1
        return self.mu * side + math.sqrt(1 - self.mu**2) * normal(n, self.d, source)


def normal(n: int, d: int, generator: Seed) -> Tensor:
    """Standard normal points in float64, shape (n, d)."""
    source = checks.generator(generator)
    return torch.randn(checks.count(n, "n"), d, generator=source, dtype=torch.float64)


def correlated(
    n: int, d: int, variance: float | int, covariance: Tensor, generator: torch.Generator
) -> Tensor:
    """Centred normal points, shape (n, d), whose first two coordinates covary point by point."""
    noise = normal(n, d, generator)
    slope = covariance / variance
    noise[:, 1] = slope * noise[:, 0] + (1 - slope**2).sqrt() * noise[:, 1]
    return math.sqrt(variance) * noise
