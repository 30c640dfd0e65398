"""Singular values of large matrices, faster than a singular value decomposition and as accurate."""

from collections.abc import Callable

import torch
from torch import Tensor

_SMALL = 256  # up to this size LAPACK's (batched) singular value decomposition is fast enough
_ENOUGH = 1e-8  # bound on the rounding of a sum, relative to it; the rounding is a tenth or less


def nuclear_norm(matrix: Tensor) -> Tensor:
    """Sum of the singular values, shape (*batch).

    The eigenvalues of the Gram matrix are the fastest way to it, and lose digits of the small
    values only: an error δ of s² is one of δ/2s in s. Where those may add up, the sum is
    ⟨Q, K⟩ with the orthogonal polar factor Q, whose own errors do not count to first order.
    """
    if min(matrix.shape[-2:]) <= _SMALL:
        small: Tensor = torch.linalg.svdvals(matrix)
        return small.sum(-1)
    if matrix.ndim > 2:
        return _over_batch(nuclear_norm, matrix)
    values, enough = _gram_values(matrix)
    if enough:
        return values.sum(-1)
    rotation = orthogonal_factor(matrix)
    if rotation is not None:
        return (rotation * matrix).sum()
    return singular_triplets(matrix)[1].sum(-1)


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values in descending order, shape (*batch, min(r, c))."""
    values: Tensor
    if min(matrix.shape[-2:]) <= _SMALL:
        values = torch.linalg.svdvals(matrix)
        return values
    if matrix.ndim > 2:
        return _over_batch(singular_values, matrix)
    values, enough = _gram_values(matrix)
    return values if enough else singular_triplets(matrix)[1]


def singular_triplets(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin U, s, Vᵀ; of large matrices through their Gram matrix, one scale of s after another."""
    if min(matrix.shape[-2:]) <= _SMALL:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return left, values, right
    if matrix.ndim > 2:
        parts = [singular_triplets(part) for part in matrix.reshape(-1, *matrix.shape[-2:])]
        stacked = [torch.stack(part) for part in zip(*parts, strict=True)]
        left, values, right = (
            part.reshape(*matrix.shape[:-2], *part.shape[1:]) for part in stacked
        )
        return left, values, right
    if matrix.shape[-2] < matrix.shape[-1]:
        left, values, right = _graded(matrix.mT)
        return right, values, left.mT
    left, values, right = _graded(matrix)
    return left, values, right.mT


def orthogonal_factor(matrix: Tensor) -> Tensor | None:
    """Polar factor UVᵀ of one large matrix of full rank, by Newton's iteration.

    X ← ½(ζX + X⁻ᵀ/ζ) with scaling ζ: about eight inverses, a fraction of the cost of vectors.
    None for small matrices and batches, for those too near to singular, and without convergence.

    References:
        Higham (1986), Computing the polar decomposition, with applications.
    """
    rows, columns = matrix.shape[-2:]
    if min(rows, columns) <= _SMALL or matrix.ndim > 2:
        return None
    if rows < columns:
        turned = orthogonal_factor(matrix.mT)
        return None if turned is None else turned.mT
    basis: Tensor | None = None
    current = matrix
    if rows > columns:
        basis, current = torch.linalg.qr(matrix)
    for step in range(20):
        inverse, info = torch.linalg.inv_ex(current)
        inverse = inverse.mT
        size, inverse_size = (_one_norm(part) * _one_norm(part.mT) for part in (current, inverse))
        if bool(info != 0) or not 0 < size * inverse_size < 1e28:
            return None
        scale = (inverse_size / size) ** 0.25
        scale = 1.0 if step > 3 and abs(scale - 1) < 1e-2 else scale
        moved = (scale * current + inverse / scale) / 2
        change = float((moved - current).norm() / moved.norm())
        current = moved
        if change < 1e-9:  # convergence is quadratic: what is left is rounding
            rotation: Tensor = current if basis is None else basis @ current
            return rotation
    return None


def isometry(matrix: Tensor) -> Tensor:
    """Polar factor UVᵀ, shape (*batch, r, c); of singular matrices one of them, whole all the same.

    Its rows are orthonormal if r ≤ c, its columns if r ≥ c.
    """
    if min(matrix.shape[-2:]) > _SMALL and matrix.ndim > 2:
        return _over_batch(isometry, matrix)
    rotation = orthogonal_factor(matrix)
    if rotation is None:
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        rotation = left @ right
    return rotation


def _one_norm(matrix: Tensor) -> float:
    return float(matrix.abs().sum(0).max())


def _gram_values(matrix: Tensor) -> tuple[Tensor, bool]:
    """Singular values by the Gram matrix, and whether their sum is known to be exact enough."""
    tall = matrix.shape[-2] >= matrix.shape[-1]
    gram = matrix.mT @ matrix if tall else matrix @ matrix.mT
    squares = torch.linalg.eigvalsh(gram).flip(-1).clamp(min=0)
    rounding = torch.finfo(squares.dtype).eps * squares[0]
    values = squares.sqrt()
    error = (rounding / (2 * torch.maximum(values, rounding.sqrt()).clamp(min=1e-300))).sum()
    return values, bool(error <= _ENOUGH * values.sum())


def _over_batch(function: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
    parts = torch.stack([function(part) for part in matrix.reshape(-1, *matrix.shape[-2:])])
    return parts.reshape(*matrix.shape[:-2], *parts.shape[1:])


def _graded(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, s and V of one tall matrix, right to rounding of the largest singular value.

    Squaring leaves half the digits: what is below 1e-3 of the largest s is seen again on its own,
    restricted to the orthogonal complement of what was found, until only rounding is left.
    """
    basis = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    floor = 0.0
    while basis.shape[-1] > 0:
        image = matrix @ basis
        for left, _, _ in found:  # what leaks in from larger scales would outweigh the small ones
            image = image - left @ (left.mT @ image)
        squares, vectors = torch.linalg.eigh(image.mT @ image)
        largest = float(squares[-1].clamp(min=0))
        floor = max(floor, largest * (max(matrix.shape) * torch.finfo(matrix.dtype).eps) ** 2)
        if largest <= floor:
            empty = torch.zeros_like(squares)
            found.append((torch.zeros_like(image), empty, basis))
            break
        big = squares > 1e-6 * largest
        values = squares[big].sqrt()
        found.append((image @ (vectors[:, big] / values), values, basis @ vectors[:, big]))
        basis = basis @ vectors[:, ~big]
    left, values, right = (torch.cat(parts, -1) for parts in zip(*found, strict=True))
    order = values.argsort(descending=True)
    return left[:, order], values[order], right[:, order]
