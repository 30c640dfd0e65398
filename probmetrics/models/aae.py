"""Adversarial autoencoders: plain, told the label, and semi-supervised."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from probmetrics import _checks as checks
from probmetrics.losses import Adversarial, with_labels
from probmetrics.models import nets
from probmetrics.models.autoencoders import squared_error
from probmetrics.models.base import Batch, Objective, Seed, Shape, as_shape
from probmetrics.models.labelled import AbstractLabelledModel
from probmetrics.models.wae import WAE, slope_penalty


class AAE(WAE):
    """Adversarial autoencoder: squared error plus a game that makes codes look like the prior.

    It is the WAE-GAN with squared cost.

    Args:
        encoder: As in ``WAE``.
        decoder: As in ``WAE``.
        critic: Scores codes, (n, latent) → (n, 1).
        objective: A row, as in ``GAN``.
        penalty: Weight of the critic's squared slope, as in ``WAE.adversarial``.
        weight: Of the game against the squared error.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.

    Example:
        >>> model = AAE.build(8, latent=2, hidden=(16,))
        >>> [objective.name for objective in model.objectives()]
        ['critic', 'autoencoder']

    References:
        Makhzani et al. (2015), "Adversarial autoencoders", section 2.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        critic: nn.Module,
        *,
        objective: Any = "gan",
        penalty: float | None = 1.0,
        weight: float = 1.0,
        shape: Shape | None = None,
        latent: int | None = None,
        critic_steps: int = 1,
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            Adversarial(critic, objective, penalty=slope_penalty(penalty)),
            weight=weight,
            shape=shape,
            latent=latent,
            critic_steps=critic_steps,
        )

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        objective: Any = "gan",
        latent: int = 8,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        weight: float = 1.0,
        **options: Any,
    ) -> "AAE":
        """With default networks."""
        return cls(
            nets.encoder(shape, latent, hidden=hidden, width=width),
            nets.decoder(latent + options.get("classes", 0), shape, hidden=hidden, width=width),
            nets.MLP(latent, 1, hidden=hidden, activation="leaky_relu"),
            objective=objective,
            weight=weight,
            shape=shape,
            latent=latent,
            **options,
        )


class SupervisedAAE(AbstractLabelledModel, AAE):
    """Adversarial autoencoder whose decoder is told the label: codes keep the style only.

    Args:
        encoder: Network from points to codes.
        decoder: Network from codes with one-hot labels, (n, latent + classes).
        critic: Scores codes.
        classes: How many classes there are.
        objective: As in ``AAE``.
        penalty: As in ``AAE``.
        weight: As in ``AAE``.
        shape: Shape of one point.
        latent: Coordinates of a code.

    Example:
        >>> model = SupervisedAAE.build(8, classes=3, latent=2, hidden=(16,))
        >>> model.sample(5, labels=2, generator=0).shape
        torch.Size([5, 8])

    References:
        Makhzani et al. (2015), section 4.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        critic: nn.Module,
        *,
        classes: int,
        objective: Any = "gan",
        penalty: float | None = 1.0,
        weight: float = 1.0,
        shape: Shape,
        latent: int,
        critic_steps: int = 1,
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            critic,
            objective=objective,
            penalty=penalty,
            weight=weight,
            shape=shape,
            latent=latent,
            critic_steps=critic_steps,
        )
        self.classes = checks.count(classes, "classes")

    def reconstruct(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Points after a pass through code and label; another label changes the class."""
        if labels is None:
            raise ValueError("this decoder is told the class: reconstruct(x, labels)")
        return self.decode(with_labels(self.encode(x), labels, self.classes))

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        labels = batch.known_labels("SupervisedAAE", self.classes)
        source = checks.generator(generator, batch.x.device)
        codes = self.codes(batch.x, source)
        made = self.decode(with_labels(codes, labels, self.classes))
        apart: Tensor = self.penalty(codes, generator=source)
        return self.cost(batch.x, made).mean() + self.weight * apart


class SemiSupervisedAAE(SupervisedAAE):
    """Adversarial autoencoder that infers the label: one game makes codes Gaussian, another makes
    the inferred class probabilities look like one-hot draws of uniform classes.

    Args:
        encoder: Network from points to class logits and code, (n, classes + latent).
        decoder: Network from (code, class probabilities).
        critic: Scores codes.
        label_critic: Scores class probabilities.
        classes: How many classes there are.
        objective: Of both games, as in ``AAE``.
        penalty: Of both critics, as in ``AAE``.
        weight: Of both games.
        supervision: Of the cross-entropy on points whose label is known (not −1).
        shape: Shape of one point.
        latent: Coordinates of a code.

    Example:
        >>> model = SemiSupervisedAAE.build(8, classes=3, latent=2, hidden=(16,))
        >>> model.classify(torch.zeros(5, 8)).shape
        torch.Size([5, 3])

    References:
        Makhzani et al. (2015), section 5.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        critic: nn.Module,
        label_critic: nn.Module,
        *,
        classes: int,
        objective: Any = "gan",
        penalty: float | None = 1.0,
        weight: float = 1.0,
        supervision: float = 1.0,
        shape: Shape,
        latent: int,
        critic_steps: int = 1,
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            critic,
            classes=classes,
            objective=objective,
            penalty=penalty,
            weight=weight,
            shape=shape,
            latent=latent,
            critic_steps=critic_steps,
        )
        self.label_game = Adversarial(label_critic, objective, penalty=slope_penalty(penalty))
        self.supervision = checks.real(supervision, "supervision")

    @classmethod
    def build(  # type: ignore[override]
        cls,
        shape: Shape,
        *,
        classes: int,
        objective: Any = "gan",
        latent: int = 8,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        penalty: float | None = 1.0,
        weight: float = 1.0,
        supervision: float = 1.0,
    ) -> "SemiSupervisedAAE":
        """With default networks."""
        sizes = as_shape(shape)
        return cls(
            nets.encoder(sizes, classes + latent, hidden=hidden, width=width),
            nets.decoder(latent + classes, sizes, hidden=hidden, width=width),
            nets.MLP(latent, 1, hidden=hidden, activation="leaky_relu"),
            nets.MLP(classes, 1, hidden=hidden, activation="leaky_relu"),
            classes=classes,
            objective=objective,
            penalty=penalty,
            weight=weight,
            supervision=supervision,
            shape=sizes,
            latent=latent,
        )

    def encode(self, x: Tensor) -> Tensor:
        """Codes of points without their class, shape (n, latent)."""
        return self._read(x)[1]

    def codes(self, x: Tensor, generator: Seed = None) -> Tensor:
        """Codes as training sees them."""
        return self._read(x)[1]

    def classify(self, x: Tensor) -> Tensor:
        """Log-probabilities of the classes, shape (n, classes)."""
        return torch.log_softmax(self._read(x)[0], dim=-1)

    def reconstruct(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Points after a pass through code and class, the latter inferred unless given."""
        logits, codes = self._read(x)
        shares = torch.softmax(logits, dim=-1) if labels is None else labels
        return self.decode(with_labels(codes, shares, self.classes))

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        source = checks.generator(generator, batch.x.device)
        logits, codes = self._read(batch.x)
        shares = torch.softmax(logits, dim=-1)
        made = self.decode(with_labels(codes, shares, self.classes))
        game: Tensor = self.penalty(codes, generator=source) + self.label_game(
            self._one_hot_draws(shares, source), shares
        )
        total = squared_error(batch.x, made).mean() + self.weight * game
        labels = batch.known_labels("SemiSupervisedAAE", self.classes)
        known = labels >= 0
        if bool(known.any()):
            total = total + self.supervision * cross_entropy(logits[known], labels[known])
        return total

    def critic_loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What both critics minimise."""
        source = checks.generator(generator, batch.x.device)
        with torch.no_grad():
            logits, codes = self._read(batch.x)
            shares = torch.softmax(logits, dim=-1)
        about_labels = self.label_game.critic_loss(self._one_hot_draws(shares, source), shares)
        return self.penalty.critic_loss(codes, generator=source) + about_labels

    def objectives(self) -> list[Objective]:
        critic, own = super().objectives()
        both = [*critic.parameters, *self.label_game.critic.parameters()]
        return [
            Objective(critic.name, both, self.critic_loss, steps=critic.steps, betas=critic.betas),
            own,
        ]

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        answer: Tensor = self.encoder(x)
        return answer[:, : self.classes], answer[:, self.classes :]

    def _one_hot_draws(self, shares: Tensor, source: torch.Generator) -> Tensor:
        drawn = torch.randint(self.classes, (len(shares),), generator=source, device=shares.device)
        return one_hot(drawn, self.classes).to(shares)
