"""How every single feature differs between two samples, the most different first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probmetrics.twosample.multiplicity import adjust_pvalues


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


def feature_differences(
    x: np.ndarray, y: np.ndarray, columns: Sequence[str], deviation: np.ndarray
) -> list[Feature]:
    """All columns, the most different (by standardised W_1) first.

    Args:
        x: Sample A, shape (n, d), n ≥ 2.
        y: Sample B, shape (m, d).
        columns: The d names.
        deviation: Unit of each column, its pooled standard deviation; 0 counts as 1.
    """
    from probmetrics.transport.cdf import kolmogorov_distance
    from probmetrics.transport.line import wasserstein_1d

    first, second = (np.asarray(side, dtype=np.float64).T for side in (x, y))
    origin = first[:, :1].copy()  # so that offsets cost no digits
    a, b = first - origin, second - origin
    unit = np.where(deviation > 0, deviation, 1.0)
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
        for j, name in enumerate(columns)
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


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values, as a list.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted = adjust_pvalues(np.asarray(pvalues, dtype=np.float64), method="holm")
    return [float(p) for p in np.asarray(adjusted)]
