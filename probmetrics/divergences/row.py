"""What a row of the family holds, and how a bare generator f becomes one."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from probmetrics.divergences.logratio import Function, Perspective, bend


@dataclass(frozen=True, eq=False, repr=False)
class FDivergence:
    """One f-divergence: its generator f, conjugate, critic pair and stable evaluation.

    ``scale`` turns the table's D_f into the quantity the public functions return: ½ for JS (the
    table's f gives 2 JS) and for squared Hellinger (the table's is 2 (1 − BC)), 1 otherwise.
    Every other field is the table's, unscaled.

    Attributes:
        name: What ``named`` finds it by.
        f: u ↦ f(u), u >= 0.
        conjugate: t ↦ f*(t) = sup_u ut − f(u); +∞ outside its domain.
        reward: ℓ ↦ f′(e^ℓ) − anchor.
        penalty: ℓ ↦ f*(f′(e^ℓ)) − anchor.
        activation: v ↦ g(v), from raw critic outputs onto the domain of f*.
        composite: v ↦ f*(g(v)), evaluated stably.
        output: ℓ ↦ v*, the raw output at which g(v*) = T*.
        perspective: (p, q, ℓ, log p) ↦ q·(f(p/q) − f(1) − anchor·(p/q − 1)) for p, q > 0 and
            ℓ = log p/q, without cancellation near p = q; non-negative unless f(1) ≠ 0.
        anchor: A constant left out of both halves of the pair (1 for KL, −1 for reverse KL), so
            that they vanish at ℓ = 0; it cancels in E_P[reward] − E_Q[penalty].
        scale: Public value per D_f.
        order: α, where D_f is ``times`` the α-divergence.
        times: See ``order``.
        at_zero: Limits of (reward, penalty) as ℓ → −∞; where q has mass and p has none.
        at_infinity: Limits of (reward, penalty) as ℓ → ∞; where p has mass and q has none.
    """

    name: str
    f: Function
    conjugate: Function
    reward: Function
    penalty: Function
    activation: Function
    composite: Function
    output: Function
    perspective: Perspective
    anchor: float = 0.0
    scale: float = 1.0
    order: float | None = None
    times: float = 1.0
    at_zero: tuple[float, float] = field(default=(math.nan, math.nan))
    at_infinity: tuple[float, float] = field(default=(math.nan, math.nan))

    def __post_init__(self) -> None:
        for side, place in (("at_zero", -math.inf), ("at_infinity", math.inf)):
            if math.isnan(getattr(self, side)[0]):
                logit = torch.tensor(place, dtype=torch.float64)
                limits = (float(self.reward(logit)), float(self.penalty(logit)))
                object.__setattr__(self, side, limits)

    def critic(self, logit: Tensor) -> Tensor:
        """The optimal critic T* = f′(e^ℓ) at the log-ratio ℓ."""
        return self.reward(logit) + self.anchor

    @property
    def slope_at_one(self) -> float:
        """f′(1): a critic above it says P, below it Q."""
        return float(self.critic(torch.zeros((), dtype=torch.float64)))

    def generator(self, output: Tensor) -> Tensor:
        """What a generator minimises per drawn point, −f*(g(v)) (the saturating form)."""
        return -self.composite(output)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        return _by_name(self) or super().__reduce__()


@dataclass(frozen=True, eq=False, repr=False)
class CriticRow:
    """A critic objective E_P[reward(s)] − E_Q[penalty(s)] on raw scores, and its generator loss.

    Attributes:
        name: What ``named`` finds it by.
        reward: s ↦ reward on points of P.
        penalty: s ↦ penalty on points of Q.
        generator: s ↦ what the generator minimises per drawn point.
    """

    name: str
    reward: Function
    penalty: Function
    generator: Function
    scale: float = 1.0

    @property
    def activation(self) -> Function:
        """The reward: scores need no activation."""
        return self.reward

    @property
    def composite(self) -> Function:
        """The penalty, under the name it has in an f-divergence."""
        return self.penalty

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        return _by_name(self) or super().__reduce__()


def _by_name(row: FDivergence | CriticRow) -> Any:
    """How a row of the family is pickled and copied: by its name, as its functions cannot be."""
    from probmetrics.divergences.family import named  # the family is made of rows

    try:
        named(row.name)
    except ValueError:
        return None
    return named, (row.name,)


def from_function(f: Function, name: str = "custom") -> FDivergence:
    """A row from its generator alone: f convex on u > 0 with f(1) = 0, in torch operations.

    The pair comes from f by automatic differentiation, f(0) and f′(∞) by evaluation far out: f(u)/u
    never decreases beyond f(0), and counts as unbounded if it still moves between u = 1e140 and
    u = 1e280. A function written for moderate u (one that squares, say) is best given as a row.
    The conjugate is that of the pair, f*(f′(u)), known along the curve only: ``conjugate`` raises.

    Example:
        >>> import torch
        >>> row = from_function(lambda u: (u - 1) ** 2)
        >>> row.reward(torch.tensor(0.0)).item()
        0.0
    """

    def slope(u: Tensor) -> Tensor:
        derivative = torch.func.grad(lambda v: f(v).sum())(u)
        assert isinstance(derivative, Tensor)
        return derivative

    def reward(logit: Tensor) -> Tensor:
        return slope(torch.exp(bend(bend(logit), -1.0)))

    def penalty(logit: Tensor) -> Tensor:
        u = torch.exp(bend(bend(logit), -1.0))
        return u * slope(u) - f(u)

    def conjugate(t: Tensor) -> Tensor:
        raise NotImplementedError(f"{name}: f* is known only through penalty(ℓ) = f*(f′(e^ℓ))")

    at_zero, at_infinity = _limits(f)
    return FDivergence(
        name,
        f=f,
        conjugate=conjugate,
        reward=reward,
        penalty=penalty,
        activation=reward,
        composite=penalty,
        output=lambda logit: logit,
        perspective=lambda p, q, logit, log_p: q * f(torch.exp(logit)),
        at_zero=at_zero,
        at_infinity=at_infinity,
    )


def _limits(f: Function) -> tuple[tuple[float, float], tuple[float, float]]:
    """(f′(0), −f(0)) and (f′(∞), f*(f′(∞))) of a bare generator, the unused two as infinite."""
    u = torch.tensor([0.0, 1e-300, 1e140, 1e280], dtype=torch.float64)
    zero, tiny, far, farther = f(u).tolist()
    start = tiny if math.isnan(zero) else zero
    slopes = far / 1e140, farther / 1e280
    settled = all(map(math.isfinite, slopes)) and abs(slopes[1] - slopes[0]) <= 1e-9 * max(
        1.0, abs(slopes[1])
    )
    return (-math.inf, -start), (slopes[1] if settled else math.inf, math.inf)
