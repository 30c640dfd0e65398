"""Intervals for any estimator: influence functions, jackknife, bootstrap, subsampling."""

from probmetrics._interval import Interval
from probmetrics.uncertainty.estimate import estimate
from probmetrics.uncertainty.methods import Bootstrap, Influence, Jackknife, Subsampling

__all__ = ["Bootstrap", "Influence", "Interval", "Jackknife", "Subsampling", "estimate"]
