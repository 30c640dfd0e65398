"""Quantiles of every column at once, in constant memory: KLL sketches side by side."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.sketches.base import AbstractSketch, rows_of, stream_of

SHRINK = 2.0 / 3.0  # capacity of a level over that of the one above
LEAST = 8  # capacity of the lowest levels


class QuantileSketch(AbstractSketch):
    """About 3k values per column that stand for all rows, with a bound on their ranks.

    Level h holds values that stand for 2^h rows each. A level that is full is sorted and every
    other value, by a coin, moves up: the rank of any number changes by 2^h or not at all, with
    mean zero. With S the sum of 4^h over all such steps, the share of rows below t is off by more
    than √(2 S log(2/δ))/n with probability at most δ (Azuma), and by √S/n in the root mean square.
    S is kept, so ``error`` is a bound for these data and this order. All columns have equally many
    rows and share their levels, so that the work is one sort of a matrix.

    Merging in another tree or order draws other coins: answers differ within twice the bound.

    Args:
        d: Columns.
        k: Values in the top level; the error falls as 1/k.
        seed: Of the coins.
        stream: Which of several parallel streams this is, for independent coins.

    Example:
        >>> sketch = QuantileSketch(1, 256).update(torch.arange(10_000.0))
        >>> bool(abs(sketch.quantile(0.5) - 5000) < 10_000 * sketch.error())
        True

    References:
        Karnin, Lang & Liberty (2016), "Optimal quantile approximation in streams".
    """

    n: int = 0

    def __init__(self, d: int, k: int = 2048, *, seed: int = 0, stream: int = 0) -> None:
        self.d, self.n, self.seed, self.stream = d, 0, seed, stream
        self.k = checks.count(k, "k", minimum=LEAST)
        self.levels: list[Tensor] = []  # (d, m_h)
        self.coins = 0
        self.squares = 0.0  # S
        self.low = torch.full((d,), math.inf, dtype=torch.float64)
        self.high = torch.full((d,), -math.inf, dtype=torch.float64)

    def update(self, rows: Any) -> "QuantileSketch":
        x = rows_of(rows, self.d)
        if not len(x):
            return self
        values = _sorted(x.mT.contiguous().cpu())
        self.low = torch.minimum(self.low, values[:, 0].double())
        self.high = torch.maximum(self.high, values[:, -1].double())
        self.n += len(x)
        self._add(0, values)
        self._compress()
        return self

    def merge(self, other: "QuantileSketch") -> "QuantileSketch":
        self._alike(other, "d", "k", "seed")
        stream = min(self.stream, other.stream)
        joined = type(self)(self.d, self.k, seed=self.seed, stream=stream)
        joined.n, joined.coins = self.n + other.n, self.coins + other.coins
        joined.squares = self.squares + other.squares
        joined.low = torch.minimum(self.low, other.low)
        joined.high = torch.maximum(self.high, other.high)
        for sketch in (self, other):
            for level, values in enumerate(sketch.levels):
                joined._add(level, values)
        joined._compress()
        return joined

    def compute(self) -> tuple[Tensor, Tensor]:
        """Values, ascending, and the shares of rows they stand for, both of shape (d, M)."""
        if not self.n:
            raise ValueError("the sketch has seen no rows")
        values = torch.cat([level.double() for level in self.levels], dim=-1)
        weights = torch.cat(
            [
                torch.full((v.shape[-1],), 2.0**h, dtype=torch.float64)
                for h, v in enumerate(self.levels)
            ]
        )
        values, order = values.sort(dim=-1)
        return values, weights[order] / self.n

    def quantile(self, q: Any) -> Tensor:
        """The smallest kept value with at least a share q of the rows up to it, shape (d, …)."""
        values, shares = self.compute()
        q = torch.as_tensor(q, dtype=torch.float64)
        if bool(((q < 0) | (q > 1)).any()):
            raise ValueError(f"quantiles lie between 0 and 1, got {q.tolist()}")
        wanted = q.reshape(-1).expand(self.d, -1).contiguous()
        place = torch.searchsorted(shares.cumsum(-1), wanted - 1e-12).clamp(
            max=values.shape[-1] - 1
        )
        found = values.gather(-1, place)
        found = torch.where(wanted <= 0, self.low.unsqueeze(-1), found)
        found = torch.where(wanted >= 1, self.high.unsqueeze(-1), found)
        return found.reshape(self.d, *q.shape)

    def below(self, t: Any) -> Tensor:
        """The share of rows up to t in each column, shape (d, …)."""
        values, shares = self.compute()
        t = torch.as_tensor(t, dtype=torch.float64)
        at = t.reshape(-1).expand(self.d, -1).contiguous()
        place = torch.searchsorted(values, at, right=True)
        sums = torch.cat([torch.zeros(self.d, 1, dtype=torch.float64), shares.cumsum(-1)], dim=-1)
        return sums.gather(-1, place).reshape(self.d, *t.shape)

    def error(self, delta: float = 0.05, *, everywhere: bool = False) -> float:
        """Bound of the error of a share (or quantile level), with probability 1 − delta.

        Args:
            delta: Probability of a larger error, in one column.
            everywhere: For all t together: a union over √-many of them, and the gaps between.
        """
        delta = checks.between(delta, "delta", 0.0, 1.0)
        if not self.squares:
            return 0.0
        points = max(1, math.ceil(self.n / math.sqrt(self.squares))) if everywhere else 1
        bound = math.sqrt(2.0 * self.squares * math.log(2.0 * points / delta)) / self.n
        return bound + (1.0 / points if everywhere else 0.0)

    @property
    def typical_error(self) -> float:
        """Bound of the root mean square error of a share, √S/n."""
        return math.sqrt(self.squares) / max(1, self.n)

    def wasserstein(self, other: "QuantileSketch", p: float = 1.0) -> Tensor:
        """W_p between the columns of two samples, shape (d,).

        For p = 1 it is the integral of |F − G|, so its mean error is at most the range of the
        values times the sum of both ``typical_error``.
        """
        from probmetrics.transport.line import wasserstein_1d

        self._alike(other, "d")
        (x, a), (y, b) = self.compute(), other.compute()
        found: Tensor = wasserstein_1d(x, y, p=p, a=a, b=b)
        return found

    def kolmogorov(self, other: "QuantileSketch") -> Tensor:
        """The largest difference of the shares below any number, shape (d,).

        Within both ``error(everywhere=True)`` of the Kolmogorov–Smirnov distance.
        """
        self._alike(other, "d")
        (x, a), (y, b) = self.compute(), other.compute()
        values, order = torch.cat([x, y], dim=-1).sort(dim=-1, stable=True)
        gaps = torch.cat([a, -b], dim=-1).gather(-1, order).cumsum(-1).abs()
        last = torch.ones_like(values, dtype=torch.bool)  # of equal values the last one counts
        last[:, :-1] = values[:, 1:] != values[:, :-1]
        return torch.where(last, gaps, 0.0).amax(-1)

    def _add(self, level: int, values: Tensor) -> None:
        while len(self.levels) <= level:
            self.levels.append(values.new_empty(self.d, 0))
        kind = torch.promote_types(self.levels[level].dtype, values.dtype)
        self.levels[level] = torch.cat([self.levels[level].to(kind), values.to(kind)], dim=-1)

    def _compress(self) -> None:
        """Halve full levels, from below, until all fit."""
        full = True
        while full:
            full = False
            for h in range(len(self.levels)):
                room = max(LEAST, math.ceil(self.k * SHRINK ** (len(self.levels) - 1 - h)))
                if self.levels[h].shape[-1] > room:
                    self._halve(h)
                    full = True

    def _halve(self, h: int) -> None:
        values = _sorted(self.levels[h])
        even = values.shape[-1] // 2 * 2
        source = stream_of(self.seed, self.stream, self.coins, self.n)
        coin = torch.randint(2, (self.d, 1, 1), generator=source)
        pairs = values[:, :even].unflatten(-1, (-1, 2))
        kept = pairs.gather(-1, coin.expand(-1, even // 2, 1)).squeeze(-1)
        self.levels[h] = values[:, even:].clone()  # the odd one out stays
        self.coins += 1
        self.squares += 4.0**h
        self._add(h + 1, kept)


def _sorted(values: Tensor) -> Tensor:
    """Rows in ascending order; NumPy's sort is the faster one on a CPU."""
    return torch.from_numpy(np.sort(values.numpy(), axis=-1))
