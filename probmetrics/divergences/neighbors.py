"""Divergences between samples from distances to their nearest neighbours, without densities.

Around a point x of the first sample let ρ be the distance to its k-th neighbour among the others
of that sample and ν the distance to its k-th neighbour in the second. With d coordinates,
(n − 1) ρ^d / (m ν^d) estimates q/p at x, and its powers have known bias: for every k, not only for
large ones, the estimates below tend to the truth.

How good they are is a matter of dimension. The bias is of order n^(−1/d), so that from d = 5 on it
is often larger than the noise, and always too small when P and Q are far apart; nothing is
corrected for it. ``density_ratio`` with a classifier has a far smaller bias where its features
fit.

The distances are Euclidean and d is the number of columns: columns that are functions of others,
or constant, make every estimate wrong by a factor. Bring columns to comparable scales first.
"""

import math

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, Values, array_function
from probmetrics.divergences.continuous import Generator, apart, prepared
from probmetrics.pairwise import KSmallest, reduce_pairs, sharded
from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.ranks import Sharded
from probmetrics.pairwise.threads import WORTH_SHARING, on_one_thread


@array_function
def kl_neighbors(
    x: SamplesX,
    y: SamplesY,
    *,
    k: int = 5,
    jitter: float = 0.0,
    generator: Generator = None,
    backend: sharded.Backend = "auto",
) -> Values:
    r"""Kullback–Leibler divergence KL(P‖Q) in nats from two samples, by k nearest neighbours.

    .. math:: \frac{d}{n} \sum_i \log \frac{\nu_k(x_i)}{\rho_k(x_i)} + \log \frac{m}{n-1}

    Args:
        x: Sample of P, shape (*batch, n, d), n > k.
        y: Sample of Q, shape (*batch, m, d), m ≥ k; m need not be n.
        k: Which neighbour. More of them lower the variance and raise the bias.
        jitter: Half-width of the uniform noise added to every coordinate of both samples, in the
            unit of the data. For data with ties, half the step they are rounded to gives back the
            spread that rounding took.
        generator: Source of the noise.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        The estimate, shape (*batch). It may be negative and is biased from about d = 5 on.

    Raises:
        ValueError: k neighbours that are not there; k or more copies of one point (a distance of
            zero, whose logarithm is infinite) without jitter; a constant column.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(4000, 1)), rng.normal(1, 1, size=(3000, 1))
        >>> bool(abs(kl_neighbors(x, y) - 0.5) < 0.05)
        True

    Notes:
        Time n² + n m distances, memory linear in n + m. Differentiable in x and y. An interval:
        ``estimate(kl_neighbors, x, y)``, by subsampling; the bootstrap is invalid, as a point
        drawn twice has a neighbour at distance zero.

    References:
        Wang, Kulkarni & Verdú (2009), "Divergence estimation for multidimensional densities via
        k-nearest-neighbor distances"; Pérez-Cruz (2008), "Kullback–Leibler divergence
        estimation of continuous distributions".
    """
    x, y = prepared(x, y, jitter, generator, backend)
    return _average_log_ratio(x, y, k, backend).to(x.dtype)


@array_function
def jeffrey_neighbors(
    x: SamplesX,
    y: SamplesY,
    *,
    k: int = 5,
    jitter: float = 0.0,
    generator: Generator = None,
    backend: sharded.Backend = "auto",
) -> Values:
    """Jeffrey's divergence KL(P‖Q) + KL(Q‖P) in nats, by k nearest neighbours.

    Each mean is taken over its own sample, so that n and m may differ.

    Args:
        x: Sample of P, shape (*batch, n, d), n > k.
        y: Sample of Q, shape (*batch, m, d), m > k.
        k: Which neighbour.
        jitter: As in ``kl_neighbors``.
        generator: Source of the noise.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        The estimate, shape (*batch).

    Raises:
        ValueError: As ``kl_neighbors``, for either sample.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(4000, 1)), rng.normal(1, 1, size=(3000, 1))
        >>> bool(abs(jeffrey_neighbors(x, y) - 1.0) < 0.05)
        True

    Notes:
        Twice the work of ``kl_neighbors``; its notes hold here too.

    References:
        Wang, Kulkarni & Verdú (2009), as in ``kl_neighbors``.
    """
    x, y = prepared(x, y, jitter, generator, backend)
    there, back = _average_log_ratio(x, y, k, backend), _average_log_ratio(y, x, k, backend, "yx")
    return (there + back).to(x.dtype)


@array_function
def renyi_neighbors(
    x: SamplesX,
    y: SamplesY,
    *,
    alpha: float,
    k: int = 5,
    jitter: float = 0.0,
    generator: Generator = None,
    backend: sharded.Backend = "auto",
) -> Values:
    """Rényi divergence log(∫ p^α q^{1−α}) / (α − 1) in nats, by k nearest neighbours.

    Args:
        x: Sample of P, shape (*batch, n, d), n > k.
        y: Sample of Q, shape (*batch, m, d), m ≥ k.
        alpha: Order α > 0; 1 is ``kl_neighbors``.
        k: Which neighbour, larger than |α − 1|.
        jitter: As in ``kl_neighbors``.
        generator: Source of the noise.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        The estimate, shape (*batch).

    Raises:
        ValueError: α not above zero, k not above |α − 1|, and as ``kl_neighbors``.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(4000, 1)), rng.normal(1, 1, size=(3000, 1))
        >>> bool(abs(renyi_neighbors(x, y, alpha=0.5) - 0.25) < 0.05)
        True

    Notes:
        As for ``kl_neighbors``. For α well above one the mean is carried by few points.

    References:
        Póczos & Schneider (2011), "On the estimation of α-divergences".
    """
    alpha = checks.positive(alpha, "alpha")
    x, y = prepared(x, y, jitter, generator, backend)
    if alpha == 1:
        return _average_log_ratio(x, y, k, backend).to(x.dtype)
    return (_log_affinity(x, y, alpha, k, backend) / (alpha - 1)).to(x.dtype)


@array_function
def tsallis_neighbors(
    x: SamplesX,
    y: SamplesY,
    *,
    alpha: float,
    k: int = 5,
    jitter: float = 0.0,
    generator: Generator = None,
    backend: sharded.Backend = "auto",
) -> Values:
    """Tsallis relative entropy (∫ p^α q^{1−α} − 1) / (α − 1), by k nearest neighbours.

    Args:
        x: Sample of P, shape (*batch, n, d), n > k.
        y: Sample of Q, shape (*batch, m, d), m ≥ k.
        alpha: Order α > 0; 1 is ``kl_neighbors``.
        k: Which neighbour, larger than |α − 1|.
        jitter: As in ``kl_neighbors``.
        generator: Source of the noise.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        The estimate, shape (*batch).

    Raises:
        ValueError: As ``renyi_neighbors``.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(4000, 1)), rng.normal(1, 1, size=(3000, 1))
        >>> bool(abs(tsallis_neighbors(x, y, alpha=0.5) - 0.235) < 0.05)
        True

    Notes:
        As for ``renyi_neighbors``.

    References:
        Póczos & Schneider (2011), as in ``renyi_neighbors``.
    """
    alpha = checks.positive(alpha, "alpha")
    x, y = prepared(x, y, jitter, generator, backend)
    if alpha == 1:
        return _average_log_ratio(x, y, k, backend).to(x.dtype)
    return (torch.expm1(_log_affinity(x, y, alpha, k, backend)) / (alpha - 1)).to(x.dtype)


@array_function
def hellinger_neighbors(
    x: SamplesX,
    y: SamplesY,
    *,
    k: int = 5,
    jitter: float = 0.0,
    generator: Generator = None,
    backend: sharded.Backend = "auto",
) -> Values:
    """Squared Hellinger distance 1 − ∫ √(pq), by k nearest neighbours.

    Args:
        x: Sample of P, shape (*batch, n, d), n > k.
        y: Sample of Q, shape (*batch, m, d), m ≥ k.
        k: Which neighbour.
        jitter: As in ``kl_neighbors``.
        generator: Source of the noise.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        The estimate, shape (*batch); it may be negative, so no root is offered.

    Raises:
        ValueError: As ``kl_neighbors``.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(4000, 1)), rng.normal(1, 1, size=(3000, 1))
        >>> bool(abs(hellinger_neighbors(x, y) - 0.1175) < 0.05)
        True

    Notes:
        As for ``kl_neighbors``.

    References:
        Póczos, Xiong, Sutherland & Schneider (2012), "Nonparametric kernel estimators for image
        classification".
    """
    x, y = prepared(x, y, jitter, generator, backend)
    return -torch.expm1(_log_affinity(x, y, 0.5, k, backend)).to(x.dtype)


@array_function
def bhattacharyya_neighbors(
    x: SamplesX,
    y: SamplesY,
    *,
    k: int = 5,
    jitter: float = 0.0,
    generator: Generator = None,
    backend: sharded.Backend = "auto",
) -> Values:
    """Bhattacharyya distance −log ∫ √(pq), by k nearest neighbours.

    Args:
        x: Sample of P, shape (*batch, n, d), n > k.
        y: Sample of Q, shape (*batch, m, d), m ≥ k.
        k: Which neighbour.
        jitter: As in ``kl_neighbors``.
        generator: Source of the noise.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        The estimate, shape (*batch).

    Raises:
        ValueError: As ``kl_neighbors``.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(4000, 1)), rng.normal(1, 1, size=(3000, 1))
        >>> bool(abs(bhattacharyya_neighbors(x, y) - 0.125) < 0.05)
        True

    Notes:
        As for ``kl_neighbors``.

    References:
        Póczos, Xiong, Sutherland & Schneider (2012), as in ``hellinger_neighbors``.
    """
    x, y = prepared(x, y, jitter, generator, backend)
    return -_log_affinity(x, y, 0.5, k, backend).to(x.dtype)


def _average_log_ratio(
    x: Tensor, y: Tensor, k: int, backend: sharded.Backend, names: str = "xy"
) -> Tensor:
    """Mean over x of the estimated log p/q, float64."""
    ratios = _log_ratios(x, y, k, backend, names)
    if not isinstance(backend, Sharded):
        return ratios.mean(-1)
    return sharded.summed(ratios.sum(-1), backend) / sharded.count(x, backend)


def _log_affinity(x: Tensor, y: Tensor, alpha: float, k: int, backend: sharded.Backend) -> Tensor:
    """log ∫ p^α q^{1−α} as log of the mean of (p/q)^{α−1} over x, less its bias, float64.

    E[ρ^{d(1−α)}] brings a factor Γ(k+1−α)/Γ(k), and ν^{−d(1−α)} one of Γ(k−1+α)/Γ(k), in the limit
    of many points (Póczos & Schneider 2011).
    """
    k = checks.count(k, "k")
    if k <= abs(alpha - 1):
        raise ValueError(f"k must be larger than |alpha − 1| = {abs(alpha - 1):g}, got k={k}")
    correction = 2 * math.lgamma(k) - math.lgamma(k + 1 - alpha) - math.lgamma(k - 1 + alpha)
    powers = (alpha - 1) * _log_ratios(x, y, k, backend, "xy")
    log_mean = powers.logsumexp(-1) - math.log(sharded.count(x, backend))
    if isinstance(backend, Sharded):
        top = backend.largest(log_mean)
        log_mean = top + sharded.summed((log_mean - top).exp(), backend).log()
    return log_mean + correction


def _log_ratios(x: Tensor, y: Tensor, k: int, backend: sharded.Backend, names: str) -> Tensor:
    """log p/q at the points of x, d log(ν/ρ) + log(m/(n − 1)), shape (*batch, n), float64."""
    k = checks.count(k, "k")
    n, m, d = sharded.count(x, backend), sharded.count(y, backend), x.shape[-1]
    for points, found, needed in ((names[0], n, k + 1), (names[1], m, k)):
        if found < needed:
            raise ValueError(
                f"{points} has {found} points and k={k} neighbours need {needed}; lower k"
            )
    own = reduce_pairs(Euclidean(), KSmallest(k, skip_self=True), x, backend=backend)[0][..., -1]
    other = reduce_pairs(Euclidean(), KSmallest(k), x, y, backend=backend)[0][..., -1]
    sharded.together(backend, lambda: apart(own, names[0], names[0], k + 1), own)
    sharded.together(backend, lambda: apart(other, names[0], names[1], k), own)
    with on_one_thread(own.numel() < WORTH_SHARING):
        ratio: Tensor = other.double().log() - own.double().log()
    return d * ratio + math.log(m / (n - 1))
