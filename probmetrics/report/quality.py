"""The scores of generative models a report shows, by name: what each means, how it is computed."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Distance = Callable[..., Tensor]  # (x, y) -> value


@dataclass(frozen=True)
class Metric:
    """A distance or score as reports use it.

    Attributes:
        name: What users call it.
        title: Its heading in a table.
        meaning: What the number says, in a sentence.
        bind: ``bind(x, y, seed)`` gives ``distance(x, y)`` with every choice that the pooled
            sample decides (a bandwidth) or chance decides (directions) made once, so that values
            on parts of the samples can be compared with each other.
        minimum: Fewest points per side.
        limit: Most points per side; more are subsampled, with a note. None: no limit.
        line: It compares samples of one column, as points on the line: shapes (n,) and (m,).
        better: ``"lower"`` for distances, ``"higher"`` for scores.
        method: Of the interval, see ``probmetrics.estimate``; None calls ``detail`` for it.
        detail: ``detail(x, y, seed)`` gives an extrapolation, whose value and error are the
            answer; the noise floor is that of ``bind``.
    """

    name: str
    title: str
    meaning: str
    bind: Callable[[Tensor, Tensor, int], Distance]
    minimum: int = 1
    limit: int | None = None
    line: bool = False
    better: str = "lower"
    method: Any = "auto"
    detail: Callable[[Tensor, Tensor, int], Any] | None = None


def _kid(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.discrepancy import mmd
    from probmetrics.metrics import kernel_distance
    from probmetrics.metrics.cubic import is_far
    from probmetrics.pairwise.kernels import Polynomial

    if is_far(x.double(), y.double()):  # the usual way loses digits there, and its intervals too
        return kernel_distance
    return functools.partial(mmd, kernel=Polynomial())


def _cmmd(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.metrics import cmmd

    return lambda x, y: cmmd(x, y)


def _neighbours(part: str) -> Callable[[Tensor, Tensor, int], Distance]:
    def bind(x: Tensor, y: Tensor, seed: int) -> Distance:
        from probmetrics.metrics import precision_recall

        return lambda x, y: getattr(precision_recall(x, y), part)

    return bind


def _vendi(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.metrics import vendi_score

    return lambda x, y: vendi_score(y)


def _infinity(x: Tensor, y: Tensor, seed: int) -> Any:
    from probmetrics.metrics import frechet_infinity

    return frechet_infinity(x.double(), y.double(), generator=seed)


def _infinity_value(x: Tensor, y: Tensor, seed: int) -> Distance:
    from probmetrics.metrics.extrapolation import intercept

    return lambda x, y: intercept(x, y, seed)


def _resampled() -> Any:
    """Neighbours and variety see a copy as a neighbour: subsample, never draw with replacement."""
    from probmetrics.uncertainty.methods import Subsampling

    return Subsampling(replicates=40)


def _drawn_again() -> Any:
    from probmetrics.uncertainty.methods import Bootstrap

    return Bootstrap(replicates=100)


QUALITY = (
    Metric(
        "frechet_infinity",
        "Fréchet d²∞",
        "The Fréchet distance extrapolated along 1/n to infinitely many samples (on Inception "
        "features: FID∞). Free of the bias that makes small samples look worse; may be negative "
        "by chance.",
        _infinity_value,
        minimum=8,
        detail=_infinity,
    ),
    Metric(
        "kid",
        "kernel distance",
        "Squared MMD with the cubic kernel (⟨x, y⟩/d + 1)³, unbiased (on Inception features: "
        "KID). Sees means, covariances and skewness; comparable between sample sizes.",
        _kid,
        minimum=2,
    ),
    Metric(
        "cmmd",
        "CMMD",
        "Squared MMD of the features' directions with a Gaussian kernel of width 10, times 1000 "
        "(meant for CLIP features).",
        _cmmd,
        minimum=2,
        limit=1000,
        method=_drawn_again,
    ),
    Metric(
        "precision",
        "precision",
        "Share of the second sample within a neighbourhood of the first: how much of what the "
        "model makes looks like data. Depends on the sample sizes; read it against its floor.",
        _neighbours("precision"),
        minimum=12,
        limit=1000,
        better="higher",
        method=_resampled,
    ),
    Metric(
        "recall",
        "recall",
        "Share of the first sample within a neighbourhood of the second: how much of the data the "
        "model can make. Low where modes are dropped.",
        _neighbours("recall"),
        minimum=12,
        limit=1000,
        better="higher",
        method=_resampled,
    ),
    Metric(
        "density",
        "density",
        "Mean number of data neighbourhoods a point of the second sample lies in, over k = 5: "
        "like precision, less moved by outliers; may exceed one.",
        _neighbours("density"),
        minimum=12,
        limit=1000,
        better="higher",
        method=_resampled,
    ),
    Metric(
        "coverage",
        "coverage",
        "Share of data points whose own neighbourhood holds a point of the second sample: like "
        "recall, less moved by outliers.",
        _neighbours("coverage"),
        minimum=12,
        limit=1000,
        better="higher",
        method=_resampled,
    ),
    Metric(
        "vendi",
        "Vendi score",
        "Effective number of different points in the second sample alone (cosine similarity): "
        "variety, whether or not it is that of the data. Hold it against its floor, the same of "
        "the first sample.",
        _vendi,
        minimum=2,
        limit=1000,
        better="higher",
        method=_resampled,
    ),
)
