"""What a ground is: a number for every pair of points, told as profile ∘ geometry ∘ features."""

import abc
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics._checks import common_batch, readable
from probmetrics.pairwise.centring import centre_of as centre_of
from probmetrics.pairwise.centring import centred, coarse, differences
from probmetrics.pairwise.centring import some_rows as some_rows
from probmetrics.pairwise.products import exact

Features = Callable[[Tensor], Tensor]
Rate = float | Tensor
SMALL = 2**18  # coordinates of differences that are formed without a second thought


@dataclass(frozen=True)
class SquaredGeometry:
    """t = ‖x − y‖²."""

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """All values of t, shape (*batch, n, m), differentiable.

        Small problems take differences. Larger ones expand ‖x‖² + ‖y‖² − 2⟨x, y⟩ with both
        samples centred first: on data at offset 1e4 the expansion would lose every digit of
        float32.
        """
        if _differences(x, y) <= SMALL:
            return self.pairs(x.unsqueeze(-2), y.unsqueeze(-3))
        same = x is y
        given, raw = x.dtype, (x, y)
        x, y = centred(x, y)
        if given != torch.float64 and readable(x):
            largest = max(float(z.detach().float().square().sum(-1).max()) for z in (x, y))
            if coarse(largest, x, y):
                x = raw[0].double()
                x, y = centred(x, x if same else raw[1].double())
        with exact():
            products = x @ y.mT
        squares = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2)
        t = squares - 2.0 * products
        # A tie is a tie: what the expansion cannot resolve counts as zero, derivatives kept.
        rounding = torch.where(t > 4.0 * torch.finfo(t.dtype).eps * squares, 0.0, t)
        t = t - rounding.detach()
        if same:  # a point is at distance exactly zero from itself
            t = t - torch.diag_embed(t.diagonal(dim1=-2, dim2=-1))
        return t.to(given)

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """t between matching points, by direct differences."""
        return (x - y).square().sum(-1)


@dataclass(frozen=True)
class InnerGeometry:
    """t = ⟨x, y⟩."""

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """All values of t, shape (*batch, n, m), differentiable."""
        return x @ y.mT

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """t between matching points."""
        return (x * y).sum(-1)


@dataclass(frozen=True)
class MinkowskiGeometry:
    """t = ‖x − y‖_p, which no matrix product gives."""

    p: float

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """All values of t, shape (*batch, n, m); small matrices are twice differentiable."""
        if _differences(x, y) <= SMALL:
            return self.pairs(x.unsqueeze(-2), y.unsqueeze(-3))
        return differences(x, y, self.p)

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """t between matching points."""
        norms: Tensor = torch.linalg.vector_norm(x - y, ord=self.p, dim=-1)
        return norms


Geometry = SquaredGeometry | InnerGeometry | MinkowskiGeometry


@dataclass(frozen=True, repr=False)
class AbstractGround(abc.ABC):
    """A function of two points, evaluated on all pairs.

    A ground first maps each point by ``features``, then reads one number t off the pair (its
    ``geometry``: squared distance, inner product or a p-norm), then applies a scalar profile
    t ↦ shape(rate · t). Because the profile's derivative is a profile again, sums over pairs have
    analytic gradients in linear memory, and one matrix product gives a whole tile of arguments.

    Attributes:
        features: Map applied to both samples first, e.g. an ``nn.Module``; None is the identity.
    """

    features: Features | None = dataclasses.field(default=None, kw_only=True)

    @property
    @abc.abstractmethod
    def geometry(self) -> Geometry | None:
        """What is read off a pair; None where the parts of a sum or product differ in it."""

    @abc.abstractmethod
    def profile(self, t: Tensor, d: int) -> Tensor:
        """The ground as a function of t, shape (*batch, n, m); ``d`` coordinates per point."""

    @abc.abstractmethod
    def profile_slope(self, t: Tensor, d: int) -> Tensor:
        """Derivative of ``profile`` in t; zero where a distance has its kink."""

    def rate(self, d: int) -> Rate:
        """The factor a tile folds into its matrix product: s = rate · t."""
        return 1.0

    def tile(self, s: Tensor, d: int) -> Tensor:
        """The profile as a function of s, allowed to overwrite its argument; no gradient."""
        return self.profile(s, d)

    def tile_slope(self, s: Tensor, d: int) -> Tensor:
        """Derivative in t (not s) as a function of s; no gradient."""
        return self.profile_slope(s, d)

    def tile_slope_(self, s: Tensor, d: int) -> Tensor:
        """``tile_slope``, allowed to overwrite its argument."""
        return self.tile_slope(s, d)

    def tile_with_slope(self, s: Tensor, d: int, spare: Tensor) -> tuple[Tensor, Tensor]:
        """``tile`` and ``tile_slope`` of the same s, which and ``spare`` may be overwritten."""
        slope = self.tile_slope(s, d)
        return self.tile(s, d), slope

    def slope_multiple(self, d: int) -> float | None:
        """The constant c with slope = c · value, as for a Gaussian; None if there is none."""
        return None

    @property
    def kinked(self) -> bool:
        """Whether the profile has an infinite slope at t = 0, as distances do."""
        return False

    @property
    def increasing(self) -> bool:
        """Whether the profile grows with t, so that neighbours can be ranked by t itself."""
        return False

    @property
    def core(self) -> "AbstractGround":
        """The same ground up to terms in one point alone, which cancel in every MMD."""
        return self

    @property
    def has_offset(self) -> bool:
        """Whether the ground is u(x) + u(y) + profile(t) with some u."""
        return False

    def offset(self, x: Tensor) -> Tensor:
        """u at embedded points, shape (*batch, n)."""
        return x.new_zeros(x.shape[:-1])

    def embed(self, x: Tensor) -> Tensor:
        """The features of each point, shape (*batch, n, d) → (*batch, n, d')."""
        return x if self.features is None else self.features(x)

    def embedding(self) -> tuple[object, ...]:
        """The steps of ``embed``, for telling whether two grounds share it."""
        return () if self.features is None else (self.features,)

    def tensors(self) -> Iterator[Tensor]:
        """Tensors among the profile's parameters (those of ``features`` not included)."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                yield value

    def standardised(self) -> tuple["AbstractGround", Tensor | None]:
        """The ground of unit length scale, and the factor that brings points to that scale.

        A tensor length scale (learnable, or one per batch entry) then acts on the points, where
        autograd and batches reach it, and the profile is left with plain numbers.
        """
        return self, None

    def on(self, features: Features) -> "AbstractGround":
        """The same ground after a feature map: ground(Φ(x), Φ(y)), a deep kernel if Φ is one."""
        if self.features is None:
            return dataclasses.replace(self, features=features)
        inner = self.features
        return dataclasses.replace(self, features=lambda x: inner(features(x)))

    def __call__(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The matrix of all pairs, shape (*batch, n, m), differentiable.

        Args:
            x: Points, shape (*batch, n, d).
            y: Points, shape (*batch, m, d); None pairs x with itself.
        """
        fx = self.embed(x)
        fy = fx if y is None or y is x else self.embed(y)
        matrix = self.on_features(fx, fy)
        if self.has_offset:
            matrix = matrix + self.offset(fx).unsqueeze(-1) + self.offset(fy).unsqueeze(-2)
        return matrix

    def on_features(self, x: Tensor, y: Tensor) -> Tensor:
        """The matrix of all pairs of points that are embedded already, without the offset."""
        assert self.geometry is not None
        return self.profile(self.geometry.matrix(x, y), x.shape[-1])

    def between(self, x: Tensor, y: Tensor) -> Tensor:
        """The ground between matching points, shape (..., d), (..., d) → (...)."""
        fx, fy = self.embed(x), self.embed(y)
        value = self.between_features(fx, fy)
        return value + self.offset(fx) + self.offset(fy) if self.has_offset else value

    def between_features(self, x: Tensor, y: Tensor) -> Tensor:
        """The ground between matching points that are embedded already, without the offset."""
        assert self.geometry is not None
        t = self.geometry.pairs(x, y).unsqueeze(-1)
        return self.profile(t, x.shape[-1]).squeeze(-1)

    def diagonal(self, x: Tensor) -> Tensor:
        """The ground between each point and itself, shape (*batch, n)."""
        return self.between(x, x)

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if not (field.name == "features" and self.features is None)
        )
        return f"{type(self).__name__}({shown})"

    def __add__(self, other: "AbstractGround") -> "AbstractGround":
        """Pointwise sum."""
        from probmetrics.pairwise.algebra import Sum

        return Sum((self, other))

    def __mul__(self, other: "AbstractGround | float") -> "AbstractGround":
        """Pointwise product, or scaling by a number."""
        from probmetrics.pairwise.algebra import Product, Scaled

        if isinstance(other, AbstractGround):
            return Product((self, other))
        return Scaled(self, other)

    __rmul__ = __mul__


@dataclass(frozen=True, repr=False)
class AbstractProfile(AbstractGround):
    """A ground told by one function of s = rate · t and its derivative."""

    @abc.abstractmethod
    def shape(self, s: Tensor) -> Tensor:
        """The profile as a function of s = rate · t."""

    @abc.abstractmethod
    def slope(self, s: Tensor) -> Tensor:
        """Derivative of ``shape`` in s; zero at the kink of a distance."""

    def shape_(self, s: Tensor) -> Tensor:
        """``shape``, allowed to overwrite its argument; no gradient."""
        return self.shape(s)

    def profile(self, t: Tensor, d: int) -> Tensor:
        return self.shape(_times(self.rate(d), t))

    def profile_slope(self, t: Tensor, d: int) -> Tensor:
        rate = self.rate(d)
        return _times(rate, self.slope(_times(rate, t)))

    def tile(self, s: Tensor, d: int) -> Tensor:
        return self.shape_(s)

    def tile_slope(self, s: Tensor, d: int) -> Tensor:
        return _times(self.rate(d), self.slope(s))


def safe_sqrt(t: Tensor) -> Tensor:
    """√t with derivative zero, not infinite, at t ≤ 0; NaN stays NaN."""
    above = ~(t <= 0)
    return torch.where(above, torch.where(above, t, 1.0).sqrt(), 0.0)


def safe_power(t: Tensor, exponent: float) -> Tensor:
    """t^exponent for t ≥ 0 with derivative zero, not infinite, at t = 0; NaN stays NaN."""
    if exponent == 1.0:
        return t
    if exponent == 0.5:
        return safe_sqrt(t)
    above = ~(t <= 0)
    return torch.where(above, torch.where(above, t, 1.0).pow(exponent), 0.0)


def _differences(x: Tensor, y: Tensor) -> int:
    """Number of coordinates in all differences x_i − y_j."""
    batch = common_batch(x.shape[:-2], y.shape[:-2])
    return int(math.prod(batch) * x.shape[-2] * y.shape[-2] * x.shape[-1])


def _times(rate: Rate, t: Tensor) -> Tensor:
    """rate · t for t of shape (*batch, n, m) and one rate, or one per batch entry."""
    if isinstance(rate, Tensor):
        return rate.to(t.dtype).reshape(*rate.shape, 1, 1) * t if rate.ndim else rate.to(t) * t
    return t if rate == 1.0 else rate * t


def by_length(ground: "AbstractGround", name: str) -> tuple["AbstractGround", Tensor | None]:
    """``standardised`` for a profile of t / length², the length being field ``name``."""
    length = getattr(ground, name)
    if not isinstance(length, Tensor):
        return ground, None
    changed: dict[str, Any] = {name: 1.0}
    return dataclasses.replace(ground, **changed), length.reciprocal()


def bandwidth_tensor(value: Any, name: str) -> float | Tensor:
    """A bandwidth as given: a positive float, or a tensor with one per batch entry."""
    if isinstance(value, Tensor):
        if value.device.type == "cpu" and not bool((value.detach() > 0).all()):
            raise ValueError(f"{name} must be above zero, got {value.detach().min().item()}")
        return value
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError(f"{name} must be a finite number above zero, got {value}")
    return number
