"""Divergences between Distributions by Monte Carlo, as values that say how sure they are.

Half the draws come from P, half from Q, and each is weighted against their mixture m = (p + q)/2:
D_f = ½ E_P[h] + ½ E_Q[h], where h is what a bin of masses (p/m, q/m) adds. The weights are at most
2 whatever the tails, and h is non-negative and small where p is near q.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from probmetrics import _checks as checks
from probmetrics.divergences import bins
from probmetrics.divergences.density import checked, draw, log_density
from probmetrics.divergences.family import Alpha
from probmetrics.divergences.row import FDivergence


@dataclass(frozen=True)
class MonteCarloEstimate:
    """A divergence estimated from draws, with its uncertainty.

    Attributes:
        value: The estimate, of the batch shape; differentiable where it came from tensors.
        standard_error: Its standard error by the central limit theorem.
        low: Lower end of the 95% interval (not clipped at zero).
        high: Upper end of the 95% interval.
        effective_sample_size: (Σ|h|)²/Σh² over the terms h that were averaged: how many draws carry
            the value. Far below ``draws``, a few draws dominate and the interval is too short.
        draws: How many points were drawn, from both sides together.

    References:
        Owen (2013), "Monte Carlo theory, methods and examples", §9.3.
    """

    value: Any
    standard_error: Any
    low: Any
    high: Any
    effective_sample_size: Any
    draws: int

    def interval(self, level: float = 0.95) -> tuple[Any, Any]:
        """The symmetric normal interval value ± z·standard_error of another level."""
        z = normal_quantile(level)
        return self.value - z * self.standard_error, self.value + z * self.standard_error

    def scaled(self, factor: float) -> "MonteCarloEstimate":
        """The estimate of ``factor`` times the quantity."""
        parts = (self.value, self.standard_error, self.low, self.high)
        value, error, low, high = (factor * part for part in parts)
        return MonteCarloEstimate(value, error, low, high, self.effective_sample_size, self.draws)

    def __float__(self) -> float:
        return float(self.value)


def normal_quantile(level: float) -> float:
    """The z at which a standard normal holds ``level`` within ±z."""
    return NormalDist().inv_cdf((1 + checks.between(level, "level", 0.0, 1.0)) / 2)


def drawn_divergence(
    row: FDivergence,
    p: Distribution,
    q: Distribution,
    draws: Any,
    generator: Any,
    dtype: torch.dtype,
) -> MonteCarloEstimate:
    """The public value, scale·D_f, by Monte Carlo."""
    halves = _halves(p, q, draws, generator)
    terms = [row.scale * weight * bins.terms(row, half) for half, weight in halves]
    value, error = _mean(terms)
    return _estimate(value, error, _effective(terms), terms, dtype)


def drawn_renyi(
    alpha: float,
    p: Distribution,
    q: Distribution,
    draws: Any,
    generator: Any,
    dtype: torch.dtype,
) -> MonteCarloEstimate:
    """Rényi's divergence by Monte Carlo, the error carried through the logarithm."""
    halves = _halves(p, q, draws, generator)
    row, power = Alpha(alpha), alpha * (alpha - 1)
    excess = [power * weight * bins.terms(row, half) for half, weight in halves]
    mean, error = _mean(excess)
    # Close laws: log1p of the small excess. Far ones: the powers themselves, relative to their
    # largest, so that neither cancellation nor overflow enters.
    near = mean.detach().abs() < 0.5
    logs = [_log_terms(half, alpha) + weight.log() for half, weight in halves]
    top = torch.stack([side.detach().amax(0) for side in logs]).amax(0)
    usable = torch.isfinite(top)
    shift = torch.where(usable, top, 0.0)
    powers = [
        torch.where(usable & (side > -math.inf), side - shift, -math.inf).exp() for side in logs
    ]
    total, spread = _mean(powers)
    safe = torch.where(usable, total, 1.0)
    far = torch.where(usable, safe.log() + shift, top)
    log_sum = torch.where(near, torch.log1p(torch.where(near, mean, 0.0)), far)
    relative = torch.where(near, error / (1 + torch.where(near, mean, 0.0)), spread / safe)
    terms = [torch.where(near, e, w) for e, w in zip(excess, powers, strict=True)]
    return _estimate(
        log_sum / (alpha - 1), relative / abs(alpha - 1), _effective(terms), terms, dtype
    )


def _log_terms(half: bins.Bins, alpha: float) -> Tensor:
    return bins.log_affinity(bins.Bins(*(part.unsqueeze(-1) for part in half)), alpha)


def _halves(
    p: Distribution, q: Distribution, draws: Any, generator: Any
) -> list[tuple[bins.Bins, Tensor]]:
    """Draws of each side as bins (p/m, q/m), and weights of value one that carry the score."""
    draws = checks.count(draws, "draws", minimum=4)
    source = checks.generator(
        generator, generator.device if isinstance(generator, torch.Generator) else "cpu"
    )
    batch, halves = checked(p, q), []
    for law in (p, q):
        x = draw(law, draws // 2, source, batch)
        log_p, log_q = torch.broadcast_tensors(
            log_density(p, x).double(), log_density(q, x).double()
        )
        if bool((torch.isnan(log_p) | torch.isnan(log_q)).any()):
            raise ValueError(
                f"log_prob is NaN at points drawn from {type(law).__name__}; "
                "check its parameters and its support"
            )
        log_m = torch.logaddexp(log_p, log_q) - math.log(2.0)
        half = bins.from_logs(log_p - log_m, log_q - log_m)
        # Without reparametrisation the draws hide their dependence on the parameters: the
        # weight p/p.detach() has value one and the score as its gradient.
        own = log_p if law is p else log_q
        weight = torch.ones_like(own) if law.has_rsample else torch.exp(own - own.detach())
        halves.append((half, weight))
    return halves


def _mean(terms: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean over both halves of the draws, and its standard error."""
    value = sum(side.mean(0) for side in terms) / 2
    variance = sum(side.detach().var(0) / len(side) for side in terms) / 4
    assert isinstance(value, Tensor)
    assert isinstance(variance, Tensor)
    return value, variance.sqrt()


def _effective(terms: list[Tensor]) -> Tensor:
    sizes = torch.cat([side.detach().abs() for side in terms])
    largest = sizes.amax(0)
    shares = sizes / torch.where((largest > 0) & torch.isfinite(largest), largest, 1.0)
    count = shares.sum(0).square() / shares.square().sum(0).clamp(min=1e-300)
    return torch.where((largest > 0) & torch.isfinite(largest), count, float(len(sizes)))


def _estimate(
    value: Tensor, error: Tensor, effective: Tensor, terms: list[Tensor], dtype: torch.dtype
) -> MonteCarloEstimate:
    """The estimate in the Distributions' dtype; an infinite value is certain, without error."""
    infinite = torch.isinf(value)
    error = torch.where(infinite, 0.0, error)
    z = normal_quantile(0.95)
    value, error, effective = (part.to(dtype) for part in (value, error, effective))
    reach = z * error
    drawn = sum(len(side) for side in terms)
    return MonteCarloEstimate(
        value, error, value.detach() - reach, value.detach() + reach, effective, drawn
    )
