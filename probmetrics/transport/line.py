"""Wasserstein distance and barycentre of samples on the real line, by sorting."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import (
    LineX,
    LineY,
    Values,
    WeightsX,
    WeightsY,
    answers_in_numpy,
    array_function,
    is_array,
    to_numpy,
    to_tensor,
)
from probmetrics.transport.quantiles import line_cost
from probmetrics.transport.sorting import merge_rows, rank_rows


@array_function
def wasserstein_1d(
    x: LineX,
    y: LineY,
    *,
    p: float | int = 1.0,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = True,
) -> Values:
    r"""Wasserstein distance W_p between two samples on the line, exact.

    .. math:: W_p^p = \int_0^1 |F^{-1}(t) - G^{-1}(t)|^p \, dt

    with the quantile functions of both samples; n and m may differ. W_∞ is the largest gap
    between them.

    Args:
        x: Points on the line, shape (*batch, n).
        y: Points on the line, shape (*batch, m).
        p: Order, at least 1; ``math.inf`` is allowed.
        a: Weights of x, shape (*batch, n), summing to one; uniform if None. Zeros are exact.
        b: Weights of y, shape (*batch, m).
        root: Return W_p; otherwise W_p^p. W_∞ has no power.

    Returns:
        One distance per batch entry, in the unit of x (to the p-th power without ``root``).

    Raises:
        ValueError: Samples that are empty, not finite, or do not broadcast; p below one;
            weights of another length, negative, or not summing to one.
        TypeError: p is not a number; tensors and other arrays in one call.

    Example:
        >>> wasserstein_1d([0.0, 1.0, 3.0], [5.0, 6.0, 8.0])
        5.0
        >>> wasserstein_1d([0.0, 1.0], [0.0, 1.0], a=[0.5, 0.5], b=[0.25, 0.75], p=2)
        0.5

    Notes:
        O((n + m) log(n + m)) time and linear memory. Sums and cumulative weights are float64
        whatever the dtype. Weights are divided by their sum.

        Gradients, of any order, reach positions and weights. In the weights the gradient is a
        Kantorovich potential, shifted to have mean zero under them: only its differences along
        the simplex mean something. W_∞ has none in the weights, of which it is a step function.
        A pair of matched points at distance zero contributes zero to the gradient in positions,
        and so does a root taken at distance zero. Equal points are matched in sorted order, which
        gives one of the subgradients.

        At p = ∞ an overlap of mass that rounding of the weights alone could produce (4 ε times
        the norm of the weights) is taken for none.

    References:
        Peyré & Cuturi (2019), Computational Optimal Transport, Remark 2.30, eq. (2.33).
    """
    p = checks.order(p)
    x, y = checks.lines(x, y)
    a, b = checks.masses(a, x, "a", of="x"), checks.masses(b, y, "b", of="y")
    return line_cost(_wide(x), _wide(y), a, b, p, root=root).to(x.dtype)


@dataclass(frozen=True)
class LineBarycenter:
    """A weighted sample on the line, ascending: the barycentre of several.

    Attributes:
        points: Where the mass sits, shape (*batch, k).
        masses: How much, shape (*batch, k), summing to one.
    """

    points: Any
    masses: Any


def wasserstein_1d_barycenter(
    samples: Sequence[Any],
    *,
    weights: Any = None,
    masses: Sequence[Any] | None = None,
) -> LineBarycenter:
    r"""Wasserstein barycentre of samples on the line, exact: the mean of their quantile functions.

    .. math:: \bar F^{-1}(t) = \sum_k \lambda_k F_k^{-1}(t)
              \quad\text{minimises}\quad \sum_k \lambda_k W_2^2(\cdot, P_k)

    Args:
        samples: K samples, each of shape (*batch, n_k); sizes may differ.
        weights: λ, shape (K,), summing to one; uniform if None.
        masses: Weights of the points of each sample: K entries, each of shape (*batch, n_k) or
            None for uniform.

    Returns:
        The barycentre: n equal masses if all samples have n points and none has masses, else
        Σ (n_k − 1) + 1 points with their masses (some may be zero).

    Raises:
        ValueError: No sample; samples, weights or masses that do not fit.
        TypeError: Tensors and other arrays in one call.

    Example:
        >>> wasserstein_1d_barycenter([[0.0, 2.0], [10.0, 14.0]]).points
        array([5., 8.])
        >>> wasserstein_1d_barycenter([[0.0, 2.0], [10.0]], weights=[0.5, 0.5]).points
        array([5., 6.])

    Notes:
        O(N log N) in the number N of all points. Differentiable in points, masses and weights.

    References:
        Agueh & Carlier (2011), Barycenters in the Wasserstein space, section 6.1.
    """
    samples, masses = list(samples), None if masses is None else list(masses)
    if not samples:
        raise ValueError("samples is empty; pass at least one sample")
    if masses is not None and len(masses) != len(samples):
        raise ValueError(f"got {len(masses)} masses for {len(samples)} samples; pass one for each")
    given = {"samples": samples, "masses": masses or [], "weights": [weights]}
    as_numpy = answers_in_numpy(
        {f"{kind}[{k}]": v for kind, vs in given.items() for k, v in enumerate(vs) if is_array(v)}
    )
    lines, rates, shares = _admit(samples, weights, masses)
    wide = [_wide(points) for points in lines]
    orders = rank_rows(*wide)
    if all(share is None for share in shares) and len({points.shape[-1] for points in lines}) == 1:
        quantiles = [x.gather(-1, order) for x, order in zip(wide, orders, strict=True)]
        steps = torch.full_like(quantiles[0].double(), 1.0 / lines[0].shape[-1])
    else:
        quantiles, steps = _common_quantiles(wide, orders, shares)
    mean = torch.stack(
        [r * q for r, q in zip(rates, torch.broadcast_tensors(*quantiles), strict=True)]
    ).sum(0)
    result = LineBarycenter(mean.to(lines[0].dtype), steps.expand_as(mean).to(lines[0].dtype))
    return to_numpy(result) if as_numpy else result


def _common_quantiles(
    lines: list[Tensor], orders: list[Tensor], shares: list[Tensor | None]
) -> tuple[list[Tensor], Tensor]:
    """All quantile functions on the steps of all of them, and the lengths of those steps."""
    levels = []
    batch = torch.broadcast_shapes(
        *(x.shape[:-1] for x in lines), *(s.shape[:-1] for s in shares if s is not None)
    )
    for x, order, share in zip(lines, orders, shares, strict=True):
        mass = torch.ones_like(x) if share is None else share
        mass = mass.expand(*batch, -1).gather(-1, order.expand(*batch, -1))
        total = mass.cumsum(-1, dtype=torch.float64)
        levels.append(total / total[..., -1:])
    inner = torch.cat([level[..., :-1] for level in levels], -1)
    order = merge_rows(inner)
    ends = torch.zeros_like(levels[0][..., -1:])
    steps = torch.cat([ends, inner.gather(-1, order), ends + 1], -1).diff(dim=-1)
    quantiles, offset = [], 0
    for x, rank in zip(lines, orders, strict=True):
        size = x.shape[-1] - 1
        passed = ((order >= offset) & (order < offset + size)).cumsum(-1)
        index = torch.nn.functional.pad(passed, (1, 0))
        quantiles.append(x.gather(-1, rank).expand(*batch, -1).gather(-1, index))
        offset += size
    return quantiles, steps


def _admit(
    samples: Sequence[Any], weights: Any, masses: Sequence[Any] | None
) -> tuple[list[Tensor], Tensor, list[Tensor | None]]:
    """Samples, λ (in float64) and masses as checked tensors on one device."""
    names = [f"samples[{k}]" for k in range(len(samples))]
    lines = [
        checks.line(to_tensor(sample, name), name=name)
        for sample, name in zip(samples, names, strict=True)
    ]
    batch: Sequence[int] = ()
    for points, name in zip(lines, names, strict=True):
        checks.same_kind(lines[0].unsqueeze(-1), points.unsqueeze(-1), (names[0], name))
        checks.broadcastable(batch, points.shape[:-1], ("the samples before", name))
        batch = torch.broadcast_shapes(tuple(batch), points.shape[:-1])
    dtype = functools.reduce(torch.promote_types, (points.dtype for points in lines))
    lines = [points.to(dtype) for points in lines]
    shares = [
        checks.masses(to_tensor(mass, name), points, name, of=sample) if mass is not None else None
        for mass, points, name, sample in zip(
            masses or [None] * len(lines),
            lines,
            (f"masses[{k}]" for k in range(len(lines))),
            names,
            strict=True,
        )
    ]
    rates = None if weights is None else to_tensor(weights, "weights")
    rates = checks.weights(rates, lines[0], "weights", points=len(lines)).double()
    return lines, rates / rates.sum(-1, keepdim=True), shares


def _wide(x: Tensor) -> Tensor:
    """Half precision as float32, so that gaps are not rounded before they are summed."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
