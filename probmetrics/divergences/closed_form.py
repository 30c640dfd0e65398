"""Divergences between torch Distributions: exactly where that is possible, else with an error bar.

The order of attempts: laws that are singular to each other; closed forms (Gaussians; exponential
families; the pairs torch knows; products of independent parts; a common bijection undone); sums
over enumerated or counted points; quadrature on the line; Monte Carlo.

References:
    Nielsen & Nock (2011), "On Rényi and Tsallis entropies and divergences for
    exponential families".
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    Independent,
    TransformedDistribution,
)
from torch.distributions import kl_divergence as torch_kl

from probmetrics.divergences import bins, points
from probmetrics.divergences.density import checked, is_discrete, value_dtype
from probmetrics.divergences.family import (
    KL,
    Alpha,
    Jeffrey,
    NeymanChi2,
    PearsonChi2,
    SymmetricChi2,
    TotalVariation,
)
from probmetrics.divergences.montecarlo import MonteCarloEstimate, drawn_divergence, drawn_renyi
from probmetrics.divergences.row import FDivergence
from probmetrics.gaussian import Gaussian, gaussian_kl, gaussian_renyi, gaussian_total_variation


def divergence(
    row: FDivergence, p: Distribution, q: Distribution, *, draws: Any, generator: Any
) -> Tensor | MonteCarloEstimate:
    """The public value, scale·D_f, between two Distributions, of their common batch shape."""
    batch = checked(p, q)
    dtype = value_dtype(p, q)
    value = _exact(row, p, q)
    if value is not None:
        return value.expand(batch).to(dtype)
    return drawn_divergence(row, p, q, draws, generator, dtype)


def renyi(
    alpha: float, p: Distribution, q: Distribution, *, draws: Any, generator: Any
) -> Tensor | MonteCarloEstimate:
    """Rényi's divergence of order α > 0, α ≠ 1, between two Distributions."""
    batch = checked(p, q)
    dtype = value_dtype(p, q)
    log_sum = _log_affinity(alpha, p, q)
    if log_sum is not None:
        return (log_sum / (alpha - 1)).expand(batch).to(dtype)
    return drawn_renyi(alpha, p, q, draws, generator, dtype)


def _exact(row: FDivergence, p: Distribution, q: Distribution) -> Tensor | None:
    """The public value without sampling error; None where there is no way to it."""
    p, q = _stripped(p, q)
    if is_discrete(p) != is_discrete(q):
        return _singular(row, p, q)
    closed = _closed(row, p, q)
    if closed is not None and bool(torch.isfinite(closed).all()):
        return row.scale * closed
    # Infinite closed forms are only believed where nothing better can be had: torch calls
    # distributions singular whose supports merely share an end.
    found = points.masses(row, p, q)
    if found is not None:
        shared, diverges = found
        value = bins.divergence(row, shared)
        return torch.where(diverges, math.inf, value)
    return closed if closed is None else row.scale * closed


def _stripped(p: Distribution, q: Distribution) -> tuple[Distribution, Distribution]:
    """Both without the bijection they share: no f-divergence sees it."""
    while (
        isinstance(p, TransformedDistribution)
        and isinstance(q, TransformedDistribution)
        and p.transforms == q.transforms
        and all(transform.bijective for transform in p.transforms)
        and p.base_dist.event_shape == q.base_dist.event_shape
        and len(p.base_dist.event_shape) == len(p.event_shape)
    ):
        p, q = p.base_dist, q.base_dist
    return p, q


def _singular(row: FDivergence, p: Distribution, q: Distribution) -> Tensor:
    """Between a discrete and a continuous law: that of disjoint supports."""
    one = torch.eye(2, dtype=torch.float64)
    value = bins.divergence(row, bins.from_masses(one[0], one[1]))
    return value.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


def _closed(row: FDivergence, p: Distribution, q: Distribution) -> Tensor | None:
    """D_f by formula, before the scale."""
    if row is Jeffrey:
        return _sum(_kl(p, q), _kl(q, p))
    if row is SymmetricChi2:
        return _sum(_closed(PearsonChi2, p, q), _closed(NeymanChi2, p, q))
    if row is TotalVariation:
        laws = _gaussians(p, q)
        if laws is None or math.prod(p.event_shape) != 1:
            return None
        value: Tensor = gaussian_total_variation(*laws)
        return value
    if row.order is None:
        return None
    if row.order in (0, 1):
        value_of_kl = _kl(p, q) if row.order == 1 else _kl(q, p)
        return None if value_of_kl is None else row.times * value_of_kl
    log_sum = _log_affinity(row.order, p, q, formula=True)
    if log_sum is None:
        return None
    return row.times * torch.expm1(log_sum) / (row.order * (row.order - 1))


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else first + second


def _gaussians(p: Distribution, q: Distribution) -> tuple[Gaussian, Gaussian] | None:
    try:
        return Gaussian.of(p), Gaussian.of(q)
    except TypeError:
        return None


def _kl(p: Any, q: Any) -> Tensor | None:
    """KL(P‖Q) by formula."""
    laws = _gaussians(p, q)
    if laws is not None:
        value: Tensor = gaussian_kl(*laws)
        return value
    if points.tables(p, q) is not None:
        return None  # summed directly, which keeps digits that the formula loses
    try:
        return torch_kl(p, q).double()
    except (NotImplementedError, RuntimeError):
        pass
    if _alike(p, q):
        return _over_parts(_exact(KL, p.base_dist, q.base_dist), p)
    return None


def _alike(p: Any, q: Any) -> bool:
    """Whether both are products over the same number of independent parts."""
    return (
        type(p) is Independent
        and type(q) is Independent
        and p.reinterpreted_batch_ndims == q.reinterpreted_batch_ndims > 0
    )


def _over_parts(value: Tensor | None, p: Any) -> Tensor | None:
    """Sum of what adds over independent parts."""
    if value is None:
        return None
    value = value.expand(torch.broadcast_shapes(value.shape, p.base_dist.batch_shape))
    return value.sum(tuple(range(-p.reinterpreted_batch_ndims, 0)))


def _log_affinity(alpha: float, p: Any, q: Any, *, formula: bool = False) -> Tensor | None:
    """log ∫ p^α q^{1−α} for α ∉ {0, 1}; with ``formula`` only where no points are summed over."""
    p, q = _stripped(p, q)
    if is_discrete(p) != is_discrete(q):
        overlap = torch.tensor(-math.inf if 0 < alpha < 1 else math.inf, dtype=torch.float64)
        return overlap.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))
    laws = _gaussians(p, q)
    if laws is not None:
        order, pair = (alpha, laws) if alpha > 0 else (1 - alpha, laws[::-1])
        value: Tensor = (order - 1) * gaussian_renyi(*pair, alpha=order)
        return value
    for family in FAMILIES:
        if isinstance(p, family) and isinstance(q, family):
            return _of_exponential_family(alpha, p, q, family)
    if _alike(p, q):
        return _over_parts(_log_affinity(alpha, p.base_dist, q.base_dist), p)
    return None if formula else _summed_log_affinity(alpha, p, q)


def _summed_log_affinity(alpha: float, p: Distribution, q: Distribution) -> Tensor | None:
    row = Alpha(alpha)
    found = points.masses(row, p, q)
    if found is None:
        return None
    shared, diverges = found
    value = bins.log_power_sum(shared, alpha, row)
    return torch.where(diverges, math.inf, value)


def _of_exponential_family(
    alpha: float, p: Distribution, q: Distribution, family: type[Distribution]
) -> Tensor:
    """A(αη + (1−α)η′) − αA(η) − (1−α)A(η′); +∞ where the mixture of parameters is none."""
    parameters, normalizer = FAMILIES[family]
    first, second = ([value.double() for value in parameters(law)] for law in (p, q))
    mixed = [alpha * a + (1 - alpha) * b for a, b in zip(first, second, strict=True)]
    valid = torch.stack(torch.broadcast_tensors(*[m > 0 for m in mixed])).all(0)
    if p.event_shape:
        valid = valid.all(-1, keepdim=True)
    value = normalizer(*[torch.where(valid, m, 1.0) for m in mixed])
    value = value - alpha * normalizer(*first) - (1 - alpha) * normalizer(*second)
    return torch.where(valid.squeeze(-1) if p.event_shape else valid, value, math.inf)


# Parameters, all positive, in which the natural parameters are affine, and the log-normaliser.
FAMILIES: dict[type[Distribution], tuple[Callable[[Any], list[Tensor]], Callable[..., Tensor]]] = {
    Gamma: (lambda law: [law.concentration, law.rate], lambda a, b: a.lgamma() - a * b.log()),
    Exponential: (lambda law: [law.rate], lambda b: -b.log()),
    Beta: (
        lambda law: [law.concentration1, law.concentration0],
        lambda a, b: a.lgamma() + b.lgamma() - (a + b).lgamma(),
    ),
    Dirichlet: (lambda law: [law.concentration], lambda c: c.lgamma().sum(-1) - c.sum(-1).lgamma()),
}
