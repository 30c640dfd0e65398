"""From nearly optimal potentials of many points to a plan of exact marginals and its proof."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from probmetrics.transport.cells import c_transform, near_pairs, parts
from probmetrics.transport.programme import MAX_STEPS

ROUNDS = 5  # programmes on more and more pairs
PRICE, RISE = 512.0, 16.0  # of unmoved mass at first, in units of ε, and its growth
DEAREST = 0.2  # price, relative to the spread: how far pairs are looked for, which takes memory
GROWTH = 8  # most pairs added per point and round
BLOCK = 4096  # rows looked at together
CLOSED = 1e-3  # gap, relative to the spread, at which no more are added
FREE = 1e-12  # reduced costs, relative to the spread, that are zero

Pairs = tuple[Tensor, Tensor, Tensor]


class Level(NamedTuple):
    """Two measures in spatial order, with potentials."""

    x: Tensor
    y: Tensor
    a: Tensor
    b: Tensor
    f: Tensor
    g: Tensor


def finished(
    level: Level, plan: Pairs, epsilon: float, spread: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A plan (rows, columns, masses) with exact marginals, and potentials feasible for all pairs.

    Linear programmes on the pairs of the entropic plan and those that their potentials miss; what
    no pair can carry stays idle, at a price that rises from round to round, and is moved nearby.

    Args:
        level: Points in spatial order, with potentials.
        plan: Pairs that may carry mass, and how much they do by these potentials.
        epsilon: ε of the potentials.
        spread: Mean squared distance of independent points about their means.
    """
    spread = spread if spread > 1e-200 else 1.0
    i, j = plan[:2]
    best: tuple[float, Pairs, Tensor, Tensor] | None = None
    price = PRICE * epsilon
    for k in range(ROUNDS):
        flows, f, g = _programme(level, i, j, min(price, DEAREST * spread))
        f, missed = _missed(level, f, g, -FREE * spread)
        dual = float(level.a @ f + level.b @ g)
        flows = _rounded(level, flows)
        paid = float(flows[2] @ (level.x[flows[0]] - level.y[flows[1]]).square().sum(1))
        if best is None or paid - dual < best[0]:
            best = paid - dual, flows, f, g
        if best[0] <= CLOSED * spread or k == ROUNDS - 1:
            break
        m = g.numel()
        keys = torch.from_numpy(np.unique(torch.cat([i * m + j, missed]).numpy()))
        i, j = keys // m, keys % m
        price *= RISE
    assert best is not None
    _, (i, j, mass), f, g = best
    used = mass > 0
    cost = (level.x[i] - level.y[j]).square().sum(1)
    high = torch.full_like(g, torch.inf).scatter_reduce(0, j, cost - f[i], "amin")
    return i[used], j[used], mass[used], f, c_transform(level.y, level.x, high, f)


def _missed(level: Level, f: Tensor, g: Tensor, cut: float) -> tuple[Tensor, Tensor]:
    """The c-transform of g, and of each point the few pairs that it violates most, as i m + j.

    A block of rows at a time: poor potentials have very many pairs of reduced cost below zero.
    """
    m, found, keys = g.numel(), [], []
    for rows in torch.arange(f.numel()).split(BLOCK):
        i, j, cost = near_pairs(level.x[rows], level.y, f[rows], g, cut)
        best = f[rows].scatter_reduce(0, i, cost - g[j], "amin")
        found.append(best)
        for end, value in ((i, cost - g[j]), (j, cost - best[i] - g[j])):
            order = value.argsort()
            order = order[end[order].argsort(stable=True)]
            first = torch.searchsorted(end[order], end[order])
            chosen = order[torch.arange(order.numel()) - first < GROWTH]
            keys.append(rows[i[chosen]] * m + j[chosen])
    return torch.cat(found), torch.cat(keys)


def _programme(level: Level, i: Tensor, j: Tensor, price: float) -> tuple[Pairs, Tensor, Tensor]:
    """The linear programme on some pairs: flows, ending with all pairs at zero, and potentials.

    Costs are reduced by the potentials known, so that those that the simplex finds are small.
    """
    from ot.lp.emd_wrap import emd_c_sparse

    n, m = level.a.numel(), level.b.numel()
    cost = (level.x[i] - level.y[j]).square().sum(1)
    reduced = (cost - level.f[i] - level.g[j]) / price
    prices = torch.ones(n + m + 1, dtype=torch.float64)
    prices[n] = 0.0  # from the source of unmoved mass to its target
    sources = torch.cat([i, torch.arange(n + 1), torch.full((m,), n)])
    targets = torch.cat([j, torch.full((n + 1,), m), torch.arange(m)])
    one = torch.ones(1, dtype=torch.float64)
    found = emd_c_sparse(
        torch.cat([level.a, one]).numpy(),
        torch.cat([level.b, one]).numpy(),
        sources.numpy().astype(np.uint64),
        targets.numpy().astype(np.uint64),
        torch.cat([reduced, prices]).numpy(),
        MAX_STEPS,
        np.zeros(n + 1),
        np.zeros(m + 1),
    )
    rows, columns = (torch.from_numpy(z.astype(np.int64)) for z in found[:2])
    mass = torch.from_numpy(np.asarray(found[2]))
    real = (rows < n) & (columns < m)
    g = torch.from_numpy(np.array(found[5]))[:m] * price + level.g
    f = torch.full_like(level.f, torch.inf).scatter_reduce(0, i, cost - g[j], "amin")
    flows = rows[real], columns[real], mass[real]
    idle = torch.zeros_like(cost)
    return (torch.cat([flows[0], i]), torch.cat([flows[1], j]), torch.cat([flows[2], idle])), f, g


def _rounded(level: Level, plan: Pairs) -> Pairs:
    """The plan with exact marginals: scaled down to them, and what is left moved nearby.

    What is left of x waits where the plan sends most of it, and is given to what is free of y
    within the smallest cell that holds both (Altschuler et al. 2017 spread it over everything).
    """
    i, j, mass = plan
    n, m = level.a.numel(), level.b.numel()
    rows = mass.new_zeros(n).index_add(0, i, mass)
    mass = mass * (level.a / rows.clamp_min(1e-300)).clamp(max=1.0)[i]
    columns = mass.new_zeros(m).index_add(0, j, mass)
    mass = mass * (level.b / columns.clamp_min(1e-300)).clamp(max=1.0)[j]
    left = (level.a - mass.new_zeros(n).index_add(0, i, mass)).clamp_min(0.0)
    free = (level.b - mass.new_zeros(m).index_add(0, j, mass)).clamp_min(0.0)
    best = mass.new_zeros(n).scatter_reduce(0, i, mass, "amax")
    target = torch.zeros(n, dtype=torch.int64)
    most = mass >= best[i]
    target[i[most]] = j[most]
    order = torch.argsort(target, stable=True)
    left, target = left[order], target[order]
    pieces = [(i, j, mass)]
    for count in _halvings(m):
        bounds = parts(m, count)
        cell = torch.repeat_interleave(torch.arange(bounds.numel() - 1), torch.diff(bounds))
        taken, given = _shared(left, cell[target], free, cell, bounds.numel() - 1)
        k, there, moved = _corners(taken, given)
        pieces.append((order[k], there, moved))
        left, free = (left - taken).clamp_min(0.0), (free - given).clamp_min(0.0)
    i, j, mass = (torch.cat(columns) for columns in zip(*pieces, strict=True))
    return i, j, mass


def _halvings(m: int) -> list[int]:
    """Numbers of cells, from one a point to one in all."""
    finest = max(0, math.ceil(math.log2(m)))
    return [2**k for k in range(finest, -1, -1)]


def _shared(
    left: Tensor, left_cell: Tensor, free: Tensor, free_cell: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """What can be moved within each cell: as much as the lesser side has, its first points first.

    Both sides lie in the order of their cells.
    """
    sums = [
        w.new_zeros(count).index_add(0, cell, w)
        for w, cell in ((left, left_cell), (free, free_cell))
    ]
    both = torch.minimum(*sums)
    found = []
    for w, cell, total in ((left, left_cell, sums[0]), (free, free_cell, sums[1])):
        before = w.cumsum(0) - w - (total.cumsum(0) - total)[cell]
        found.append(torch.minimum((both[cell] - before).clamp_min(0.0), w))
    return found[0], found[1]


def _corners(left: Tensor, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The north-west corner rule: masses of one total, moved in the order they lie in."""
    used = [w.nonzero().squeeze(1) for w in (left, free)]
    if not all(k.numel() for k in used):
        empty = torch.empty(0, dtype=torch.int64)
        return empty, empty, left.new_empty(0)
    ends = [w[k].cumsum(0) for w, k in zip((left, free), used, strict=True)]
    total = torch.minimum(ends[0][-1], ends[1][-1])
    ends = [e / e[-1] * total for e in ends]
    cuts = torch.cat(ends).sort().values
    moved = torch.diff(cuts, prepend=cuts.new_zeros(1))
    middle = cuts - 0.5 * moved
    kept = moved > 0
    places = [
        k[torch.searchsorted(e, middle[kept]).clamp(max=k.numel() - 1)]
        for e, k in zip(ends, used, strict=True)
    ]
    return places[0], places[1], moved[kept]
