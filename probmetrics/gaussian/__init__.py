"""Gaussians: mergeable moments, and every distance between normal laws that has a closed form."""

from probmetrics.gaussian.entropic import gaussian_sinkhorn, gaussian_sinkhorn_divergence
from probmetrics.gaussian.frechet import bures_distance, frechet_distance, gaussian_frechet
from probmetrics.gaussian.moments import Moments
from probmetrics.gaussian.transport import (
    AffineMap,
    BuresBarycenter,
    bures_barycenter,
    gaussian_transport_map,
)

__all__ = [
    "AffineMap",
    "BuresBarycenter",
    "Moments",
    "bures_barycenter",
    "bures_distance",
    "frechet_distance",
    "gaussian_frechet",
    "gaussian_sinkhorn",
    "gaussian_sinkhorn_divergence",
    "gaussian_transport_map",
]
