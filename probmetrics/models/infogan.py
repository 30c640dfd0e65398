"""InfoGAN: a GAN whose generator is rewarded for codes that can be read off its points."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal, Uniform
from torch.nn.functional import one_hot

from probmetrics import _checks as checks
from probmetrics.losses import Adversarial, AdversarialLoss, GradientPenalty, information_bound
from probmetrics.losses.precision import wide
from probmetrics.models import nets
from probmetrics.models.base import Batch, Objective, Seed, Shape, arc, as_shape
from probmetrics.models.implicit import ImplicitModel
from probmetrics.models.labelled import chosen_labels


class InfoGAN(ImplicitModel):
    """GAN − λ (E log q(c | G(z, c)) + H(c)), with a categorical and uniform codes c.

    Args:
        generator: Network from (noise, one-hot class, uniform codes).
        critic: Network from points to scores.
        reader: q's network, from points to (class logits, means, log-variances):
            (n, classes + 2 · continuous).
        classes: Values of the categorical code; 0 for none.
        continuous: Coordinates uniform on [−1, 1]; 0 for none.
        weight: λ.
        objective: As in ``GAN``.
        penalty: As in ``GAN``.
        shape: Shape of one point.
        noise: Coordinates of the incompressible noise.
        critic_steps: As in ``GAN``.

    Example:
        >>> model = InfoGAN.build(2, classes=3, continuous=1, noise=2, hidden=(8,))
        >>> model.sample(6, labels=torch.tensor([0, 1, 2, 0, 1, 2]), generator=0).shape
        torch.Size([6, 2])

    References:
        Chen et al. (2016), "InfoGAN", eq. 6.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        reader: nn.Module,
        *,
        classes: int = 10,
        continuous: int = 0,
        weight: float = 1.0,
        objective: Any = "gan",
        penalty: Any = None,
        shape: Shape,
        noise: int,
        critic_steps: int = 1,
    ) -> None:
        self.classes = checks.count(classes, "classes", minimum=0)
        self.continuous = checks.count(continuous, "continuous", minimum=0)
        _refuse_no_codes(self.classes + self.continuous)
        loss = objective if isinstance(objective, AdversarialLoss) else AdversarialLoss(objective)
        self.plain = checks.count(noise, "noise")
        super().__init__(
            generator,
            Adversarial(critic, loss, penalty=penalty),
            shape=shape,
            latent=self.plain + self.classes + self.continuous,
            critic_steps=critic_steps,
        )
        self.reader = reader
        self.weight = checks.positive(weight, "weight")

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        classes: int = 10,
        continuous: int = 0,
        weight: float = 1.0,
        objective: Any = "gan",
        penalty: float | None = None,
        noise: int = 16,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
    ) -> "InfoGAN":
        """With default networks; options as in ``GAN.build``."""
        _refuse_no_codes(classes + continuous)
        sizes = as_shape(shape)
        return cls(
            nets.decoder(noise + classes + continuous, sizes, hidden=hidden, width=width),
            nets.encoder(sizes, 1, hidden=hidden, width=width, activation="leaky_relu"),
            nets.encoder(sizes, classes + 2 * continuous, hidden=hidden, width=width),
            classes=classes,
            continuous=continuous,
            weight=weight,
            objective=objective,
            penalty=None if penalty is None else GradientPenalty(penalty),
            shape=sizes,
            noise=noise,
        )

    def noise(
        self,
        n: int,
        *,
        generator: Seed = None,
        truncation: float | None = None,
        temperature: float = 1.0,
        labels: Any = None,
        codes: Tensor | None = None,
    ) -> Tensor:
        """Noise, one-hot classes and uniform codes side by side, shape (n, latent).

        Args:
            n: How many.
            generator: Draws what is not given.
            truncation: Of the noise.
            temperature: Of the noise.
            labels: One class for all, or one per point (n,).
            codes: Continuous codes to use, shape (n, continuous).
        """
        source = checks.generator(generator, self.device)
        z = super().noise(n, generator=source, truncation=truncation, temperature=temperature)
        parts = [z[:, : self.plain]]
        if self.classes:
            chosen = chosen_labels(labels, n, self.classes, source)
            parts.append(one_hot(chosen, self.classes).to(z))
        elif labels is not None:
            raise ValueError("this InfoGAN has no classes to choose; pass codes=")
        if self.continuous:
            if codes is None:
                shape = (n, self.continuous)
                codes = 2 * torch.rand(shape, generator=source, device=self.device) - 1
            elif codes.shape != (n, self.continuous):
                raise ValueError(
                    f"codes must have shape ({n}, {self.continuous}), got {tuple(codes.shape)}"
                )
            parts.append(codes.to(z))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        labels: Any = None,
        codes: Tensor | None = None,
        generator: Seed = None,
        truncation: float | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """New points, with the given codes where there are some; see ``noise``."""
        return self.decode(
            self.noise(
                n,
                generator=generator,
                truncation=truncation,
                temperature=temperature,
                labels=labels,
                codes=codes,
            )
        )

    def path(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        """Codes in between, shape (steps, n, latent): arcs of noise, straight lines of codes."""
        arcs = super().path(start, end, steps)
        share = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)
        own = torch.lerp(start[:, self.plain :], end[:, self.plain :], share[:, None, None])
        noise = [arc(start[:, : self.plain], end[:, : self.plain], float(s)) for s in share]
        return torch.cat([torch.stack(noise), own.expand(*arcs.shape[:2], -1)], dim=-1)

    def information(self, z: Tensor, points: Tensor) -> Tensor:
        """Lower bound of the information between the codes in z and the points, in nats."""
        read = wide(self.reader(points))
        total = z.new_zeros(())
        if self.classes:
            uniform = torch.full((self.classes,), 1.0 / self.classes, device=z.device)
            chosen = z[:, self.plain : self.plain + self.classes].argmax(-1)
            posterior = Categorical(logits=read[:, : self.classes])
            total = total + information_bound(posterior, chosen, Categorical(probs=uniform))
        if self.continuous:
            codes = z[:, self.plain + self.classes :]
            mean, log_variance = read[:, self.classes :].chunk(2, dim=-1)
            law = Normal(mean, torch.exp(0.5 * log_variance))
            ends = torch.ones(self.continuous, device=z.device)
            total = total + information_bound(law, codes, Uniform(-ends, ends))
        return total

    def encode(self, x: Tensor) -> Tensor:
        """The class read off points, shape (n,); or the continuous codes without classes."""
        read: Tensor = self.reader(x)
        return read[:, : self.classes].argmax(-1) if self.classes else read.chunk(2, -1)[0]

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """What generator and reader minimise."""
        z = self.noise(len(batch.x), generator=generator)
        made = self.decode(z)
        game: Tensor = self.divergence(batch.x, made, generator=generator)
        return game - self.weight * self.information(z, made)

    def objectives(self) -> list[Objective]:
        critic, generator = super().objectives()
        both = [*self.generator.parameters(), *self.reader.parameters()]
        return [critic, Objective(generator.name, both, self.loss, betas=self.betas)]


def _refuse_no_codes(count: int) -> None:
    if count == 0:
        raise ValueError("InfoGAN needs a code to read: classes or continuous above zero")
