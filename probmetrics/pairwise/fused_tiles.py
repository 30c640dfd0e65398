"""The parts that the Triton kernels share: a tile of distances, profiles, exponents.

Points arrive centred and in units of the ground's length, so that a profile is a function of
s = ‖x − y‖² (or ‖x − y‖₁) alone; ``profile`` and ``slope`` mirror pairwise/costs.py and kernels.py,
the reference.
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
def arguments(
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
            s = tl.where((i[:, None] == j[None, :]) & (s == s), 0.0, s)  # NaN stays NaN
    else:
        for k in range(d):
            left = tl.load(x + i * d + k, mask=row, other=0.0)
            right = tl.load(y + j * d + k, mask=column, other=0.0)
            gap = left[:, None] - right[None, :]
            s += tl.abs(gap) if L1 else gap * gap
    return s


@triton.jit
def plan(s, row_exponent, column_exponent, scale, i, j, n, m,
          KIND: tl.constexpr, POWER: tl.constexpr):  # fmt: skip
    """2^(row + scale · G + column), zero beyond the last column."""
    rows = tl.load(row_exponent + i, mask=i < n, other=0.0)
    columns = tl.load(column_exponent + j, mask=j < m, other=-float("inf"))
    return tl.exp2(scale * profile(s, KIND, POWER) + rows[:, None] + columns[None, :])


@triton.jit
def outer(
    left, right, i, j, n, m, c, dtype: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Σ_c left_ic right_jc, zero beyond the last row and column."""
    tile = tl.zeros((ROWS, COLUMNS), dtype)
    for q in range(c):
        a = tl.load(left + i * c + q, mask=i < n, other=0.0)
        w = tl.load(right + j * c + q, mask=j < m, other=0.0)
        tile += a[:, None] * w[None, :]
    return tile


@triton.jit
def exponents(z, AXIS: tl.constexpr):
    """Σ 2^z along an axis as mass · 2^top, top the largest exponent."""
    top = tl.max(z, AXIS)
    safe = tl.where(top == -float("inf"), 0.0, top)  # every term is left out
    return top, tl.sum(tl.exp2(z - tl.expand_dims(safe, AXIS)), AXIS).to(tl.float64)


@triton.jit
def merge(top, mass, other_top, other_mass):
    """mass · 2^top + other_mass · 2^other_top in the same form."""
    higher = tl.maximum(top, other_top)
    safe = tl.where(higher == -float("inf"), 0.0, higher)
    mass = mass * tl.exp2(top - safe).to(tl.float64)
    return higher, mass + other_mass * tl.exp2(other_top - safe).to(tl.float64)
