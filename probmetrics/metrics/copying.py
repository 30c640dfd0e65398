"""Streaming metrics of memorisation: what they keep, and which estimator they call."""

from typing import Any

from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.metrics.base import Encoder
from probmetrics.metrics.memorisation import (
    authenticity,
    copying_score,
    duplicates,
    mifid,
    nearest_training,
)
from probmetrics.metrics.samples import AbstractSampleMetric, Values
from probmetrics.uncertainty.methods import Subsampling


class Memorisation(AbstractSampleMetric):
    """Authenticity, copies and, with held-out data, C_T and the nearest-training test.

    ``train=`` is what the model has seen, ``fake=`` its samples and ``real=`` data it has not seen;
    without ``real=`` the two numbers that need it are left out.

    Args:
        encoder: See ``AbstractMetric``.
        near: See ``duplicates``.
        cells: See ``copying_score``.
        capacity: Most rows kept a side. Keep the whole training set (None) if you can: a copy of a
            row that was not kept goes unseen.
        seed: Of the cells and the rows kept.
        **options: For ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = Memorisation()
        >>> train = torch.arange(10.0).unsqueeze(-1)
        >>> metric.update(train=train, fake=train[:5])
        >>> {name: float(value) for name, value in metric.compute().items()}
        {'authenticity': 0.0, 'exact_copies': 1.0, 'near_copies': 1.0, 'repeats': 0.0}
    """

    sides = ("train", "fake", "real")
    minimum = 2
    method = Subsampling(replicates=60)
    options = ("near", "cells", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        near: float = 0.1,
        cells: int = 1,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.near = checks.positive(near, "near")
        self.cells = checks.count(cells, "cells")
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def update(self, *, train: Any = None, fake: Any = None, real: Any = None) -> None:
        """Take a batch of any side."""
        self._take({"train": train, "fake": fake, "real": real})

    def compute(self) -> Values:
        """The numbers by name."""
        return self._numbers(self.rows("train"), self.rows("fake"))

    def measured(self) -> Any:
        """The numbers as a function of training set and samples; held-out data stay as they are."""
        return self._numbers, (self.rows("train"), self.rows("fake")), {}

    def _numbers(self, train: Tensor, fake: Tensor) -> Values:
        copies = duplicates(fake, train, near=self.near)
        found = {
            "authenticity": authenticity(fake, train).double(),
            "exact_copies": copies.exact,
            "near_copies": copies.near,
            "repeats": copies.within,
        }
        if self.seen("real") == 0:
            return found
        real = self.rows("real")
        close = nearest_training(fake, train, real)
        score = copying_score(fake, train, real, cells=self.cells, generator=self.seed)
        return {
            **found,
            "nearest_training_ratio": close.ratio,
            "nearest_training_pvalue": close.pvalue,
            "copying_score": score.double(),
        }


class MIFID(AbstractSampleMetric):
    """Memorisation-informed Fréchet distance between features, see ``mifid``.

    Args:
        encoder: See ``AbstractMetric``.
        threshold: Cosine distance at and above which there is no penalty.
        convention: "paper" or "torchmetrics", see ``mifid``.
        capacity: Most rows kept a side; None keeps all.
        seed: Of the rows kept.
        **options: For ``torchmetrics.Metric``.
    """

    higher_is_better = False
    minimum = 2
    method = Subsampling(replicates=40)
    options = ("threshold", "convention", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        threshold: float = 0.1,
        convention: str = "paper",
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.threshold = checks.positive(threshold, "threshold")
        self.convention = checks.choice(convention, "convention", ("paper", "torchmetrics"))
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        samples = self.rows("real").double(), self.rows("fake").double()
        return mifid, samples, {"threshold": self.threshold, "convention": self.convention}
