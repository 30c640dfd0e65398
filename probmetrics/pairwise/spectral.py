"""Random Fourier features: frequencies whose cosines average to a shift-invariant kernel."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from probmetrics.pairwise.algebra import Scaled, Sum
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.kernels import (
    Gaussian,
    InverseMultiquadric,
    Laplacian,
    Matern,
    RationalQuadratic,
)

Sampler = Callable[[AbstractGround, int, int, torch.Generator], Tensor]


def frequencies(
    kernel: AbstractGround, d: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Frequencies ω and weights w with k(x, y) = E Σ_l w_l cos⟨ω_l, x − y⟩.

    Args:
        kernel: Gaussian, Laplacian, Matérn, rational quadratic, inverse multiquadric, or a sum
            or scaling of these, with numeric parameters.
        d: Number of coordinates.
        count: How many frequencies; a sum of kernels shares them among its terms.
        generator: Where randomness comes from.

    Returns:
        Frequencies, shape (count, d), and weights, shape (count,), both float64.

    References:
        Rahimi & Recht (2007), "Random features for large-scale kernel machines", Theorem 1.
    """
    if kernel.features is None:
        if isinstance(kernel, Scaled):
            omega, weights = frequencies(kernel.ground, d, count, generator)
            return omega, weights * kernel.factor
        if isinstance(kernel, Sum):
            share = -(-count // len(kernel.parts))
            drawn = [frequencies(part, d, share, generator) for part in kernel.parts]
            return torch.cat([o for o, _ in drawn]), torch.cat([w for _, w in drawn])
        if type(kernel) in SAMPLERS:
            weights = torch.full((count,), 1.0 / count, dtype=torch.float64)
            return SAMPLERS[type(kernel)](kernel, d, count, generator), weights
    known = ", ".join(sorted(cls.__name__ for cls in SAMPLERS))
    raise ValueError(
        f"random features need a shift-invariant kernel on the plain points ({known}, their sums "
        f"and scalings), got {kernel!r}"
    )


def _normal(count: int, d: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    return torch.randn(count, d, generator=generator, dtype=torch.float64, device=device)


def _gamma(shape: float, count: int, generator: torch.Generator) -> Tensor:
    """Gamma variates of unit rate, shape (count, 1)."""
    concentration = torch.full((count, 1), shape, dtype=torch.float64, device=generator.device)
    drawn: Tensor = torch._standard_gamma(concentration, generator)
    return drawn


def _gaussian(kernel: AbstractGround, d: int, count: int, generator: torch.Generator) -> Tensor:
    assert isinstance(kernel, Gaussian)
    return _normal(count, d, generator) / kernel.bandwidth


def _laplacian(kernel: AbstractGround, d: int, count: int, generator: torch.Generator) -> Tensor:
    assert isinstance(kernel, Laplacian)
    if kernel.norm == 2:
        return _student(d, count, 1.0, kernel.bandwidth, generator)
    uniform = torch.rand(count, d, generator=generator, dtype=torch.float64)
    return torch.tan(math.pi * (uniform - 0.5)) / kernel.bandwidth  # Cauchy


def _matern(kernel: AbstractGround, d: int, count: int, generator: torch.Generator) -> Tensor:
    assert isinstance(kernel, Matern)
    return _student(d, count, 2.0 * kernel.nu, kernel.bandwidth, generator)


def _student(
    d: int, count: int, freedom: float, bandwidth: float | Tensor, generator: torch.Generator
) -> Tensor:
    """Multivariate t, the spectral measure of a Matérn kernel with ν = freedom / 2."""
    squares = 2.0 * _gamma(freedom / 2.0, count, generator)  # χ² with ``freedom`` degrees
    return _normal(count, d, generator) / (bandwidth * (squares / freedom).sqrt())


def _rational(kernel: AbstractGround, d: int, count: int, generator: torch.Generator) -> Tensor:
    # A mixture of Gaussian kernels over their precision: E exp(−τ r² / 2), τ ~ Gamma(α, α σ²).
    assert isinstance(kernel, RationalQuadratic)
    precision = _gamma(kernel.alpha, count, generator) / (kernel.alpha * kernel.bandwidth**2)
    return _normal(count, d, generator) * precision.sqrt()


def _multiquadric(kernel: AbstractGround, d: int, count: int, generator: torch.Generator) -> Tensor:
    assert isinstance(kernel, InverseMultiquadric)
    precision = 2.0 * _gamma(kernel.beta, count, generator) / kernel.scale**2
    return _normal(count, d, generator) * precision.sqrt()


SAMPLERS: dict[type[AbstractGround], Sampler] = {
    Gaussian: _gaussian,
    Laplacian: _laplacian,
    Matern: _matern,
    RationalQuadratic: _rational,
    InverseMultiquadric: _multiquadric,
}
