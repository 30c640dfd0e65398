"""Distances between the cumulative distribution functions of samples on the line."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import LineX, LineY, Values, WeightsX, WeightsY, array_function
from probmetrics.transport.quantiles import power, safe_root
from probmetrics.transport.sorting import merge_rows, rank_rows

LARGE = 1e150  # a power that is finite when multiplied by a width


@array_function
def cdf_distance(
    x: LineX,
    y: LineY,
    *,
    p: float | int = 1.0,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = True,
) -> Values:
    r"""L_p distance between the CDFs of two samples on the line, exact.

    .. math:: \left( \int |F(t) - G(t)|^p \, dt \right)^{1/p}

    p = 1 is the Wasserstein distance W_1, p = 2 the root of the Cramér distance, p = ∞ the
    Kolmogorov distance.

    Args:
        x: Points on the line, shape (*batch, n).
        y: Points on the line, shape (*batch, m).
        p: Order, at least 1; ``math.inf`` is allowed.
        a: Weights of x, shape (*batch, n), summing to one; uniform if None.
        b: Weights of y, shape (*batch, m).
        root: Take the p-th root; otherwise return the integral.

    Returns:
        One distance per batch entry.

    Raises:
        ValueError: Samples that are empty, not finite, or do not broadcast; p below one;
            weights of another length, negative, or not summing to one.
        TypeError: p is not a number; tensors and other arrays in one call.

    Example:
        >>> cdf_distance([0.0, 1.0], [2.0, 3.0], p=1)
        2.0
        >>> cdf_distance([0.0], [4.0], p=2)
        2.0

    Notes:
        O((n + m) log(n + m)) time, linear memory, float64 sums. Differentiable in positions and
        weights. Where points coincide the gradient in a position is the mean of its one-sided
        derivatives, so it is zero between a sample and itself; a root at zero has gradient zero.
        p = ∞ has no gradient in the positions, of whose order alone it depends.

    References:
        Székely (1989), Potential and kinetic energy in statistics; SciPy's
        ``wasserstein_distance`` and ``energy_distance`` are p = 1 and √2 times p = 2.
    """
    p = checks.order(p)
    x, y = checks.lines(x, y)
    a, b = checks.masses(a, x, "a", of="x"), checks.masses(b, y, "b", of="y")
    pooled = pool(x, y, a, b)
    if p == math.inf:
        last = _last_of_ties(pooled.points)
        gap = (pooled.first - pooled.second).abs()
        return torch.where(last, gap, 0.0).amax(-1).to(x.dtype)
    distance = _norm(pooled, p) if root else integral(pooled, lambda gap: power(gap, p))
    return distance.to(x.dtype)


@array_function
def cramer_distance(
    x: LineX,
    y: LineY,
    *,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = False,
) -> Values:
    r"""Cramér distance ∫ (F − G)² between two samples on the line, squared by default.

    It is half the energy distance of the two samples, 2E|X−Y| − E|X−X′| − E|Y−Y′|, in
    O((n + m) log(n + m)) instead of O(n m).

    Args:
        x: Points on the line, shape (*batch, n).
        y: Points on the line, shape (*batch, m).
        a: Weights of x, shape (*batch, n), summing to one; uniform if None.
        b: Weights of y, shape (*batch, m).
        root: Return the square root, a metric.

    Returns:
        One distance per batch entry.

    Raises:
        ValueError: As in :func:`cdf_distance`.

    Example:
        >>> cramer_distance([0.0, 1.0], [1.0, 2.0])
        0.5

    Notes:
        Cost and gradients as in :func:`cdf_distance`.

    References:
        Cramér (1928), On the composition of elementary errors; Székely & Rizzo (2013), Energy
        statistics, section 2 (the factor of two).
    """
    return cdf_distance(x, y, p=2.0, a=a, b=b, root=root)


@array_function
def kolmogorov_distance(
    x: LineX,
    y: LineY,
    *,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
) -> Values:
    r"""Kolmogorov distance sup |F − G| between two samples on the line, in [0, 1].

    Args:
        x: Points on the line, shape (*batch, n).
        y: Points on the line, shape (*batch, m).
        a: Weights of x, shape (*batch, n), summing to one; uniform if None.
        b: Weights of y, shape (*batch, m).

    Returns:
        One distance per batch entry: the two-sample Kolmogorov–Smirnov statistic.

    Raises:
        ValueError: As in :func:`cdf_distance`.

    Example:
        >>> kolmogorov_distance([0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0])
        0.5

    Notes:
        O((n + m) log(n + m)). It depends on the positions through their order only, so it has a
        gradient in the weights alone.

    References:
        Smirnov (1939); ``scipy.stats.ks_2samp``.
    """
    return cdf_distance(x, y, p=math.inf, a=a, b=b)


class Pooled(NamedTuple):
    """Two samples as one in ascending order, float64, shapes (*batch, n + m)."""

    points: Tensor
    first: Tensor  # F at each point, all points equal to it or sorted before it included
    second: Tensor  # G likewise
    mass: Tensor  # of each point: positive in the first sample, negative in the second


def pool(x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None) -> Pooled:
    """Both CDFs along the pooled and sorted points."""
    given = (torch.ones_like(x.detach()) if a is None else a).double()  # counts add up exactly
    taken = (torch.ones_like(y.detach()) if b is None else b).double()
    batch = torch.broadcast_shapes(*(part.shape[:-1] for part in (x, y, given, taken)))
    x, y = x.double().expand(*batch, -1), y.double().expand(*batch, -1)
    given, taken = given.expand(*batch, -1), taken.expand(*batch, -1)
    # Each sample is ranked by itself: equal samples then add equal masses in the same order.
    rank_x, rank_y = rank_rows(x, y)
    points = torch.cat([x.gather(-1, rank_x), y.gather(-1, rank_y)], -1)
    order = merge_rows(points)
    none_x, none_y = torch.zeros_like(given), torch.zeros_like(taken)
    first = torch.cat([given.gather(-1, rank_x), none_y], -1).gather(-1, order)
    second = torch.cat([none_x, taken.gather(-1, rank_y)], -1).gather(-1, order)
    f, g = first.cumsum(-1), second.cumsum(-1)
    mass = first / f[..., -1:] - second / g[..., -1:]
    return Pooled(points.gather(-1, order), f / f[..., -1:], g / g[..., -1:], mass)


def integral(
    pooled: Pooled, height: Callable[[Tensor], Tensor], *, period: float | None = None
) -> Tensor:
    r"""∫ height(F − G) dt over the points' range, or over a whole period that they lie in.

    The gradient in the positions does not come from the widths between neighbours, which differ by
    the order of equal points. A point of mass s that moves right lowers F − G from D⁺ to D⁺ − s
    behind it, and one that moves left raises it from D⁻ to D⁻ + s, where D⁻ and D⁺ are the values
    before and after all points at its place. The mean of both one-sided derivatives is

        ½ [h(D⁺ − s) − h(D⁺) + h(D⁻) − h(D⁻ + s)].
    """
    points = pooled.points
    gap = pooled.first - pooled.second
    held = points.detach()
    widths = held.diff(dim=-1)
    if period is None:
        total = (height(gap[..., :-1]) * widths).sum(-1)
    else:
        around = period - (held[..., -1:] - held[..., :1])
        total = (height(gap) * torch.cat([widths, around], -1)).sum(-1)
    if not (torch.is_grad_enabled() and points.requires_grad):
        return total
    before, after = _around_ties(gap, held)
    mass = pooled.mass
    slope = height(after - mass) - height(after) + height(before) - height(before + mass)
    return total + (slope / 2 * (points - held)).sum(-1)


def _norm(pooled: Pooled, p: float) -> Tensor:
    """(∫ |F − G|^p dt)^(1/p); the largest |F − G| is factored out, so that powers do not vanish."""
    if p == 1:
        return integral(pooled, torch.abs)
    gap = (pooled.first - pooled.second).detach().abs()[..., :-1]
    largest = torch.where(pooled.points.detach().diff(dim=-1) > 0, gap, 0.0).amax(-1)
    largest = torch.where(largest > 0, largest, 1.0)
    # Between equal points, and where one of them would move, F − G may be larger by far.
    most = LARGE ** (1 / p)

    def height(gap: Tensor) -> Tensor:
        return power((gap / largest.unsqueeze(-1)).clamp(-most, most), p)

    return largest * safe_root(integral(pooled, height), p)


def _last_of_ties(points: Tensor) -> Tensor:
    """Whether each of the sorted points is the last one of its value."""
    last = points[..., 1:] > points[..., :-1]
    return torch.cat([last, torch.ones_like(points[..., :1], dtype=torch.bool)], -1)


def _around_ties(gap: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Values of a step function before and after all points that equal each point."""
    last = _last_of_ties(points)
    index = torch.arange(points.shape[-1], device=points.device).expand(points.shape)
    end = torch.where(last, index, points.shape[-1] - 1).flip(-1).cummin(-1).values.flip(-1)
    opens = torch.cat([torch.ones_like(last[..., :1]), last[..., :-1]], -1)
    start = torch.where(opens, index, 0).cummax(-1).values
    padded = torch.nn.functional.pad(gap, (1, 0))
    return padded.gather(-1, start), gap.gather(-1, end)
