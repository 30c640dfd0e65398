"""The scores of generative models that a report shows when they are asked for by name."""

import functools
from typing import Any

from torch import Tensor

from probmetrics.report.quality import Distance, Metric


def _sinkhorn(x: Tensor, y: Tensor, seed: int) -> Distance:
    import torch

    from probmetrics.transport.sinkhorn import sinkhorn_divergence

    # 0.05 × the mean squared distance of the pooled sample, the same for all parts
    epsilon = 0.1 * float(torch.cat([x, y]).double().var(0, correction=0).sum())
    return functools.partial(sinkhorn_divergence, epsilon=epsilon if epsilon > 0 else None)


def _mauve(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.metrics import mauve

    return lambda x, y: mauve(x, y, generator=seed)


def _bins(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.metrics import different_bins

    return lambda x, y: different_bins(x, y, generator=seed).share


def _accuracy(classifier: str, x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.metrics import two_sample_accuracy

    options: dict[str, Any] = {"classifier": classifier, "generator": seed}
    return lambda x, y: two_sample_accuracy(x, y, **options).accuracy


def _parzen(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.metrics import parzen_log_likelihood

    return lambda x, y: parzen_log_likelihood(x, y)


def _mifid(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.metrics import mifid

    return lambda x, y: mifid(x, y)


def _resampled() -> Any:
    from probmetrics.uncertainty.methods import Subsampling

    return Subsampling(replicates=20)


FURTHER = (
    Metric(
        "sinkhorn",
        "Sinkhorn divergence",
        "Entropic transport cost less its bias, regularised by a twentieth of the mean squared "
        "distance: between the Wasserstein distance and MMD. In the squared unit of the data.",
        _sinkhorn,
        minimum=2,
        limit=1000,
        method=_resampled,
    ),
    Metric(
        "mauve",
        "MAUVE",
        "Area under the frontier of divergences between the samples sorted into clusters: one for "
        "equal distributions, near zero for ones that do not overlap. Depends on the sample size.",
        _mauve,
        minimum=20,
        limit=1000,
        better="higher",
        method=_resampled,
    ),
    Metric(
        "bins",
        "different bins",
        "Share of the cells of the first sample (k-means) in which the two have different shares "
        "(NDB/K): about 0.05 for equal distributions, high where modes are dropped.",
        _bins,
        minimum=20,
        limit=2000,
        method=_resampled,
    ),
    Metric(
        "one_nn",
        "1-NN accuracy",
        "How often the nearest other point tells which sample a point is from: one half for equal "
        "distributions, one for ones apart, below one half where one copies the other.",
        functools.partial(_accuracy, "1-nn"),
        minimum=5,
        limit=1000,
        method=_resampled,
    ),
    Metric(
        "logistic",
        "logistic accuracy",
        "How often a linear classifier tells, on rows it has not seen, which sample they are "
        "from: one half where the samples cannot be told apart by it.",
        functools.partial(_accuracy, "logistic"),
        minimum=20,
        limit=1000,
        method=_resampled,
    ),
    Metric(
        "parzen",
        "Parzen log-likelihood",
        "Mean log-density, in nats, of the first sample under Gaussian windows around the second. "
        "Beyond a few dimensions it says more about the window than about the model; it is here to "
        "reproduce published numbers.",
        _parzen,
        minimum=2,
        limit=1000,
        better="higher",
        method="jackknife",
    ),
    Metric(
        "mifid",
        "MIFID",
        "The Fréchet distance, divided by the mean cosine distance of the second sample to its "
        "nearest rows of the first where that is below 0.1: near copies of the first sample raise "
        "it. Against the training set it stands under memorisation.",
        _mifid,
        minimum=2,
        method=_resampled,
    ),
)
