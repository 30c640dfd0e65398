"""What it costs to move one point onto another: a ground distance raised to the power p."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.pairwise.costs import Euclidean, PNorm, SqEuclidean
from probmetrics.pairwise.ground import AbstractGround, safe_power

Ground = Callable[[Tensor, Tensor], Tensor]
NEGATIVE = 1e-6  # a cost may fall below zero by this share of its largest value, from rounding


@dataclass(frozen=True)
class GroundCost:
    """c(x, y) = ground(x, y)^exponent between two samples that are embedded already.

    Attributes:
        ground: A ground of the engine, or any function of two samples giving the n×m matrix.
        exponent: Applied to the values of ``ground``; 1 where the ground holds the power itself.
    """

    ground: Ground
    exponent: float

    @property
    def norm(self) -> tuple[float, float] | None:
        """(q, e) if the cost is ‖Φx − Φy‖_q^e, else None."""
        if self.exponent == 1:
            if isinstance(self.ground, SqEuclidean):
                return 2.0, 2.0
            if isinstance(self.ground, Euclidean):
                return 2.0, float(self.ground.power)
            if isinstance(self.ground, PNorm):
                return float(self.ground.p), float(self.ground.power)
        return None

    @property
    def euclidean_power(self) -> float | None:
        """e if the cost is ‖Φx − Φy‖₂^e, else None."""
        norm = self.norm
        return norm[1] if norm is not None and norm[0] == 2 else None

    @property
    def pairwise(self) -> bool:
        """Whether single pairs can be evaluated without the n×m matrix."""
        return isinstance(self.ground, AbstractGround)

    def embed(self, x: Tensor) -> Tensor:
        """The points the cost reads, in float64 (the features run in the dtype they were given)."""
        if self.norm is None or not isinstance(self.ground, AbstractGround):
            return x
        return (x if self.ground.features is None else self.ground.embed(x)).double()

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """All costs between embedded points (n, d) and (m, d), in float64, shape (n, m).

        Distances come from differences, not from ‖x‖² + ‖y‖² − 2⟨x, y⟩: the programme compares
        costs with each other, and near a tie rounding would decide.
        """
        norm = self.norm
        if norm is None:
            return self._any_matrix(x, y)
        q, power = norm
        slow = "donot_use_mm_for_euclid_dist"
        return safe_power(torch.cdist(x, y, p=q, compute_mode=slow), power)

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """Costs between matching embedded points, (..., d) and (..., d) → (...), differentiable."""
        ground = self.ground
        assert isinstance(ground, AbstractGround)
        if self.norm is None:
            return safe_power(ground.between(x, y).double(), self.exponent)
        return ground.between_features(x, y)

    def _any_matrix(self, x: Tensor, y: Tensor) -> Tensor:
        values = self.ground(x, y)
        n, m = x.shape[-2], y.shape[-2]
        if not isinstance(values, Tensor) or values.shape != (n, m):
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"cost must return a tensor of shape {(n, m)} for samples of {n} and {m} points, "
                f"got {shape}"
            )
        values = checks.finite(values.double(), "cost(x, y)")
        if self.exponent == 1:
            return values
        low, high = values.detach().min().item(), values.detach().abs().max().item()
        if low < -NEGATIVE * high:
            raise ValueError(
                f"cost has negative entries (smallest {low:.3g}), which have no power p = "
                f"{self.exponent:g}; pass p=1 to transport the cost as it is"
            )
        return safe_power(values, self.exponent)


def ground_cost(cost: Any, p: float) -> GroundCost:
    """The cost that W_p pays: the ground distance to the power p, Euclidean for None.

    A ground of the engine that holds the power p already (``SqEuclidean()`` for p = 2,
    ``Euclidean(power=p)``) is taken as it is; p = 1 takes every ground as it is.

    Raises:
        TypeError: If ``cost`` is no function of two samples.
        ValueError: If ``cost`` is a power of a distance and p another.
    """
    if cost is None:
        return GroundCost(Euclidean(power=p), 1.0)
    if not callable(cost):
        raise TypeError(
            f"cost must be a ground or a function of two samples giving all n×m costs, "
            f"got {type(cost).__name__}; for a cost matrix use earth_mover(p, q, cost)"
        )
    power = _held_power(cost)
    if p == 1 or power == p:
        return GroundCost(cost, 1.0)
    if power != 1:
        raise ValueError(
            f"cost={cost!r} is a distance to the power {power:g} and p = {p:g}; "
            f"pass p={power:g} for the distance it belongs to, or p=1 to transport it as it is"
        )
    if isinstance(cost, Euclidean | PNorm):
        return GroundCost(replace(cost, power=p), 1.0)
    return GroundCost(cost, p)


def _held_power(cost: Ground) -> float:
    """The power of a distance that a ground says it is."""
    if isinstance(cost, SqEuclidean):
        return 2.0
    return float(cost.power) if isinstance(cost, Euclidean | PNorm) else 1.0
