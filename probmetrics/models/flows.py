"""A coupling flow with exact likelihood: actnorm, mixing and affine coupling, repeated."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from probmetrics import _checks as checks
from probmetrics.losses import gaussian_log_density
from probmetrics.models import nets
from probmetrics.models.base import (
    AbstractLatentModel,
    Batch,
    Objective,
    Seed,
    Shape,
    as_shape,
)


class ActNorm(nn.Module):
    """z = (x + shift) · e^scale per coordinate; the first batch sees mean 0 and variance 1.

    References:
        Kingma & Dhariwal (2018), "Glow", section 3.1.
    """

    ready: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.shift, self.scale = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(z, log|det|), the latter of shape (n,)."""
        if self.training and not bool(self.ready) and len(x) > 1:
            with torch.no_grad():
                self.shift.copy_(-x.mean(0))
                self.scale.copy_(-x.std(0).clamp(min=1e-6).log())
                self.ready.fill_(True)
        return (x + self.shift) * self.scale.exp(), self.scale.sum().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """x with forward(x) = z."""
        return z * torch.exp(-self.scale) - self.shift


class Mixing(nn.Module):
    """z = x Wᵀ with W = P L (U + diag(s)): an invertible 1×1 convolution over the coordinates.

    References:
        Kingma & Dhariwal (2018), "Glow", eq. 10.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        dtype = torch.get_default_dtype()
        self.register_buffer("permutation", permutation.to(dtype))
        self.register_buffer("sign", diagonal.sign().to(dtype))
        self.lower = nn.Parameter(lower.tril(-1).to(dtype))
        self.upper = nn.Parameter(upper.triu(1).to(dtype))
        self.log_size = nn.Parameter(diagonal.abs().log().to(dtype))

    def matrices(self) -> tuple[Tensor, Tensor]:
        """L and U + diag(s)."""
        one = torch.eye(len(self.sign), dtype=self.sign.dtype, device=self.sign.device)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_size.exp())
        return self.lower.tril(-1) + one, upper

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(z, log|det|)."""
        lower, upper = self.matrices()
        return x @ (self.permutation @ lower @ upper).mT, self.log_size.sum().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """x with forward(x) = z, by two triangular solves."""
        lower, upper = self.matrices()
        rows = (z @ self.permutation).mT
        half = torch.linalg.solve_triangular(lower, rows, upper=False, unitriangular=True)
        solved: Tensor = torch.linalg.solve_triangular(upper, half, upper=True)
        return solved.mT


class AffineCoupling(nn.Module):
    """One half of the coordinates scales and shifts the other: z₂ = x₂ · s(x₁) + t(x₁).

    s = softplus-free sigmoid(· + 2), so scales lie in (0, 1) as in Glow and the inverse is stable.

    References:
        Dinh, Sohl-Dickstein & Bengio (2017), "Density estimation using Real NVP", eqs. 7, 8.
    """

    def __init__(self, d: int, hidden: Sequence[int], *, swap: bool) -> None:
        super().__init__()
        self.kept, self.swap = d // 2, swap
        given = self.kept if not swap else d - self.kept
        self.network = nets.MLP(given, 2 * (d - given), hidden=hidden, activation="tanh")
        last = self.network.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(z, log|det|)."""
        given, moved = self._split(x)
        log_scale, shift = self._read(given)
        return self._join(given, moved * log_scale.exp() + shift), log_scale.sum(-1)

    def inverse(self, z: Tensor) -> Tensor:
        """x with forward(x) = z."""
        given, moved = self._split(z)
        log_scale, shift = self._read(given)
        return self._join(given, (moved - shift) * torch.exp(-log_scale))

    def _read(self, given: Tensor) -> tuple[Tensor, Tensor]:
        gate, shift = self.network(given).chunk(2, dim=-1)
        return -softplus(-(gate + 2.0)), shift  # log sigmoid

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = x[:, : self.kept], x[:, self.kept :]
        return (high, low) if self.swap else (low, high)

    def _join(self, given: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, given] if self.swap else [given, moved], dim=-1)


class CouplingFlow(AbstractLatentModel):
    """Normalizing flow z = f(x) with log p(x) = log N(f(x); 0, I) + log|det ∂f/∂x|, exactly.

    f repeats actnorm, a learned mixing of all coordinates, and an affine coupling. ``decode`` is
    the exact inverse of ``encode``.

    Args:
        shape: Shape of one point, with at least two coordinates; images are flattened.
        layers: How many repetitions.
        hidden: Widths of the coupling networks.

    Example:
        >>> model = CouplingFlow(2, layers=3, hidden=(16,))
        >>> x = torch.randn(5, 2)
        >>> torch.allclose(model.decode(model.encode(x)), x, atol=1e-4)
        True

    References:
        Dinh, Sohl-Dickstein & Bengio (2017); Kingma & Dhariwal (2018).
    """

    def __init__(self, shape: Shape, *, layers: int = 8, hidden: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        self.shape = as_shape(shape)
        self.latent = math.prod(self.shape)
        if self.latent < 2:
            raise ValueError("a coupling flow needs at least two coordinates, got one")
        steps: list[nn.Module] = []
        for k in range(checks.count(layers, "layers")):
            coupling = AffineCoupling(self.latent, hidden, swap=bool(k % 2))
            steps += [ActNorm(self.latent), Mixing(self.latent), coupling]
        self.steps = nn.ModuleList(steps)

    @classmethod
    def build(
        cls, shape: Shape, *, layers: int = 8, hidden: Sequence[int] = (64, 64)
    ) -> "CouplingFlow":
        """The flow itself, under the name all models have it."""
        return cls(shape, layers=layers, hidden=hidden)

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and log|det ∂f/∂x| of points, shapes (n, latent) and (n,)."""
        z = x.flatten(1)
        total = z.new_zeros(len(z))
        for step in self.steps:
            z, log_det = step(z)
            total = total + log_det
        return z, total

    def encode(self, x: Tensor) -> Tensor:
        """f(x), shape (n, latent)."""
        return self.transform(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """The point with code z, shape (n, *shape)."""
        for step in reversed(self.steps):
            z = step.inverse(z)  # type: ignore[operator]
        return z.reshape(len(z), *self.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The points again, up to rounding."""
        return self.decode(self.encode(x))

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) in nats, shape (n,), differentiable."""
        z, log_det = self.transform(x)
        return gaussian_log_density(z, torch.zeros_like(z)) + log_det

    @torch.no_grad()
    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x) in nats, shape (n,): exact."""
        return self.log_density(self.points(x))

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """Mean negative log-likelihood, in nats per point."""
        return -self.log_density(batch.x).mean()

    def objectives(self) -> list[Objective]:
        return [Objective("likelihood", list(self.parameters()), self.loss)]
