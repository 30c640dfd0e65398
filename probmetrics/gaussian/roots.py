"""Factors of covariances and functions of singular values, with gradients that stay finite."""

from typing import Any

import torch
from torch import Tensor

from probmetrics._autograd import final
from probmetrics.gaussian.spectrum import (
    nuclear_norm,
    orthogonal_factor,
    singular_triplets,
    singular_values,
)


def symmetric(matrix: Tensor) -> Tensor:
    """Symmetric part; covariances come with rounding between their halves."""
    return (matrix + matrix.mT) / 2


def safe_root(square: Tensor) -> Tensor:
    """√s, where a square that rounding left at or below zero has root 0 and gradient 0."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def factor(covariance: Tensor, name: str = "the covariance", slack: float = 1e-8) -> Tensor:
    """F of shape (*batch, r, d) with FᵀF = S, for S positive semi-definite.

    The gradient is right for functions that do not change when F is rotated from the left, as
    all functions of S are, and stays finite where S is singular.

    Args:
        covariance: Symmetric matrices, shape (*batch, d, d), float64.
        name: What to call them in errors.
        slack: Negative eigenvalues of the correlations down to -slack count as rounding.

    Raises:
        ValueError: S has an eigenvalue below zero by more than rounding.
    """
    root: Tensor = _Factor.apply(covariance, name, slack)  # type: ignore[no-untyped-call]
    return root


def spectral_sum(matrix: Tensor, blur: float = 0.0) -> Tensor:
    """Σ φ(s) over the singular values s of a matrix.

    φ(s) = s without blur (the nuclear norm). With blur t it is the entropic counterpart
    φ(s) = ½(D − t) − ½ t log((D + t)/2t), D = √(4s² + t²), which tends to s as t → 0.

    Args:
        matrix: Shape (*batch, r, c), float64.
        blur: t ≥ 0.
    """
    total: Tensor = _SpectralSum.apply(matrix, blur)  # type: ignore[no-untyped-call]
    return total


def polar(matrix: Tensor) -> Tensor:
    """Orthogonal polar factor UVᵀ of square matrices K = UΣVᵀ; a partial isometry if singular.

    Differentiable, also at equal singular values, where K is invertible.
    """
    rotation: Tensor = _Polar.apply(matrix)  # type: ignore[no-untyped-call]
    return rotation


class _Factor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, covariance: Tensor, name: str, slack: float) -> Tensor:
        size = covariance.shape[-1]
        negligible = size * torch.finfo(covariance.dtype).eps
        lower: Tensor
        lower, info = torch.linalg.cholesky_ex(covariance)
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        pivots = lower.diagonal(dim1=-2, dim2=-1).square()
        # A pivot over its variance is the share of a coordinate that the ones before it do not
        # explain: scale-free, and rounding only where S is singular.
        ctx.definite = bool(((info == 0) & (pivots > 10 * negligible * variance).all(-1)).all())
        if ctx.definite:
            upper = lower.mT.contiguous()
            ctx.save_for_backward(upper)
            return upper
        scale = torch.where(variance > 0, variance, 1.0).sqrt()
        correlation = covariance / (scale.unsqueeze(-1) * scale.unsqueeze(-2))
        values: Tensor
        values, vectors = torch.linalg.eigh(correlation)
        lowest, highest = values[..., :1], values[..., -1:].clamp(min=0)
        if bool((lowest < -slack * highest.clamp(min=1)).any()) or bool((variance < 0).any()):
            raise ValueError(
                f"{name} is not positive semi-definite: after scaling to correlations its "
                f"smallest eigenvalue is {lowest.min().item():.3g}; pass a covariance matrix"
            )
        kept = values > negligible * highest
        first = int(size - kept.sum(-1).max()) if kept.numel() else 0
        values, vectors, kept = values[..., first:], vectors[..., first:], kept[..., first:]
        roots = torch.where(kept, torch.where(kept, values, 1.0).sqrt(), 0.0)
        inverse_roots = torch.where(kept, 1 / torch.where(kept, roots, 1.0), 0.0)
        root: Tensor = roots.unsqueeze(-1) * vectors.mT * scale.unsqueeze(-2)
        ctx.save_for_backward(root, vectors * inverse_roots.unsqueeze(-2) / scale.unsqueeze(-1))
        return root

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # With N a right inverse of F and P = NF, the step dF = Nᵀ dS (I − ½P) gives back
        # dS = dFᵀF + FᵀdF for every dS that keeps the rank. So ∂S = sym(N ∂F (I − ½Pᵀ)).
        if ctx.definite:
            (upper,) = ctx.saved_tensors
            if torch.is_grad_enabled():  # dF is not triangular: its own gradient must be whole
                inner = torch.linalg.solve(upper, gradient)
            else:
                inner = torch.linalg.solve_triangular(upper, gradient, upper=True)
            return symmetric(inner / 2), None, None
        root, inverse = ctx.saved_tensors
        inner = inverse @ gradient
        inner = inner - (inner @ root.mT) @ inverse.mT / 2
        return final(symmetric(inner), root), None, None


class _SpectralSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, blur: float) -> Tensor:
        if not ctx.needs_input_grad[0]:
            return _profile(singular_values(matrix), blur).sum(-1) if blur else nuclear_norm(matrix)
        rotation = None if blur else orthogonal_factor(matrix)
        if rotation is not None:
            ctx.save_for_backward(matrix, rotation)
            ctx.smooth = matrix.shape[-1] == matrix.shape[-2]
            return (rotation * matrix).sum((-2, -1))
        left, values, right = singular_triplets(matrix)
        slope = _slope(values, matrix, blur)
        ctx.smooth = not blur and matrix.shape[-1] == matrix.shape[-2] and bool((slope == 1).all())
        ctx.save_for_backward(matrix, (left * slope.unsqueeze(-2)) @ right)
        return _profile(values, blur).sum(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        matrix, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # of an invertible matrix the polar factor has a slope
            slope = polar(matrix) if ctx.smooth else final(slope, matrix)
        return gradient[..., None, None] * slope, None


class _Polar(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        left, values, right = torch.linalg.svd(matrix)
        ctx.save_for_backward(matrix, left, values, right)
        rotation: Tensor = (left * _slope(values, matrix, 0.0).unsqueeze(-2)) @ right
        return rotation

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # With W = Uᵀ dK V: Uᵀ d(UVᵀ) V = (W − Wᵀ)/(s_i + s_j), entry by entry.
        matrix, left, values, right = ctx.saved_tensors
        inner = left.mT @ gradient @ right.mT
        total = values.unsqueeze(-1) + values.unsqueeze(-2)
        share = torch.where(total > 0, 1 / torch.where(total > 0, total, 1.0), 0.0)
        return final(left @ ((inner - inner.mT) * share) @ right, matrix)


def _profile(values: Tensor, blur: float) -> Tensor:
    """φ(s) of ``spectral_sum``."""
    if blur == 0:
        return values
    # D − t = 4s²/(D + t) keeps its digits when the blur is much larger than s.
    excess = 4 * values.square() / ((4 * values.square() + blur**2).sqrt() + blur)
    return (excess - blur * torch.log1p(excess / (2 * blur))) / 2


def _slope(values: Tensor, matrix: Tensor, blur: float) -> Tensor:
    """φ′(s); for the nuclear norm one, and zero on the null space (the smallest subgradient)."""
    if values.shape[-1] == 0:
        return values
    if blur == 0:
        floor = max(matrix.shape[-2:]) * torch.finfo(values.dtype).eps
        return (values > floor * values.amax(-1, keepdim=True)).to(values.dtype)
    return 2 * values / ((4 * values.square() + blur**2).sqrt() + blur)
