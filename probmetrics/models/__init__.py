"""Generative models built from the losses, and one loop that trains them all."""

from probmetrics.models.aae import AAE, SemiSupervisedAAE, SupervisedAAE
from probmetrics.models.autoencoders import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
)
from probmetrics.models.base import (
    AbstractGenerativeModel,
    AbstractLatentModel,
    AbstractModel,
    Batch,
    Objective,
)
from probmetrics.models.baselines import GaussianModel, MixtureModel
from probmetrics.models.catalog import create
from probmetrics.models.energy_gan import BEGAN, EBGAN
from probmetrics.models.fitting import fit
from probmetrics.models.flows import CouplingFlow
from probmetrics.models.gan import GAN, ConditionalGAN
from probmetrics.models.glo import GLO
from probmetrics.models.gmmn import GMMN, MMDGAN, CodeGMMN, SinkhornGenerator
from probmetrics.models.history import History, TrainingDivergedError
from probmetrics.models.implicit import ConditionalModel, ImplicitModel
from probmetrics.models.infogan import InfoGAN
from probmetrics.models.io import load, save
from probmetrics.models.likelihoods import BernoulliLikelihood, GaussianLikelihood
from probmetrics.models.posteriors import InverseAutoregressiveFlow, PlanarFlow
from probmetrics.models.vae import IWAE, VAE
from probmetrics.models.vae_labels import SemiSupervisedVAE
from probmetrics.models.vae_levels import HierarchicalVAE
from probmetrics.models.wae import WAE

__all__ = [
    "AAE",
    "BEGAN",
    "EBGAN",
    "GAN",
    "GLO",
    "GMMN",
    "IWAE",
    "MMDGAN",
    "VAE",
    "WAE",
    "AbstractGenerativeModel",
    "AbstractLatentModel",
    "AbstractModel",
    "Autoencoder",
    "Batch",
    "BernoulliLikelihood",
    "CodeGMMN",
    "ConditionalGAN",
    "ConditionalModel",
    "ContractiveAutoencoder",
    "CouplingFlow",
    "DenoisingAutoencoder",
    "GaussianLikelihood",
    "GaussianModel",
    "HierarchicalVAE",
    "History",
    "ImplicitModel",
    "InfoGAN",
    "InverseAutoregressiveFlow",
    "MixtureModel",
    "Objective",
    "PlanarFlow",
    "SemiSupervisedAAE",
    "SemiSupervisedVAE",
    "SinkhornGenerator",
    "SparseAutoencoder",
    "SupervisedAAE",
    "TrainingDivergedError",
    "create",
    "fit",
    "load",
    "save",
]
