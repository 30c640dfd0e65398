"""Fréchet distance class by class: where a conditional model is good and where it is not."""

from typing import Any

import torch
from torch import Tensor

from probmetrics._arrays import to_tensor
from probmetrics._interval import Interval
from probmetrics.gaussian import frechet_distance
from probmetrics.metrics.accumulators import AbstractAccumulator, Store
from probmetrics.metrics.base import AbstractMetric
from probmetrics.uncertainty.estimate import estimate


class PerClassFrechet(AbstractMetric):
    """Squared Fréchet distance between the features of each class, and their mean.

    Args:
        encoder: See ``AbstractMetric``.
        seed: Of the intervals' resamples.
        **options: For ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> x, labels = torch.arange(8.0).reshape(8, 1), torch.tensor([0, 1] * 4)
        >>> metric = PerClassFrechet()
        >>> metric.update(real=x, real_labels=labels, fake=x + labels[:, None], fake_labels=labels)
        >>> {name: round(float(value), 4) for name, value in metric.compute().items()}
        {'0': 0.0, '1': 1.0, 'mean': 0.5}

    Notes:
        Keeps all rows. A class of the data with fewer than two samples of the model is an error
        that names it; classes only the model has are refused too.
    """

    higher_is_better = False
    minimum = 2
    options = ()

    def accumulators(self) -> dict[str, AbstractAccumulator]:
        return {"rows": Store(), "labels": Store()}

    def update(
        self,
        *,
        real: Any = None,
        fake: Any = None,
        real_labels: Any = None,
        fake_labels: Any = None,
    ) -> None:
        """Take a batch with the class of each row, whole numbers, shape (n,)."""
        given = [("real", real, real_labels), ("fake", fake, fake_labels)]
        if real is None and fake is None:
            raise ValueError("update() got no batch; pass real= or fake=")
        for side, batch, labels in given:
            if (batch is None) != (labels is None):
                raise ValueError(f"{side}= and {side}_labels= come together")
            if batch is None:
                continue
            rows = self.features(batch, side)
            classes = to_tensor(labels, f"{side}_labels", floating=False).reshape(-1)
            if classes.is_floating_point() or len(classes) != len(rows):
                raise ValueError(
                    f"{side}_labels must hold one whole number per row, {len(rows)}; "
                    f"got {tuple(classes.shape)} of {classes.dtype}"
                )
            kept = self.state(side, "labels")["rows"]
            self._put(side, "labels", {"rows": [*kept, classes.long().unsqueeze(-1)]})
            self._put(side, "rows", {"rows": [*self.state(side, "rows")["rows"], rows]})
            setattr(self, f"{side}_count", getattr(self, f"{side}_count") + len(rows))

    def compute(self) -> dict[str, Tensor]:
        """The distance of each class, and ``"mean"``."""
        found = {name: frechet_distance(x, y) for name, (x, y) in self._pairs().items()}
        return {**found, "mean": torch.stack(list(found.values())).mean()}

    def estimate(self, level: float, generator: torch.Generator | int) -> dict[str, Interval]:
        """The interval of each class."""
        return {
            name: estimate(frechet_distance, x, y, level=level, generator=generator)
            for name, (x, y) in self._pairs().items()
        }

    def _pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        x, y = self.rows("real").double(), self.rows("fake").double()
        of_x, of_y = (self.rows(side, "labels").squeeze(-1) for side in self.sides)
        strange = sorted(set(of_y.tolist()) - set(of_x.tolist()))
        if strange:
            raise ValueError(f"fake has classes the real side has not: {strange[:10]}")
        pairs = {}
        for label in sorted(set(of_x.tolist())):
            pair = x[of_x == label], y[of_y == label]
            for side, rows in zip(self.sides, pair, strict=True):
                if len(rows) < self.minimum:
                    raise ValueError(
                        f"class {label} has {len(rows)} {side} samples and at least "
                        f"{self.minimum} are needed"
                    )
            pairs[str(label)] = pair
        return pairs
