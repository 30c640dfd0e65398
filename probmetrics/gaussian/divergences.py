"""Divergences between Gaussian densities in closed form, in nats."""

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Values
from probmetrics.gaussian.covariance import AbstractCovariance, Diagonal, Full, combined
from probmetrics.gaussian.law import Gaussian, compared, gaussian_function
from probmetrics.gaussian.roots import safe_root


@gaussian_function
def gaussian_kl(p: Gaussian, q: Gaussian) -> Values:
    """Kullback–Leibler divergence KL(p‖q) between Gaussians.

    KL = ½ [tr(Σ_q⁻¹ Σ_p) + Δᵀ Σ_q⁻¹ Δ − d + log |Σ_q| − log |Σ_p|],  Δ = μ_p − μ_q.

    Args:
        p: Data or reference law.
        q: Model law.

    Returns:
        Shape (*batch), in the laws' dtype; computed in float64.

    Raises:
        TypeError: An argument that is not a ``Gaussian``.
        ValueError: Different d, or a covariance that is not positive definite.

    Example:
        >>> p, q = Gaussian([0.0], diagonal=[1.0]), Gaussian([1.0], diagonal=[4.0])
        >>> round(gaussian_kl(p, q), 8)
        0.44314718

    Notes:
        O(d³) for full covariances (Cholesky solves, no inverse), O(d) for diagonal ones, and
        O(d r²) for rank r by Woodbury's identity. Between two full or two diagonal covariances it
        is a sum of non-negative terms, accurate also for laws that nearly agree. Smooth.

    References:
        Kullback (1959), Information theory and statistics, chapter 9.
    """
    gap, spread_p, spread_q = compared(p, q)
    return (
        _misfit(spread_p, spread_q, gap.shape[-1])
        + spread_q.quadratic(gap.unsqueeze(-1)).squeeze(-1)
    ) / 2


@gaussian_function
def gaussian_renyi(p: Gaussian, q: Gaussian, *, alpha: float) -> Values:
    """Rényi divergence D_α(p‖q) = log ∫ p^α q^{1−α} / (α − 1) between Gaussians.

    D_α = (α/2) Δᵀ Σ_α⁻¹ Δ − log(|Σ_α| / (|Σ_p|^{1−α} |Σ_q|^α)) / (2(α − 1)) with
    Σ_α = (1 − α) Σ_p + α Σ_q, and +∞ where Σ_α is not positive definite (α > 1 only).

    Args:
        p: Data or reference law.
        q: Model law.
        alpha: Order α > 0; 1 gives the Kullback–Leibler divergence.

    Returns:
        Shape (*batch); +inf outside the domain, with gradient 0.

    Raises:
        TypeError: An argument that is not a ``Gaussian``.
        ValueError: α ≤ 0, different d, or a covariance that is not positive definite.

    Example:
        >>> p, q = Gaussian([0.0], diagonal=[1.0]), Gaussian([1.0], diagonal=[4.0])
        >>> round(gaussian_renyi(p, q, alpha=2.0), 8)
        0.55619643

    Notes:
        Cost as ``gaussian_kl``; low-rank covariances are formed in full (O(d³)) when α > 1.

    References:
        Gil, Alajaji, Linder (2013), Rényi divergence measures for commonly used univariate
        continuous distributions, table 2; Hobza, Morales, Pardo (2009).
    """
    if checks.positive(alpha, "alpha") == 1:
        return gaussian_kl(p, q)
    return _renyi(p, q, float(alpha))


@gaussian_function
def gaussian_bhattacharyya(p: Gaussian, q: Gaussian) -> Values:
    """Bhattacharyya distance −log ∫ √(p q) between Gaussians.

    ⅛ Δᵀ Σ̄⁻¹ Δ + ½ log(|Σ̄| / √(|Σ_p| |Σ_q|)), Σ̄ = ½(Σ_p + Σ_q): half of the Rényi divergence of
    order ½.

    Args:
        p: First law.
        q: Second law; the distance is symmetric.

    Returns:
        Shape (*batch).

    Raises:
        TypeError: An argument that is not a ``Gaussian``.
        ValueError: Different d, or a covariance that is not positive definite.

    Example:
        >>> p, q = Gaussian([0.0], diagonal=[1.0]), Gaussian([1.0], diagonal=[1.0])
        >>> gaussian_bhattacharyya(p, q)
        0.125

    Notes:
        Cost as ``gaussian_kl``.

    References:
        Kailath (1967), The divergence and Bhattacharyya distance measures in signal selection.
    """
    return _renyi(p, q, 0.5) / 2


@gaussian_function
def gaussian_hellinger(p: Gaussian, q: Gaussian, *, root: bool = False) -> Values:
    """Squared Hellinger distance 1 − ∫ √(p q) = ½ ∫ (√p − √q)² between Gaussians.

    Args:
        p: First law.
        q: Second law; the distance is symmetric.
        root: Return the distance, a metric, instead of its square.

    Returns:
        Shape (*batch), between 0 and 1. (Some texts double it.)

    Raises:
        TypeError: An argument that is not a ``Gaussian``.
        ValueError: Different d, or a covariance that is not positive definite.

    Example:
        >>> p, q = Gaussian([0.0], diagonal=[1.0]), Gaussian([1.0], diagonal=[1.0])
        >>> round(gaussian_hellinger(p, q), 8)
        0.1175031

    Notes:
        Cost as ``gaussian_kl``. The root has gradient 0 between equal laws.

    References:
        Pardo (2006), Statistical inference based on divergence measures, p. 46.
    """
    square = -torch.expm1(-_renyi(p, q, 0.5) / 2)
    return safe_root(square) if root else square


@gaussian_function
def gaussian_chi2(p: Gaussian, q: Gaussian, *, kind: str = "pearson") -> Values:
    """χ² divergence between Gaussians: Pearson's ∫ (p − q)²/q, or Neyman's ∫ (p − q)²/p.

    Pearson's is exp(D₂(p‖q)) − 1 with the Rényi divergence of order 2; it is finite exactly where
    2Σ_q − Σ_p is positive definite (q has tails at least 1/√2 as wide). Neyman's exchanges p, q.

    Args:
        p: Data or reference law.
        q: Model law.
        kind: "pearson" or "neyman".

    Returns:
        Shape (*batch); +inf outside the domain, with gradient 0.

    Raises:
        TypeError: An argument that is not a ``Gaussian``.
        ValueError: Another kind, different d, or a covariance that is not positive definite.

    Example:
        >>> p, q = Gaussian([0.0], diagonal=[1.0]), Gaussian([1.0], diagonal=[4.0])
        >>> round(gaussian_chi2(p, q), 8), gaussian_chi2(q, p)
        (0.74402634, inf)

    Notes:
        Cost as ``gaussian_renyi`` with α = 2.

    References:
        Nielsen, Nock (2014), On the chi square and higher-order chi distances for approximating
        f-divergences.
    """
    if checks.choice(kind, "kind", ("pearson", "neyman")) == "neyman":
        p, q = q, p
    return torch.expm1(_renyi(p, q, 2.0))


def _renyi(p: Gaussian, q: Gaussian, alpha: float) -> Tensor:
    """The Rényi divergence of order α ≠ 1; Bhattacharyya, Hellinger and χ² are functions of it."""
    gap, spread_p, spread_q = compared(p, q)
    mixed = combined(1 - alpha, spread_p, alpha, spread_q)
    finite = mixed.is_definite()
    # Outside the domain the value is +∞; a harmless matrix keeps the backward finite there.
    mixed = mixed.or_identity(finite)
    shift = mixed.quadratic(gap.unsqueeze(-1)).squeeze(-1)
    volume = mixed.logdet() - (1 - alpha) * spread_p.logdet() - alpha * spread_q.logdet()
    value = alpha / 2 * shift + volume / (2 * (1 - alpha))
    return torch.where(finite, value, torch.inf)


def _misfit(spread_p: AbstractCovariance, spread_q: AbstractCovariance, size: int) -> Tensor:
    """tr(Σ_q⁻¹ Σ_p) − d − log |Σ_q⁻¹ Σ_p| ≥ 0, where it can be without cancellation."""
    if isinstance(spread_p, Diagonal) and isinstance(spread_q, Diagonal):
        excess = (spread_p.variances - spread_q.variances) / spread_q.variances
        ratio = spread_p.variances / spread_q.variances
        return (excess - _log_ratio(excess, ratio)).sum(-1)
    if isinstance(spread_p, Full) and isinstance(spread_q, Full):
        # M = L_q⁻¹ L_p is lower triangular: tr(MMᵀ) − d − log|MMᵀ| entry by entry.
        factor: Tensor = torch.linalg.solve_triangular(spread_q.lower, spread_p.lower, upper=False)
        diagonal = factor.diagonal(dim1=-2, dim2=-1)
        excess = (diagonal - 1) * (diagonal + 1)
        own = (excess - _log_ratio(excess, diagonal.square())).sum(-1)
        return own + factor.tril(-1).square().sum((-2, -1))

    return spread_q.trace_ratio(spread_p) - size + spread_q.logdet() - spread_p.logdet()


def _log_ratio(excess: Tensor, ratio: Tensor) -> Tensor:
    """Log of a ratio, from the ratio minus one where the two are close."""
    close = excess > -0.5
    near = torch.where(close, excess, 0.0).log1p()
    return torch.where(close, near, torch.where(close, 1.0, ratio).log())
