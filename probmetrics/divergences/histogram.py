"""The named divergences between probability vectors, or between Distributions."""

from collections.abc import Callable

from torch import Tensor

from probmetrics._arrays import array_function
from probmetrics.divergences.dispatch import (
    DRAWS,
    Answer,
    Probabilities,
    Seed,
    evaluate,
    root,
    row_of,
)
from probmetrics.divergences.family import (
    JS,
    KL,
    Jeffrey,
    LeCam,
    ReverseKL,
    TotalVariation,
)
from probmetrics.divergences.row import CriticRow, FDivergence


@array_function
def kl_divergence(
    p: Probabilities,
    q: Probabilities,
    *,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Kullback–Leibler divergence KL(P‖Q), in nats.

    Σ p log(p/q), or ∫ p log(p/q) dx.

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
        >>> round(kl_divergence([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]), 8)
        0.45643482

    Notes:
        O(k). +∞ where p has mass and q has none. Each bin adds p log(p/q) − p + q, which is
        never negative, so that near-equal vectors give a small positive value, not noise; on
        vectors that sum to one the additions cancel, and the gradients log(p/q) and 1 − p/q
        differ from those of the shorter formula by a constant, which no movement along the
        simplex sees. At an empty bin the gradient is finite by convention, the infinite part left
        out.

    References:
        Kullback & Leibler (1951), "On information and sufficiency".
    """
    return evaluate(KL, p, q, log, normalize, draws, generator)


@array_function
def reverse_kl_divergence(
    p: Probabilities,
    q: Probabilities,
    *,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Reverse Kullback–Leibler divergence KL(Q‖P), in nats.

    Σ q log(q/p).

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
        >>> round(reverse_kl_divergence([0.3, 0.7], [0.6, 0.4]), 8)
        0.19204199

    Notes:
        ``kl_divergence(q, p)``, with the same conventions; +∞ where q has mass and p has none.

    References:
        Kullback & Leibler (1951), "On information and sufficiency".
    """
    return evaluate(ReverseKL, p, q, log, normalize, draws, generator)


@array_function
def jeffrey_divergence(
    p: Probabilities,
    q: Probabilities,
    *,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Jeffreys' divergence KL(P‖Q) + KL(Q‖P), in nats (the sum, not the mean).

    Σ (p − q) log(p/q).

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
        >>> round(jeffrey_divergence([0.3, 0.7], [0.6, 0.4]), 8)
        0.37582889

    Notes:
        Symmetric; +∞ unless both fill the same bins. Rubner's "Jeffrey divergence" for histograms,
        which compares each with their mean, is twice the ``js_divergence``.

    References:
        Jeffreys (1946), "An invariant form for the prior probability".
    """
    return evaluate(Jeffrey, p, q, log, normalize, draws, generator)


@array_function
def js_divergence(
    p: Probabilities,
    q: Probabilities,
    *,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Jensen–Shannon divergence, in nats; at most log 2.

    ½ KL(P‖M) + ½ KL(Q‖M) with M = (P + Q)/2.

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
        >>> round(js_divergence([0.5, 0.5, 0.0], [0.0, 0.5, 0.5]), 8)
        0.34657359
        >>> js_divergence([1.0, 0.0], [0.0, 1.0])
        0.6931471805599453

    Notes:
        Symmetric, log 2 on disjoint supports. Non-negative and accurate to rounding however close
        or however small (subnormal) the bins. The f-GAN table's f gives twice this value. The
        gradient at an empty bin leaves its infinite part out.

    References:
        Lin (1991), "Divergence measures based on the Shannon entropy".
    """
    return evaluate(JS, p, q, log, normalize, draws, generator)


@array_function
def jensen_shannon_distance(
    p: Probabilities,
    q: Probabilities,
    *,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Jensen–Shannon distance: the square root of the divergence in nats, a metric.

    √JS(P, Q), at most √log 2.

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
        >>> round(jensen_shannon_distance([1.0, 0.0], [0.0, 1.0]) ** 2, 8)
        0.69314718

    Notes:
        What SciPy calls ``jensenshannon``. The gradient at P = Q is zero by convention.

    References:
        Endres & Schindelin (2003), "A new metric for probability distributions".
    """
    return root(evaluate(JS, p, q, log, normalize, draws, generator))


@array_function
def total_variation(
    p: Probabilities,
    q: Probabilities,
    *,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Total variation distance: half the L1 distance, at most 1.

    ½ Σ |p − q| = sup_A |P(A) − Q(A)|.

    Args:
        p: Probabilities, shape (*batch, k), or a Distribution; data or reference.
        q: Probabilities, shape (*batch, k), or a Distribution; the model.
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
        >>> total_variation([1.0, 0.0], [0.0, 1.0])
        1.0

    Notes:
        A metric; 1 on disjoint supports. The gradient is zero in bins where p = q.

    References:
        Tsybakov (2009), "Introduction to nonparametric estimation".
    """
    return evaluate(TotalVariation, p, q, log, normalize, draws, generator)


@array_function
def le_cam(
    p: Probabilities,
    q: Probabilities,
    *,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """Le Cam (triangular) divergence, half the triangular discrimination; at most 1.

    ½ Σ (p − q)²/(p + q).

    Args:
        p: Probabilities, shape (*batch, k), or a Distribution; data or reference.
        q: Probabilities, shape (*batch, k), or a Distribution; the model.
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
        >>> round(le_cam([0.3, 0.7], [0.6, 0.4]), 8)
        0.09090909

    Notes:
        Symmetric; its root is a metric; 1 on disjoint supports. Rubner's χ² statistic between
        histograms is this number. The gradient is finite everywhere.

    References:
        Le Cam (1986), "Asymptotic methods in statistical decision theory", p. 47; Vincze (1981).
    """
    return evaluate(LeCam, p, q, log, normalize, draws, generator)


@array_function
def f_divergence(
    p: Probabilities,
    q: Probabilities,
    f: FDivergence | CriticRow | str | Callable[[Tensor], Tensor],
    *,
    log: bool = False,
    normalize: bool = False,
    draws: int = DRAWS,
    generator: Seed = None,
) -> Answer:
    """The f-divergence Σ q f(p/q) of a row of the family, by its name, or of a function.

    D_f(P‖Q) = Σ q f(p/q), times the row's ``scale``.

    Args:
        p: Probabilities, shape (*batch, k), or a Distribution; data or reference.
        q: Probabilities, shape (*batch, k), or a Distribution; the model.
        f: A row such as ``KL``, a name such as "js" or "alpha(0.3)", or a convex function of
            u = p/q in torch operations with f(1) = 0.
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
        ValueError: An unknown name; the message lists those there are.

    Example:
        >>> round(f_divergence([0.3, 0.7], [0.6, 0.4], "pearson"), 8)
        0.375
        >>> round(f_divergence([0.3, 0.7], [0.6, 0.4], lambda u: (u - 1) ** 2), 8)
        0.375

    Notes:
        With ``JS`` and ``SquaredHellinger`` the value is that of ``js_divergence`` and
        ``hellinger``, half that of the f-GAN table's f. A bare function is summed as it is: no
        protection from cancellation near p = q, and its f(0) and f′(∞), for bins only one side
        fills, are read off far out (see ``from_function``).

    References:
        Csiszár (1967), "Information-type measures of difference".
    """
    return evaluate(row_of(f), p, q, log, normalize, draws, generator)
