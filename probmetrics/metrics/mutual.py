"""Nearest neighbours within one sample, each distance bounded once for both of its ends."""

import itertools
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from probmetrics.metrics import screen
from probmetrics.metrics.screen import Bounds, Screen, blocks, folded, squared
from probmetrics.pairwise.threads import run_tasks

ROWS, COLUMNS = 2**10, 2**11  # of a tile
FOLD = 32  # places folded into one minimum
SLOTS = 16  # least bounds of a line that are kept; each tile fills them all, but for the last ones
HELD = 2**17  # candidates decided at a time
Tile = tuple[slice, slice]
Found = tuple[Tensor, Tensor, Tensor]  # lines, places, bounds of their distances


def serves(x: Tensor, k: int) -> bool:
    """Whether a sample is large enough, and k small enough, for tiles that are looked at twice."""
    return x.device.type == "cpu" and len(x) >= 2 * COLUMNS and 2 * k <= SLOTS


def nearest_within(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distances (n, k) of the k nearest other points, float64, and their numbers.

    Args:
        x: Points, shape (n, d).
        k: How many.

    Tiles on and above the diagonal are visited, the nearest to the diagonal first; each serves
    its rows and its columns. What a point's k-th neighbour is at most away is known better and
    better on the way; candidates are what lay within that when their tile was visited.
    """
    search = _Mutual(x, k)
    tiles = [
        (rows, columns)
        for rows in blocks(search.screen.rows, ROWS)
        for columns in blocks(search.screen.columns, COLUMNS)
        if columns.stop > rows.start
    ]
    tiles.sort(key=lambda tile: (tile[1].start - tile[0].start // COLUMNS * COLUMNS, tile[0].start))
    run_tasks(search.work, tiles, len(x) ** 2)
    row, column = search.candidates()
    order = row.argsort()
    row, column = row[order], column[order]
    step = max(1, min(-(-len(x) // torch.get_num_threads()), HELD * len(x) // len(row)))
    starts = torch.arange(0, len(x) + step, step)
    ends = torch.searchsorted(row, starts).tolist()
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    squares = x.new_empty((len(x), k), dtype=torch.float64)
    indices = torch.empty((len(x), k), dtype=torch.int64)

    def decide(shares: Sequence[slice]) -> None:
        for part in shares:
            which, exact, numbers = decided(x, x, row[part], column[part], k)
            squares[which], indices[which] = exact, numbers

    run_tasks(decide, parts, len(x) ** 2)
    return squares, indices


def decided(
    x: Tensor, y: Tensor, row: Tensor, column: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row's candidates the k nearest by float64 differences, ties by number.

    Returns:
        The rows (r,), squared distances (r, k) and columns (r, k).
    """
    exact = squared(x, y, row, column)
    order = column.argsort(stable=True)
    order = order[exact[order].argsort(stable=True)]
    order = order[row[order].argsort(stable=True)]
    which, counts = row[order].unique_consecutive(return_counts=True)
    first = counts.cumsum(0) - counts
    picked = order[first.unsqueeze(-1) + torch.arange(k, device=row.device)]
    return which, exact[picked], column[picked]


class _Mutual:
    """The candidates of every point, and how far away its k-th neighbour is at most.

    Args:
        x: Points.
        k: How many.
    """

    def __init__(self, x: Tensor, k: int) -> None:
        self.x, self.k = x, k
        self.screen = Screen(x, x, FOLD)
        self.lock = threading.Lock()
        # Of each line the least bound in each slot: places are dealt to the slots, so that the
        # k-th smallest of these minima is the bound of k different points at least.
        self.least = self.screen.bounds.left.new_full((len(x), SLOTS), torch.inf)
        self.found: list[Found] = []

    def work(self, tiles: Sequence[Tile]) -> None:
        """Look at some tiles."""
        bounds = self.screen.bounds
        buffer = bounds.buffer(ROWS, COLUMNS)
        held: list[Found] = []
        many = 4 * self.k * len(self.x) + HELD
        for rows, columns in tiles:
            found = self._tile(bounds, rows, columns, buffer)
            while found is None:
                bounds = self._refined(bounds)
                buffer = bounds.buffer(ROWS, COLUMNS)
                found = self._tile(bounds, rows, columns, buffer)
            held += found
            if sum(len(row) for row, _, _ in held) > many:
                held = [self._kept(held)]
                many = 2 * len(held[0][0]) + HELD
        with self.lock:
            self.found += held

    def candidates(self) -> tuple[Tensor, Tensor]:
        """Pairs of a point and what may be among its k nearest."""
        return self._kept(self.found)[:2]

    def _kept(self, held: list[Found]) -> Found:
        """Those candidates that what is known by now leaves."""
        row, column, value = (torch.cat(parts) for parts in zip(*held, strict=True))
        with self.lock:
            limit = self._limit(self.screen.bounds, slice(0, len(self.x)), self.least)
        kept = value <= limit[row]
        return row[kept], column[kept], value[kept]

    def _refined(self, bounds: Bounds) -> Bounds:
        """Bounds in double precision, and what is known in their terms."""
        sharper = self.screen.refined(bounds) or bounds
        with self.lock:
            if self.least.dtype != sharper.dtype:  # what lies above a distance bounds it too
                self.least = bounds.farthest(self.least, slice(0, len(self.x)))
        return sharper

    def _limit(self, bounds: Bounds, lines: slice, least: Tensor) -> Tensor:
        nearest = least.topk(self.k, largest=False, sorted=False).values.amax(-1)
        return bounds.limit(nearest, lines)

    def _tile(
        self, bounds: Bounds, rows: slice, columns: slice, buffer: Tensor
    ) -> list[Found] | None:
        """The candidates in one tile, of its rows and of its columns; None: too many to tell."""
        tile = bounds.tile(rows, columns, buffer)
        sides = [(1, tile, rows, columns)]
        if rows.start < columns.stop and columns.start < rows.stop:  # on the diagonal
            tile.diagonal(rows.start - columns.start).fill_(torch.inf)
        else:
            sides.append((0, tile.mT, columns, rows))
        found = []
        for axis, view, lines, places in sides:
            minima = folded(tile, FOLD, axis)
            limit = self._learn(bounds, lines, minima)
            line, group = (minima <= limit.unsqueeze(-1)).nonzero(as_tuple=True)
            room = max(tile.numel(), screen.LARGE, 2 * screen.SHARE * self.k * FOLD * len(view))
            if len(line) * FOLD * screen.SHARE > room and bounds.dtype != torch.float64:
                return None
            line, place, value = screen.opened(view, FOLD, line, group, limit)
            found.append((line + lines.start, place + places.start, value))
        return found

    def _learn(self, bounds: Bounds, lines: slice, minima: Tensor) -> Tensor:
        """Up to which bound a place may be among a line's nearest; −∞ for padding."""
        within = slice(lines.start, min(lines.stop, len(self.x)))
        count = within.stop - within.start
        least = minima.new_full((count, SLOTS), torch.inf)
        for dealt in minima[:count].split(SLOTS, 1):
            part = least[:, : dealt.shape[1]]
            torch.minimum(part, dealt, out=part)
        with self.lock:
            known = self.least[within]
            if known.dtype != bounds.dtype:
                known.copy_(torch.minimum(known, bounds.farthest(least, within)))
            else:
                torch.minimum(known, least, out=known)
            least = known.to(bounds.dtype, copy=True)
        limit = minima.new_full((len(minima),), -torch.inf)
        limit[:count] = self._limit(bounds, within, least)
        return limit
