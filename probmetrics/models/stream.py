"""Batches for training from tensors, samplers and loaders, in an order that can be resumed."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.models.base import AbstractModel, Batch, class_numbers


class Stream:
    """An endless source of batches whose place can be saved.

    Args:
        source: A tensor or array (n, *shape); a pair (x, labels); a sampler
            ``f(n, generator=...)``, such as the ``sample`` of a toy distribution; or an iterable
            of tensors or pairs that can be started again, such as a ``DataLoader``.
        model: Says what shape the points must have, and where they go.
        batch_size: Points per batch, for tensors (at most all of them) and samplers.

    Notes:
        Tensors are shuffled anew for each pass, and a last part smaller than a batch is left to
        the next pass. Iterables are resumed by starting the pass again from the saved state of the
        global generator and skipping what was seen.
    """

    def __init__(self, source: Any, model: AbstractModel, batch_size: int) -> None:
        self.model = model
        self.batch_size = checks.count(batch_size, "batch_size")
        self.labels: Tensor | None = None
        self.x: Tensor | None = None
        source, labels = as_pair(source)
        if labels is not None:
            self.labels = class_numbers(labels)
            if self.labels.shape != source.shape[:1]:
                raise ValueError(
                    f"labels must have shape ({len(source)},), got {tuple(self.labels.shape)}"
                )
        if isinstance(source, Tensor):
            if len(source) == 0:
                raise ValueError(f"the data are empty, shape {tuple(source.shape)}")
            self.x = model.points(source, "data")
            self.batch_size = min(self.batch_size, len(source))
        elif not callable(source) and not isinstance(source, Iterable):
            raise TypeError(
                f"data must be a tensor, a pair (x, labels), a sampler or an iterable of batches; "
                f"got {type(source).__name__}"
            )
        self.source = source
        self.order = torch.empty(0, dtype=torch.long)
        self.place = 0
        self.running: Iterator[Any] | None = None
        self.began = torch.get_rng_state()

    def draw(self, generator: torch.Generator, step: int = 0) -> Batch:
        """The next batch, checked, on the model's device."""
        if self.x is not None:
            return self._rows(self.x, generator, step)
        if callable(self.source):
            source = generator if generator.device.type == "cpu" else _on_cpu(generator)
            x = self.source(self.batch_size, generator=source)
            return Batch(self.model.points(torch.as_tensor(x), "data"), step=step)
        return self._next(step)

    def state(self) -> dict[str, Any]:
        """Where the stream stands, as tensors and numbers."""
        return {"order": self.order.clone(), "place": self.place, "began": self.began}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved place; call it before the global generator is restored."""
        self.order, self.place, self.began = state["order"], state["place"], state["began"]
        if self.x is None and not callable(self.source) and self.place:
            torch.set_rng_state(self.began)
            self.running = iter(self.source)
            for _ in range(self.place):
                next(self.running)

    def _rows(self, x: Tensor, generator: torch.Generator, step: int) -> Batch:
        if self.place + self.batch_size > len(self.order):
            self.order = torch.randperm(len(x), generator=generator, device=generator.device).cpu()
            self.place = 0
        index = self.order[self.place : self.place + self.batch_size].to(x.device)
        self.place += self.batch_size
        labels = None if self.labels is None else self.labels.to(x.device)[index]
        return Batch(x[index], labels, index, step)

    def _next(self, step: int) -> Batch:
        for _ in range(2):
            if self.running is None:
                self.began, self.place = torch.get_rng_state(), 0
                self.running = iter(self.source)
            item = next(self.running, None)
            if item is not None:
                self.place += 1
                x, labels, *_ = (*item, None) if isinstance(item, tuple | list) else (item, None)
                return Batch(
                    self.model.points(as_tensor(x), "data"),
                    None if labels is None else class_numbers(labels).to(self.model.device),
                    step=step,
                )
            self.running = None
        raise ValueError("the data gave no batches; pass an iterable that can be started again")


def as_pair(source: Any) -> tuple[Any, Any]:
    """Points and labels, where the data are arrays or a pair of them; else what came, and None."""
    pair = isinstance(source, tuple | list) and len(source) == 2
    if pair and all(_is_array(part) for part in source):
        return as_tensor(source[0]), as_tensor(source[1])
    return (as_tensor(source) if _is_array(source) else source), None


def as_tensor(x: Any) -> Tensor:
    """Points as a tensor: of a tensor, an array or a table."""
    if isinstance(x, Tensor):
        return x
    if not _is_array(x):
        raise TypeError(
            f"points must be a tensor or an array (n, …), got {type(x).__name__}; "
            "torch.tensor(...) makes one of a list"
        )
    return torch.as_tensor(np.require(x, requirements="W"))


def _is_array(x: Any) -> bool:
    return isinstance(x, Tensor) or (hasattr(x, "__array__") and not callable(x))


def _on_cpu(generator: torch.Generator) -> torch.Generator:
    """A CPU generator seeded by the next draw of one on another device."""
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))
