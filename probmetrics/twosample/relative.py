"""The relative test: which of two models is closer to the data?"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesAt, SamplesX, SamplesY, array_function
from probmetrics._interval import Interval, normal_interval
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.twosample.columns import column_names
from probmetrics.twosample.design import Pooled, pooled
from probmetrics.twosample.kernel import pooled_gaussian
from probmetrics.twosample.permutation import Generator, PermutationOptions, calibrate
from probmetrics.twosample.relative_statistic import PreparedRelative
from probmetrics.twosample.result import plain

ALTERNATIVES = ("two-sided", "y", "z")
CALIBRATIONS = ("both", "permutation", "normal")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RelativeResult:
    """Which of two samples is closer to the data, and how sure that is.

    Attributes:
        closer: ``"y"`` or ``"z"``, whichever has the smaller estimate; None where they are equal.
        pvalue: Of the hypothesis that both are equally far from x (two-sided), or that the one
            named by ``alternative`` is not closer.
        statistic: ``difference`` over its standard error; negative where y is closer.
        difference: MMD²(x, y) − MMD²(x, z) with its asymptotic interval.
        distances: Both unbiased MMD².
        covariance: Estimated covariance of the two, shape (2, 2); x enters both.
        pvalues: The p-value by each calibration that was used.
        alternative: As given.
        n: Sample sizes of x, y and z.
        permutations: Labelings that were evaluated.
        exact: Whether these were all.
        kernel: The kernel.
        columns: Names of the coordinates, where tables were compared.
        warnings: What the reader of the p-value should know.
    """

    closer: str | None
    pvalue: float
    statistic: float
    difference: Interval
    distances: tuple[float, float]
    covariance: Any
    pvalues: dict[str, float]
    alternative: str
    n: tuple[int, int, int]
    permutations: int
    exact: bool
    kernel: Any
    columns: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()

    def reject(self, level: float = 0.05) -> bool:
        """Whether equal closeness is rejected at ``level``: p ≤ level."""
        return self.pvalue <= checks.between(level, "level", 0.0, 1.0)

    def plot(self, ax: Any = None) -> Any:
        """Both distances and their difference with intervals; returns the axes."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.figure().add_subplot()
        errors = np.sqrt(np.diagonal(np.asarray(self.covariance)))
        wide_by = (float(self.difference.high) - float(self.difference.low)) / 2
        z = wide_by / max(float(self.difference.standard_error), 1e-300)
        values = (*self.distances, float(self.difference.value))
        spans = (*(z * errors), wide_by)
        names = ("MMD²(x, y)", "MMD²(x, z)", "difference")
        for place, (value, span) in enumerate(zip(values, spans, strict=True)):
            ax.errorbar(value, place, xerr=span, fmt="o", color=f"C{place}", capsize=3)
        ax.axvline(0.0, color="0.6", linewidth=0.8)
        ax.set_yticks(range(3), names)
        ax.set_title(f"closer: {self.closer}, p = {self.pvalue:.3g}")
        return ax

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for ``json.dumps``."""
        names = ("closer", "pvalue", "statistic", "distances", "covariance", "pvalues")
        more = ("alternative", "n", "permutations", "exact", "columns", "warnings")
        answer = {name: getattr(self, name) for name in (*names, *more)}
        made: dict[str, Any] = plain(
            {**answer, "difference": self.difference.to_dict(), "kernel": repr(self.kernel)}
        )
        return made

    def __repr__(self) -> str:
        first, second = self.distances
        return (
            f"RelativeResult(closer={self.closer!r}, pvalue={self.pvalue:.4g}, "
            f"MMD²(x, y)={first:.4g}, MMD²(x, z)={second:.4g}, difference={self.difference!r}, "
            f"n={self.n})"
        )


def relative_test(
    x: Any,
    y: Any,
    z: Any,
    *,
    kernel: Any = None,
    alternative: str = "two-sided",
    calibration: str = "both",
    confidence: float = 0.95,
    permutations: int = 999,
    generator: Generator = None,
    level: float = 0.05,
    batch: int | None = None,
    progress: bool | None = None,
) -> RelativeResult:
    r"""Relative (three-sample) test: is y or z closer to x, in maximum mean discrepancy?

    With Δ = MMD²(x, y) − MMD²(x, z), both unbiased, in which E k(X, X′) cancels, the statistic is
    t = Δ / s. Both distances share x, so they are dependent; s² is the variance of their
    difference, from the projections of the joint U-statistic:

    s² = var_y(2 μ_y − 2 μ_x)/m + var_z(2 μ_z − 2 μ_x)/l + var_x(2 μ_y − 2 μ_z)/n,

    where μ_p(t) is the mean of k(t, ·) over sample p, and each variance is over the points of the
    sample that is named.

    Args:
        x: The data, shape (n, d), n ≥ 2.
        y: Sample of one model, shape (m, d), m ≥ 2.
        z: Sample of the other, shape (l, d), l ≥ 2.
        kernel: A kernel of ``probmetrics.pairwise.kernels``; ``None`` is a Gaussian with the
            median distance of all three samples pooled. ``Distance()`` compares energy distances
            (the difference is then half of theirs).
        alternative: ``"two-sided"``, or which one is claimed to be closer, ``"y"`` or ``"z"``.
        calibration: ``"permutation"``: labels of y and z are exchanged, and t is computed anew
            for each labeling. Exact at any size where y and z have one distribution.
            Not valid for different models that are equally far from the data, one on either
            side of it, say: it then rejects far too often. ``"normal"``: t against a standard
            normal, as published; for samples that are not small. ``"both"``: the larger of the
            two p-values, which is sound in all these cases.
        confidence: Of the interval of the difference.
        permutations: B random labelings; all are enumerated where there are at most B.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``RelativeResult``.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, unknown names.

    Notes:
        Time ((m+l)² + n(m+l)) (d + 2B) flops and memory 16 (m+l) bytes per labeling of a batch.
        s² contains the second-order term of the U-statistics twice: where all three samples have
        one distribution, and the first order vanishes, the normal p-value is conservative.
        The test compares distances in the kernel's sense: a closer model need not be better in
        another.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y, z = torch.randn(3, 80, 2, generator=g)
        >>> result = relative_test(x, y + 0.2, z + 1.0, generator=0)
        >>> result.closer, result.reject()
        ('y', True)

    References:
        Bounliphone, Belilovsky, Blaschko, Antonoglou, Gretton (2016), A test of relative
        similarity for model selection in generative models, Theorem 2; Hoeffding (1948);
        Chung, Romano (2013), Exact and asymptotically robust permutation tests (studentised).
    """
    names = column_names(x, y), column_names(x, z), column_names(y, z)
    options = PermutationOptions(
        permutations=checks.count(permutations, "permutations"),
        generator=generator,
        level=level,
        batch=batch,
        progress=progress,
    )
    checks.choice(alternative, "alternative", ALTERNATIVES)
    checks.choice(calibration, "calibration", CALIBRATIONS)
    checks.between(confidence, "confidence", 0.0, 1.0)
    if kernel is not None and not isinstance(kernel, AbstractGround):
        raise TypeError(
            "kernel must be a kernel of probmetrics.pairwise.kernels or None, "
            f"got {type(kernel).__name__}"
        )
    made: RelativeResult = _relative(
        x, y, z, kernel, (alternative, calibration, confidence), options
    )
    known = next((n for n in names if n is not None), None)
    return made if known is None else replace(made, columns=known)


@array_function
def _relative(
    x: SamplesX,
    y: SamplesY,
    z: SamplesAt,
    kernel: AbstractGround | None,
    wanted: tuple[str, str, float],
    options: PermutationOptions,
) -> RelativeResult:
    for points, name in ((x, "x"), (y, "y"), (z, "z")):
        if points.ndim > 2:
            raise ValueError(
                f"the relative test takes one sample each, shape (n, d); {name} has shape "
                f"{tuple(points.shape)}: loop over the batch (and correct for multiplicity)"
            )
    x, y = checks.samples(x, y, minimum=2)
    x, z = checks.samples(x, z, minimum=2, names=("x", "z"))
    y = y.to(x.dtype)
    alternative, calibration, confidence = wanted
    models = pooled(y, z)
    chosen = pooled_gaussian(torch.cat([x, models.z])) if kernel is None else kernel
    prepared = PreparedRelative(x, models, chosen, alternative)
    seen = prepared.moments(models.labelings.observed[None])
    found = _pvalues(prepared, models, options, calibration, float(seen.studentised()[0]))
    difference = float(seen.difference[0])
    error = seen.variance()[0].sqrt()
    interval = normal_interval(seen.difference[0], error, method="influence", level=confidence)
    equal = abs(difference) <= prepared.tolerance * float(error)  # up to rounding
    return RelativeResult(
        closer=None if equal else "y" if difference < 0 else "z",
        pvalue=max(found.values.values()),
        statistic=float(seen.studentised()[0]),
        difference=interval,
        distances=prepared.distances(seen),
        covariance=prepared.covariance(seen),
        pvalues=found.values,
        alternative=alternative,
        n=(len(x), len(y), len(z)),
        permutations=found.permutations,
        exact=found.exact,
        kernel=chosen,
        warnings=found.warnings,
    )


@dataclass(frozen=True)
class _PValues:
    values: dict[str, float]
    permutations: int = 0
    exact: bool = False
    warnings: tuple[str, ...] = ()


def _pvalues(
    prepared: PreparedRelative,
    models: Pooled,
    options: PermutationOptions,
    calibration: str,
    statistic: float,
) -> _PValues:
    """The p-value by each calibration."""
    values = {}
    if calibration != "permutation":
        tail = -statistic if prepared.alternative == "y" else statistic
        values["normal"] = math.erfc(tail / math.sqrt(2)) / 2
        if prepared.alternative == "two-sided":
            values["normal"] = math.erfc(abs(statistic) / math.sqrt(2))
    if calibration == "normal":
        return _PValues(values)
    if models.constant:
        message = "all points of y and z are equal; nothing can tell them apart"
        return _PValues({**values, "permutation": 1.0}, 0, False, (message,))
    null = calibrate(prepared, models.labelings, options)
    values["permutation"] = null.pvalue
    return _PValues(values, len(null.values), null.exact, null.warnings)
