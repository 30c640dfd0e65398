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
    rest: Tensor | None = None  # what float64 leaves of the share, where shares are not counted


class Cut(NamedTuple):
    """A share of mass, and what float64 leaves of it."""

    share: Tensor  # (*batch, 1)
    rest: Tensor


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
            sides.append(Sorted(points.gather(-1, order), share, share.new_zeros(1).expand(n)))
            continue
        batch = torch.broadcast_shapes(points.shape, weights.shape)
        order = order.expand(batch)
        shares = accumulate(weights.expand(batch).gather(-1, order))
        sides.append(Sorted(points.expand(batch).gather(-1, order), *shares))
    return sides[0], sides[1]


def accumulate(mass: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the total up to and including each entry of the last axis, and their rest.

    Differences of shares are masses, and a share near one keeps nothing of a mass of 1e-16. So
    the rounding of each partial sum is found again (Knuth's TwoSum) and summed: share + rest is
    right to twice the digits. It ends in exactly one; what rounding leaves goes to the heaviest
    point, which feels it least. The share is differentiable in the masses, the rest is constant.
    """
    mass = mass.double()
    with torch.no_grad():
        part = mass / mass.sum(-1, keepdim=True)
        total = part.cumsum(-1)
        heaviest = part.argmax(-1, keepdim=True)
        before = torch.nn.functional.pad(total[..., :-1], (1, 0))
        added = total - before
        rest = before.sub_(total - added).add_(part.sub_(added)).cumsum(-1)
        missing = (1.0 - total[..., -1:]) - rest[..., -1:]
        rest += missing * (torch.arange(mass.shape[-1], device=mass.device) >= heaviest)
        share = total + rest
        rest -= total.sub_(share).neg_()
    if mass.requires_grad and torch.is_grad_enabled():
        sums = mass.cumsum(-1)
        slope = sums / sums[..., -1:]
        share = share + (slope - slope.detach())
    return share, rest


def two_sum(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x + y and its rounding error, exactly (Knuth)."""
    total = x + y
    added = total - x
    return total, (x - (total - added)) + (y - added)


def staircase(x: Sorted, y: Sorted, start: Cut | None = None) -> Staircase:
    """The monotone coupling of two sorted samples whose shares have the same last entry.

    Args:
        x: Its shares have shape (*batch, n); floats, or integers.
        y: The same for the other sample, shape (*batch, m); with a rest if x has one.
        start: Share at which both begin, and its rest, shape (*batch, 1); zero if None.
    """
    batch = torch.broadcast_shapes(x.share.shape[:-1], y.share.shape[:-1])
    first = x.share.expand(*batch, x.share.shape[-1])
    second = y.share.expand(*batch, y.share.shape[-1])
    inner = torch.cat([first[..., :-1], second[..., :-1]], -1)
    order = merge_rows(inner)
    zero = torch.zeros_like(first[..., :1])
    start = Cut(zero, zero) if start is None else start
    mass = torch.cat([start.share, inner.gather(-1, order), first[..., -1:]], -1).diff(dim=-1)
    if x.rest is not None and y.rest is not None:
        rests = [z.rest.expand(*batch, z.rest.shape[-1]) for z in (x, y) if z.rest is not None]
        inner = torch.cat([rest[..., :-1] for rest in rests], -1)
        fine = torch.cat([start.rest, inner.gather(-1, order), rests[0][..., -1:]], -1)
        mass += fine.diff(dim=-1)
        # Shares that agree in all digits of float64 may stand in the wrong order.
        mass = (
            mass.clamp_(min=0.0) if not mass.requires_grad else mass - mass.detach().clamp(max=0.0)
        )
    passed = (order < first.shape[-1] - 1).cumsum(-1)
    i = torch.nn.functional.pad(passed, (1, 0))
    j = torch.arange(i.shape[-1], device=i.device) - i  # each cut moves along one sample
    return Staircase(i, j, mass)


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

    def cost(x: Sorted, y: Sorted, start: Cut | None = None) -> Tensor:
        i, j, mass = staircase(x, y, start)
        mass = mass if unit == 1 else mass / unit
        if slack > 0:
            mass = torch.where(mass > slack, mass, 0.0)
        return mean_power(_pick(x.points, i) - _pick(y.points, j), mass, p, root)

    held = x.points, x.share, y.points, y.share
    carries = torch.is_grad_enabled() and any(part.requires_grad for part in held)
    if carries or max(part.ndim for part in held) > 1 or len(x.share) + len(y.share) <= PIECE:
        return cost(x, y)
    parts = torch.stack([cost(*piece) for piece in _pieces(x, y)])
    # The p-norm of the pieces' p-norms is the p-norm of all.
    root = root or p == math.inf
    return mean_power(parts, torch.ones_like(parts), p, True) if root else parts.sum(-1)


def _pieces(x: Sorted, y: Sorted) -> Iterator[tuple[Sorted, Sorted, Cut]]:
    """One problem as many: the coupling between consecutive levels of mass, and where it starts."""
    n = len(x.share)
    ends = torch.arange(PIECE // 2, n + PIECE // 2, PIECE // 2, device=x.share.device).clamp(max=n)
    active = torch.searchsorted(y.share, x.share[ends - 1])  # the point of y that each end cuts
    zero = x.share.new_zeros(1)
    start, begin, lowest = Cut(zero, zero), 0, 0
    for end, last in zip(ends.tolist(), active.tolist(), strict=True):
        own, other = slice(begin, end), slice(lowest, last + 1)
        level = Cut(x.share[end - 1 : end], zero if x.rest is None else x.rest[end - 1 : end])
        left = Sorted(x.points[own], x.share[own], None if x.rest is None else x.rest[own])
        share, rest = y.share[other], None if y.rest is None else y.rest[other]
        if rest is not None:
            rest = torch.where(share >= level.share, level.rest, rest)
        yield left, Sorted(y.points[other], share.clamp(max=level.share), rest), start
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
