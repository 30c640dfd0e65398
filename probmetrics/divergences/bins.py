"""Sums over bins: a row of the family, or a power of the ratio, on two vectors of masses.

A bin is any pair of masses (p_i, q_i): of a histogram, of an enumerated support, of quadrature
nodes with their weights, of drawn points. The sums keep their relative accuracy as p → q and read
what the row says about bins that only one side fills.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.divergences.logratio import lift
from probmetrics.divergences.row import FDivergence


class Bins(NamedTuple):
    """Masses of two distributions on common bins, with everything that reads zeros made safe.

    ``ratio`` is log p/q where both are filled and 0 elsewhere; ``log_p`` is 0 where p is empty.
    """

    p: Tensor
    q: Tensor
    log_p: Tensor
    ratio: Tensor
    fills_p: Tensor  # p > 0
    fills_q: Tensor

    @property
    def common(self) -> Tensor:
        """Where both sides have mass."""
        return self.fills_p & self.fills_q


def from_masses(p: Tensor, q: Tensor) -> Bins:
    """Bins from masses; the log-ratio of near-equal ones is exact to rounding."""
    p, q = torch.broadcast_tensors(p, q)
    fills_p, fills_q = p > 0, q > 0
    both = fills_p & fills_q
    safe_p, safe_q = torch.where(fills_p, p, 1.0), torch.where(fills_q, q, 1.0)
    # p − q is exact while the masses are within a factor two, so log1p((p − q)/q) has the full
    # relative accuracy that log p − log q has not; beyond, the difference of logs is as good.
    near = both & (p - q < q / 2) & (q - p < q / 2)
    gap = torch.where(near, (p - q) / torch.where(near, q, 1.0), 0.0)
    log_p = safe_p.log()
    ratio = torch.where(near, torch.log1p(gap), torch.where(both, log_p - safe_q.log(), 0.0))
    return Bins(p, q, log_p, ratio, fills_p, fills_q)


def from_logs(log_p: Tensor, log_q: Tensor) -> Bins:
    """Bins from log-masses, −∞ where empty; masses below the dtype's range keep their ratio."""
    log_p, log_q = torch.broadcast_tensors(log_p, log_q)
    fills_p, fills_q = log_p > -math.inf, log_q > -math.inf
    both = fills_p & fills_q
    safe_p, safe_q = torch.where(fills_p, log_p, 0.0), torch.where(fills_q, log_q, 0.0)
    p = torch.where(fills_p, safe_p.exp(), 0.0)
    q = torch.where(fills_q, safe_q.exp(), 0.0)
    return Bins(p, q, safe_p, torch.where(both, safe_p - safe_q, 0.0), fills_p, fills_q)


def terms(row: FDivergence, bins: Bins) -> Tensor:
    """What each bin adds to D_f (the table's, before ``row.scale``)."""
    both = bins.common
    p, q = torch.where(both, bins.p, 1.0), torch.where(both, bins.q, 1.0)
    inner = row.perspective(p, q, bins.ratio, torch.where(both, bins.log_p, 0.0))
    only_q = _edge(bins.p, bins.q, *row.at_zero)
    only_p = _edge(bins.p, bins.q, *row.at_infinity)
    neither = torch.zeros_like(inner)
    outer = torch.where(bins.fills_p, only_p, torch.where(bins.fills_q, only_q, neither))
    return torch.where(both, inner, outer)


def _edge(p: Tensor, q: Tensor, reward: float, penalty: float) -> Tensor:
    """p·reward − q·penalty with 0·∞ = 0, in value and in gradient."""
    total = torch.zeros_like(p)
    for mass, factor in ((p, reward), (q, -penalty)):
        if math.isfinite(factor):
            total = total + mass * factor
        else:
            total = torch.where(mass > 0, math.copysign(math.inf, factor), total)
    return total


def divergence(row: FDivergence, bins: Bins) -> Tensor:
    """The public value, scale·D_f, summed over the last axis in float64."""
    return row.scale * terms(row, bins).sum(-1, dtype=torch.float64)


def log_affinity(bins: Bins, alpha: float) -> Tensor:
    """log Σ p^α q^{1−α} over the last axis; +∞ where a bin is infinite, −∞ where all are empty."""
    both = bins.common
    exponent = torch.where(both, bins.log_p + (alpha - 1) * bins.ratio, -math.inf)
    if alpha > 1:
        exponent = torch.where(bins.fills_p & ~bins.fills_q, math.inf, exponent)
    elif alpha < 0:
        exponent = torch.where(bins.fills_q & ~bins.fills_p, math.inf, exponent)
    return safe_logsumexp(exponent.double())


def log_overlap(bins: Bins) -> Tensor:
    """−log Q(p > 0): Rényi's divergence of order 0."""
    missed = torch.where(bins.fills_p, 0.0, bins.q).sum(-1, dtype=torch.float64)
    near = missed < 0.5  # exactly zero on a common support
    log_q = torch.where(bins.common, bins.log_p - bins.ratio, -math.inf)
    far = safe_logsumexp(log_q.double())
    return -torch.where(near, torch.log1p(-torch.where(near, missed, 0.0)), far)


def log_max_ratio(bins: Bins) -> Tensor:
    """log max p/q over the bins of p: Rényi's divergence of order ∞."""
    outside = torch.where(bins.fills_p, math.inf, -math.inf).to(bins.ratio.dtype)
    return torch.where(bins.common, bins.ratio, outside).amax(-1)


def safe_logsumexp(x: Tensor) -> Tensor:
    """Log-sum-exp over the last axis whose gradient is zero, not NaN, at infinite entries."""
    top = x.detach().amax(-1, keepdim=True)
    usable = torch.isfinite(top)
    shift = torch.where(usable, top, 0.0)
    shares = torch.where(usable & (x > -math.inf), x - shift, -math.inf).exp()
    total = torch.where(usable, shares.sum(-1, keepdim=True), 1.0).log() + shift
    return torch.where(usable, total, top).squeeze(-1)


def renyi(bins: Bins, alpha: float, row: FDivergence) -> Tensor:
    """Rényi's divergence of order α ∉ {0, 1, ∞}; ``row`` is the α-divergence of that order."""
    return log_power_sum(bins, alpha, row) / (alpha - 1)


def log_power_sum(bins: Bins, alpha: float, row: FDivergence) -> Tensor:
    """log Σ p^α q^{1−α} over masses that sum to one, near-equal ones included."""
    power = alpha * (alpha - 1)
    # Near equality log1p of the non-negative excess keeps every digit; far out (1 + excess
    # would cancel, or overflow) the sum of powers in logs does. Each branch sees only its own.
    with torch.no_grad():
        near = (power * divergence(row, bins)).abs() < 0.5
    mine = near.unsqueeze(-1)
    close = bins._replace(
        q=torch.where(mine, bins.q, bins.p),
        ratio=torch.where(mine, bins.ratio, 0.0),
        fills_q=torch.where(mine, bins.fills_q, bins.fills_p),
    )
    log_sum = torch.log1p(power * divergence(row, close))
    return torch.where(near, log_sum, log_affinity(bins, alpha))


def pair(
    p: Tensor, q: Tensor, *, log: bool = False, normalize: bool = False
) -> tuple[Bins, torch.dtype]:
    """Two vectors of probabilities, checked and made into bins, and the dtype to answer in."""
    dtype = torch.promote_types(p.dtype, q.dtype)
    check = checks.log_probabilities if log else checks.probabilities
    p = check(lift(p) if normalize else p, name="p", normalize=normalize)
    q = check(lift(q) if normalize else q, name="q", normalize=normalize)
    checks.same_bins(p, q)
    work = torch.promote_types(lift(p).dtype, lift(q).dtype)
    make = from_logs if log else from_masses
    return make(p.to(work), q.to(work)), dtype
