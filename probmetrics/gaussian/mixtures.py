"""Divergences between mixtures of Gaussians, from those between components."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Values
from probmetrics.gaussian.covariance import combined
from probmetrics.gaussian.divergences import gaussian_kl
from probmetrics.gaussian.law import Gaussian, gaussian_function

if TYPE_CHECKING:
    WeightsP = Any
    WeightsQ = Any
else:
    WeightsP = Float[Tensor, "*#batch k"]
    WeightsQ = Float[Tensor, "*#batch l"]

_TINY = 1e-300  # in place of a zero weight under a logarithm


@gaussian_function
def mixture_kl_variational(
    p: Gaussian, q: Gaussian, *, a: WeightsP | None = None, b: WeightsQ | None = None
) -> Values:
    """Hershey and Olsen's variational approximation of KL(Σ aᵢ pᵢ ‖ Σ bⱼ qⱼ).

    Σᵢ aᵢ log( Σᵢ′ aᵢ′ exp(−KL(pᵢ‖pᵢ′)) / Σⱼ bⱼ exp(−KL(pᵢ‖qⱼ)) ).

    Args:
        p: Components of the first mixture, one per entry of the last batch dimension:
            mean of shape (*batch, k, d).
        q: Components of the second, mean of shape (*batch, l, d).
        a: Weights of p, shape (*batch, k), summing to one; None for uniform.
        b: Weights of q, shape (*batch, l).

    Returns:
        Shape (*batch). A difference of two lower bounds, so neither an upper nor a lower bound
        itself, and it may be negative; exact for single components, zero for equal mixtures.

    Raises:
        TypeError: Components that are not a ``Gaussian``.
        ValueError: No component dimension, different d, weights that do not sum to one, or a
            covariance that is not positive definite.

    Example:
        >>> p = Gaussian([[0.0], [4.0]], diagonal=[[1.0], [1.0]])
        >>> q = Gaussian([[0.0], [5.0]], diagonal=[[1.0], [1.0]])
        >>> round(mixture_kl_variational(p, q), 4)
        0.2501

    Notes:
        k(k + l) component divergences. Differentiable.

    References:
        Hershey, Olsen (2007), Approximating the Kullback Leibler divergence between Gaussian
        mixture models, eq. 20.
    """
    a, b = mixed(p, q, a, b)
    within = -gaussian_kl(p.with_axis(False), p.with_axis(True))
    across = -gaussian_kl(p.with_axis(False), q.with_axis(True))
    return (a * (_log_mean(a, within) - _log_mean(b, across))).sum(-1)


@gaussian_function
def mixture_kl_product(
    p: Gaussian, q: Gaussian, *, a: WeightsP | None = None, b: WeightsQ | None = None
) -> Values:
    """Product-of-Gaussians approximation of KL(Σ aᵢ pᵢ ‖ Σ bⱼ qⱼ).

    Σᵢ aᵢ log( Σᵢ′ aᵢ′ ∫pᵢpᵢ′ / Σⱼ bⱼ ∫pᵢqⱼ ), with ∫pq = N(μ_p; μ_q, Σ_p + Σ_q): Jensen's
    inequality moves each logarithm outside its expectation, once in each term.

    Args:
        p: Components of the first mixture, mean of shape (*batch, k, d).
        q: Components of the second, mean of shape (*batch, l, d).
        a: Weights of p, shape (*batch, k), summing to one; None for uniform.
        b: Weights of q, shape (*batch, l).

    Returns:
        Shape (*batch). A difference of two upper bounds, so no bound itself, and it may be
        negative; zero for equal mixtures, but *not* exact for single components.

    Raises:
        TypeError: Components that are not a ``Gaussian``.
        ValueError: As ``mixture_kl_variational``.

    Example:
        >>> p, q = Gaussian([[0.0]], diagonal=[[1.0]]), Gaussian([[1.0]], diagonal=[[1.0]])
        >>> round(mixture_kl_product(p, q), 8)  # the divergence itself is 0.5
        0.25

    Notes:
        k(k + l) overlaps. Differentiable.

    References:
        Hershey, Olsen (2007), eq. 8.
    """
    a, b = mixed(p, q, a, b)
    within, across = _log_product(p, p), _log_product(p, q)
    return (a * (_log_mean(a, within) - _log_mean(b, across))).sum(-1)


@gaussian_function
def mixture_kl_upper(
    p: Gaussian,
    q: Gaussian,
    *,
    a: WeightsP | None = None,
    b: WeightsQ | None = None,
    tolerance: float = 1e-10,
    max_steps: int = 2000,
) -> Values:
    """Upper bound on KL(Σ aᵢ pᵢ ‖ Σ bⱼ qⱼ), the least that splitting the components can give.

    Split aᵢ = Σⱼ φᵢⱼ and bⱼ = Σᵢ ψᵢⱼ. By the log-sum inequality KL ≤ KL(φ‖ψ) + Σ φᵢⱼ KL(pᵢ‖qⱼ),
    minimised over all splits. The convexity bound Σ aᵢ bⱼ KL(pᵢ‖qⱼ) (φ = ψ = a ⊗ b) and every
    matching of components are among them.

    Args:
        p: Components of the first mixture, mean of shape (*batch, k, d).
        q: Components of the second, mean of shape (*batch, l, d).
        a: Weights of p, shape (*batch, k), summing to one; None for uniform.
        b: Weights of q, shape (*batch, l).
        tolerance: Stop when no φᵢⱼ moves by more.
        max_steps: At most so many steps; stopping early still gives an upper bound.

    Returns:
        Shape (*batch). Zero for equal mixtures, exact for single components.

    Raises:
        TypeError: Components that are not a ``Gaussian``.
        ValueError: As ``mixture_kl_variational``.

    Example:
        >>> p = Gaussian([[0.0], [4.0]], diagonal=[[1.0], [1.0]])
        >>> q = Gaussian([[5.0], [0.0]], diagonal=[[1.0], [1.0]])
        >>> round(mixture_kl_upper(p, q), 4)
        0.25

    Notes:
        kl component divergences, then alternating minimisation of a convex problem on k×l tables.
        The gradient is that of the optimal split (by the envelope theorem), for positive weights.

    References:
        Hershey, Olsen (2007), section 8; Do (2003) and Goldberger, Gordon, Greenspan (2003) for
        matchings.
    """
    a, b = mixed(p, q, a, b)
    table = gaussian_kl(p.with_axis(False), q.with_axis(True))
    tolerance = checks.positive(tolerance, "tolerance")
    max_steps = checks.count(max_steps, "max_steps")
    split_a, split_b = _best_split(table.detach(), a.detach(), b.detach(), tolerance, max_steps)
    cost = _log(a).unsqueeze(-1) + split_a - _log(b).unsqueeze(-2) - split_b + table
    used = split_a > -torch.inf
    return (a.unsqueeze(-1) * split_a.exp() * torch.where(used, cost, 0.0)).sum((-2, -1))


def mixed(p: Gaussian, q: Gaussian, a: Tensor | None, b: Tensor | None) -> tuple[Tensor, Tensor]:
    """Checked weights, renormalised to sum to one in float64."""
    sides, batch = [], torch.Size()
    for name, law, weights, of in (("p", p, a, "a"), ("q", q, b, "b")):
        if not law.batch:
            raise ValueError(
                f"{name} must hold the components of a mixture along its last batch dimension, "
                f"mean of shape (*batch, k, d); got mean of shape {tuple(law.mean.shape)}"
            )
        if law.batch[-1] == 0:
            raise ValueError(f"{name} has no components; pass at least one")
        # The check of weights is as exact as their dtype.
        kind = law.mean if weights is None else law.mean.to(weights.dtype)
        side = checks.weights(weights, kind, of, points=law.batch[-1]).double()
        for found, argument in ((law.batch[:-1], name), (side.shape[:-1], of)):
            checks.broadcastable(batch, found, ("the arguments before", argument))
            batch = checks.common_batch(batch, found)
        sides.append(side / side.sum(-1, keepdim=True))
    return sides[0], sides[1]


def _log(weights: Tensor) -> Tensor:
    """log of weights, finite (and without gradient) at zero."""
    return torch.where(weights > 0, weights, _TINY).log()


def _log_mean(weights: Tensor, exponents: Tensor) -> Tensor:
    """log Σⱼ wⱼ exp(eᵢⱼ), shape (*batch, k); a weight of zero keeps its derivative."""
    held = weights.unsqueeze(-2)
    shift = torch.where(held > 0, exponents, -torch.inf).detach().amax(-1, keepdim=True)
    # Only where the weight is zero can the exponent be above the shift, and then overflow.
    total = (held * (exponents - shift).clamp(max=700.0).exp()).sum(-1)
    return total.log() + shift.squeeze(-1)


def _log_product(p: Gaussian, q: Gaussian) -> Tensor:
    """log ∫ pᵢ qⱼ up to the common constant −(d/2) log 2π, shape (*batch, k, l)."""
    first, second = p.with_axis(False), q.with_axis(True)
    spread = combined(1.0, first.spread(), 1.0, second.spread())
    gap = (first.mean - second.mean).unsqueeze(-1)
    return -(spread.logdet() + spread.quadratic(gap).squeeze(-1)) / 2


def _best_split(
    table: Tensor, a: Tensor, b: Tensor, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor]:
    """log φᵢⱼ/aᵢ and log ψᵢⱼ/bⱼ, minimising KL(φ‖ψ) + Σ φ·table by turns."""
    log_a = _log(a).unsqueeze(-1)
    held = (b > 0).unsqueeze(-2)
    log_b = torch.where(held, _log(b).unsqueeze(-2), -torch.inf)

    def split_of_b(share_a: Tensor) -> Tensor:
        # A component of q without weight takes no part; any split of it will do.
        return (log_a + torch.where(held, share_a, 0.0)).log_softmax(-2)

    share_a = (log_b + torch.zeros_like(table)).log_softmax(-1)
    share_b = split_of_b(share_a)
    for _ in range(max_steps):
        moved = (log_b + share_b - table).log_softmax(-1)
        share_b = split_of_b(moved)
        change = ((log_a + moved).exp() - (log_a + share_a).exp()).abs()
        share_a = moved
        if bool((change <= tolerance).all()):
            break
    return share_a, share_b
