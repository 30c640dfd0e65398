"""Which points of one sample lie in balls around the points of another, counted in one sweep."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics.metrics import screen
from probmetrics.metrics.screen import Bounds, Screen, blocks, distinct, folded, squared
from probmetrics.pairwise.threads import run_tasks

FOLD = 32
ROWS, COLUMNS = 2**10, 2**11  # of a tile on a CPU
TIE = 1e-13  # squared distances that agree to this share of themselves are equal


@dataclass
class Balls:
    """Counts of the pairs (i, j) within a radius.

    Attributes:
        rows: For each x_i, how many y_j are within, int64.
        columns: For each y_j, how many x_i are within, int64.
    """

    rows: Tensor
    columns: Tensor

    def add(self, other: "Balls") -> None:
        self.rows += other.rows
        self.columns += other.columns


def count_balls(x: Tensor, y: Tensor, radii: Tensor, *, closed: bool = False) -> Tensor:
    """In how many of the balls around the points of y each point of x lies, shape (n,).

    Args:
        x: Points, shape (n, d).
        y: Centres, shape (m, d).
        radii: *Squared* radii, shape (m,), float64.
        closed: Count points on the sphere too; by default ‖x − y‖ < r, strictly. Distances equal
            to 13 digits are ties.
    """
    return within(x, y, of_columns=radii, closed=closed)[1].rows


def within(
    x: Tensor,
    y: Tensor,
    *,
    of_rows: Tensor | None = None,
    of_columns: Tensor | None = None,
    closed: bool = False,
) -> tuple[Balls, Balls]:
    """The pairs in the balls around the points of x, and in those around the points of y.

    Args:
        x: Points, shape (n, d).
        y: Points, shape (m, d).
        of_rows: Squared radii of the balls around x, shape (n,), float64; None: no such balls.
        of_columns: Squared radii of the balls around y, shape (m,).
        closed: Whether spheres belong to their balls, see ``count_balls``.
    """
    sides = [_Side.of(z, radii) for z, radii in ((x, of_rows), (y, of_columns))]
    sweep = _Sweep(sides[0], sides[1], closed=closed)
    tasks = list(blocks(sweep.screen.rows, sweep.shape[0]))
    if x.device.type == "cpu":
        run_tasks(sweep.work, tasks, sides[0].size * sides[1].size)
    else:
        with torch.no_grad():
            sweep.work(tasks)
    both = [sweep.empty() for _ in range(2)]
    for share in sweep.shares:
        for total, part in zip(both, share, strict=True):
            total.add(part)
    for found in both:
        found.rows, found.columns = sides[0].spread(found.rows), sides[1].spread(found.columns)
    return both[0], both[1]


@dataclass
class _Side:
    """A sample, its radii, and of rows that occur several times one with its weight."""

    points: Tensor
    radii: Tensor | None
    weights: Tensor | None
    inverse: Tensor | None

    @classmethod
    def of(cls, points: Tensor, radii: Tensor | None) -> "_Side":
        told = points.double()
        found = distinct(told)
        if found is not None and radii is not None:
            found = distinct(torch.cat([told, radii.unsqueeze(-1)], 1))
        if found is None:
            return cls(points, radii, None, None)
        kept, inverse, weights = found[0].unique(return_inverse=True, return_counts=True)
        return cls(points[kept], None if radii is None else radii[kept], weights, inverse)

    @property
    def size(self) -> int:
        return len(self.points)

    def spread(self, counts: Tensor) -> Tensor:
        """What was counted for distinct points, for all."""
        return counts if self.inverse is None else counts[self.inverse]


class _Sweep:
    """One pass over the tiles of all pairs."""

    def __init__(self, x: _Side, y: _Side, *, closed: bool) -> None:
        self.x, self.y, self.closed = x, y, closed
        self.screen = Screen(x.points, y.points, FOLD)
        self.shares: list[tuple[Balls, Balls]] = []
        on_cpu = x.points.device.type == "cpu"
        self.shape = (ROWS, COLUMNS) if on_cpu else (screen.DEVICE_ROWS, screen.COLUMNS)

    def empty(self) -> Balls:
        """Counts of nothing."""
        device = self.x.points.device
        sizes = (self.x.size, self.y.size)
        return Balls(*(torch.zeros(n, dtype=torch.int64, device=device) for n in sizes))

    def work(self, tasks: Sequence[slice]) -> None:
        """Count in some blocks of rows."""
        bounds = self.screen.bounds
        buffer = bounds.buffer(*self.shape)
        totals = self.empty(), self.empty()
        for rows in tasks:
            for columns in blocks(self.screen.columns, self.shape[1]):
                while not self._tile(bounds, rows, columns, buffer, totals):
                    bounds = self.screen.refined(bounds) or bounds
                    buffer = bounds.buffer(*self.shape)
        self.shares.append(totals)

    def _tile(
        self,
        bounds: Bounds,
        rows: slice,
        columns: slice,
        buffer: Tensor,
        totals: tuple[Balls, Balls],
    ) -> bool:
        """Count in one tile; False where the bounds leave too much of it open."""
        tile = bounds.tile(rows, columns, buffer)
        kinds = [("of_rows", self.x.radii, rows), ("of_columns", self.y.radii, columns)]
        settled = []
        for total, (kind, radii, part) in zip(totals, kinds, strict=True):
            if radii is None:
                continue
            found = _Settled(bounds, tile, rows, columns, radii[part], turned=kind == "of_columns")
            if found.crowded and bounds.dtype != torch.float64:
                return False
            settled.append((total, found))
        for total, found in settled:
            self._book(total, found, rows, columns)
        return True

    def _book(self, total: Balls, found: "_Settled", rows: slice, columns: slice) -> None:
        """Decide the open pairs of a tile and add up all that are inside."""
        row, column = found.open
        radius = found.radii[column if found.turned else row]
        row, column = row + rows.start, column + columns.start
        exact = squared(self.x.points, self.y.points, row, column)
        tied = (exact - radius).abs() <= TIE * radius
        inside = (exact < radius) & ~tied | (tied & self.closed)
        sure = found.sure
        row = torch.cat([sure[0] + rows.start, row[inside]])
        column = torch.cat([sure[1] + columns.start, column[inside]])
        total.rows += _tally(row, column, self.y.weights, self.x.size)
        total.columns += _tally(column, row, self.x.weights, self.y.size)
        if found.dense is not None:
            inside_rows = slice(rows.start, min(rows.stop, self.x.size))
            inside_columns = slice(columns.start, min(columns.stop, self.y.size))
            total.rows[inside_rows] += _sums(found.dense, self.y.weights, inside_columns)
            total.columns[inside_columns] += _sums(found.dense.mT, self.x.weights, inside_rows)


class _Settled:
    """What the bounds of a tile say: pairs inside for sure, listed or as a mask, and open ones.

    Args:
        bounds: Where the tile comes from.
        tile: L, padded.
        rows: Of the tile, padded.
        columns: Likewise.
        radii: Squared radii, of the rows or, with ``turned``, of the columns.
        turned: Whose balls these are.
    """

    def __init__(
        self,
        bounds: Bounds,
        tile: Tensor,
        rows: slice,
        columns: slice,
        radii: Tensor,
        *,
        turned: bool,
    ) -> None:
        self.bounds, self.radii, self.turned = bounds, radii, turned
        self.norms = bounds.norms_x[rows], bounds.norms_y[columns]
        self.dense: Tensor | None = None
        none = torch.zeros(0, dtype=torch.int64, device=tile.device)
        self.sure = self.open = (none, none)
        scaled = bounds.scaled(radii)
        digits = 4.0 * torch.finfo(bounds.dtype).eps
        high = scaled * (1.0 + digits + 2.0 * TIE) + 2.0 * bounds.tiny
        low = scaled * (1.0 - digits - 2.0 * TIE) - 2.0 * bounds.tiny
        view = tile.mT if turned else tile
        limit = tile.new_full((len(view),), -torch.inf)
        limit[: len(high)] = high.to(tile.dtype)
        minima = folded(tile, FOLD, axis=0 if turned else 1)
        line, group = (minima <= limit.unsqueeze(-1)).nonzero(as_tuple=True)
        if len(line) * FOLD * screen.SHARE > tile.numel():
            self._mask(view[: len(low)], low.to(tile.dtype), limit[: len(low)])
        else:
            self._list(view, line, group, limit, low)
        self.crowded = len(self.open[0]) * screen.SHARE > max(tile.numel(), screen.LARGE)

    def _list(self, view: Tensor, line: Tensor, group: Tensor, limit: Tensor, low: Tensor) -> None:
        line, place, value = screen.opened(view, FOLD, line, group, limit)
        row, column = (place, line) if self.turned else (line, place)
        size = self.norms[0][row] + self.norms[1][column]
        sure = value.double() + self.bounds.slack * size < low[line]
        self.sure, self.open = (row[sure], column[sure]), (row[~sure], column[~sure])

    def _mask(self, view: Tensor, low: Tensor, limit: Tensor) -> None:
        lines, places = self.norms[::-1] if self.turned else self.norms
        view = view[:, : len(places)]
        slack = 1.25 * self.bounds.slack  # for the rounding of these sums
        upper = view + (slack * lines).to(view.dtype).unsqueeze(-1)
        upper += (slack * places).to(view.dtype)
        inside = upper < low.unsqueeze(-1)
        line, place = ((view <= limit.unsqueeze(-1)) & ~inside).nonzero(as_tuple=True)
        self.dense = inside.mT if self.turned else inside
        self.open = (place, line) if self.turned else (line, place)


def _tally(at: Tensor, other: Tensor, weights: Tensor | None, size: int) -> Tensor:
    """How often each index occurs, a pair counting as often as its other point occurs."""
    if weights is None:
        return at.bincount(minlength=size)
    return at.bincount(weights[other].double(), minlength=size).long()


def _sums(mask: Tensor, weights: Tensor | None, places: slice) -> Tensor:
    """Sums of a mask along its last axis, places weighted."""
    if weights is None:
        return mask.sum(-1)
    return (mask.double() @ weights[places].double()).long()
