"""Covariances as full, diagonal, or low-rank-plus-diagonal matrices that solve for themselves."""

import abc
import functools

import torch
from torch import Tensor


class AbstractCovariance(abc.ABC):
    """Positive definite Σ of shape (*batch, d, d), held in whatever form is cheapest."""

    @abc.abstractmethod
    def is_definite(self) -> Tensor:
        """Whether Σ is positive definite, shape (*batch)."""

    @abc.abstractmethod
    def logdet(self) -> Tensor:
        """log |Σ|, shape (*batch)."""

    @abc.abstractmethod
    def quadratic(self, columns: Tensor) -> Tensor:
        """vᵀ Σ⁻¹ v of each column v of (*batch, d, k), shape (*batch, k)."""

    @abc.abstractmethod
    def inverse_diagonal(self) -> Tensor:
        """Diagonal of Σ⁻¹, shape (*batch, d)."""

    @abc.abstractmethod
    def parts(self) -> tuple[Tensor | None, Tensor | None]:
        """D (*batch, d) and W (*batch, d, r) with Σ = diag(D) + WWᵀ; None for a part that is 0."""

    @abc.abstractmethod
    def dense(self) -> Tensor:
        """Σ itself."""

    @abc.abstractmethod
    def or_identity(self, kept: Tensor) -> "AbstractCovariance":
        """Σ where ``kept`` (*batch), the identity elsewhere."""

    def trace_ratio(self, other: "AbstractCovariance") -> Tensor:
        """tr(Σ⁻¹ Σ_other), shape (*batch)."""
        diagonal, factor = other.parts()
        terms = []
        if diagonal is not None:
            terms.append((self.inverse_diagonal() * diagonal).sum(-1))
        if factor is not None:
            terms.append(self.quadratic(factor).sum(-1))
        return functools.reduce(torch.add, terms)


class Full(AbstractCovariance):
    """A dense matrix, used through its Cholesky factor."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    @functools.cached_property
    def _cholesky(self) -> tuple[Tensor, Tensor]:
        lower, info = torch.linalg.cholesky_ex(self.matrix)
        return lower, info

    @property
    def lower(self) -> Tensor:
        """Cholesky factor L, Σ = LLᵀ."""
        return self._cholesky[0]

    def is_definite(self) -> Tensor:
        """Whether the factorisation went through."""
        return self._cholesky[1] == 0

    def logdet(self) -> Tensor:
        """2 Σ log Lᵢᵢ."""
        return 2 * self.lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def quadratic(self, columns: Tensor) -> Tensor:
        """‖L⁻¹v‖² by a triangular solve."""
        solved: Tensor = torch.linalg.solve_triangular(self.lower, columns, upper=False)
        return solved.square().sum(-2)

    def inverse_diagonal(self) -> Tensor:
        """Σ⁻¹ᵢᵢ = eᵢᵀ Σ⁻¹ eᵢ."""
        size = self.matrix.shape[-1]
        return self.quadratic(torch.eye(size, dtype=self.matrix.dtype, device=self.matrix.device))

    def parts(self) -> tuple[Tensor | None, Tensor | None]:
        """0 and L."""
        return None, self.lower

    def dense(self) -> Tensor:
        """The matrix."""
        return self.matrix

    def or_identity(self, kept: Tensor) -> "Full":
        """The matrix where kept."""
        identity = torch.eye(
            self.matrix.shape[-1], dtype=self.matrix.dtype, device=self.matrix.device
        )
        return Full(torch.where(kept[..., None, None], self.matrix, identity))


class LowRank(AbstractCovariance):
    """diag(D) + WWᵀ, through the r×r capacitance C = I + Wᵀ D⁻¹ W (Woodbury)."""

    def __init__(self, diagonal: Tensor, factor: Tensor) -> None:
        self.diagonal = diagonal
        self.factor = factor

    @functools.cached_property
    def _capacitance(self) -> Tensor:
        scaled = self.factor / self.diagonal.unsqueeze(-1)
        rank = self.factor.shape[-1]
        identity = torch.eye(rank, dtype=scaled.dtype, device=scaled.device)
        lower: Tensor = torch.linalg.cholesky(identity + self.factor.mT @ scaled)
        return lower

    def is_definite(self) -> Tensor:
        """Whether D > 0."""
        return (self.diagonal > 0).all(-1)

    def logdet(self) -> Tensor:
        """Σ log Dᵢ + log |C|, the determinant lemma."""
        inner = self._capacitance.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return self.diagonal.log().sum(-1) + 2 * inner

    def quadratic(self, columns: Tensor) -> Tensor:
        """min_u ‖D^{-½}(v − Wu)‖² + ‖u‖², a sum of squares where Woodbury's difference cancels."""
        scaled = columns / self.diagonal.unsqueeze(-1)
        u = torch.cholesky_solve(self.factor.mT @ scaled, self._capacitance)
        rest = columns - self.factor @ u
        return (rest.square() / self.diagonal.unsqueeze(-1)).sum(-2) + u.square().sum(-2)

    def inverse_diagonal(self) -> Tensor:
        """1/D − ‖L_C⁻¹ Wᵀ D⁻¹‖² column by column; no d×d matrix."""
        scaled = (self.factor / self.diagonal.unsqueeze(-1)).mT
        solved: Tensor = torch.linalg.solve_triangular(self._capacitance, scaled, upper=False)
        return 1 / self.diagonal - solved.square().sum(-2)

    def parts(self) -> tuple[Tensor | None, Tensor | None]:
        """D and W."""
        return self.diagonal, self.factor

    def dense(self) -> Tensor:
        """diag(D) + WWᵀ."""
        return torch.diag_embed(self.diagonal) + self.factor @ self.factor.mT

    def or_identity(self, kept: Tensor) -> "LowRank":
        """D and W where kept, else 1 and 0."""
        return LowRank(
            torch.where(kept.unsqueeze(-1), self.diagonal, 1.0),
            torch.where(kept[..., None, None], self.factor, 0.0),
        )


class Diagonal(AbstractCovariance):
    """Independent coordinates."""

    def __init__(self, variances: Tensor) -> None:
        self.variances = variances

    def is_definite(self) -> Tensor:
        """Whether all variances are above zero."""
        return (self.variances > 0).all(-1)

    def logdet(self) -> Tensor:
        """Σ log vᵢ."""
        return self.variances.log().sum(-1)

    def quadratic(self, columns: Tensor) -> Tensor:
        """Σ vᵢ²/Dᵢ."""
        return (columns.square() / self.variances.unsqueeze(-1)).sum(-2)

    def inverse_diagonal(self) -> Tensor:
        """1/vᵢ."""
        return 1 / self.variances

    def parts(self) -> tuple[Tensor | None, Tensor | None]:
        """The variances and 0."""
        return self.variances, None

    def dense(self) -> Tensor:
        """The diagonal matrix."""
        return torch.diag_embed(self.variances)

    def or_identity(self, kept: Tensor) -> "Diagonal":
        """The variances where kept, else 1."""
        return Diagonal(torch.where(kept.unsqueeze(-1), self.variances, 1.0))


def combined(
    s: float, first: AbstractCovariance, t: float, second: AbstractCovariance
) -> AbstractCovariance:
    """s Σ₁ + t Σ₂, in the cheapest form that holds it.

    Low-rank parts stay low-rank while s and t are not negative; with a negative factor the sum is
    formed in full.
    """
    if isinstance(first, Diagonal) and isinstance(second, Diagonal):
        return Diagonal(s * first.variances + t * second.variances)
    if isinstance(first, Full) or isinstance(second, Full) or min(s, t) < 0:
        return Full(s * first.dense() + t * second.dense())
    diagonals, factors = [], []
    for scale, part in ((s, first), (t, second)):
        diagonal, factor = part.parts()
        if diagonal is not None:
            diagonals.append(scale * diagonal)
        if factor is not None:
            factors.append(scale**0.5 * factor)
    batch = torch.broadcast_shapes(*(f.shape[:-2] for f in factors))
    return LowRank(
        functools.reduce(torch.add, diagonals),
        torch.cat([f.expand(*batch, *f.shape[-2:]) for f in factors], -1),
    )
