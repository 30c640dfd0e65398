"""The scores of a classifier's probabilities as one streaming metric in constant memory."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import to_tensor
from probmetrics._interval import Interval, normal_interval
from probmetrics.metrics.accumulators import AbstractAccumulator, State
from probmetrics.metrics.base import AbstractMetric, Encoder
from probmetrics.metrics.scores import (
    LabelSums,
    am_from_sums,
    inception_from_sums,
    mode_from_sums,
    modified_from_sums,
)


@dataclass(frozen=True)
class _Sums(AbstractAccumulator):
    """`LabelSums` of rows dealt in turn to several splits, one row (1, splits, 2 + 2c) of state."""

    splits: int
    logits: bool

    @property
    def fields(self) -> tuple[str, ...]:
        return ("sums",)

    def add(self, state: State, rows: Tensor, seen: int, stream: int) -> State:
        parts = []
        for split in range(self.splits):
            mine = rows[(split - seen) % self.splits :: self.splits]
            if len(mine):
                parts.append(_pack(LabelSums.of(mine, logits=self.logits)))
            else:
                parts.append(rows.new_zeros(2 + 2 * rows.shape[-1], dtype=torch.float64))
        return self.compact({"sums": [*state["sums"], torch.stack(parts).unsqueeze(0)]})

    def compact(self, state: State) -> State:
        parts = state["sums"]
        return {"sums": [torch.cat(parts).sum(0, keepdim=True)] if parts else []}


class InceptionScore(AbstractMetric):
    """Inception, modified Inception and, with the data's labels, mode and AM scores.

    Args:
        encoder: Turns a batch into classifier probabilities or logits (n, c); None takes these.
        splits: Samples are dealt in turn to this many splits; the Inception score is their mean.
        logits: The encoder gives logits.
        labels: Distribution of the labels in the data, shape (c,), for the mode and AM scores.
        seed: Of nothing here.
        **options: For ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = InceptionScore(splits=1)
        >>> metric.update(fake=torch.eye(4))
        >>> round(float(metric.compute()["inception_score"]), 6)
        4.0

    Notes:
        Constant memory. Dealing in turn replaces the random shuffle of other libraries, so that
        streams can be endless; for their very numbers see ``inception_score``.
    """

    higher_is_better = True
    sides = ("fake",)
    options = ("splits", "logits", "labels")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        splits: int = 10,
        logits: bool = False,
        labels: Any = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.splits = checks.count(splits, "splits")
        self.logits = bool(logits)
        self.minimum = self.splits
        super().__init__(encoder=encoder, seed=seed, **options)
        found = None if labels is None else to_tensor(labels, "labels").double()
        self.labels = None if found is None else checks.probabilities(found, name="labels")

    def accumulators(self) -> dict[str, AbstractAccumulator]:
        return {"labels": _Sums(self.splits, self.logits)}

    def update(self, *, fake: Any = None) -> None:  # type: ignore[override]
        """Take a batch of samples of the model."""
        self._take({"fake": fake})

    def compute(self) -> dict[str, Tensor]:
        """The scores by name."""
        return self._scores(self._splits())

    def estimate(self, level: float, generator: torch.Generator | int) -> dict[str, Interval]:
        """Jackknife over the splits; needs at least two."""
        splits = self._splits()
        if len(splits) < 2:
            raise ValueError("an interval comes from the splits; pass splits=2 or more")
        whole, count = self._scores(splits), len(splits)
        left = [self._scores(splits[:i] + splits[i + 1 :]) for i in range(count)]
        found = {}
        for name, value in whole.items():
            values = torch.stack([scores[name] for scores in left])
            error = ((count - 1) / count * (values - values.mean()).square().sum()).sqrt()
            found[name] = normal_interval(value, error, method="jackknife", level=level)
        return found

    def _splits(self) -> list[LabelSums]:
        self.enough("fake", self.seen("fake"))
        packed = self._kept["labels"].compact(self.state("fake", "labels"))["sums"][0][0]
        # After streams of odd lengths have merged, a split may be empty.
        return [_unpack(part) for part in packed if part[0] > 0]

    def _scores(self, splits: list[LabelSums]) -> dict[str, Tensor]:
        total = splits[0]
        for part in splits[1:]:
            total = total.merge(part)
        each = torch.stack([inception_from_sums(part) for part in splits])
        found = {
            "inception_score": each.mean(),
            "inception_score_std": each.std(correction=0),
            "modified_inception_score": modified_from_sums(total),
        }
        if self.labels is None:
            return found
        labels = self.labels.to(each.device)
        if len(labels) != len(total.labels):
            raise ValueError(f"labels has {len(labels)} classes and p {len(total.labels)}")
        return {
            **found,
            "mode_score": mode_from_sums(total, labels),
            "am_score": am_from_sums(total, labels),
        }


def _pack(sums: LabelSums) -> Tensor:
    return torch.cat([sums.count.reshape(1), sums.negentropy.reshape(1), sums.labels, sums.logs])


def _unpack(vector: Tensor) -> LabelSums:
    c = (len(vector) - 2) // 2
    return LabelSums(vector[0], vector[2 : 2 + c], vector[1], vector[2 + c :])
