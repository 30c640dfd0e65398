"""Length scales for kernels, read off the pooled sample."""

import math

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, Values, array_function
from probmetrics.pairwise.centring import centre_of

POINTS = 1000  # pooled points whose pairs are looked at


@array_function
def median_bandwidth(x: SamplesX, y: SamplesY | None = None) -> Values:
    """Median distance between the points of the pooled sample, shape (*batch).

    The pooled sample does not know which point came from which side, so a test that permutes
    labels keeps its size. Of more than a thousand points, a thousand evenly spaced ones along
    their order by a fixed projection are used: a choice that depends on the points, not on
    their order.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d), or None.

    Returns:
        The bandwidth, in the unit of the data. Where over half of all pairs are ties, the mean
        distance; where all points coincide, one. It carries no gradient.

    References:
        Garreau, Jitkrittum & Kanagawa (2017), "Large sample analysis of the median heuristic".

    Example:
        >>> median_bandwidth([[0.0], [1.0], [3.0]])
        2.0
    """
    return quantile_bandwidths(x, y, [0.5])[..., 0]


@array_function
def quantile_bandwidth(x: SamplesX, y: SamplesY | None = None, *, quantile: float = 0.5) -> Values:
    """A quantile of the distances between the points of the pooled sample, shape (*batch).

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d), or None.
        quantile: Between 0 and 1; 0.5 is ``median_bandwidth``.

    Example:
        >>> quantile_bandwidth([[0.0], [1.0], [3.0]], quantile=1.0)
        3.0
    """
    quantile = checks.real(quantile, "quantile")
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must lie between 0 and 1, got {quantile}")
    return quantile_bandwidths(x, y, [quantile])[..., 0]


def quantile_bandwidths(x: Tensor, y: Tensor | None, quantiles: list[float]) -> Tensor:
    """Several quantiles of the pooled distances at once, shape (*batch, len(quantiles))."""
    pooled = _pooled(x, y)
    n = pooled.shape[-2]
    if n < 2:
        return pooled.new_ones(*pooled.shape[:-2], len(quantiles))
    i, j = torch.triu_indices(n, n, 1, device=pooled.device)
    work = pooled.double() if pooled.device.type == "cpu" else pooled
    work = work - centre_of(work)  # a product of points far out would leave no digits
    squares = work.square().sum(-1)
    distances = torch.cdist(work, work)[..., i, j]
    resolved = 4.0 * torch.finfo(work.dtype).eps * (squares[..., i] + squares[..., j])
    distances = torch.where(distances.square() > resolved, distances, 0.0)  # a tie is a tie
    found = _quantiles(distances, quantiles)
    mean = distances.mean(-1, keepdim=True)
    found = torch.where(found > 0, found, torch.where(mean > 0, mean, torch.ones_like(mean)))
    return found.to(pooled.dtype)


def _quantiles(values: Tensor, quantiles: list[float]) -> Tensor:
    """Linearly interpolated quantiles along the last axis."""
    positions = [quantile * (values.shape[-1] - 1) for quantile in quantiles]
    below, above = ([f(p) for p in positions] for f in (math.floor, math.ceil))
    if checks.readable(values):  # a partition, many times faster than a sort
        places = sorted({*below, *above})
        ordered = torch.from_numpy(np.partition(values.numpy(), places, axis=-1))
    else:
        ordered = values.sort(dim=-1).values
    found = [
        ordered[..., low] * (1 - (position - low)) + ordered[..., high] * (position - low)
        for position, low, high in zip(positions, below, above, strict=True)
    ]
    return torch.stack(found, dim=-1)


def _pooled(x: Tensor, y: Tensor | None) -> Tensor:
    """At most ``POINTS`` points of the pooled sample, chosen without regard to their order."""
    if y is None:
        x = checks.sample(x).detach()
        pooled = x
    else:
        x, y = checks.samples(x, y)
        batch = checks.common_batch(x.shape[:-2], y.shape[:-2])
        parts = [side.detach().expand(*batch, *side.shape[-2:]) for side in (x, y)]
        pooled = torch.cat(parts, dim=-2)
    if pooled.dtype in (torch.float16, torch.bfloat16):
        pooled = pooled.float()
    n, d = pooled.shape[-2:]
    if n <= POINTS:
        return pooled
    steps = torch.arange(1, d + 1, dtype=torch.float64, device=pooled.device)
    direction = torch.cos(steps).to(pooled.dtype)
    order = (pooled @ direction).argsort(dim=-1)
    chosen = torch.linspace(0, n - 1, POINTS, device=pooled.device).round().long()
    index = order[..., chosen].unsqueeze(-1).expand(*order.shape[:-1], POINTS, d)
    return pooled.gather(-2, index)
