"""Wasserstein autoencoders: reconstruction cost plus any divergence of codes from the prior."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.losses import (
    Adversarial,
    AggregatedPosterior,
    GradientPenalty,
    MMDLoss,
    SampleLoss,
    imq_kernel,
    reparameterised,
)
from probmetrics.models import nets
from probmetrics.models.autoencoders import squared_error
from probmetrics.models.base import (
    AbstractLatentModel,
    Batch,
    Objective,
    Seed,
    Shape,
    sizes,
)

Cost = Callable[[Tensor, Tensor], Tensor]


class WAE(AbstractLatentModel):
    """Wasserstein autoencoder: min E cost(x, G(z)) + λ · divergence(prior, codes).

    Args:
        encoder: Network from points to codes (n, latent); or to means and log-variances
            (n, 2 · latent), and codes are then drawn.
        decoder: Network from codes to points.
        divergence: Between prior and codes. By default the unbiased MMD with inverse multiquadric
            kernels of seven scales, WAE-MMD. With an ``Adversarial`` it is WAE-GAN.
        weight: λ.
        cost: (x, G(z)) → cost per point (n,); ‖x − G(z)‖² by default.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.
        critic_steps: Steps of a critic of the codes per step of the autoencoder.

    Example:
        >>> model = WAE.build(8, latent=2)
        >>> model.reconstruct(torch.zeros(3, 8)).shape, model.sample(4, generator=0).shape
        (torch.Size([3, 8]), torch.Size([4, 8]))

    References:
        Tolstikhin et al. (2018), "Wasserstein auto-encoders", algorithms 1 and 2.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        divergence: SampleLoss | Adversarial | None = None,
        *,
        weight: float = 10.0,
        cost: Cost | None = None,
        shape: Shape | None = None,
        latent: int | None = None,
        critic_steps: int = 1,
    ) -> None:
        super().__init__()
        self.shape, self.latent = sizes(decoder, shape, latent)
        self.encoder, self.decoder = encoder, decoder
        chosen = MMDLoss(imq_kernel(self.latent)) if divergence is None else divergence
        self.penalty = AggregatedPosterior(chosen)
        self.weight = checks.positive(weight, "weight")
        self.cost = squared_error if cost is None else cost
        self.critic_steps = checks.count(critic_steps, "critic_steps")

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        divergence: SampleLoss | Adversarial | None = None,
        latent: int = 8,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        random: bool = False,
        weight: float = 10.0,
        **options: Any,
    ) -> "WAE":
        """With default networks; ``random`` encoders give a Gaussian per point."""
        outputs = (2 if random else 1) * checks.count(latent, "latent")
        return cls(
            nets.encoder(shape, outputs, hidden=hidden, width=width),
            nets.decoder(latent, shape, hidden=hidden, width=width),
            divergence,
            weight=weight,
            shape=shape,
            latent=latent,
            **options,
        )

    @classmethod
    def adversarial(
        cls,
        shape: Shape,
        *,
        objective: Any = "gan",
        latent: int = 8,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        penalty: float | None = 1.0,
        weight: float = 1.0,
        **options: Any,
    ) -> "WAE":
        """WAE-GAN: with a fully connected critic of the codes, playing any row.

        Args:
            shape: Shape of one point.
            objective: The row.
            latent: Coordinates of a code.
            hidden: Widths of the fully connected layers.
            width: Channels of convolutional nets.
            penalty: Weight of the critic's squared slope at codes and at prior draws. None is the
                paper's game, which needs the learning rates of its figures to settle.
            weight: λ.
            **options: As in the class.
        """
        critic = nets.MLP(latent, 1, hidden=hidden, activation="leaky_relu")
        return cls.build(
            shape,
            divergence=Adversarial(critic, objective, penalty=slope_penalty(penalty)),
            weight=weight,
            latent=latent,
            hidden=hidden,
            width=width,
            **options,
        )

    def encode(self, x: Tensor) -> Tensor:
        """Codes of points (means, for random encoders), shape (n, latent)."""
        answer: Tensor = self.encoder(x)
        return answer[:, : self.latent]

    def codes(self, x: Tensor, generator: Seed = None) -> Tensor:
        """Codes as training sees them: drawn, for random encoders."""
        answer: Tensor = self.encoder(x)
        if answer.shape[-1] == self.latent:
            return answer
        mean, log_variance = answer.chunk(2, dim=-1)
        return reparameterised(mean, log_variance, generator=generator)

    def decode(self, z: Tensor) -> Tensor:
        points: Tensor = self.decoder(z)
        return points

    def reconstruct(self, x: Tensor) -> Tensor:
        """Points after a pass through their codes."""
        return self.decode(self.encode(x))

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What encoder and decoder minimise."""
        source = checks.generator(generator, batch.x.device)
        codes = self.codes(batch.x, source)
        cost = self.cost(batch.x, self.decode(codes)).mean()
        apart: Tensor = self.penalty(codes, generator=source)
        return cost + self.weight * apart

    def critic_loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What the critic of the codes minimises."""
        source = checks.generator(generator, batch.x.device)
        with torch.no_grad():
            codes = self.codes(batch.x, source)
        return self.penalty.critic_loss(codes, generator=source)

    def objectives(self) -> list[Objective]:
        both = [*self.encoder.parameters(), *self.decoder.parameters()]
        own = Objective("autoencoder", both, self.loss)
        if not isinstance(self.penalty.divergence, Adversarial):
            return [own]
        critic = list(self.penalty.divergence.critic.parameters())
        return [
            Objective(
                "critic", critic, self.critic_loss, steps=self.critic_steps, betas=(0.5, 0.9)
            ),
            own,
        ]


def slope_penalty(weight: float | None) -> GradientPenalty | None:
    """E‖∇‖² of a critic at both samples, R₁ and R₂: without it games on codes do not settle.

    References:
        Mescheder, Geiger & Nowozin (2018), "Which training methods for GANs do actually converge?",
        eqs. 9 and 10.
    """
    return None if weight is None else GradientPenalty(weight, at="both", target=0.0)
