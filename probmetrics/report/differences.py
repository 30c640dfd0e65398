"""Where two sides of a report differ: the features and the rows that differ most."""

from dataclasses import dataclass

import numpy as np
import torch

from probmetrics.report.inputs import Pair
from probmetrics.twosample.attribution import centred_witness
from probmetrics.twosample.marginals import Feature, feature_differences, holm

__all__ = ["Feature", "Row", "different_features", "different_rows", "holm"]


@dataclass(frozen=True)
class Row:
    """A sample point that lies where one side has more mass than the other.

    Attributes:
        side: 0 for A, 1 for B.
        position: Position among the compared rows of its side.
        row: Position in its source, counted from 0.
        witness: Witness function there, less the middle of its means over A and over B: positive
            where the mass leans to A, negative where it leans to B.
        label: Its label, where the source has labels.
    """

    side: int
    position: int
    row: int
    witness: float
    label: str | None


def different_features(pair: Pair) -> list[Feature]:
    """All columns, the most different (by standardised W_1) first."""
    first, second = (side.data.values for side in pair.sides)
    return feature_differences(first, second, pair.columns, pair.deviation)


def different_rows(pair: Pair, count: int) -> tuple[list[Row], np.ndarray, np.ndarray]:
    """The rows of A with the largest witness, those of B with the smallest, and all witnesses.

    Returns:
        The rows (A's first, most telling first), the witness at A's rows and at B's rows, centred
        midway between its two means, which then are ± half the squared MMD (V-statistic).
    """
    from probmetrics.discrepancy import default_kernel, witness

    kernel = default_kernel(pair.x.double(), pair.y.double())
    values = witness(pair.x, pair.y, torch.cat([pair.x, pair.y]), kernel=kernel).double()
    at = [v.numpy() for v in centred_witness(values[: len(pair.x)], values[len(pair.x) :])]
    rows = []
    for side, (source, seen, sign) in enumerate(zip(pair.sides, at, (-1, 1), strict=True)):
        labels = source.data.labels
        for position in np.argsort(sign * seen, kind="stable")[:count]:
            label = None if labels is None else str(labels[position])
            row = int(source.rows[position])
            rows.append(Row(side, int(position), row, float(seen[position]), label))
    return rows, at[0], at[1]
