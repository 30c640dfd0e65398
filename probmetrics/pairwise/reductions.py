"""Reductions: how the matrix of pairs is folded along its columns, tile by tile.

A reduction is a monoid: ``of`` reads a tile, ``merge`` joins the readings of two sets of columns.
That is why the same few lines serve a tile in a cache, a block on a GPU, a shard on another
machine and a batch of a stream.
"""

import abc
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks

Reading = tuple[Tensor, ...]


@dataclass(frozen=True)
class AbstractReduction(abc.ABC):
    """Folds G, shape (*batch, n, m), along its columns."""

    @abc.abstractmethod
    def of(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        """The reading of one tile, shape (*batch, rows, columns) of the whole matrix."""

    def of_(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        """``of``, allowed to overwrite the tile; no gradient."""
        return self.of(tile, rows, columns)

    @abc.abstractmethod
    def merge(self, left: Reading, right: Reading) -> Reading:
        """The reading of the columns of both."""

    def finish(self, reading: Reading) -> Any:
        """The answer from the reading of all columns."""
        return reading[0]

    def join_rows(self, readings: list[Reading]) -> Reading:
        """The reading of all rows from those of consecutive blocks of rows."""
        return tuple(torch.cat(parts, dim=self.row_axis) for parts in zip(*readings, strict=True))

    @property
    def row_axis(self) -> int:
        """Which axis of a reading counts the rows."""
        return -1

    @abc.abstractmethod
    def check(self, n: int, m: int) -> None:
        """Refuse options that do not fit n rows and m columns."""

    def flatten(self, batch: torch.Size) -> "AbstractReduction":
        """The same reduction for a matrix whose batch dimensions are flattened into one."""
        return self

    def take(self, entries: slice) -> "AbstractReduction":
        """The same reduction for some entries of a flattened batch."""
        return self


def _expand(values: Tensor | None, batch: torch.Size, inner: int) -> Tensor | None:
    """Options with their batch dimensions flattened into one; ``inner`` trailing dims stay."""
    if values is None:
        return None
    tail = values.shape[values.ndim - inner :]
    return values.expand(*batch, *tail).reshape(math.prod(batch), *tail)


def _entries(values: Tensor | None, entries: slice) -> Tensor | None:
    return None if values is None else values[entries]


@dataclass(frozen=True)
class WeightedSum(AbstractReduction):
    """Σ_j G_ij w_j, shape (*batch, n), or (*batch, n, c) for c columns of weights.

    Args:
        weights: Shape (*batch, m), (*batch, m, c) with ``columns=True``, or None for a plain sum.
        columns: Whether the last dimension of ``weights`` counts several weight vectors.
    """

    weights: Tensor | None = None
    columns: bool = False

    def check(self, n: int, m: int) -> None:
        if self.weights is None:
            return
        axis = -2 if self.columns else -1
        if self.weights.ndim < -axis or self.weights.shape[axis] != m:
            wanted = f"(*batch, {m}, c)" if self.columns else f"(*batch, {m})"
            raise ValueError(f"weights must have shape {wanted}, got {tuple(self.weights.shape)}")

    def of(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        if self.weights is None:
            return (tile.sum(-1, dtype=_wide(tile)),)
        if self.columns and uniform(self.weights):
            sums = tile.sum(-1, keepdim=True).to(_wide(tile))
            sums = sums * self.weights.reshape(-1)[:1].to(sums.dtype)
            return (sums.expand(*sums.shape[:-1], self.weights.shape[-1]),)
        if self.columns:
            return ((tile @ self.weights[..., columns, :].to(tile.dtype)).to(_wide(tile)),)
        weights = self.weights[..., columns].to(tile.dtype)
        return ((tile @ weights.unsqueeze(-1)).squeeze(-1).to(_wide(tile)),)

    def of_(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        single = self.weights is not None and self.columns and self.weights.shape[-1] == 1
        if not single or self.weights is None or uniform(self.weights):
            return self.of(tile, rows, columns)
        tile.mul_(self.weights[..., columns, :].to(tile.dtype).mT)
        return (tile.sum(-1, keepdim=True).to(_wide(tile)),)

    def merge(self, left: Reading, right: Reading) -> Reading:
        return (left[0] + right[0],)

    @property
    def row_axis(self) -> int:
        return -2 if self.columns and self.weights is not None else -1

    def flatten(self, batch: torch.Size) -> "WeightedSum":
        return WeightedSum(_expand(self.weights, batch, 1 + self.columns), self.columns)

    def take(self, entries: slice) -> "WeightedSum":
        return WeightedSum(_entries(self.weights, entries), self.columns)


@dataclass(frozen=True)
class LogSumExp(AbstractReduction):
    """log Σ_j exp(offset_j + scale · G_ij), shape (*batch, n).

    Args:
        offset: Shape (*batch, m), e.g. log-weights or scaled dual potentials; None is zero;
            −∞ leaves a column out.
        scale: Factor on G, e.g. −1/ε for a softmin: a number, or one per batch entry.
    """

    offset: Tensor | None = None
    scale: float | Tensor = 1.0

    def check(self, n: int, m: int) -> None:
        if self.offset is not None and (self.offset.ndim < 1 or self.offset.shape[-1] != m):
            raise ValueError(
                f"offset must have shape (*batch, {m}), got {tuple(self.offset.shape)}"
            )
        if not isinstance(self.scale, Tensor):
            checks.real(self.scale, "scale")

    def exponent(self, tile: Tensor, columns: slice) -> Tensor:
        """offset_j + scale · G_ij on a tile."""
        scaled = tile * per_entry(self.scale, tile)
        if self.offset is None:
            return scaled
        return scaled + self.offset[..., columns].to(tile.dtype).unsqueeze(-2)

    def of(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        return (torch.logsumexp(self.exponent(tile, columns), dim=-1),)

    def merge(self, left: Reading, right: Reading) -> Reading:
        return (torch.logaddexp(left[0], right[0]),)

    def flatten(self, batch: torch.Size) -> "LogSumExp":
        scale = self.scale
        if isinstance(scale, Tensor) and scale.ndim:
            scale = scale.expand(batch).reshape(-1)
        return LogSumExp(_expand(self.offset, batch, 1), scale)

    def take(self, entries: slice) -> "LogSumExp":
        scale = self.scale
        if isinstance(scale, Tensor) and scale.ndim:
            scale = scale[entries]
        return LogSumExp(_entries(self.offset, entries), scale)


@dataclass(frozen=True)
class KSmallest(AbstractReduction):
    """The k smallest entries of each row, ascending, with their columns.

    The answer is (values, indices), each of shape (*batch, n, k).

    Args:
        k: How many.
        skip_self: Leave out the diagonal, so that a point of a sample paired with itself is not
            its own neighbour (a duplicate of it still is).
    """

    k: int = 1
    skip_self: bool = False

    def check(self, n: int, m: int) -> None:
        available = m - self.skip_self
        checks.count(self.k, "k")
        if self.k > available:
            raise ValueError(
                f"k={self.k} neighbours were asked for and there are {available} "
                f"{'other ' if self.skip_self else ''}points; lower k or add points"
            )

    def of(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        if self.skip_self and rows.start < columns.stop and columns.start < rows.stop:
            i = torch.arange(rows.start, rows.start + tile.shape[-2], device=tile.device)
            j = torch.arange(columns.start, columns.start + tile.shape[-1], device=tile.device)
            tile = tile.masked_fill(i.unsqueeze(-1) == j, float("inf"))
        values, indices = tile.topk(min(self.k, tile.shape[-1]), dim=-1, largest=False)
        return values, indices + columns.start

    def merge(self, left: Reading, right: Reading) -> Reading:
        values = torch.cat([left[0], right[0]], dim=-1)
        indices = torch.cat([left[1], right[1]], dim=-1)
        values, order = values.topk(min(self.k, values.shape[-1]), dim=-1, largest=False)
        return values, indices.gather(-1, order)

    def finish(self, reading: Reading) -> tuple[Tensor, Tensor]:
        return reading[0], reading[1]

    @property
    def row_axis(self) -> int:
        return -2


@dataclass(frozen=True)
class CountWithin(AbstractReduction):
    """How many columns satisfy G_ij < radius, strictly; shape (*batch, n), int64.

    Args:
        radius: One radius, or one per row, shape (*batch, n).
        column_radius: Instead, one per column, shape (*batch, m): in how many balls each row lies.
    """

    radius: float | Tensor | None = None
    column_radius: Tensor | None = None

    def check(self, n: int, m: int) -> None:
        if (self.radius is None) == (self.column_radius is None):
            raise ValueError("pass either radius (a number or one per row) or column_radius")
        if isinstance(self.radius, Tensor) and self.radius.ndim and self.radius.shape[-1] != n:
            raise ValueError(
                f"radius must have shape (*batch, {n}), got {tuple(self.radius.shape)}"
            )
        if self.column_radius is not None and self.column_radius.shape[-1] != m:
            came = tuple(self.column_radius.shape)
            raise ValueError(f"column_radius must have shape (*batch, {m}), got {came}")

    def of(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        if self.column_radius is not None:
            bound = self.column_radius[..., columns].to(tile.dtype).unsqueeze(-2)
        elif isinstance(self.radius, Tensor) and self.radius.ndim:
            bound = self.radius[..., rows].to(tile.dtype).unsqueeze(-1)
        else:
            bound = checks.number_like(self.radius, tile)
        return ((tile < bound).sum(-1),)

    def merge(self, left: Reading, right: Reading) -> Reading:
        return (left[0] + right[0],)

    def flatten(self, batch: torch.Size) -> "CountWithin":
        radius = self.radius
        if isinstance(radius, Tensor) and radius.ndim:
            radius = _expand(radius, batch, 1)
        return CountWithin(radius, _expand(self.column_radius, batch, 1))

    def take(self, entries: slice) -> "CountWithin":
        radius = self.radius
        if isinstance(radius, Tensor) and radius.ndim:
            radius = radius[entries]
        return CountWithin(radius, _entries(self.column_radius, entries))


@dataclass(frozen=True)
class Total(AbstractReduction):
    """Σ_ij a_i G_ij b_j, shape (*batch), in float64: what every MMD is made of.

    Folding the rows too lets the engine use symmetry (half the pairs when y is x) and take the
    gradient in the same sweep as the value.

    Args:
        rows: a, shape (*batch, n).
        columns: b, shape (*batch, m).
    """

    rows: Tensor
    columns: Tensor

    def check(self, n: int, m: int) -> None:
        for name, weights, size in (("rows", self.rows, n), ("columns", self.columns, m)):
            if weights.ndim < 1 or weights.shape[-1] != size:
                raise ValueError(
                    f"{name} must have shape (*batch, {size}), got {tuple(weights.shape)}"
                )

    def of(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        right = (tile @ self.columns[..., columns].to(tile.dtype).unsqueeze(-1)).squeeze(-1)
        return ((right.double() * self.rows[..., rows].double()).sum(-1),)

    def merge(self, left: Reading, right: Reading) -> Reading:
        return (left[0] + right[0],)

    def join_rows(self, readings: list[Reading]) -> Reading:
        total = readings[0]
        for reading in readings[1:]:
            total = self.merge(total, reading)
        return total

    def flatten(self, batch: torch.Size) -> "Total":
        rows, columns = _expand(self.rows, batch, 1), _expand(self.columns, batch, 1)
        assert rows is not None
        assert columns is not None
        return Total(rows, columns)

    def take(self, entries: slice) -> "Total":
        return Total(self.rows[entries], self.columns[entries])


def per_entry(scale: float | Tensor, tile: Tensor) -> float | Tensor:
    """A number, or one per batch entry shaped to multiply a tile (*batch, rows, columns)."""
    if not isinstance(scale, Tensor):
        return scale
    return scale.to(tile.dtype).reshape(*scale.shape, 1, 1) if scale.ndim else scale.to(tile)


def uniform(values: Tensor) -> bool:
    """Whether values are known to be all the same: one number, expanded."""
    sizes = zip(values.shape, values.stride(), strict=True)
    return values.numel() > 0 and all(size == 1 or stride == 0 for size, stride in sizes)


def _wide(tile: Tensor) -> torch.dtype:
    """The dtype long sums are kept in."""
    return torch.float64 if tile.device.type != "mps" else torch.float32
