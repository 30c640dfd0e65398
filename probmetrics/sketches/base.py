"""What every sketch does: take rows, merge with another sketch, and give its answer."""

import abc
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import to_tensor


class AbstractSketch(abc.ABC):
    """A state of bounded size that stands for all rows seen.

    ``update`` changes the sketch and returns it; ``merge`` makes a new one. Sketches are pickled
    whole, so that they travel between processes.
    """

    @property
    @abc.abstractmethod
    def n(self) -> int:
        """Rows seen."""

    @abc.abstractmethod
    def update(self, rows: Any) -> Any:
        """Take in rows, shape (n, d)."""

    @abc.abstractmethod
    def merge(self, other: Any) -> Any:
        """The sketch of both samples together."""

    @abc.abstractmethod
    def compute(self) -> Any:
        """The answer."""

    def _alike(self, other: Any, *names: str) -> None:
        """Refuse to merge sketches of other kinds, sizes or seeds."""
        if type(other) is not type(self):
            raise TypeError(f"a {type(self).__name__} merges with its like, got {other!r}")
        for name in names:
            if getattr(self, name) != getattr(other, name):
                raise ValueError(
                    f"sketches with different {name} do not merge: "
                    f"{getattr(self, name)} and {getattr(other, name)}"
                )


def rows_of(values: Any, d: int | None) -> Tensor:
    """Finite rows, shape (n, d), in single or double precision; there may be none."""
    x = to_tensor(values, "rows", floating=True)
    x = x.detach().unsqueeze(-1) if x.ndim == 1 else x.detach()
    if x.ndim != 2 or (d is not None and x.shape[1] != d):
        wanted = "(n, d)" if d is None else f"(n, {d})"
        raise ValueError(f"rows must have shape {wanted}, got {tuple(x.shape)}")
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return checks.finite(x, "rows")


def stream_of(*numbers: int) -> torch.Generator:
    """A source of draws for each tuple of numbers."""
    return torch.Generator().manual_seed(hash(tuple(int(n) for n in numbers)) % 2**63)
