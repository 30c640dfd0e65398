"""Losses: each a number to minimise; networks, optimisers and loops stay the caller's."""

from probmetrics.losses.adversarial import Adversarial, AdversarialLoss
from probmetrics.losses.energy_based import BEGANLoss, EBGANLoss, pulling_away
from probmetrics.losses.latent import (
    AggregatedPosterior,
    free_bits,
    gaussian_kl_terms,
    importance_weighted_bound,
    imq_kernel,
    information_bound,
    reparameterised,
    residual_kl,
)
from probmetrics.losses.likelihood import bernoulli_log_density, gaussian_log_density
from probmetrics.losses.penalties import (
    GradientPenalty,
    clip_weights,
    gradient_penalty,
    spectral_normalise,
)
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
from probmetrics.losses.schedules import CyclicSchedule, LinearSchedule
from probmetrics.losses.showing import pack, with_labels

__all__ = [
    "Adversarial",
    "AdversarialLoss",
    "AggregatedPosterior",
    "BEGANLoss",
    "CyclicSchedule",
    "EBGANLoss",
    "EnergyLoss",
    "FrechetLoss",
    "GradientPenalty",
    "LinearSchedule",
    "MMDLoss",
    "MaxSlicedLoss",
    "SampleLoss",
    "SinkhornLoss",
    "SlicedLoss",
    "Wasserstein1dLoss",
    "WassersteinLoss",
    "bernoulli_log_density",
    "clip_weights",
    "free_bits",
    "gaussian_kl_terms",
    "gaussian_log_density",
    "gradient_penalty",
    "importance_weighted_bound",
    "imq_kernel",
    "information_bound",
    "named_loss",
    "pack",
    "pulling_away",
    "reparameterised",
    "residual_kl",
    "spectral_normalise",
    "with_labels",
]
