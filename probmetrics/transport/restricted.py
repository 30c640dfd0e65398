"""Large transport programmes: candidate pairs only, more until the potentials prove the plan."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from probmetrics.transport.candidates import (
    FINEST,
    CostTiles,
    cost_scale,
    entropic_potentials,
    largest_cost,
    nearest_pairs,
)
from probmetrics.transport.ground_cost import GroundCost
from probmetrics.transport.programme import CLOSED, MAX_STEPS, Solution, balanced

NEIGHBOURS = 12  # candidates per point, from either side
GROWTH = 8  # most pairs added per point and round
ROUNDS = 200
BLOCK = 1024  # points of either side in a working block
NEGATIVE = 1e-15  # reduced costs below minus this, over the scale of the costs, are missing pairs
FOCUS = 1e-3  # of the scale of the costs, for the last rounds
EPSILON = 2.0**-52
DUST = 1e-15  # mass per root of a point that rounding leaves unmoved
LOST = 1e-11  # largest mass that a plan may miss
PRICE = 64.0  # of unmoved mass at first, in units of the last ε


class Round(NamedTuple):
    """The solution of the programme on the pairs found so far."""

    rows: Tensor
    columns: Tensor
    mass: Tensor
    f: Tensor
    g: Tensor
    idle: float  # mass that no pair could move
    rounding: float  # of the potentials
    finished: bool


@dataclass
class Master:
    """The programme on the pairs found so far, which grow.

    Costs are reduced by the entropic potentials and divided by their scale, so what the simplex
    sees is of order one and its potentials are small. A point more on each side takes, and
    gives, mass that the candidates cannot move, at a ``price`` that bounds the potentials while
    pairs are missing; it grows as long as mass goes that way.
    """

    tiles: CostTiles
    a: Tensor
    b: Tensor
    base: tuple[Tensor, Tensor]
    scale: float
    price: float = PRICE * FINEST
    keys: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    start: tuple[Tensor, Tensor] | None = None

    def add(self, i: Tensor, j: Tensor) -> bool:
        """Take in more pairs; whether any was new."""
        before = self.keys.numel()
        self.keys = torch.unique(torch.cat([self.keys, i * self.b.numel() + j]))
        return self.keys.numel() > before

    def focus(self, f: Tensor, g: Tensor) -> None:
        """Reduce costs by better potentials and keep the pairs that are nearly tight.

        The simplex works to some digits of its largest cost: the smaller that is, the better.
        """
        m = self.b.numel()
        i, j = self.keys // m, self.keys % m
        self.base, self.scale, self.price, self.start = (f, g), FOCUS * self.scale, 1.0, None
        self.keys = self.keys[self.tiles.pairs(i, j) - f[i] - g[j] <= self.scale]

    def dearest(self, ceiling: float) -> float:
        """The price that no pair exceeds, if costs are at most ``ceiling``."""
        f, g = (float(h.abs().max()) for h in self.base)
        return (ceiling + f + g) / self.scale

    def solve(self) -> Round:
        """Network simplex on the pairs, from where the last round ended."""
        from ot.lp.emd_wrap import emd_c_sparse

        n, m = self.a.numel(), self.b.numel()
        i, j = self.keys // m, self.keys % m
        reduced = (self.tiles.pairs(i, j) - self.base[0][i] - self.base[1][j]) / self.scale
        prices = torch.full((n + m + 1,), self.price, dtype=torch.float64)
        prices[n] = 0.0  # from the extra source to the extra target
        sources = torch.cat([i, torch.arange(n + 1), torch.full((m,), n)])
        targets = torch.cat([j, torch.full((n + 1,), m), torch.arange(m)])
        one = torch.ones(1, dtype=torch.float64)
        start = self.start or (torch.zeros(n + 1).double(), torch.zeros(m + 1).double())
        found = emd_c_sparse(
            torch.cat([self.a, one]).numpy(),
            torch.cat([self.b, one]).numpy(),
            sources.numpy().astype(np.uint64),
            targets.numpy().astype(np.uint64),
            torch.cat([reduced, prices]).numpy(),
            MAX_STEPS,
            start[0].numpy(),
            start[1].numpy(),
        )
        *flows, _, f, g, code = found
        rows, columns = (torch.from_numpy(z.astype(np.int64)) for z in flows[:2])
        mass = torch.from_numpy(np.asarray(flows[2]))
        self.start = torch.from_numpy(np.array(f)), torch.from_numpy(np.array(g))
        real = (rows < n) & (columns < m)
        g = self.start[1][:m]
        # The simplex leaves the rounding of its artificial costs in the potentials: they are n + m
        # times the largest that it is given.
        f = torch.full((n,), torch.inf, dtype=torch.float64)
        f.scatter_reduce_(0, i, reduced - g[j], "amin")
        return Round(
            rows[real],
            columns[real],
            mass[real],
            f * self.scale + self.base[0],
            g * self.scale + self.base[1],
            float(mass[(rows < n) & ~real].sum()),
            EPSILON * (n + m) * self.scale * max(self.price, float(reduced.abs().max())),
            code == 1,
        )


def solve_restricted(
    ground: GroundCost, x: Tensor, y: Tensor, a: Tensor, b: Tensor, *, rounds: int = ROUNDS
) -> Solution:
    """The transport programme between many points, without ever holding all costs.

    Few pairs carry mass, at most n + m − 1, and all of them have reduced cost zero. Column
    generation: solve on candidate pairs; compute the reduced costs c_ij − f_i − g_j of all pairs,
    tile by tile; add those below zero and solve again. When there is none, the potentials are
    feasible for the whole programme, hence the plan is optimal for it. The last sweep computes
    distances from differences, so that no rounding of an expanded square is in the proof.

    Args:
        ground: A cost that can be evaluated on single pairs.
        x: Embedded points, shape (n, d).
        y: Embedded points, shape (m, d).
        a: Weights, in float64; zeros are allowed.
        b: Weights of y.
        rounds: Most programmes solved before giving up.

    References:
        Schmitzer (2016), A sparse multiscale algorithm for dense optimal transport; Merigot (2011),
        A multiscale approach to optimal transport.
    """
    rows, columns = a.nonzero().squeeze(1), b.nonzero().squeeze(1)
    tiles = CostTiles(ground, x[rows].cpu(), y[columns].cpu())
    last, low, steps, closed = _generate(tiles, a[rows], b[columns], rounds)
    u, v = tiles.offsets()
    f, g = torch.zeros_like(a), torch.full_like(b, -torch.inf)
    f[rows], g[columns] = (last.f + low + u) * tiles.unit, (last.g + v) * tiles.unit
    if rows.numel() < a.numel() or columns.numel() < b.numel():
        _fill_idle(ground, x.cpu(), y.cpu(), f, g, rows, columns)
    free, given = balanced(f.numpy(), g.numpy(), a.numpy(), b.numpy())
    dual = float(a.numpy() @ free + b.numpy() @ given)
    i, j = rows[last.rows], columns[last.columns]
    # Twice: for the tiles, whose costs lack what no plan can change, and for what is returned.
    scale = cost_scale(tiles)[0]
    reduced = float(last.mass @ tiles.pairs(last.rows, last.columns))
    proven = float(a[rows] @ (last.f + low) + b[columns] @ last.g)
    paid = float(last.mass @ ground.pairs(x.cpu()[i], y.cpu()[j]))
    met = _met(reduced, proven, scale) and _met(paid, dual, scale * tiles.unit)
    return Solution(
        rows=i.numpy(),
        columns=j.numpy(),
        mass=last.mass.numpy(),
        f=free,
        g=given,
        dual=dual,
        steps=steps,
        optimal=closed and met,
    )


def _met(paid: float, proven: float, scale: float) -> bool:
    """Whether plan and potentials agree; a gap far below zero means that mass is missing."""
    return abs(paid - proven) <= CLOSED * abs(paid) + NEGATIVE * scale


def _generate(
    tiles: CostTiles, a: Tensor, b: Tensor, rounds: int
) -> tuple[Round, Tensor, int, bool]:
    """The last round, by how much f has to fall to be feasible, rounds made, and success."""
    scale, rounding = cost_scale(tiles)
    tolerance = max(NEGATIVE * scale, rounding)
    base = entropic_potentials(tiles, a, b, scale)
    master = Master(tiles, a, b, base, scale)
    i, j = nearest_pairs(tiles, base[1], NEIGHBOURS)
    master.add(i, j)
    j, i = nearest_pairs(tiles.flipped, base[0], NEIGHBOURS)
    master.add(i, j)
    ceiling = largest_cost(tiles)
    exact, dust = False, DUST * (a.numel() + b.numel()) ** 0.5
    for steps in range(1, rounds + 1):
        found = master.solve()
        due = max(tolerance, found.rounding)
        i, j, low = missing_pairs(tiles, found.f, found.g, due, exact=exact)
        # Pairs that are in already miss by rounding only.
        grown = master.add(i, j)
        if found.idle > dust and master.price < master.dearest(ceiling):
            master.price *= 2.0 if grown else 16.0
        elif exact and not grown:
            return found, low, steps, found.finished and found.idle <= LOST
        elif not grown:
            exact = True
            master.focus(found.f + low, found.g)
    return found, low, steps, False


def missing_pairs(
    tiles: CostTiles, f: Tensor, g: Tensor, tolerance: float, *, exact: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of negative reduced cost, the worst of each point, and the minimum of each row."""
    few = min(GROWTH, g.numel())
    values, targets = f.new_empty(f.numel(), few), torch.empty(f.numel(), few, dtype=torch.int64)
    worst, sources = torch.full_like(g, torch.inf), torch.zeros(g.numel(), dtype=torch.int64)
    for block, tile in tiles.exact() if exact else tiles.quick(torch.float64):
        tile.sub_(g).sub_(f[block].unsqueeze(1))
        out = values[block], targets[block]
        torch.topk(tile, few, dim=1, largest=False, out=out)
        least, i = tile.min(0)
        torch.where(least < worst, i.add_(block.start), sources, out=sources)
        torch.minimum(worst, least, out=worst)
    rows, slots = (values < -tolerance).nonzero(as_tuple=True)
    short = (worst < -tolerance).nonzero().squeeze(1)
    columns = targets[rows, slots]
    return torch.cat([rows, sources[short]]), torch.cat([columns, short]), values.amin(1)


def _fill_idle(
    ground: GroundCost,
    x: Tensor,
    y: Tensor,
    f: Tensor,
    g: Tensor,
    rows: Tensor,
    columns: Tensor,
) -> None:
    """Potentials of points without mass, in place: the price at which they would be used."""
    idle = torch.ones_like(g, dtype=torch.bool)
    idle[columns] = False
    for part in idle.nonzero().squeeze(1).split(BLOCK):
        least = [
            (ground.matrix(x[some], y[part]) - f[some].unsqueeze(1)).amin(0)
            for some in rows.split(BLOCK)
        ]
        g[part] = torch.stack(least).amin(0)
    resting = torch.ones_like(f, dtype=torch.bool)
    resting[rows] = False
    for part in resting.nonzero().squeeze(1).split(BLOCK):
        least = [
            (ground.matrix(x[part], y[some]) - g[some]).amin(1)
            for some in torch.arange(g.numel()).split(BLOCK)
        ]
        f[part] = torch.stack(least).amin(0)
