"""Costs: how far apart two points are, for transport, neighbours and energy distances."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics.pairwise.ground import (
    AbstractProfile,
    Geometry,
    InnerGeometry,
    MinkowskiGeometry,
    SquaredGeometry,
    safe_power,
)


@dataclass(frozen=True, repr=False)
class SqEuclidean(AbstractProfile):
    """Squared Euclidean distance, c(x, y) = ‖x − y‖² (not halved).

    Example:
        >>> import torch
        >>> SqEuclidean()(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])).item()
        25.0
    """

    @property
    def geometry(self) -> Geometry:
        return SquaredGeometry()

    @property
    def increasing(self) -> bool:
        return True

    def shape(self, s: Tensor) -> Tensor:
        return s

    def slope(self, s: Tensor) -> Tensor:
        return torch.ones_like(s)


@dataclass(frozen=True, repr=False)
class Euclidean(AbstractProfile):
    """Power of the Euclidean distance, c(x, y) = ‖x − y‖^power; the gradient at a tie is zero.

    Args:
        power: Exponent, above zero.

    Example:
        >>> import torch
        >>> Euclidean()(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])).item()
        5.0
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ValueError(f"power must be above zero, got {self.power}")

    @property
    def geometry(self) -> Geometry:
        return SquaredGeometry()

    @property
    def kinked(self) -> bool:
        return self.power < 2

    @property
    def increasing(self) -> bool:
        return True

    def shape(self, s: Tensor) -> Tensor:
        return safe_power(s, self.power / 2)

    def shape_(self, s: Tensor) -> Tensor:
        return s.sqrt_() if self.power == 1.0 else s.pow_(self.power / 2)

    def tile_slope_(self, s: Tensor, d: int) -> Tensor:
        return self._steep(s, s).mul_(self.power / 2) if self.kinked else super().tile_slope_(s, d)

    def tile_with_slope(self, s: Tensor, d: int, spare: Tensor) -> tuple[Tensor, Tensor]:
        if not self.kinked:
            return super().tile_with_slope(s, d, spare)
        steep = self._steep(s, spare)
        return s.mul_(steep), steep.mul_(self.power / 2)

    def _steep(self, s: Tensor, out: Tensor) -> Tensor:
        """s^(power/2 − 1), zero at a tie."""
        if self.power == 1.0:
            torch.rsqrt(s, out=out)
        else:
            torch.pow(s, self.power / 2 - 1.0, out=out)
        return out.nan_to_num_(nan=math.nan, posinf=0.0)

    def slope(self, s: Tensor) -> Tensor:
        half = self.power / 2
        if self.power == 2:
            return torch.ones_like(s)
        above = ~(s <= 0)
        safe = torch.where(above, s, 1.0)
        steep = safe.rsqrt() if self.power == 1.0 else safe.pow(half - 1.0)
        return torch.where(above, half * steep, 0.0)


@dataclass(frozen=True, repr=False)
class PNorm(AbstractProfile):
    """Power of a p-norm distance, c(x, y) = ‖x − y‖_p^power.

    Args:
        p: Order of the norm, 1 ≤ p ≤ ∞.
        power: Exponent, above zero.

    Notes:
        No matrix product gives p-norms, so tiles cost n·m·d without it, and gradients are taken
        tile by tile with recomputation. For p = 2, ``Euclidean`` is faster.

    Example:
        >>> import torch
        >>> PNorm(1)(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])).item()
        7.0
    """

    p: float = 1.0
    power: float = 1.0

    def __post_init__(self) -> None:
        if not self.p >= 1:
            raise ValueError(f"p must be at least 1, got {self.p}")
        if not self.power > 0:
            raise ValueError(f"power must be above zero, got {self.power}")

    @property
    def geometry(self) -> Geometry:
        return MinkowskiGeometry(float(self.p))

    @property
    def increasing(self) -> bool:
        return True

    def shape(self, s: Tensor) -> Tensor:
        return safe_power(s, self.power)

    def slope(self, s: Tensor) -> Tensor:
        if self.power == 1.0:
            return torch.ones_like(s)
        return self.power * safe_power(s, self.power - 1.0)


@dataclass(frozen=True, repr=False)
class Cosine(AbstractProfile):
    """Cosine distance, c(x, y) = 1 − ⟨x, y⟩ / (‖x‖ ‖y‖); a zero vector is at distance one.

    Example:
        >>> import torch
        >>> Cosine()(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])).item()
        1.0
    """

    @property
    def geometry(self) -> Geometry:
        return InnerGeometry()

    def embed(self, x: Tensor) -> Tensor:
        return unit(super().embed(x))

    def embedding(self) -> tuple[object, ...]:
        return (*super().embedding(), unit)

    def shape(self, s: Tensor) -> Tensor:
        return 1.0 - s

    def slope(self, s: Tensor) -> Tensor:
        return -torch.ones_like(s)


def unit(x: Tensor) -> Tensor:
    """Each point divided by its Euclidean norm; zero stays zero, with gradient zero."""
    squares = x.square().sum(-1, keepdim=True)
    above = squares != 0
    return torch.where(above, x * torch.where(above, squares, 1.0).rsqrt(), torch.zeros_like(x))
