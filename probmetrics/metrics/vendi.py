"""Vendi score: how many different samples there effectively are."""

import math
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, Values, array_function
from probmetrics.metrics.base import Encoder
from probmetrics.metrics.samples import AbstractSampleMetric
from probmetrics.pairwise.costs import unit
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.uncertainty.methods import Subsampling


@array_function
def vendi_score(x: SamplesX, *, kernel: AbstractGround | None = None, order: float = 1.0) -> Values:
    """Vendi score, exp of the Rényi entropy of the eigenvalues of K/n.

    Args:
        x: Samples, shape (*batch, n, d).
        kernel: A positive kernel, normalised here to k(x, x) = 1; None is the cosine similarity.
        order: q of the entropy: 1 is Shannon's, ∞ counts the largest eigenvalue only; small q
            weighs rare kinds more.

    Returns:
        Shape (*batch): between 1 (all alike) and n (all orthogonal).

    Raises:
        ValueError: A zero row with the cosine similarity; an order of zero or less.

    Example:
        >>> import numpy as np
        >>> round(vendi_score(np.eye(3)), 6)
        3.0

    Notes:
        With the cosine similarity O(n d min(n, d)), by the smaller Gram matrix; with a kernel
        O(n² d + n³) time and n² memory. Grows with n: compare at equal n.

    References:
        Friedman, Dieng (2023), The Vendi score, eq. 2; Pasarkar, Dieng (2024), Cousins of the
        Vendi score, for the order.
    """
    x = checks.sample(x)
    order = float(order) if order == math.inf else checks.positive(order, "order")
    dtype, n = x.dtype, x.shape[-2]
    rows = x.double()
    if kernel is None:
        if checks.readable(rows) and bool((rows.detach() == 0).all(-1).any()):
            raise ValueError("x has a row of zeros, which has no cosine similarity; drop it")
        rows = unit(rows)
        gram = rows @ rows.mT if n <= x.shape[-1] else rows.mT @ rows
    else:
        own = kernel.diagonal(rows)
        scale = own.sqrt()
        gram = kernel(rows, rows) / (scale.unsqueeze(-1) * scale.unsqueeze(-2))
    spectrum = torch.linalg.eigvalsh(gram / n).clamp(min=0.0)
    return _entropy(spectrum, order).exp().to(dtype)


class VendiScore(AbstractSampleMetric):
    """Vendi score of a model's samples, see ``vendi_score``.

    Args:
        encoder: See ``AbstractMetric``.
        kernel: None is the cosine similarity.
        order: Of the entropy.
        capacity: Most rows kept; None keeps all.
        seed: Of the rows kept.
        **options: For ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = VendiScore()
        >>> metric.update(fake=torch.eye(3))
        >>> round(float(metric.compute()), 5)
        3.0
    """

    higher_is_better = True
    sides = ("fake",)
    method = Subsampling(replicates=100)
    options = ("kernel", "order", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        kernel: AbstractGround | None = None,
        order: float = 1.0,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.order = float(order)
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)
        self.kernel = kernel

    def update(self, *, fake: Any = None) -> None:  # type: ignore[override]
        """Take a batch of samples of the model."""
        self._take({"fake": fake})

    def measured(self) -> Any:
        """The estimator, its sample and options."""
        return vendi_score, (self.rows("fake"),), {"kernel": self.kernel, "order": self.order}


def _entropy(p: Tensor, order: float) -> Tensor:
    """Rényi entropy along the last axis."""
    if order == math.inf:
        return -p.amax(-1).log()
    safe = torch.where(p > 0, p, 1.0)
    if order == 1.0:
        return -torch.where(p > 0, p * safe.log(), 0.0).sum(-1)
    return torch.where(p > 0, safe**order, 0.0).sum(-1).log() / (1.0 - order)
