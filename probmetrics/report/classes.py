"""Class by class: how often a label occurs on either side, and how far its rows are apart."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from probmetrics.report.inputs import Pair

MOST = 1000  # classes
LEAST = 8  # rows a side, for a distance with an interval


@dataclass(frozen=True)
class ClassScore:
    """One class.

    Attributes:
        label: Its name.
        counts: Rows in A and in B.
        shares: The same as shares of the rows.
        value: Squared Fréchet distance between its rows; None with fewer than eight a side.
        low: Lower end of its interval.
        high: Upper end.
    """

    label: str
    counts: tuple[int, int]
    shares: tuple[float, float]
    value: float | None
    low: float | None
    high: float | None


def by_class(pair: "Pair", *, level: float, seed: int) -> tuple[ClassScore, ...]:
    """All classes, the farthest apart first; none where a side has no labels, or texts for them.

    Args:
        pair: Both samples.
        level: Of the intervals.
        seed: Of what is random in them.
    """
    labels = [side.data.labels for side in pair.sides]
    if labels[0] is None or labels[1] is None:
        return ()
    names = [np.array([str(label) for label in side]) for side in labels if side is not None]
    known = np.unique(np.concatenate(names))
    if len(known) < 2 or len(known) > min(MOST, len(names[0]) // 2):
        return ()
    found = [_class(pair, str(label), names, level, seed) for label in known]
    return tuple(sorted(found, key=lambda c: (c.value is None, -(c.value or 0.0), c.label)))


def _class(
    pair: "Pair", label: str, names: list[np.ndarray], level: float, seed: int
) -> ClassScore:
    from probmetrics.gaussian import frechet_distance
    from probmetrics.uncertainty import estimate

    rows = [torch.from_numpy(np.nonzero(side == label)[0]) for side in names]
    counts = len(rows[0]), len(rows[1])
    shares = counts[0] / len(names[0]), counts[1] / len(names[1])
    if min(counts) < LEAST:
        return ClassScore(label, counts, shares, None, None, None)
    x, y = pair.x[rows[0]].double(), pair.y[rows[1]].double()
    found = estimate(frechet_distance, x, y, level=level, generator=seed)
    return ClassScore(
        label, counts, shares, float(found.value), float(found.low), float(found.high)
    )
