"""Triton kernels for a sample with itself: each tile is made once and serves rows and columns.

The points are cut into stripes; a program owns one pair of stripes (I, J), I ≤ J. What a tile
says of the rows of I it writes to slot (J, i), what it says of the rows of J to slot (I, j). A slot
has one writer, so that nothing is added atomically and results do not vary from run to run; slots
are merged afterwards. Squares of max(ROWS, COLUMNS) points on the diagonal are made whole and serve
their rows alone: no entry has to be masked, and a weight may be infinite.

Arguments that all kernels share, beyond those of fused_kernels.py:
    firsts, seconds: The stripes I and J of each program of one problem, int64, (pairs).
    bounds: Where stripes begin, int64, (stripes + 1): multiples of max(ROWS, COLUMNS), then n.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
import triton
import triton.language as tl

from probmetrics.pairwise.fused_tiles import arguments, exponents, merge, profile


@triton.jit
def _absorb(place, value, mask):
    """Add to memory that this program alone writes; later reads of any of its threads see it."""
    value += tl.load(place, mask=mask, other=0.0)
    tl.debug_barrier()
    tl.store(place, value, mask=mask)
    tl.debug_barrier()


@triton.jit
def _absorb_exponents(tops, masses, place, top, mass, mask):
    """Add mass · 2^top to memory that this program alone writes, kept in the same form."""
    old = tl.load(tops + place, mask=mask, other=-float("inf"))
    held = tl.load(masses + place, mask=mask, other=0.0)
    tl.debug_barrier()
    top, mass = merge(old, held, top, mass)
    tl.store(tops + place, top, mask=mask)
    tl.store(masses + place, mass, mask=mask)
    tl.debug_barrier()


@triton.jit
def _stripes(firsts, seconds, bounds, pairs):
    """The problem b of a program, its stripes I and J, and where each begins and ends."""
    b = (tl.program_id(0) // pairs).to(tl.int64)
    first = tl.load(firsts + tl.program_id(0) % pairs)
    second = tl.load(seconds + tl.program_id(0) % pairs)
    above, below = tl.load(bounds + first), tl.load(bounds + first + 1)
    return b, first, second, above, below, tl.load(bounds + second), tl.load(bounds + second + 1)


@triton.jit
def _square(row, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Where the square on the diagonal that holds a row begins, and where it ends."""
    size: tl.constexpr = max(ROWS, COLUMNS)
    return (row // size) * size, (row // size + 1) * size


@triton.jit
def mirrored_weighted_sum_kernel(
    x, y, xx, yy, firsts, seconds, bounds, w, out, batch, n, d, c, pairs,
    KIND: tl.constexpr, POWER: tl.constexpr, SAME: tl.constexpr, L1: tl.constexpr,
    PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """out_ic = Σ_j G_ij w_jc, a program for each column c.

    Args (beyond the shared ones):
        w: Weights, (B, n, c).
        out: Zeros, float64, (stripes, B, n, c).
    """
    b, first, second, above, below, begin, end = _stripes(firsts, seconds, bounds, pairs)
    x, y, xx, yy = x + b * n * d, y + b * n * d, xx + b * n, yy + b * n
    w += b * n * c + tl.program_id(2)
    out += tl.program_id(2)
    for row in range(above, below, ROWS):
        i = row + tl.arange(0, ROWS).to(tl.int64)
        square, beyond = _square(row, ROWS, COLUMNS)
        mine = tl.load(w + i * c, mask=i < n, other=0.0)
        total = tl.zeros((ROWS,), tl.float64)
        for start in range(tl.maximum(begin, square), end, COLUMNS):
            j = start + tl.arange(0, COLUMNS).to(tl.int64)
            s = arguments(x, y, xx, yy, i, j, n, n, d,
                           SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
            tile = profile(s, KIND, POWER)
            theirs = tl.load(w + j * c, mask=j < n, other=0.0)
            total += tl.sum(tile * theirs[None, :], 1).to(tl.float64)
            if start >= beyond:
                given = tl.sum(tile * mine[:, None], 0).to(tl.float64)
                _absorb(out + ((first * batch + b) * n + j) * c, given, j < n)
        _absorb(out + ((second * batch + b) * n + i) * c, total, i < n)


@triton.jit
def mirrored_log_sum_exp_kernel(
    x, y, xx, yy, firsts, seconds, bounds, column_exponent, scales, tops, masses,
    batch, n, d, pairs,
    KIND: tl.constexpr, POWER: tl.constexpr, SAME: tl.constexpr, L1: tl.constexpr,
    PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Σ_j 2^(column_j + scale · G_ij) = Σ masses_i · 2^tops_i over the slots.

    Args (beyond the shared ones):
        column_exponent, scales: (B, n), (B), both times log₂ e.
        tops: −∞, in the dtype of the arithmetic, (stripes, B, n).
        masses: Zeros, float64, (stripes, B, n).
    """
    b, first, second, above, below, begin, end = _stripes(firsts, seconds, bounds, pairs)
    x, y, xx, yy = x + b * n * d, y + b * n * d, xx + b * n, yy + b * n
    column_exponent += b * n
    scale = tl.load(scales + b)
    low = -float("inf")
    for row in range(above, below, ROWS):
        i = row + tl.arange(0, ROWS).to(tl.int64)
        square, beyond = _square(row, ROWS, COLUMNS)
        mine = tl.load(column_exponent + i, mask=i < n, other=low)
        top = tl.full((ROWS,), low, xx.dtype.element_ty)
        mass = tl.zeros((ROWS,), tl.float64)
        for start in range(tl.maximum(begin, square), end, COLUMNS):
            j = start + tl.arange(0, COLUMNS).to(tl.int64)
            s = arguments(x, y, xx, yy, i, j, n, n, d,
                           SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
            z = scale * profile(s, KIND, POWER)
            theirs = tl.load(column_exponent + j, mask=j < n, other=low)
            fresh_top, fresh = exponents(z + theirs[None, :], 1)
            top, mass = merge(top, mass, fresh_top, fresh)
            if start >= beyond:
                given_top, given = exponents(z + mine[:, None], 0)
                place = (first * batch + b) * n + j
                _absorb_exponents(tops, masses, place, given_top, given, j < n)
        place = (second * batch + b) * n + i
        _absorb_exponents(tops, masses, place, top, mass, i < n)


@triton.jit
def mirrored_count_within_kernel(
    x, y, xx, yy, firsts, seconds, bounds, row_bound, column_bound, scales, out,
    batch, n, d, pairs,
    KIND: tl.constexpr, POWER: tl.constexpr, SAME: tl.constexpr, L1: tl.constexpr,
    PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """How many columns satisfy scale · G_ij < row_i + column_j, strictly.

    Args (beyond the shared ones):
        row_bound, column_bound, scales: (B, n), (B, n), (B).
        out: Zeros, int64, (stripes, B, n).
    """
    b, first, second, above, below, begin, end = _stripes(firsts, seconds, bounds, pairs)
    x, y, xx, yy = x + b * n * d, y + b * n * d, xx + b * n, yy + b * n
    row_bound += b * n
    column_bound += b * n
    scale = tl.load(scales + b)
    for row in range(above, below, ROWS):
        i = row + tl.arange(0, ROWS).to(tl.int64)
        square, beyond = _square(row, ROWS, COLUMNS)
        row_i = tl.load(row_bound + i, mask=i < n, other=0.0)
        column_i = tl.load(column_bound + i, mask=i < n, other=0.0)
        total = tl.zeros((ROWS,), tl.int64)
        for start in range(tl.maximum(begin, square), end, COLUMNS):
            j = start + tl.arange(0, COLUMNS).to(tl.int64)
            s = arguments(x, y, xx, yy, i, j, n, n, d,
                           SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
            value = scale * profile(s, KIND, POWER)
            row_j = tl.load(row_bound + j, mask=j < n, other=0.0)
            column_j = tl.load(column_bound + j, mask=j < n, other=0.0)
            inside = (i < n)[:, None] & (j < n)[None, :]
            within = inside & (value < row_i[:, None] + column_j[None, :])
            total += tl.sum(within.to(tl.int32), 1).to(tl.int64)
            if start >= beyond:
                within = inside & (value < row_j[None, :] + column_i[:, None])
                given = tl.sum(within.to(tl.int32), 0).to(tl.int64)
                _absorb(out + (first * batch + b) * n + j, given, j < n)
        _absorb(out + (second * batch + b) * n + i, total, i < n)
