"""How large a difference is: effect sizes with intervals, feature by feature and as a whole."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, array_function
from probmetrics._interval import Interval
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.twosample.coefficients import energy_coefficient, mmd_coefficient
from probmetrics.twosample.columns import column_names
from probmetrics.twosample.design import pair
from probmetrics.twosample.kernel import pooled_gaussian
from probmetrics.twosample.kernel_statistic import wide
from probmetrics.twosample.multiplicity import adjust_pvalues
from probmetrics.twosample.result import plain
from probmetrics.uncertainty.estimate import estimate

SHARES = ("cohen_d", "hedges_g", "cliffs_delta", "auc", "energy")
ROWS_SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class EffectSizes:
    """Effect sizes of every feature, and of the samples as a whole.

    Every ``Interval`` of features holds arrays of shape (d,). Signs are positive where y is
    larger.

    Attributes:
        columns: Names of the features.
        cohen_d: (mean y − mean x) / pooled standard deviation.
        hedges_g: The same with the bias of small samples taken out.
        cliffs_delta: P(Y > X) − P(Y < X), in [−1, 1].
        auc: P(Y > X) + ½ P(Y = X), in [0, 1].
        energy: Energy coefficient of the feature alone, in [0, 1] but for noise.
        pvalues: Two-sided, of the hypothesis AUC = ½ (Brunner–Munzel).
        adjusted: The same, Holm-adjusted for the number of features.
        energy_overall: Energy coefficient of all features together.
        mmd_overall: Kernel coefficient of all features together.
        level: Coverage of the intervals: jointly over features if ``simultaneous``.
        simultaneous: Whether intervals of features are Bonferroni-widened.
        n: Sample sizes.
    """

    columns: tuple[str, ...]
    cohen_d: Interval
    hedges_g: Interval
    cliffs_delta: Interval
    auc: Interval
    energy: Interval
    pvalues: Any
    adjusted: Any
    energy_overall: Interval
    mmd_overall: Interval
    level: float
    simultaneous: bool
    n: tuple[int, int]

    def order(self) -> list[int]:
        """Features, the largest energy coefficient first."""
        values = np.asarray(torch.as_tensor(self.energy.value))
        return [int(i) for i in np.argsort(-values, kind="stable")]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for ``json.dumps``."""
        intervals = (*SHARES, "energy_overall", "mmd_overall")
        answer = {name: getattr(self, name).to_dict() for name in intervals}
        rest = ("columns", "pvalues", "adjusted", "level", "simultaneous", "n")
        made: dict[str, Any] = plain({**answer, **{name: getattr(self, name) for name in rest}})
        return made

    def plot(self, ax: Any = None, *, measure: str = "hedges_g", top: int = 20) -> Any:
        """Intervals of the features that differ most; returns the axes.

        Args:
            ax: Matplotlib axes to draw into; a new figure otherwise.
            measure: ``"cohen_d"``, ``"hedges_g"``, ``"cliffs_delta"``, ``"auc"`` or ``"energy"``.
            top: How many features.
        """
        checks.choice(measure, "measure", SHARES)
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.figure(figsize=(6, 1 + 0.3 * min(top, len(self.columns)))).add_subplot()
        interval = getattr(self, measure)
        value, low, high = (
            np.asarray(torch.as_tensor(part))[self.order()[:top]]
            for part in (interval.value, interval.low, interval.high)
        )
        places = np.arange(len(value))[::-1]
        ax.errorbar(value, places, xerr=[value - low, high - value], fmt="o", capsize=3)
        ax.axvline(0.5 if measure == "auc" else 0.0, color="0.6", linewidth=0.8)
        ax.set_yticks(places, [self.columns[i] for i in self.order()[:top]])
        ax.set_xlabel(measure.replace("_", " "))
        return ax

    def __repr__(self) -> str:
        share = f"{100 * self.level:.6g}%" + (" simultaneous" if self.simultaneous else "")
        lines = [
            f"EffectSizes of {len(self.columns)} features, n={self.n}, {share} intervals",
            f"  overall: energy {self.energy_overall!r}",
            f"           kernel {self.mmd_overall!r}",
        ]
        for i in self.order()[:ROWS_SHOWN]:
            shown = [
                f"{name} {float(part.value[i]):.3g} [{float(part.low[i]):.3g}, "
                f"{float(part.high[i]):.3g}]"
                for name, part in (("g", self.hedges_g), ("AUC", self.auc), ("H", self.energy))
            ]
            lines.append(f"  {self.columns[i]}: {', '.join(shown)}, p {self.adjusted[i]:.3g}")
        if len(self.columns) > ROWS_SHOWN:
            lines.append(f"  … {len(self.columns) - ROWS_SHOWN} more")
        return "\n".join(lines)


def effect_sizes(
    x: Any,
    y: Any,
    *,
    columns: Any = None,
    kernel: AbstractGround | None = None,
    level: float = 0.95,
    simultaneous: bool = True,
) -> EffectSizes:
    r"""Effect sizes of the difference between two samples, with confidence intervals.

    Of every feature: Cohen's d and Hedges' g (shift in standard deviations), Cliff's delta and the
    AUC (how often a point of y is above one of x, whatever the scale), and the energy coefficient
    (any difference). Of all features together: the energy and the kernel coefficient.

    Args:
        x: Sample, shape (n, d), n ≥ 3.
        y: Sample, shape (m, d), m ≥ 3.
        columns: Names of the features; those of data frames are found.
        kernel: Of the kernel coefficient; None is a Gaussian with the pooled median distance.
        level: Coverage of the intervals.
        simultaneous: Widen the intervals of the features (Bonferroni) so that with probability
            ``level`` all d of them hold; False makes each hold alone.

    Returns:
        An ``EffectSizes``.

    Raises:
        ValueError: Fewer than three points, NaN, different d or columns.

    Notes:
        Cohen's d has the interval d ± t se with the standard error of its influence function,
        which asks neither for normal data nor for equal variances. The AUC's is Newcombe's score
        interval with the spread of DeLong's variance, inside [0, 1] also where the samples do not
        overlap. Coefficients have those of ``estimate``; a constant feature has effect 0 (AUC ½).
        Time O(d N log N + d N²), the latter for the energy coefficients.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 80, 3, generator=g)
        >>> sizes = effect_sizes(x, y + torch.tensor([0.0, 0.0, 1.0]), columns=["a", "b", "c"])
        >>> sizes.columns[sizes.order()[0]], bool(sizes.hedges_g.low[2] > 0.3)
        ('c', True)

    References:
        Hedges (1981), Distribution theory for Glass's estimator of effect size, eq. 6e; Cliff
        (1993), Dominance statistics; DeLong, DeLong, Clarke-Pearson (1988); Newcombe (2006),
        Confidence intervals for an effect size measure based on the Mann–Whitney statistic,
        part 2, method 5; Brunner, Munzel (2000); Székely, Rizzo (2013), Energy statistics.
    """
    found = column_names(x, y)
    level = checks.between(level, "level", 0.0, 1.0)
    made: EffectSizes = _effect_sizes(x, y, kernel, level, bool(simultaneous))
    names = found if columns is None else tuple(str(name) for name in columns)
    if names is None:
        return made
    if len(names) != len(made.columns):
        raise ValueError(
            f"columns must hold {len(made.columns)} names, one per feature, got {len(names)}"
        )
    return replace(made, columns=names)


@array_function
def _effect_sizes(
    x: SamplesX, y: SamplesY, kernel: AbstractGround | None, level: float, simultaneous: bool
) -> EffectSizes:
    x, y = pair(x, y, minimum=3)
    x, y = wide(x), wide(y)
    d = x.shape[-1]
    each = 1 - (1 - level) / d if simultaneous else level
    cohen = _standardised(x, y, each)
    degrees = len(x) + len(y) - 2
    shrink = _hedges(degrees)
    hedges = _scaled(cohen, shrink, 0.0)
    auc, pvalues = _dominance(x, y, each)
    delta = _scaled(auc, 2.0, -1.0)
    lines = [v.mT.unsqueeze(-1) for v in (x, y)]
    chosen = pooled_gaussian(torch.cat([x, y])) if kernel is None else kernel
    by_influence: dict[str, Any] = {"method": "influence"}
    return EffectSizes(
        columns=tuple(f"x{j}" for j in range(d)),
        cohen_d=cohen,
        hedges_g=hedges,
        cliffs_delta=delta,
        auc=auc,
        energy=estimate(energy_coefficient, *lines, level=each, **by_influence),
        pvalues=pvalues,
        adjusted=adjust_pvalues(pvalues, method="holm"),
        energy_overall=estimate(energy_coefficient, x, y, level=level, **by_influence),
        mmd_overall=estimate(mmd_coefficient, x, y, level=level, kernel=chosen, **by_influence),
        level=level,
        simultaneous=simultaneous,
        n=(len(x), len(y)),
    )


def _scaled(interval: Interval, factor: float, shift: float) -> Interval:
    """The interval of factor · value + shift, for a positive factor."""
    value, low, high = (
        factor * part + shift for part in (interval.value, interval.low, interval.high)
    )
    error = factor * interval.standard_error
    return replace(interval, value=value, low=low, high=high, standard_error=error)


def _hedges(degrees: int) -> float:
    """J = Γ(k/2) / (√(k/2) Γ((k−1)/2)), the bias of d for k degrees of freedom."""
    half = torch.tensor(degrees / 2, dtype=torch.float64)
    log = torch.lgamma(half) - torch.lgamma(half - 0.5) - half.log() / 2
    return float(log.exp())


def _standardised(x: Tensor, y: Tensor, level: float) -> Interval:
    """Cohen's d of every column, with the standard error of its influence function.

    With s² the pooled variance, a point y_j moves d by ((y_j − ȳ)/s − d w ((y_j − ȳ)² − s_y²) /
    2s²) / m, where w = m/(n+m), and a point of x likewise with −(x_i − x̄)/s for the shift.
    """
    from scipy.stats import t as student

    n, m = len(x), len(y)
    centred = [v - v.mean(0) for v in (x, y)]
    pooled_square = sum(c.square().sum(0) for c in centred) / (n + m - 2)
    assert isinstance(pooled_square, Tensor)
    # Values that differ by rounding alone have no spread.
    largest = torch.maximum(x.abs().amax(0), y.abs().amax(0))
    known = pooled_square.sqrt() > 1e-14 * largest
    scale = torch.where(known, pooled_square, 1.0).sqrt()
    value = torch.where(known, ((y - x[:1]).mean(0) - (x - x[:1]).mean(0)) / scale, 0.0)
    variance = torch.zeros_like(value)
    for points, sign, size in ((centred[0], -1.0, n), (centred[1], 1.0, m)):
        unit = points / scale
        square = unit.square() - unit.square().mean(0)
        slope = sign * unit - value / 2 * (size / (n + m)) * square
        variance = variance + slope.var(0) / size
    error = torch.where(known, variance.sqrt(), 0.0)
    half = float(student.ppf((1 + level) / 2, n + m - 2)) * error
    return Interval(value, value - half, value + half, error, "influence", level)


def _dominance(x: Tensor, y: Tensor, level: float) -> tuple[Interval, Tensor]:
    """AUC of every column with its interval, and the p-values of AUC = ½."""
    from scipy.stats import norm

    n, m = len(x), len(y)
    place_y, place_x = _shares_below(x, y), 1 - _shares_below(y, x)
    value = place_y.mean(0)
    spread_x, spread_y = place_x.var(0) / n, place_y.var(0) / m
    error = (spread_x + spread_y).sqrt()
    usual = _hanley(value, n, m)
    ratio = torch.where(usual > 0, error.square() / torch.where(usual > 0, usual, 1.0), 1.0)
    ratio = torch.where(ratio > 0, ratio.clamp_min(0.25), 1.0)
    z = float(norm.ppf((1 + level) / 2))
    low, high = (_score_end(value, ratio, z, n, m, side) for side in (0.0, 1.0))
    constant = (x == x[:1]).all(0) & (y == x[:1]).all(0)
    low, high = (torch.where(constant, 0.5, end) for end in (low, high))
    interval = Interval(value, low, high, error, "score", level)
    return interval, _brunner_munzel(value, spread_x, spread_y, n, m)


def _shares_below(x: Tensor, y: Tensor) -> Tensor:
    """Share of x below each y, ties counting half, shape (m, d)."""
    ordered, points = x.mT.sort(-1).values.contiguous(), y.mT.contiguous()
    below = torch.searchsorted(ordered, points)
    upto = torch.searchsorted(ordered, points, right=True)
    return ((below + upto).to(x.dtype) / (2 * len(x))).mT


def _hanley(share: Tensor, n: int, m: int) -> Tensor:
    """Variance of the AUC at its value, by Hanley and McNeil's rule with equal sizes."""
    middle = (n + m) / 2 - 1
    rest = 1 - share
    return share * rest * (1 + middle * rest / (2 - share) + middle * share / (1 + share)) / (n * m)


def _score_end(value: Tensor, ratio: Tensor, z: float, n: int, m: int, side: float) -> Tensor:
    """The θ towards ``side`` with (θ − value)² = z² · ratio · V(θ), by bisection."""
    near, far = value.clone(), torch.full_like(value, side)
    for _ in range(60):
        middle = (near + far) / 2
        inside = (middle - value).square() <= z**2 * ratio * _hanley(middle, n, m)
        near, far = torch.where(inside, middle, near), torch.where(inside, far, middle)
    return near


def _brunner_munzel(value: Tensor, spread_x: Tensor, spread_y: Tensor, n: int, m: int) -> Tensor:
    """Two-sided p-values of AUC = ½ with Satterthwaite's degrees of freedom."""
    from scipy.stats import t as student

    error = (spread_x + spread_y).sqrt()
    known = error > 0
    safe = torch.where(known, error, 1.0)
    degrees = (spread_x + spread_y).square() / torch.where(
        known, spread_x.square() / (n - 1) + spread_y.square() / (m - 1), 1.0
    )
    statistic = ((value - 0.5).abs() / safe).cpu().numpy()
    degrees = torch.where(known, degrees, 1.0)
    found = torch.as_tensor(2 * student.sf(statistic, degrees.cpu().numpy())).to(value)
    # Without spread the samples are constant or do not overlap at all: exact, by enumeration.
    # No ranks speak louder, so that is the smallest p-value the normal tail may give.
    apart = torch.where(value == 0.5, 1.0, _apart(n, m)).to(value)
    return torch.where(known, torch.maximum(found, apart), apart)


def _apart(n: int, m: int) -> Tensor:
    """Chance that all points of one sample lie beyond the other's, in either order."""
    sizes = torch.tensor([n + 1.0, m + 1.0, n + m + 1.0], dtype=torch.float64)
    logs = torch.lgamma(sizes)
    return (2 * (logs[0] + logs[1] - logs[2]).exp()).clamp_max(1.0)
