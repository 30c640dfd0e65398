"""Precision, recall, density and coverage of a generative model, by nearest neighbours."""

from dataclasses import dataclass
from typing import Any

import torch

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, Values, array_function
from probmetrics.metrics.balls import within
from probmetrics.metrics.base import Encoder
from probmetrics.metrics.neighbours import nearest, plain
from probmetrics.metrics.samples import AbstractSampleMetric
from probmetrics.uncertainty.methods import Subsampling

CONVENTIONS = {"prdc": (5, False), "torch-fidelity": (3, True)}  # k, balls closed


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of one sample in the neighbourhoods of the other.

    Attributes:
        precision: Share of model samples within the k-NN ball of some data point.
        recall: Share of data points within the k-NN ball of some model sample.
        density: Mean number of data balls a model sample lies in, over k; may exceed one.
        coverage: Share of data points whose own ball holds a model sample.
    """

    precision: Any
    recall: Any
    density: Any
    coverage: Any


@array_function
def precision_recall(
    x: SamplesX, y: SamplesY, *, k: int | None = None, convention: str = "prdc"
) -> PrecisionRecall:
    """Precision, recall, density and coverage of a model's samples, by k-nearest-neighbour balls.

    The ball of a point has the distance to its k-th neighbour in its own sample (itself left out)
    as radius.

    Args:
        x: Data, shape (n, d), n > k.
        y: Samples of the model, shape (m, d), m > k.
        k: Neighbours; None is the convention's.
        convention: "prdc": k = 5, a point lies in a ball strictly, ‖x − y‖ < r. "torch-fidelity":
            k = 3 and the sphere counts, ‖x − y‖ ≤ r.

    Returns:
        ``PrecisionRecall``, float64.

    Raises:
        ValueError: A sample of k points or fewer, NaN, shapes that differ.

    Example:
        >>> import numpy as np
        >>> x = np.arange(10.0)
        >>> precision_recall(x, x + 100, k=2)
        PrecisionRecall(precision=0.0, recall=0.0, density=0.0, coverage=0.0)

    Notes:
        O((n + m)² d) time in blocks, linear memory. Distances are decided in float64: a copy of
        the data has ties on every sphere, and the answer still follows the convention. Precision
        and coverage depend on n, m and k: compare at equal sizes. No gradient.

    References:
        Kynkäänniemi et al. (2019), Improved precision and recall metric, eqs. 1–2; Naeem et al.
        (2020), Reliable fidelity and diversity metrics, eqs. 4–6.
    """
    default, closed = CONVENTIONS[checks.choice(convention, "convention", CONVENTIONS)]
    k = default if k is None else checks.count(k, "k")
    x, y = plain(x, y, minimum=k + 1, names=("x", "y"))
    radii_x, radii_y = nearest(x, k=k)[0][:, -1], nearest(y, k=k)[0][:, -1]
    of_x, of_y = within(x, y, of_rows=radii_x, of_columns=radii_y, closed=closed)
    return PrecisionRecall(
        precision=(of_x.columns > 0).double().mean(),
        recall=(of_y.rows > 0).double().mean(),
        density=of_x.columns.double().mean() / k,
        coverage=(of_x.rows > 0).double().mean(),
    )


@array_function
def coverage_ratios(x: SamplesX, y: SamplesY, *, k: int = 5) -> Values:
    """Distance of each data point to the nearest model sample, over its own k-NN radius.

    Coverage ("prdc") is the share of ratios below one.

    Args:
        x: Data, shape (n, d), n > k.
        y: Samples of the model, shape (m, d).
        k: Neighbours.

    Returns:
        Shape (n,), float64; next to k copies of itself a point has ratio 0 or infinity.

    Raises:
        ValueError: A sample of k points or fewer, NaN, shapes that differ.

    Example:
        >>> coverage_ratios([[0.0], [1.0], [3.0]], [[0.5]], k=1).tolist()
        [0.5, 0.5, 1.25]

    References:
        Naeem et al. (2020), Reliable fidelity and diversity metrics, eq. 6.
    """
    k = checks.count(k, "k")
    x, y = plain(x, y, minimum=1, names=("x", "y"))
    radius, gap = nearest(x, k=k)[0][:, -1], nearest(x, y)[0][:, 0]
    beside = torch.where(gap > 0, torch.inf, 0.0).to(gap)
    safe = torch.where(radius > 0, radius, 1.0)
    return torch.where(radius > 0, (gap / safe).sqrt(), beside)


class PrecisionRecallDensityCoverage(AbstractSampleMetric):
    """Precision, recall, density and coverage, see ``precision_recall``.

    Args:
        encoder: See ``AbstractMetric``.
        k: Neighbours; None is the convention's.
        convention: "prdc" or "torch-fidelity".
        capacity: Most rows kept a side; None keeps all.
        seed: Of the rows kept.
        **options: For ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = PrecisionRecallDensityCoverage(k=1)
        >>> x = torch.arange(6.0).unsqueeze(-1)
        >>> metric.update(real=x, fake=x + 0.25)
        >>> {name: float(value) for name, value in metric.compute().items()}
        {'precision': 1.0, 'recall': 1.0, 'density': 1.8333333333333333, 'coverage': 1.0}
    """

    higher_is_better = True
    minimum = 2
    method = Subsampling(replicates=60)
    options = ("k", "convention", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        k: int | None = None,
        convention: str = "prdc",
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.convention = checks.choice(convention, "convention", CONVENTIONS)
        self.k = CONVENTIONS[convention][0] if k is None else checks.count(k, "k")
        self.minimum = self.k + 1
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        options = {"k": self.k, "convention": self.convention}
        return precision_recall, (self.rows("real"), self.rows("fake")), options
