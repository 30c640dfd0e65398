"""Entropic optimal transport between Gaussians in closed form."""

from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Values, array_function
from probmetrics.gaussian.frechet import Covariance, Mean, psd_slack, statistics, trace
from probmetrics.gaussian.roots import factor, spectral_sum


@array_function
def gaussian_sinkhorn(
    mean_x: Mean, cov_x: Covariance, mean_y: Mean, cov_y: Covariance, *, epsilon: float
) -> Values:
    """Entropic transport cost between Gaussians, min ⟨P, C⟩ + ε KL(P‖a⊗b), C = ‖x − y‖².

    OT_ε = ‖μ_x − μ_y‖² + tr S_x + tr S_y − Σᵢ [Dᵢ − t − t log((Dᵢ + t)/2t)] with t = ε/2 and
    Dᵢ = √(4 sᵢ² + t²), where the sᵢ are the singular values of S_x^½ S_y^½.

    Args:
        mean_x: Shape (*batch, d).
        cov_x: Shape (*batch, d, d), positive semi-definite; may be singular.
        mean_y: Shape (*batch, d).
        cov_y: Shape (*batch, d, d).
        epsilon: ε > 0, in the units of ‖x − y‖² (not halved). Where the cost is ½‖x − y‖² with
            regularisation ε′, the value here at ε = 2ε′ is twice that one.

    Returns:
        Shape (*batch). It tends to the squared Fréchet distance as ε → 0, and to the independent
        coupling's cost ‖Δμ‖² + tr S_x + tr S_y as ε → ∞; between equal Gaussians it is not zero
        (see ``gaussian_sinkhorn_divergence``).

    Raises:
        ValueError: ε not above zero, shapes that do not match, covariances that are not
            symmetric and positive semi-definite.

    Example:
        >>> import numpy as np
        >>> one = np.eye(1)
        >>> round(gaussian_sinkhorn(np.zeros(1), one, np.ones(1), 4 * one, epsilon=1.0), 6)
        3.224357

    Notes:
        O(d³), computed in float64. Smooth: unlike the Fréchet distance it has a gradient at
        singular covariances too.

    References:
        Janati, Muzellec, Peyré, Cuturi (2020), Entropic optimal transport between unbalanced
        Gaussian measures has a closed form, theorem 1 (with 2σ² = ε); Mallasto, Gerolin, Minh
        (2021).
    """
    blur = checks.positive(epsilon, "epsilon") / 2
    mean_x, cov_x, mean_y, cov_y, dtype = statistics(mean_x, cov_x, mean_y, cov_y)
    slack = psd_slack(dtype)
    root_x, root_y = factor(cov_x, "cov_x", slack), factor(cov_y, "cov_y", slack)
    spread = trace(cov_x) + trace(cov_y)
    value = _squared_gap(mean_x, mean_y) + spread - 2 * spectral_sum(root_x @ root_y.mT, blur)
    return value.to(dtype)


@array_function
def gaussian_sinkhorn_divergence(
    mean_x: Mean, cov_x: Covariance, mean_y: Mean, cov_y: Covariance, *, epsilon: float
) -> Values:
    """Debiased entropic transport between Gaussians, OT_ε(x, y) − ½ OT_ε(x, x) − ½ OT_ε(y, y).

    With φ the sum over singular values in ``gaussian_sinkhorn`` the traces cancel:
    S_ε = ‖μ_x − μ_y‖² + φ(S_x) + φ(S_y) − 2 φ(S_x^½ S_y^½).

    Args:
        mean_x: Shape (*batch, d).
        cov_x: Shape (*batch, d, d), positive semi-definite; may be singular.
        mean_y: Shape (*batch, d).
        cov_y: Shape (*batch, d, d).
        epsilon: ε > 0, in the units of ‖x − y‖² (not halved).

    Returns:
        Shape (*batch): zero for equal Gaussians (up to rounding), positive otherwise; it tends to
        the squared Fréchet distance as ε → 0 and to ‖μ_x − μ_y‖² as ε → ∞.

    Raises:
        ValueError: As ``gaussian_sinkhorn``.

    Example:
        >>> import numpy as np
        >>> one = np.eye(1)
        >>> round(gaussian_sinkhorn_divergence(np.zeros(1), one, np.ones(1), one, epsilon=1.0), 6)
        1.0

    Notes:
        O(d³), computed in float64; smooth everywhere.

    References:
        Janati, Muzellec, Peyré, Cuturi (2020), proposition 3; Feydy et al. (2019).
    """
    blur = checks.positive(epsilon, "epsilon") / 2
    mean_x, cov_x, mean_y, cov_y, dtype = statistics(mean_x, cov_x, mean_y, cov_y)
    slack = psd_slack(dtype)
    root_x, root_y = factor(cov_x, "cov_x", slack), factor(cov_y, "cov_y", slack)
    self_x, self_y = (spectral_sum(root @ root.mT, blur) for root in (root_x, root_y))
    cross = spectral_sum(root_x @ root_y.mT, blur)
    return (_squared_gap(mean_x, mean_y) + (self_x + self_y - 2 * cross)).to(dtype)


def _squared_gap(mean_x: Tensor, mean_y: Tensor) -> Tensor:
    return (mean_x - mean_y).square().sum(-1)
