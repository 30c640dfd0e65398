"""Distances between Gaussian laws: transport, kernel, energy, and total variation on the line."""

import math

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Values
from probmetrics.gaussian.covariance import AbstractCovariance, Diagonal, combined
from probmetrics.gaussian.frechet import gaussian_frechet
from probmetrics.gaussian.law import Gaussian, compared, gaussian_function
from probmetrics.gaussian.roots import safe_root


@gaussian_function
def gaussian_wasserstein(p: Gaussian, q: Gaussian, *, root: bool = True) -> Values:
    """2-Wasserstein distance between Gaussians: the root, a metric.

    W₂² = ‖μ_p − μ_q‖² + tr(Σ_p + Σ_q − 2 (Σ_p Σ_q)^½): ``gaussian_frechet`` for laws.

    Args:
        p: First law; its covariance may be singular.
        q: Second law.
        root: False returns W₂².

    Returns:
        Shape (*batch).

    Raises:
        TypeError: An argument that is not a ``Gaussian``.
        ValueError: Different d, or a covariance that is not positive semi-definite.

    Example:
        >>> p, q = Gaussian([0.0], diagonal=[1.0]), Gaussian([1.0], diagonal=[4.0])
        >>> round(gaussian_wasserstein(p, q, root=False), 8)
        2.0

    Notes:
        O(d) between diagonal covariances, else O(d³): low-rank ones are formed in full. The root
        has gradient 0 between equal laws. Digits between nearly equal ones as in
        ``gaussian_frechet``.

    References:
        Givens, Shortt (1984), A class of Wasserstein metrics for probability distributions.
    """
    spread_p, spread_q = p.spread(), q.spread()
    if isinstance(spread_p, Diagonal) and isinstance(spread_q, Diagonal):
        roots = safe_root(spread_p.variances) - safe_root(spread_q.variances)
        square = ((p.mean - q.mean).square() + roots.square()).sum(-1)
        return safe_root(square) if root else square
    return gaussian_frechet(p.mean, spread_p.dense(), q.mean, spread_q.dense(), root=root)


@gaussian_function
def gaussian_mmd(p: Gaussian, q: Gaussian, *, bandwidth: float, root: bool = False) -> Values:
    """Squared MMD between Gaussians with the kernel exp(−‖x − y‖²/2σ²).

    MMD² = E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y), where
    E k(X, Y) = |C|^{-½} exp(−½ Δᵀ C⁻¹ Δ/σ²) with C = I + (Σ_p + Σ_q)/σ².

    Args:
        p: First law; its covariance may be singular.
        q: Second law.
        bandwidth: σ > 0.
        root: Return MMD instead of its square.

    Returns:
        Shape (*batch). Rounding may leave it a little below zero; the root is then 0.

    Raises:
        TypeError: An argument that is not a ``Gaussian``.
        ValueError: σ ≤ 0 or different d.

    Example:
        >>> p, q = Gaussian([0.0], diagonal=[1.0]), Gaussian([1.0], diagonal=[1.0])
        >>> round(gaussian_mmd(p, q, bandwidth=1.0), 8)
        0.17726763

    Notes:
        Cost as ``gaussian_kl``. The root has gradient 0 between equal laws.

    References:
        Gretton et al. (2012), A kernel two-sample test; Muandet et al. (2012), table 1.
    """
    scale = 1 / checks.positive(bandwidth, "bandwidth") ** 2
    gap = (p.mean - q.mean).unsqueeze(-1)
    spread_p, spread_q = p.spread(), q.spread()
    self_p = _overlap(torch.zeros_like(p.mean).unsqueeze(-1), spread_p, spread_p, scale)
    self_q = _overlap(torch.zeros_like(q.mean).unsqueeze(-1), spread_q, spread_q, scale)
    square = self_p + self_q - 2 * _overlap(gap, spread_p, spread_q, scale)
    return safe_root(square) if root else square


@gaussian_function
def gaussian_energy_distance(p: Gaussian, q: Gaussian, *, root: bool = False) -> Values:
    """Squared energy distance 2E|X−Y| − E|X−X′| − E|Y−Y′| between Gaussians on the line.

    E|N(m, s²)| = s √(2/π) exp(−m²/2s²) + m erf(m/(s√2)), with s² the sum of the variances.

    Args:
        p: First law, d = 1; its variance may be zero.
        q: Second law, d = 1.
        root: Return the root (SciPy's convention).

    Returns:
        Shape (*batch).

    Raises:
        TypeError: An argument that is not a ``Gaussian``.
        ValueError: d other than 1.

    Example:
        >>> p, q = Gaussian([0.0], diagonal=[1.0]), Gaussian([1.0], diagonal=[4.0])
        >>> round(gaussian_energy_distance(p, q), 8)
        0.53410532

    Notes:
        O(1). The gradient at variance zero, where the distance has a root singularity or a kink,
        is 0 in that variance.

    References:
        Székely, Rizzo (2013), Energy statistics.
    """
    mean_p, var_p = _on_the_line(p, "p")
    mean_q, var_q = _on_the_line(q, "q")
    within = safe_root(2 * var_p) + safe_root(2 * var_q)
    square = 2 * _mean_size(mean_p - mean_q, var_p + var_q) - math.sqrt(2 / math.pi) * within
    return safe_root(square) if root else square


@gaussian_function
def gaussian_total_variation(p: Gaussian, q: Gaussian) -> Values:
    """Total variation ½ ∫ |p − q| between Gaussians on the line.

    The densities cross where the quadratic log p/q vanishes, at one point or two; the distance is
    the difference of the masses between the crossings.

    Args:
        p: First law, d = 1.
        q: Second law, d = 1; the distance is symmetric.

    Returns:
        Shape (*batch), between 0 and 1.

    Raises:
        TypeError: An argument that is not a ``Gaussian``.
        ValueError: d other than 1, or a variance that is zero.

    Example:
        >>> p, q = Gaussian([0.0], diagonal=[1.0]), Gaussian([1.0], diagonal=[4.0])
        >>> round(gaussian_total_variation(p, q), 8)
        0.39006566

    Notes:
        O(1). The gradient is exact (at the crossings the densities agree, so their motion does
        not count) and 0 between equal laws, where the distance has a kink.

    References:
        Devroye, Mehrabian, Reddad (2018), The total variation distance between high-dimensional
        Gaussians with the same mean, section 1.
    """
    mean_p, var_p = _on_the_line(p, "p")
    mean_q, var_q = _on_the_line(q, "q")
    compared(p, q)
    sd_p, sd_q = var_p.sqrt(), var_q.sqrt()
    low, high = _crossings(mean_p.detach(), sd_p.detach(), mean_q.detach(), sd_q.detach())
    between = [
        torch.special.ndtr((high - mean) / sd) - torch.special.ndtr((low - mean) / sd)
        for mean, sd in ((mean_p, sd_p), (mean_q, sd_q))
    ]
    return (between[0] - between[1]).abs()


def _overlap(gap: Tensor, p: AbstractCovariance, q: AbstractCovariance, scale: float) -> Tensor:
    """E k(X, Y) for the Gaussian kernel of precision ``scale``."""
    identity = Diagonal(torch.ones_like(gap[..., 0]))
    spread = combined(1.0, identity, 1.0, combined(scale, p, scale, q))
    return (-spread.logdet() / 2 - scale * spread.quadratic(gap).squeeze(-1) / 2).exp()


def _on_the_line(law: Gaussian, name: str) -> tuple[Tensor, Tensor]:
    """Mean and variance, shape (*batch) each."""
    if law.mean.shape[-1] != 1:
        raise ValueError(
            f"{name} has d = {law.mean.shape[-1]} coordinates and the closed form holds on the "
            "line, d = 1; take one coordinate at a time"
        )
    return law.mean[..., 0], law.spread().dense()[..., 0, 0]


def _mean_size(mean: Tensor, variance: Tensor) -> Tensor:
    """E|N(mean, variance)|; |mean| where the variance is zero."""
    spread = variance > 0
    sd = torch.where(spread, variance, 1.0).sqrt()
    ratio = mean / sd
    folded = sd * math.sqrt(2 / math.pi) * (-ratio.square() / 2).exp()
    return torch.where(spread, folded + mean * torch.special.erf(ratio / math.sqrt(2)), mean.abs())


def _crossings(mean_p: Tensor, sd_p: Tensor, mean_q: Tensor, sd_q: Tensor) -> tuple[Tensor, Tensor]:
    """The two points where the densities cross; one may be far out where the variances agree.

    In z = (x − μ_p)/σ_p, with δ = (μ_q − μ_p)/σ_p and ρ = σ_q/σ_p:
    (1 − ρ²) z² − 2δ z + δ² + 2ρ² log ρ = 0, whose discriminant ρ²(δ² + 2(ρ² − 1) log ρ) has two
    non-negative terms. The root without cancellation comes first, the other one from the product.
    """
    far = 1e6  # standard deviations; all mass is within, and derivatives there are exact zeros
    shift, ratio = (mean_q - mean_p) / sd_p, sd_q / sd_p
    square = (1 - ratio) * (1 + ratio)
    constant = shift.square() + 2 * ratio.square() * ratio.log()
    root = ratio * (shift.square() - 2 * square * ratio.log()).sqrt()
    large = shift + torch.where(shift < 0, -root, root)
    equal = large == 0
    large = torch.where(equal, 1.0, large)
    one = (large / torch.where(square == 0, 1e-300, square)).clamp(-far, far)
    two = torch.where(equal, one, constant / large).clamp(-far, far)
    return mean_p + sd_p * torch.minimum(one, two), mean_p + sd_p * torch.maximum(one, two)
