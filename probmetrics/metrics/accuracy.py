"""Classifier two-sample accuracy: how well data and samples can be told apart."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, array_function
from probmetrics.metrics.base import Encoder
from probmetrics.metrics.neighbours import nearest, plain
from probmetrics.metrics.samples import AbstractSampleMetric
from probmetrics.uncertainty.methods import Subsampling

CLASSIFIERS = ("1-nn", "logistic")


@dataclass(frozen=True)
class TwoSampleAccuracy:
    """Accuracy on each sample.

    Attributes:
        accuracy: Mean of the two below, so that unequal sizes do not matter. One half: they
            cannot be told apart. Below one half with 1-NN: samples lie on top of data.
        real: Share of data recognised as data.
        fake: Share of samples recognised as samples.
    """

    accuracy: Any
    real: Any
    fake: Any


@array_function
def two_sample_accuracy(
    x: SamplesX,
    y: SamplesY,
    *,
    classifier: str = "1-nn",
    folds: int = 5,
    generator: torch.Generator | int | None = None,
) -> TwoSampleAccuracy:
    """Balanced accuracy of a classifier that tells data from samples, on points it has not seen.

    Args:
        x: Data, shape (n, d).
        y: Samples of the model, shape (m, d).
        classifier: "1-nn": the nearest other point in the pooled sample (leave-one-out).
            "logistic": logistic regression on standardised features, cross-validated.
        folds: Of the cross-validation.
        generator: Source of the folds.

    Returns:
        ``TwoSampleAccuracy``.

    Raises:
        ValueError: Fewer points than folds (logistic) or than two; NaN; shapes that differ.

    Example:
        >>> import numpy as np
        >>> x = np.arange(10.0)
        >>> two_sample_accuracy(x, x + 100)
        TwoSampleAccuracy(accuracy=1.0, real=1.0, fake=1.0)

    Notes:
        1-NN costs O((n + m)² d) time in linear memory. A point whose nearest neighbours of both
        samples are equally near counts half: copies of the data give one half of 0 and 1 each,
        not a toss. With n ≠ m 1-NN leans to the larger sample: compare at equal sizes.

    References:
        Lopez-Paz, Oquab (2017), Revisiting classifier two-sample tests; Xu et al. (2018), An
        empirical study on evaluation metrics of GANs, section 3.
    """
    checks.choice(classifier, "classifier", CLASSIFIERS)
    folds = checks.count(folds, "folds", minimum=2)
    least = 2 if classifier == "1-nn" else folds
    x, y = plain(x, y, minimum=least, names=("x", "y"))
    if classifier == "1-nn":
        real, fake = _nearest_accuracy(x, y), _nearest_accuracy(y, x)
    else:
        real, fake = _logistic_accuracy(x, y, folds, generator)
    return TwoSampleAccuracy((real + fake) / 2, real, fake)


class ClassifierAccuracy(AbstractSampleMetric):
    """Accuracy of telling data from samples, see ``two_sample_accuracy``.

    Args:
        encoder: See ``AbstractMetric``.
        classifier: "1-nn" or "logistic".
        folds: Of the cross-validation.
        capacity: Most rows kept a side; None keeps all.
        seed: Of the folds and the rows kept.
        **options: For ``torchmetrics.Metric``.
    """

    higher_is_better = False
    minimum = 5
    method = Subsampling(replicates=30)
    options = ("classifier", "folds", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        classifier: str = "1-nn",
        folds: int = 5,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.classifier = checks.choice(classifier, "classifier", CLASSIFIERS)
        self.folds = checks.count(folds, "folds", minimum=2)
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        options = {"classifier": self.classifier, "folds": self.folds, "generator": self.seed}
        return two_sample_accuracy, (self.rows("real"), self.rows("fake")), options


def _nearest_accuracy(own: Any, other: Any) -> Any:
    """Share of points nearer to their own sample than to the other; ties count half."""
    near, far = nearest(own)[0][:, 0], nearest(own, other)[0][:, 0]
    return ((near < far).double() + 0.5 * (near == far).double()).mean()


def _logistic_accuracy(x: Any, y: Any, folds: int, generator: Any) -> tuple[Any, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pooled = torch.cat([x, y]).double().cpu().numpy()
    label = np.repeat([0, 1], [len(x), len(y)])
    seed = int(torch.randint(2**31, (1,), generator=checks.generator(generator)))
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    right = torch.from_numpy(cross_val_predict(model, pooled, label, cv=parts) == label)
    return right[: len(x)].double().mean(), right[len(x) :].double().mean()
