"""Mean and covariance of all rows seen, exactly."""

from typing import Any

from probmetrics.gaussian import Moments
from probmetrics.sketches.base import AbstractSketch, rows_of


class MomentSketch(AbstractSketch):
    """Moments in d² numbers, without error but for rounding (of order n ε, in float64).

    Args:
        d: Columns.

    Example:
        >>> state = MomentSketch(1).update([[0.0], [2.0]]).merge(MomentSketch(1).update([[4.0]]))
        >>> state.compute().mean
        tensor([2.], dtype=torch.float64)
    """

    n: int = 0

    def __init__(self, d: int) -> None:
        self.d, self.n = d, 0
        self.moments = Moments.zero(d)

    def update(self, rows: Any) -> "MomentSketch":
        x = rows_of(rows, self.d)
        if len(x):
            self.moments = self.moments.merge(Moments.of(x.double()))
            self.n += len(x)
        return self

    def merge(self, other: "MomentSketch") -> "MomentSketch":
        self._alike(other, "d")
        joined = type(self)(self.d)
        joined.moments, joined.n = self.moments.merge(other.moments), self.n + other.n
        return joined

    def compute(self) -> Moments:
        """The moments."""
        return self.moments
