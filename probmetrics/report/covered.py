"""Which of A's rows B covers worst and best."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from probmetrics.report.inputs import Pair

NEIGHBOURS = 5


@dataclass(frozen=True)
class Covered:
    """A row of A and the row of B nearest to it.

    Attributes:
        position: Among the compared rows of A.
        row: In A's source, counted from 0.
        nearest: Position of the nearest row of B.
        nearest_row: That row in B's source.
        ratio: The distance between them over the distance from the row to its fifth neighbour
            in A; below one it is covered.
        label: Of the row of A, where there are labels.
    """

    position: int
    row: int
    nearest: int
    nearest_row: int
    ratio: float
    label: str | None


def covered_rows(pair: "Pair", count: int) -> tuple[tuple[Covered, ...], tuple[Covered, ...]]:
    """The worst covered rows of A, worst first, and the best covered, best first."""
    from probmetrics.metrics.neighbours import nearest
    from probmetrics.metrics.precision_recall import coverage_ratios

    if len(pair.x) <= NEIGHBOURS:
        return (), ()
    ratios = coverage_ratios(pair.x, pair.y, k=NEIGHBOURS).numpy()
    order = np.argsort(ratios, kind="stable")
    worst, best = order[::-1][:count].copy(), order[:count]
    found = []
    for chosen in (worst, best):
        index = nearest(pair.x[chosen], pair.y)[1][:, 0].numpy()
        found.append(
            tuple(
                _row(pair, int(i), int(j), float(ratios[i]))
                for i, j in zip(chosen, index, strict=True)
            )
        )
    return found[0], found[1]


def _row(pair: "Pair", position: int, nearest: int, ratio: float) -> Covered:
    labels = pair.first.data.labels
    return Covered(
        position=position,
        row=int(pair.first.rows[position]),
        nearest=nearest,
        nearest_row=int(pair.second.rows[nearest]),
        ratio=ratio,
        label=None if labels is None else str(labels[position]),
    )
