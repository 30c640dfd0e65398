"""One distance of a report: its value, its interval and its noise floor."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics._arrays import to_numpy
from probmetrics._interval import normal_interval
from probmetrics.report.floor import NoiseFloor, noise_floor
from probmetrics.report.inputs import Pair, Side
from probmetrics.report.metrics import Distance, Metric


@dataclass(frozen=True, eq=False)
class Measurement:
    """A distance between the samples, and how sure it is.

    Attributes:
        metric: Which distance.
        value: Between the samples; as estimated, not clipped.
        interval: ``Interval`` of the distance between the distributions; None where it could not
            be had (the notes say why).
        floor: What the distance reads between random halves of A; None for samples too small.
        sizes: How many points of A and B it saw.
        notes: What the reader should know.
        detail: What an extrapolation rests on, ``metrics.Extrapolation``.
    """

    metric: Metric
    value: float
    interval: Any
    floor: NoiseFloor | None
    sizes: tuple[int, int]
    notes: tuple[str, ...]
    detail: Any = None


def measure(metric: Metric, pair: Pair, *, level: float, seed: int) -> Measurement:
    """A distance with its interval and noise floor.

    Args:
        metric: Which distance.
        pair: The samples.
        level: Confidence level of the interval.
        seed: Of subsamples, directions, resampling and halves.
    """
    short = [s for s in pair.sides if len(s.data) < metric.minimum]
    if short:
        raise ValueError(
            f"{metric.name} needs at least {metric.minimum} points and {short[0].name} has "
            f"{len(short[0].data)}"
        )
    x, y = (v.squeeze(-1) if metric.line else v for v in (pair.x, pair.y))
    generator = torch.Generator().manual_seed(seed)
    distance = metric.bind(x, y, seed)
    notes: list[str] = []
    fewer_x, fewer_y = (
        _limited(metric, side, values, generator, notes)
        for side, values in zip(pair.sides, (x, y), strict=True)
    )
    detail = None
    if metric.detail is not None:
        detail = metric.detail(fewer_x, fewer_y, seed)
        value, interval = _extrapolated(detail, fewer_x, fewer_y, level, notes)
    else:
        value = float(distance(fewer_x, fewer_y))
        method = metric.method() if callable(metric.method) else metric.method
        interval = _interval(distance, fewer_x, fewer_y, level, seed, notes, method)
    floor = noise_floor(
        distance, x, y, minimum=metric.minimum, limit=metric.limit, generator=generator
    )
    if floor is None:
        notes.append(f"{pair.first.name} has too few points to be halved: no noise floor")
    sizes = (len(fewer_x), len(fewer_y))
    return Measurement(metric, value, interval, floor, sizes, tuple(notes), detail)


def _extrapolated(
    fit: Any, x: Tensor, y: Tensor, level: float, notes: list[str]
) -> tuple[float, Any]:
    """A value that is extrapolated, and its interval from the error of doing so."""
    interval = normal_interval(fit.value, fit.standard_error, method="extrapolation", level=level)
    if min(len(x), len(y)) // 4 < x.shape[-1]:
        notes.append("quarters of the samples have fewer rows than columns: read it with care")
    return float(fit.value), to_numpy(interval)


def _limited(
    metric: Metric, side: Side, values: Tensor, generator: torch.Generator, notes: list[str]
) -> Tensor:
    """The points of a side, or as many as the metric can take."""
    if metric.limit is None or len(values) <= metric.limit:
        return values
    order = torch.randperm(len(values), generator=generator)[: metric.limit]
    notes.append(f"on {metric.limit:,} of {len(values):,} points of {side.name}, at random")
    return values[order.sort().values]


def _interval(
    distance: Distance,
    x: Tensor,
    y: Tensor,
    level: float,
    seed: int,
    notes: list[str],
    method: Any = "auto",
) -> Any:
    """The interval, or None with a note. One seed gives it the directions the value has."""
    from probmetrics.uncertainty import estimate

    if bool((x == x[:1]).all()) or bool((y == y[:1]).all()):
        notes.append("no interval: a sample whose points are all equal does not show its spread")
        return None
    try:
        return to_numpy(estimate(distance, x, y, level=level, method=method, generator=seed))
    except ValueError as error:  # too few points to say
        notes.append(f"no interval: {error}")
        return None
