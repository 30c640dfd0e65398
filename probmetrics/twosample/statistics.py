"""Test statistics: prepare the pooled sample once, then evaluate many labelings of it."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

BUDGET = 2**28  # bytes of labels evaluated at once


class AbstractPrepared(abc.ABC):
    """A statistic bound to one pooled sample.

    Attributes:
        tolerance: Values closer than this, relative to the statistic's scale, count as ties: they
            differ by rounding only.
        floor: Absolute rounding error of a value that would be zero.
        batch: How many labelings it likes to evaluate at once.
    """

    tolerance: float
    floor: float = 0.0
    batch: int

    @abc.abstractmethod
    def evaluate(self, labels: Tensor) -> Tensor:
        """The statistic of each labeling.

        Args:
            labels: Group number of each pooled point, shape (B, N), ``uint8``.

        Returns:
            Values, shape (B,), ``float64``; a family of statistics answers (B, K).
        """

    def effect(self, labels: Tensor) -> float | None:
        """How different the groups of one labeling, shape (N,), are; None without a measure."""
        return None

    def details(self, labels: Tensor) -> dict[str, Any]:
        """What else a reader wants to know of the observed labeling, by name."""
        return {}


class AbstractStatistic(abc.ABC):
    """A number that is large where samples differ, as a function of the labels of pooled points.

    To add a test, write a statistic and hand it to ``permutation.calibrate``: what does not
    depend on the labels goes into ``prepare`` and is paid once; ``evaluate`` of what it returns
    is paid for every labeling and should treat many at once.
    """

    @abc.abstractmethod
    def prepare(self, z: Any, sizes: tuple[int, ...]) -> AbstractPrepared:
        """Bind the statistic to a pooled sample.

        Args:
            z: Pooled points, shape (N, d).
            sizes: Points of group 0, 1, …
        """


@dataclass(frozen=True)
class FunctionStatistic(AbstractStatistic):
    """Any function of two samples, ``function(x, y) -> number``, evaluated once per labeling.

    Attributes:
        function: Gets both samples as slices of the pooled one, in its own array kind.
        paired: Keep pair i at position i of both samples.
    """

    function: Callable[[Any, Any], Any]
    paired: bool = False

    def prepare(self, z: Any, sizes: tuple[int, ...]) -> AbstractPrepared:
        """Bind to a pooled array or tensor with points along the first axis."""
        return _PreparedFunction(self.function, z, self.paired)


class _PreparedFunction(AbstractPrepared):
    batch = 1024

    def __init__(self, function: Callable[[Any, Any], Any], z: Any, paired: bool) -> None:
        self.function, self.z, self.paired = function, z, paired
        single = str(z.dtype).endswith("float32")
        self.tolerance = 100 * float(np.finfo(np.float32 if single else np.float64).eps)

    def evaluate(self, labels: Tensor) -> Tensor:
        values = [self._one(row) for row in labels.cpu()]
        return torch.tensor(values, dtype=torch.float64)

    def _one(self, labels: Tensor) -> float:
        first, second = (labels == 0).nonzero()[:, 0], (labels == 1).nonzero()[:, 0]
        if self.paired:  # position i of both samples holds pair i, whichever way it was swapped
            half = len(labels) // 2
            first, second = (part[(part % half).argsort()] for part in (first, second))
        if not isinstance(self.z, Tensor):
            return as_number(self.function(self.z[first.numpy()], self.z[second.numpy()]))
        device = self.z.device
        return as_number(self.function(self.z[first.to(device)], self.z[second.to(device)]))


def as_number(value: Any) -> float:
    """What a user's function returned, as a float; NaN and arrays are refused."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the statistic must return one number, got {type(value).__name__}; "
            "return e.g. result.statistic"
        ) from error
    if number != number:
        raise ValueError(
            "the statistic returned NaN for a labeling of these samples; "
            "make it return a number for every split of the pooled points"
        )
    return number
