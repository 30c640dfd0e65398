"""Classical tests of one feature at a time, calibrated by permutation or by SciPy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY
from probmetrics.twosample.aggregate import run_min_p
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import pair, pooled
from probmetrics.twosample.kernel_statistic import wide
from probmetrics.twosample.multiplicity import adjust_pvalues
from probmetrics.twosample.permutation import Generator, PermutationOptions, Permutations
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared, AbstractStatistic


@table_test
def univariate_test(
    x: SamplesX,
    y: SamplesY,
    *,
    statistic: str = "ks",
    calibration: str = "permutation",
    correction: str = "holm",
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Test of equal marginals with a classical statistic for every feature.

    - ``"ks"``: Kolmogorov–Smirnov, sup |F − G|.
    - ``"cvm"``: Cramér–von Mises, T = nm/N² Σ (F − G)² over pooled points (by midranks).
    - ``"ad"``: Anderson–Darling, A² by midranks, which weighs the tails; not standardised.
    - ``"es"``: Epps–Singleton, W₂ from the characteristic functions at 0.4 and 0.8 (in units of
      half the interquartile range), also for discrete data.

    Args:
        x: Sample, shape (n, d), n ≥ 2 (5 for ``"es"``).
        y: Sample, shape (m, d), likewise.
        statistic: One of the above.
        calibration: ``"permutation"``: the smallest of the features' permutation p-values,
            calibrated over the same labelings; exact with ties and for few points. ``"scipy"``:
            SciPy's own p-value of each feature (exact or asymptotic, as it chooses; for ``"ad"``
            it is limited to 0.001 … 0.25), adjusted for their number.
        correction: How to adjust with ``calibration="scipy"``; see ``adjust_pvalues``.
        permutations: B random labelings; all are enumerated where there are at most B.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; ``details`` holds, per feature, ``values`` (the statistics), ``pvalues``
        and ``adjusted``; the p-value is that of the hypothesis that no feature differs.
        ``effect_size`` is the largest Kolmogorov distance of any feature.

    Raises:
        ValueError: Too few points, NaN, different d or columns, unknown names.

    Notes:
        Time O(d (N log N + B N)).

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 50, 3, generator=g)
        >>> y[:, 2] += 1.0
        >>> result = univariate_test(x, y, statistic="ad", generator=0)
        >>> [bool(p <= 0.05) for p in result.details["adjusted"]]
        [False, False, True]

    References:
        Anderson (1962) (Cramér–von Mises, eq. 9); Scholz, Stephens (1987), K-sample
        Anderson–Darling tests, eq. 7; Epps, Singleton (1986), An omnibus test for the two-sample
        problem using the empirical characteristic function.
    """
    checks.choice(statistic, "statistic", STATISTICS)
    checks.choice(calibration, "calibration", ("permutation", "scipy"))
    x, y = pair(x, y, minimum=5 if statistic == "es" else 2)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    name = f"{statistic} by feature"
    sample = pooled(x, y, strata=strata, paired=paired)
    labels = sample.labelings.observed[None]
    kolmogorov = MarginalStatistic("ks").prepare(sample.z, sample.sizes).evaluate(labels)
    effect = float(kolmogorov.max())
    if calibration == "permutation":
        return run_min_p(
            MarginalStatistic(statistic), sample, options, method=name, effect_size=effect
        )
    if strata is not None or paired:
        raise ValueError("SciPy's p-values know no strata or pairs; use calibration='permutation'")
    values = MarginalStatistic(statistic).prepare(sample.z, sample.sizes).evaluate(labels)[0]
    pvalues = np.array(
        [_scipy_pvalue(statistic, *columns) for columns in zip(x.mT, y.mT, strict=True)]
    )
    adjusted = adjust_pvalues(pvalues, method=correction)
    return TestResult(
        statistic=float(values.max()),
        pvalue=float(np.min(adjusted)),
        null_distribution=np.empty(0),
        method=f"{name} (SciPy, {correction})",
        n=sample.sizes,
        permutations=0,
        exact=False,
        exceedances=0,
        effect_size=effect,
        details={"values": values.cpu().numpy(), "pvalues": pvalues, "adjusted": adjusted},
    )


def _scipy_pvalue(statistic: str, x: Tensor, y: Tensor) -> float:
    import warnings

    import scipy.stats

    first, second = (wide(v).cpu().numpy() for v in (x, y))
    if np.ptp(np.append(first, second)) == 0:
        return 1.0
    with warnings.catch_warnings():  # on ties, or p-values beyond the tables
        warnings.simplefilter("ignore")
        if statistic == "ks":
            return float(scipy.stats.ks_2samp(first, second).pvalue)
        if statistic == "cvm":
            return float(scipy.stats.cramervonmises_2samp(first, second).pvalue)
        if statistic == "ad":
            return float(scipy.stats.anderson_ksamp([first, second]).pvalue)
        try:
            return float(scipy.stats.epps_singleton_2samp(first, second).pvalue)
        except ValueError as error:
            raise ValueError(
                f"SciPy's Epps–Singleton test failed on a feature ({error}); "
                "use calibration='permutation'"
            ) from error


@dataclass(frozen=True)
class MarginalStatistic(AbstractStatistic):
    """A classical statistic of every column, for many labelings at once.

    Attributes:
        name: One of ``STATISTICS``.
    """

    name: str

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedMarginals":
        """Sort every column once."""
        make = STATISTICS[self.name]
        return _PreparedMarginals([make(column) for column in wide(z).mT], len(z))


Column = Callable[[Tensor], Tensor]  # (B, N) indicator of x's points -> (B,)


class _PreparedMarginals(AbstractPrepared):
    tolerance = 1e-9

    def __init__(self, columns: list[Column], points: int) -> None:
        self.columns = columns
        self.batch = max(1, BUDGET // (64 * points))

    def evaluate(self, labels: Tensor) -> Tensor:
        first = (labels == 0).double()
        return torch.stack([column(first).cpu() for column in self.columns], dim=-1)


def _sizes(first: Tensor) -> tuple[Tensor, Tensor]:
    n = first.sum(-1, keepdim=True)
    return n, first.shape[-1] - n


def kolmogorov_smirnov(column: Tensor) -> Column:
    """Sup |F − G|, attained at the last of equal points."""
    ordered, order = column.sort()
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] > ordered[:-1]

    def values(first: Tensor) -> Tensor:
        u = first.to(column)[:, order]
        n, m = _sizes(u)
        gap = (u * (1 / n + 1 / m) - 1 / m).cumsum(-1).abs()
        return gap[:, last].max(-1).values

    return values


def cramer_von_mises(column: Tensor) -> Column:
    """T from U = n Σ_x (r_(i) − i)² + m Σ_y (r_(j) − j)², r midranks (Anderson 1962, eq. 10)."""
    ordered, order = column.sort()
    below = torch.searchsorted(ordered, ordered)
    upto = torch.searchsorted(ordered, ordered, right=True)
    rank = (below + upto + 1).to(ordered) / 2

    def values(first: Tensor) -> Tensor:
        u = first.to(column)[:, order]
        n, m = _sizes(u)
        own = u.cumsum(-1)  # i of x's points; N places less that many are y's
        other = torch.arange(1, len(rank) + 1).to(rank) - own
        squares = n * u * (rank - own).square() + m * (1 - u) * (rank - other).square()
        total, nm = len(rank), (n * m)[:, 0]
        return squares.sum(-1) / (nm * total) - (4 * nm - 1) / (6 * total)

    return values


def anderson_darling(column: Tensor) -> Column:
    """A²_akN of Scholz and Stephens (1987, eq. 7) for two samples; ties at their midranks."""
    ordered, order = column.sort()
    _, multiplicity = torch.unique_consecutive(ordered, return_counts=True)
    ends = multiplicity.cumsum(0) - 1
    count = multiplicity.to(ordered)
    total = len(ordered)
    middle = count.cumsum(0) - count / 2
    denominator = middle * (total - middle) - total * count / 4
    weight = torch.where(denominator > 0, count / torch.where(denominator > 0, denominator, 1), 0)

    def values(first: Tensor) -> Tensor:
        u = first.to(column)[:, order]
        n, m = _sizes(u)
        upto = u.cumsum(-1)[:, ends]
        own = upto - torch.diff(upto, prepend=torch.zeros_like(upto[:, :1]), dim=-1) / 2
        # N M_y − n_y B = −(N M_x − n_x B), so both samples share one sum.
        squares = ((total * own - n * middle).square() * weight).sum(-1)
        statistic: Tensor = (total - 1) / total**2 * (1 / n + 1 / m)[:, 0] * squares
        return statistic

    return values


def epps_singleton(column: Tensor) -> Column:
    """W₂ with the pseudo-inverse covariance and the small-sample factor, as in SciPy."""
    # SciPy scales by the interquartile range over two: a label-free number.
    low, high = np.percentile(column.cpu().numpy(), [25, 75])
    scale = float(high - low) / 2
    scaled = column / (scale if scale > 0 else 1.0)
    angles = scaled[:, None] * torch.tensor([0.4, 0.8], dtype=column.dtype, device=column.device)
    g = torch.cat([angles.cos(), angles.sin()], dim=-1)
    g = g - g.mean(0)  # only differences and covariances count
    products = (g[:, :, None] * g[:, None, :]).flatten(1)

    def values(first: Tensor) -> Tensor:
        u = first.to(column)
        n, m = _sizes(u)
        total = len(column)
        covariance, means = torch.zeros(len(u), 4, 4).to(g), []
        for indicator, size in ((u, n), (1 - u, m)):
            mean = indicator @ g / size
            second = (indicator @ products / size).unflatten(-1, (4, 4))
            covariance += (total / size)[..., None] * (second - mean[:, :, None] * mean[:, None, :])
            means.append(mean)
        gap = means[0] - means[1]
        inverse = torch.linalg.pinv(covariance, hermitian=True, rtol=1e-10)
        value = total * (gap[:, None, :] @ inverse @ gap[:, :, None])[:, 0, 0]
        n, m = n[:, 0], m[:, 0]
        small = 1 / (1 + total ** (-0.45) + 10.1 * (n ** (-1.7) + m ** (-1.7)))
        corrected: Tensor = value * torch.where(torch.maximum(n, m) < 25, small, 1.0)
        return corrected

    return values


STATISTICS: dict[str, Callable[[Tensor], Column]] = {
    "ks": kolmogorov_smirnov,
    "cvm": cramer_von_mises,
    "ad": anderson_darling,
    "es": epps_singleton,
}
