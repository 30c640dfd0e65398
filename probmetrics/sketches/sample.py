"""A uniform sample of the rows seen, for whatever needs rows."""

from typing import Any

import torch
from torch import Tensor

from probmetrics.metrics.accumulators import Reservoir, State
from probmetrics.sketches.base import AbstractSketch, rows_of


class SampleSketch(AbstractSketch):
    """``capacity`` of the rows seen, drawn uniformly without replacement.

    Each row's key is a function of the seed, the stream and the row's place in it, and the rows
    with the smallest keys stay. Merging is therefore exactly associative and commutative, and a
    part that is computed twice gives the same rows. What rests on the sample has the error of a
    random sample: the share of rows in any set is within √(log(2/δ)/(2 · capacity)) of the truth
    with probability 1 − δ (Hoeffding; Serfling without replacement is sharper).

    Args:
        d: Columns.
        capacity: Rows to keep.
        seed: Of the keys.
        stream: Which of several parallel streams this is; different parts need different ones.

    Example:
        >>> len(SampleSketch(1, 10).update(torch.arange(100.0)).compute())
        10
    """

    n: int = 0

    def __init__(self, d: int, capacity: int = 5000, *, seed: int = 0, stream: int = 0) -> None:
        self.d, self.capacity, self.seed, self.stream, self.n = d, capacity, seed, stream, 0
        self.reservoir = Reservoir(capacity, seed)
        self.state: State = {"rows": [], "keys": []}

    def update(self, rows: Any) -> "SampleSketch":
        x = rows_of(rows, self.d)
        self.state = self.reservoir.add(self.state, x, self.n, self.stream)
        self.n += len(x)
        return self

    def merge(self, other: "SampleSketch") -> "SampleSketch":
        self._alike(other, "d", "capacity", "seed")
        stream = min(self.stream, other.stream)
        joined = type(self)(self.d, self.capacity, seed=self.seed, stream=stream)
        both = {name: self.state[name] + other.state[name] for name in self.state}
        joined.state, joined.n = self.reservoir.compact(both), self.n + other.n
        return joined

    def compute(self) -> Tensor:
        """The rows, in the order of their keys."""
        kept = self.reservoir.compact(self.state)["rows"]
        return kept[0] if kept else torch.empty(0, self.d)
