"""Distances between samples as streaming metrics on features: sliced, Sinkhorn, energy."""

from typing import Any

from probmetrics import _checks as checks
from probmetrics.discrepancy import energy_distance
from probmetrics.metrics.base import Encoder
from probmetrics.metrics.samples import AbstractSampleMetric
from probmetrics.transport.sinkhorn import sinkhorn_divergence
from probmetrics.transport.sliced import sliced_wasserstein


class EnergyDistance(AbstractSampleMetric):
    """Energy distance 2 E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖ between features.

    Args:
        encoder: See ``AbstractMetric``.
        power: Of the norm.
        unbiased: U-statistic.
        capacity: Most rows kept a side; None keeps all.
        seed: Of the rows kept.
        **options: For ``torchmetrics.Metric``.

    Example:
        >>> metric = EnergyDistance()
        >>> metric.update(real=[[0.0], [0.0]], fake=[[3.0], [3.0]])
        >>> float(metric.compute())
        6.0
    """

    higher_is_better = False
    options = ("power", "unbiased", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        power: float = 1.0,
        unbiased: bool = False,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.power = checks.between(power, "power", 0.0, 2.0)
        self.unbiased = bool(unbiased)
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        options = {"power": self.power, "unbiased": self.unbiased}
        return energy_distance, (self.rows("real"), self.rows("fake")), options


class SlicedWasserstein(AbstractSampleMetric):
    """Sliced Wasserstein distance between features.

    Args:
        encoder: See ``AbstractMetric``.
        p: Order.
        projections: How many directions.
        root: The distance itself; False its p-th power.
        capacity: Most rows kept a side; None keeps all.
        seed: Of the directions and of the rows kept.
        **options: For ``torchmetrics.Metric``.
    """

    higher_is_better = False
    minimum = 2
    options = ("p", "projections", "root", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        p: float = 2.0,
        projections: int = 128,
        root: bool = True,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.p = checks.order(p)
        self.projections = checks.count(projections, "projections")
        self.root = bool(root)
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        options = {"p": self.p, "projections": self.projections, "root": self.root}
        rows = self.rows("real"), self.rows("fake")
        return sliced_wasserstein, rows, {**options, "generator": self.seed}

    def estimate(self, level: float, generator: Any) -> Any:
        """The interval, directions included, from one seed."""
        from probmetrics.uncertainty import estimate

        estimator, rows, options = self.measured()
        del options["generator"]
        return estimate(estimator, *rows, level=level, generator=generator, **options)


class SinkhornDivergence(AbstractSampleMetric):
    """Sinkhorn divergence between features: debiased entropic transport cost.

    Args:
        encoder: See ``AbstractMetric``.
        epsilon: Regularisation in units of the cost; None is 0.05 × the mean cost.
        capacity: Most rows kept a side; None keeps all.
        seed: Of the rows kept.
        **options: For ``torchmetrics.Metric``.
    """

    higher_is_better = False
    minimum = 2
    options = ("epsilon", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        epsilon: float | None = None,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.epsilon = None if epsilon is None else checks.positive(epsilon, "epsilon")
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        rows = self.rows("real"), self.rows("fake")
        return sinkhorn_divergence, rows, {"epsilon": self.epsilon}
