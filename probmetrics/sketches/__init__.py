"""Sketches: small states of large samples that any engine's tree reduction can merge."""

from probmetrics.sketches.features import FeatureSketch
from probmetrics.sketches.moments import MomentSketch
from probmetrics.sketches.quantiles import QuantileSketch
from probmetrics.sketches.sample import SampleSketch
from probmetrics.sketches.slices import SliceSketch

__all__ = ["FeatureSketch", "MomentSketch", "QuantileSketch", "SampleSketch", "SliceSketch"]
