"""Generative adversarial networks: one class for all rows, packed and conditional critics too."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.losses import (
    Adversarial,
    AdversarialLoss,
    GradientPenalty,
    clip_weights,
    pack,
    spectral_normalise,
)
from probmetrics.models import nets
from probmetrics.models.base import Shape, as_shape
from probmetrics.models.implicit import ConditionalModel, ImplicitModel


class Packed(nn.Module):
    """A critic that is shown ``count`` points at once.

    Args:
        critic: Scores packs, points joined along their first axis: (n / count, count · d, …).
        count: Points per pack; batch sizes must be multiples of it.
    """

    def __init__(self, critic: nn.Module, count: int) -> None:
        super().__init__()
        self.critic = critic
        self.count = checks.count(count, "count")

    def forward(self, x: Tensor) -> Tensor:
        """One score per pack."""
        score: Tensor = self.critic(pack(x, self.count))
        return score


class GAN(ImplicitModel):
    """A generator against a critic, playing any row of the family.

    Args:
        generator: Network from codes to points.
        critic: Network from points to scores (n, 1).
        objective: "gan", "kl", "js", …, "wgan", "hinge", "least squares", or such a row.
        saturating: The minimax game; False is the non-saturating one.
        penalty: Added to the critic's loss, e.g. ``GradientPenalty()``.
        clip: Clamp the critic's weights to ± this after each of its steps.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.
        critic_steps: Steps of the critic per step of the generator.

    Example:
        >>> model = GAN.build(2, latent=4, hidden=(8,), objective="wgan", penalty=10.0)
        >>> [objective.name for objective in model.objectives()]
        ['critic', 'generator']

    References:
        Goodfellow et al. (2014); Nowozin et al. (2016); Arjovsky et al. (2017); Gulrajani et al.
        (2017); Mao et al. (2017); Lim & Ye (2017); Miyato et al. (2018); Lin et al. (2018).
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        *,
        objective: Any = "gan",
        saturating: bool = False,
        penalty: Any = None,
        clip: float | None = None,
        shape: Shape | None = None,
        latent: int | None = None,
        critic_steps: int = 1,
    ) -> None:
        super().__init__(
            generator,
            Adversarial(critic, _loss(objective, saturating), penalty=penalty),
            shape=shape,
            latent=latent,
            critic_steps=critic_steps,
            after_critic=_clipping(clip),
        )

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        objective: Any = "gan",
        saturating: bool = False,
        penalty: float | None = None,
        clip: float | None = None,
        spectral: bool = False,
        packed: int = 1,
        latent: int = 16,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        final: nn.Module | None = None,
        critic_steps: int = 1,
    ) -> "GAN":
        """With default networks: MLPs, or DCGAN's for images if a ``width`` is given.

        Args:
            shape: Shape of one point.
            objective: As above.
            saturating: As above.
            penalty: Weight of a two-sided gradient penalty between real and generated points.
            clip: As above.
            spectral: Normalise the critic's layers by their largest singular value.
            packed: Points shown to the critic at once (PacGAN).
            latent: Coordinates of a code.
            hidden: Widths of the fully connected layers.
            width: Channels of the convolutional nets.
            final: Applied to generated points, e.g. ``nn.Tanh()``.
            critic_steps: As above.
        """
        sizes = as_shape(shape)
        seen = (checks.count(packed, "packed") * sizes[0], *sizes[1:])
        critic = nets.encoder(seen, 1, hidden=hidden, width=width, activation="leaky_relu")
        if spectral:
            spectral_normalise(critic)
        return cls(
            nets.decoder(latent, sizes, hidden=hidden, width=width, final=final),
            Packed(critic, packed) if packed > 1 else critic,
            objective=objective,
            saturating=saturating,
            penalty=None if penalty is None else GradientPenalty(penalty),
            clip=clip,
            shape=sizes,
            latent=latent,
            critic_steps=critic_steps,
        )


class ConditionalGAN(ConditionalModel):
    """A GAN whose generator and critic are told the class: trained on (x, labels).

    Args:
        generator: Network from codes with the one-hot label appended, (n, latent + classes).
        critic: Network from points with labels appended (channels, for images) to scores.
        classes: How many classes there are.
        objective: As in ``GAN``.
        saturating: As in ``GAN``.
        penalty: As in ``GAN``; its gradient includes that in the label columns.
        clip: As in ``GAN``.
        shape: Shape of one point.
        latent: Coordinates of a code.
        critic_steps: As in ``GAN``.

    Example:
        >>> model = ConditionalGAN.build(2, classes=3, latent=4, hidden=(8,))
        >>> model.sample(5, labels=2, generator=0).shape
        torch.Size([5, 2])

    References:
        Mirza & Osindero (2014), "Conditional generative adversarial nets".
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        *,
        classes: int,
        objective: Any = "gan",
        saturating: bool = False,
        penalty: Any = None,
        clip: float | None = None,
        shape: Shape,
        latent: int,
        critic_steps: int = 1,
    ) -> None:
        super().__init__(
            generator,
            Adversarial(critic, _loss(objective, saturating), penalty=penalty),
            shape=shape,
            latent=latent,
            classes=classes,
            critic_steps=critic_steps,
            after_critic=_clipping(clip),
        )

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        classes: int,
        objective: Any = "gan",
        saturating: bool = False,
        penalty: float | None = None,
        latent: int = 16,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        final: nn.Module | None = None,
        critic_steps: int = 1,
    ) -> "ConditionalGAN":
        """With default networks; options as in ``GAN.build``."""
        sizes = as_shape(shape)
        seen = (sizes[0] + checks.count(classes, "classes"), *sizes[1:])
        return cls(
            nets.decoder(
                checks.count(latent, "latent") + classes,
                sizes,
                hidden=hidden,
                width=width,
                final=final,
            ),
            nets.encoder(seen, 1, hidden=hidden, width=width, activation="leaky_relu"),
            classes=classes,
            objective=objective,
            saturating=saturating,
            penalty=None if penalty is None else GradientPenalty(penalty),
            shape=sizes,
            latent=latent,
            critic_steps=critic_steps,
        )


def _loss(objective: Any, saturating: bool) -> AdversarialLoss:
    if isinstance(objective, AdversarialLoss):
        return objective
    return AdversarialLoss(objective, saturating=saturating)


def _clipping(bound: float | None) -> Callable[[nn.Module], None] | None:
    if bound is None:
        return None
    limit = checks.positive(bound, "clip")
    return lambda critic: clip_weights(critic, limit)
