"""Models told a class: labels in any form, points of a class, walks between codes within one."""

import abc
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.losses import with_labels
from probmetrics.models.base import AbstractLatentModel, Seed, class_numbers


class AbstractLabelledModel(AbstractLatentModel, abc.ABC):
    """A model whose ``decode`` takes codes with one-hot labels appended, (n, latent + classes).

    Attributes:
        classes: How many classes there are.
    """

    classes: int

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        labels: Any = None,
        generator: Seed = None,
        truncation: float | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """New points of given classes, shape (n, *shape).

        Args:
            n: How many.
            labels: One class for all, or one per point (n,); None draws them uniformly.
            generator: Draws codes and classes.
            truncation: As in ``noise``.
            temperature: As in ``noise``.
        """
        source = checks.generator(generator, self.device)
        z = self.noise(n, generator=source, truncation=truncation, temperature=temperature)
        chosen = chosen_labels(labels, n, self.classes, source)
        return self.decode(with_labels(z, chosen, self.classes))

    @torch.no_grad()
    def interpolate(
        self, start: Tensor, end: Tensor, steps: int = 8, *, labels: Any = None
    ) -> Tensor:
        """Points along the great arcs between codes, within a class, shape (steps, n, *shape).

        Args:
            start: Codes, shape (n, latent).
            end: Codes, shape (n, latent).
            steps: Points on each arc, ends included.
            labels: One class for all, or one per arc (n,).
        """
        if labels is None:
            raise ValueError("this model is told the class: interpolate(start, end, labels=...)")
        path = self.path(start, end, steps)
        chosen = chosen_labels(labels, len(start), self.classes).to(path.device)
        z = with_labels(path.flatten(0, 1), chosen.repeat(len(path)), self.classes)
        made = self.decode(z)
        return made.reshape(*path.shape[:2], *made.shape[1:])


def chosen_labels(
    labels: Any, n: int, classes: int, source: torch.Generator | None = None
) -> Tensor:
    """One class per point, from one for all, one per point, or drawn uniformly for None."""
    device = torch.device("cpu") if source is None else source.device
    if labels is None:
        return torch.randint(classes, (n,), generator=source, device=device)
    given = class_numbers(labels)
    given = given.expand(n) if given.ndim == 0 else given
    if given.shape != (n,):
        raise ValueError(
            f"labels must be one class, or one for each of the {n} points; "
            f"got shape {tuple(given.shape)}"
        )
    if bool(((given < 0) | (given >= classes)).any()):
        raise ValueError(
            f"labels must lie in 0 … {classes - 1}, got {int(given.min())} … {int(given.max())}"
        )
    return given.to(device)
