"""Positive-definite kernels: similarities that turn distributions into points of a Hilbert space.

Long because every kernel lives here: a new one is a class with its geometry, its profile as
``shape(rate · t)``, and the profile's derivative. Exponentials are taken in base 2,
which processors do three times faster.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.pairwise.algebra import Product, Scaled, Sum, mixture
from probmetrics.pairwise.costs import Euclidean, PNorm
from probmetrics.pairwise.ground import (
    AbstractGround,
    AbstractProfile,
    Features,
    Geometry,
    InnerGeometry,
    MinkowskiGeometry,
    SquaredGeometry,
    bandwidth_tensor,
    by_length,
    safe_sqrt,
)

LOG2E = math.log2(math.e)
LN2 = math.log(2.0)
Bandwidth = float | Tensor  # a number, or one per batch entry; a tensor may require a gradient

__all__ = [
    "Distance",
    "Gaussian",
    "InverseMultiquadric",
    "Laplacian",
    "Linear",
    "Matern",
    "Polynomial",
    "Product",
    "RationalQuadratic",
    "Scaled",
    "Sum",
    "deep",
    "gaussian_mixture",
    "mixture",
]


@dataclass(frozen=True, repr=False)
class Gaussian(AbstractProfile):
    """Gaussian kernel, k(x, y) = exp(−‖x − y‖² / (2 σ²)).

    Args:
        bandwidth: σ, in the unit of the data (scikit-learn's gamma is 1 / (2 σ²)).

    Example:
        >>> import torch
        >>> round(Gaussian(2.0)(torch.zeros(1, 1), torch.tensor([[2.0]])).item(), 6)
        0.606531
    """

    bandwidth: Bandwidth = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", bandwidth_tensor(self.bandwidth, "bandwidth"))

    @property
    def geometry(self) -> Geometry:
        return SquaredGeometry()

    def standardised(self) -> tuple[AbstractGround, Tensor | None]:
        return by_length(self, "bandwidth")

    def rate(self, d: int) -> Bandwidth:
        return -0.5 * LOG2E / self.bandwidth**2

    def shape(self, s: Tensor) -> Tensor:
        return torch.exp2(s)

    def shape_(self, s: Tensor) -> Tensor:
        return s.exp2_()

    def slope(self, s: Tensor) -> Tensor:
        return LN2 * torch.exp2(s)

    def slope_multiple(self, d: int) -> float:
        return LN2 * float(self.rate(d))


@dataclass(frozen=True, repr=False)
class Laplacian(AbstractProfile):
    """Laplacian kernel, k(x, y) = exp(−‖x − y‖ / σ) with the ℓ2 or the ℓ1 norm.

    Args:
        bandwidth: σ, in the unit of the data (scikit-learn's ℓ1 gamma is 1 / σ).
        norm: 2 or 1.

    Notes:
        The gradient at a tie, where the kernel has a kink, is zero.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(1, 2), torch.ones(1, 2)
        >>> round(Laplacian(1.0, norm=1)(x, y).item(), 6)
        0.135335
    """

    bandwidth: Bandwidth = 1.0
    norm: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", bandwidth_tensor(self.bandwidth, "bandwidth"))
        if self.norm not in (1, 2):
            raise ValueError(f"norm must be 1 or 2, got {self.norm}")

    @property
    def geometry(self) -> Geometry:
        return SquaredGeometry() if self.norm == 2 else MinkowskiGeometry(1.0)

    @property
    def kinked(self) -> bool:
        return True

    def standardised(self) -> tuple[AbstractGround, Tensor | None]:
        return by_length(self, "bandwidth")

    def rate(self, d: int) -> Bandwidth:
        per_unit = LOG2E / self.bandwidth
        return per_unit**2 if self.norm == 2 else per_unit

    def shape(self, s: Tensor) -> Tensor:
        return torch.exp2(-(safe_sqrt(s) if self.norm == 2 else s))

    def shape_(self, s: Tensor) -> Tensor:
        if self.norm == 2:
            s.sqrt_()
        return s.neg_().exp2_()

    def slope(self, s: Tensor) -> Tensor:
        if self.norm == 1:
            return -LN2 * torch.exp2(-s)
        root = s.clamp_min(0.0).sqrt()
        above = root != 0
        return torch.where(
            above, -0.5 * LN2 * torch.exp2(-root) / torch.where(above, root, 1.0), 0.0
        )


@dataclass(frozen=True, repr=False)
class Matern(AbstractProfile):
    """Matérn kernel of smoothness ν ∈ {½, 3⁄2, 5⁄2} (Rasmussen & Williams 2006, eq. 4.17).

    With u = √(2ν) ‖x − y‖ / σ: e^{−u}, (1 + u) e^{−u}, (1 + u + u²/3) e^{−u}.

    Args:
        nu: Smoothness, 0.5, 1.5 or 2.5.
        bandwidth: σ, in the unit of the data.

    Example:
        >>> import torch
        >>> round(Matern(1.5, 1.0)(torch.zeros(1, 1), torch.ones(1, 1)).item(), 6)
        0.483358
    """

    nu: float = 1.5
    bandwidth: Bandwidth = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", bandwidth_tensor(self.bandwidth, "bandwidth"))
        if self.nu not in (0.5, 1.5, 2.5):
            raise ValueError(f"nu must be 0.5, 1.5 or 2.5, got {self.nu}")

    @property
    def geometry(self) -> Geometry:
        return SquaredGeometry()

    @property
    def kinked(self) -> bool:
        return True  # smooth for nu > ½ as a function of t, but evaluated through √t

    def standardised(self) -> tuple[AbstractGround, Tensor | None]:
        return by_length(self, "bandwidth")

    def rate(self, d: int) -> Bandwidth:
        return 2.0 * self.nu / self.bandwidth**2

    def shape(self, s: Tensor) -> Tensor:
        u = safe_sqrt(s)
        decay = torch.exp2(-LOG2E * u)
        if self.nu == 0.5:
            return decay
        return (1.0 + u + (s / 3.0 if self.nu == 2.5 else 0.0)) * decay

    def slope(self, s: Tensor) -> Tensor:
        u = s.clamp_min(0.0).sqrt()
        decay = torch.exp2(-LOG2E * u)
        if self.nu == 2.5:
            return -(1.0 + u) * decay / 6.0
        if self.nu == 1.5:
            return -0.5 * decay
        above = u != 0
        return torch.where(above, -0.5 * decay / torch.where(above, u, 1.0), 0.0)


@dataclass(frozen=True, repr=False)
class RationalQuadratic(AbstractProfile):
    """Rational quadratic kernel, k(x, y) = (1 + ‖x − y‖² / (2 α σ²))^{−α}.

    Args:
        alpha: Tail exponent; the kernel tends to the Gaussian as α → ∞.
        bandwidth: σ, in the unit of the data.

    Example:
        >>> import torch
        >>> round(RationalQuadratic(1.0, 1.0)(torch.zeros(1, 1), torch.ones(1, 1)).item(), 6)
        0.666667
    """

    alpha: float = 1.0
    bandwidth: Bandwidth = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", bandwidth_tensor(self.bandwidth, "bandwidth"))
        bandwidth_tensor(self.alpha, "alpha")

    @property
    def geometry(self) -> Geometry:
        return SquaredGeometry()

    def standardised(self) -> tuple[AbstractGround, Tensor | None]:
        return by_length(self, "bandwidth")

    def rate(self, d: int) -> Bandwidth:
        return 0.5 / (self.alpha * self.bandwidth**2)

    def shape(self, s: Tensor) -> Tensor:
        return _inverse_power(s, self.alpha)

    def slope(self, s: Tensor) -> Tensor:
        return -self.alpha * _inverse_power(s, self.alpha + 1.0)


@dataclass(frozen=True, repr=False)
class InverseMultiquadric(AbstractProfile):
    """Inverse multiquadric kernel, k(x, y) = (1 + ‖x − y‖² / c²)^{−β}.

    Args:
        scale: c, in the unit of the data. The form C / (C + ‖x − y‖²) of Tolstikhin et al. 2018
            is ``InverseMultiquadric(C**0.5, beta=1)``; (c² + ‖x − y‖²)^{−½} is c times smaller.
        beta: Exponent, above zero.

    Example:
        >>> import torch
        >>> round(InverseMultiquadric(1.0)(torch.zeros(1, 1), torch.ones(1, 1)).item(), 6)
        0.707107
    """

    scale: Bandwidth = 1.0
    beta: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", bandwidth_tensor(self.scale, "scale"))
        bandwidth_tensor(self.beta, "beta")

    @property
    def geometry(self) -> Geometry:
        return SquaredGeometry()

    def standardised(self) -> tuple[AbstractGround, Tensor | None]:
        return by_length(self, "scale")

    def rate(self, d: int) -> Bandwidth:
        return 1.0 / self.scale**2

    def shape(self, s: Tensor) -> Tensor:
        return _inverse_power(s, self.beta)

    def slope(self, s: Tensor) -> Tensor:
        return -self.beta * _inverse_power(s, self.beta + 1.0)


@dataclass(frozen=True, repr=False)
class Polynomial(AbstractProfile):
    """Polynomial kernel, k(x, y) = (γ ⟨x, y⟩ + c)^degree.

    The default is the kernel of the kernel Inception distance, (⟨x, y⟩ / d + 1)³
    (Bińkowski et al. 2018).

    Args:
        degree: A whole number, at least one.
        gamma: γ; None is 1 / d.
        constant: c, zero or more.

    Example:
        >>> import torch
        >>> Polynomial()(torch.ones(1, 4), torch.ones(1, 4)).item()
        8.0
    """

    degree: int = 3
    gamma: float | None = None
    constant: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.degree, bool) or int(self.degree) != self.degree or self.degree < 1:
            raise ValueError(f"degree must be a whole number of at least 1, got {self.degree}")
        if self.gamma is not None:
            bandwidth_tensor(self.gamma, "gamma")
        if self.constant < 0:
            raise ValueError(f"constant must be zero or more, got {self.constant}")

    @property
    def geometry(self) -> Geometry:
        return InnerGeometry()

    def rate(self, d: int) -> float:
        return 1.0 / d if self.gamma is None else self.gamma

    def shape(self, s: Tensor) -> Tensor:
        return (s + self.constant) ** int(self.degree)

    def slope(self, s: Tensor) -> Tensor:
        return self.degree * (s + self.constant) ** (int(self.degree) - 1)


@dataclass(frozen=True, repr=False)
class Linear(AbstractProfile):
    """Linear kernel, k(x, y) = ⟨x, y⟩; its MMD is the distance between the means.

    Example:
        >>> import torch
        >>> Linear()(torch.ones(1, 3), torch.ones(1, 3)).item()
        3.0
    """

    @property
    def geometry(self) -> Geometry:
        return InnerGeometry()

    def shape(self, s: Tensor) -> Tensor:
        return s

    def slope(self, s: Tensor) -> Tensor:
        return torch.ones_like(s)


@dataclass(frozen=True, repr=False)
class Distance(AbstractGround):
    """Triangular-gap kernel of a distance, k(x, y) = ½ (d(x, x₀) + d(y, x₀) − d(x, y)).

    With d(x, y) = ‖x − y‖^power its squared MMD is half the energy distance, whatever x₀
    (Sejdinovic et al. 2013, Definition 13 and Theorem 22).

    Args:
        power: Exponent, strictly between 0 and 2.
        norm: 2, or 1 for the ℓ1 distance (power ≤ 1 there).
        origin: x₀: a number, or a tensor of shape (d,).

    Example:
        >>> import torch
        >>> Distance()(torch.tensor([[2.0]]), torch.tensor([[3.0]])).item()
        2.0
    """

    power: float = 1.0
    norm: int = 2
    origin: float | Tensor = 0.0

    def __post_init__(self) -> None:
        if self.norm not in (1, 2):
            raise ValueError(f"norm must be 1 or 2, got {self.norm}")
        top = 2 if self.norm == 2 else 1
        if not (0 < self.power < 2 and self.power <= top):
            raise ValueError(
                f"power must lie strictly between 0 and 2 (at most 1 for norm=1), got {self.power}"
            )

    @property
    def distance(self) -> Euclidean | PNorm:
        """d as a ground."""
        return Euclidean(self.power) if self.norm == 2 else PNorm(1.0, self.power)

    @property
    def geometry(self) -> Geometry:
        return self.distance.geometry

    @property
    def kinked(self) -> bool:
        return True

    @property
    def core(self) -> AbstractGround:
        return Scaled(self.distance, -0.5, features=self.features)

    @property
    def has_offset(self) -> bool:
        return True

    def offset(self, x: Tensor) -> Tensor:
        origin = checks.number_like(self.origin, x)
        return 0.5 * self.distance.between(x, origin.expand_as(x))

    def profile(self, t: Tensor, d: int) -> Tensor:
        return -0.5 * self.distance.profile(t, d)

    def profile_slope(self, t: Tensor, d: int) -> Tensor:
        return -0.5 * self.distance.profile_slope(t, d)


def gaussian_mixture(bandwidths: list[float], weights: list[float] | None = None) -> AbstractGround:
    """Mean of Gaussian kernels of several bandwidths, in the unit of the data.

    Example:
        >>> import torch
        >>> float(gaussian_mixture([0.5, 1.0, 2.0])(torch.zeros(1, 3))[0, 0])
        1.0
    """
    return mixture([Gaussian(bandwidth) for bandwidth in bandwidths], weights)


def deep(features: Features, kernel: AbstractGround) -> AbstractGround:
    """A kernel on learned features, k(Φ(x), Φ(y)); gradients reach the parameters of Φ.

    Example:
        >>> import torch
        >>> kernel = deep(torch.nn.Linear(3, 2), Gaussian(1.0))
        >>> kernel(torch.zeros(4, 3)).shape
        torch.Size([4, 4])
    """
    return kernel.on(features)


def _inverse_power(s: Tensor, exponent: float) -> Tensor:
    """(1 + s)^{−exponent}; the common exponents avoid the slow general power."""
    base = 1.0 + s
    if exponent == 1.0:
        return base.reciprocal()
    if exponent == 0.5:
        return base.rsqrt()
    if exponent == 2.0:
        return base.square().reciprocal()
    return torch.exp2(-exponent * torch.log2(base))
