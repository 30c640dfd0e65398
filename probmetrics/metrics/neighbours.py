"""Nearest neighbours and ball counts in linear memory, every close call decided in float64.

The pairwise engine answers with rounded distances. Precision and recall compare distances with
distances, and a model that copies has ties everywhere, so here rounded distances only *screen*
pairs: whatever rounding could change is looked at again as a float64 sum of squared differences.
Screening is also what makes it fast: columns are folded by minima of groups, and only groups that
can matter are opened.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from probmetrics import _checks as checks

ROWS = 512  # of a block
COLUMNS = 2**14
GROUPS = 32  # columns folded into one minimum
TIE = 1e-13  # squared distances that agree to this share of themselves are equal
OPENED = 2**21  # numbers gathered at a time


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
    copy is exactly zero.
    """
    others = x if y is None else y
    if k > len(others) - (y is None):
        raise ValueError(
            f"k={k} neighbours were asked for and there are {len(others) - (y is None)} "
            f"{'other ' if y is None else ''}points; lower k or add points"
        )
    screen = _Screen(x, others)
    squares = x.new_empty((len(x), k), dtype=torch.float64)
    indices = torch.empty((len(x), k), dtype=torch.int64, device=x.device)
    for rows in _blocks(len(x), ROWS):
        best: list[Tensor] = []
        for columns in _blocks(len(others), COLUMNS):
            tile = screen.tile(rows, columns)
            if y is None:
                _leave_out(tile, rows, columns)
            best.append(_smallest(tile, k))
        bounds = torch.cat(best, 1)
        # Whatever rounding lets be among the k nearest is a candidate.
        limit = bounds.topk(k, largest=False).values[:, -1:] + 2 * screen.slack
        found = _candidates(screen, rows, len(others), limit, skip=y is None)
        squares[rows], indices[rows] = _decided(x[rows], others, found, k)
    return squares, indices


def count_balls(x: Tensor, y: Tensor, radii: Tensor, *, closed: bool = False) -> Tensor:
    """In how many of the balls around the points of y each point of x lies, shape (n,).

    Args:
        x: Points, shape (n, d).
        y: Centres, shape (m, d).
        radii: *Squared* radii, shape (m,), float64.
        closed: Count points on the sphere too; by default ‖x − y‖ < r, strictly. Distances equal
            to 13 digits are ties.
    """
    screen = _Screen(x, y, radii)
    counts = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for rows in _blocks(len(x), ROWS):
        for columns in _blocks(len(y), COLUMNS):
            tile = screen.tile(rows, columns)
            row, column = _below(tile, screen.slack)
            margin = tile[row, column]
            counts[rows] += torch.bincount(row[margin < -screen.slack], minlength=len(tile))
            close = margin >= -screen.slack
            row, column = row[close], column[close] + columns.start
            exact, radius = squared(x[rows], y, row, column), radii[column]
            tied = (exact - radius).abs() <= TIE * radius
            inside = (exact < radius) & ~tied | (tied & closed)
            counts[rows] += torch.bincount(row[inside], minlength=len(tile))
    return counts


def squared(x: Tensor, y: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """‖x_row − y_column‖² of listed pairs, float64."""
    step = max(1, OPENED // x.shape[-1])
    parts = [
        (x[r].double() - y[c].double()).square().sum(-1)
        for r, c in zip(row.split(step), column.split(step), strict=True)
    ]
    return torch.cat(parts) if parts else x.new_zeros(0, dtype=torch.float64)


class _Screen:
    """Rounded ‖x_i − y_j‖² − r_j in tiles, in one reused buffer, and how far rounding may go."""

    def __init__(self, x: Tensor, y: Tensor, radii: Tensor | None = None) -> None:
        # Centred and scaled to norms of at most one, where single precision is at its best.
        middle = y.double().mean(0)
        x_c, y_c = x.double() - middle, y.double() - middle
        size = max(float(z.square().sum(-1).max()) for z in (x_c, y_c)) or 1.0
        self.scale = size
        self.slack = 16 * (4 + x.shape[-1] ** 0.5) * torch.finfo(torch.float32).eps
        self.x, self.y = ((z / size**0.5).float() for z in (x_c, y_c))
        bias = self.y.double().square().sum(-1)
        self.bias = (bias if radii is None else bias - radii / size).float()
        if radii is not None:  # rounding of large radii counts too
            self.slack *= 1 + float(radii.max()) / size
        self.own = self.x.double().square().sum(-1).float()
        self.buffer = self.x.new_empty(ROWS * min(COLUMNS, len(y)))

    def tile(self, rows: slice, columns: slice) -> Tensor:
        """Rounded values of a block; overwritten by the next call."""
        x, y = self.x[rows], self.y[columns]
        out: Tensor = self.buffer[: len(x) * len(y)].view(len(x), len(y))
        torch.addmm(self.bias[columns], x, y.mT, alpha=-2.0, out=out)
        out += self.own[rows].unsqueeze(-1)
        return out


def _blocks(size: int, length: int) -> Iterator[slice]:
    for start in range(0, size, length):
        yield slice(start, min(start + length, size))


def _leave_out(tile: Tensor, rows: slice, columns: slice) -> None:
    """Infinity on the diagonal of the whole matrix."""
    low, high = max(rows.start, columns.start), min(rows.stop, columns.stop)
    if low < high:
        i = torch.arange(low, high, device=tile.device)
        tile[i - rows.start, i - columns.start] = torch.inf


def _folded(tile: Tensor) -> tuple[Tensor, int]:
    """Minima (rows, width) of the columns j, j + width, j + 2 width, …; the rest is left over."""
    width = tile.shape[-1] // GROUPS
    whole = tile[:, : GROUPS * width].unflatten(-1, (GROUPS, width))
    return whole.amin(1), width


def _smallest(tile: Tensor, k: int) -> Tensor:
    """The k smallest values of each row (fewer of few columns)."""
    m = tile.shape[-1]
    if m < 4 * GROUPS * k:
        return tile.topk(min(k, m), largest=False).values
    # The k smallest lie in the k groups with the smallest minima, or among the left-over columns.
    minima, width = _folded(tile)
    group = minima.topk(k, largest=False).indices
    opened = (group.unsqueeze(-1) + width * torch.arange(GROUPS, device=tile.device)).flatten(1)
    values = torch.cat([tile.gather(1, opened), tile[:, GROUPS * width :]], 1)
    return values.topk(k, largest=False).values


def _below(tile: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Rows and columns of the values at or below a bound, without reading all values twice."""
    m = tile.shape[-1]
    if m < 4 * GROUPS:
        row, column = (tile <= bound).nonzero(as_tuple=True)
        return row, column
    minima, width = _folded(tile)
    row, group = (minima <= bound).nonzero(as_tuple=True)
    members = group.unsqueeze(-1) + width * torch.arange(GROUPS, device=tile.device)
    values = tile[row.unsqueeze(-1), members]
    hit, member = (values <= bound).nonzero(as_tuple=True)
    late, column = (tile[:, GROUPS * width :] <= bound).nonzero(as_tuple=True)
    rows = torch.cat([row[hit], late])
    return rows, torch.cat([members[hit, member], column + GROUPS * width])


def _candidates(
    screen: _Screen,
    rows: slice,
    m: int,
    limit: Tensor,
    *,
    skip: bool,
) -> tuple[Tensor, Tensor]:
    """Rows and columns of all pairs whose rounded value is at or below a limit per row.

    One block of columns is still in the buffer; more of them are computed again.
    """
    found_rows, found_columns = [], []
    several = m > COLUMNS
    for columns in _blocks(m, COLUMNS):
        if several:
            tile = screen.tile(rows, columns)
            if skip:
                _leave_out(tile, rows, columns)
        else:
            n = len(screen.x[rows])
            tile = screen.buffer[: n * m].view(n, m)
        row, column = _below(tile.sub_(limit), 0.0)
        found_rows.append(row)
        found_columns.append(column + columns.start)
    return torch.cat(found_rows), torch.cat(found_columns)


def _decided(x: Tensor, y: Tensor, found: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of each row's candidates by float64 differences, ties by index."""
    row, column = found
    exact = squared(x, y, row, column)
    order = column.argsort(stable=True)
    order = order[exact[order].argsort(stable=True)]
    order = order[row[order].argsort(stable=True)]
    counts = torch.bincount(row, minlength=len(x))
    first = counts.cumsum(0) - counts
    picked = order[first.unsqueeze(-1) + torch.arange(k, device=x.device)]
    return exact[picked], column[picked]
