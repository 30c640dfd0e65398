"""Max-sliced Wasserstein distance: the direction along which two samples differ most."""

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import (
    Array,
    SamplesX,
    SamplesY,
    Values,
    WeightsX,
    WeightsY,
    array_function,
)
from probmetrics._autograd import outside_inference
from probmetrics.transport.directions import unit_directions
from probmetrics.transport.quantiles import line_cost
from probmetrics.transport.sliced import Features, prepare

STILL = 1e-7  # radians: a step this small ends the ascent


@array_function
def max_sliced_wasserstein(
    x: SamplesX,
    y: SamplesY,
    *,
    p: float | int = 2.0,
    restarts: int = 8,
    steps: int = 100,
    root: bool = True,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    generator: torch.Generator | int | None = None,
    features: Features | None = None,
) -> Values:
    r"""Max-sliced Wasserstein distance: along the direction where the samples differ most.

    .. math:: \max_{\|\theta\| = 1} W_p(\theta \cdot x, \theta \cdot y)

    The maximum is searched for by ascent, so the value is that of the best direction found: a
    lower bound of the maximum, hence a certified lower bound of W_p(x, y), whatever the search
    did.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        p: Order, at least 1; ``math.inf`` is allowed.
        restarts: Random starting directions, besides the difference of the means and the
            principal axes of the difference of the covariances.
        steps: Most steps of the ascent.
        root: Return the distance; otherwise its p-th power. W_∞ has no power.
        a: Weights of x, shape (*batch, n), summing to one; uniform if None.
        b: Weights of y, shape (*batch, m).
        generator: Source of the random starts; an integer seeds a new one.
        features: Compare Φ(x) with Φ(y), a function from (*batch, n, d) to (*batch, n, d′).

    Returns:
        One distance per batch entry. :func:`max_sliced_direction` returns the direction.

    Raises:
        ValueError: Samples that are empty, not finite, of different d, or do not broadcast; p
            below one; weights that do not fit.
        TypeError: p, restarts or steps of another type; tensors and other arrays in one call.

    Example:
        >>> x = [[0.0, 0.0], [1.0, 0.0]]
        >>> y = [[3.0, 4.0], [4.0, 4.0]]
        >>> round(max_sliced_wasserstein(x, y), 6)
        5.0

    Notes:
        O(steps (restarts + 3)(n + m)(d + log(n + m))) time; memory of that many projections.
        Differentiable in x, y, a, b at the direction found (envelope theorem). In small samples
        the best direction may be one where the matching changes; the gradient then is that of
        one of the matchings.

    References:
        Deshpande et al. (2019), Max-sliced Wasserstein distance and its use for GANs, eq. (8).
    """
    dtype, order, x, y, a, b = prepare(x, y, p, a, b, features, finite=False)
    theta = _steepest(x, y, a, b, order, restarts, steps, generator)
    return _along(theta.unsqueeze(-2), x, y, a, b, order, root).squeeze(-1).to(dtype)


@array_function
def max_sliced_direction(
    x: SamplesX,
    y: SamplesY,
    *,
    p: float | int = 2.0,
    restarts: int = 8,
    steps: int = 100,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    generator: torch.Generator | int | None = None,
    features: Features | None = None,
) -> Array:
    r"""Direction along which two samples differ most, as used by ``max_sliced_wasserstein``.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        p: Order, at least 1; ``math.inf`` is allowed.
        restarts: As in :func:`max_sliced_wasserstein`.
        steps: As in :func:`max_sliced_wasserstein`.
        a: Weights of x, shape (*batch, n), summing to one; uniform if None.
        b: Weights of y, shape (*batch, m).
        generator: Source of the random starts; an integer seeds a new one.
        features: As in :func:`max_sliced_wasserstein`; the direction is one of features.

    Returns:
        A unit vector per batch entry, shape (*batch, d); its sign is such that y lies further
        along it than x on average. No gradient.

    Raises:
        ValueError: As in :func:`max_sliced_wasserstein`.
        TypeError: As in :func:`max_sliced_wasserstein`.

    Example:
        >>> max_sliced_direction([[0.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [1.0, 2.0]]).round(6)
        array([0., 1.])

    Notes:
        Pass it to ``sliced_wasserstein(directions=...)`` to evaluate it on held-out samples: there
        it is an honest lower bound of the distance between the distributions, up to the noise of
        one projection, while on the samples it was fitted to it is biased upwards.

    References:
        Deshpande et al. (2019), Max-sliced Wasserstein distance and its use for GANs.
    """
    dtype, order, x, y, a, b = prepare(x, y, p, a, b, features, finite=False)
    return _steepest(x, y, a, b, order, restarts, steps, generator).to(dtype)


@outside_inference
def _steepest(
    x: Tensor,
    y: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    p: float,
    restarts: int,
    steps: int,
    generator: torch.Generator | int | None,
) -> Tensor:
    """The best direction of a projected gradient ascent from many starts, shape (*batch, d)."""
    restarts = checks.count(restarts, "restarts", minimum=0)
    steps = checks.count(steps, "steps", minimum=0)
    x, y = x.detach(), y.detach()
    a, b = (None if w is None else w.detach() for w in (a, b))
    shift = _mean(y, b) - _mean(x, a)
    theta = _starts(x, y, a, b, shift, restarts, generator)
    value, slope = _value_and_slope(theta, x, y, a, b, p)
    angle = torch.full_like(value, 0.5)
    for _ in range(steps):
        # One step along the great circle of the gradient: longer after a success, half as long
        # after a failure, which leaves the direction where it was.
        turn = angle.unsqueeze(-1).to(theta.dtype)
        tried = _unit(theta * turn.cos() + _unit(slope) * turn.sin())
        new_value, new_slope = _value_and_slope(tried, x, y, a, b, p)
        better = new_value > value
        theta = torch.where(better.unsqueeze(-1), tried, theta)
        slope = torch.where(better.unsqueeze(-1), new_slope, slope)
        value = torch.where(better, new_value, value)
        angle = torch.where(better, (1.5 * angle).clamp(max=0.75), angle / 2)
        if bool((angle < STILL).all()):
            break
    best = value.argmax(-1, keepdim=True).unsqueeze(-1).expand(*value.shape[:-1], 1, x.shape[-1])
    theta = theta.gather(-2, best).squeeze(-2)
    return torch.where((theta * shift).sum(-1, keepdim=True) < 0, -theta, theta)


def _starts(
    x: Tensor,
    y: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    shift: Tensor,
    restarts: int,
    generator: torch.Generator | int | None,
) -> Tensor:
    """Where means differ most, where variances do, and random directions: (*batch, S, d)."""
    random = unit_directions("random", max(restarts, 1), x, generator)
    _, axes = torch.linalg.eigh(_covariance(y, b) - _covariance(x, a))
    ends = axes[..., [0, -1]].mT
    lost = (shift == 0).all(-1, keepdim=True)
    first = _unit(torch.where(lost, random[0], shift)).unsqueeze(-2)
    batch = ends.shape[:-2]
    drawn = random[:restarts].expand(*batch, -1, -1)
    return torch.cat([first.expand(*batch, -1, -1), ends, drawn], -2)


def _value_and_slope(
    theta: Tensor, x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, p: float
) -> tuple[Tensor, Tensor]:
    """The distance along each direction, and its gradient on the sphere."""
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        value = _along(theta, x, y, a, b, p, True)
        (slope,) = torch.autograd.grad(value.sum(), theta)
    theta = theta.detach()
    return value.detach(), slope - (slope * theta).sum(-1, keepdim=True) * theta


def _along(
    theta: Tensor,
    x: Tensor,
    y: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    p: float,
    root: bool,
) -> Tensor:
    """W_p along each direction of each batch entry, (*batch, S), in float64."""
    a, b = (None if w is None else w.unsqueeze(-2) for w in (a, b))
    return line_cost(theta @ x.mT, theta @ y.mT, a, b, p, root=root)


def _mean(x: Tensor, a: Tensor | None) -> Tensor:
    return x.mean(-2) if a is None else (a.unsqueeze(-1) * x).sum(-2)


def _covariance(x: Tensor, a: Tensor | None) -> Tensor:
    centred = x - _mean(x, a).unsqueeze(-2)
    weighted = centred / x.shape[-2] if a is None else centred * a.unsqueeze(-1)
    return weighted.mT @ centred


def _unit(z: Tensor) -> Tensor:
    """z at length one; zero stays zero."""
    length = z.norm(dim=-1, keepdim=True)
    return z / torch.where(length > 0, length, 1.0)
