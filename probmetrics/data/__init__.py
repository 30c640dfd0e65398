"""Samples to compare: readers for files and folders, embedded sets, toys with known answers."""

from probmetrics.data.baseline import gaussian_sampler as gaussian_sampler
from probmetrics.data.binary import read_statistics as read_statistics
from probmetrics.data.dataset import DataError as DataError
from probmetrics.data.dataset import Dataset as Dataset
from probmetrics.data.embedded import read_embedded as read_embedded
from probmetrics.data.families import FAMILIES as FAMILIES
from probmetrics.data.families import Blob as Blob
from probmetrics.data.families import FourModes as FourModes
from probmetrics.data.families import HighDimensionalMixture as HighDimensionalMixture
from probmetrics.data.families import PerturbedUniform as PerturbedUniform
from probmetrics.data.images import ImageFiles as ImageFiles
from probmetrics.data.images import open_images as open_images
from probmetrics.data.pairs import AbstractTwoSampleFamily as AbstractTwoSampleFamily
from probmetrics.data.pairs import Correlation as Correlation
from probmetrics.data.pairs import EqualMomentBimodal as EqualMomentBimodal
from probmetrics.data.pairs import MeanShift as MeanShift
from probmetrics.data.pairs import PublishedPower as PublishedPower
from probmetrics.data.pairs import Scale as Scale
from probmetrics.data.readers import read as read
from probmetrics.data.toys import TOYS as TOYS
from probmetrics.data.toys import GaussianMixture as GaussianMixture
from probmetrics.data.toys import Moons as Moons
from probmetrics.data.toys import equal_mixture as equal_mixture
from probmetrics.data.toys import fgan_mixture as fgan_mixture
from probmetrics.data.toys import grid_of_gaussians as grid_of_gaussians
from probmetrics.data.toys import high_quality_share as high_quality_share
from probmetrics.data.toys import modes_covered as modes_covered
from probmetrics.data.toys import ring_of_gaussians as ring_of_gaussians
from probmetrics.data.toys import two_gaussians as two_gaussians

__all__ = [
    "FAMILIES",
    "TOYS",
    "AbstractTwoSampleFamily",
    "Blob",
    "Correlation",
    "DataError",
    "Dataset",
    "EqualMomentBimodal",
    "FourModes",
    "GaussianMixture",
    "HighDimensionalMixture",
    "ImageFiles",
    "MeanShift",
    "Moons",
    "PerturbedUniform",
    "PublishedPower",
    "Scale",
    "equal_mixture",
    "fgan_mixture",
    "gaussian_sampler",
    "grid_of_gaussians",
    "high_quality_share",
    "modes_covered",
    "open_images",
    "read",
    "read_embedded",
    "read_statistics",
    "ring_of_gaussians",
    "two_gaussians",
]
