"""Gaussians: mergeable moments, and every distance between normal laws that has a closed form."""

from probmetrics.gaussian.distances import (
    gaussian_energy_distance,
    gaussian_mmd,
    gaussian_total_variation,
    gaussian_wasserstein,
)
from probmetrics.gaussian.divergences import (
    gaussian_bhattacharyya,
    gaussian_chi2,
    gaussian_hellinger,
    gaussian_kl,
    gaussian_renyi,
)
from probmetrics.gaussian.entropic import gaussian_sinkhorn, gaussian_sinkhorn_divergence
from probmetrics.gaussian.frechet import bures_distance, frechet_distance, gaussian_frechet
from probmetrics.gaussian.law import Gaussian
from probmetrics.gaussian.mixtures import (
    mixture_kl_product,
    mixture_kl_upper,
    mixture_kl_variational,
)
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
    "Gaussian",
    "Moments",
    "bures_barycenter",
    "bures_distance",
    "frechet_distance",
    "gaussian_bhattacharyya",
    "gaussian_chi2",
    "gaussian_energy_distance",
    "gaussian_frechet",
    "gaussian_hellinger",
    "gaussian_kl",
    "gaussian_mmd",
    "gaussian_renyi",
    "gaussian_sinkhorn",
    "gaussian_sinkhorn_divergence",
    "gaussian_total_variation",
    "gaussian_transport_map",
    "gaussian_wasserstein",
    "mixture_kl_product",
    "mixture_kl_upper",
    "mixture_kl_variational",
]
