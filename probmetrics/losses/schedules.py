"""Weights that change with the step: annealing of β and of other terms."""

from dataclasses import dataclass

from probmetrics import _checks as checks


@dataclass(frozen=True)
class LinearSchedule:
    """From ``start`` to ``end`` in a straight line over ``steps``, after ``delay`` steps.

    Example:
        >>> warm = LinearSchedule(0.0, 1.0, steps=100)
        >>> warm(0), warm(50), warm(1000)
        (0.0, 0.5, 1.0)

    References:
        Bowman et al. (2016), "Generating sentences from a continuous space", section 3.1.
    """

    start: float = 0.0
    end: float = 1.0
    steps: int = 1000
    delay: int = 0

    def __post_init__(self) -> None:
        checks.real(self.start, "start"), checks.real(self.end, "end")
        checks.count(self.steps, "steps"), checks.count(self.delay, "delay", minimum=0)

    def __call__(self, step: int) -> float:
        share = min(max(step - self.delay, 0) / self.steps, 1.0)
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class CyclicSchedule:
    """Repeated ramps from ``start`` to ``end``: each ``period`` rises for a share, then stays.

    Example:
        >>> beta = CyclicSchedule(0.0, 1.0, period=100, rising=0.5)
        >>> beta(25), beta(80), beta(125)
        (0.5, 1.0, 0.5)

    References:
        Fu et al. (2019), "Cyclical annealing schedule", eq. 6.
    """

    start: float = 0.0
    end: float = 1.0
    period: int = 1000
    rising: float = 0.5

    def __post_init__(self) -> None:
        checks.real(self.start, "start"), checks.real(self.end, "end")
        checks.count(self.period, "period")
        if not 0 < checks.real(self.rising, "rising") <= 1:
            raise ValueError(f"rising must lie in (0, 1], got {self.rising}")

    def __call__(self, step: int) -> float:
        share = min((step % self.period) / (self.rising * self.period), 1.0)
        return self.start + (self.end - self.start) * share
