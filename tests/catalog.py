"""Everything the laws range over: put a new object here and the laws find it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Estimator:
    """A distance between samples, and what it promises; the laws read the promises."""

    name: str
    function: Callable[..., Any]  # (x, y, **options) -> values of the batch shape
    options: dict[str, Any] = field(default_factory=dict)
    weighted: bool = True  # takes a= and b=
    batched: bool = True  # leading dimensions broadcast
    differentiable: bool = True  # in x and y, away from ties
    symmetric: bool = True
    translation: bool = True  # unchanged when both samples move together
    degree: float | None = None  # scaling both samples by c multiplies the value by c**degree
    zero_at_equality: bool = True  # exactly zero between a sample and itself
    minimum: int = 1  # fewest points per sample
    seeded: bool = False  # takes generator=

    def __call__(self, x, y, **more):
        return self.function(x, y, **{**self.options, **more})

    def __repr__(self):
        return self.name


ESTIMATORS: list[Estimator] = []
