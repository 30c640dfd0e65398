"""The monotone coupling of two samples on the line: sort both, then match equal quantiles.

On the line the optimal plan for every convex cost of x − y matches quantiles (Peyré & Cuturi 2019,
Computational Optimal Transport, Remark 2.30):

    W_p^p = ∫₀¹ |F⁻¹(t) − G⁻¹(t)|^p dt.

Both quantile functions are steps, so the integral is a sum over the merged steps. The plan is a
staircase in the grid of sorted points, one step right or up at a time. As the cost is convex, any
staircase is a dual feasible basis: the derivative in the weights is a Kantorovich potential, also
where steps coincide.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from probmetrics.transport.sorting import merge_rows, rank_rows, sort_rows

PIECE = 2**17  # pairs coupled at a time where no gradient is asked for: they stay in the cache


class Sorted(NamedTuple):
    """A sample in ascending order, with the mass up to and including each point."""

    points: Tensor  # (*batch, n)
    share: Tensor  # (*batch, n) or (n,), float64


class Staircase(NamedTuple):
    """Matched pairs of sorted points: index ``i`` of one, ``j`` of the other, and the mass."""

    i: Tensor  # (*batch, n + m − 1), int64
    j: Tensor
    mass: Tensor  # non-negative, differentiable in the shares


def line_cost(
    x: Tensor,
    y: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    p: float,
    *,
    root: bool,
    overwrite: bool = False,
) -> Tensor:
    """W_p^p, or with ``root`` W_p, of points in any order, in float64.

    Args:
        x: Points, shape (*batch, n), in float32 or float64.
        y: Points, shape (*batch, m), in the same dtype.
        a: Weights of x, (*batch, n), or None for equal ones.
        b: Weights of y, (*batch, m), or None.
        p: At least one; ``math.inf`` gives the largest gap of the coupling, with or without root.
        root: Take the p-th root; its gradient is zero where the distance is.
        overwrite: Whether x and y may be sorted in place.
    """
    n, m = x.shape[-1], y.shape[-1]
    if a is None and b is None:
        x, y = sort_rows(x, y, overwrite=overwrite)
        if n == m:
            return mean_power(x - y, None, p, root)
        # Equal weights are counted in units of 1/(n m): steps that are equal meet exactly.
        left = Sorted(x, m * torch.arange(1.0, n + 1, dtype=torch.float64, device=x.device))
        right = Sorted(y, n * torch.arange(1.0, m + 1, dtype=torch.float64, device=x.device))
        return _coupled_cost(left, right, p, root, unit=n * m)
    left, right = sort_weighted(x, y, a, b)
    slack = _slack(a, b, n + m) if p == math.inf else 0.0
    return _coupled_cost(left, right, p, root, slack=slack)


def sort_weighted(
    x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None
) -> tuple[Sorted, Sorted]:
    """Both samples in order; their shares of mass end in exactly one."""
    sides = []
    for points, weights, order in zip((x, y), (a, b), rank_rows(x, y), strict=True):
        if weights is None:
            n = points.shape[-1]
            share = torch.arange(1.0, n + 1, dtype=torch.float64, device=x.device) / n
            sides.append(Sorted(points.gather(-1, order), share))
            continue
        batch = torch.broadcast_shapes(points.shape, weights.shape)
        order = order.expand(batch)
        mass = weights.expand(batch).gather(-1, order).cumsum(-1, dtype=torch.float64)
        share = mass / mass[..., -1:]
        sides.append(Sorted(points.expand(batch).gather(-1, order), share))
    return sides[0], sides[1]


def staircase(first: Tensor, second: Tensor, start: Tensor | None = None) -> Staircase:
    """The monotone coupling of two ascending cumulative masses with the same last entry.

    Args:
        first: Mass up to and including each sorted point, shape (*batch, n).
        second: The same for the other sample, shape (*batch, m).
        start: Mass at which both begin, shape (*batch, 1); zero if None.
    """
    batch = torch.broadcast_shapes(first.shape[:-1], second.shape[:-1])
    first = first.expand(*batch, first.shape[-1])
    second = second.expand(*batch, second.shape[-1])
    inner = torch.cat([first[..., :-1], second[..., :-1]], -1)
    order = merge_rows(inner)
    start = torch.zeros_like(first[..., :1]) if start is None else start
    cuts = torch.cat([start, inner.gather(-1, order), first[..., -1:]], -1)
    passed = (order < first.shape[-1] - 1).cumsum(-1)
    i = torch.nn.functional.pad(passed, (1, 0))
    j = torch.arange(i.shape[-1], device=i.device) - i  # each cut moves along one sample
    return Staircase(i, j, cuts.diff(dim=-1))


def mean_power(gap: Tensor, mass: Tensor | None, p: float, root: bool) -> Tensor:
    """Σ mass |gap|^p over the last axis, or its p-th root, in float64; no mass means equal mass."""
    if p == math.inf:
        gap = gap.double().abs()
        return (gap if mass is None else torch.where(mass > 0, gap, 0.0)).amax(-1)
    if p == 1:
        if mass is None:
            return gap.abs().mean(-1, dtype=torch.float64)
        return (gap.abs() * mass).sum(-1)
    gap = gap.double()
    if not root:
        return _average(power(gap, p), mass)
    # The largest gap is factored out, so that powers neither overflow nor vanish.
    scale = gap.detach().abs().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    return scale.squeeze(-1) * safe_root(_average(power(gap / scale, p), mass), p)


def power(gap: Tensor, p: float) -> Tensor:
    """|gap|^p; its derivatives are zero where the gap is, but for the second one of p = 2."""
    if p == 1:
        return gap.abs()
    if p == 2:
        return gap.square()
    size = gap.abs()
    return torch.where(size > 0, torch.where(size > 0, size, 1.0).pow(p), 0.0)


def safe_root(total: Tensor, p: float) -> Tensor:
    """total^(1/p), with gradient zero at zero."""
    if p in (1, math.inf):
        return total
    positive = total > 0
    return torch.where(positive, torch.where(positive, total, 1.0).pow(1 / p), 0.0)


def _average(powers: Tensor, mass: Tensor | None) -> Tensor:
    return powers.mean(-1) if mass is None else (powers * mass).sum(-1)


def _coupled_cost(
    x: Sorted, y: Sorted, p: float, root: bool, *, unit: int = 1, slack: float = 0.0
) -> Tensor:
    """Cost of the monotone coupling; shares count in 1/``unit``, up to ``slack`` for nothing."""

    def cost(x: Sorted, y: Sorted, start: Tensor | None = None) -> Tensor:
        i, j, mass = staircase(x.share, y.share, start)
        mass = mass if unit == 1 else mass / unit
        if slack > 0:
            mass = torch.where(mass > slack, mass, 0.0)
        return mean_power(_pick(x.points, i) - _pick(y.points, j), mass, p, root)

    carries = torch.is_grad_enabled() and any(part.requires_grad for part in (*x, *y))
    if carries or max(part.ndim for part in (*x, *y)) > 1 or len(x.share) + len(y.share) <= PIECE:
        return cost(x, y)
    parts = torch.stack([cost(*piece) for piece in _pieces(x, y)])
    # The p-norm of the pieces' p-norms is the p-norm of all.
    root = root or p == math.inf
    return mean_power(parts, torch.ones_like(parts), p, True) if root else parts.sum(-1)


def _pieces(x: Sorted, y: Sorted) -> Iterator[tuple[Sorted, Sorted, Tensor]]:
    """One problem as many: the coupling between consecutive levels of mass, and where it starts."""
    n = len(x.share)
    ends = torch.arange(PIECE // 2, n + PIECE // 2, PIECE // 2, device=x.share.device).clamp(max=n)
    active = torch.searchsorted(y.share, x.share[ends - 1])  # the point of y that each end cuts
    start, begin, lowest = x.share.new_zeros(1), 0, 0
    for end, last in zip(ends.tolist(), active.tolist(), strict=True):
        level = x.share[end - 1 : end]
        share = y.share[lowest : last + 1].clamp(max=level)
        left = Sorted(x.points[begin:end], x.share[begin:end])
        yield left, Sorted(y.points[lowest : last + 1], share), start
        start, begin, lowest = level, end, last


def _slack(a: Tensor | None, b: Tensor | None, points: int) -> float:
    """Overlaps up to this mass may be rounding of weights that were meant to be equal."""
    given = [w.detach() for w in (a, b) if w is not None]
    rounding = 4 * torch.finfo(torch.float64).eps * math.sqrt(points)
    sums = [torch.finfo(w.dtype).eps * float(w.double().norm(dim=-1).max()) for w in given]
    return max(rounding, 4 * max(sums))


def _pick(points: Tensor, index: Tensor) -> Tensor:
    """points[..., index], batch by batch."""
    if index.ndim == 1:
        return points[..., index]
    batch = torch.broadcast_shapes(points.shape[:-1], index.shape[:-1])
    return points.expand(*batch, -1).gather(-1, index.expand(*batch, -1))
