"""Metrics that keep rows (all, or a uniform sample of them) and call an estimator on them."""

import abc
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._interval import Interval
from probmetrics.metrics.accumulators import AbstractAccumulator, Reservoir, Store
from probmetrics.metrics.base import AbstractMetric, Encoder
from probmetrics.uncertainty.estimate import estimate
from probmetrics.uncertainty.methods import AbstractMethod

Values = dict[str, Tensor]


class AbstractSampleMetric(AbstractMetric):
    """Keeps the rows of each side and computes its value from them.

    Args:
        encoder: See ``AbstractMetric``.
        capacity: Most rows to keep of each side, a uniform sample of those seen, in constant
            memory; None keeps all.
        seed: Of the sample and of whatever else is random.
        **options: For ``torchmetrics.Metric``.
    """

    method: str | AbstractMethod = "auto"  # of the interval

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.capacity = None if capacity is None else checks.count(capacity, "capacity")
        self._key_seed = checks.count(seed, "seed", minimum=0)
        super().__init__(encoder=encoder, seed=seed, **options)
        if self.capacity is not None and self.capacity < self.minimum:
            raise ValueError(
                f"capacity must be at least {self.minimum} for {type(self).__name__}, "
                f"got {self.capacity}"
            )

    def accumulators(self) -> dict[str, AbstractAccumulator]:
        if self.capacity is None:
            return {"rows": Store()}
        return {"rows": Reservoir(self.capacity, self._key_seed)}

    @abc.abstractmethod
    def measured(self) -> tuple[Callable[..., Any], tuple[Tensor, ...], dict[str, Any]]:
        """The estimator, its samples (one or two) and its options."""

    def compute(self) -> Tensor | Values:
        """The value, from the rows kept; a dictionary where there are several values."""
        estimator, samples, options = self.measured()
        found: Tensor | Values = as_values(estimator(*samples, **options))
        return found

    def estimate(
        self, level: float, generator: torch.Generator | int
    ) -> Interval | dict[str, Interval]:
        estimator, samples, options = self.measured()
        return intervals(
            estimator, samples, options, method=self.method, level=level, generator=generator
        )


def intervals(
    estimator: Callable[..., Any],
    samples: tuple[Tensor, ...],
    options: dict[str, Any],
    *,
    method: str | AbstractMethod,
    level: float,
    generator: torch.Generator | int,
) -> Interval | dict[str, Interval]:
    """The interval of an estimator of one or two samples with one or several values.

    Several values are estimated together, from the same resamples, each with its own interval.
    """
    named = as_values(estimator(*samples, **options))
    if len(samples) == 1:
        # Two points that no resample changes stand for the second sample.
        fixed = samples[0].new_zeros(2, 1)
        function: Callable[..., Any] = lambda x, y: estimator(x, **options)  # noqa: E731
        samples = (samples[0], fixed)
    elif isinstance(named, Tensor):
        return estimate(
            estimator, *samples, level=level, method=method, generator=generator, **options
        )
    else:
        function = functools.partial(_called, estimator, options)
    if isinstance(named, Tensor):
        return estimate(function, *samples, level=level, method=method, generator=generator)
    stacked = estimate(
        lambda x, y: torch.stack([v.double() for v in as_values(function(x, y)).values()]),
        *samples,
        level=level,
        method=method,
        generator=generator,
    )
    parts = {
        name: {
            key: getattr(stacked, key)[i]
            for key in ("value", "low", "high", "standard_error", "bias")
        }
        for i, name in enumerate(named)
    }
    return {
        name: Interval(method=stacked.method, level=stacked.level, **part)
        for name, part in parts.items()
    }


def as_values(answer: Any) -> Any:
    """An estimator's answer as a tensor, or as a dictionary of tensors for a dataclass."""
    if isinstance(answer, Tensor | dict):
        return answer
    return dict(vars(answer))


def _called(estimator: Callable[..., Any], options: dict[str, Any], x: Tensor, y: Tensor) -> Any:
    return estimator(x, y, **options)
