"""The three totals of two samples: within the first, within the second, and between them."""

import math
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._checks import readable
from probmetrics.pairwise.ground import AbstractGround, InnerGeometry, SquaredGeometry
from probmetrics.pairwise.ranks import Sharded
from probmetrics.pairwise.reduce import choose_backend, embedded, reduce_pairs
from probmetrics.pairwise.reductions import Total
from probmetrics.pairwise.sharded import Backend
from probmetrics.pairwise.tiled import differentiable, differentiate
from probmetrics.pairwise.tiles import Pairs, retried
from probmetrics.pairwise.total import Sweep, dense_total

SMALL = 256  # points of samples whose operations cost more to start than to do
TOGETHER = 2**20  # coordinates of two samples that are prepared as one
WIDER = 16.0  # mean squared distance from a common centre over the variance it may cost digits of


def reduce_blocks(
    ground: AbstractGround,
    x: Tensor,
    y: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Σ a_i a_j G(x_i, x_j), Σ b_i b_j G(y_i, y_j) and Σ a_i b_j G(x_i, y_j), float64.

    What ``reduce_pairs`` answers for the three ``Total``s. On a CPU samples of moderate size are
    embedded, centred and checked once for all three; the smallest share one dense matrix of the
    pairs within x and within y.

    Args:
        ground: A symmetric cost or kernel.
        x: Points, shape (*batch, n, d).
        y: Points, shape (*batch, m, d).
        a: Weights of x, shape (*batch, n).
        b: Weights of y, shape (*batch, m).
        backend: As in ``reduce_pairs``.
    """
    between = Total(a, b)
    if isinstance(backend, Sharded):
        return _one_by_one(ground, x, y, a, b, backend)
    batch = checks.common_batch(x.shape[:-2], y.shape[:-2], a.shape[:-1], b.shape[:-1])
    standard, factor = ground.standardised()
    if _prepared_together(standard, factor, x, y, batch, backend):
        between.check(x.shape[-2], y.shape[-2])
        fx, fy = embedded(standard, x, factor), embedded(standard, y, factor)
        pairs = math.prod(batch) * fx.shape[-2] * fy.shape[-2]
        if choose_backend(backend, pairs, fx, standard, between) == "tiled":
            points = [z.expand(*batch, *z.shape[-2:]).reshape(-1, *z.shape[-2:]) for z in (fx, fy)]
            flat = between.flatten(batch)
            weights = flat.rows, flat.columns
            totals = retried(lambda: differentiable(TiledBlocks, standard, *points, *weights))
            within_x, within_y, across = totals.reshape(3, *batch).unbind(0)
            return within_x, within_y, across
    if x.shape == y.shape and x.shape[-2] <= SMALL and _alike(ground, x, y, a, b):
        within = Total(a, a)
        both = reduce_pairs(ground, within, torch.stack([x, y]), backend=backend)
        return both[0], both[1], reduce_pairs(ground, between, x, y, backend=backend)
    return _one_by_one(ground, x, y, a, b, backend)


def _one_by_one(
    ground: AbstractGround, x: Tensor, y: Tensor, a: Tensor, b: Tensor, backend: Backend
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        reduce_pairs(ground, Total(a, a), x, backend=backend),
        reduce_pairs(ground, Total(b, b), y, backend=backend),
        reduce_pairs(ground, Total(a, b), x, y, backend=backend),
    )


def _prepared_together(
    ground: AbstractGround,
    factor: Tensor | None,
    x: Tensor,
    y: Tensor,
    batch: torch.Size,
    backend: Backend,
) -> bool:
    """Whether both samples fit beside each other, under a ground with analytic gradients."""
    aligned = isinstance(ground.geometry, SquaredGeometry | InnerGeometry)
    plain = aligned and not ground.has_offset and next(ground.tensors(), None) is None
    plain = plain and (factor is None or factor.shape in (torch.Size(()), batch))
    few = math.prod(batch) * (x.shape[-2] + y.shape[-2]) * x.shape[-1] <= TOGETHER
    return plain and few and x.device.type == "cpu" and backend in ("auto", "tiled")


def _alike(ground: AbstractGround, x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> bool:
    """Whether the pairs within x and within y are a batch of two, which saves an operation each.

    Not where that would compute gradients nobody wants, or hand other shapes to a network.
    """
    uniform = a.ndim == b.ndim == 1 and a.stride(0) == b.stride(0) == 0
    constants = not ground.embedding() and next(ground.tensors(), None) is None
    return uniform and constants and x.requires_grad == y.requires_grad


class TiledBlocks(torch.autograd.Function):
    """The totals within x, within y and between them, float64, shape (3, B)."""

    @staticmethod
    def forward(
        ctx: Any, ground: AbstractGround, x: Tensor, y: Tensor, a: Tensor, b: Tensor
    ) -> Tensor:
        ctx.ground = ground
        ctx.save_for_backward(x, y, a, b)
        needs_x, needs_y, needs_a, needs_b = ctx.needs_input_grad[1:]
        n = x.shape[-2]
        pooled = torch.cat([x.detach(), y.detach()], dim=-2)
        pairs = Pairs(ground, pooled, pooled, border=n, split=True)
        together = _one_centre(pairs, n)
        first, second = slice(0, n), slice(n, None)
        totals, ctx.gradients = [], []
        for rows, columns, points, weights, wanted in (
            (first, first, (x, x), (a, a), (needs_x, False, needs_a, False)),
            (second, second, (y, y), (b, b), (needs_y, False, needs_b, False)),
            (first, second, (x, y), (a, b), (needs_x, needs_y, needs_a, needs_b)),
        ):
            made = pairs.part(rows, columns) if together else Pairs(ground, *points, split=True)
            sweep = Sweep(made, *weights, rows == columns, wanted)
            totals.append(sweep.run())
            ctx.gradients.append(sweep.gradients((x.dtype, y.dtype, a.dtype, b.dtype)))
        return torch.stack(totals)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        needs = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            x, y, a, b = ctx.saved_tensors
            terms = ((x, x, a, a), (y, y, b, b), (x, y, a, b))
            totals = torch.stack([dense_total(ctx.ground, *term) for term in terms])
            return (None, *differentiate(totals, (x, y, a, b), needs, g))
        (x, _, a, _), (y, _, b, _), between = ctx.gradients
        own = ((x, g[0]), (y, g[1]), (a, g[0]), (b, g[1]))
        return (
            None,
            *(
                None if cross is None else _scaled(within, factor) + _scaled(cross, g[2])
                for (within, factor), cross in zip(own, between, strict=True)
            ),
        )


def _scaled(gradient: Tensor, factor: Tensor) -> Tensor:
    """A gradient times one factor per batch entry."""
    return gradient * factor.to(gradient.dtype).reshape(-1, *[1] * (gradient.ndim - 1))


def _one_centre(pairs: Pairs, n: int) -> bool:
    """Whether one centre for both samples costs the distances within each few digits.

    Rounding grows with the squared distance from the centre. A sample far from it and narrow is
    better centred by itself.
    """
    if isinstance(pairs.ground.geometry, InnerGeometry):
        return True
    if not readable(pairs.v):
        return False
    d = pairs.d
    means = torch.stack([pairs.v[:, :n].mean(-2), pairs.v[:, n:].mean(-2)]).double()
    squares = means[..., d + 1]  # v holds y, 1 and ‖y‖²
    variances = squares - means[..., :d].square().sum(-1)
    return bool((squares.amax(0) <= WIDER * variances.amin(0)).all())
