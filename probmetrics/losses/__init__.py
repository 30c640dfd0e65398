"""Losses: each a number to minimise; networks, optimisers and loops stay the caller's."""

from probmetrics.losses.sample_loss import SampleLoss
from probmetrics.losses.samples import (
    EnergyLoss,
    FrechetLoss,
    MaxSlicedLoss,
    MMDLoss,
    SinkhornLoss,
    SlicedLoss,
    Wasserstein1dLoss,
    WassersteinLoss,
    named_loss,
)

__all__ = [
    "EnergyLoss",
    "FrechetLoss",
    "MMDLoss",
    "MaxSlicedLoss",
    "SampleLoss",
    "SinkhornLoss",
    "SlicedLoss",
    "Wasserstein1dLoss",
    "WassersteinLoss",
    "named_loss",
]
