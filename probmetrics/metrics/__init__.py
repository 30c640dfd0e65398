"""Evaluating generative models: streaming metrics that merge, with intervals and provenance."""

from probmetrics.metrics.accuracy import ClassifierAccuracy, TwoSampleAccuracy, two_sample_accuracy
from probmetrics.metrics.base import AbstractMetric, Provenance
from probmetrics.metrics.bins import DifferentBins, DifferentBinsMetric, different_bins
from probmetrics.metrics.copying import MIFID, Memorisation
from probmetrics.metrics.distances import EnergyDistance, SinkhornDivergence, SlicedWasserstein
from probmetrics.metrics.diversity import Birthday, BirthdayParadox, ModeCoverage, birthday_support
from probmetrics.metrics.extrapolation import Extrapolation, frechet_infinity
from probmetrics.metrics.frechet import FrechetDistance
from probmetrics.metrics.frontier import Mauve, frontier_area, mauve
from probmetrics.metrics.kernel import (
    CMMD,
    KernelDistance,
    SubsetKernelDistance,
    cmmd,
    kernel_distance,
    kernel_distance_subsets,
)
from probmetrics.metrics.label_scores import InceptionScore
from probmetrics.metrics.memorisation import (
    Duplicates,
    NearestTraining,
    authenticity,
    copying_score,
    duplicates,
    mifid,
    nearest_training,
)
from probmetrics.metrics.parzen import ParzenLogLikelihood, parzen_log_likelihood
from probmetrics.metrics.perclass import PerClassFrechet
from probmetrics.metrics.precision_recall import (
    PrecisionRecall,
    PrecisionRecallDensityCoverage,
    precision_recall,
)
from probmetrics.metrics.scores import (
    LabelSums,
    SplitScore,
    am_score,
    inception_score,
    mode_score,
    modified_inception_score,
)
from probmetrics.metrics.vendi import VendiScore, vendi_score

__all__ = [
    "CMMD",
    "MIFID",
    "AbstractMetric",
    "Birthday",
    "BirthdayParadox",
    "ClassifierAccuracy",
    "DifferentBins",
    "DifferentBinsMetric",
    "Duplicates",
    "EnergyDistance",
    "Extrapolation",
    "FrechetDistance",
    "InceptionScore",
    "KernelDistance",
    "LabelSums",
    "Mauve",
    "Memorisation",
    "ModeCoverage",
    "NearestTraining",
    "ParzenLogLikelihood",
    "PerClassFrechet",
    "PrecisionRecall",
    "PrecisionRecallDensityCoverage",
    "Provenance",
    "SinkhornDivergence",
    "SlicedWasserstein",
    "SplitScore",
    "SubsetKernelDistance",
    "TwoSampleAccuracy",
    "VendiScore",
    "am_score",
    "authenticity",
    "birthday_support",
    "cmmd",
    "copying_score",
    "different_bins",
    "duplicates",
    "frechet_infinity",
    "frontier_area",
    "inception_score",
    "kernel_distance",
    "kernel_distance_subsets",
    "mauve",
    "mifid",
    "mode_score",
    "modified_inception_score",
    "nearest_training",
    "parzen_log_likelihood",
    "precision_recall",
    "two_sample_accuracy",
    "vendi_score",
]
