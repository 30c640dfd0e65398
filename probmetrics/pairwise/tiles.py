"""Samples prepared so that one matrix product gives a tile of any ground."""

import contextvars
import copy
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics._checks import readable
from probmetrics.pairwise.centring import centre_of, coarse, coarse_blocks
from probmetrics.pairwise.ground import AbstractGround, InnerGeometry, SquaredGeometry

ROWS = 512
COLUMNS = 512
SMALL = 2**16  # pairs of a problem that is too small to be split
TOGETHER = 2**19  # entries per thread of a tile of many small problems
SPLIT = range(2**15, 2**25)  # pairs for which torch's threads share a tile by its rows,
PARTS = 8  # and the most of them;
SHARED = 1024  # rows and columns of such a tile: sharing an operation has a price of its own
KEPT = 2**22  # bytes of a tile's memory that a thread keeps for the next call
CUDA_TILE = 2**24  # entries of a tile on a device with many cores,
SMALLER = 2**20  # and once its memory has run out
tile_entries = contextvars.ContextVar("tile_entries", default=CUDA_TILE)


@dataclass(frozen=True)
class Block:
    """Some batch entries and some rows of the matrix."""

    entries: slice
    rows: slice


def blocks(length: int, size: int) -> list[slice]:
    """[0, length) in slices of at most ``size``."""
    return [slice(i, min(i + size, length)) for i in range(0, length, size)]


_kept = threading.local()


def scratch(entries: int, like: Tensor, place: int = 0) -> Tensor:
    """Memory for a tile, which each thread keeps: fresh pages cost more than the arithmetic.

    Args:
        entries: How many numbers.
        like: Whose dtype and device.
        place: Tiles that are in use together have places of their own.
    """
    size = entries * like.element_size()
    if type(like) is not Tensor or like.device.type != "cpu" or size > KEPT:
        return torch.empty(entries, dtype=like.dtype, device=like.device)
    held: dict[int, Tensor] = _kept.__dict__.setdefault("held", {})
    if place not in held or held[place].numel() < size:
        with torch.inference_mode(False):  # the next call may not be in inference mode
            held[place] = torch.empty(size, dtype=torch.uint8)
    return held[place][:size].view(like.dtype)


def retried(sweep: Callable[[], Any]) -> Any:
    """A sweep over tiles; where the device's memory runs out, once more over smaller ones."""
    try:
        return sweep()
    except torch.OutOfMemoryError:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    token = tile_entries.set(SMALLER)
    try:
        return sweep()
    except torch.OutOfMemoryError as error:
        raise without_memory(f"tiles of {SMALLER} pairs", error) from error
    finally:
        tile_entries.reset(token)


def without_memory(beside: str, error: Exception) -> torch.OutOfMemoryError:
    """The error that says what to do where a device's memory is too small."""
    return torch.OutOfMemoryError(
        f"the samples do not fit beside {beside}: use fewer points per call, "
        f"backend=Sharded(...) over more devices, or the CPU ({error})"
    )


class Pairs:
    """Two flattened samples and a ground, ready to be evaluated tile by tile.

    For squared distances the augmented product of u = r·[−2x, ‖x‖², 1] with v = [y, 1, ‖y‖²]
    gives s = r·‖x − y‖² at once, r being the ground's rate. Both samples are centred first.

    Args:
        ground: A ground with numeric parameters and an aligned geometry.
        x: Embedded points, shape (B, n, d).
        y: Embedded points, shape (B, m, d), or x itself.
        border: Where x is two samples one after the other, the number of points of the first.
        split: Let torch's threads share each tile by its rows where that is faster than giving
            each thread tiles of its own, whose operations wait for Python's lock.
    """

    def __init__(
        self,
        ground: AbstractGround,
        x: Tensor,
        y: Tensor,
        *,
        border: int | None = None,
        split: bool = False,
    ) -> None:
        self.same, self.most = y is x, tile_entries.get()  # threads have contexts of their own
        x, y = x.detach(), y.detach()
        self.ground = ground
        self.batch, self.n, self.d = x.shape
        self.m = y.shape[-2]
        self.border = border
        cpu = x.device.type == "cpu"
        self.threads = min(torch.get_num_threads(), PARTS) if cpu else 1
        self.shared = split and cpu and self.batch * self.n * self.m in SPLIT
        self.parts = self.threads if self.shared else 1
        rate = ground.rate(self.d)
        assert not isinstance(rate, Tensor) or rate.ndim == 0
        self.rate = float(rate)
        self.dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        if isinstance(ground.geometry, SquaredGeometry):
            centre = centre_of(x) if self.same else centre_of(x, y)
            norms = self._augment(x, y, centre)
            if self.dtype != torch.float64 and self._too_coarse(x, y, norms):
                self.dtype = torch.float64
                self._augment(x, y, centre)
        elif isinstance(ground.geometry, InnerGeometry):
            self.u, self.v = self.rate * x.to(self.dtype), y.to(self.dtype)
        else:
            self.u, self.v = x.to(self.dtype), y.to(self.dtype)
        if ground.has_offset:
            self.row_offset = ground.offset(x.to(self.dtype))
            self.column_offset = ground.offset(y.to(self.dtype))

    def _too_coarse(self, x: Tensor, y: Tensor, norms: Sequence[Tensor]) -> bool:
        """Whether float32 would lose the distances that matter: those of a kernel's length scale.

        Without such a scale, the shorter ones between points. Told on the CPU only; elsewhere
        reading values would stall the device.
        """
        if not readable(x):
            return False
        largest = max(float(each.max()) for each in norms)
        scaled = self.rate != 1.0 and not self.ground.kinked
        length = abs(self.rate) ** -0.5 if scaled else None
        if self.border is None or scaled:
            return coarse(largest, x, y, length)
        first, second = x[:, : self.border], x[:, self.border :]
        return coarse_blocks(largest, first, second)

    def part(self, rows: slice, columns: slice) -> "Pairs":
        """The pairs of some rows and some columns, prepared as they are here."""
        part = copy.copy(self)
        part.u, part.v = self.u[:, rows], self.v[:, columns]
        part.n, part.m = part.u.shape[-2], part.v.shape[-2]
        part.same = self.same and rows == columns
        part.__dict__.pop("tile_shape", None)
        if self.ground.has_offset:
            part.row_offset = self.row_offset[:, rows]
            part.column_offset = self.column_offset[:, columns]
        return part

    def _augment(self, x: Tensor, y: Tensor, centre: Tensor) -> list[Tensor]:
        """Prepare u and v; returns the squared norms in them."""
        # Rounding of the product can leave a tie at a small distance above zero, which a square
        # root would magnify; a distance below the resolution counts as zero.
        snap = 4.0 * torch.finfo(self.dtype).eps if self.ground.kinked else 0.0
        d, centre = self.d, centre.to(self.dtype)
        self.v = y.new_empty(self.batch, self.m, d + 2, dtype=self.dtype)
        columns = torch.sub(y.to(self.dtype), centre, out=self.v[..., :d])
        self.v[..., d] = 1.0
        norms = [_squared_norms(columns)]
        self.v[..., d + 1] = norms[0]
        self.u = x.new_empty(self.batch, self.n, d + 2, dtype=self.dtype)
        rows = columns
        if not self.same:
            rows = torch.sub(x.to(self.dtype), centre, out=self.u[..., :d])
            norms.append(_squared_norms(rows))
        torch.mul(rows, -2.0 * self.rate, out=self.u[..., :d])
        torch.mul(norms[-1], self.rate * (1.0 - snap), out=self.u[..., d])
        self.u[..., d + 1] = self.rate
        return norms

    def arguments(self, entries: slice, rows: slice, columns: slice, buffer: Tensor) -> Tensor:
        """s = rate · t on a tile, shape (entries, rows, columns), written into ``buffer``."""
        u, v = self.u[entries, rows], self.v[entries, columns]
        shape = (u.shape[0], u.shape[1], v.shape[1])
        if not isinstance(self.ground.geometry, SquaredGeometry | InnerGeometry):
            assert self.ground.geometry is not None
            return self.rate * self.ground.geometry.matrix(u, v)
        s = buffer[: shape[0] * shape[1] * shape[2]].view(shape)
        left = self.cut(u)
        if len(left) == 1:
            torch.mm(u[0], v[0].T, out=s[0])
        else:
            torch.bmm(left, v.expand(len(left), -1, -1).mT, out=self.cut(s))
        if isinstance(self.ground.geometry, SquaredGeometry):
            if self.same and rows == columns:
                s.diagonal(dim1=-2, dim2=-1).zero_()
            s.clamp_(min=0.0) if self.rate > 0 else s.clamp_(max=0.0)
        return s

    def cut(self, tile: Tensor) -> Tensor:
        """A tile, or its rows of u, in one part per thread: (1, rows, c) → (parts, rows', c).

        Torch deals the entries of an operation out to its threads in order, so a part stays in
        the cache of one core from operation to operation.
        """
        whole = self.parts == 1 or tile.shape[0] > 1 or tile.shape[1] % self.parts
        return tile if whole else tile.view(self.parts, -1, tile.shape[2])

    def values(self, s: Tensor, entries: slice, rows: slice, columns: slice) -> Tensor:
        """The ground on a tile from its arguments, which may be overwritten."""
        tile = self.ground.tile(s, self.d)
        if self.ground.has_offset:
            tile += self.row_offset[entries, rows].unsqueeze(-1)
            tile += self.column_offset[entries, columns].unsqueeze(-2)
        return tile

    def values_and_slopes(
        self, s: Tensor, entries: slice, rows: slice, columns: slice, spare: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both from the arguments of a tile, in its memory and in ``spare``, but for a factor.

        Slopes that are a multiple of the values are the values, and want ``slope_factor``.
        """
        if self.slope_factor != 1.0:
            tile = self.values(s, entries, rows, columns)
            return tile, tile
        tile, slopes = self.ground.tile_with_slope(s, self.d, spare[: s.numel()].view_as(s))
        if self.ground.has_offset:
            tile += self.row_offset[entries, rows].unsqueeze(-1)
            tile += self.column_offset[entries, columns].unsqueeze(-2)
        return tile, slopes

    @property
    def slope_factor(self) -> float:
        """The constant c of slope = c · value, as for a Gaussian; one where there is none."""
        multiple = None if self.ground.has_offset else self.ground.slope_multiple(self.d)
        return 1.0 if multiple is None else multiple

    def slopes_(self, s: Tensor) -> Tensor:
        """The derivative on a tile in the memory of its arguments, but for ``slope_factor``."""
        if self.slope_factor != 1.0:
            return self.ground.tile(s, self.d)
        return self.ground.tile_slope_(s, self.d)

    def slopes(self, s: Tensor) -> Tensor:
        """The derivative of the ground in t on a tile, in fresh memory."""
        return self.ground.tile_slope(s, self.d)

    def pull_rows(self, u: Tensor, sums: Tensor) -> Tensor:
        """Gradient in the rows u from sums = Σ_j M_ij v_j, M the weighted slopes: shape (…, d).

        For squared distances ∂t/∂x_i = 2 (x_i − y_j), so Σ_j M_ij ∂t/∂x_i needs only M·y and M·1.
        """
        if isinstance(self.ground.geometry, InnerGeometry):
            return sums
        d = self.d
        pulled = u[..., :d] * sums[..., d : d + 1]
        return pulled.mul_(-1.0 / self.rate).sub_(sums[..., :d], alpha=2.0)

    def pull_columns(self, v: Tensor, sums: Tensor) -> Tensor:
        """Gradient in the columns v from sums = Σ_i M_ij u_i, shape (…, d)."""
        if isinstance(self.ground.geometry, InnerGeometry):
            return sums / self.rate
        d = self.d
        pulled = v[..., :d] * sums[..., d + 1 : d + 2]
        return pulled.mul_(2.0 / self.rate).add_(sums[..., :d], alpha=1.0 / self.rate)

    def add_as_columns(self, held: Tensor, sums: Tensor) -> None:
        """Add Σ_j M_ij v_j, transposed, to Σ_i M_ij u_i: of one sample with itself only."""
        if isinstance(self.ground.geometry, InnerGeometry):
            held.add_(sums, alpha=self.rate)
            return
        d = self.d
        held[..., :d, :].add_(sums[..., :d, :], alpha=-2.0 * self.rate)
        held[..., d + 1, :].add_(sums[..., d, :], alpha=self.rate)

    @property
    def together(self) -> bool:
        """Whether these are many small problems.

        One operation then covers enough of them to be shared by torch's own threads: whole
        problems go to each core, and a tile stays where it is from one operation to the next.
        """
        return self.batch > 1 and 0 < self.n * self.m <= SMALL

    @functools.cached_property
    def tile_shape(self) -> tuple[int, int, int]:
        """Batch entries, rows and columns of a tile that stays in cache."""
        if self.u.device.type != "cpu":
            most = self.most
            side = int(most**0.5)
            rows, columns = min(self.n, side), min(self.m, side)
            return max(1, most // (rows * columns)), rows, columns
        if self.together:
            most = min(self.threads * TOGETHER, KEPT // self.u.element_size())
            return max(1, most // (self.n * self.m)), self.n, self.m
        if self.shared:  # the same tiles for any number of threads: sums do not depend on it
            return 1, min(self.n, SHARED), min(self.m, SHARED)
        rows, columns = min(self.n, ROWS), min(self.m, COLUMNS)
        return max(1, ROWS * COLUMNS // (rows * columns)), rows, columns

    def buffer(self, place: int = 0) -> Tensor:
        """Memory for one tile, to be reused."""
        entries, rows, columns = self.tile_shape
        return scratch(min(entries, self.batch) * rows * columns, self.u, place)

    def row_blocks(self) -> list[Block]:
        """All rows of all batch entries, in tasks."""
        entries, rows, _ = self.tile_shape
        return [
            Block(e, r) for e in blocks(self.batch, entries) for r in self._pieces(self.n, rows)
        ]

    def column_blocks(self, start: int = 0) -> Iterator[slice]:
        """The columns from ``start`` on, in tiles."""
        _, _, columns = self.tile_shape
        pieces = self._pieces(self.m, columns) if self.same else blocks(self.m, columns)
        for piece in pieces:
            if piece.start >= start:
                yield piece

    def _pieces(self, length: int, size: int) -> list[slice]:
        """[0, length) in slices that parts divide, but for a last one of fewer than ``parts``."""
        even = length - length % self.parts
        size = max(self.parts, size - size % self.parts)
        return [*blocks(even, size), *([slice(even, length)] if even < length else [])]

    @property
    def count(self) -> int:
        """Number of pairs to share among threads of our own; none where torch's do better."""
        return 0 if self.together or self.parts > 1 else self.batch * self.n * self.m


def _squared_norms(points: Tensor) -> Tensor:
    """‖x‖² of each point; without a copy of many coordinates."""
    if points.numel() <= 2**17:
        return points.square().sum(-1)
    return torch.einsum("...d,...d->...", points, points)
