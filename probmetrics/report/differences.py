"""Where two samples differ: the features and the rows that differ most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from probmetrics.report.inputs import Pair


@dataclass(frozen=True)
class Feature:
    """How one column differs.

    Attributes:
        name: The column.
        index: Its position.
        wasserstein: W_1 between the samples in this column, in pooled standard deviations.
        shift: Mean of B less mean of A, in pooled standard deviations.
        kolmogorov: Largest gap between the distribution functions.
        pvalue: Of the Kolmogorov–Smirnov test; conservative where values are tied.
        adjusted_pvalue: The same, Holm-adjusted over all columns.
        means: Mean of A and of B, in the unit of the column.
        deviations: Standard deviation of A and of B (divisor n − 1).
    """

    name: str
    index: int
    wasserstein: float
    shift: float
    kolmogorov: float
    pvalue: float
    adjusted_pvalue: float
    means: tuple[float, float]
    deviations: tuple[float, float]


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


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values: reject those ≤ level and the familywise error is at most level.

    With p_(1) ≤ … ≤ p_(k), the adjusted p_(i) is max_{j ≤ i} min(1, (k − j + 1) p_(j)).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    References:
        Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    k = len(pvalues)
    order = np.argsort(np.asarray(pvalues, dtype=np.float64), kind="stable")
    adjusted, running = [1.0] * k, 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (k - rank) * pvalues[index]))
        adjusted[index] = running
    return adjusted


def different_features(pair: Pair) -> list[Feature]:
    """All columns, the most different (by standardised W_1) first."""
    from probmetrics.transport.cdf import kolmogorov_distance
    from probmetrics.transport.line import wasserstein_1d

    first, second = (side.data.values.astype(np.float64).T for side in pair.sides)
    origin = first[:, :1].copy()  # so that offsets cost no digits
    a, b = first - origin, second - origin
    unit = np.where(pair.deviation > 0, pair.deviation, 1.0)
    moved = np.asarray(wasserstein_1d(a, b)) / unit
    gaps = np.asarray(kolmogorov_distance(a, b))
    raw, adjusted = _kolmogorov_pvalues(a, b, gaps)
    shift = (b.mean(axis=1) - a.mean(axis=1)) / unit
    features = [
        Feature(
            name=name,
            index=j,
            wasserstein=float(moved[j]),
            shift=float(shift[j]),
            kolmogorov=float(gaps[j]),
            pvalue=raw[j],
            adjusted_pvalue=adjusted[j],
            means=(float(first[j].mean()), float(second[j].mean())),
            deviations=(float(a[j].std(ddof=1)), float(b[j].std(ddof=1))),
        )
        for j, name in enumerate(pair.columns)
    ]
    return sorted(features, key=lambda feature: (-feature.wasserstein, feature.index))


def _kolmogorov_pvalues(
    a: np.ndarray, b: np.ndarray, gaps: np.ndarray
) -> tuple[list[float], list[float]]:
    """Two-sided p-values of the columns and their Holm adjustment.

    The p-value depends on the gap alone (n and m are common), so equal gaps share one.
    """
    import warnings

    from scipy.stats import ks_2samp

    known: dict[float, float] = {}
    with warnings.catch_warnings():  # that it went on with the asymptotic law, at huge n
        warnings.simplefilter("ignore", RuntimeWarning)
        for j, gap in enumerate(gaps):
            if float(gap) not in known:
                known[float(gap)] = float(ks_2samp(a[j], b[j]).pvalue) if gap > 0 else 1.0
    raw = [known[float(gap)] for gap in gaps]
    return raw, holm(raw)


def different_rows(pair: Pair, count: int) -> tuple[list[Row], np.ndarray, np.ndarray]:
    """The rows of A with the largest witness, those of B with the smallest, and all witnesses.

    Returns:
        The rows (A's first, most telling first), the witness at A's rows and at B's rows, centred
        midway between its two means, which then are ± half the squared MMD (V-statistic).
    """
    from probmetrics.discrepancy import default_kernel, witness

    kernel = default_kernel(pair.x.double(), pair.y.double())
    values = witness(pair.x, pair.y, torch.cat([pair.x, pair.y]), kernel=kernel).double().numpy()
    at_x, at_y = values[: len(pair.x)], values[len(pair.x) :]
    # Only differences of the witness count; at a wide kernel all of it may lie on one side of zero.
    middle = (at_x.mean() + at_y.mean()) / 2
    at = (at_x - middle, at_y - middle)
    rows = []
    for side, (source, seen, sign) in enumerate(zip(pair.sides, at, (-1, 1), strict=True)):
        labels = source.data.labels
        for position in np.argsort(sign * seen, kind="stable")[:count]:
            label = None if labels is None else str(labels[position])
            row = int(source.rows[position])
            rows.append(Row(side, int(position), row, float(seen[position]), label))
    return rows, at[0], at[1]
