"""What every model is: parameters with objectives to train them by, and a way to sample."""

import abc
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks

Seed = torch.Generator | int | None
Shape = int | tuple[int, ...]  # coordinates of a point, or its dimensions


@dataclass(frozen=True)
class Batch:
    """Data for one step of an optimiser.

    Attributes:
        x: Points, shape (n, *shape).
        labels: Class of each point, shape (n,), −1 where unknown; None without labels.
        index: Row of each point in the training set, shape (n,); None for endless data.
        step: Steps of ``fit`` done before.
    """

    x: Tensor
    labels: Tensor | None = None
    index: Tensor | None = None
    step: int = 0

    def known_labels(self, model: str, classes: int) -> Tensor:
        """The labels, whole numbers below ``classes``, or an error that says who needs them."""
        if self.labels is None:
            raise ValueError(f"{model} needs labels; pass (x, labels) as data")
        labels = class_numbers(self.labels)
        if checks.readable(labels) and bool(((labels < -1) | (labels >= classes)).any()):
            raise ValueError(
                f"labels must lie in 0 … {classes - 1} (−1 where unknown), "
                f"got {int(labels.min())} … {int(labels.max())}"
            )
        return labels


@dataclass(frozen=True)
class Objective:
    """One loss, the parameters that minimise it, and how often.

    Attributes:
        name: For progress bars, histories and errors.
        parameters: What the optimiser moves; nothing else receives a gradient.
        loss: (batch, generator) → the number to minimise; draws go through the generator.
        steps: Optimiser steps, each on a fresh batch, per step of ``fit``.
        betas: Momenta of the default Adam optimiser.
        rate: Learning rate as a multiple of the one given to ``fit``.
        after: Called with the batch after each step, e.g. to clip weights.
    """

    name: str
    parameters: Iterable[nn.Parameter]
    loss: Callable[[Batch, torch.Generator], Tensor]
    steps: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    rate: float = 1.0
    after: Callable[[Batch], None] | None = None


class AbstractModel(nn.Module, abc.ABC):
    """A model that ``fit`` can train; any other loop can too, through ``objectives()``.

    Attributes:
        shape: Shape of one point; a batch of data is (n, *shape).
        recipe: Name and options it was created from, where it was created by name.
        notes: What its file says beside the weights, where it was loaded from one.
    """

    shape: tuple[int, ...]
    recipe: dict[str, Any] | None = None
    notes: dict[str, Any] | None = None

    @abc.abstractmethod
    def objectives(self) -> list[Objective]:
        """What one step of training does, in order."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        tensors = [*self.parameters(), *self.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """What the parameters are kept in."""
        floating = (t for t in [*self.parameters(), *self.buffers()] if t.is_floating_point())
        tensor = next(floating, None)
        return torch.get_default_dtype() if tensor is None else tensor.dtype

    def points(self, x: Tensor, name: str = "x") -> Tensor:
        """Points of this model's shape, finite, on its device and in its dtype."""
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"{name} must have shape (n, {', '.join(map(str, self.shape))}) to fit this "
                f"model, got {tuple(x.shape)}"
            )
        checks.finite(x.flatten(1), name)
        return x.to(self.device, self.dtype)


class AbstractGenerativeModel(AbstractModel):
    """A model one can draw new points from."""

    @abc.abstractmethod
    def sample(self, n: int, *, generator: Seed = None) -> Tensor:
        """New points, shape (n, *shape); the same seed gives the same points."""


class AbstractLatentModel(AbstractGenerativeModel):
    """A model that decodes codes z drawn from N(0, I).

    Attributes:
        latent: Coordinates of a code.
    """

    latent: int

    @abc.abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """The points that codes (n, latent) stand for, shape (n, *shape)."""

    def noise(
        self,
        n: int,
        *,
        generator: Seed = None,
        truncation: float | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Codes drawn from the prior, shape (n, latent).

        Args:
            n: How many.
            generator: Draws them.
            truncation: Each coordinate is conditioned on lying within ± this many deviations.
            temperature: Standard deviation of the prior; below 1 trades variety for quality.
        """
        n = checks.count(n, "n")
        source = checks.generator(generator, self.device)
        scale = checks.positive(temperature, "temperature")
        if truncation is None:
            return scale * torch.randn(
                n, self.latent, generator=source, device=self.device, dtype=self.dtype
            )
        bound = checks.positive(truncation, "truncation")
        uniform = torch.rand(
            n, self.latent, generator=source, device=self.device, dtype=torch.float64
        )
        # Inverse distribution function on (Φ(−t), Φ(t)), a hair inside of its ends.
        share = math.erf(bound / math.sqrt(2.0)) * (1 - 1e-12)
        return (scale * math.sqrt(2.0) * torch.erfinv(share * (2 * uniform - 1))).to(self.dtype)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        generator: Seed = None,
        truncation: float | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """New points, shape (n, *shape): decoded draws of the prior; see ``noise``."""
        return self.decode(
            self.noise(n, generator=generator, truncation=truncation, temperature=temperature)
        )

    @torch.no_grad()
    def interpolate(self, start: Tensor, end: Tensor, steps: int = 8) -> Tensor:
        """Points along the great arcs between codes, shape (steps, n, *shape).

        Args:
            start: Codes, shape (n, latent).
            end: Codes, shape (n, latent).
            steps: Points on each arc, ends included.

        Notes:
            Angle and length are interpolated separately, so that codes between two draws of the
            prior are as long as draws are; a straight line would pass too close to the origin.
        """
        path = self.path(start, end, steps)
        made = self.decode(path.flatten(0, 1))
        return made.reshape(*path.shape[:2], *made.shape[1:])

    def path(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        """The codes on the arcs themselves, shape (steps, n, latent)."""
        steps = checks.count(steps, "steps", minimum=2)
        if start.shape != end.shape or start.shape[1:] != (self.latent,):
            raise ValueError(
                f"start and end must both be codes of shape (n, {self.latent}), got "
                f"{tuple(start.shape)} and {tuple(end.shape)}"
            )
        return torch.stack([arc(start, end, k / (steps - 1)) for k in range(steps)])


def arc(start: Tensor, end: Tensor, share: float) -> Tensor:
    """The code a share of the way from start to end, by angle and by length (Shoemake 1985)."""
    lengths = [torch.linalg.vector_norm(z, dim=-1, keepdim=True) for z in (start, end)]
    units = [
        z / torch.where(length > 0, length, 1.0)
        for z, length in zip((start, end), lengths, strict=True)
    ]
    length = torch.lerp(lengths[0], lengths[1], share)
    cosine = (units[0] * units[1]).sum(-1, keepdim=True).clamp(-1.0, 1.0)
    angle = torch.arccos(cosine)
    # Parallel, opposite, or at the origin: there is no arc to follow.
    straight = (torch.sin(angle) < 1e-4) | (lengths[0] == 0) | (lengths[1] == 0)
    sine = torch.where(straight, 1.0, torch.sin(angle))
    turned = (
        torch.sin((1 - share) * angle) / sine * units[0]
        + torch.sin(share * angle) / sine * units[1]
    )
    return torch.where(straight, torch.lerp(start, end, share), length * turned)


def class_numbers(labels: Any) -> Tensor:
    """Labels in any form as whole numbers: tensors, arrays and lists; of booleans and floats too.

    Example:
        >>> class_numbers([True, False]).tolist(), class_numbers(torch.tensor(2.0)).item()
        ([1, 0], 2)
    """
    given = torch.as_tensor(labels)
    numbers = given.long()
    if given.is_floating_point() and not torch.equal(numbers.to(given.dtype), given):
        raise ValueError(
            "labels must be whole numbers, one class per point; for class probabilities take "
            "their argmax"
        )
    return numbers


def as_shape(shape: Shape) -> tuple[int, ...]:
    """The shape of one point, from a number of coordinates or a tuple."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sizes:
        raise ValueError("shape is empty; pass the number of coordinates, or (C, H, W)")
    return tuple(checks.count(size, "shape") for size in sizes)


def sizes(
    network: nn.Module, shape: Shape | None, latent: int | None
) -> tuple[tuple[int, ...], int]:
    """Shape of a point and coordinates of a code, read off a generator or decoder if not given."""
    if latent is None:
        first = next((m for m in network.modules() if isinstance(m, nn.Linear)), None)
        if first is None:
            raise ValueError("latent cannot be read off this network; pass latent=")
        latent = first.in_features
    latent = checks.count(latent, "latent")
    if shape is not None:
        return as_shape(shape), latent
    like = next(iter(network.parameters()), torch.zeros(()))
    training = network.training
    with torch.no_grad():
        made = network.eval()(torch.zeros(2, latent, dtype=like.dtype, device=like.device))
    network.train(training)
    return tuple(made.shape[1:]), latent
