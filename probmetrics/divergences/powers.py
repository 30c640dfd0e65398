"""Divergences made of powers of the ratio: Hellinger, χ², Rényi, Tsallis, α, Bhattacharyya."""

import dataclasses
import math

from probmetrics import _checks as checks
from probmetrics._arrays import array_function
from probmetrics.divergences import bins
from probmetrics.divergences.dispatch import (
    DRAWS,
    Answer,
    Probabilities,
    Seed,
    are_distributions,
    evaluate,
    evaluate_renyi,
)
from probmetrics.divergences.dispatch import root as take_root
from probmetrics.divergences.family import (
    KL,
    Alpha,
    NeymanChi2,
    PearsonChi2,
    SquaredHellinger,
    SymmetricChi2,
)
from probmetrics.divergences.montecarlo import MonteCarloEstimate


@array_function
def hellinger(
    p: Probabilities,
    q: Probabilities,
    *,
    root: bool = False,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Squared Hellinger distance 1 − BC, at most 1; its root with ``root=True``.

    ½ Σ (√p − √q)² = 1 − Σ √(pq).

    Args:
        p: Probabilities, shape (*batch, k), or a Distribution; data or reference.
        q: Probabilities, shape (*batch, k), or a Distribution; the model.
        root: Return √(1 − BC).
        log: The vectors hold log-probabilities, −∞ for empty bins.
        normalize: Divide vectors by their sum instead of refusing those that miss one.
        draws: Points drawn in all, where Distributions leave only Monte Carlo.
        generator: Source of those draws; an integer seeds one.

    Returns:
        Values of the batch shape; a ``MonteCarloEstimate`` where Distributions leave
        neither a closed form nor quadrature.

    Raises:
        ValueError: Negative, NaN or unnormalised probabilities, different numbers of bins.
        TypeError: A vector together with a Distribution.

    Example:
        >>> hellinger([1.0, 0.0], [0.0, 1.0])
        1.0
        >>> round(hellinger([0.3, 0.7], [0.6, 0.4], root=True) ** 2, 8)
        0.04658567

    Notes:
        The root is a metric. The f-GAN table, and some books, leave the ½ out. The gradient at an
        empty bin leaves its infinite part out; that of the root is zero at P = Q.

    References:
        Tsybakov (2009), "Introduction to nonparametric estimation".
    """
    value = evaluate(SquaredHellinger, p, q, log, normalize, draws, generator)
    return take_root(value) if root else value


@array_function
def chi2(
    p: Probabilities,
    q: Probabilities,
    *,
    kind: str = "pearson",
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """χ² divergence of Pearson, of Neyman, or their sum.

    "pearson": Σ (p − q)²/q; "neyman": Σ (p − q)²/p; "symmetric": the sum of both,
    Σ (p − q)²(p + q)/(pq).

    Args:
        p: Probabilities, shape (*batch, k), or a Distribution; data or reference.
        q: Probabilities, shape (*batch, k), or a Distribution; the model.
        kind: "pearson", "neyman" or "symmetric".
        log: The vectors hold log-probabilities, −∞ for empty bins.
        normalize: Divide vectors by their sum instead of refusing those that miss one.
        draws: Points drawn in all, where Distributions leave only Monte Carlo.
        generator: Source of those draws; an integer seeds one.

    Returns:
        Values of the batch shape; a ``MonteCarloEstimate`` where Distributions leave
        neither a closed form nor quadrature.

    Raises:
        ValueError: Negative, NaN or unnormalised probabilities, different numbers of bins.
        TypeError: A vector together with a Distribution.
        ValueError: An unknown ``kind``.

    Example:
        >>> round(chi2([0.3, 0.7], [0.6, 0.4]), 8)
        0.375
        >>> round(chi2([0.3, 0.7], [0.6, 0.4], kind="neyman"), 8)
        0.42857143

    Notes:
        +∞ where the denominator is empty and the other side is not; the bounded symmetric form
        ½ Σ (p − q)²/(p + q) is ``le_cam``. Monte Carlo estimates of χ² may have infinite variance:
        look at their effective sample size.

    References:
        Pearson (1900); Neyman (1949); Dragomir, Sunde & Buşe (2000), for the symmetric form.
    """
    if checks.choice(kind, "kind", ("pearson", "neyman", "symmetric")) == "symmetric":
        return evaluate(SymmetricChi2, p, q, log, normalize, draws, generator)
    row = PearsonChi2 if kind == "pearson" else NeymanChi2
    return evaluate(row, p, q, log, normalize, draws, generator)


@array_function
def renyi(
    p: Probabilities,
    q: Probabilities,
    *,
    alpha: float | int,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Rényi divergence of order α, in nats.

    log(Σ p^α q^{1−α}) / (α − 1); KL(P‖Q) at α = 1, −log Q(p > 0) at α = 0,
    log max p/q at α = ∞.

    Args:
        p: Probabilities, shape (*batch, k), or a Distribution; data or reference.
        q: Probabilities, shape (*batch, k), or a Distribution; the model.
        alpha: Order, 0 <= α <= ∞.
        log: The vectors hold log-probabilities, −∞ for empty bins.
        normalize: Divide vectors by their sum instead of refusing those that miss one.
        draws: Points drawn in all, where Distributions leave only Monte Carlo.
        generator: Source of those draws; an integer seeds one.

    Returns:
        Values of the batch shape, in nats; a ``MonteCarloEstimate`` where Distributions leave
        neither a closed form nor quadrature.

    Raises:
        ValueError: Negative, NaN or unnormalised probabilities, different numbers of bins.
        TypeError: A vector together with a Distribution.
        ValueError: A negative order.

    Example:
        >>> round(renyi([0.3, 0.7], [0.6, 0.4], alpha=2), 8)
        0.31845373

    Notes:
        Nondecreasing in α. For α >= 1 it is +∞ where p has mass and q has none; for α < 1 only on
        disjoint supports. Near P = Q it is taken from the α-divergence, far out from the sum of
        powers in logs. Distributions need 0 < α < ∞. The gradient at an empty bin leaves its
        infinite part out.

    References:
        Rényi (1961); van Erven & Harremoës (2014), "Rényi divergence".
    """
    alpha = _order(alpha)
    if alpha == 1:
        return evaluate(KL, p, q, log, normalize, draws, generator)
    if 0 < alpha < math.inf:
        return evaluate_renyi(alpha, p, q, log, normalize, draws, generator)
    if are_distributions(p, q, log, normalize):
        raise ValueError(
            f"alpha must lie strictly between 0 and inf for Distributions, got {alpha}"
        )
    shared, dtype = bins.pair(p, q, log=log, normalize=normalize)
    return (bins.log_overlap(shared) if alpha == 0 else bins.log_max_ratio(shared)).to(dtype)


@array_function
def tsallis(
    p: Probabilities,
    q: Probabilities,
    *,
    alpha: float | int,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Tsallis relative entropy of order α.

    (Σ p^α q^{1−α} − 1)/(α − 1); KL(P‖Q) at α = 1.

    Args:
        p: Probabilities, shape (*batch, k), or a Distribution; data or reference.
        q: Probabilities, shape (*batch, k), or a Distribution; the model.
        alpha: Order, above zero.
        log: The vectors hold log-probabilities, −∞ for empty bins.
        normalize: Divide vectors by their sum instead of refusing those that miss one.
        draws: Points drawn in all, where Distributions leave only Monte Carlo.
        generator: Source of those draws; an integer seeds one.

    Returns:
        Values of the batch shape; a ``MonteCarloEstimate`` where Distributions leave
        neither a closed form nor quadrature.

    Raises:
        ValueError: Negative, NaN or unnormalised probabilities, different numbers of bins.
        TypeError: A vector together with a Distribution.
        ValueError: An order of zero or below.

    Example:
        >>> round(tsallis([0.3, 0.7], [0.6, 0.4], alpha=2), 8)
        0.375

    Notes:
        α times the ``alpha_divergence``, with its conventions.

    References:
        Tsallis (1998), "Generalized entropy-based criterion for consistent testing".
    """
    alpha = checks.positive(alpha, "alpha")
    scaled = dataclasses.replace(Alpha(alpha), name=f"tsallis({alpha!r})", scale=alpha)
    return evaluate(scaled, p, q, log, normalize, draws, generator)


@array_function
def alpha_divergence(
    p: Probabilities,
    q: Probabilities,
    *,
    alpha: float | int,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """α-divergence, of any real order.

    (Σ p^α q^{1−α} − 1)/(α(α − 1)); KL(P‖Q) at α = 1, KL(Q‖P) at α = 0; half of Pearson's χ²
    at α = 2 and of Neyman's at α = −1; 4 (1 − BC) at α = ½.

    Args:
        p: Probabilities, shape (*batch, k), or a Distribution; data or reference.
        q: Probabilities, shape (*batch, k), or a Distribution; the model.
        alpha: Order, any real number.
        log: The vectors hold log-probabilities, −∞ for empty bins.
        normalize: Divide vectors by their sum instead of refusing those that miss one.
        draws: Points drawn in all, where Distributions leave only Monte Carlo.
        generator: Source of those draws; an integer seeds one.

    Returns:
        Values of the batch shape; a ``MonteCarloEstimate`` where Distributions leave
        neither a closed form nor quadrature.

    Raises:
        ValueError: Negative, NaN or unnormalised probabilities, different numbers of bins.
        TypeError: A vector together with a Distribution.
        ValueError: An order that is not finite.

    Example:
        >>> round(alpha_divergence([0.3, 0.7], [0.6, 0.4], alpha=2), 8)
        0.1875

    Notes:
        The convention of Cichocki and Amari; Amari's own α is 1 − 2α of this one (or its
        negative). +∞ for α >= 1 where p has mass and q has none, and for α <= 0 the other way. The
        gradient at an empty bin leaves an infinite part out.

    References:
        Cichocki & Amari (2010), "Families of alpha- beta- and gamma-divergences".
    """
    return evaluate(Alpha(alpha), p, q, log, normalize, draws, generator)


@array_function
def bhattacharyya(
    p: Probabilities,
    q: Probabilities,
    *,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Bhattacharyya distance −log BC, in nats.

    −log Σ √(pq), half the Rényi divergence of order ½.

    Args:
        p: Probabilities, shape (*batch, k), or a Distribution; data or reference.
        q: Probabilities, shape (*batch, k), or a Distribution; the model.
        log: The vectors hold log-probabilities, −∞ for empty bins.
        normalize: Divide vectors by their sum instead of refusing those that miss one.
        draws: Points drawn in all, where Distributions leave only Monte Carlo.
        generator: Source of those draws; an integer seeds one.

    Returns:
        Values of the batch shape, in nats; a ``MonteCarloEstimate`` where Distributions leave
        neither a closed form nor quadrature.

    Raises:
        ValueError: Negative, NaN or unnormalised probabilities, different numbers of bins.
        TypeError: A vector together with a Distribution.

    Example:
        >>> round(bhattacharyya([0.3, 0.7], [0.6, 0.4]), 8)
        0.0477057

    Notes:
        Symmetric; no metric (``hellinger(root=True)`` is). +∞ on disjoint supports.

    References:
        Bhattacharyya (1943); Kailath (1967), "The divergence and Bhattacharyya distance measures".
    """
    value = evaluate_renyi(0.5, p, q, log, normalize, draws, generator)
    return value.scaled(0.5) if isinstance(value, MonteCarloEstimate) else value / 2


def _order(alpha: float | int) -> float:
    """A Rényi order: zero or more, infinity included."""
    if isinstance(alpha, float) and alpha == math.inf:
        return alpha
    number = checks.real(alpha, "alpha")
    if number < 0:
        raise ValueError(f"alpha must be zero or more, got {alpha}; swap p and q for 1 − alpha")
    return number
