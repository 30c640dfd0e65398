"""Nearest neighbours in linear memory, every close call decided in float64.

The pairwise engine answers with rounded distances. Here distances are compared with distances, and
a model that copies has ties everywhere, so lower bounds *screen* pairs (`screen`), and whatever
rounding could change is looked at again as a float64 sum of squared differences. Screening is also
what makes it fast: columns are folded by minima of groups, and only groups that can matter are
opened.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.metrics import screen
from probmetrics.metrics.mutual import decided, nearest_within, serves
from probmetrics.metrics.screen import Bounds, Screen, blocks, distinct, folded
from probmetrics.pairwise.threads import run_tasks

FOLD = 32  # most columns folded into one minimum
HELD = 2**17  # candidates gathered before they are decided


def plain(x: Tensor, y: Tensor, *, minimum: int, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """Two checked samples without batch dimensions."""
    x, y = checks.samples(x, y, minimum=minimum, names=names)
    for z, name in ((x, names[0]), (y, names[1])):
        if z.ndim != 2:
            raise ValueError(
                f"{name} must have shape (n, d), one problem at a time; got {tuple(z.shape)}"
            )
    return x.detach(), y.detach()


def single(x: Tensor, *, minimum: int, name: str) -> Tensor:
    """One checked sample without batch dimensions."""
    x = checks.sample(x, minimum=minimum, name=name)
    if x.ndim != 2:
        raise ValueError(
            f"{name} must have shape (n, d), one problem at a time; got {tuple(x.shape)}"
        )
    return x.detach()


def nearest(x: Tensor, y: Tensor | None = None, k: int = 1) -> tuple[Tensor, Tensor]:
    """Squared distances (n, k), float64, ascending, and indices of the k nearest points of y.

    With y None, those of x itself, each point left out of its own neighbours (its copies are not).
    The distances are sums of squared differences of the rows as they are, so the distance of a
    copy is exactly zero; of equally near points the first come first.
    """
    others = x if y is None else y
    if k > len(others) - (y is None):
        raise ValueError(
            f"k={k} neighbours were asked for and there are {len(others) - (y is None)} "
            f"{'other ' if y is None else ''}points; lower k or add points"
        )
    names = _few_copies(others, k + (y is None))
    if y is None and names is None and serves(x, k):
        return nearest_within(x, k)
    search = _Search(x, others if names is None else others[names], names, k, skip=y is None)
    tasks = list(blocks(len(x), screen.tile_rows(x.device)))
    if x.device.type == "cpu":
        run_tasks(search.work, tasks, len(x) * len(search.y))
    else:
        with torch.no_grad():
            search.work(tasks)
    return search.squares, search.indices


class _Search:
    """The search for the k nearest columns of every row.

    Args:
        x: Rows.
        y: Columns.
        names: The number of each column among all, ascending; None: its place.
        k: How many.
        skip: Leave the column out that bears the row's number.
    """

    def __init__(self, x: Tensor, y: Tensor, names: Tensor | None, k: int, *, skip: bool) -> None:
        self.x, self.y, self.k, self.skip = x, y, k, skip
        self.names = torch.arange(len(y), device=x.device) if names is None else names
        most = max(1, min(FOLD, len(y) // (4 * k), len(y) // 64))
        self.fold = 2 ** (most.bit_length() - 1)
        self.screen = Screen(x, y, self.fold)
        self.squares = x.new_empty((len(x), k), dtype=torch.float64)
        self.indices = torch.empty((len(x), k), dtype=torch.int64, device=x.device)

    def work(self, tasks: Sequence[slice]) -> None:
        """Answer for some blocks of rows."""
        bounds = self.screen.bounds
        buffer = bounds.buffer(screen.tile_rows(self.x.device), screen.COLUMNS)
        held: list[tuple[Tensor, Tensor]] = []
        for rows in tasks:
            found = self._candidates(bounds, rows, buffer)
            while found is None:
                bounds = self.screen.refined(bounds) or bounds
                buffer = bounds.buffer(screen.tile_rows(self.x.device), screen.COLUMNS)
                found = self._candidates(bounds, rows, buffer)
            held.append(found)
            if sum(len(row) for row, _ in held) > HELD:
                self._decide(held)
                held = []
        if held:
            self._decide(held)

    def _candidates(
        self, bounds: Bounds, rows: slice, buffer: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Rows and columns of all pairs that may be among the nearest; None: too many to tell."""
        best = buffer.new_empty(len(self.x[rows]), 0)
        found: list[tuple[Tensor, ...]] = []
        for columns in blocks(self.screen.columns, screen.COLUMNS):
            tile = bounds.tile(slice(rows.start, min(rows.stop, len(self.x))), columns, buffer)
            if self.skip:
                self._leave_out(tile, rows, columns)
            minima = folded(tile, self.fold)
            best = torch.cat([best, minima], 1)
            best = best.topk(min(self.k, best.shape[1]), largest=False).values
            limit = self._limit(bounds, rows, best)
            row, group = (minima <= limit.unsqueeze(-1)).nonzero(as_tuple=True)
            crowded = len(row) * self.fold * screen.SHARE > max(tile.numel(), screen.LARGE)
            if crowded and bounds.dtype != torch.float64:
                return None
            row, column, value = screen.opened(tile, self.fold, row, group, limit)
            found.append((row, column + columns.start, value))
        row, column, value = (torch.cat(parts) for parts in zip(*found, strict=True))
        kept = (value <= limit[row]) & (column < len(self.y))
        return row[kept] + rows.start, column[kept]

    def _limit(self, bounds: Bounds, rows: slice, best: Tensor) -> Tensor:
        """What the k-th nearest column's bound cannot exceed, from the k smallest bounds so far."""
        if best.shape[1] < self.k:
            return best.new_full((len(best),), torch.inf)
        return bounds.limit(best[:, -1], rows)

    def _leave_out(self, tile: Tensor, rows: slice, columns: slice) -> None:
        """Infinity where a column bears the number of the row."""
        names = self.names[columns]
        ends = torch.tensor([rows.start, rows.stop], device=names.device)
        low, high = torch.searchsorted(names, ends).tolist()
        place = torch.arange(low, high, device=names.device)
        tile[names[low:high] - rows.start, place] = torch.inf

    def _decide(self, held: list[tuple[Tensor, Tensor]]) -> None:
        """The k nearest of each row's candidates by float64 differences, ties by number."""
        row, column = (torch.cat(parts) for parts in zip(*held, strict=True))
        which, exact, found = decided(self.x, self.y, row, column, self.k)
        self.squares[which], self.indices[which] = exact, self.names[found]


def _few_copies(x: Tensor, most: int) -> Tensor | None:
    """The rows but for copies that come after ``most`` others of their like; None: all."""
    found = distinct(x)
    if found is None or bool((found[1] < most).all()):
        return None
    return (found[1] < most).nonzero().squeeze(-1)
