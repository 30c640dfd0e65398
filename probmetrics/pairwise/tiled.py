"""The tiled backend: any reduction in linear memory, with analytic gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from probmetrics._checks import readable
from probmetrics.pairwise.ground import AbstractGround, SquaredGeometry
from probmetrics.pairwise.reductions import (
    AbstractReduction,
    KSmallest,
    LogSumExp,
    Reading,
    WeightedSum,
    per_entry,
    uniform,
)
from probmetrics.pairwise.threads import WORTH_SHARING, on_one_thread, run_tasks
from probmetrics.pairwise.tiles import Block, Pairs, blocks, retried
from probmetrics.pairwise.tree import tree_neighbors

Scale = float | Tensor  # a number, or one per batch entry
Coefficient = Callable[[Tensor, Tensor, slice, slice, slice], Tensor]


def fold(pairs: Pairs, reduction: AbstractReduction, *, ranks: bool = False) -> Any:
    """The reduction of all tiles, without a gradient.

    Args:
        pairs: The samples and their ground.
        reduction: Flattened over the batch.
        ranks: Read the tiles of s instead of the ground's values (the same order, less work).
    """
    tasks = pairs.row_blocks()
    readings: dict[int, Reading] = {}
    position = {id(task): index for index, task in enumerate(tasks)}

    def work(share: Sequence[Block]) -> None:
        buffer = pairs.buffer()
        for block in share:
            taken = reduction.take(block.entries)
            reading: Reading | None = None
            for columns in pairs.column_blocks():
                tile = pairs.arguments(block.entries, block.rows, columns, buffer)
                if not ranks:
                    tile = pairs.values(tile, block.entries, block.rows, columns)
                new = taken.of_(tile, block.rows, columns)
                reading = new if reading is None else taken.merge(reading, new)
            assert reading is not None
            readings[position[id(block)]] = reading

    run_tasks(work, tasks, pairs.count)
    ordered = [readings[index] for index in range(len(tasks))]
    per_entry = len(tasks) // len({task.entries.start for task in tasks})
    joined = [
        reduction.join_rows(ordered[i : i + per_entry]) for i in range(0, len(tasks), per_entry)
    ]
    return reduction.finish(tuple(torch.cat(parts) for parts in zip(*joined, strict=True)))


def row_gradient(pairs: Pairs, coefficient: Coefficient, *, alone: bool = False) -> Tensor:
    """Σ_j M_ij ∂t_ij/∂x_i with M = coefficient ∘ slope, shape (B, n, d): again a weighted sum.

    Args:
        pairs: The samples and their ground.
        coefficient: Called with (s, slopes, entries, rows, columns); may overwrite ``slopes``.
        alone: Whether the coefficient does without s, whose memory then serves the slopes.
    """
    tasks = pairs.row_blocks()
    gradient = pairs.u.new_empty(pairs.batch, pairs.n, pairs.d)

    def work(share: Sequence[Block]) -> None:
        buffer = pairs.buffer()
        for block in share:
            u = pairs.u[block.entries, block.rows]
            # transposed, and in the parts of the tile: a product whose result is narrow is slow
            sums = u.new_zeros(pairs.cut(u).mT.shape)
            for columns in pairs.column_blocks():
                s = pairs.arguments(block.entries, block.rows, columns, buffer)
                slopes = pairs.slopes_(s) if alone else pairs.slopes(s)
                weighted = coefficient(s, slopes, block.entries, block.rows, columns)
                v = pairs.v[block.entries, columns].expand(len(sums), -1, -1)
                sums.baddbmm_(v.mT, pairs.cut(weighted).mT)
            whole = sums.mT.reshape(u.shape)
            gradient[block.entries, block.rows] = pairs.pull_rows(u, whole)

    run_tasks(work, tasks, pairs.count)
    return gradient.mul_(pairs.slope_factor) if alone else gradient


class TiledWeightedSum(torch.autograd.Function):
    """Σ_j G_ij w_jc, shape (B, n, c)."""

    @staticmethod
    def forward(ctx: Any, ground: AbstractGround, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, y, w)
        ctx.ground = ground
        out: Tensor = fold(Pairs(ground, x, y, split=True), WeightedSum(w, columns=True))
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return retried(lambda: _sum_gradients(ctx, g))


def _sum_gradients(ctx: Any, g: Tensor) -> Any:
    """What ``TiledWeightedSum`` hands back."""
    x, y, w = ctx.saved_tensors
    ground, needs = ctx.ground, ctx.needs_input_grad
    if torch.is_grad_enabled():
        dense = dense_matrix(ground, x, y) @ w
        return (None, *differentiate(dense, (x, y, w), needs[1:], g))
    dx = dy = dw = None
    if needs[1]:
        pairs = Pairs(ground, x, y, split=True)
        dx = row_gradient(pairs, _outer(g, w), alone=True).to(x.dtype)
    if needs[2]:
        pairs = Pairs(ground, y, x, split=True)
        dy = row_gradient(pairs, _outer(w, g), alone=True).to(y.dtype)
    if needs[3]:
        pairs = Pairs(ground, y, x, split=True)
        dw = fold(pairs, WeightedSum(g, columns=True)).to(w.dtype)
    return None, dx, dy, dw


def _outer(left: Tensor, right: Tensor) -> Coefficient:
    """Multiply slopes by Σ_c left_ic right_jc."""
    numbers = [float(f.reshape(-1)[0]) for f in (left, right) if f.is_cpu and uniform(f)]
    if len(numbers) == 2:
        number = left.shape[-1] * numbers[0] * numbers[1]
        return lambda s, slopes, entries, rows, columns: slopes.mul_(number)

    def coefficient(s: Tensor, slopes: Tensor, entries: slice, rows: slice, cols: slice) -> Tensor:
        a, b = left[entries, rows].to(slopes.dtype), right[entries, cols].to(slopes.dtype)
        if a.shape[-1] == 1:
            return slopes.mul_(a).mul_(b.mT)
        return slopes.mul_(a @ b.mT)

    return coefficient


class TiledLogSumExp(torch.autograd.Function):
    """log Σ_j exp(offset_j + scale · G_ij), shape (B, n)."""

    @staticmethod
    def forward(
        ctx: Any, ground: AbstractGround, scale: Scale, x: Tensor, y: Tensor, offset: Tensor
    ) -> Tensor:
        pairs = Pairs(ground, x, y)
        out: Tensor = fold(pairs, LogSumExp(offset.to(pairs.dtype), scale))
        ctx.save_for_backward(x, y, offset, out)
        ctx.ground, ctx.scale = ground, scale
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return retried(lambda: _exp_gradients(ctx, g))


def _exp_gradients(ctx: Any, g: Tensor) -> Any:
    """What ``TiledLogSumExp`` hands back."""
    x, y, offset, out = ctx.saved_tensors
    ground, scale, needs = ctx.ground, ctx.scale, ctx.needs_input_grad
    if torch.is_grad_enabled():
        matrix = dense_matrix(ground, x, y)
        matrix = matrix * per_entry(scale, matrix)
        dense = torch.logsumexp(matrix + offset.unsqueeze(-2), dim=-1)
        return (None, None, *differentiate(dense, (x, y, offset), needs[2:], g))
    dx = dy = do = None
    out = torch.where(out.isfinite(), out, 0.0)  # −∞ where every column is left out
    if needs[2]:
        pairs = Pairs(ground, x, y)
        dx = row_gradient(pairs, plan_coefficient(pairs, scale, -out, offset, rows=g)).to(x.dtype)
    if needs[3] or needs[4]:
        pairs = Pairs(ground, y, x)
        if needs[3]:
            dy = row_gradient(pairs, plan_coefficient(pairs, scale, offset, -out, columns=g)).to(
                y.dtype
            )
        if needs[4]:
            do = _plan_sums(pairs, scale, offset, -out, g).to(offset.dtype)
    return None, None, dx, dy, do


def plan_coefficient(
    pairs: Pairs,
    scale: Scale,
    row_exponent: Tensor,
    column_exponent: Tensor,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
) -> Coefficient:
    """Multiply slopes by scale · exp(row + scale · G + column), times a factor on one side."""

    def coefficient(s: Tensor, slopes: Tensor, e: slice, r: slice, c: slice) -> Tensor:
        plan = _plan_tile(pairs, scale, row_exponent, column_exponent, s, e, r, c)
        if rows is not None:
            plan *= rows[e, r].to(plan.dtype).unsqueeze(-1)
        if columns is not None:
            plan *= columns[e, c].to(plan.dtype).unsqueeze(-2)
        return slopes.mul_(plan).mul_(_of(scale, e, slopes))

    return coefficient


def _plan_tile(
    pairs: Pairs,
    scale: Scale,
    row_exponent: Tensor,
    column_exponent: Tensor,
    s: Tensor,
    e: slice,
    r: slice,
    c: slice,
) -> Tensor:
    tile = pairs.values(s, e, r, c)
    tile.mul_(_of(scale, e, tile))
    tile += row_exponent[e, r].to(tile.dtype).unsqueeze(-1)
    tile += column_exponent[e, c].to(tile.dtype).unsqueeze(-2)
    return tile.exp_()


def _of(scale: Scale, entries: slice, tile: Tensor) -> Scale:
    return per_entry(scale[entries] if isinstance(scale, Tensor) and scale.ndim else scale, tile)


def _plan_sums(
    pairs: Pairs, scale: Scale, row_exponent: Tensor, column_exponent: Tensor, g: Tensor
) -> Tensor:
    """Σ_c P_rc g_c, the gradient in the offsets when rows carry the offsets."""
    sums = torch.zeros_like(row_exponent, dtype=torch.float64)

    def work(share: Sequence[Block]) -> None:
        buffer = pairs.buffer()
        for block in share:
            e, r = block.entries, block.rows
            for c in pairs.column_blocks():
                s = pairs.arguments(e, r, c, buffer)
                plan = _plan_tile(pairs, scale, row_exponent, column_exponent, s, e, r, c)
                part = plan @ g[e, c].to(plan.dtype).unsqueeze(-1)
                sums[e, r] += part.squeeze(-1).double()

    run_tasks(work, pairs.row_blocks(), pairs.count)
    return sums


def neighbors(ground: AbstractGround, x: Tensor, y: Tensor, reduction: KSmallest) -> Any:
    """The k smallest entries per row, ascending and ties by column, with their columns."""
    found = tree_neighbors(ground, x, y, reduction)
    if found is not None:
        gaps, indices = found
        with on_one_thread(gaps.numel() * x.shape[-1] < WORTH_SHARING):
            if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
                return near_values(ground, x, y, indices)
            t = gaps.square() if isinstance(ground.geometry, SquaredGeometry) else gaps
            return ground.profile(t, x.shape[-1]).to(x.dtype), indices
    _, indices = fold(Pairs(ground, x, y), reduction, ranks=ground.increasing)
    return near_values(ground, x, y, indices.sort(-1).values)


def near_values(
    ground: AbstractGround, x: Tensor, y: Tensor, indices: Tensor
) -> tuple[Tensor, Tensor]:
    """The entries in columns ``indices`` of each row, recomputed exactly, with a gradient; sorted.

    Args:
        ground: Any ground.
        x: Embedded points, shape (B, n, d).
        y: Embedded points, shape (B, m, d).
        indices: Shape (B, n, k), in any order, which ties keep.
    """
    batch, n, k = indices.shape
    m, d = y.shape[-2:]
    flat = y.reshape(-1, d)
    starts = m * torch.arange(batch, device=y.device).reshape(-1, 1, 1)
    pieces = []
    for rows in blocks(n, max(1, 2**22 // max(1, batch * k * x.shape[-1]))):
        places = (indices[:, rows] + starts).reshape(-1)
        near = flat.index_select(0, places).reshape(batch, -1, k, d)
        own = x[:, rows].unsqueeze(-2).expand_as(near)
        value = ground.between_features(own, near)
        if ground.has_offset:
            value = value + ground.offset(own) + ground.offset(near)
        pieces.append(value)
    values = torch.cat(pieces, dim=1)
    if readable(values) and bool((values.detach().diff(dim=-1) >= 0).all()):
        return values, indices
    values, order = values.sort(dim=-1, stable=True)
    return values, indices.gather(-1, order)


def fold_by_recomputation(
    ground: AbstractGround, reduction: AbstractReduction, x: Tensor, y: Tensor, entries: int
) -> Any:
    """The reduction tile by tile through autograd, each tile recomputed in the backward pass.

    For grounds without one profile (ℓp norms, sums over different features) and for parameters
    of a profile that learn. Batch dimensions stay as they are.

    Args:
        ground: Any ground.
        reduction: Not flattened.
        x: Embedded points, shape (*batch, n, d).
        y: Embedded points, shape (*batch, m, d).
        entries: Number of batch entries, for the size of a tile.
    """
    side = max(16, int((2**18 / max(1, entries)) ** 0.5))
    readings = []
    learning = torch.is_grad_enabled() and (
        x.requires_grad or y.requires_grad or any(t.requires_grad for t in ground.tensors())
    )

    def read(x_rows: Tensor, y_columns: Tensor, rows: slice, columns: slice) -> Reading:
        tile = ground.on_features(x_rows, y_columns)
        if ground.has_offset:
            tile = tile + ground.offset(x_rows).unsqueeze(-1)
            tile = tile + ground.offset(y_columns).unsqueeze(-2)
        return reduction.of(tile, rows, columns)

    for rows in blocks(x.shape[-2], side):
        reading: Reading | None = None
        for columns in blocks(y.shape[-2], side):
            parts = (x[..., rows, :], y[..., columns, :], rows, columns)
            new = checkpoint(read, *parts, use_reentrant=False) if learning else read(*parts)
            reading = new if reading is None else reduction.merge(reading, new)
        assert reading is not None
        readings.append(reading)
    return reduction.finish(reduction.join_rows(readings))


def differentiable(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """Apply a custom autograd function."""
    apply: Callable[..., Any] = function.apply
    return apply(*inputs)


def dense_matrix(ground: AbstractGround, x: Tensor, y: Tensor) -> Tensor:
    """The whole matrix, for a second derivative."""
    if x.shape[0] * x.shape[1] * y.shape[1] > 2**26:
        raise RuntimeError(
            "a second derivative needs the whole matrix of pairs, which is too large here "
            f"({x.shape[0]}×{x.shape[1]}×{y.shape[1]}); use fewer points per call"
        )
    matrix = ground.on_features(x, y)
    if ground.has_offset:
        matrix = matrix + ground.offset(x).unsqueeze(-1) + ground.offset(y).unsqueeze(-2)
    return matrix


def differentiate(
    out: Tensor, inputs: Sequence[Tensor], needs: Sequence[bool], g: Tensor
) -> list[Tensor | None]:
    """Gradients that can be differentiated again."""
    wanted = [value for value, need in zip(inputs, needs, strict=True) if need]
    found = iter(torch.autograd.grad(out, wanted, g, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needs]
