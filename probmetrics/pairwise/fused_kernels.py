"""Triton kernels that fold the matrix of pairs without leaving the registers of a GPU.

A program owns a block of rows and visits the columns in order; no two programs
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

from probmetrics.pairwise.fused_tiles import (
    LN2,
    arguments,
    exponents,
    merge,
    outer,
    plan,
    profile,
    slope,
)


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
        s = arguments(x + b * n * d, y + b * m * d, xx + b * n, yy + b * m, i, j, n, m, d,
                       SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
        if PLAN:
            tile = plan(s, row_exponent + b * n, column_exponent + b * m, scale, i, j, n, m,
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
    PRODUCT: tl.constexpr, PRECISION: tl.constexpr, PLAN: tl.constexpr, BOTH: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """out_i = Σ_j M_ij ∂s_ij/∂x_i with M_ij = slope(s_ij) · Σ_c left_ic right_jc (· plan_ij).

    Args (beyond the shared ones):
        row_exponent, column_exponent, scales: As in ``weighted_sum_kernel``.
        left, right: (B, n, c), (B, m, c).
        BOTH: With y = x, M_ij + M_ji in place of M_ij: the gradient through rows and columns.
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
        s = arguments(rows, columns, xx + b * n, yy + b * m, i, j, n, m, d,
                       SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
        tile = outer(left + b * n * c, right + b * m * c, i, j, n, m, c, dtype, ROWS, COLUMNS)
        if PLAN:
            tile *= plan(s, row_exponent + b * n, column_exponent + b * m, scale, i, j, n, m,
                          KIND, POWER)  # fmt: skip
        if BOTH:
            mirror = outer(right + b * n * c, left + b * n * c, i, j, n, n, c, dtype,
                            ROWS, COLUMNS)  # fmt: skip
            if PLAN:
                mirror *= plan(s, column_exponent + b * n, row_exponent + b * n, scale, i, j,
                                n, n, KIND, POWER)  # fmt: skip
            tile += mirror
        tile *= slope(s, KIND, POWER)
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
        s = arguments(x + b * n * d, y + b * m * d, xx + b * n, yy + b * m, i, j, n, m, d,
                       SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
        columns = tl.load(column_exponent + b * m + j, mask=j < m, other=-float("inf"))
        z = scale * profile(s, KIND, POWER) + columns[None, :]
        fresh_top, fresh = exponents(z, 1)
        top, mass = merge(top, mass, fresh_top, fresh)
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
        s = arguments(x + b * n * d, y + b * m * d, xx + b * n, yy + b * m, i, j, n, m, d,
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
        s = arguments(x + b * n * d, y + b * m * d, xx + b * n, yy + b * m, i, j, n, m, d,
                       SAME, L1, PRODUCT, PRECISION, ROWS, COLUMNS, DEPTH, CHUNKS)  # fmt: skip
        columns = tl.load(column_bound + b * m + j, mask=j < m, other=0.0)
        within = scale * profile(s, KIND, POWER) < rows[:, None] + columns[None, :]
        total += tl.sum((within & (j < m)[None, :]).to(tl.int32), 1).to(tl.int64)
    tl.store(out + (part * batch + b) * n + i, total, mask=i < n)
