"""Wasserstein distance of samples on the circle: cut it at the best place, then sort."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import LineX, LineY, Values, WeightsX, WeightsY, array_function
from probmetrics.transport.cdf import integral, pool
from probmetrics.transport.quantiles import Sorted, mean_power, power, sort_weighted, two_sum
from probmetrics.transport.sorting import merge_rows

ROUNDS = 200  # of the search for the best cut; about twenty are usual
TURN = 2**60  # counts of mass in a turn where weights are uneven
MET = 2  # steps that are no more counts apart have met
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
        and piecewise linear in α; tangents and bisection find its lowest corner exactly, as
        shares are counted in integers, each step a merge in O(n + m). float64 inside, linear
        memory. Differentiable in positions and weights by the envelope theorem (first order); in
        the weights the gradient is a potential of mean zero. A root at zero has gradient zero.

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
    return _by_cut(u, v, a, b, p, period, root).to(x.dtype)


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
    x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, p: float, period: float, root: bool
) -> Tensor:
    """min_α h(α), or its root, with h(α) = ∫ |F⁻¹(t) − G⁻¹(t − α)|^p dt: convex, with corners."""
    n, m = x.shape[-1], y.shape[-1]
    turn, even = TURN, a is None and b is None
    if not even:  # equal weights, given or not, have to meet exactly
        a, b = (torch.ones_like(z) if w is None else w for z, w in ((x, a), (y, b)))
    left, right = sort_weighted(x, y, a, b)
    if even:
        turn = n * m
        left, right = (
            Sorted(z.points, turn // k * torch.arange(1, k + 1, device=x.device))
            for z, k in ((left, n), (right, m))
        )
    batch = torch.broadcast_shapes(
        *(part.shape[:-1] for z in (left, right) for part in (z.points, z.share))
    )
    left, right = (
        Sorted(
            z.points.expand(*batch, -1),
            z.share.expand(*batch, -1),
            None if z.rest is None else z.rest.expand(*batch, -1),
        )
        for z in (left, right)
    )
    circle = _Circle(left, right, _counted(left), _counted(right), period, turn)
    with torch.no_grad():
        shift = _lowest(circle, p)
    rising = circle.matched(shift)
    if not any(z.share.requires_grad for z in (left, right)):
        # A pair without mass may be as far apart as it likes.
        gap = torch.where(rising.mass > 0, rising.gap, 0.0)
        return mean_power(gap, rising.mass, p, root)
    # The plans on either side of the corner differ in pairs without mass only. Their convex
    # combination without slope in α is, by the envelope theorem, the minimum as a function of
    # everything else.
    falling = circle.matched(shift, behind=True)
    up, down = (z.slope(p, period).unsqueeze(-1) for z in (rising, falling))
    bent = up > down
    share = torch.where(bent, -down / torch.where(bent, up - down, 1.0), 0.5).squeeze(-1)
    return (1 - share) * falling.cost(p, root) + share * rising.cost(p, root)


class Matched(NamedTuple):
    """The plan of one cut of the circle: gaps, masses and which steps are of the right sample."""

    gap: Tensor  # (*batch, n + m)
    mass: Tensor
    steps: Tensor  # (*batch, n + m − 1), bool

    def cost(self, p: float, root: bool) -> Tensor:
        """Σ mass |gap|^p, or its root."""
        return mean_power(self.gap, self.mass, p, root)

    def slope(self, p: float, period: float) -> Tensor:
        """dh/dα over period^p, without graph.

        A larger α delays the steps of the right sample: the pairs before them gain what those
        after them lose.
        """
        cost = power(self.gap.detach() / period, p)
        return ((cost[..., :-1] - cost[..., 1:]) * self.steps).sum(-1)


class Cut(NamedTuple):
    """The steps of both samples in order, where the right one is moved by a share of mass."""

    first: Tensor  # index of the left point of each pair, (*batch, n + m)
    second: Tensor  # index of the right one
    turns: Tensor  # by which that one is moved back, the pair before the seam one more
    steps: Tensor  # which steps are of the right sample, (*batch, n + m − 1)
    mass: Tensor  # of each pair, counted


@dataclass(frozen=True)
class _Circle:
    """Two samples on the circle, with shares that are counted: where steps meet is exact."""

    left: Sorted
    right: Sorted
    first: Tensor  # counted shares of the left sample, (*batch, n), int64
    second: Tensor
    period: float
    turn: int  # the count of all mass

    def cut(self, shift: Tensor, *, behind: bool = False) -> Cut:
        """Cut where the left sample begins, the right one moved by ``shift``, (*batch, 1).

        Args:
            shift: Counted share, an integer.
            behind: Whether a step of the right sample that meets one of the left comes before
                it, as for shifts just below, or after it, as for those just above.
        """
        moved, m = self.second + shift, self.second.shape[-1]
        down = "floor"
        turns = torch.div(moved, self.turn, rounding_mode=down)
        if behind:
            turns = -torch.div(-moved, self.turn, rounding_mode=down) - 1
        moved = moved - turns * self.turn
        # The order is that of before, turned: sorting would mistake points without mass.
        ahead = (turns == turns[..., :1]).sum(-1, keepdim=True)
        around = (torch.arange(m, device=moved.device) + ahead) % m
        sides = [self.first[..., :-1], moved.gather(-1, around)]
        inner = torch.cat(sides[::-1] if behind else sides, -1)
        order = merge_rows(inner)
        steps = order < m if behind else order >= sides[0].shape[-1]
        seam = torch.zeros_like(shift)
        mass = torch.cat([seam, inner.gather(-1, order), seam + self.turn], -1).diff(dim=-1)
        j = torch.nn.functional.pad(steps.cumsum(-1), (1, 0))
        i = torch.arange(j.shape[-1], device=j.device) - j
        around = torch.cat([around, around[..., :1]], -1)
        turns = turns.gather(-1, around)
        turns = torch.cat([turns[..., :-1], turns[..., -1:] - 1], -1)
        return Cut(i, around.gather(-1, j), turns.gather(-1, j), steps, mass)

    def gaps(self, cut: Cut) -> Tensor:
        """Differences of position of matched pairs."""
        points = self.right.points.gather(-1, cut.second) - self.period * cut.turns.double()
        return self.left.points.gather(-1, cut.first) - points

    def matched(self, shift: Tensor, *, behind: bool = False) -> Matched:
        """The plan of a cut, differentiable in positions and shares."""
        cut = self.cut(shift, behind=behind)
        mass = (
            self._masses(cut, shift)
            if self.left.rest is not None
            else cut.mass.double() / self.turn
        )
        return Matched(self.gaps(cut), mass, cut.steps)

    def _masses(self, cut: Cut, shift: Tensor) -> Tensor:
        """Masses to all digits, for the shift at which two steps meet if it is one."""
        share, rest = self._edges(cut, shift.double() / self.turn)
        # Between pairs without mass a step of the right sample meets one of the left, or the seam.
        types = torch.nn.functional.pad(cut.steps, (1, 1))
        meets = (cut.mass == 0) & (types[..., 1:] != types[..., :-1])
        where = meets.int().argmax(-1, keepdim=True)
        sign = torch.where(types[..., :-1].gather(-1, where), 1.0, -1.0)
        sign = torch.where(meets.any(-1, keepdim=True), sign, 0.0)
        apart = [
            sign * (edge.gather(-1, where + 1) - edge.gather(-1, where)).detach()
            for edge in (share, rest)
        ]
        right = types.to(share.dtype)
        mass = share.diff(dim=-1) + (rest + right * (apart[0] + apart[1])).diff(dim=-1)
        least = torch.where(cut.mass > MET, mass.detach().clamp(min=0.0), 0.0)
        return least + (mass - mass.detach())

    def _edges(self, cut: Cut, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Shares at which pairs begin and end, from the seam on, and their rests."""
        left, right = self.left, self.right
        assert left.rest is not None
        assert right.rest is not None
        i, j, turns = cut.first[..., :-1], cut.second[..., :-1], cut.turns[..., :-1].double()
        moved, lost = two_sum(right.share.gather(-1, j), shift)
        moved, more = two_sum(moved, -turns)
        lost = lost + more + right.rest.gather(-1, j)
        share = torch.where(cut.steps, moved, left.share.gather(-1, i))
        fine = torch.where(cut.steps, lost, left.rest.gather(-1, i))
        pad = torch.nn.functional.pad
        share = pad(share, (1, 1))
        return torch.cat([share[..., :-1], share[..., -1:] + 1.0], -1), pad(fine, (1, 1))


def _counted(side: Sorted) -> Tensor:
    if side.rest is None:
        return side.share
    parts = ((part.detach() * TURN).round().long() for part in (side.share, side.rest))
    return sum(parts, torch.zeros((), dtype=torch.int64, device=side.share.device))


def _lowest(circle: _Circle, p: float) -> Tensor:
    """The counted shift at which h is least, shape (*batch, 1).

    Between shifts at which a step of one sample meets one of the other h is linear, so a slope
    bounds the minimum up to the next such shift. Tangents say where to look; bisecting now and
    then bounds the number of rounds.
    """
    high = torch.full_like(circle.first[..., :1], 2 * circle.turn)
    low = -high  # two turns back: h falls
    falling, down, _, _ = _slope(circle, low, p)
    rising, up, _, _ = _slope(circle, high, p)
    for turn in range(ROUNDS):
        width = (high - low).double() / circle.turn
        ahead = (falling - rising + up * width) / (up - down)
        guess = low + (ahead.nan_to_num(0.0).clamp(-4.0, 4.0) * circle.turn).round().long()
        # No shift at all comes first: it is exact for equal samples.
        middle = (low + high) // 2 if turn % 3 == 0 else guess.clamp(low, high)
        value, slope, back, on = _slope(circle, middle, p)
        below, done = slope < 0, low >= high
        end = torch.where(
            below, torch.minimum(middle + on, high), torch.maximum(middle - back, low)
        )
        at_end = value + slope * ((end - middle).double() / circle.turn)
        lower, upper = below & ~done, ~below & ~done
        low = torch.where(lower | (upper & (slope == 0)), end, low)
        falling, down = torch.where(lower, at_end, falling), torch.where(lower, slope, down)
        high = torch.where(upper, end, high)
        rising, up = torch.where(upper, at_end, rising), torch.where(upper, slope, up)
        if bool((low >= high).all()):
            break
    return high


def _slope(circle: _Circle, shift: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h over period^p, its slope just above, and how far back and on steps meet next."""
    cut = circle.cut(shift)
    plan = Matched(circle.gaps(cut) / circle.period, cut.mass.double() / circle.turn, cut.steps)
    types = torch.nn.functional.pad(cut.steps, (1, 1))
    apart = [
        torch.where(types[..., :-1] == late, cut.mass, circle.turn)
        .masked_fill(types[..., :-1] == types[..., 1:], circle.turn)
        .amin(-1, keepdim=True)
        for late in (False, True)
    ]
    value = plan.cost(p, False).unsqueeze(-1)
    return value, plan.slope(p, 1.0).unsqueeze(-1), apart[0], apart[1]
