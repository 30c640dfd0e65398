"""Mean embeddings in random features: MMD between samples that are never in one place."""

import math
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.sketches.base import AbstractSketch, rows_of, stream_of


class FeatureSketch(AbstractSketch):
    """The mean of F random Fourier features of the rows, for a Gaussian kernel.

    With ω₁, …, ω_F from N(0, I/bandwidth²), k(x, y) is the mean of cos ωᵀ(x − y), so the squared
    MMD (V-statistic) is the mean over ω of |φ_x(ω) − φ_y(ω)|², φ the empirical characteristic
    functions. Each term lies in [0, 4], whence Hoeffding's bound of ``error``; rows add no error.

    Args:
        d: Columns.
        bandwidth: Of the Gaussian kernel exp(−‖x − y‖²/(2 bandwidth²)).
        features: F; memory 2F numbers.
        seed: Of the frequencies; sketches to be merged or compared share it.

    Example:
        >>> rows = torch.zeros(10, 2)
        >>> x, y = FeatureSketch(2, 1.0).update(rows), FeatureSketch(2, 1.0).update(rows + 9)
        >>> x.mmd(x), abs(x.mmd(y) - 2) < x.error()
        (0.0, True)

    References:
        Rahimi & Recht (2007), "Random features for large-scale kernel machines"; Zhao & Meng
        (2015), "FastMMD", eq. 8.
    """

    n: int = 0

    def __init__(self, d: int, bandwidth: float, features: int = 512, *, seed: int = 0) -> None:
        self.d, self.n, self.seed = d, 0, seed
        self.bandwidth = checks.positive(bandwidth, "bandwidth")
        self.features = checks.count(features, "features")
        drawn = torch.randn(d, features, generator=stream_of(seed, d), dtype=torch.float64)
        self.frequencies = drawn / self.bandwidth
        self.sums = torch.zeros(2, features, dtype=torch.float64)

    def update(self, rows: Any) -> "FeatureSketch":
        x = rows_of(rows, self.d)
        for part in x.split(2**16):
            angles = part @ self.frequencies.to(part)
            self.sums += torch.stack(
                [f(angles).sum(0, dtype=torch.float64) for f in (torch.cos, torch.sin)]
            )
        self.n += len(x)
        return self

    def merge(self, other: "FeatureSketch") -> "FeatureSketch":
        self._alike(other, "d", "bandwidth", "features", "seed")
        joined = type(self)(self.d, self.bandwidth, self.features, seed=self.seed)
        joined.sums, joined.n = self.sums + other.sums, self.n + other.n
        return joined

    def compute(self) -> Tensor:
        """The empirical characteristic function, real and imaginary part, shape (2, F)."""
        return self.sums / max(1, self.n)

    def mmd(self, other: "FeatureSketch") -> float:
        """Squared MMD to another sample (V-statistic), within ``error`` of the kernel's."""
        return float(self._terms(other).mean())

    def standard_error(self, other: "FeatureSketch") -> float:
        """Standard error of ``mmd`` from the draw of the frequencies."""
        return float(self._terms(other).std() / math.sqrt(self.features))

    def error(self, delta: float = 0.05) -> float:
        """Bound of |mmd − MMD²| that holds with probability 1 − delta, whatever the samples."""
        delta = checks.between(delta, "delta", 0.0, 1.0)
        return 4.0 * math.sqrt(math.log(2.0 / delta) / (2.0 * self.features))

    def _terms(self, other: "FeatureSketch") -> Tensor:
        self._alike(other, "d", "bandwidth", "features", "seed")
        if not self.n or not other.n:
            raise ValueError("an empty sketch has no distance")
        return (self.compute() - other.compute()).square().sum(0)
