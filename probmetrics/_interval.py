"""What an estimate with its uncertainty looks like: a value, an interval, and how it was made."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks


@dataclass(frozen=True, repr=False)
class Interval:
    """An estimate with a confidence interval.

    Attributes:
        value: The estimate, as the estimator returns it; shape (*batch).
        low: Lower end of the interval.
        high: Upper end.
        standard_error: Of the value.
        method: How the error was found: "influence", "jackknife", "bootstrap", "subsampling",
            "monte carlo".
        level: Nominal coverage of the interval, e.g. 0.95.
        bias: Estimated bias of the value; zero where the method estimates none. The value itself
            is left as estimated.

    Notes:
        The interval is about the quantity in the population. Where a bias was estimated, the end
        it points away from leaves out all of it and the other end half of it, because a bias is
        estimated with an error of its own; the value is always inside. The interval is not
        clipped at zero, but for the ends of a root, which cannot be negative.

    Example:
        >>> Interval(1.25, 1.0, 1.5, 0.1276, "influence", 0.95)
        1.25 [1, 1.5] (95% interval by influence, standard error 0.128)
    """

    value: Any
    low: Any
    high: Any
    standard_error: Any
    method: str
    level: float
    bias: Any = 0.0

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        share = f"{100 * self.level:.6g}%"
        error = f"standard error {_number(self.standard_error, 3)}"
        if _size(self.value) == 1:
            ends = f"[{_number(self.low)}, {_number(self.high)}]"
            biased = f", bias {_number(self.bias, 3)}" if bool(self.bias != 0) else ""
            return (
                f"{_number(self.value)} {ends} ({share} interval by {self.method}, {error}{biased})"
            )
        rows = zip(*(_flat(part) for part in (self.value, self.low, self.high)), strict=True)
        lines = [f"{v:.4g} [{low:.4g}, {high:.4g}]" for v, low, high in rows]
        if len(lines) > 8:
            lines = [*lines[:6], f"… {len(lines) - 6} more"]
        return f"{_size(self.value)} {share} intervals by {self.method}:\n  " + "\n  ".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The fields as numbers, or nested lists of numbers for a batch: ready for JSON."""
        numbers = {
            name: value.tolist()
            if hasattr(value := getattr(self, name), "tolist")
            else float(value)
            for name in ("value", "low", "high", "standard_error", "bias")
        }
        return {**numbers, "method": self.method, "level": self.level}


def normal_interval(
    value: Tensor,
    standard_error: Tensor,
    *,
    method: str,
    level: float,
    bias: Tensor | None = None,
) -> Interval:
    """The interval value ± z · standard error, less all of a bias at one end, half at the other."""
    half = normal_quantile(level) * standard_error
    bias = torch.zeros_like(value) if bias is None else bias
    low = value - half - torch.maximum(bias, bias / 2)
    high = value + half - torch.minimum(bias, bias / 2)
    low, high = torch.minimum(low, value), torch.maximum(high, value)
    return Interval(value, low, high, standard_error, method, level, bias)


def normal_quantile(level: float) -> float:
    """The z at which a standard normal holds ``level`` within ±z."""
    return NormalDist().inv_cdf((1 + checks.between(level, "level", 0.0, 1.0)) / 2)


def _flat(part: Any) -> list[float]:
    flat: list[float] = torch.as_tensor(part).detach().double().reshape(-1).tolist()
    return flat


def _size(part: Any) -> int:
    return torch.as_tensor(part).numel()


def _number(part: Any, digits: int = 4) -> str:
    return " ".join(f"{number:.{digits}g}" for number in _flat(part))
