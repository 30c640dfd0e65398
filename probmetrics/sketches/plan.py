"""All sketches of one sample together, and the plan that makes those of two samples comparable."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics.pairwise.bandwidth import median_bandwidth
from probmetrics.sketches.base import AbstractSketch, rows_of
from probmetrics.sketches.features import FeatureSketch
from probmetrics.sketches.moments import MomentSketch
from probmetrics.sketches.quantiles import QuantileSketch
from probmetrics.sketches.sample import SampleSketch
from probmetrics.sketches.slices import SliceSketch


@dataclass(frozen=True, eq=False)
class SketchPlan:
    """What both samples are sketched with, fixed by a look at some of their rows.

    Attributes:
        centre: Subtracted from columns for slices and features, shape (d,).
        deviation: What they are divided by, shape (d,).
        bandwidth: Of the Gaussian kernel, on the scaled columns.
        seed: Of everything random.
        capacity: Rows of the sample.
        k: Size of the quantile sketches.
        slices: Directions.
        features: Frequencies.
    """

    centre: Tensor
    deviation: Tensor
    bandwidth: float
    seed: int = 0
    capacity: int = 5000
    k: int = 2048
    slices: int = 32
    features: int = 64

    @classmethod
    def after(cls, x: Any, y: Any, *, scale: bool = True, **options: Any) -> "SketchPlan":
        """The plan after a look at rows of both samples, which sees no labels.

        Args:
            x: Some rows, shape (n, d).
            y: Some rows, shape (m, d).
            scale: Divide columns by their standard deviation among these rows.
            options: ``seed``, ``capacity``, ``k``, ``slices``, ``features``.
        """
        pooled = torch.cat([rows_of(x, None).double(), rows_of(y, None).double()])
        centre, deviation = pooled.mean(0), pooled.std(0, correction=0)
        if not scale:
            deviation = torch.ones_like(deviation)
        deviation = torch.where(deviation > 0, deviation, 1.0)
        bandwidth = float(median_bandwidth((pooled - centre) / deviation))
        return cls(centre, deviation, bandwidth, **options)

    def start(self, stream: int = 0) -> "Sketches":
        """Empty sketches for one part of a sample."""
        return Sketches(self, stream)


class Sketches(AbstractSketch):
    """Moments, quantiles and sample of the rows; slices and features of the scaled rows.

    Args:
        plan: Shared by all parts of both samples.
        stream: Which part this is.
    """

    def __init__(self, plan: SketchPlan, stream: int = 0) -> None:
        d, seed = len(plan.centre), plan.seed
        self.plan, self.stream = plan, stream
        self.moments = MomentSketch(d)
        self.quantiles = QuantileSketch(d, plan.k, seed=seed, stream=stream)
        self.sample = SampleSketch(d, plan.capacity, seed=seed, stream=stream)
        self.slices = SliceSketch(d, plan.slices, plan.k, seed=seed, stream=stream)
        self.features = FeatureSketch(d, plan.bandwidth, plan.features, seed=seed)

    @property
    def n(self) -> int:
        """Rows seen."""
        return self.moments.n

    def update(self, rows: Any) -> "Sketches":
        x = rows_of(rows, len(self.plan.centre))
        scaled = ((x - self.plan.centre.to(x)) / self.plan.deviation.to(x)).float()
        self.moments.update(x)
        self.quantiles.update(x)
        self.sample.update(x)
        self.slices.update(scaled)
        self.features.update(scaled)
        return self

    def merge(self, other: "Sketches") -> "Sketches":
        self._alike(other)
        joined = Sketches(self.plan, min(self.stream, other.stream))
        for name in ("moments", "quantiles", "sample", "slices", "features"):
            setattr(joined, name, getattr(self, name).merge(getattr(other, name)))
        return joined

    def compute(self) -> np.ndarray:
        """The sample's rows."""
        return self.sample.compute().double().numpy()
