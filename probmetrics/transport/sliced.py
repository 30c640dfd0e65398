"""Sliced Wasserstein distance: the mean over directions of the distance along each."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
from probmetrics.transport.directions import unit_directions
from probmetrics.transport.quantiles import power
from probmetrics.transport.slices import averaged, costs_by_block, mean_distance

Features = Callable[[Tensor], Tensor]


@array_function
def sliced_wasserstein(
    x: SamplesX,
    y: SamplesY,
    *,
    p: float | int = 2.0,
    projections: int = 128,
    root: bool = True,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    generator: torch.Generator | int | None = None,
    directions: Array | str = "random",
    features: Features | None = None,
) -> Values:
    r"""Sliced Wasserstein distance of order p, over finitely many directions.

    .. math:: SW_p^p = \frac1L \sum_{l=1}^L W_p^p(\theta_l \cdot x, \theta_l \cdot y)

    an unbiased estimate of the mean over the sphere (the power; its root is biased downwards by
    O(1/L)). The directions are drawn once and shared by x, y and all batch entries.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        p: Order, at least 1 and finite.
        projections: How many directions L to draw. In one dimension one tells all.
        root: Return SW_p; otherwise SW_p^p.
        a: Weights of x, shape (*batch, n), summing to one; uniform if None.
        b: Weights of y, shape (*batch, m).
        generator: Source of the directions; an integer seeds a new one.
        directions: ``"random"``: independent and uniform. ``"orthogonal"``: uniform, orthogonal
            in groups of d, with less variance. ``"qmc"``: scrambled Sobol points on the sphere
            (equal angles in the plane). Or the directions themselves, shape (L, d); they are
            scaled to length one.
        features: Compare Φ(x) with Φ(y): a function from (*batch, n, d) to (*batch, n, d′).

    Returns:
        One distance per batch entry, in the unit of x.

    Raises:
        ValueError: Samples that are empty, not finite, of different d, or do not broadcast; p
            below one or infinite; unknown or misshapen directions; weights that do not fit.
        TypeError: p or projections of another type; tensors and other arrays in one call.

    Example:
        >>> x = [[0.0, 0.0], [1.0, 0.0]]
        >>> y = [[3.0, 0.0], [4.0, 0.0]]
        >>> sliced_wasserstein(x, y, directions=[[1.0, 0.0], [0.0, 1.0]], root=False)
        4.5

    Notes:
        O(L (n + m)(d + log(n + m))) time; the directions are handled in blocks, so memory is that
        of the samples, also with a gradient. Sums are float64. Differentiable in x, y, a, b and
        given directions, twice if need be (the second derivative holds all blocks). Where
        projections coincide, and where a root is zero, gradients are as in
        :func:`~probmetrics.transport.line.wasserstein_1d`. For W_p it is a lower bound.

    References:
        Bonneel, Rabin, Peyré & Pfister (2015), Sliced and Radon Wasserstein barycenters of
        measures, eq. (9); Kolouri et al. (2019), Generalized sliced Wasserstein distances (the
        feature map); Rowland et al. (2019), Orthogonal estimation of Wasserstein distances.
    """
    dtype, p, x, y, a, b = prepare(x, y, p, a, b, features)
    theta = unit_directions(directions, projections, x, generator)
    return mean_distance(x, y, a, b, theta, p, root=root).to(dtype)


@dataclass(frozen=True)
class SlicedEstimate:
    """A sliced Wasserstein distance with the error of having few directions.

    Attributes:
        value: The distance, one per batch entry.
        standard_error: Of the value, over the draw of the directions; the samples are fixed.
        projections: How many directions were used.
    """

    value: Any
    standard_error: Any
    projections: int


@array_function
def sliced_wasserstein_estimate(
    x: SamplesX,
    y: SamplesY,
    *,
    p: float | int = 2.0,
    projections: int = 128,
    root: bool = True,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    generator: torch.Generator | int | None = None,
    directions: Array | str = "random",
    features: Features | None = None,
) -> SlicedEstimate:
    r"""Sliced Wasserstein distance with its standard error over the directions.

    The costs W_p^p along L directions have mean V and standard deviation s (divided by L − 1).
    The standard error of V is s/√L, and that of its root V^{1/p}, to first order,
    s/√L · V^{1/p − 1}/p.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        p: Order, at least 1 and finite.
        projections: How many directions to draw, at least 2.
        root: Estimate SW_p; otherwise SW_p^p.
        a: Weights of x, shape (*batch, n), summing to one; uniform if None.
        b: Weights of y, shape (*batch, m).
        generator: Source of the directions; an integer seeds a new one.
        directions: As in :func:`sliced_wasserstein`. The error supposes that they are drawn
            independently; orthogonal and quasi-Monte-Carlo ones cover the sphere more evenly, and
            their error is usually smaller than the one reported.
        features: As in :func:`sliced_wasserstein`.

    Returns:
        The value of :func:`sliced_wasserstein` with the same options, its standard error (zero in
        one dimension, where one direction tells all), and the number of directions.

    Raises:
        ValueError: As in :func:`sliced_wasserstein`, and for fewer than two directions.
        TypeError: As in :func:`sliced_wasserstein`.

    Example:
        >>> x = torch.zeros(1, 2)
        >>> y = torch.tensor([[3.0, 4.0]])
        >>> answer = sliced_wasserstein_estimate(x, y, projections=1000, root=False, generator=0)
        >>> abs(float(answer.value) - 12.5) < 3 * float(answer.standard_error)
        True

    Notes:
        Cost as of :func:`sliced_wasserstein`; gradients are not kept.

    References:
        Nadjahi et al. (2020), Statistical and topological properties of sliced probability
        divergences, section 3.
    """
    dtype, p, x, y, a, b = prepare(x, y, p, a, b, features)
    theta = unit_directions(directions, projections, x, generator)
    count = len(theta)
    if count < 2 and x.shape[-1] > 1:
        raise ValueError(f"a standard error needs at least 2 projections, got {count}")
    with torch.no_grad():
        costs = costs_by_block(x, y, a, b, theta, p, root=root)
        value = averaged(costs, p, root=root)
        # In units of the value powers stay in range; the powers in units of theirs have mean one.
        unit = torch.where(value > 0, value, 1.0)
        order = p if root else 1.0
        shares = power(costs / unit.unsqueeze(-1), order)
        squares = (shares - shares.mean(-1, keepdim=True)).square().sum(-1)
        error = unit / order * (squares / (count * max(count - 1, 1))).sqrt()
    return SlicedEstimate(value.to(dtype), error.to(dtype), count)


def prepare(
    x: Tensor,
    y: Tensor,
    p: float | int,
    a: Tensor | None,
    b: Tensor | None,
    features: Features | None,
    *,
    finite: bool = True,
) -> tuple[torch.dtype, float, Tensor, Tensor, Tensor | None, Tensor | None]:
    """The dtype to answer in, and the checked problem: on features, centred, half made single."""
    p = checks.order(p)
    if finite and p == math.inf:
        raise ValueError(
            "p must be finite, got inf: the mean over directions has no limit but the largest "
            "one; use max_sliced_wasserstein"
        )
    x, y = checks.samples(x, y)
    a, b = _weights(a, x, "a", "x"), _weights(b, y, "b", "y")
    if features is not None:
        x, y = checks.samples(_mapped(features, x, "x"), _mapped(features, y, "y"))
    dtype = x.dtype
    if dtype in (torch.float16, torch.bfloat16):
        x, y = x.float(), y.float()
    # Only differences matter. A common centre keeps their digits when the data lie far from zero.
    together = x.shape[:-2] == y.shape[:-2]
    held = x.detach()
    if together:
        centre = held.mean(-2, keepdim=True)
    else:  # zero where the batch is empty
        centre = held.flatten(0, -2).sum(0) / max(held.shape[:-1].numel(), 1)
    return dtype, p, x - centre, y - centre, a, b


def _weights(weights: Tensor | None, x: Tensor, name: str, of: str) -> Tensor | None:
    if weights is None:
        return None
    weights = checks.weights(weights, x, name)
    checks.broadcastable(weights.shape[:-1], x.shape[:-2], (name, of))
    return weights


def _mapped(features: Features, x: Tensor, name: str) -> Tensor:
    """Φ(x), checked: one row of features per point."""
    mapped = features(x)
    if not isinstance(mapped, Tensor) or mapped.shape[:-1] != x.shape[:-1]:
        shape = tuple(mapped.shape) if isinstance(mapped, Tensor) else type(mapped).__name__
        raise ValueError(
            f"features must map {name} of shape {tuple(x.shape)} to a tensor with one row of "
            f"features per point, (*batch, n, d′); got {shape}"
        )
    return mapped
