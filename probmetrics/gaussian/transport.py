"""Optimal transport between Gaussians in closed form: the map, and the barycentre."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Array, array_function
from probmetrics.gaussian.frechet import (
    Covariance,
    Mean,
    checked_covariance,
    psd_slack,
    statistics,
)
from probmetrics.gaussian.roots import factor, polar, symmetric
from probmetrics.gaussian.spectrum import isometry

if TYPE_CHECKING:
    Means = Any
    Covariances = Any
    Weights = Any
else:
    Means = Float[Tensor, "*#batch k d"]
    Covariances = Float[Tensor, "*#batch k d d"]
    Weights = Float[Tensor, "*#batch k"]


class AffineMap(NamedTuple):
    """x ↦ A x + b.

    Attributes:
        matrix: A, shape (*batch, d, d).
        offset: b, shape (*batch, d).
    """

    matrix: Any
    offset: Any

    def __call__(self, points: Any) -> Any:
        """Images of points, shape (*batch, n, d)."""
        return points @ self.matrix.swapaxes(-1, -2) + self.offset[..., None, :]


@dataclass(frozen=True, eq=False)
class BuresBarycenter:
    """Wasserstein barycentre of Gaussians, and whether the iteration reached it.

    Attributes:
        mean: Shape (*batch, d).
        covariance: Shape (*batch, d, d).
        converged: Whether the last step was below the tolerance in every batch entry.
        steps: Steps taken.
        residual: Relative size ‖S⁺ − S‖/‖S‖ of the last step, the largest of the batch.
    """

    mean: Any
    covariance: Any
    converged: bool
    steps: int
    residual: float


@array_function
def gaussian_transport_map(
    mean_x: Mean, cov_x: Covariance, mean_y: Mean, cov_y: Covariance
) -> AffineMap:
    """Optimal transport map from N(mean_x, cov_x) to N(mean_y, cov_y) for the squared cost.

    T(x) = μ_y + A (x − μ_x) with A = S_x^{-½} (S_x^½ S_y S_x^½)^½ S_x^{-½}, symmetric positive
    semi-definite, where S_x is positive definite.

    Args:
        mean_x: Shape (*batch, d).
        cov_x: Shape (*batch, d, d).
        mean_y: Shape (*batch, d).
        cov_y: Shape (*batch, d, d).

    Returns:
        ``AffineMap(matrix, offset)``: A and b = μ_y − A μ_x; call it on points (*batch, n, d).

    Raises:
        ValueError: Shapes that do not match, a covariance that is not symmetric and positive
            semi-definite, or gradients asked for through a singular one.

    Warns:
        UserWarning: cov_y has a higher rank than cov_x, so that no linear map pushes forward; the
            one returned is the conditional mean of y given x under an optimal plan.

    Example:
        >>> import numpy as np
        >>> A, b = gaussian_transport_map(np.zeros(1), np.eye(1), np.ones(1), 4 * np.eye(1))
        >>> A.round(6), b.round(6)
        (array([[2.]]), array([1.]))

    Notes:
        O(d³), a singular value decomposition. Differentiable where both covariances are positive
        definite. Where cov_x is singular, A is zero across its range, and of the optimal plans one
        that is a map is taken: it pushes forward whenever rank cov_y ≤ rank cov_x. A may leave the
        range of cov_x; then only its part within, P A P with the projection P onto the range, is
        symmetric positive semi-definite.

    References:
        Olkin, Pukelsheim (1982), The distance between two random vectors with given dispersion
        matrices; Peyré, Cuturi (2019), Computational optimal transport, remark 2.31.
    """
    mean_x, cov_x, mean_y, cov_y, dtype = statistics(mean_x, cov_x, mean_y, cov_y)
    slack = psd_slack(dtype)
    root_x = _square_factor(cov_x, "cov_x", slack)
    root_y = _square_factor(cov_y, "cov_y", slack)
    rotation = _matching(root_x, root_y)
    missed = root_y.detach() - rotation.detach().mT @ (rotation.detach() @ root_y.detach())
    if bool((missed.square().sum((-2, -1)) > slack * root_y.detach().square().sum((-2, -1))).any()):
        warnings.warn(
            "cov_y has a higher rank than cov_x, so no linear map pushes one law forward to the "
            "other; the map returned falls short of cov_y (add a small ridge to cov_x)",
            stacklevel=3,
        )
    matrix = _push(root_x, root_y, rotation)
    offset = mean_y - (matrix @ mean_x.unsqueeze(-1)).squeeze(-1)
    return AffineMap(matrix.to(dtype), offset.to(dtype))


@array_function
def bures_barycenter(
    means: Means,
    covs: Covariances,
    weights: Weights | None = None,
    *,
    tolerance: float = 1e-10,
    max_steps: int = 500,
) -> BuresBarycenter:
    """Wasserstein barycentre of Gaussians: the Gaussian with the least Σ wᵢ W₂²(·, N(μᵢ, Sᵢ)).

    Its mean is Σ wᵢ μᵢ and its covariance the fixed point of S ← T S T, T = Σ wᵢ Tᵢ, where Tᵢ is
    the optimal map from N(0, S) to N(0, Sᵢ).

    Args:
        means: Shape (*batch, k, d).
        covs: Shape (*batch, k, d, d), positive semi-definite.
        weights: Shape (*batch, k), summing to one; None for uniform.
        tolerance: Stop when a step moves S by less than this share of its Frobenius norm.
        max_steps: Give up after so many steps, with a warning.

    Returns:
        ``BuresBarycenter(mean, covariance, converged, steps, residual)``.

    Raises:
        ValueError: Shapes that do not match, covariances that are not positive semi-definite, or
            gradients asked for through singular ones.

    Example:
        >>> import numpy as np
        >>> result = bures_barycenter(np.array([[0.0], [2.0]]), np.array([[[1.0]], [[9.0]]]))
        >>> result.mean.round(6), result.covariance.round(6), result.converged
        (array([1.]), array([[4.]]), True)

    Notes:
        A step costs k singular value decompositions, O(k d³), and the steps converge linearly; one
        is enough when the covariances commute. The gradient is that of the fixed point (by the
        implicit function theorem, not through the steps), where all covariances are positive
        definite.

    References:
        Álvarez-Esteban, del Barrio, Cuesta-Albertos, Matrán (2016), A fixed-point approach to
        barycenters in Wasserstein space, theorem 4.2.
    """
    tolerance = checks.positive(tolerance, "tolerance")
    max_steps = checks.count(max_steps, "max_steps")
    means, covs, masses, dtype = _ensemble(means, covs, weights)
    roots = _square_factor(covs, "covs", psd_slack(dtype))
    held, weight = roots.detach(), masses.detach()
    covariance = (weight[..., None, None] * covs.detach()).sum(-3)
    residual, steps = float("inf") if covariance.numel() else 0.0, 0
    while residual > tolerance and steps < max_steps:
        moved = _towards(covariance, held, weight)
        size = torch.linalg.matrix_norm(covariance).clamp(min=1e-300)
        residual = float((torch.linalg.matrix_norm(moved - covariance) / size).max())
        covariance, steps = moved, steps + 1
    if residual > tolerance:
        warnings.warn(
            f"bures_barycenter stopped after {steps} steps with a relative change of "
            f"{residual:.2g} > {tolerance:.2g}; raise max_steps or tolerance",
            stacklevel=3,
        )
    if torch.is_grad_enabled() and (covs.requires_grad or masses.requires_grad):
        covariance = _with_implicit_gradient(covariance, roots, masses)
    mean = (masses.unsqueeze(-1) * means).sum(-2)
    return BuresBarycenter(
        mean.to(dtype), covariance.to(dtype), residual <= tolerance, steps, residual
    )


def _towards(covariance: Tensor, roots: Tensor, masses: Tensor) -> Tensor:
    """One step S ← T S T."""
    root = _square_factor(covariance, "the barycentre", 1e-8).unsqueeze(-3)
    maps = _push(root, roots, polar(root @ roots.mT))
    mean_map = symmetric((masses[..., None, None] * maps).sum(-3))
    return symmetric(mean_map @ covariance @ mean_map)


def _with_implicit_gradient(covariance: Tensor, roots: Tensor, masses: Tensor) -> Tensor:
    """The fixed point S = G(S, θ) with the gradient (I − ∂G/∂S)⁻¹ ∂G/∂θ.

    The backward solves v = g + (∂G/∂S)ᵀ v by iteration, which converges as the forward does.
    """
    start = covariance.detach().requires_grad_()
    inner = _towards(start, roots.detach(), masses.detach())
    outer = _towards(covariance.detach(), roots, masses)

    def solve(gradient: Tensor) -> Tensor:
        total = step = gradient
        for _ in range(1000 if gradient.numel() else 0):
            (step,) = torch.autograd.grad(inner, start, step, retain_graph=True)
            total = total + step
            if float(step.abs().max()) <= 1e-12 * float(total.abs().max()):
                break
        return total

    outer.register_hook(solve)
    return outer


def _push(root_x: Tensor, root_y: Tensor, rotation: Tensor) -> Tensor:
    """A = F_yᵀ Qᵀ F_x⁻ᵀ from square factors and a Q between them; A S_x Aᵀ = S_y for isometries."""
    turned = rotation @ root_y
    pulled: Tensor = (
        torch.linalg.solve(root_x, turned)
        if _invertible(root_x)
        else torch.linalg.pinv(root_x) @ turned
    )
    return pulled.mT


def _matching(root_x: Tensor, root_y: Tensor) -> Tensor:
    """Polar factor of F_x F_yᵀ between the rows that have spread, whole where that is singular.

    Every way to make it whole is optimal: directions in which the overlap is zero cost the same
    however they are matched.
    """
    overlap = root_x @ root_y.mT
    if overlap.requires_grad:
        return polar(overlap)
    if _invertible(root_x) and _invertible(root_y):
        return isometry(overlap)
    rotation = torch.zeros_like(overlap)
    used = [(part != 0).any(-1).expand(overlap.shape[:-1]) for part in (root_x, root_y)]
    for entry in np.ndindex(*overlap.shape[:-2]):
        rows, columns = (part[entry].nonzero().squeeze(-1) for part in used)
        block = (*entry, rows.unsqueeze(-1), columns)
        rotation[block] = isometry(overlap[block])
    return rotation


def _invertible(root: Tensor) -> bool:
    """Whether ``factor`` found no direction without spread (it leaves zero rows for those)."""
    return bool((root.detach().square().sum(-1) > 0).all())


def _square_factor(covariance: Tensor, name: str, slack: float) -> Tensor:
    """``factor`` with d rows, the last ones zero where S is singular."""
    root = factor(covariance, name, slack)
    missing = covariance.shape[-1] - root.shape[-2]
    if missing:
        root = torch.cat([root, root.new_zeros(*root.shape[:-2], missing, root.shape[-1])], -2)
    if root.requires_grad and not _invertible(root):
        raise ValueError(
            f"{name} is singular, where the transport map has no derivative; "
            "detach it, or add a small ridge to its diagonal"
        )
    return root


def _ensemble(
    means: Array, covs: Array, weights: Array | None
) -> tuple[Tensor, Tensor, Tensor, torch.dtype]:
    """Checked means, covariances and weights in float64, and the dtype to answer in."""
    checked_covariance(covs, "covs")
    if means.ndim < 2 or covs.ndim < 3:
        raise ValueError(
            "means must have shape (*batch, k, d) and covs (*batch, k, d, d), got "
            f"{tuple(means.shape)} and {tuple(covs.shape)}"
        )
    if means.shape[-1] != covs.shape[-1] or means.shape[-2] != covs.shape[-3]:
        raise ValueError(
            f"means hold {means.shape[-2]} vectors of d = {means.shape[-1]}, covs "
            f"{covs.shape[-3]} matrices of d = {covs.shape[-1]}; both numbers must agree"
        )
    checks.broadcastable(means.shape[:-2], covs.shape[:-3], ("means", "covs"))
    if means.shape[-2] == 0:
        raise ValueError("means and covs are empty; pass at least one law")
    checks.finite(means, "means")
    kind = means if weights is None else means.to(weights.dtype)
    masses = checks.weights(weights, kind, "weights").double()
    masses = masses / masses.sum(-1, keepdim=True)
    dtype = torch.promote_types(means.dtype, covs.dtype)
    return means.double(), symmetric(covs.double()), masses, dtype
