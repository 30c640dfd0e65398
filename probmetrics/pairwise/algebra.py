"""Sums, products and scalings of grounds."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from probmetrics.pairwise.ground import AbstractGround, Geometry


@dataclass(frozen=True, repr=False)
class _Combination(AbstractGround):
    """Several grounds read together; one profile if they share geometry and features."""

    parts: tuple[AbstractGround, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a combination needs at least one ground")

    @property
    def aligned(self) -> bool:
        """Whether all parts are profiles of the same t on the same features."""
        first = self.parts[0]
        return first.geometry is not None and all(
            part.geometry == first.geometry
            and part.embedding() == first.embedding()
            and not part.has_offset
            for part in self.parts
        )

    @property
    def geometry(self) -> Geometry | None:
        return self.parts[0].geometry if self.aligned else None

    @property
    def kinked(self) -> bool:
        return any(part.kinked for part in self.parts)

    def embed(self, x: Tensor) -> Tensor:
        moved = super().embed(x)
        return self.parts[0].embed(moved) if self.aligned else moved

    def embedding(self) -> tuple[object, ...]:
        own = super().embedding()
        return own + self.parts[0].embedding() if self.aligned else own

    def tensors(self) -> Iterator[Tensor]:
        for part in self.parts:
            yield from part.tensors()


@dataclass(frozen=True, repr=False)
class Sum(_Combination):
    """Σ_k ground_k, e.g. a kernel with several bandwidths."""

    def profile(self, t: Tensor, d: int) -> Tensor:
        return _add([part.profile(t, d) for part in self.parts])

    def profile_slope(self, t: Tensor, d: int) -> Tensor:
        return _add([part.profile_slope(t, d) for part in self.parts])

    @property
    def increasing(self) -> bool:
        return self.aligned and all(part.increasing for part in self.parts)

    @property
    def core(self) -> AbstractGround:
        return Sum(tuple(part.core for part in self.parts), features=self.features)

    def on_features(self, x: Tensor, y: Tensor) -> Tensor:
        if self.aligned:
            return super().on_features(x, y)
        return _add([part(x, y) for part in self.parts])

    def between_features(self, x: Tensor, y: Tensor) -> Tensor:
        if self.aligned:
            return super().between_features(x, y)
        return _add([part.between(x, y) for part in self.parts])


@dataclass(frozen=True, repr=False)
class Product(_Combination):
    """Π_k ground_k; a product of positive-definite kernels is one too."""

    def profile(self, t: Tensor, d: int) -> Tensor:
        return math.prod(
            (part.profile(t, d) for part in self.parts[1:]), start=self.parts[0].profile(t, d)
        )

    def profile_slope(self, t: Tensor, d: int) -> Tensor:
        values = [part.profile(t, d) for part in self.parts]
        terms = []
        for k, part in enumerate(self.parts):
            term = part.profile_slope(t, d)
            for other, value in enumerate(values):
                if other != k:
                    term = term * value
            terms.append(term)
        return _add(terms)

    def on_features(self, x: Tensor, y: Tensor) -> Tensor:
        if self.aligned:
            return super().on_features(x, y)
        matrix = self.parts[0](x, y)
        for part in self.parts[1:]:
            matrix = matrix * part(x, y)
        return matrix

    def between_features(self, x: Tensor, y: Tensor) -> Tensor:
        if self.aligned:
            return super().between_features(x, y)
        value = self.parts[0].between(x, y)
        for part in self.parts[1:]:
            value = value * part.between(x, y)
        return value


@dataclass(frozen=True, repr=False)
class Scaled(AbstractGround):
    """factor · ground."""

    ground: AbstractGround
    factor: float | Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.factor, Tensor) and not math.isfinite(float(self.factor)):
            raise ValueError(f"factor must be finite, got {self.factor}")

    @property
    def geometry(self) -> Geometry | None:
        return self.ground.geometry

    @property
    def kinked(self) -> bool:
        return self.ground.kinked

    @property
    def increasing(self) -> bool:
        if isinstance(self.factor, Tensor):
            return False
        return self.ground.increasing and self.factor > 0

    @property
    def core(self) -> AbstractGround:
        return Scaled(self.ground.core, self.factor, features=self.features)

    def embed(self, x: Tensor) -> Tensor:
        return self.ground.embed(super().embed(x))

    @property
    def has_offset(self) -> bool:
        return self.ground.has_offset

    def offset(self, x: Tensor) -> Tensor:
        return self.factor * self.ground.offset(x)

    def embedding(self) -> tuple[object, ...]:
        return super().embedding() + self.ground.embedding()

    def tensors(self) -> Iterator[Tensor]:
        yield from super().tensors()
        yield from self.ground.tensors()

    def standardised(self) -> tuple[AbstractGround, Tensor | None]:
        ground, factor = self.ground.standardised()
        return Scaled(ground, self.factor, features=self.features), factor

    def rate(self, d: int) -> float | Tensor:
        return self.ground.rate(d)

    def tile(self, s: Tensor, d: int) -> Tensor:
        return self.ground.tile(s, d).mul_(self.factor)

    def tile_slope(self, s: Tensor, d: int) -> Tensor:
        return self.ground.tile_slope(s, d).mul_(self.factor)

    def tile_slope_(self, s: Tensor, d: int) -> Tensor:
        return self.ground.tile_slope_(s, d).mul_(self.factor)

    def tile_with_slope(self, s: Tensor, d: int, spare: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = self.ground.tile_with_slope(s, d, spare)
        return value.mul_(self.factor), slope.mul_(self.factor)

    def profile(self, t: Tensor, d: int) -> Tensor:
        return self.factor * self.ground.profile(t, d)

    def profile_slope(self, t: Tensor, d: int) -> Tensor:
        return self.factor * self.ground.profile_slope(t, d)

    def slope_multiple(self, d: int) -> float | None:
        return self.ground.slope_multiple(d)

    def on_features(self, x: Tensor, y: Tensor) -> Tensor:
        return self.factor * self.ground.on_features(x, y)

    def between_features(self, x: Tensor, y: Tensor) -> Tensor:
        return self.factor * self.ground.between_features(x, y)


def _add(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def mixture(kernels: list[AbstractGround], weights: list[float] | None = None) -> AbstractGround:
    """Weighted mean of kernels, Σ_k w_k kernel_k with w summing to one (uniform for None).

    Example:
        >>> from probmetrics.pairwise.kernels import Gaussian
        >>> import torch
        >>> kernel = mixture([Gaussian(1.0), Gaussian(2.0)])
        >>> float(kernel(torch.zeros(1, 2))[0, 0])
        1.0
    """
    if not kernels:
        raise ValueError("a mixture needs at least one kernel")
    shares = [1.0 / len(kernels)] * len(kernels) if weights is None else list(weights)
    if len(shares) != len(kernels) or min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-6:
        raise ValueError(
            f"weights must be {len(kernels)} non-negative numbers summing to one, got {weights}"
        )
    return Sum(tuple(Scaled(kernel, share) for kernel, share in zip(kernels, shares, strict=True)))
