"""Triton kernels that fold the matrix of pairs without leaving the registers of a GPU.

Points arrive centred and in units of the ground's length, so that a profile is a function of
s = ‖x − y‖² (or ‖x − y‖₁) alone; ``profile`` and ``slope`` mirror pairwise/costs.py and kernels.py,
the reference. A program owns a block of rows and visits the columns in order; no two programs
write to one place, so that results do not vary from run to run.

Arguments that all kernels share:
    x, y: Points, (B, n, d) and (B, m, d), contiguous.
    xx, yy: Their squared norms, (B, n) and (B, m), in the dtype of the arithmetic.
    span: Columns of one split; split p writes its own reading, all of which are merged afterwards.
    SAME: Whether y is x, so that the diagonal is at distance zero.
    PRODUCT: Whether s comes from a matrix product instead of direct differences.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
import triton
import triton.language as tl

from probmetrics.pairwise.fused_forms import Kind

IDENTITY = tl.constexpr(int(Kind.IDENTITY))
POWER_OF = tl.constexpr(int(Kind.POWER_OF))
EXPONENTIAL = tl.constexpr(int(Kind.EXPONENTIAL))
ROOT_EXPONENTIAL = tl.constexpr(int(Kind.ROOT_EXPONENTIAL))
MATERN = tl.constexpr(int(Kind.MATERN))
LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _inverse_power(s, EXPONENT: tl.constexpr):
    """(1 + s)^−EXPONENT."""
    base = 1.0 + s
    if EXPONENT == 1.0:
        value = 1.0 / base
    elif EXPONENT == 2.0:
        value = 1.0 / (base * base)
    elif EXPONENT == 0.5:
        value = 1.0 / tl.sqrt(base)
    else:
        value = tl.exp2(tl.log2(base) * -EXPONENT)
    return value


@triton.jit
def _power(s, EXPONENT: tl.constexpr):
    """s^EXPONENT for s ≥ 0, zero at s = 0 whatever the exponent; NaN stays NaN."""
    above = s != 0.0
    safe = tl.where(above, s, 1.0)
    if EXPONENT == 0.5:
        value = tl.sqrt(safe)
    elif EXPONENT == -0.5:
        value = 1.0 / tl.sqrt(safe)
    else:
        value = tl.exp2(tl.log2(safe) * EXPONENT)
    return tl.where(above, value, 0.0)


@triton.jit
def profile(s, KIND: tl.constexpr, POWER: tl.constexpr):
    """The ground as a function of s."""
    if KIND == IDENTITY:
        value = s
    elif KIND == POWER_OF:
        value = _power(s, POWER)
    elif KIND == EXPONENTIAL:
        value = tl.exp2(-s)
    elif KIND == ROOT_EXPONENTIAL:
        value = tl.exp2(-tl.sqrt(s))
    elif KIND == MATERN:
        u = tl.sqrt(s)
        bracket = 1.0 + u
        if POWER == 2.5:
            bracket += s / 3.0
        value = bracket * tl.exp2(u * -LOG2E)
    else:
        value = _inverse_power(s, POWER)
    return value


@triton.jit
def slope(s, KIND: tl.constexpr, POWER: tl.constexpr):
    """Derivative of ``profile`` in s; zero at the kink of a distance."""
    if KIND == IDENTITY:
        value = s * 0.0 + 1.0
    elif KIND == POWER_OF:
        value = _power(s, POWER - 1.0) * POWER
    elif KIND == EXPONENTIAL:
        value = tl.exp2(-s) * -LN2
    elif KIND == ROOT_EXPONENTIAL:
        u = tl.sqrt(s)
        value = tl.where(u == 0.0, 0.0, tl.exp2(-u) * (-0.5 * LN2) / tl.where(u == 0.0, 1.0, u))
    elif KIND == MATERN:
        u = tl.sqrt(s)
        value = -0.5 * tl.exp2(u * -LOG2E)
        if POWER == 2.5:
            value *= (1.0 + u) / 3.0
    else:
        value = _inverse_power(s, POWER + 1.0) * -POWER
    return value


@triton.jit
def _arguments(
    x, y, xx, yy, i, j, n, m, d,
    SAME: tl.constexpr, L1: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """The tile of s for rows i and columns j of one problem."""
    dtype = xx.dtype.element_ty
    row, column = i < n, j < m
    s = tl.zeros((ROWS, COLUMNS), dtype)
    if PRODUCT:
        for chunk in range(CHUNKS):
            k = chunk * DEPTH + tl.arange(0, DEPTH)
            left = tl.load(
                x + i[:, None] * d + k[None, :], mask=row[:, None] & (k < d)[None, :], other=0.0
            )
            right = tl.load(
                y + j[None, :] * d + k[:, None], mask=column[None, :] & (k < d)[:, None], other=0.0
            )
            s = tl.dot(left, right, s, input_precision=PRECISION)
        norms = tl.load(xx + i, mask=row, other=0.0)[:, None]
        norms += tl.load(yy + j, mask=column, other=0.0)[None, :]
        s = norms - 2.0 * s
        s = tl.where(s < 0.0, 0.0, s)  # not a maximum, which would hide a NaN
        if SAME:
            s = tl.where(i[:, None] == j[None, :], 0.0, s)
    else:
        for k in range(d):
            left = tl.load(x + i * d + k, mask=row, other=0.0)
            right = tl.load(y + j * d + k, mask=column, other=0.0)
            gap = left[:, None] - right[None, :]
            s += tl.abs(gap) if L1 else gap * gap
    return s


@triton.jit
def _plan(s, row_exponent, column_exponent, scale, i, j, n, m,
          KIND: tl.constexpr, POWER: tl.constexpr):  # fmt: skip
    """2^(row + scale · G + column), zero beyond the last column."""
    rows = tl.load(row_exponent + i, mask=i < n, other=0.0)
    columns = tl.load(column_exponent + j, mask=j < m, other=-float("inf"))
    return tl.exp2(scale * profile(s, KIND, POWER) + rows[:, None] + columns[None, :])


@triton.jit
def weighted_sum_kernel(
    x, y, xx, yy, row_exponent, column_exponent, scales, w, out, batch, n, m, d, c, span,
    KIND: tl.constexpr, POWER: tl.constexpr, SAME: tl.constexpr, L1: tl.constexpr,
    PRODUCT: tl.constexpr, PRECISION: tl.constexpr, HALF: tl.constexpr, PLAN: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """out_ic = Σ_j G_ij w_jc, or under PLAN Σ_j 2^(row_i + scale · G_ij + column_j) w_jc.

    Args (beyond the shared ones):
        row_exponent, column_exponent, scales: (B, n), (B, m), (B); read under PLAN only.
        w: Weights, (B, m, c).
        out: Float64, (splits, B, n, c).
        HALF: Only pairs with j ≥ i, those with j > i counted twice: for totals with y = x.
        WIDTH: Columns of weights that a program takes.
    """
    count = tl.cdiv(n, ROWS)
    b = (tl.program_id(0) // count).to(tl.int64)
    first_row = (tl.program_id(0) % count) * ROWS
    part = tl.program_id(1).to(tl.int64)
    i = first_row.to(tl.int64) + tl.arange(0, ROWS)
    k = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    scale = tl.load(scales + b)
    begin = tl.program_id(1) * span
    if HALF:
        begin = tl.maximum(begin, (first_row // COLUMNS) * COLUMNS)
    end = tl.minimum(tl.program_id(1) * span + span, m)
    total = tl.zeros((ROWS,), tl.float64)
    totals = tl.zeros((ROWS, WIDTH), tl.float64)
    for start in range(begin, end, COLUMNS):
        j = start + tl.arange(0, COLUMNS).to(tl.int64)
        s = _arguments(x + b * n * d, y + b * m * d, xx + b * n, yy + b * m, i, j, n, m, d,
                       SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
        if PLAN:
            tile = _plan(s, row_exponent + b * n, column_exponent + b * m, scale, i, j, n, m,
                         KIND, POWER)  # fmt: skip
        else:
            tile = profile(s, KIND, POWER)
        if HALF:
            tile = tl.where(j[None, :] > i[:, None], 2.0 * tile, tile)
            tile = tl.where(j[None, :] < i[:, None], 0.0, tile)
        if WIDTH == 1:
            weights = tl.load(w + (b * m + j) * c + tl.program_id(2), mask=j < m, other=0.0)
            total += tl.sum(tile * weights[None, :], 1).to(tl.float64)
        else:
            inside = (j < m)[:, None] & (k < c)[None, :]
            weights = tl.load(w + (b * m + j)[:, None] * c + k[None, :], mask=inside, other=0.0)
            totals += tl.dot(tile, weights, input_precision=PRECISION).to(tl.float64)
    place = (part * batch + b) * n + i
    if WIDTH == 1:
        tl.store(out + place * c + tl.program_id(2), total, mask=i < n)
    else:
        inside = (i < n)[:, None] & (k < c)[None, :]
        tl.store(out + place[:, None] * c + k[None, :], totals, mask=inside)


@triton.jit
def pull_kernel(
    x, y, xx, yy, row_exponent, column_exponent, scales, left, right, out,
    batch, n, m, d, c, span,
    KIND: tl.constexpr, POWER: tl.constexpr, SAME: tl.constexpr, L1: tl.constexpr,
    PRODUCT: tl.constexpr, PRECISION: tl.constexpr, PLAN: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """out_i = Σ_j M_ij ∂s_ij/∂x_i with M_ij = slope(s_ij) · Σ_c left_ic right_jc (· plan_ij).

    Args (beyond the shared ones):
        row_exponent, column_exponent, scales: As in ``weighted_sum_kernel``.
        left, right: (B, n, c), (B, m, c).
        out: (splits, B, n, d), in the dtype of the arithmetic.
        WIDTH: Coordinates of the gradient that a program takes.
    """
    dtype = xx.dtype.element_ty
    count = tl.cdiv(n, ROWS)
    b = (tl.program_id(0) // count).to(tl.int64)
    i = ((tl.program_id(0) % count) * ROWS).to(tl.int64) + tl.arange(0, ROWS)
    part = tl.program_id(1).to(tl.int64)
    own = tl.arange(0, WIDTH)
    k = tl.program_id(2) * WIDTH + own
    rows, columns = x + b * n * d, y + b * m * d
    scale = tl.load(scales + b)
    begin = tl.program_id(1) * span
    end = tl.minimum(begin + span, m)
    mass = tl.zeros((ROWS,), dtype)
    pulled = tl.zeros((ROWS, WIDTH), dtype)
    for start in range(begin, end, COLUMNS):
        j = start + tl.arange(0, COLUMNS).to(tl.int64)
        s = _arguments(rows, columns, xx + b * n, yy + b * m, i, j, n, m, d,
                       SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
        tile = tl.zeros((ROWS, COLUMNS), dtype)
        for q in range(c):
            a = tl.load(left + (b * n + i) * c + q, mask=i < n, other=0.0)
            w = tl.load(right + (b * m + j) * c + q, mask=j < m, other=0.0)
            tile += a[:, None] * w[None, :]
        tile *= slope(s, KIND, POWER)
        if PLAN:
            tile *= _plan(s, row_exponent + b * n, column_exponent + b * m, scale, i, j, n, m,
                          KIND, POWER)  # fmt: skip
        if PRODUCT:
            inside = (j < m)[:, None] & (k < d)[None, :]
            points = tl.load(columns + j[:, None] * d + k[None, :], mask=inside, other=0.0)
            tile = tile.to(points.dtype)  # before both sums: their difference is wanted
            mass += tl.sum(tile.to(dtype), 1)
            pulled = tl.dot(tile, points, pulled, input_precision=PRECISION)
        else:
            for q in range(WIDTH):
                at = tl.minimum(tl.program_id(2) * WIDTH + q, d - 1)  # beyond d nothing is stored
                a = tl.load(rows + i * d + at, mask=i < n, other=0.0)
                w = tl.load(columns + j * d + at, mask=j < m, other=0.0)
                gap = a[:, None] - w[None, :]
                if L1:
                    gap = tl.where(gap > 0.0, 1.0, 0.0) - tl.where(gap < 0.0, 1.0, 0.0)
                else:
                    gap *= 2.0
                share = tl.sum(tile * gap, 1)
                pulled += tl.where(own[None, :] == q, share[:, None], 0.0)
    inside = (i < n)[:, None] & (k < d)[None, :]
    if PRODUCT:
        points = tl.load(rows + i[:, None] * d + k[None, :], mask=inside, other=0.0)
        pulled = 2.0 * (points.to(dtype) * mass[:, None] - pulled)
    place = ((part * batch + b) * n + i)[:, None] * d + k[None, :]
    tl.store(out + place, pulled, mask=inside)


@triton.jit
def log_sum_exp_kernel(
    x, y, xx, yy, column_exponent, scales, out, batch, n, m, d, span,
    KIND: tl.constexpr, POWER: tl.constexpr, SAME: tl.constexpr, L1: tl.constexpr,
    PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """out_i = ln Σ_j 2^(column_j + scale · G_ij), with a running maximum in base 2.

    Args (beyond the shared ones):
        column_exponent, scales: (B, m), (B), both times log₂ e.
        out: Float64, (splits, B, n).
    """
    dtype = xx.dtype.element_ty
    count = tl.cdiv(n, ROWS)
    b = (tl.program_id(0) // count).to(tl.int64)
    i = ((tl.program_id(0) % count) * ROWS).to(tl.int64) + tl.arange(0, ROWS)
    part = tl.program_id(1).to(tl.int64)
    scale = tl.load(scales + b)
    begin = tl.program_id(1) * span
    end = tl.minimum(begin + span, m)
    top = tl.full((ROWS,), -float("inf"), dtype)
    mass = tl.zeros((ROWS,), tl.float64)
    for start in range(begin, end, COLUMNS):
        j = start + tl.arange(0, COLUMNS).to(tl.int64)
        s = _arguments(x + b * n * d, y + b * m * d, xx + b * n, yy + b * m, i, j, n, m, d,
                       SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
        columns = tl.load(column_exponent + b * m + j, mask=j < m, other=-float("inf"))
        z = scale * profile(s, KIND, POWER) + columns[None, :]
        higher = tl.maximum(top, tl.max(z, 1))
        safe = tl.where(higher == -float("inf"), 0.0, higher)  # every column so far is left out
        fresh = tl.sum(tl.exp2(z - safe[:, None]), 1)
        mass = mass * tl.exp2(top - safe).to(tl.float64) + fresh.to(tl.float64)
        top = higher
    some = mass != 0.0
    logarithm = top.to(tl.float64) + tl.log2(tl.where(some, mass, 1.0))
    value = tl.where(some, logarithm * LN2, -float("inf"))
    tl.store(out + (part * batch + b) * n + i, value, mask=i < n)


@triton.jit
def k_smallest_kernel(
    x, y, xx, yy, offsets, scales, values, indices, batch, n, m, d, k, span,
    KIND: tl.constexpr, POWER: tl.constexpr, SAME: tl.constexpr, L1: tl.constexpr,
    PRODUCT: tl.constexpr, PRECISION: tl.constexpr, SKIP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """The k smallest scale · G_ij + offset_j of each row, in no order, with their columns.

    A tile is searched only while it holds something smaller than the largest value kept.

    Args (beyond the shared ones):
        offsets, scales: (B, m), (B).
        values, indices: (splits, B, n, k); where no column came, +∞ and an index that is valid.
        SKIP: Leave out the diagonal.
        WIDTH: A power of two, at least k.
    """
    dtype = xx.dtype.element_ty
    count = tl.cdiv(n, ROWS)
    b = (tl.program_id(0) // count).to(tl.int64)
    i = ((tl.program_id(0) % count) * ROWS).to(tl.int64) + tl.arange(0, ROWS)
    part = tl.program_id(1).to(tl.int64)
    scale = tl.load(scales + b)
    begin = tl.program_id(1) * span
    end = tl.minimum(begin + span, m)
    slots = tl.arange(0, WIDTH)
    blank = tl.where(slots < k, float("inf"), -float("inf")).to(dtype)
    best = tl.zeros((ROWS, WIDTH), dtype) + blank[None, :]
    found = slots[None, :].to(tl.int64) + tl.zeros((ROWS, WIDTH), tl.int64)
    if SKIP:
        found += tl.where(found >= i[:, None], 1, 0)
    for start in range(begin, end, COLUMNS):
        local = tl.arange(0, COLUMNS)
        j = start + local.to(tl.int64)
        s = _arguments(x + b * n * d, y + b * m * d, xx + b * n, yy + b * m, i, j, n, m, d,
                       SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
        columns = tl.load(offsets + b * m + j, mask=j < m, other=0.0)
        tile = scale * profile(s, KIND, POWER) + columns[None, :]
        tile = tl.where(tile == tile, tile, 3.4e38)  # NaN after all numbers, as in topk
        tile = tl.where((j < end)[None, :], tile, float("inf"))
        if SKIP:
            tile = tl.where(i[:, None] == j[None, :], float("inf"), tile)
        low, worst = tl.min(tile, 1), tl.max(best, 1)
        while tl.max(((low < worst) & (i < n)).to(tl.int32), 0) > 0:
            at, slot = tl.argmin(tile, 1), tl.argmax(best, 1)
            hit = (slots[None, :] == slot[:, None]) & (low < worst)[:, None]
            best = tl.where(hit, low[:, None], best)
            found = tl.where(hit, (start + at).to(tl.int64)[:, None], found)
            tile = tl.where(local[None, :] == at[:, None], float("inf"), tile)
            low, worst = tl.min(tile, 1), tl.max(best, 1)
    place = ((part * batch + b) * n + i)[:, None] * k + slots[None, :]
    inside = (i < n)[:, None] & (slots < k)[None, :]
    tl.store(values + place, best, mask=inside)
    tl.store(indices + place, found, mask=inside)


@triton.jit
def count_within_kernel(
    x, y, xx, yy, row_bound, column_bound, scales, out, batch, n, m, d, span,
    KIND: tl.constexpr, POWER: tl.constexpr, SAME: tl.constexpr, L1: tl.constexpr,
    PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """How many columns satisfy scale · G_ij < row_i + column_j, strictly.

    Args (beyond the shared ones):
        row_bound, column_bound, scales: (B, n), (B, m), (B).
        out: Int64, (splits, B, n).
    """
    count = tl.cdiv(n, ROWS)
    b = (tl.program_id(0) // count).to(tl.int64)
    i = ((tl.program_id(0) % count) * ROWS).to(tl.int64) + tl.arange(0, ROWS)
    part = tl.program_id(1).to(tl.int64)
    scale = tl.load(scales + b)
    begin = tl.program_id(1) * span
    end = tl.minimum(begin + span, m)
    rows = tl.load(row_bound + b * n + i, mask=i < n, other=0.0)
    total = tl.zeros((ROWS,), tl.int64)
    for start in range(begin, end, COLUMNS):
        j = start + tl.arange(0, COLUMNS).to(tl.int64)
        s = _arguments(x + b * n * d, y + b * m * d, xx + b * n, yy + b * m, i, j, n, m, d,
                       SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
        columns = tl.load(column_bound + b * m + j, mask=j < m, other=0.0)
        within = scale * profile(s, KIND, POWER) < rows[:, None] + columns[None, :]
        total += tl.sum((within & (j < m)[None, :]).to(tl.int32), 1).to(tl.int64)
    tl.store(out + (part * batch + b) * n + i, total, mask=i < n)
