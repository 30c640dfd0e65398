"""Toy distributions with known answers: mixtures on a ring and a grid, the f-GAN toy, moons."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Array, SamplesX, array_function

WITHIN = 3.0  # standard deviations that still count as hitting a mode
Seed = torch.Generator | int | None


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A mixture of round Gaussians, Σ_k w_k N(μ_k, s_k² I), with its density and moments.

    Attributes:
        weights: Shape (k,), positive, summing to one.
        means: Shape (k, d).
        sd: Standard deviations, shape (k,).

    Example:
        >>> ring = ring_of_gaussians()
        >>> points = ring.sample(1000, generator=0)
        >>> points.shape, int(ring.modes_covered(points))
        (torch.Size([1000, 2]), 8)
    """

    weights: Tensor
    means: Tensor
    sd: Tensor

    def __post_init__(self) -> None:
        k = len(self.means)
        if self.means.ndim != 2 or self.weights.shape != (k,) or self.sd.shape != (k,):
            raise ValueError(
                f"wanted weights (k,), means (k, d) and sd (k,), got {tuple(self.weights.shape)}, "
                f"{tuple(self.means.shape)} and {tuple(self.sd.shape)}"
            )
        checks.probabilities(self.weights, name="weights")
        if not bool((self.sd > 0).all()):
            raise ValueError("sd must be above zero for every mode")

    @property
    def dimension(self) -> int:
        """Coordinates of a point."""
        return self.means.shape[1]

    @property
    def mean(self) -> Tensor:
        """Σ_k w_k μ_k, shape (d,)."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """Σ_k w_k (s_k² I + (μ_k − μ)(μ_k − μ)ᵀ), shape (d, d)."""
        gap = self.means - self.mean
        inside = self.weights @ self.sd**2
        between = (self.weights[:, None] * gap).mT @ gap
        return inside * torch.eye(self.dimension, dtype=gap.dtype) + between

    def sample(self, n: int, *, generator: Seed = None, dtype: torch.dtype | None = None) -> Tensor:
        """Independent points, shape (n, d), in ``dtype`` (the default one for None)."""
        n, source = checks.count(n, "n"), checks.generator(generator)
        mode = torch.multinomial(self.weights, n, replacement=True, generator=source)
        noise = torch.randn(n, self.dimension, generator=source, dtype=self.means.dtype)
        drawn = self.means[mode] + self.sd[mode, None] * noise
        return drawn.to(dtype or torch.get_default_dtype())

    def log_density(self, x: Tensor) -> Tensor:
        """Log density at points of shape (*batch, n, d), shape (*batch, n), in ``float64``."""
        squared = (x.double().unsqueeze(-2) - self.means).square().sum(-1)
        log_normal = -0.5 * squared / self.sd**2 - self.dimension * (
            self.sd.log() + 0.5 * math.log(2 * math.pi)
        )
        return torch.logsumexp(self.weights.log() + log_normal, dim=-1)

    def modes_covered(self, samples: Tensor) -> Tensor:
        """How many modes have a sample within three standard deviations; see `modes_covered`."""
        covered: Tensor = modes_covered(samples, self.means, self.sd)
        return covered

    def high_quality_share(self, samples: Tensor) -> Tensor:
        """Share of samples within three standard deviations of a mode."""
        share: Tensor = high_quality_share(samples, self.means, self.sd)
        return share


@array_function
def modes_covered(samples: SamplesX, means: Array, sd: Array | float) -> Array:
    """Number of modes with at least one sample within 3 sd (Euclidean distance).

    Args:
        samples: Shape (*batch, n, d).
        means: Centres of the modes, shape (k, d).
        sd: Standard deviation of each mode, shape (k,), or one for all.

    Returns:
        Shape (*batch), whole numbers in the dtype of the samples.

    Raises:
        ValueError: Non-finite samples, or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> centres = np.array([[0.0, 0.0], [1.0, 1.0]])
        >>> modes_covered(np.array([[0.0, 0.1], [5.0, 5.0]]), centres, 0.1)
        1.0

    Notes:
        Time and memory O(n k d).
    """
    return _hits(samples, means, sd).any(dim=-2).sum(dim=-1).to(samples.dtype)


@array_function
def high_quality_share(samples: SamplesX, means: Array, sd: Array | float) -> Array:
    """Share of samples within 3 sd of some mode; 1 − e^{−4.5} = 98.9% for a perfect model in 2-D.

    Args:
        samples: Shape (*batch, n, d).
        means: Centres of the modes, shape (k, d).
        sd: Standard deviation of each mode, shape (k,), or one for all.

    Returns:
        Shape (*batch), between 0 and 1.

    Raises:
        ValueError: Non-finite samples, or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> high_quality_share(np.array([[0.0, 0.1], [5.0, 5.0]]), np.array([[0.0, 0.0]]), 0.1)
        0.5
    """
    wide = torch.float64 if samples.dtype == torch.float64 else torch.float32
    return _hits(samples, means, sd).any(dim=-1).to(wide).mean(dim=-1).to(samples.dtype)


def ring_of_gaussians(
    modes: int = 8, radius: float | int = 1.0, sd: float | int = 0.01
) -> GaussianMixture:
    """Equal modes on a circle: 8 of sd 0.01 on the unit circle, the usual mode-collapse test."""
    angle = 2 * math.pi * torch.arange(checks.count(modes, "modes"), dtype=torch.float64) / modes
    circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
    return equal_mixture(checks.positive(radius, "radius") * circle, sd)


def grid_of_gaussians(
    side: int = 5, step: float | int = 2.0, sd: float | int = 0.05
) -> GaussianMixture:
    """Equal modes on a square grid around 0: 25 of sd 0.05 at −4, −2, 0, 2, 4 in each direction."""
    line = torch.arange(checks.count(side, "side"), dtype=torch.float64) - (side - 1) / 2
    return equal_mixture(
        checks.positive(step, "step") * torch.cartesian_prod(line, line).reshape(-1, 2), sd
    )


def two_gaussians(
    d: int = 2, separation: float | int = 4.0, sd: float | int = 1.0
) -> GaussianMixture:
    """Two equal modes in d dimensions, ``separation`` apart along the first coordinate."""
    means = torch.zeros(2, checks.count(d, "d"), dtype=torch.float64)
    half = checks.positive(separation, "separation") / 2
    means[:, 0] = torch.tensor([-half, half])
    return equal_mixture(means, sd)


def fgan_mixture() -> GaussianMixture:
    """0.33 N(−1, 0.255²) + 0.67 N(2, 1.415²), to which f-GANs fit one Gaussian N(μ, σ²).

    Smallest divergence from the mixture P to N(μ, σ²), and where it is attained:

    ============= ======== ======= =======
    divergence    value    μ*      σ*
    ============= ======== ======= =======
    KL            0.28297  1.0100  1.8311
    reverse KL    0.24811  1.5779  1.6318
    2 JS          0.12804  1.3068  1.7545
    Jeffrey       0.57057  1.3215  1.7035
    Pearson χ²    0.64565  0.5736  1.9277
    ============= ======== ======= =======

    References:
        Nowozin, Cseke and Tomioka (2016), f-GAN, section 2.3.
    """
    double = torch.float64
    return GaussianMixture(
        weights=torch.tensor([0.33, 0.67], dtype=double),
        means=torch.tensor([[-1.0], [2.0]], dtype=double),
        sd=torch.tensor([0.255, 1.415], dtype=double),
    )


def equal_mixture(means: Tensor, sd: float | int) -> GaussianMixture:
    """Modes of equal weight and spread at ``means``, shape (k, d)."""
    k = len(means)
    means = means.double()
    sds = torch.full((k,), checks.positive(sd, "sd"), dtype=torch.float64)
    return GaussianMixture(torch.full((k,), 1 / k, dtype=torch.float64), means, sds)


@dataclass(frozen=True)
class Moons:
    """Two interleaving half circles with Gaussian noise, uniform along each.

    The points (cos t, sin t) and (1 − cos t, ½ − sin t), t uniform on [0, π], plus N(0, noise² I).
    """

    noise: float | int = 0.05

    def __post_init__(self) -> None:
        if checks.real(self.noise, "noise") < 0:
            raise ValueError(f"noise must be zero or more, got {self.noise}")

    @property
    def dimension(self) -> int:
        """Coordinates of a point."""
        return 2

    @property
    def mean(self) -> Tensor:
        """(½, ¼): each moon has the mean (0, 2/π) or (1, ½ − 2/π)."""
        return torch.tensor([0.5, 0.25], dtype=torch.float64)

    @property
    def covariance(self) -> Tensor:
        """Exact covariance, shape (2, 2): within each moon diag(½, ½ − 4/π²), plus between them."""
        gap = torch.tensor([1.0, 0.5 - 4 / math.pi], dtype=torch.float64)
        inside = torch.tensor([0.5, 0.5 - 4 / math.pi**2], dtype=torch.float64) + self.noise**2
        return inside.diag() + torch.outer(gap, gap) / 4

    def sample(self, n: int, *, generator: Seed = None, dtype: torch.dtype | None = None) -> Tensor:
        """Independent points, shape (n, 2), in ``dtype`` (the default one for None)."""
        n, source = checks.count(n, "n"), checks.generator(generator)
        draw = torch.rand(2, n, generator=source, dtype=torch.float64)
        angle, lower = math.pi * draw[0], draw[1] < 0.5
        x = torch.where(lower, 1 - angle.cos(), angle.cos())
        y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
        noise = torch.randn(n, 2, generator=source, dtype=torch.float64)
        drawn = torch.stack([x, y], dim=-1) + self.noise * noise
        return drawn.to(dtype or torch.get_default_dtype())


TOYS: dict[str, Callable[[], GaussianMixture | Moons]] = {
    "ring": ring_of_gaussians,
    "grid": grid_of_gaussians,
    "moons": Moons,
    "two_gaussians": two_gaussians,
    "fgan_mixture": fgan_mixture,
}


def _hits(samples: Tensor, means: Tensor, sd: Tensor | float) -> Tensor:
    """Whether sample i lies within 3 sd of mode k, shape (*batch, n, k)."""
    samples = checks.sample(samples, name="samples")
    means = checks.sample(means, name="means")
    if means.ndim != 2 or means.shape[-1] != samples.shape[-1]:
        raise ValueError(
            f"means must have shape (k, {samples.shape[-1]}) to fit the samples, "
            f"got {tuple(means.shape)}"
        )
    spread = torch.as_tensor(sd, dtype=torch.float64, device=samples.device)
    if spread.ndim > 1 or spread.numel() not in (1, len(means)):
        raise ValueError(f"sd must be one number or one per mode, got shape {tuple(spread.shape)}")
    if checks.readable(spread) and not bool((spread > 0).all()):
        raise ValueError("sd must be above zero for every mode")
    gap = samples.detach().double().unsqueeze(-2) - means.to(samples.device).double()
    return gap.square().sum(-1) <= (WITHIN * spread) ** 2
