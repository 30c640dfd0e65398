"""NDB: in which cells of the data a model puts too many or too few samples."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, array_function
from probmetrics._interval import normal_quantile
from probmetrics.metrics.base import Encoder
from probmetrics.metrics.neighbours import plain
from probmetrics.metrics.samples import AbstractSampleMetric
from probmetrics.uncertainty.methods import Subsampling


@dataclass(frozen=True)
class DifferentBins:
    """How the shares of two samples over bins differ.

    Attributes:
        share: Share of bins whose proportions differ significantly, NDB/K. About ``level`` for
            equal distributions.
        divergence: Jensen–Shannon divergence of the two histograms, in nats.
    """

    share: Any
    divergence: Any


@array_function
def different_bins(
    x: SamplesX,
    y: SamplesY,
    *,
    bins: int = 100,
    level: float = 0.05,
    generator: torch.Generator | int | None = None,
) -> DifferentBins:
    """NDB/K: share of the k-means cells of the data in which the samples' proportions differ.

    Each cell is tested with the pooled two-proportion z-test.

    Args:
        x: Data, shape (n, d), which the cells are made of.
        y: Samples of the model, shape (m, d).
        bins: K; lowered to n/10 for few points.
        level: Of each test, two-sided.
        generator: Source of the k-means starts.

    Returns:
        ``DifferentBins``.

    Raises:
        ValueError: NaN, shapes that differ, fewer than two points.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 2))
        >>> float(different_bins(x, x[:250] - 9, bins=10, generator=0).share) > 0.8
        True

    Notes:
        The cells are fitted to x, which leaves the test slightly liberal; fit them on half of the
        data for an exact one.

    References:
        Richardson, Weiss (2018), On GANs and GMMs, section 3.
    """
    x, y = plain(x, y, minimum=2, names=("x", "y"))
    count = min(checks.count(bins, "bins", minimum=2), max(2, len(x) // 10))
    bound = normal_quantile(1 - checks.between(level, "level", 0.0, 1.0))
    p, q = cluster_shares(x, (x, y), count, generator, starts=3)
    n, m = len(x), len(y)
    pooled = (n * p + m * q) / (n + m)
    variance = pooled * (1 - pooled) * (1 / n + 1 / m)
    score = (p - q).abs() / torch.where(variance > 0, variance, 1.0).sqrt()
    middle = (p + q) / 2
    gaps = [torch.where(z > 0, z * (z.clamp(min=1e-300) / middle).log(), 0.0) for z in (p, q)]
    divergence = (gaps[0].nansum() + gaps[1].nansum()) / 2
    return DifferentBins((score > bound).double().mean(), divergence)


class DifferentBinsMetric(AbstractSampleMetric):
    """NDB/K and the divergence of the binned samples, see ``different_bins``.

    Args:
        encoder: See ``AbstractMetric``.
        bins: K.
        level: Of each test.
        capacity: Most rows kept a side; None keeps all.
        seed: Of k-means and the rows kept.
        **options: For ``torchmetrics.Metric``.
    """

    higher_is_better = False
    minimum = 2
    method = Subsampling(replicates=20)
    options = ("bins", "level", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        bins: int = 100,
        level: float = 0.05,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.bins = checks.count(bins, "bins", minimum=2)
        self.level = checks.between(level, "level", 0.0, 1.0)
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        options = {"bins": self.bins, "level": self.level, "generator": self.seed}
        return different_bins, (self.rows("real"), self.rows("fake")), options


def cluster_shares(
    fitted: Tensor,
    samples: tuple[Tensor, ...],
    clusters: int,
    generator: torch.Generator | int | None,
    *,
    starts: int,
) -> tuple[Tensor, ...]:
    """Share of each sample in each k-means cell of ``fitted``, float64, shapes (clusters,)."""
    from sklearn.cluster import KMeans

    seed = int(torch.randint(2**31, (1,), generator=checks.generator(generator)))
    distinct = min(clusters, len(fitted.unique(dim=0)))
    model = KMeans(distinct, n_init=starts, random_state=seed)
    model.fit(fitted.double().cpu().numpy())
    shares = []
    for sample in samples:
        cells = torch.from_numpy(model.predict(sample.double().cpu().numpy())).long()
        counts = torch.bincount(cells, minlength=distinct).double()
        shares.append((counts / len(sample)).to(sample.device))
    return tuple(shares)
