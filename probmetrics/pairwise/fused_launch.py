"""Two samples prepared for the fused kernels, and the launch of each kernel."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise import products
from probmetrics.pairwise.centring import centre_of
from probmetrics.pairwise.fused_forms import Form
from probmetrics.pairwise.fused_table import Blocks, blocks_for
from probmetrics.pairwise.kernels import LN2, LOG2E

DIRECT = 8  # coordinates up to which differences are cheaper than a matrix product
WARPS = 8  # of programs in float64, at least
WAVES = 2  # programs wanted per processor before columns are split no further
PAIRS_OF_STRIPES = 8  # programs wanted per processor for a sample with itself: they vary in size
SLOTS = 2**28  # bytes of its partial results


def kernel(name: str) -> Any:
    """A kernel by name; importing them is what needs Triton."""
    from probmetrics.pairwise import fused_kernels, fused_mirrored

    module = fused_mirrored if name.startswith("mirrored") else fused_kernels
    return getattr(module, f"{name}_kernel")


def processors(device: torch.device) -> int:
    """How many blocks of rows a device works on at once."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@dataclass(frozen=True)
class Plan:
    """2^(rows_i + scale · profile_ij + columns_j), e.g. a transport plan; all in base 2."""

    rows: Tensor
    columns: Tensor
    scales: Tensor

    def swapped(self) -> "Plan":
        """The transposed plan."""
        return Plan(self.columns, self.rows, self.scales)


class Samples:
    """Two flattened samples in units of the ground's length, centred, with their norms.

    Under TF32 and bfloat16 the points are rounded to the format first: the products of rounded
    points are then exact, and so are, up to float32, the distances between them.

    Args:
        form: The ground.
        x: Points, shape (B, n, d).
        y: Points, shape (B, m, d), or x itself.
    """

    def __init__(self, form: Form, x: Tensor, y: Tensor) -> None:
        self.form, self.same = form, y is x
        self.dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        self.product = not form.l1 and self.dtype == torch.float32 and x.shape[-1] > DIRECT
        asked = products.asked() if self.product else "ieee"
        self.precision = "ieee" if asked == "bf16" else asked
        x, y = x.detach(), y.detach()
        centre = centre_of(x) if self.same else centre_of(x, y)
        self.x = self._points(x, centre, asked)
        self.y = self.x if self.same else self._points(y, centre, asked)
        self.yy = self._norms(self.y)
        # As in tiles.py: a distance below the resolution of the product counts as zero.
        snap = 4.0 * torch.finfo(self.dtype).eps if form.kinked and self.product else 0.0
        self.xx = (self.yy if self.same else self._norms(self.x)) * (1.0 - snap)

    def _points(self, x: Tensor, centre: Tensor, asked: str) -> Tensor:
        points = (x - centre).to(self.dtype).mul_(self.form.length).contiguous()
        if asked == "bf16":  # NumPy, and so the interpreter, knows no products of this type
            rounded = points.bfloat16()
            return rounded if points.is_cuda else rounded.to(self.dtype)
        return _tf32(points) if asked == "tf32" else points

    def _norms(self, points: Tensor) -> Tensor:
        if not self.product:  # only their dtype is looked at
            return points.new_empty(points.shape[:-1], dtype=self.dtype)
        return points.to(self.dtype).square().sum(-1)

    def swapped(self) -> "Samples":
        """The same pairs with rows and columns exchanged."""
        other = object.__new__(Samples)
        other.__dict__.update(self.__dict__)
        other.x, other.y, other.xx, other.yy = self.y, self.x, self.yy, self.xx
        return other

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, n, m, d."""
        return len(self.x), self.x.shape[1], self.y.shape[1], self.x.shape[2]

    def weighted_sum(self, w: Tensor, plan: Plan | None = None, *, half: bool = False) -> Tensor:
        """Σ_j profile_ij w_jc, or Σ_j plan_ij w_jc, shape (B, n, c), in float64."""
        batch, n, m, d = self.sizes
        w = w.detach().to(self.dtype).contiguous()
        c = w.shape[-1]
        if c == 0:
            return w.new_zeros(batch, n, c, dtype=torch.float64)
        # A float64 matrix product is not everywhere; its columns are taken one by one.
        width = 1 if c == 1 or self.dtype == torch.float64 else 16 if c <= 16 else 32
        if self.same and plan is None and not half and width == 1:
            mirrored = Mirrored(self, "mirrored_weighted_sum", c, slot=8 * c)
            slots = mirrored.slots(0.0, c)
            if slots is not None:
                mirrored(w, slots, batch, n, d, c, mirrored.pairs)
                return slots.sum(0)
        launch = self._launch("weighted_sum", cdiv(c, width))
        out = w.new_empty(launch.splits, batch, n, c, dtype=torch.float64)
        launch(
            *self._plan(plan), w, out, batch, n, m, d, c, launch.span,
            HALF=half, PLAN=plan is not None, WIDTH=width,
        )  # fmt: skip
        return out.sum(0)

    def pull(
        self, left: Tensor, right: Tensor, plan: Plan | None = None, *, both: bool = False
    ) -> Tensor:
        """Gradient in x of Σ_ijc left_ic profile_ij right_jc, shape (B, n, d).

        With a plan, of Σ_ijc left_ic plan_ij profile_ij right_jc, the plan held fixed. With
        ``both``, for a sample with itself, the gradient through its rows and its columns.
        """
        batch, n, m, d = self.sizes
        left, right = (v.detach().to(self.dtype).contiguous() for v in (left, right))
        width = min(64, power_of_two(d, 16 if self.product else 1))
        launch = self._launch("pull", cdiv(d, width))
        out = left.new_empty(launch.splits, batch, n, d)
        launch(
            *self._plan(plan), left, right, out, batch, n, m, d, left.shape[-1], launch.span,
            PLAN=plan is not None, BOTH=both, WIDTH=width,
        )  # fmt: skip
        return out.sum(0).mul_(self.form.length)

    def log_sum_exp(self, columns: Tensor, scales: Tensor) -> Tensor:
        """ln Σ_j 2^(columns_j + scales · profile_ij), shape (B, n), in float64."""
        batch, n, m, d = self.sizes
        if self.same and d > DIRECT:  # in few, exponentials are the work, as many either way
            mirrored = Mirrored(self, "mirrored_log_sum_exp", slot=28)  # 12, and 16 to merge
            tops, masses = mirrored.slots(-math.inf, dtype=self.dtype), mirrored.slots(0.0)
            if tops is not None and masses is not None:
                mirrored(columns, scales, tops, masses, batch, n, d, mirrored.pairs)
                return masses.log_().add_(tops, alpha=LN2).logsumexp(0)
        launch = self._launch("log_sum_exp")
        out = columns.new_empty(launch.splits, batch, n, dtype=torch.float64)
        launch(columns, scales, out, batch, n, m, d, launch.span)
        return out.logsumexp(0)

    def k_smallest(self, k: int, offsets: Tensor, scales: Tensor, *, skip: bool) -> Tensor:
        """Columns of the k smallest scales · profile_ij + offsets_j, (B, n, k), unordered."""
        batch, n, m, d = self.sizes
        launch = self._launch("k_smallest")
        values = offsets.new_empty(launch.splits, batch, n, k)
        indices = torch.empty_like(values, dtype=torch.int64)
        width = power_of_two(k, 2)
        launch(
            offsets, scales, values, indices, batch, n, m, d, k, launch.span,
            SKIP=skip, WIDTH=width,
        )  # fmt: skip
        if launch.splits == 1:
            return indices[0]
        pool, places = values.movedim(0, -2).flatten(-2), indices.movedim(0, -2).flatten(-2)
        return places.gather(-1, pool.topk(k, dim=-1, largest=False).indices)

    def count_within(self, rows: Tensor, columns: Tensor, scales: Tensor) -> Tensor:
        """Number of columns with scales · profile_ij < rows_i + columns_j, (B, n), int64."""
        batch, n, m, d = self.sizes
        if self.same:
            mirrored = Mirrored(self, "mirrored_count_within", slot=8)
            slots = mirrored.slots(0, dtype=torch.int64)
            if slots is not None:
                mirrored(rows, columns, scales, slots, batch, n, d, mirrored.pairs)
                return slots.sum(0)
        launch = self._launch("count_within")
        out = rows.new_empty(launch.splits, batch, n, dtype=torch.int64)
        launch(rows, columns, scales, out, batch, n, m, d, launch.span)
        return out.sum(0)

    def _plan(self, plan: Plan | None) -> tuple[Tensor, Tensor, Tensor]:
        if plan is not None:
            return plan.rows, plan.columns, plan.scales
        return self.xx, self.yy, self.xx  # placeholders that are not read for their values

    def _launch(self, name: str, layers: int = 1) -> "Launch":
        return Launch(self, name, layers)


class Launch:
    """One kernel on one pair of samples: its blocks, its splits, its grid."""

    def __init__(self, samples: Samples, name: str, layers: int) -> None:
        batch, n, m, d = samples.sizes
        self.samples, self.name, self.layers = samples, name, layers
        device = samples.x.device
        self.blocks: Blocks = blocks_for(name, d, device, product=samples.product)
        if samples.dtype == torch.float64:  # whose tiles take twice the registers
            self.blocks = replace(self.blocks, warps=max(WARPS, self.blocks.warps))
        self.programs = batch * cdiv(n, self.blocks.rows)
        steps = cdiv(m, self.blocks.columns)
        wanted = cdiv(WAVES * processors(device), self.programs * layers)
        self.splits = max(1, min(wanted, steps // 4))
        self.span = cdiv(steps, self.splits) * self.blocks.columns
        self.splits = cdiv(m, self.span)

    def __call__(self, *arguments: Any, **choices: Any) -> None:
        s, b = self.samples, self.blocks
        depth = min(b.depth, power_of_two(s.sizes[3], 16))
        run: Callable[..., None] = kernel(self.name)[(self.programs, self.splits, self.layers)]
        with torch.cuda.device_of(s.x):
            run(
                s.x, s.y, s.xx, s.yy, *arguments,
                KIND=int(s.form.kind), POWER=s.form.power, SAME=s.same, L1=s.form.l1,
                PRODUCT=s.product, PRECISION=s.precision,
                ROWS=b.rows, COLUMNS=b.columns, DEPTH=depth, CHUNKS=cdiv(s.sizes[3], depth),
                num_warps=b.warps, num_stages=b.stages, **choices,
            )  # fmt: skip


class Mirrored(Launch):
    """A kernel on a sample with itself, a program for each pair of stripes of its points.

    Args:
        samples: One sample, given twice.
        name: The kernel.
        layers: Programs that share a pair of stripes.
        slot: Bytes that each stripe keeps per point.
    """

    def __init__(self, samples: Samples, name: str, layers: int = 1, *, slot: int) -> None:
        super().__init__(samples, name, layers)
        batch, n, _, _ = samples.sizes
        device = samples.x.device
        unit = max(self.blocks.rows, self.blocks.columns)  # both are powers of two
        blocks = cdiv(n, unit)
        wanted = cdiv(PAIRS_OF_STRIPES * processors(device), batch * layers)
        stripes, room = min(blocks, math.isqrt(2 * wanted) + 1), SLOTS // (slot * batch * n)
        # in fewer stripes most of a device would be idle; one square has nothing to mirror
        self.fits = blocks > 1 and 2 * room >= stripes
        self.stripes = max(1, min(stripes, room))
        ends = torch.arange(self.stripes + 1, device=device) * blocks // self.stripes
        self.bounds = (ends * unit).clamp_(max=n)
        self.first, self.second = torch.triu_indices(self.stripes, self.stripes, device=device)
        self.pairs = len(self.first)
        self.programs, self.splits = batch * self.pairs, 1

    def slots(self, value: float, *width: int, dtype: torch.dtype = torch.float64) -> Tensor | None:
        """Partial results, shape (stripes, B, n, *width); None where they do not fit."""
        if not self.fits:
            return None
        x = self.samples.x
        try:
            return x.new_full((self.stripes, *x.shape[:2], *width), value, dtype=dtype)
        except torch.OutOfMemoryError:
            return None

    def __call__(self, *arguments: Any, **choices: Any) -> None:
        super().__call__(self.first, self.second, self.bounds, *arguments, **choices)


def in_base_two(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Exponents of e as exponents of two."""
    return (values.detach().to(dtype) * LOG2E).contiguous()


def cdiv(a: int, b: int) -> int:
    """⌈a / b⌉."""
    return -(-a // b)


def power_of_two(value: int, least: int) -> int:
    """The smallest power of two that is at least both."""
    return max(least, 1 << (value - 1).bit_length())


def _tf32(points: Tensor) -> Tensor:
    """Rounded to the ten bits of mantissa of TF32, ties to even; NaN and infinity as they are."""
    bits = points.view(torch.int32)
    rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF
    return torch.where(points.isfinite(), rounded.view(torch.float32), points)
