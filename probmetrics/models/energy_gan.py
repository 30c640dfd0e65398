"""GANs whose critic is an autoencoder with its reconstruction error: EBGAN and BEGAN."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.losses import BEGANLoss, EBGANLoss, pulling_away
from probmetrics.models import nets
from probmetrics.models.base import (
    AbstractLatentModel,
    Batch,
    Objective,
    Seed,
    Shape,
    as_shape,
)


class _AutoencoderGAN(AbstractLatentModel):
    """A generator against an autoencoder: energy = mean error per coordinate."""

    power = 2

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: Shape,
        latent: int,
    ) -> None:
        super().__init__()
        self.generator, self.encoder, self.decoder = generator, encoder, decoder
        self.shape = as_shape(shape)
        self.latent = checks.count(latent, "latent")

    def decode(self, z: Tensor) -> Tensor:
        points: Tensor = self.generator(z)
        return points

    def encode(self, x: Tensor) -> Tensor:
        """The critic's codes of points, shape (n, codes)."""
        codes: Tensor = self.encoder(x)
        return codes

    def reconstruct(self, x: Tensor) -> Tensor:
        """What the critic makes of points."""
        points: Tensor = self.decoder(self.encoder(x))
        return points

    def energy(self, x: Tensor) -> Tensor:
        """Reconstruction error of each point, shape (n,): the mean of |error|^power."""
        return (self.reconstruct(x) - x).flatten(1).abs().pow(self.power).mean(-1)

    def _critic_parameters(self) -> list[nn.Parameter]:
        return [*self.encoder.parameters(), *self.decoder.parameters()]

    def _made(self, batch: Batch, generator: Seed) -> Tensor:
        return self.decode(self.noise(len(batch.x), generator=generator))


class EBGAN(_AutoencoderGAN):
    """Energy-based GAN with the pulling-away term on the codes of generated points.

    Args:
        generator: Network from codes to points.
        encoder: The critic's, from points to its codes (n, k).
        decoder: The critic's, back to points.
        margin: m of the hinge on generated points, in the unit of the energy: the mean squared
            error per coordinate.
        pulling: Weight of the pulling-away term; 0 leaves it out.
        shape: Shape of one point.
        latent: Coordinates of the generator's codes.

    Example:
        >>> EBGAN.build(2, latent=4, hidden=(8,)).energy(torch.zeros(3, 2)).shape
        torch.Size([3])

    References:
        Zhao, Mathieu & LeCun (2017), "Energy-based generative adversarial networks".
    """

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        margin: float = 1.0,
        pulling: float = 0.1,
        shape: Shape,
        latent: int,
    ) -> None:
        super().__init__(generator, encoder, decoder, shape=shape, latent=latent)
        self.losses = EBGANLoss(margin)
        if checks.real(pulling, "pulling") < 0:
            raise ValueError(f"pulling must be zero or more, got {pulling}")
        self.pulling = pulling

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        margin: float = 1.0,
        pulling: float = 0.1,
        latent: int = 16,
        codes: int = 8,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
    ) -> "EBGAN":
        """With default networks; ``codes`` is the width of the critic's bottleneck."""
        return cls(
            nets.decoder(latent, shape, hidden=hidden, width=width),
            nets.encoder(shape, codes, hidden=hidden, width=width),
            nets.decoder(codes, shape, hidden=hidden, width=width),
            margin=margin,
            pulling=pulling,
            shape=shape,
            latent=latent,
        )

    def critic_loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What the autoencoder minimises."""
        with torch.no_grad():
            made = self._made(batch, generator)
        return self.losses.critic(self.energy(batch.x), self.energy(made))

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What the generator minimises."""
        made = self._made(batch, generator)
        energy = self.losses.generator(self.energy(made))
        return energy + self.pulling * pulling_away(self.encode(made)) if self.pulling else energy

    def objectives(self) -> list[Objective]:
        betas = (0.5, 0.9)
        return [
            Objective("critic", self._critic_parameters(), self.critic_loss, betas=betas),
            Objective("generator", list(self.generator.parameters()), self.loss, betas=betas),
        ]


class BEGAN(_AutoencoderGAN):
    """Boundary-equilibrium GAN: the balance k keeps L(G) at γ L(x).

    Args:
        generator: Network from codes to points.
        encoder: The critic's.
        decoder: The critic's.
        diversity: γ.
        rate: λ, how fast k moves.
        shape: Shape of one point.
        latent: Coordinates of the generator's codes.

    Attributes:
        convergence: The convergence measure M of the last step; lower is better.

    Example:
        >>> model = BEGAN.build(2, latent=4, hidden=(8,))
        >>> model.losses.balance.item()
        0.0

    References:
        Berthelot, Schumm & Metz (2017), "BEGAN".
    """

    power = 1
    convergence: Tensor

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        diversity: float = 0.5,
        rate: float = 1e-3,
        shape: Shape,
        latent: int,
    ) -> None:
        super().__init__(generator, encoder, decoder, shape=shape, latent=latent)
        self.losses = BEGANLoss(diversity, rate=rate)
        self.register_buffer("convergence", torch.full((), torch.inf))
        self._energies: tuple[Tensor, Tensor] | None = None

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        diversity: float = 0.5,
        rate: float = 1e-3,
        latent: int = 16,
        codes: int = 8,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
    ) -> "BEGAN":
        """With default networks; ``codes`` is the width of the critic's bottleneck."""
        return cls(
            nets.decoder(latent, shape, hidden=hidden, width=width),
            nets.encoder(shape, codes, hidden=hidden, width=width),
            nets.decoder(codes, shape, hidden=hidden, width=width),
            diversity=diversity,
            rate=rate,
            shape=shape,
            latent=latent,
        )

    def critic_loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What the autoencoder minimises at the present balance."""
        with torch.no_grad():
            made = self._made(batch, generator)
        energy_x, energy_y = self.energy(batch.x), self.energy(made)
        self._energies = (energy_x.detach(), energy_y.detach())
        return self.losses.critic(energy_x, energy_y)

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What the generator minimises."""
        return self.losses.generator(self.energy(self._made(batch, generator)))

    def balance(self, batch: Batch) -> None:
        """Move k by the energies of the critic's last step, and note the convergence."""
        if self._energies is not None:
            self.convergence.copy_(self.losses.update(*self._energies))

    def objectives(self) -> list[Objective]:
        betas = (0.5, 0.9)
        own = list(self.generator.parameters())
        return [
            Objective(
                "critic",
                self._critic_parameters(),
                self.critic_loss,
                betas=betas,
                after=self.balance,
            ),
            Objective("generator", own, self.loss, betas=betas),
        ]
