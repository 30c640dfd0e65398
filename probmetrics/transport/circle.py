"""Wasserstein distance of samples on the circle: cut it at the best place, then sort."""

import math

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import LineX, LineY, Values, WeightsX, WeightsY, array_function
from probmetrics.transport.cdf import integral, pool
from probmetrics.transport.quantiles import Sorted, power, safe_root, sort_weighted, staircase

ROUNDS = 200  # of the search for the best cut; about twenty are usual
EXACT = 1e-14  # relative gap between the tangents' bound and the value that ends the search
LEVEL = 1e-13  # steps of F − G this close to the median are at it


@array_function
def circular_wasserstein(
    x: LineX,
    y: LineY,
    *,
    period: float | int = 1.0,
    p: float | int = 1.0,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = True,
) -> Values:
    r"""Wasserstein distance W_p between two samples on a circle, exact.

    The ground distance is the shorter way round. The optimal plan is monotone once the circle is
    cut at the right place, so

    .. math:: W_p^p = \min_\alpha \int_0^1 |F^{-1}(t) - G^{-1}(t - \alpha)|^p \, dt,
              \qquad W_1 = \min_c \int |F - G - c|

    with quantile functions that go on period after period.

    Args:
        x: Positions, shape (*batch, n); taken modulo the period.
        y: Positions, shape (*batch, m).
        period: Circumference: 1 for phases, 2π for angles in radians, 24 for hours.
        p: Order, at least 1 and finite.
        a: Weights of x, shape (*batch, n), summing to one; uniform if None.
        b: Weights of y, shape (*batch, m).
        root: Return W_p; otherwise W_p^p.

    Returns:
        One distance per batch entry, in the unit of the period: at most half of it.

    Raises:
        ValueError: Samples that are empty, not finite, or do not broadcast; p below one or
            infinite; a period that is not above zero; weights that do not fit.
        TypeError: p is not a number; tensors and other arrays in one call.

    Example:
        >>> circular_wasserstein([23.0], [1.0], period=24)
        2.0
        >>> circular_wasserstein([0.125, 0.25], [0.875, 0.0], p=2)
        0.25

    Notes:
        p = 1: the weighted median of F − G, O((n + m) log(n + m)). p > 1: the integral is convex
        and piecewise linear in α; tangents and bisection find its lowest corner exactly, each
        step a merge in O(n + m). float64 inside, linear memory. Differentiable in positions and
        weights by the envelope theorem (first order); in the weights the gradient is a potential
        of mean zero. A root at zero has gradient zero.

    References:
        Rabin, Delon & Gousseau (2011), Transportation distances on the circle; Delon, Salomon &
        Sobolevski (2010), Fast transport optimization for Monge costs on the circle.
    """
    p, period = checks.order(p), checks.positive(period, "period")
    if p == math.inf:
        raise ValueError("p must be finite on the circle, got inf; use wasserstein_1d on the line")
    x, y = checks.lines(x, y)
    a, b = checks.masses(a, x, "a", of="x"), checks.masses(b, y, "b", of="y")
    u, v = (torch.remainder(z.double(), period) for z in (x, y))
    if p == 1:
        return _by_median(u, v, a, b, period).to(x.dtype)
    total = _by_cut(u, v, a, b, p, period)
    return (safe_root(total, p) if root else total).to(x.dtype)


def _by_median(x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, period: float) -> Tensor:
    """min_c ∫ |F − G − c| over one turn; the weighted median of F − G attains it."""
    pooled = pool(x, y, a, b)
    points, gap = pooled.points.detach(), pooled.first - pooled.second
    around = period - (points[..., -1:] - points[..., :1])
    widths = torch.cat([points.diff(dim=-1), around], -1)
    values, order = gap.detach().sort(dim=-1)
    passed = widths.gather(-1, order).cumsum(-1)
    median = values.gather(-1, (passed < passed[..., -1:] / 2).sum(-1, keepdim=True))
    # The median moves with the steps of F − G that sit at it. Sharing it among them by width
    # makes the slopes of |F − G − c| there balance all others, as stationarity in c demands.
    share = torch.where((gap.detach() - median).abs() <= LEVEL, widths, 0.0)
    moving = (share * gap).sum(-1, keepdim=True) / share.sum(-1, keepdim=True)
    level = median + (moving - moving.detach())

    def height(gap: Tensor) -> Tensor:
        size = (gap - level).abs()
        return torch.where(size > LEVEL, size, 0.0)  # rounding must not pick a side

    return integral(pooled, height, period=period)


def _by_cut(
    x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, p: float, period: float
) -> Tensor:
    """min_α h(α), h(α) = ∫ |F⁻¹(t) − G⁻¹(t − α)|^p dt, convex and piecewise linear."""
    left, right = sort_weighted(x, y, a, b)
    batch = torch.broadcast_shapes(*(part.shape[:-1] for part in (*left, *right)))
    left, right = (Sorted(*(part.expand(*batch, -1) for part in side)) for side in (left, right))
    with torch.no_grad():
        low, high = _lowest_corner(left, right, p, period)
    falling, down = _cut(left, right, low, p, period)
    rising, up = _cut(left, right, high, p, period)
    # The lines through low and high meet in the minimum. Their convex combination without slope
    # in α is, by the envelope theorem, the minimum as a function of everything else.
    corner, share = _meeting(
        low, falling.detach(), down.detach(), high, rising.detach(), up.detach()
    )
    falling = falling + down * (corner - low)
    rising = rising + up * (corner - high)
    return ((1 - share) * falling + share * rising).squeeze(-1)


def _lowest_corner(left: Sorted, right: Sorted, p: float, period: float) -> tuple[Tensor, Tensor]:
    """Two cuts between which h has a single corner, its minimum; shapes (*batch, 1)."""
    low = torch.full_like(left.share[..., :1], -2.0)  # two turns back: h falls
    high = -low
    falling, down = _cut(left, right, low, p, period)
    rising, up = _cut(left, right, high, p, period)
    done = torch.zeros_like(low, dtype=torch.bool)
    for turn in range(ROUNDS):
        corner, _ = _meeting(low, falling, down, high, rising, up)
        bound = falling + down * (corner - low)  # h lies above both tangents
        # Bisecting now and then bounds the number of rounds; it begins with no shift at all,
        # which is exact for equal samples.
        middle = (low + high) / 2 if turn % 3 == 0 else corner
        value, slope = _cut(left, right, middle, p, period)
        flat = ~done & ((value == 0) | (slope == 0))
        done = done | (value - bound <= EXACT * value) | (high - low <= EXACT)
        below = flat | (~done & (slope < 0))
        above = flat | (~done & (slope > 0))
        low, falling, down = (
            torch.where(below, new, old)
            for new, old in ((middle, low), (value, falling), (slope, down))
        )
        high, rising, up = (
            torch.where(above, new, old)
            for new, old in ((middle, high), (value, rising), (slope, up))
        )
        done = done | flat
        if bool(done.all()):
            break
    return low, high


def _meeting(
    low: Tensor, falling: Tensor, down: Tensor, high: Tensor, rising: Tensor, up: Tensor
) -> tuple[Tensor, Tensor]:
    """Where two lines meet, and the share of the second in their combination without slope."""
    run = up - down
    apart = run > 0
    run = torch.where(apart, run, 1.0)
    share = torch.where(apart, -down / run, 0.5)
    corner = low + (falling - rising + up * (high - low)) / run
    corner = torch.where(apart, corner.clamp(low, high), (low + high) / 2)
    return corner, share


def _cut(
    left: Sorted, right: Sorted, shift: Tensor, p: float, period: float
) -> tuple[Tensor, Tensor]:
    """h and its slope at a shift α of the mass of the right sample, shapes (*batch, 1)."""
    share = right.share + shift
    # Rounding may carry 1 + α up to the next turn but one; there are two.
    turns = torch.minimum(share.detach().floor(), shift.detach().floor() + 1.0)
    share, points = share - turns, right.points - period * turns  # G⁻¹(t − 1) = G⁻¹(t) − period
    # The order is that of before, turned. Sorting would mistake points without mass at the seam.
    m = share.shape[-1]
    first = (turns == turns[..., :1]).sum(-1, keepdim=True)
    order = (torch.arange(m, device=share.device) + first) % m
    share, points = share.gather(-1, order), points.gather(-1, order)
    share = torch.cat([share, torch.ones_like(share[..., :1])], -1)
    points = torch.cat([points, points[..., :1] + period], -1)
    i, j, mass = staircase(left.share, share)
    cost = power(left.points.gather(-1, i) - points.gather(-1, j), p)
    # A larger α delays the steps of the right sample: the pairs before them gain what those
    # after them lose.
    slope = (cost[..., :-1] - cost[..., 1:]) * j.diff(dim=-1)
    return (cost * mass).sum(-1, keepdim=True), slope.sum(-1, keepdim=True)
