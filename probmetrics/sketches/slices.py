"""Quantiles along random directions: the sliced Wasserstein distance of samples out of memory."""

from typing import Any

import torch

from probmetrics import _checks as checks
from probmetrics.sketches.base import AbstractSketch, rows_of, stream_of
from probmetrics.sketches.quantiles import QuantileSketch


class SliceSketch(AbstractSketch):
    """A ``QuantileSketch`` of the rows' projections on random unit vectors.

    Args:
        d: Columns.
        slices: Directions.
        k: As for ``QuantileSketch``, whose bounds hold along each direction.
        seed: Of directions and coins; sketches to be merged or compared share it.
        stream: Which of several parallel streams this is.

    Example:
        >>> x, y = (SliceSketch(2).update(torch.zeros(5, 2) + shift) for shift in (0.0, 1.0))
        >>> 0.5 < x.wasserstein(y) < 1.5
        True

    References:
        Bonneel et al. (2015), "Sliced and Radon Wasserstein barycenters of measures".
    """

    def __init__(
        self, d: int, slices: int = 64, k: int = 512, *, seed: int = 0, stream: int = 0
    ) -> None:
        self.d, self.k, self.seed, self.stream = d, k, seed, stream
        self.slices = checks.count(slices, "slices")
        drawn = torch.randn(d, slices, generator=stream_of(seed, d, slices), dtype=torch.float64)
        self.directions = drawn / drawn.norm(dim=0)
        self.quantiles = QuantileSketch(slices, k, seed=seed, stream=stream)

    @property
    def n(self) -> int:
        """Rows seen."""
        return self.quantiles.n

    def update(self, rows: Any) -> "SliceSketch":
        x = rows_of(rows, self.d)
        self.quantiles.update(x @ self.directions.to(x))
        return self

    def merge(self, other: "SliceSketch") -> "SliceSketch":
        self._alike(other, "d", "slices", "k", "seed")
        stream = min(self.stream, other.stream)
        joined = type(self)(self.d, self.slices, self.k, seed=self.seed, stream=stream)
        joined.quantiles = self.quantiles.merge(other.quantiles)
        return joined

    def compute(self) -> QuantileSketch:
        """The sketch of the projections, one column per direction."""
        return self.quantiles

    def wasserstein(self, other: "SliceSketch", p: float = 2.0) -> float:
        """Sliced W_p: the p-th mean of the directions' W_p."""
        self._alike(other, "d", "slices", "seed")
        per_slice = self.quantiles.wasserstein(other.quantiles, p)
        return float(per_slice.pow(p).mean() ** (1 / p))
