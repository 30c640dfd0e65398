"""The distances a report shows, by name: one row each says how it is computed and read."""

import functools
from collections.abc import Sequence

from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.report.further import FURTHER
from probmetrics.report.quality import QUALITY, Distance, Metric

__all__ = ["METRICS", "OF_MODELS", "Distance", "Metric", "choose_metrics"]

SEPARATORS = ","


def _mmd(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.discrepancy import mmd
    from probmetrics.pairwise import median_bandwidth
    from probmetrics.pairwise.kernels import Gaussian

    return functools.partial(mmd, kernel=Gaussian(float(median_bandwidth(x.double(), y.double()))))


def _energy(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.discrepancy import energy_distance

    return energy_distance


def _sliced(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.transport.sliced import sliced_wasserstein

    return functools.partial(sliced_wasserstein, generator=seed)


def _wasserstein(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.transport.exact import wasserstein

    return wasserstein


def _wasserstein_1d(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.transport.line import wasserstein_1d

    return wasserstein_1d


def _frechet(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.gaussian import frechet_distance

    return frechet_distance


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "mmd",
            "MMD²",
            "Squared maximum mean discrepancy (Gaussian kernel, unbiased): how far apart the "
            "samples are at the scale of the median distance between points. Zero on average for "
            "equal distributions, so small negative values mean no visible difference.",
            _mmd,
            minimum=2,
        ),
        Metric(
            "energy",
            "energy distance",
            "Twice the mean distance between the samples less the mean distances within them. "
            "Sees differences at all scales; zero only for equal samples.",
            _energy,
        ),
        Metric(
            "sliced_wasserstein",
            "sliced W₂",
            "How far mass must move, seen along 128 random directions (root mean square). In the "
            "unit of the data.",
            _sliced,
        ),
        Metric(
            "wasserstein",
            "Wasserstein W₂",
            "How far mass must move to turn one sample into the other (root mean square, exact). "
            "In the unit of the data; in many dimensions large even between equal distributions, "
            "so read it against its noise floor.",
            _wasserstein,
            limit=1000,
        ),
        Metric(
            "wasserstein_1d",
            "Wasserstein W₁",
            "Mean distance that mass must move to turn one sample into the other, exact. In the "
            "unit of the data.",
            _wasserstein_1d,
            line=True,
        ),
        Metric(
            "frechet",
            "Fréchet d²",
            "Squared distance between the Gaussians that fit the samples (on Inception features: "
            "FID). Sees means and covariances only, and is biased upwards on small samples.",
            _frechet,
            minimum=2,
        ),
    )
}
METRICS |= {metric.name: metric for metric in (*QUALITY, *FURTHER)}
ALSO = {"fid": ("frechet",), "prdc": ("precision", "recall", "density", "coverage")}
ON_THE_LINE = ("mmd", "energy", "wasserstein_1d", "frechet")
IN_SPACE = ("mmd", "energy", "sliced_wasserstein", "wasserstein", "frechet")
OF_MODELS = (
    *("frechet", "frechet_infinity", "kid", "energy"),
    *("precision", "recall", "density", "coverage", "vendi"),
)


def choose_metrics(
    wanted: str | Sequence[str] | None, d: int | None = None, *, of_models: bool = False
) -> list[Metric]:
    """The metrics asked for, or those that suit d columns.

    Args:
        wanted: Names: a list, a string separated by commas, or None for the usual ones. "fid" is
            "frechet", and "prdc" stands for precision, recall, density and coverage.
        d: Number of columns; None leaves it unchecked.
        of_models: The usual ones are those of generative models.

    Raises:
        ValueError: An unknown name (the error lists the known ones), none at all, or a metric
            that does not fit d.
    """
    if wanted is None:
        usual = OF_MODELS if of_models else ON_THE_LINE if d == 1 else IN_SPACE
        return [METRICS[name] for name in usual]
    if not isinstance(wanted, str | Sequence):
        raise TypeError(f"metrics must be names, e.g. 'mmd,energy', got {wanted!r}")
    names = wanted.split(SEPARATORS) if isinstance(wanted, str) else list(wanted)
    names = [name.strip() if isinstance(name, str) else name for name in names]
    names = [
        n for name in names for n in (ALSO.get(name, (name,)) if isinstance(name, str) else (name,))
    ]
    names = list(dict.fromkeys(name for name in names if name != ""))
    if not names:
        raise ValueError(f"metrics is empty; known: {', '.join(METRICS)}")
    chosen = [METRICS[checks.choice(name, "metric", METRICS)] for name in names]
    for metric in chosen:
        if metric.line and d not in (None, 1):
            raise ValueError(
                f"metric {metric.name} compares samples of one column and these have {d}; choose "
                f"one (columns=, --columns), or other metrics: {', '.join(IN_SPACE)}"
            )
    return chosen
