"""Tests by transport on the line: feature by feature, and along many directions."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Array, SamplesX, SamplesY
from probmetrics.transport.directions import unit_directions
from probmetrics.transport.line import wasserstein_1d
from probmetrics.twosample.aggregate import run_min_p
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import pair, pooled
from probmetrics.twosample.kernel_statistic import wide
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared, AbstractStatistic


@table_test
def wasserstein_test(
    x: SamplesX,
    y: SamplesY,
    *,
    p: float | int = 1,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test of equal marginals: the 1-D Wasserstein distance of every feature.

    Each feature's W_p gets a permutation p-value; the test is the smallest of them, calibrated
    over the same labelings. It says in which features the samples differ, with p-values adjusted
    for their number, and is blind to differences in the dependence between features.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        p: Order, at least 1.
        permutations: B random labelings; all are enumerated where there are at most B.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; its statistic is −log of the smallest p-value. ``details`` holds, per
        feature, ``values`` (W_p, in the feature's unit), ``pvalues`` and ``adjusted``.
        ``effect_size`` is the largest W_p in units of its feature's pooled standard deviation.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, p below 1.

    Notes:
        Time O(d (N log N + B N)) for p = 1, more for other orders. No scaling is needed:
        features are compared by their p-values.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 50, 3, generator=g)
        >>> y[:, 2] += 1.0
        >>> result = wasserstein_test(x, y, generator=0)
        >>> [bool(p <= 0.05) for p in result.details["adjusted"]]
        [False, False, True]

    References:
        Ramdas, García Trillos, Cuturi (2017), On Wasserstein two-sample testing, Section 4;
        Westfall, Young (1993), Resampling-based multiple testing, ch. 2.
    """
    x, y = pair(x, y)
    p = checks.order(p)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    sample = pooled(x, y, strata=strata, paired=paired)
    result = run_min_p(LineStatistic(p), sample, options, method="Wasserstein by feature")
    scale = wide(sample.z).std(0).cpu().numpy()
    values = result.details["values"]
    shares = [v / s for v, s in zip(values.tolist(), scale.tolist(), strict=True) if s > 0]
    return replace(result, effect_size=max(shares, default=None))


@table_test
def sliced_wasserstein_test(
    x: SamplesX,
    y: SamplesY,
    *,
    p: float | int = 1,
    projections: int = 128,
    directions: Array | str = "orthogonal",
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test of equal distributions with the sliced Wasserstein distance.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        p: Order, at least 1 and finite.
        projections: How many directions.
        directions: As for ``sliced_wasserstein``: ``"orthogonal"``, ``"random"``, ``"qmc"``, or
            the directions, shape (L, d). They are drawn once for all labelings.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the directions and then the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; its statistic is SW_p in the unit of the data. ``effect_size`` is that
        in units of the pooled standard deviation (root of the mean variance of a coordinate).

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, p below 1.

    Notes:
        Time O(L (N log N + B N)) for p = 1, more for other orders.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 50, 3, generator=g)
        >>> sliced_wasserstein_test(x, y * 2, generator=0).pvalue
        0.001

    References:
        Bonneel, Rabin, Peyré, Pfister (2015), Sliced and Radon Wasserstein barycenters, eq. 9.
    """
    x, y = pair(x, y)
    p = checks.order(p)
    if p == float("inf"):
        raise ValueError("p must be finite for a mean over directions")
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    options = replace(options, generator=options.source())
    sample = pooled(x, y, strata=strata, paired=paired)
    z = wide(sample.z)
    theta = unit_directions(directions, projections, z.cpu(), options.source()).to(z)
    scale = float(z.var(0).mean().sqrt())
    projected = replace(sample, z=z @ theta.mT)
    result = run_test(SlicedStatistic(p), projected, options, method="sliced Wasserstein")
    return replace(result, effect_size=result.statistic / scale if scale > 0 else None)


@dataclass(frozen=True)
class LineStatistic(AbstractStatistic):
    """W_p of every column of the pooled sample, a family of statistics.

    Attributes:
        p: Order of the distance.
        root: W_p rather than W_p^p.
    """

    p: float
    root: bool = True

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "PreparedLines":
        """Sort every column once."""
        return PreparedLines(wide(z), self.p, self.root)


class PreparedLines(AbstractPrepared):
    """Columns in ascending order, with the places their points had."""

    tolerance = 1e-9

    def __init__(self, z: Tensor, p: float, root: bool) -> None:
        self.sorted, self.order = z.mT.contiguous().sort(dim=-1)
        self.p, self.root = p, root
        self.batch = max(1, BUDGET // (64 * len(z)))

    def evaluate(self, labels: Tensor) -> Tensor:
        labels = labels.to(self.sorted.device)
        values = [
            self._column(points, labels[:, order] == 0)
            for points, order in zip(self.sorted, self.order, strict=True)
        ]
        return torch.stack(values, dim=-1)

    def _column(self, points: Tensor, first: Tensor) -> Tensor:
        """W_p of one column; ``first`` marks x's points in ascending order, shape (B, N)."""
        n = int(first[0].sum())
        m = len(points) - n
        if self.p == 1:
            # W_1 = ∫ |F − G| dt, and F − G changes only at pooled points: by 1/n at one of x,
            # by −1/m at one of y. This spares a sort for every labeling.
            steps = first.to(points.dtype) * (1 / n + 1 / m) - 1 / m
            gaps = steps.cumsum(-1)[:, :-1].abs_()
            return gaps @ points.diff()
        rows = points.expand(len(first), -1)
        x, y = rows[first].reshape(-1, n), rows[~first].reshape(-1, m)
        values: Tensor = wasserstein_1d(x, y, p=self.p, root=self.root)
        return values


@dataclass(frozen=True)
class SlicedStatistic(AbstractStatistic):
    """SW_p: the mean of W_p^p over columns (projections), to the power 1/p.

    Attributes:
        p: Order of the distance.
    """

    p: float

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedSlices":
        """Sort every projection once."""
        return _PreparedSlices(PreparedLines(z, self.p, root=False), self.p)


class _PreparedSlices(AbstractPrepared):
    tolerance = 1e-9

    def __init__(self, lines: PreparedLines, p: float) -> None:
        self.lines, self.p = lines, p
        self.batch = lines.batch

    def evaluate(self, labels: Tensor) -> Tensor:
        mean = self.lines.evaluate(labels).mean(-1)
        return mean if self.p == 1 else mean.clamp_min(0.0) ** (1 / self.p)
