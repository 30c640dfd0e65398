"""Generators without a game: moment matching and transport, on data or on codes; and MMD-GAN."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probmetrics.losses import (
    Adversarial,
    GradientPenalty,
    MMDLoss,
    SampleLoss,
    SinkhornLoss,
)
from probmetrics.models import nets
from probmetrics.models.autoencoders import Autoencoder
from probmetrics.models.base import Batch, Seed, Shape
from probmetrics.models.implicit import ImplicitModel


class GMMN(ImplicitModel):
    """Generative moment matching network: min_G MMD²(data, G(z)), or any other sample loss.

    Args:
        generator: Network from codes to points.
        divergence: MMD with the Gaussian kernel at each batch's median distance by default;
            ``MMDLoss(gaussian_mixture([...]))`` for several length scales.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.
        samples: Points to generate per step; None is as many as the batch holds.

    Example:
        >>> model = GMMN.build(2, latent=4)
        >>> model.sample(3, generator=0).shape
        torch.Size([3, 2])

    References:
        Li, Swersky & Zemel (2015), "Generative moment matching networks"; Dziugaite, Roy &
        Ghahramani (2015).
    """

    def __init__(
        self,
        generator: nn.Module,
        divergence: SampleLoss | None = None,
        *,
        shape: Shape | None = None,
        latent: int | None = None,
        samples: int | None = None,
    ) -> None:
        super().__init__(
            generator,
            MMDLoss() if divergence is None else divergence,
            shape=shape,
            latent=latent,
            samples=samples,
        )

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        divergence: SampleLoss | None = None,
        latent: int = 16,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        final: nn.Module | None = None,
        samples: int | None = None,
    ) -> "GMMN":
        """With a fully connected generator, or a convolutional one of that ``width``."""
        network = nets.decoder(latent, shape, hidden=hidden, width=width, final=final)
        return cls(network, divergence, shape=shape, latent=latent, samples=samples)


class SinkhornGenerator(GMMN):
    """A generator trained on the Sinkhorn divergence.

    Example:
        >>> SinkhornGenerator.build(2, latent=4).divergence.name
        'sinkhorn_divergence'

    References:
        Genevay, Peyré & Cuturi (2018), "Learning generative models with Sinkhorn divergences".
    """

    def __init__(
        self,
        generator: nn.Module,
        divergence: SampleLoss | None = None,
        *,
        shape: Shape | None = None,
        latent: int | None = None,
        samples: int | None = None,
    ) -> None:
        chosen = SinkhornLoss() if divergence is None else divergence
        super().__init__(generator, chosen, shape=shape, latent=latent, samples=samples)


class CodeGMMN(GMMN):
    """Moment matching on the codes of a trained autoencoder: x = decode(G(z)).

    The autoencoder is kept fixed; train it first, with ``fit`` on itself.

    Args:
        autoencoder: Whose codes are matched.
        generator: Network from noise (n, latent) to codes.
        divergence: Between the codes of data and generated codes.
        latent: Coordinates of the noise.

    Example:
        >>> from probmetrics.models.autoencoders import Autoencoder
        >>> model = CodeGMMN.build(Autoencoder.build(8, latent=2), latent=3)
        >>> model.sample(5, generator=0).shape
        torch.Size([5, 8])

    References:
        Li, Swersky & Zemel (2015), section 4 (GMMN + AE).
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        generator: nn.Module,
        divergence: SampleLoss | None = None,
        *,
        latent: int,
    ) -> None:
        super().__init__(generator, divergence, shape=autoencoder.shape, latent=latent)
        self.autoencoder = autoencoder

    @classmethod
    def build(  # type: ignore[override]
        cls,
        autoencoder: Autoencoder,
        *,
        divergence: SampleLoss | None = None,
        latent: int = 16,
        hidden: Sequence[int] = (128, 128),
    ) -> "CodeGMMN":
        """With a fully connected generator of codes."""
        network = nets.decoder(latent, autoencoder.latent, hidden=hidden)
        return cls(autoencoder, network, divergence, latent=latent)

    def decode(self, z: Tensor) -> Tensor:
        return self.autoencoder.decode(self.generator(z))

    def pair(self, batch: Batch, generator: Seed) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            codes = self.autoencoder.encode(batch.x)
        made: Tensor = self.generator(self.noise(len(codes), generator=generator))
        return codes, made

    def train(self, mode: bool = True) -> "CodeGMMN":
        super().train(mode)
        self.autoencoder.eval()  # its statistics are as fixed as its weights
        return self


class MMDGAN(ImplicitModel):
    """min_G max_φ MMD²(φ(data), φ(G(z))): moment matching under learned features.

    With φ the identity and no critic step it is the GMMN.

    Args:
        generator: Network from codes to points.
        features: φ, from points to (n, k).
        divergence: The MMD between features.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.
        penalty: On the gradient of the witness function; None for none.
        critic_steps: Steps of φ per step of the generator.
        after_critic: Called on φ after each of them, e.g. ``clip_weights``.

    Example:
        >>> MMDGAN.build(2, latent=4, hidden=(8,)).sample(3, generator=0).shape
        torch.Size([3, 2])

    References:
        Li et al. (2017), "MMD GAN: Towards deeper understanding of moment matching network";
        Bińkowski et al. (2018), "Demystifying MMD GANs", section 2.4 for the penalty.
    """

    def __init__(
        self,
        generator: nn.Module,
        features: nn.Module,
        divergence: SampleLoss | None = None,
        *,
        shape: Shape | None = None,
        latent: int | None = None,
        penalty: Any = None,
        critic_steps: int = 1,
        after_critic: Callable[[nn.Module], None] | None = None,
    ) -> None:
        distance = MMDLoss() if divergence is None else divergence
        super().__init__(
            generator,
            Adversarial(features, distance, penalty=penalty),
            shape=shape,
            latent=latent,
            critic_steps=critic_steps,
            after_critic=after_critic,
        )

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        divergence: SampleLoss | None = None,
        latent: int = 16,
        features: int = 16,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        penalty: float | None = 1.0,
        critic_steps: int = 1,
    ) -> "MMDGAN":
        """With default networks and a gradient penalty of that weight (None for none)."""
        return cls(
            nets.decoder(latent, shape, hidden=hidden, width=width),
            nets.encoder(shape, features, hidden=hidden, width=width, activation="leaky_relu"),
            divergence,
            shape=shape,
            latent=latent,
            penalty=None if penalty is None else GradientPenalty(penalty),
            critic_steps=critic_steps,
        )
