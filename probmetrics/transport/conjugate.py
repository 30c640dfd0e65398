"""Conjugate gradients for a batch of symmetric systems known by their products only."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

STALLED = 30  # steps without progress after which rounding is the limit


def conjugate_gradients(
    matrix: Callable[[Tensor], Tensor],
    right: Tensor,
    inverse: Tensor,
    tolerance: float,
    max_steps: int,
) -> Tensor:
    """The solution of symmetric systems without negative eigenvalues, shape (B, m).

    Args:
        matrix: The product with a vector per system.
        right: The right sides, shape (B, m), in the range of the systems.
        inverse: The inverse of a diagonal near the system, for preconditioning.
        tolerance: Residual, relative to the right side, in the norm of ``inverse``.
        max_steps: Most products.

    References:
        Nocedal & Wright (2006), "Numerical optimization", Algorithm 5.3.
    """

    def inner(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).sum(-1, keepdim=True)

    found = torch.zeros_like(right)
    residual, ahead = right, inverse * right
    size = inner(residual, ahead)
    goal, best, stalled = tolerance**2 * size, size.clone(), 0
    for _ in range(max_steps):
        if bool((size <= goal).all()) or stalled > STALLED:
            break
        image = matrix(ahead)
        curvature = inner(ahead, image)
        active = (size > goal) & (curvature > 0)
        step = torch.where(active, size / torch.where(active, curvature, 1.0), 0.0)
        found = found + step * ahead
        residual = residual - step * image
        scaled = inverse * residual
        new = inner(residual, scaled)
        ahead = scaled + torch.where(active, new / torch.where(active, size, 1.0), 0.0) * ahead
        size = torch.where(active, new, torch.where(curvature > 0, size, goal))
        stalled = 0 if bool((size < best).any()) else stalled + 1
        best = torch.minimum(best, size)
    if bool((size > goal).any()):
        error = (best / (goal / tolerance**2).clamp_min(1e-300)).max().sqrt()
        warnings.warn(
            f"conjugate gradients stopped at a relative residual of {float(error):.3g}, above the "
            f"tolerance {tolerance:g}; raise max_steps, tolerance or epsilon",
            RuntimeWarning,
            stacklevel=6,
        )
    return found
