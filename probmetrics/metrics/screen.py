"""Lower bounds of squared distances in tiles, from one matrix product in single precision.

A rounded distance can only *screen* pairs when one knows how far rounding may have moved it. Here
the bound is built into the product: what comes out of it is at most the true squared distance, and
short of it by at most a known share of ‖x‖² + ‖y‖². Whatever the bound leaves open is decided by
whoever asks, from float64 differences. Where single precision leaves too much open (narrow
clusters far apart, ties) the same tiles come in double precision.
"""

import math
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise.ground import centre_of

ROWS = 256  # of a tile: a share of a core's cache,
DEVICE_ROWS = 2**12  # or of a device's
COLUMNS = 2**14
ALIGNED = 16  # widths are multiples of it where that is a small waste
OPENED = 2**17  # numbers gathered at a time,
DEVICE_OPENED = 2**24  # or on a device
TINY = {torch.float32: 1e-30, torch.float64: 1e-280}  # what underflow may cost at norms near one
SHARE = 8  # a tile of which more than one in this many pairs is open needs more digits,
LARGE = 2**16  # if it has as many pairs as this


class Bounds:
    """L with L_ij ≤ ‖x_i − y_j‖² / scale² ≤ L_ij + slack · (‖x̂_i‖² + ‖ŷ_j‖²) + tiny.

    x̂, ŷ are the points moved to a common middle and divided by ``scale``, a power of two at least
    the largest coordinate. With u the unit roundoff of the product's dtype, three roundings
    matter, each as a share of ‖x̂‖² + ‖ŷ‖²: of the points, 8u; of the norms, (d + 1) u; of a sum of
    d + 2 products in any order, 2.1 (d + 2) u. The slack is twice a bound of their sum.

    Args:
        x: Points, shape (n, d).
        y: Points, shape (m, d).
        dtype: float32 or float64.
        fold: Rows and columns are padded to a multiple of it, with bounds of infinity.
    """

    def __init__(self, x: Tensor, y: Tensor, dtype: torch.dtype, fold: int) -> None:
        self.dtype, self.tiny = dtype, TINY[dtype]
        share = share_lost(x.shape[-1], dtype)
        self.slack = 2.0 * share
        middle = centre_of(x, y).double()
        moved = [z.double() - middle for z in ((x,) if y is x else (x, y))]
        largest = max(float(z.abs().max()) if z.numel() else 0.0 for z in moved)
        self.scale = 2.0 ** min(math.frexp(largest)[1], 1023)
        parts = []
        for z in moved:
            z.div_(self.scale)
            points = z.to(dtype)
            norms = points.double().square().sum(-1)
            parts.append((points, norms))
        (rows, self.norms_x), (columns, self.norms_y) = parts[0], parts[-1]
        self.left = self._augmented(-2.0 * rows, self.norms_x, share, fold, first=True)
        self.right = self._augmented(columns, self.norms_y, share, fold, first=False)

    def _augmented(
        self, points: Tensor, norms: Tensor, share: float, fold: int, *, first: bool
    ) -> Tensor:
        n, d = points.shape
        unit = ALIGNED * fold if n > 8 * ALIGNED * fold else fold
        made = points.new_zeros(-(-n // unit) * unit, d + 2)
        made[:n, :d] = points
        norm, one = (d, d + 1) if first else (d + 1, d)
        made[:, norm] = torch.inf
        made[:n, norm] = (norms * (1.0 - share)).to(self.dtype)
        made[:, one] = 1.0
        return made

    def scaled(self, squares: Tensor) -> Tensor:
        """Squared distances in the unit of the tiles, float64."""
        return squares / self.scale / self.scale

    def farthest(self, lower: Tensor, rows: slice) -> Tensor:
        """What a squared distance from some rows is at most, float64, given bounds L (·, k) of it.

        A point with bound v is at most t = v + slack (‖x‖² + ‖y‖²) away, and ‖y‖² ≤ 2‖x‖² + 2t.
        """
        reach = lower.double().clamp(min=0.0) + (3.0 * self.slack * self.norms_x[rows]).unsqueeze(
            -1
        )
        return reach / (1.0 - 2.0 * self.slack) + 2.0 * self.tiny

    def limit(self, lower: Tensor, rows: slice) -> Tensor:
        """What the bound of a point no farther than those with bounds L (·,) cannot exceed."""
        top = self.farthest(lower.unsqueeze(-1), rows).squeeze(-1)
        limit: Tensor = (top * (1.0 + 4.0 * torch.finfo(self.dtype).eps)).to(self.dtype)
        return limit

    def tile(self, rows: slice, columns: slice, buffer: Tensor) -> Tensor:
        """L on a block of padded rows and columns, written into ``buffer``."""
        left, right = self.left[rows], self.right[columns]
        out = buffer[: len(left) * len(right)].view(len(left), len(right))
        return torch.mm(left, right.mT, out=out)

    def buffer(self, rows: int, columns: int) -> Tensor:
        """Memory for one tile of at most so many rows and columns, to be reused."""
        return self.left.new_empty(min(rows, len(self.left)) * min(columns, len(self.right)))


class Screen:
    """Bounds in single precision, and in double from the moment single leaves too much open."""

    def __init__(self, x: Tensor, y: Tensor, fold: int) -> None:
        self.points, self.fold = (x, y), fold
        self.lock = threading.Lock()
        self.bounds = Bounds(x, y, torch.float32 if _single_helps(x) else torch.float64, fold)

    @property
    def rows(self) -> int:
        """Padded rows."""
        return len(self.bounds.left)

    @property
    def columns(self) -> int:
        """Padded columns."""
        return len(self.bounds.right)

    def refined(self, bounds: Bounds) -> Bounds | None:
        """Sharper bounds than these; None where there are none."""
        if bounds.dtype == torch.float64:
            return None
        with self.lock:
            if self.bounds.dtype != torch.float64:
                self.bounds = Bounds(*self.points, torch.float64, self.fold)
            return self.bounds


def share_lost(d: int, dtype: torch.dtype) -> float:
    """The share of ‖x‖² + ‖y‖² by which rounding may change a squared distance, see `Bounds`."""
    return (4.0 * d + 16.0) * torch.finfo(dtype).eps / 2


def _single_helps(x: Tensor) -> bool:
    """Whether float32 products are float32 products, and have digits to offer in this dimension."""
    if share_lost(x.shape[-1], torch.float32) > 1 / 32:
        return False
    backend: Any = torch.backends.cuda if x.is_cuda else torch.backends.mkldnn
    places = [torch.backends, getattr(backend, "matmul", None)]
    asked = {getattr(place, "fp32_precision", None) for place in places} - {None}
    if not asked:  # an older torch
        return torch.get_float32_matmul_precision() == "highest"
    return asked <= {"none", "ieee"}


def tile_rows(device: torch.device) -> int:
    """Rows of a tile."""
    return ROWS if device.type == "cpu" else DEVICE_ROWS


def blocks(size: int, length: int) -> Iterator[slice]:
    """[0, size) in slices of at most ``length``."""
    for start in range(0, size, length):
        yield slice(start, min(start + length, size))


def folded(tile: Tensor, fold: int, axis: int = 1) -> Tensor:
    """Minima (lines, width) of the places p, p + width, p + 2 width, … of a line, ``fold`` each.

    Lines are rows and places columns; with ``axis`` 0 the reverse.
    """
    minima: Tensor = tile.unflatten(axis, (fold, tile.shape[axis] // fold)).amin(axis)
    return minima if axis else minima.mT


def opened(
    tile: Tensor, fold: int, line: Tensor, group: Tensor, limit: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Lines, places and values at or below ``limit`` (lines,) in listed groups of places."""
    width = tile.shape[-1] // fold
    values = tile.unflatten(-1, (fold, width))[line, :, group]
    hit, member = (values <= limit[line].unsqueeze(-1)).nonzero(as_tuple=True)
    return line[hit], group[hit] + width * member, values[hit, member]


def squared(x: Tensor, y: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """‖x_row − y_column‖² of listed pairs from their differences, float64."""
    most = OPENED if x.device.type == "cpu" else DEVICE_OPENED
    step = max(1, most // max(1, x.shape[-1]))
    parts = [
        (x[r].double() - y[c].double()).square().sum(-1)
        for r, c in zip(row.split(step), column.split(step), strict=True)
    ]
    return torch.cat(parts) if parts else x.new_zeros(0, dtype=torch.float64)


def _all_differ(values: Tensor) -> bool:
    ordered = values.sort().values
    return bool((ordered[1:] != ordered[:-1]).all())


def distinct(x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Which earlier row each row equals, shape (n,), and how many such come before it.

    None where all rows differ. Rows are told apart by a sum of their bits with odd weights, modulo
    2⁶⁴, which equal rows share; then equal sums are looked at. Most samples are told apart by a
    column alone.
    """
    if any(_all_differ(x[:, j]) for j in {0, x.shape[-1] - 1} if j >= 0):
        return None
    bits = (x.double() + 0.0).contiguous().view(torch.int64)  # −0 is 0
    source = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (x.shape[-1],), generator=source) * 2 + 1
    mixed = bits ^ (bits >> 31)
    mixed *= weights.to(x.device)
    mixed ^= mixed >> 29
    sums = mixed.sum(-1)
    order = sums.argsort(stable=True)
    ahead = sums[order]
    fresh = torch.ones_like(ahead, dtype=torch.bool)
    fresh[1:] = ahead[1:] != ahead[:-1]
    if bool(fresh.all()):
        return None
    place = torch.arange(len(x), device=x.device)
    start = torch.where(fresh, place, 0).cummax(0).values
    first, before = torch.empty_like(order), torch.empty_like(order)
    first[order], before[order] = order[start], place - start
    if not bool((x == x[first]).all()):  # sums that met by chance
        return None
    return first, before
