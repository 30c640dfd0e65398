"""Parzen-window log-likelihood: how likely data are under a density smoothed from samples."""

import math
from typing import Any

from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, Values, array_function
from probmetrics.metrics.base import Encoder
from probmetrics.metrics.samples import AbstractSampleMetric
from probmetrics.pairwise import reduce_pairs
from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.reductions import LogSumExp


@array_function
def parzen_log_likelihood(
    x: SamplesX, y: SamplesY, *, bandwidth: float | int | None = None
) -> Values:
    """Mean log-density, in nats, of data x under Gaussian windows around samples y.

    mean_i log (1/m) Σ_j N(x_i; y_j, h² I).

    Args:
        x: Data, shape (*batch, n, d).
        y: Samples of the model, shape (*batch, m, d), m ≥ 2 without a bandwidth.
        bandwidth: h, in the unit of the data; None is Scott's m^(−1/(d+4)) times the root mean
            variance of y.

    Returns:
        Shape (*batch).

    Raises:
        ValueError: NaN, shapes that differ, samples without spread and no bandwidth.

    Example:
        >>> round(parzen_log_likelihood([[0.0]], [[0.0]], bandwidth=1.0), 6)  # −½ log 2π
        -0.918939

    Notes:
        *Warning.* In more than a few dimensions the number depends on the bandwidth and on m more
        than on the model, and ranks k-means centres above the data themselves; it is here to
        reproduce published numbers. O(n m d) time, linear memory, differentiable.

    References:
        Breuleux, Bengio, Vincent (2011), Quickly generating representative samples from an
        RBM-derived process; Theis, van den Oord, Bethge (2016), A note on the evaluation of
        generative models, section 3.3, for the warning.
    """
    x, y = checks.samples(x, y)
    m, d = y.shape[-2:]
    h = _scott(y) if bandwidth is None else checks.positive(bandwidth, "bandwidth")
    scale = -0.5 / h**2
    total = reduce_pairs(SqEuclidean(), LogSumExp(scale=scale), x.double(), y.double())
    log_h = h.log() if isinstance(h, Tensor) else math.log(h)
    constant = math.log(m) + d * (0.5 * math.log(2 * math.pi) + log_h)
    return (total.mean(-1) - constant).to(x.dtype)


class ParzenLogLikelihood(AbstractSampleMetric):
    """Parzen log-likelihood of the data under a model's samples, see ``parzen_log_likelihood``.

    Args:
        encoder: See ``AbstractMetric``.
        bandwidth: None is Scott's rule.
        capacity: Most rows kept a side; None keeps all.
        seed: Of the rows kept.
        **options: For ``torchmetrics.Metric``.
    """

    higher_is_better = True
    minimum = 2
    method = "jackknife"
    options = ("bandwidth", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        bandwidth: float | None = None,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.bandwidth = None if bandwidth is None else checks.positive(bandwidth, "bandwidth")
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        rows = self.rows("real"), self.rows("fake")
        return parzen_log_likelihood, rows, {"bandwidth": self.bandwidth}


def _scott(y: Tensor) -> Tensor:
    m, d = y.shape[-2:]
    if m < 2:
        raise ValueError("y has 1 point, which shows no spread; pass bandwidth=")
    spread = y.detach().double().var(-2).mean(-1).sqrt()
    if checks.readable(spread) and not bool((spread > 0).all()):
        raise ValueError("y has no spread (all points are equal); pass bandwidth=")
    scaled: Tensor = spread * m ** (-1.0 / (d + 4))
    return scaled
