"""Autoencoders: plain, sparse, denoising and contractive."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.models import nets
from probmetrics.models.base import AbstractModel, Batch, Objective, Seed, Shape, sizes


class Autoencoder(AbstractModel):
    """x → encoder → code → decoder → x, minimising E ‖x − x̂‖² (summed over coordinates).

    With affine networks its optimum spans the first principal components.

    Args:
        encoder: Network from points to codes (n, latent).
        decoder: Network from codes to points.
        shape: Shape of one point; read off the decoder if None.
        latent: Coordinates of a code; read off the decoder if None.

    Example:
        >>> model = Autoencoder.build(8, latent=2)
        >>> model.reconstruct(torch.zeros(3, 8)).shape
        torch.Size([3, 8])

    References:
        Baldi & Hornik (1989), "Neural networks and principal component analysis".
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: Shape | None = None,
        latent: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.shape, self.latent = sizes(decoder, shape, latent)

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        latent: int = 8,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        **options: Any,
    ) -> "Autoencoder":
        """With fully connected networks, or convolutional ones of that ``width``."""
        return cls(
            nets.encoder(shape, latent, hidden=hidden, width=width),
            nets.decoder(latent, shape, hidden=hidden, width=width),
            shape=shape,
            latent=latent,
            **options,
        )

    def encode(self, x: Tensor) -> Tensor:
        """Codes of points, shape (n, latent)."""
        codes: Tensor = self.encoder(x)
        return codes

    def decode(self, z: Tensor) -> Tensor:
        """The points that codes stand for, shape (n, *shape)."""
        points: Tensor = self.decoder(z)
        return points

    def reconstruct(self, x: Tensor) -> Tensor:
        """Points after a pass through the code."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def interpolate(self, start: Tensor, end: Tensor, steps: int = 8) -> Tensor:
        """Points on the straight lines between codes (n, latent), shape (steps, n, *shape).

        There is no prior whose lengths an arc would keep, as there is for generative models.
        """
        steps = checks.count(steps, "steps", minimum=2)
        if start.shape != end.shape or start.shape[1:] != (self.latent,):
            raise ValueError(
                f"start and end must both be codes of shape (n, {self.latent}), got "
                f"{tuple(start.shape)} and {tuple(end.shape)}"
            )
        shares = [k / (steps - 1) for k in range(steps)]
        return torch.stack([self.decode(torch.lerp(start, end, share)) for share in shares])

    def error(self, x: Tensor, seen: Tensor) -> Tensor:
        """Mean over points of ‖x − reconstruct(seen)‖²."""
        return squared_error(x, self.reconstruct(seen)).mean()

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What training minimises."""
        return self.error(batch.x, batch.x)

    def objectives(self) -> list[Objective]:
        both = [*self.encoder.parameters(), *self.decoder.parameters()]
        return [Objective("reconstruction", both, self.loss)]


class SparseAutoencoder(Autoencoder):
    """Autoencoder with a penalty on active codes.

    Args:
        encoder: As in ``Autoencoder``.
        decoder: As in ``Autoencoder``.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.
        weight: λ in front of the penalty.
        rate: None: the penalty is E Σ_j |z_j|. ρ in (0, 1): it is Σ_j KL(Bernoulli(ρ) ‖
            Bernoulli(mean of sigmoid z_j)), and codes are sigmoid z.

    References:
        Ng (2011), "Sparse autoencoder", section 3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: Shape | None = None,
        latent: int | None = None,
        weight: float = 0.1,
        rate: float | None = None,
    ) -> None:
        super().__init__(encoder, decoder, shape=shape, latent=latent)
        self.weight = checks.positive(weight, "weight")
        self.rate = None if rate is None else checks.between(rate, "rate", 0.0, 1.0)

    def encode(self, x: Tensor) -> Tensor:
        codes = super().encode(x)
        return codes if self.rate is None else torch.sigmoid(codes)

    def sparsity(self, codes: Tensor) -> Tensor:
        """The penalty on the codes of a batch, not weighted."""
        if self.rate is None:
            return codes.abs().sum(-1).mean()
        active = codes.mean(0).clamp(1e-6, 1 - 1e-6)
        rate = torch.full_like(active, self.rate)
        on = rate * (rate.log() - active.log())
        off = (1 - rate) * (torch.log1p(-rate) - torch.log1p(-active))
        return (on + off).sum()

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        codes = self.encode(batch.x)
        error = squared_error(batch.x, self.decode(codes)).mean()
        return error + self.weight * self.sparsity(codes)


class DenoisingAutoencoder(Autoencoder):
    """Autoencoder that reconstructs clean points from corrupted ones.

    Args:
        encoder: As in ``Autoencoder``.
        decoder: As in ``Autoencoder``.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.
        noise: Standard deviation of Gaussian noise added to each coordinate.
        masking: Probability that a coordinate is set to zero.

    References:
        Vincent et al. (2010), "Stacked denoising autoencoders", section 3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: Shape | None = None,
        latent: int | None = None,
        noise: float = 0.1,
        masking: float = 0.0,
    ) -> None:
        super().__init__(encoder, decoder, shape=shape, latent=latent)
        self.noise, self.masking = checks.real(noise, "noise"), checks.real(masking, "masking")
        if self.noise < 0 or not 0 <= self.masking < 1:
            raise ValueError(
                f"noise must be zero or more and masking in [0, 1), got {noise} and {masking}"
            )

    def corrupt(self, x: Tensor, generator: Seed = None) -> Tensor:
        """Points with noise added and coordinates masked."""
        source = checks.generator(generator, x.device)
        noise = torch.randn(x.shape, generator=source, device=x.device, dtype=x.dtype)
        noisy = x + self.noise * noise
        if self.masking == 0:
            return noisy
        return noisy * (torch.rand(x.shape, generator=source, device=x.device) >= self.masking)

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        return self.error(batch.x, self.corrupt(batch.x, generator))


class ContractiveAutoencoder(Autoencoder):
    """Autoencoder whose codes move little with the input: + λ E ‖∂ code/∂x‖²_F.

    The norm is the squared Frobenius norm of the encoder's Jacobian, exact: one backward pass per
    coordinate of the code.

    Args:
        encoder: As in ``Autoencoder``; it must treat the points of a batch one by one.
        decoder: As in ``Autoencoder``.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.
        weight: λ.

    References:
        Rifai et al. (2011), "Contractive auto-encoders", eq. 3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: Shape | None = None,
        latent: int | None = None,
        weight: float = 0.1,
    ) -> None:
        super().__init__(encoder, decoder, shape=shape, latent=latent)
        self.weight = checks.positive(weight, "weight")

    def contraction(self, x: Tensor) -> Tensor:
        """Mean over points of ‖∂ code/∂x‖²_F."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            columns = self.encode(x).sum(0)
            slopes = [
                torch.autograd.grad(column, x, create_graph=True)[0].flatten(1)
                for column in columns
            ]
        return torch.stack([slope.square().sum(-1) for slope in slopes]).sum(0).mean()

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        return super().loss(batch, generator) + self.weight * self.contraction(batch.x)


def squared_error(x: Tensor, made: Tensor) -> Tensor:
    """‖x − made‖² of each point, shape (n,)."""
    return (x - made).flatten(1).square().sum(-1)
