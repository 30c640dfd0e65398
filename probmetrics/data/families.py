"""Two-sample problems from the literature, which differ locally, with their published power."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.data.pairs import (
    AbstractTwoSampleFamily,
    Correlation,
    EqualMomentBimodal,
    MeanShift,
    PublishedPower,
    Scale,
    Seed,
    correlated,
)


@dataclass(frozen=True)
class PerturbedUniform(AbstractTwoSampleFamily):
    """Uniform on [0, 1]^d against a density with P^d small bumps of random sign.

    f(x) = 1 + c_d P^{−1} Σ_{ν ∈ {1..P}^d} θ_ν Π_r G(P x_r − ν_r), where θ_ν = ±1 are drawn anew by
    every call of ``sample_y``, G(t) = exp(−1/(1 − (4t+3)²)) on (−1, −½),
    −exp(−1/(1 − (4t+1)²)) on (−½, 0) and 0 elsewhere, c₁ = 2.7 and c₂ = 7.3.

    Published power at level 0.05, d = 1, n = m = 500, P = 1, 2, 3, 4: MMDAgg 1, .988, .602, .228;
    MMD with the median bandwidth 1, .804, .082, .020.

    References:
        Schrab, Kim, Albert, Laurent, Guedj and Gretton (2023), MMD Aggregated Two-Sample Test,
        section 5.
    """

    d: int = 1
    perturbations: int = 1

    def __post_init__(self) -> None:
        checks.choice(self.d, "d", sorted(AMPLITUDE))
        checks.count(self.perturbations, "perturbations")

    def sample_x(self, n: int, *, generator: Seed = None) -> Tensor:
        """Uniform points, shape (n, d)."""
        source = checks.generator(generator)
        size = (checks.count(n, "n"), self.d)
        return torch.rand(size, generator=source, dtype=torch.float64)

    def sample_y(self, n: int, *, generator: Seed = None, signs: Tensor | None = None) -> Tensor:
        """Points of the perturbed density, by rejection, shape (n, d).

        Args:
            n: How many.
            generator: Draws the signs, then the points.
            signs: θ, shape (P,)·d, to fix it; drawn when None.
        """
        n, source = checks.count(n, "n"), checks.generator(generator)
        signs = self.draw_signs(generator=source) if signs is None else signs
        bound = 1 + AMPLITUDE[self.d] / self.perturbations * math.exp(-self.d)
        kept: list[Tensor] = []
        while sum(map(len, kept)) < n:
            point = torch.rand(2 * n + 16, self.d, generator=source, dtype=torch.float64)
            level = bound * torch.rand(len(point), generator=source, dtype=torch.float64)
            kept.append(point[level < self.density(point, signs)])
        return torch.cat(kept)[:n]

    def draw_signs(self, *, generator: Seed = None) -> Tensor:
        """θ: independent ±1, shape (P,) for d = 1 and (P, P) for d = 2."""
        shape = (self.perturbations,) * self.d
        return 2.0 * torch.randint(2, shape, generator=checks.generator(generator)) - 1

    def density(self, x: Tensor, signs: Tensor) -> Tensor:
        """The density f at points of shape (n, d) in the unit cube, shape (n,)."""
        if tuple(signs.shape) != (self.perturbations,) * self.d:
            raise ValueError(
                f"signs must have shape {(self.perturbations,) * self.d}, got {tuple(signs.shape)}"
            )
        scaled = self.perturbations * x.double()
        cell = scaled.ceil().clamp(1, self.perturbations)  # the only ν whose bump reaches x
        bump = _bump(scaled - cell).prod(dim=-1)
        sign = signs[tuple((cell.long() - 1).unbind(-1))]
        return 1 + AMPLITUDE[self.d] / self.perturbations * sign * bump

    @property
    def published(self) -> tuple[PublishedPower, ...]:
        """MMDAgg and median-bandwidth MMD for d = 1."""
        if self.d != 1 or self.perturbations > 4:
            return ()
        i = self.perturbations - 1
        return (
            PublishedPower("MMDAgg", 500, (1.0, 0.988, 0.602, 0.228)[i]),
            PublishedPower("MMD, median bandwidth", 500, (1.0, 0.804, 0.082, 0.020)[i]),
        )


@dataclass(frozen=True)
class FourModes(AbstractTwoSampleFamily):
    """Four equal modes at (±20, ±20) with unit sd; in Y the mode (−20, −20) has sd ``sigma``.

    Published power at level 0.05, n = m = 500, sigma = .6, .7, 1, 1.4, 1.6, 2 (1 is the null):
    MMD-FUSE .945, .51, .035, .235, .635, .905; MMDAgg .915, .46, .05, .25, .675, .945.

    References:
        Biggs, Schrab and Gretton (2023), MMD-FUSE: Learning and Combining Kernels for Two-Sample
        Testing Without Data Splitting, section 6.
    """

    sigma: float | int = 2.0

    def __post_init__(self) -> None:
        checks.positive(self.sigma, "sigma")

    def sample_x(self, n: int, *, generator: Seed = None) -> Tensor:
        """Points with unit sd in every mode, shape (n, 2)."""
        return self._sample(n, 1.0, generator)

    def sample_y(self, n: int, *, generator: Seed = None) -> Tensor:
        """Points whose mode at (−20, −20) has sd ``sigma``, shape (n, 2)."""
        return self._sample(n, self.sigma, generator)

    def _sample(self, n: int, sigma: float | int, generator: Seed) -> Tensor:
        n, source = checks.count(n, "n"), checks.generator(generator)
        side = torch.randint(2, (n, 2), generator=source, dtype=torch.float64)
        noise = torch.randn(n, 2, generator=source, dtype=torch.float64)
        changed = (side == 0).all(dim=-1, keepdim=True)
        return 40 * side - 20 + torch.where(changed, sigma, 1.0) * noise

    @property
    def published(self) -> tuple[PublishedPower, ...]:
        """MMD-FUSE and MMDAgg at the six values of sigma."""
        rows = {
            0.6: (0.945, 0.915),
            0.7: (0.51, 0.46),
            1.0: (0.035, 0.05),
            1.4: (0.235, 0.25),
            1.6: (0.635, 0.675),
            2.0: (0.905, 0.945),
        }
        if self.sigma not in rows:
            return ()
        fuse, agg = rows[self.sigma]
        return PublishedPower("MMD-FUSE", 500, fuse), PublishedPower("MMDAgg", 500, agg)


@dataclass(frozen=True)
class Blob(AbstractTwoSampleFamily):
    """Nine equal modes on {0, 1, 2}²; X has covariance 0.03 I, Y a correlation that varies by mode.

    In Y the covariance of mode i is [[.03, Δ_i], [Δ_i, .03]] with Δ = −.02, −.022, −.024, −.026,
    0, .02, .022, .024, .026, the modes counted (0, 0), (0, 1), …, (2, 2).

    References:
        Liu, Xu, Lu, Zhang, Gretton and Sutherland (2020), Learning Deep Kernels for
        Non-Parametric Two-Sample Tests, section 6.
    """

    def sample_x(self, n: int, *, generator: Seed = None) -> Tensor:
        """Points with round modes, shape (n, 2)."""
        return self._sample(n, torch.zeros(9, dtype=torch.float64), generator)

    def sample_y(self, n: int, *, generator: Seed = None) -> Tensor:
        """Points with slanted modes, shape (n, 2)."""
        return self._sample(n, torch.tensor(BLOB_COVARIANCE, dtype=torch.float64), generator)

    @staticmethod
    def _sample(n: int, covariance: Tensor, generator: Seed) -> Tensor:
        n, source = checks.count(n, "n"), checks.generator(generator)
        mode = torch.randint(9, (n,), generator=source)
        centre = torch.stack([mode // 3, mode % 3], dim=-1).double()
        return centre + correlated(n, 2, 0.03, covariance[mode], source)


@dataclass(frozen=True)
class HighDimensionalMixture(AbstractTwoSampleFamily):
    """Two Gaussian modes, at 0 and 0.5·1_d; in Y the first two coordinates correlate by ±½.

    Both modes of X have covariance I; in Y the covariance entry (1, 2) is +½ in the first mode
    and −½ in the second. Each mode gets exactly half of the points (the first one more if n is
    odd), in random order: n points per mode, as papers count, are ``sample(2 * n)``.

    References:
        Liu, Xu, Lu, Zhang, Gretton and Sutherland (2020), Learning Deep Kernels for
        Non-Parametric Two-Sample Tests, section 6 (HDGM).
    """

    d: int = 10

    def __post_init__(self) -> None:
        checks.count(self.d, "d", minimum=2)

    def sample_x(self, n: int, *, generator: Seed = None) -> Tensor:
        """Points of the two round modes, shape (n, d)."""
        return self._sample(n, 0.0, generator)

    def sample_y(self, n: int, *, generator: Seed = None) -> Tensor:
        """Points of the two slanted modes, shape (n, d)."""
        return self._sample(n, 0.5, generator)

    def _sample(self, n: int, covariance: float, generator: Seed) -> Tensor:
        n, source = checks.count(n, "n"), checks.generator(generator)
        second = torch.arange(n) >= (n + 1) // 2
        second = second[torch.randperm(n, generator=source)]
        slant = torch.where(second, -covariance, covariance).double()
        return 0.5 * second[:, None].double() + correlated(n, self.d, 1.0, slant, source)


AMPLITUDE = {1: 2.7, 2: 7.3}  # c_d of the perturbed uniform: the density stays above zero
BLOB_COVARIANCE = (-0.02, -0.022, -0.024, -0.026, 0.0, 0.02, 0.022, 0.024, 0.026)
FAMILIES: dict[str, Callable[[], AbstractTwoSampleFamily]] = {
    "perturbed_uniform": PerturbedUniform,
    "perturbed_uniform_2d": lambda: PerturbedUniform(d=2),
    "four_modes": FourModes,
    "blob": Blob,
    "hdgm": HighDimensionalMixture,
    "mean_shift": MeanShift,
    "scale": Scale,
    "correlation": Correlation,
    "bimodal": EqualMomentBimodal,
}


def _bump(t: Tensor) -> Tensor:
    """G(t): a smooth positive bump on (−1, −½), its negative on (−½, 0), zero elsewhere."""
    upper = t > -0.5
    inside = 1 - (4 * t + torch.where(upper, 1.0, 3.0)) ** 2
    safe = torch.where(inside > 0, inside, 1.0)
    height = torch.where(inside > 0, torch.exp(-1 / safe), 0.0)
    return torch.where(upper, -height, height)
