"""The one entrance to the pairwise engine: ground, reduction, samples, backend."""

import math
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.pairwise.fused import reduce_fused, unavailable
from probmetrics.pairwise.ground import AbstractGround, MinkowskiGeometry
from probmetrics.pairwise.ranks import Sharded
from probmetrics.pairwise.reductions import (
    AbstractReduction,
    KSmallest,
    LogSumExp,
    Total,
    WeightedSum,
)
from probmetrics.pairwise.sharded import Backend, reduce_sharded
from probmetrics.pairwise.tiled import (
    TiledLogSumExp,
    TiledWeightedSum,
    differentiable,
    fold,
    fold_by_recomputation,
    neighbors,
)
from probmetrics.pairwise.tiles import Pairs, retried, without_memory
from probmetrics.pairwise.total import TiledTotal

BACKENDS = ("auto", "dense", "tiled", "fused")
SMALL = 2**12  # pairs below which the plain dense lines are fastest …
COORDINATES = 2**15  # … or pairs · d
DENSE_BYTES = 2**33  # a dense matrix larger than this is refused


def reduce_pairs(
    ground: AbstractGround,
    reduction: AbstractReduction,
    x: Tensor,
    y: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> Any:
    """Fold the matrix G[i, j] = ground(x_i, y_j) along its columns, without ever needing it.

    Args:
        ground: A cost or a kernel.
        reduction: ``WeightedSum``, ``LogSumExp``, ``KSmallest``, ``CountWithin`` or ``Total``.
        x: Points, shape (*batch, n, d).
        y: Points, shape (*batch, m, d); batch dimensions broadcast. None pairs x with itself.
        backend: "dense" holds the matrix; "tiled" visits it in cache-sized tiles, in memory
            linear in n + m; "fused" folds it in the registers of a CUDA device, in memory linear
            in n + m, for the grounds that have a fused form; "auto" is dense for tiny problems,
            else fused on CUDA where that is possible, else tiled. ``Sharded(...)``: x and y are
            this rank's parts of samples that live on the ranks of a process group; the answer is
            for this rank's rows and the columns of all ranks, numbered from those of rank 0.

    Returns:
        What the reduction answers, with the broadcast batch dimensions in front.

    Raises:
        ValueError: Shapes that do not fit, an unknown backend, a dense matrix of over 8 GiB, or
            "fused" where there is no CUDA device, no Triton or no fused form.

    Notes:
        Gradients in x, y and the reduction's weights are analytic in the tiled backend: the
        derivative of a profile is a profile, so the backward pass is one more reduction. Second
        derivatives go through the dense matrix. ℓp norms and learnable profile parameters are
        differentiated by recomputing one tile at a time. The fused backend has the same analytic
        gradients and refuses second ones; its products follow
        ``torch.set_float32_matmul_precision``: float32, TF32 ("high") or bfloat16 ("medium").

    Example:
        >>> import torch
        >>> from probmetrics.pairwise import WeightedSum, reduce_pairs
        >>> from probmetrics.pairwise.kernels import Linear
        >>> reduce_pairs(Linear(), WeightedSum(), torch.ones(2, 3), torch.ones(5, 3))
        tensor([15., 15.])
    """
    x, y_points = _points(x, y)
    batch = checks.common_batch(x.shape[:-2], y_points.shape[:-2])
    if not (isinstance(backend, Sharded) and isinstance(reduction, KSmallest)):
        reduction.check(x.shape[-2], y_points.shape[-2])
    ground, factor = ground.standardised()
    fx = embedded(ground, x, factor)
    fy = fx if y is None or y is x else embedded(ground, y_points, factor)
    if not isinstance(backend, Sharded):
        return _cast(_embedded_pairs(ground, reduction, fx, fy, batch, backend), reduction, x.dtype)

    def local(part: AbstractReduction, rows: Tensor, columns: Tensor, inner: str) -> Any:
        return _embedded_pairs(ground, part, rows, columns, batch, inner)

    return _cast(reduce_sharded(backend, reduction, fx, fy, local), reduction, x.dtype)


def _embedded_pairs(
    ground: AbstractGround,
    reduction: AbstractReduction,
    fx: Tensor,
    fy: Tensor,
    batch: torch.Size,
    backend: str,
) -> Any:
    """The reduction for embedded points on a backend of this process."""
    batch = checks.common_batch(batch, fx.shape[:-2], fy.shape[:-2])
    for values in _options(reduction):
        batch = checks.common_batch(batch, values)
    pairs = math.prod(batch) * fx.shape[-2] * fy.shape[-2]
    choice = choose_backend(backend, pairs, fx, ground, reduction)
    if choice == "dense" or (choice == "fused" and not pairs * fx.shape[-1]):
        return _dense(ground, reduction, fx, fy)
    if choice == "fused":
        try:
            return reduce_fused(ground, reduction, fx, fy, batch)
        except torch.OutOfMemoryError as error:  # there is nothing that could be smaller
            raise without_memory("copies of them for the fused kernels", error) from error
    return retried(lambda: _in_tiles(ground, reduction, fx, fy, batch))


def _in_tiles(
    ground: AbstractGround, reduction: AbstractReduction, fx: Tensor, fy: Tensor, batch: torch.Size
) -> Any:
    if any(True for _ in ground.tensors()) or _needs_recomputation(ground, fx, fy):
        entries = math.prod(batch)
        return fold_by_recomputation(ground, reduction, fx, fy, entries)
    return _tiled(ground, reduction, fx, fy, batch)


def choose_backend(
    backend: str,
    pairs: int,
    x: Tensor,
    ground: AbstractGround | None = None,
    reduction: AbstractReduction | None = None,
) -> str:
    """The backend for a number of pairs: dense for tiny problems, else fused or tiled.

    Args:
        backend: As asked.
        pairs: Entries of the matrix, over all batch entries.
        x: Embedded points, whose device and dtype count.
        ground: What would be fused; without it "fused" is no choice.
        reduction: Likewise.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}, Sharded(...)")
    reason: str | None = "nothing to fuse was named"
    if ground is not None and reduction is not None:
        reason = unavailable(ground, reduction, x)
    if backend == "auto":
        fusible = x.is_cuda and reason is None
        if pairs <= SMALL or pairs * x.shape[-1] <= COORDINATES:
            return "dense"
        return "fused" if fusible else "tiled"
    if backend == "fused" and reason is not None:
        raise ValueError(f"{reason}; use backend='tiled' (or 'auto')")
    needed = pairs * x.element_size()
    if backend == "dense" and needed > DENSE_BYTES:
        raise ValueError(
            f"the dense matrix of {pairs} pairs would take {needed / 2**30:.1f} GiB; "
            "use backend='tiled' (or 'auto')"
        )
    return backend


def _points(x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    if y is None:
        if x.ndim < 2:
            raise ValueError(f"x must have shape (*batch, n, d), got {tuple(x.shape)}")
        return x, x
    for name, points in (("x", x), ("y", y)):
        if points.ndim < 2:
            raise ValueError(f"{name} must have shape (*batch, n, d), got {tuple(points.shape)}")
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"x has d = {x.shape[-1]} and y has d = {y.shape[-1]}; they must agree")
    return checks.same_kind(x, y)


def embedded(ground: AbstractGround, x: Tensor, factor: Tensor | None) -> Tensor:
    """Points as a standardised ground takes them, with the factor of ``standardised``."""
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    fx = ground.embed(x)
    if factor is None:
        return fx
    return fx * (factor.to(fx.dtype).reshape(*factor.shape, 1, 1) if factor.ndim else factor.to(fx))


def _options(reduction: AbstractReduction) -> list[torch.Size]:
    """Batch shapes of a reduction's tensors."""
    if isinstance(reduction, WeightedSum) and reduction.weights is not None:
        return [reduction.weights.shape[: -1 - reduction.columns]]
    if isinstance(reduction, LogSumExp):
        shapes = [] if reduction.offset is None else [reduction.offset.shape[:-1]]
        return [*shapes, reduction.scale.shape] if isinstance(reduction.scale, Tensor) else shapes
    if isinstance(reduction, Total):
        return [reduction.rows.shape[:-1], reduction.columns.shape[:-1]]
    return []


def _needs_recomputation(ground: AbstractGround, x: Tensor, y: Tensor) -> bool:
    if ground.geometry is None:
        return True
    learning = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
    analytic = not isinstance(ground.geometry, MinkowskiGeometry) and not ground.has_offset
    return learning and not analytic


def _dense(ground: AbstractGround, reduction: AbstractReduction, x: Tensor, y: Tensor) -> Any:
    matrix = ground.on_features(x, y)
    if ground.has_offset:
        matrix = matrix + ground.offset(x).unsqueeze(-1) + ground.offset(y).unsqueeze(-2)
    every = slice(0, x.shape[-2]), slice(0, y.shape[-2])
    return reduction.finish(reduction.of(matrix, *every))


def _tiled(
    ground: AbstractGround, reduction: AbstractReduction, x: Tensor, y: Tensor, batch: torch.Size
) -> Any:
    same = y is x
    x = x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
    y = x if same else y.expand(*batch, *y.shape[-2:]).reshape(-1, *y.shape[-2:])
    symmetric = same and isinstance(reduction, Total) and reduction.rows is reduction.columns
    flat = reduction.flatten(batch)
    if isinstance(flat, Total):
        other, columns = (y.detach(), flat.rows.detach()) if symmetric else (y, flat.columns)
        answer = differentiable(TiledTotal, ground, symmetric, x, other, flat.rows, columns)
    elif isinstance(flat, WeightedSum):
        answer = _weighted_sum(ground, flat, x, y)
    elif isinstance(flat, LogSumExp):
        offset = x.new_zeros(len(x), y.shape[-2]) if flat.offset is None else flat.offset
        answer = differentiable(TiledLogSumExp, ground, flat.scale, x, y, offset)
    elif isinstance(flat, KSmallest):
        values, indices = neighbors(ground, x, y, flat)
        return values.reshape((*batch, *values.shape[1:])), indices.reshape(
            *batch, *indices.shape[1:]
        )
    else:
        answer = fold(Pairs(ground, x, y), flat)
    return answer.reshape((*batch, *answer.shape[1:]))


def _weighted_sum(ground: AbstractGround, reduction: WeightedSum, x: Tensor, y: Tensor) -> Tensor:
    weights = reduction.weights
    if weights is None:
        weights = y.new_ones(1, 1, 1).expand(len(y), y.shape[-2], 1)
    elif not reduction.columns:
        weights = weights.unsqueeze(-1)
    sums: Tensor = differentiable(TiledWeightedSum, ground, x, y, weights)
    return sums if reduction.columns and reduction.weights is not None else sums.squeeze(-1)


def _cast(answer: Any, reduction: AbstractReduction, dtype: torch.dtype) -> Any:
    """Sums back in the caller's dtype; counts, indices and float64 totals as they are."""
    if isinstance(answer, tuple):
        return tuple(_cast(part, reduction, dtype) for part in answer)
    if isinstance(reduction, Total) or not answer.is_floating_point():
        return answer
    return answer.to(dtype)
