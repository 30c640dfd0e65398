"""Noise through a network, trained to minimise any divergence between samples."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.losses import Adversarial, SampleLoss, with_labels
from probmetrics.models.base import (
    AbstractLatentModel,
    Batch,
    Objective,
    Seed,
    Shape,
    sizes,
)
from probmetrics.models.labelled import AbstractLabelledModel

Divergence = SampleLoss | Adversarial


class ImplicitModel(AbstractLatentModel):
    """x = G(z), z ~ N(0, I), with min_G divergence(data, G(z)).

    With a ``SampleLoss`` it is a moment-matching or transport generator, with an ``Adversarial``
    divergence a GAN: the critic then takes its steps first.

    Args:
        generator: Network from codes (n, latent) to points (n, *shape).
        divergence: What to minimise.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.
        critic_steps: Steps of the critic, if there is one, per step of the generator.
        after_critic: Called after each of them, e.g. to clip weights.
        betas: Momenta of Adam in an adversarial game.
        samples: Points to generate per step; None is as many as the batch holds.

    Example:
        >>> from probmetrics.losses import EnergyLoss
        >>> model = ImplicitModel(nn.Linear(2, 3), EnergyLoss(), shape=3, latent=2)
        >>> model.sample(4, generator=0).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        generator: nn.Module,
        divergence: Divergence,
        *,
        shape: Shape | None = None,
        latent: int | None = None,
        critic_steps: int = 1,
        after_critic: Callable[[nn.Module], None] | None = None,
        betas: tuple[float, float] = (0.5, 0.9),
        samples: int | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.latent = sizes(generator, shape, latent)
        self.generator = generator
        self.divergence = divergence
        self.critic_steps = checks.count(critic_steps, "critic_steps")
        self.after_critic = after_critic
        self.betas = betas
        self.samples = None if samples is None else checks.count(samples, "samples")

    def decode(self, z: Tensor) -> Tensor:
        points: Tensor = self.generator(z)
        return points

    def pair(self, batch: Batch, generator: Seed) -> tuple[Tensor, Tensor]:
        """Data and generated points, as the divergence gets to see them."""
        count = len(batch.x) if self.samples is None else self.samples
        return batch.x, self.decode(self.noise(count, generator=generator))

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What the generator minimises."""
        return between(self.divergence, *self.pair(batch, generator), generator)

    def critic_loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What the critic minimises."""
        assert isinstance(self.divergence, Adversarial)
        with torch.no_grad():
            x, y = self.pair(batch, generator)
        return self.divergence.critic_loss(x, y, generator=generator)

    def objectives(self) -> list[Objective]:
        own = Objective("generator", list(self.generator.parameters()), self.loss)
        if isinstance(self.divergence, Adversarial):
            own = Objective(own.name, own.parameters, own.loss, betas=self.betas)
            return [self._critic_objective(self.divergence.critic), own]
        return [own]  # features inside a SampleLoss stay as they are

    def _critic_objective(self, critic: nn.Module) -> Objective:
        after = self.after_critic
        return Objective(
            "critic",
            list(critic.parameters()),
            self.critic_loss,
            steps=self.critic_steps,
            betas=self.betas,
            after=None if after is None else lambda batch: after(critic),
        )


class ConditionalModel(AbstractLabelledModel, ImplicitModel):
    """x = G(z, label): the divergence compares pairs (point, one-hot label) with such pairs.

    Args:
        generator: Network from codes with the one-hot label appended, (n, latent + classes).
        divergence: Between points with labels appended (channels, for images).
        shape: Shape of one point.
        latent: Coordinates of a code.
        classes: How many labels there are.
        critic_steps: As in ``ImplicitModel``.
        after_critic: As in ``ImplicitModel``.
        betas: As in ``ImplicitModel``.
    """

    def __init__(
        self,
        generator: nn.Module,
        divergence: Divergence,
        *,
        shape: Shape,
        latent: int,
        classes: int,
        critic_steps: int = 1,
        after_critic: Callable[[nn.Module], None] | None = None,
        betas: tuple[float, float] = (0.5, 0.9),
    ) -> None:
        super().__init__(
            generator,
            divergence,
            shape=shape,
            latent=latent,
            critic_steps=critic_steps,
            after_critic=after_critic,
            betas=betas,
        )
        self.classes = checks.count(classes, "classes")

    def decode(self, z: Tensor) -> Tensor:
        """Points for codes that carry their label, shape (n, latent + classes)."""
        if z.shape[-1] == self.latent:
            raise ValueError(
                "a conditional model decodes codes with labels: "
                "decode(with_labels(z, labels, classes)), or sample(n, labels=...)"
            )
        return super().decode(z)

    def pair(self, batch: Batch, generator: Seed) -> tuple[Tensor, Tensor]:
        labels = batch.known_labels(type(self).__name__, self.classes)
        z = self.noise(len(batch.x), generator=generator)
        made = self.decode(with_labels(z, labels, self.classes))
        return with_labels(batch.x, labels, self.classes), with_labels(made, labels, self.classes)


def between(divergence: Divergence, x: Tensor, y: Tensor, generator: Seed) -> Tensor:
    """The divergence between points of any shape: rows for losses that read rows."""
    rows = isinstance(divergence, SampleLoss) and divergence.features is None
    if rows and divergence.event_ndim == 1:
        x, y = x.flatten(1), y.flatten(1)
    value: Tensor = divergence(x, y, generator=generator)
    return value
