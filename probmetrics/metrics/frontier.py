"""MAUVE: the area under the frontier of divergences between quantised samples."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, Values, array_function
from probmetrics.metrics.base import Encoder
from probmetrics.metrics.bins import cluster_shares
from probmetrics.metrics.neighbours import plain
from probmetrics.metrics.samples import AbstractSampleMetric
from probmetrics.pairwise.costs import unit
from probmetrics.uncertainty.methods import Subsampling

if TYPE_CHECKING:
    Bins = Any
else:
    Bins = Float[Tensor, " bins"]

POINTS = 25


@array_function
def frontier_area(p: Bins, q: Bins, *, scaling: float = 5.0) -> Values:
    """Area under the divergence frontier of two histograms, MAUVE's number.

    The curve (e^(−c·KL(q‖r)), e^(−c·KL(p‖r))), r = w p + (1 − w) q, for 25 mixtures w.

    Args:
        p: Probabilities of the data, shape (k,).
        q: Probabilities of the model.
        scaling: c.

    Returns:
        Between 0 and 1; 1 for p = q.

    Example:
        >>> round(frontier_area([0.5, 0.5], [0.5, 0.5]), 6), round(frontier_area([1, 0], [0, 1]), 3)
        (1.0, 0.004)

    Notes:
        Disjoint histograms leave 5·B(6, 5) = 0.00397 with c = 5, not zero.

    References:
        Pillutla et al. (2021), MAUVE: measuring the gap between neural text and human text,
        eqs. 1–2; points and trapezoidal rule of its reference code.
    """
    scaling = checks.positive(scaling, "scaling")
    checks.same_bins(p, q)
    p, q = (checks.probabilities(z, name=n).double() for z, n in ((p, "p"), (q, "q")))
    w = torch.linspace(1e-6, 1 - 1e-6, POINTS, dtype=torch.float64, device=p.device).unsqueeze(-1)
    mixed = w * p + (1 - w) * q
    across, up = (torch.exp(-scaling * _kl(side, mixed)) for side in (q, p))
    zero, one = across.new_zeros(1), across.new_ones(1)
    # In the order of w the curve runs from (1, 0) to (0, 1), never turning back: no sorting, hence
    # no ties to break, and the area is the same seen from either axis.
    across, up = torch.cat([one, across, zero]), torch.cat([zero, up, one])
    return -torch.trapezoid(up, across)


@array_function
def mauve(
    x: SamplesX,
    y: SamplesY,
    *,
    clusters: int | None = None,
    scaling: float = 5.0,
    explained: float = 0.9,
    generator: torch.Generator | int | None = None,
) -> Values:
    """MAUVE: area under the divergence frontier of features quantised by k-means.

    Args:
        x: Features of the data, shape (n, d).
        y: Features of the model's samples, shape (m, d).
        clusters: Bins; None is a tenth of the smaller sample, at least 2 and at most 500.
        scaling: c in e^(−c·KL).
        explained: Share of the variance that the principal components before k-means keep.
        generator: Source of the k-means starts.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: More clusters than points, NaN, shapes that differ.

    Example:
        >>> import numpy as np
        >>> x, y = np.random.default_rng(0).normal(size=(2, 200, 3)) + 2
        >>> mauve(x, y, generator=0) > 0.8 > 0.1 > mauve(x, -y, generator=0)
        True

    Notes:
        Features are ℓ2-normalised and projected on principal components of the pooled sample.
        Depends on the encoder, the number of clusters and the seed: compare with all three equal.

    References:
        Pillutla et al. (2021), MAUVE, section 2 and appendix.
    """
    from sklearn.decomposition import PCA

    x, y = plain(x, y, minimum=2, names=("x", "y"))
    share = checks.between(explained, "explained", 0.0, 1.0)
    bins = min(500, max(2, min(len(x), len(y)) // 10)) if clusters is None else clusters
    bins = checks.count(bins, "clusters", maximum=len(x) + len(y))
    pooled = unit(torch.cat([x, y]).double()).cpu().numpy()
    if pooled.var(0).sum() > 0:
        pooled = PCA(share, svd_solver="full").fit_transform(pooled)
    both = torch.from_numpy(pooled)
    p, q = cluster_shares(both, (both[: len(x)], both[len(x) :]), bins, generator, starts=5)
    return frontier_area(p, q, scaling=scaling).to(x.dtype)


class Mauve(AbstractSampleMetric):
    """MAUVE of features, see ``mauve``.

    Args:
        encoder: See ``AbstractMetric``; for text a sentence encoder.
        clusters: Bins; None is a tenth of the smaller sample.
        scaling: c.
        capacity: Most rows kept a side; None keeps all.
        seed: Of k-means and the rows kept.
        **options: For ``torchmetrics.Metric``.
    """

    higher_is_better = True
    minimum = 2
    method = Subsampling(replicates=20)
    options = ("clusters", "scaling", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        clusters: int | None = None,
        scaling: float = 5.0,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.clusters = None if clusters is None else checks.count(clusters, "clusters", minimum=2)
        self.scaling = checks.positive(scaling, "scaling")
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        options = {"clusters": self.clusters, "scaling": self.scaling, "generator": self.seed}
        return mauve, (self.rows("real"), self.rows("fake")), options


def _kl(p: Tensor, q: Tensor) -> Tensor:
    safe = torch.where(p > 0, p, 1.0)
    below = torch.where(q > 0, q, 1.0)
    return torch.where(p > 0, p * (safe.log() - below.log()), 0.0).sum(-1)
