"""What the plan's marginals owe the weights: equality, or a penalty on the difference."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks


@dataclass(frozen=True)
class Marginal:
    """The marginal P1 against the weights a: equal, or paying reach · φ(P1 | a).

    Attributes:
        reach: Strength of the penalty in units of the cost; None asks for equality.
        penalty: "kl", Σ p log(p/a) − p + a, or "tv", Σ |p − a|.
    """

    reach: float | None = None
    penalty: str = "kl"

    def update(self, raw: Tensor, epsilon: Tensor) -> Tensor:
        """The potential of this marginal from ``raw``, the one that would make it equal.

        Chizat et al. (2018), "Scaling algorithms for unbalanced transport problems", Table 1.
        """
        if self.reach is None:
            return raw
        if self.penalty == "kl":
            return raw * (self.reach / (self.reach + epsilon)).unsqueeze(-1)
        return raw.clamp(-self.reach, self.reach)

    def update_slope(self, raw: Tensor, epsilon: Tensor) -> Tensor:
        """Derivative of ``update`` in ``raw``."""
        if self.reach is None:
            return torch.ones_like(raw)
        if self.penalty == "kl":
            return (self.reach / (self.reach + epsilon)).unsqueeze(-1).expand_as(raw)
        return (raw.abs() < self.reach).to(raw.dtype)

    def dual(self, f: Tensor, a: Tensor) -> Tensor:
        """−reach · φ*(−f / reach) integrated against a, shape (B,)."""
        if self.reach is None:
            return (a * f).sum(-1)
        if self.penalty == "kl":
            return (a * (-self.reach) * torch.expm1(-f / self.reach)).sum(-1)
        return (a * f.clamp(max=self.reach)).sum(-1)

    def allowed(self, f: Tensor) -> Tensor:
        """The nearest potential that the dual admits."""
        bounded = self.reach is not None and self.penalty == "tv"
        return f.clamp(-self.reach, self.reach) if bounded and self.reach is not None else f

    @property
    def smooth(self) -> bool:
        """Whether ``dual`` has a derivative everywhere."""
        return self.reach is None or self.penalty == "kl"

    def density(self, f: Tensor) -> Tensor:
        """Derivative of ``dual`` in f per unit of a: the density the marginal aims at."""
        if self.reach is None or self.penalty == "tv":
            return torch.ones_like(f)
        return torch.exp(-f / self.reach)

    def slope(self, f: Tensor) -> Tensor:
        """Derivative of ``dual`` in a: what one more unit of weight is worth."""
        if self.reach is None:
            return f
        if self.penalty == "kl":
            return -self.reach * torch.expm1(-f / self.reach)
        return f.clamp(max=self.reach)

    def penalty_value(self, a: Tensor, log_ratio: Tensor) -> Tensor:
        """reach · φ(P1 | a) for a marginal P1 = a · exp(log_ratio), shape (B,)."""
        if self.reach is None:
            return a.new_zeros(a.shape[:-1])
        ratio = log_ratio.exp()
        if self.penalty == "kl":
            return self.reach * (a * (ratio * log_ratio - torch.expm1(log_ratio))).sum(-1)
        return self.reach * (a * (ratio - 1.0).abs()).sum(-1)


class Update:
    """A marginal's update bound to ε, on all batch entries or on some."""

    def __init__(self, side: Marginal, epsilon: Tensor) -> None:
        self.side, self.epsilon = side, epsilon
        self.exact = side.reach is None

    def __call__(self, raw: Tensor) -> Tensor:
        return self.side.update(raw, self.epsilon)

    def of(self, raw: Tensor, entries: slice) -> Tensor:
        """The update on some entries of the batch."""
        return self.side.update(raw, self.epsilon[entries])


def marginals(reach: Any, penalty: str) -> tuple[Marginal, Marginal]:
    """Both marginals from the user's ``reach``: None, a number, or a pair of these."""
    checks.choice(penalty, "penalty", ("kl", "tv"))
    pair = reach if isinstance(reach, tuple | list) else (reach, reach)
    if len(pair) != 2:
        raise ValueError(f"reach must be None, a number, or a pair of these, got {reach!r}")
    made = []
    for side in pair:
        if side is None or (isinstance(side, float) and math.isinf(side) and side > 0):
            made.append(Marginal())
        else:
            made.append(Marginal(checks.positive(side, "reach"), penalty))
    return made[0], made[1]
