"""What a Monte Carlo divergence returns: a value that says how sure it is."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from probmetrics import _checks as checks


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
