"""Fréchet distance: the 2-Wasserstein distance between the Gaussians that fit two samples."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import (
    SamplesX,
    SamplesY,
    Values,
    WeightsX,
    WeightsY,
    array_function,
)
from probmetrics.gaussian.moments import centred
from probmetrics.gaussian.roots import factor, safe_root, spectral_sum, symmetric
from probmetrics.gaussian.spectrum import isometry

if TYPE_CHECKING:
    Mean = Any
    Covariance = Any
else:
    Mean = Float[Tensor, "*#batch d"]
    Covariance = Float[Tensor, "*#batch d d"]

_CANCELLED = 1e-4  # share of the traces below which their difference is taken as a sum of squares


@array_function
def frechet_distance(
    x: SamplesX,
    y: SamplesY,
    *,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = False,
) -> Values:
    """Squared Fréchet distance between the means and covariances of two samples.

    d² = ‖μ_x − μ_y‖² + tr(S_x + S_y − 2 (S_x S_y)^½), the squared 2-Wasserstein distance between
    the Gaussians N(μ_x, S_x) and N(μ_y, S_y), with unbiased covariances (divisor n − 1). On
    Inception features this is the FID.

    Args:
        x: Sample, shape (*batch, n, d), n ≥ 2.
        y: Sample, shape (*batch, m, d), m ≥ 2.
        a: Weights of x, shape (*batch, n), summing to one; None for uniform. The covariance is
            Σ aᵢ (xᵢ−μ)(xᵢ−μ)ᵀ / (1 − Σ aᵢ²), unbiased for *reliability* weights; uniform weights
            give n − 1 again. (Weights in place of repeated rows differ by a factor of order 1/n.)
        b: Weights of y, shape (*batch, m).
        root: Return d instead of d².

    Returns:
        Shape (*batch), in the dtype of the samples; computed in float64. Never below zero; equal
        samples give zero.

    Raises:
        ValueError: Fewer than two points (or all the mass on one), NaN, or shapes that differ.

    Example:
        >>> import numpy as np
        >>> x = np.array([[0.0], [2.0]])  # mean 1, variance 2
        >>> round(frechet_distance(x, 2 * x + 3), 6)  # 4² + (√8 − √2)²
        18.0

    Notes:
        O((n + m) d² + d³) time and O((n + m) d) memory; when a sample has no more points than
        coordinates, O(n m d) with no d×d matrix. No matrix square root is formed: with factors
        S = FᵀF, tr (S_x S_y)^½ is the nuclear norm of F_x F_yᵀ. The estimate is biased upwards
        by O(1/n): compare at equal n.

        The gradient in x, y and positive weights is exact, 2(x_i − T x_i)-like through the optimal
        transport map T, with no eigenvalue differences in it: it is finite for singular and for
        equal covariances, and zero at x = y. Where d² has a kink (a direction in which S_x S_y has
        no spread and a sample could gain some) the kink's share is left out, which is the mean of
        the two one-sided derivatives. The root has gradient 0 at 0.

    References:
        Dowson, Landau (1982), The Fréchet distance between multivariate normal distributions;
        Heusel et al. (2017), GANs trained by a two time-scale update rule, eq. 6.
    """
    x, y = checks.samples(x, y, minimum=2)
    a, b = checks.weights(a, x, "a"), checks.weights(b, y, "b")
    dtype = x.dtype
    x, y, a, b = x.double(), y.double(), a.double(), b.double()
    # Only differences matter: take off a common point first, so that offsets cost no digits.
    origin = (a.unsqueeze(-2) @ x).detach().reshape(-1, x.shape[-1]).mean(0)
    mean_x, rows_x, spread_x = _weighted_rows(x - origin, a, "a")
    mean_y, rows_y, spread_y = _weighted_rows(y - origin, b, "b")
    shape = _factor_of_covariance if min(x.shape[-2], y.shape[-2]) > x.shape[-1] else _rotated_rows
    square = _frechet(
        (mean_x - mean_y).squeeze(-2),
        (spread_x.unsqueeze(-1) * rows_x.square()).sum((-2, -1)),
        (spread_y.unsqueeze(-1) * rows_y.square()).sum((-2, -1)),
        shape(rows_x, spread_x),
        shape(rows_y, spread_y),
    )
    return (safe_root(square) if root else square).to(dtype)


@array_function
def gaussian_frechet(
    mean_x: Mean, cov_x: Covariance, mean_y: Mean, cov_y: Covariance, *, root: bool = False
) -> Values:
    """Squared Fréchet (2-Wasserstein, Bures) distance between Gaussians given by their statistics.

    d² = ‖μ_x − μ_y‖² + tr(S_x + S_y − 2 (S_x S_y)^½).

    Args:
        mean_x: Shape (*batch, d).
        cov_x: Covariance, shape (*batch, d, d), positive semi-definite; may be singular.
        mean_y: Shape (*batch, d).
        cov_y: Shape (*batch, d, d).
        root: Return d instead of d².

    Returns:
        Shape (*batch), in the common dtype; computed in float64. Never below zero; equal
        statistics give zero.

    Raises:
        ValueError: Shapes that do not match, or a covariance that is not symmetric and positive
            semi-definite.

    Example:
        >>> import numpy as np
        >>> round(gaussian_frechet(np.zeros(2), np.eye(2), np.ones(2), 4 * np.eye(2)), 6)
        4.0

    Notes:
        O(d³). From two ``Moments`` u and v:
        ``gaussian_frechet(u.mean, u.covariance(), v.mean, v.covariance())``.
        Where the difference of traces has cancelled, d² is taken as ‖F_x − Q F_y‖² with factors
        S = FᵀF and the polar factor Q of F_x F_yᵀ, at about six times the cost: d keeps its
        digits down to about ε √(κ tr S), for the ε of float64 and the condition κ of S.
        The gradient in the means is 2(μ_x − μ_y), in cov_x it is I − T with T the optimal
        transport map from x to y (restricted to the range where cov_x is singular), finite
        everywhere; the root has gradient 0 at 0.

    References:
        Dowson, Landau (1982); Gelbrich (1990); Malagò, Montrucchio, Pistone (2018) for the
        gradient.
    """
    mean_x, cov_x, mean_y, cov_y, dtype = statistics(mean_x, cov_x, mean_y, cov_y)
    square = _between_statistics(mean_x, cov_x, mean_y, cov_y, dtype)
    return (safe_root(square) if root else square).to(dtype)


@array_function
def bures_distance(cov_x: Covariance, cov_y: Covariance, *, root: bool = True) -> Values:
    """Bures–Wasserstein distance between covariance matrices: the root, a metric.

    d = √tr(S_x + S_y − 2 (S_x S_y)^½), the 2-Wasserstein distance between centred Gaussians. As
    all Wasserstein distances here it is the root by default, where ``frechet_distance`` is not.

    Args:
        cov_x: Shape (*batch, d, d), positive semi-definite; may be singular.
        cov_y: Shape (*batch, d, d).
        root: False returns d².

    Returns:
        Shape (*batch), in the common dtype; computed in float64.

    Raises:
        ValueError: Not square, not symmetric, or with negative eigenvalues.

    Example:
        >>> import numpy as np
        >>> round(bures_distance(np.eye(2), 9 * np.eye(2)), 6)  # √2 · (3 − 1)
        2.828427

    Notes:
        Cost and gradients as in ``gaussian_frechet``.

    References:
        Bhatia, Jain, Lim (2019), On the Bures–Wasserstein distance between positive definite
        matrices.
    """
    cov_x, cov_y = checked_covariance(cov_x, "cov_x"), checked_covariance(cov_y, "cov_y")
    mean_x, mean_y = cov_x.new_zeros(cov_x.shape[-1]), cov_y.new_zeros(cov_y.shape[-1])
    mean_x, cov_x, mean_y, cov_y, dtype = statistics(mean_x, cov_x, mean_y, cov_y)
    square = _between_statistics(mean_x, cov_x, mean_y, cov_y, dtype)
    return (safe_root(square) if root else square).to(dtype)


def _between_statistics(
    mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor, dtype: torch.dtype
) -> Tensor:
    slack = psd_slack(dtype)
    return _frechet(
        mean_x - mean_y,
        trace(cov_x),
        trace(cov_y),
        factor(cov_x, "cov_x", slack),
        factor(cov_y, "cov_y", slack),
    )


def _frechet(
    gap: Tensor, trace_x: Tensor, trace_y: Tensor, factor_x: Tensor, factor_y: Tensor
) -> Tensor:
    """‖Δμ‖² + tr S_x + tr S_y − 2‖F_x F_yᵀ‖_*, for any factors with FᵀF = S."""
    overlap = factor_x @ factor_y.mT
    total = trace_x + trace_y
    square = total - 2 * spectral_sum(overlap)
    # Nearly equal covariances: the same number as a sum of squares, and the same gradient.
    lost = square.detach() < _CANCELLED * total.detach()
    if bool(lost.any()):
        factors = [
            part.detach().expand(*square.shape, *part.shape[-2:])[lost]
            for part in (factor_x, factor_y)
        ]
        kept = square.new_zeros(square.shape).masked_scatter(lost, _aligned_gap(*factors))
        square = torch.where(lost, kept + (square - square.detach()), square)
    return gap.square().sum(-1) + square


def _aligned_gap(factor_x: Tensor, factor_y: Tensor) -> Tensor:
    """tr S_x + tr S_y − 2‖F_x F_yᵀ‖_* as a sum of squares, shape (*batch).

    ‖F_x − Q F_y‖² + ‖F_y − QᵀQ F_y‖² is tr S_x + tr S_y − 2⟨Q, F_x F_yᵀ⟩ for every isometry Q,
    least at the polar factor, and nothing for Q = I where the factors are equal.
    """
    alike = factor_x.shape == factor_y.shape
    unturned = (factor_x - factor_y).square().sum((-2, -1)) if alike else None
    if unturned is not None and not bool(unturned.any()):
        return unturned
    rotation = isometry(factor_x @ factor_y.mT)
    turned = rotation @ factor_y
    left = factor_y - rotation.mT @ turned
    least = (factor_x - turned).square().sum((-2, -1)) + left.square().sum((-2, -1))
    return least if unturned is None else torch.minimum(least, unturned)


def _weighted_rows(x: Tensor, a: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, centred rows, and the weights that make rowsᵀ diag(w) rows the unbiased covariance."""
    a = a / a.sum(-1, keepdim=True)
    free = 1 - a.square().sum(-1, keepdim=True)
    if checks.readable(free) and bool((free.detach() < 1e-12).any()):
        raise ValueError(
            f"{name} puts all its mass on one point, which has no covariance; "
            "spread it over at least two"
        )
    mean, rows = centred(x, a)
    return mean, rows, a / free


def _factor_of_covariance(rows: Tensor, spread: Tensor) -> Tensor:
    """Factor of a sample's covariance, d×d: for samples with more points than coordinates."""
    return factor((spread.unsqueeze(-1) * rows).mT @ rows)


def _rotated_rows(rows: Tensor, spread: Tensor) -> Tensor:
    """Factor of a sample's covariance, (n−1)×d: its own rows, weighted.

    The n rows are centred, so they span n − 1 dimensions. A reflection that takes the vector of
    root weights, which they are all orthogonal to, onto the first axis leaves the first row zero.
    Without it the overlap of two such factors is singular, and its nuclear norm looks as if it
    had a kink.
    """
    root = safe_root(spread).unsqueeze(-1)
    scaled = root * rows
    direction = (root / torch.linalg.vector_norm(root, dim=-2, keepdim=True)).detach()
    mirror = torch.cat([direction[..., :1, :] + 1, direction[..., 1:, :]], -2)
    reflected = scaled - mirror * (mirror.mT @ scaled) / mirror[..., :1, :]
    return reflected[..., 1:, :]


def trace(matrix: Tensor) -> Tensor:
    """Trace of the last two dimensions."""
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def psd_slack(dtype: torch.dtype) -> float:
    """How negative an eigenvalue of a correlation matrix may be by rounding in this dtype."""
    return float(max(torch.finfo(dtype).eps ** 0.5, 1e-8))


def checked_covariance(covariance: Tensor, name: str) -> Tensor:
    """A finite, square matrix, symmetric up to rounding of its dtype."""
    if covariance.ndim < 2 or covariance.shape[-1] != covariance.shape[-2]:
        raise ValueError(
            f"{name} must have shape (*batch, d, d), got {tuple(covariance.shape)}; "
            "for one coordinate pass a 1×1 matrix"
        )
    covariance = checks.finite(covariance, name)
    if checks.readable(covariance) and covariance.numel():
        held = covariance.detach().double()
        gap, size = (held - held.mT).abs().max(), held.abs().max()
        if bool(gap > max(torch.finfo(covariance.dtype).eps ** 0.5 * 10, 1e-5) * size):
            raise ValueError(
                f"{name} is not symmetric: entries differ from their mirror image by up to "
                f"{gap.item():.3g}; pass a covariance matrix"
            )
    return covariance


def statistics(
    mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, torch.dtype]:
    """Checked means and covariances in float64, and the dtype to answer in."""
    d = checked_covariance(cov_x, "cov_x").shape[-1]
    parts = [("mean_x", mean_x), ("cov_x", cov_x), ("mean_y", mean_y), ("cov_y", cov_y)]
    dtype, batch = mean_x.dtype, torch.Size()
    for name, part in parts:
        if name.startswith("cov"):
            checked_covariance(part, name)
        elif part.ndim < 1:
            raise ValueError(f"{name} must have shape (*batch, d), got a single number")
        if part.shape[-1] != d:
            raise ValueError(
                f"{name} has {part.shape[-1]} coordinates and cov_x has {d}; all four must agree"
            )
        checks.finite(part, name)
        if part.device != mean_x.device:
            raise ValueError(f"{name} is on {part.device}, mean_x on {mean_x.device}")
        dtype = torch.promote_types(dtype, part.dtype)
        own = part.shape[: -2 if name.startswith("cov") else -1]
        checks.broadcastable(batch, own, ("the arguments before", name))
        batch = torch.broadcast_shapes(batch, own)
    return (
        mean_x.double(),
        symmetric(cov_x.double()),
        mean_y.double(),
        symmetric(cov_y.double()),
        dtype,
    )
