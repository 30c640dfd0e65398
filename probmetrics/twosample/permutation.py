"""The permutation engine: labelings → null distribution → p-value."""

import warnings as python_warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import to_numpy
from probmetrics.twosample.adaptive import SequentialPlan
from probmetrics.twosample.design import Pooled, as_points, no_weights, pooled
from probmetrics.twosample.labelings import Labelings
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import AbstractPrepared, AbstractStatistic, FunctionStatistic

Permutations = int | str  # a number, or "auto"
Generator = torch.Generator | int | np.integer[Any] | None
ENUMERATED = 999  # labelings that the adaptive plan would rather enumerate than sample


@dataclass(frozen=True, kw_only=True)
class PermutationOptions:
    """How a null distribution is sampled; the options every permutation test shares.

    Attributes:
        permutations: Number B of random labelings, all of them being enumerated where there are
            at most B; or ``"auto"``: as many as needed until the p-value is clear of ``level``
            (see ``SequentialPlan``).
        generator: Generator or seed of the labelings.
        level: Level to compare the p-value with, for warnings and for ``"auto"``.
        batch: Labelings evaluated at once; ``None`` chooses by a byte budget. Changes memory and
            speed, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.
    """

    permutations: Permutations = 999
    generator: Generator = None
    level: float = 0.05
    batch: int | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        checks.between(self.level, "level", 0.0, 1.0)
        if not isinstance(self.permutations, str):
            checks.count(self.permutations, "permutations")
        elif self.permutations != "auto":
            raise ValueError(
                f"permutations must be a whole number or 'auto', got {self.permutations!r}"
            )
        if self.batch is not None:
            checks.count(self.batch, "batch")

    def source(self) -> torch.Generator:
        """The generator to draw labelings from: on the CPU unless one is given."""
        given = self.generator
        return checks.generator(
            given, given.device if isinstance(given, torch.Generator) else "cpu"
        )


@dataclass(frozen=True)
class Null:
    """A null distribution and what it says about the observed value."""

    observed: float
    values: Any
    exceedances: int
    pvalue: float
    exact: bool
    warnings: tuple[str, ...]


def calibrate(
    prepared: AbstractPrepared, labelings: Labelings, options: PermutationOptions
) -> Null:
    """Null distribution of a statistic over the labelings, with the p-value of the observed one.

    p = (1 + #{null ≥ observed}) / (1 + B) over B random labelings; #{null ≥ observed} / #labelings
    when they are all enumerated; the stage-wise p-value when B grows adaptively. One-sided: large
    values speak against equality. Values within rounding of the observed one count as ties.

    References:
        Phipson, Smyth (2010), Permutation p-values should never be zero.
    """
    generator = options.source()  # before anything is computed, so that a bad seed fails at once
    adaptive = isinstance(options.permutations, str)
    limit = ENUMERATED if isinstance(options.permutations, str) else options.permutations
    run = _Evaluation(prepared, labelings, options)
    if labelings.total <= limit:
        values = run(labelings.enumerate(), int(labelings.total))
        observed, values = float(values[0]), values[1:]
        exceedances = _exceedances(values, observed, prepared)
        smallest = _exceedances(values, float(values.max()), prepared) / len(values)
        return Null(
            observed,
            values,
            exceedances,
            exceedances / len(values),
            True,
            attainable(smallest, options.level, f"all {len(values)} labelings"),
        )
    if adaptive:
        return _grow(run, prepared, labelings, options.level, generator)
    drawn = run(labelings.draw(generator, limit), limit)
    observed, values = float(drawn[0]), drawn[1:]
    exceedances = _exceedances(values, observed, prepared)
    return Null(
        observed,
        values,
        exceedances,
        (1 + exceedances) / (1 + limit),
        False,
        attainable(1 / (1 + limit), options.level, f"permutations={limit}"),
    )


def component_values(
    prepared: AbstractPrepared, labelings: Labelings, options: PermutationOptions
) -> tuple[Tensor, Tensor, bool]:
    """Values of a family of K statistics.

    Returns:
        Those of the observed labeling, shape (K,); those of the null labelings, shape (B, K), the
        observed one among them when they are enumerated; whether they are.
    """
    assert isinstance(options.permutations, int)
    generator, limit = options.source(), options.permutations
    exact = labelings.total <= limit
    blocks = labelings.enumerate() if exact else labelings.draw(generator, limit)
    run = _Evaluation(prepared, labelings, options)
    values = run(blocks, int(labelings.total) if exact else limit)
    return values[0], values[1:], exact


def _grow(
    run: "_Evaluation",
    prepared: AbstractPrepared,
    labelings: Labelings,
    level: float,
    generator: torch.Generator,
) -> Null:
    """Draw until the sequential plan stops."""
    plan = SequentialPlan(level)
    drawn = torch.empty(0, dtype=torch.float64)
    observed = 0.0
    for look, count in enumerate(plan.looks):
        more = count - len(drawn)
        values = run(labelings.draw(generator, more), more, observed=look == 0)
        if look == 0:
            observed, values = float(values[0]), values[1:]
        drawn = torch.cat([drawn, values])
        exceedances = _exceedances(drawn, observed, prepared)
        if plan.stops(look, exceedances):
            break
    return Null(observed, drawn, exceedances, plan.pvalue(look, exceedances), False, ())


@dataclass(frozen=True)
class _Evaluation:
    """Evaluates streams of labelings in batches of the preferred size, with a progress bar."""

    prepared: AbstractPrepared
    labelings: Labelings
    options: PermutationOptions

    def __call__(self, blocks: Iterable[Tensor], count: int, *, observed: bool = True) -> Tensor:
        """Values, those of the observed labeling first if asked for."""
        if observed:
            blocks = _chain(self.labelings.observed[None], blocks)
        size = self.options.batch or self.prepared.batch
        values = []
        with self._bar(count + observed) as bar:
            for labels in _regroup(blocks, size):
                values.append(self.prepared.evaluate(labels).to("cpu", torch.float64))
                bar.update(len(labels))
        return torch.cat(values)

    def _bar(self, count: int) -> Any:
        from tqdm import tqdm

        disable = None if self.options.progress is None else not self.options.progress
        delay = 2.0 if disable is None else 0.0
        return tqdm(total=count, desc="permutations", disable=disable, delay=delay, leave=False)


def _chain(first: Tensor, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from blocks


def _regroup(blocks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in batches of ``size``."""
    held: list[Tensor] = []
    rows = 0
    for block in blocks:
        block = block.to(held[0].device) if held else block
        held.append(block)
        rows += len(block)
        while rows >= size:
            merged = torch.cat([part.to(held[-1].device) for part in held])
            yield merged[:size]
            held, rows = [merged[size:]], rows - size
    if rows:
        yield torch.cat([part.to(held[-1].device) for part in held])


def _exceedances(values: Tensor, observed: float, prepared: AbstractPrepared) -> int:
    """#{values ≥ observed}, counting values that differ by rounding alone.

    The scale is that of nearly all values: one huge null value must not blur the others.
    """
    if not np.isfinite(observed):
        return int((values >= observed).sum())
    usual = float(np.quantile(values.abs().numpy(), 0.9))
    scale = max(abs(observed), usual if np.isfinite(usual) else 0.0)
    return int((values >= observed - prepared.tolerance * scale - prepared.floor).sum())


def attainable(smallest: float, level: float, reason: str) -> tuple[str, ...]:
    """Warn, and say so in the result, when no outcome can reject."""
    if smallest <= level:
        return ()
    message = (
        f"{reason} cannot give a p-value below {smallest:.3g}, so rejection at level "
        f"{level:g} is impossible; use more permutations, more data or a higher level"
    )
    python_warnings.warn(message, UserWarning, stacklevel=2)
    return (message,)


def run_test(
    statistic: AbstractStatistic,
    sample: Pooled,
    options: PermutationOptions,
    *,
    method: str,
    details: dict[str, Any] | None = None,
    **more: Any,
) -> TestResult:
    """The permutation test of a statistic: what all tests of one number per labeling share.

    Args:
        statistic: What to compare.
        sample: The pooled sample with its labelings.
        options: How the null distribution is sampled.
        method: Name for the result.
        details: Added to what the statistic tells of itself.
        more: Further fields of the result.
    """
    prepared = statistic.prepare(sample.z, sample.sizes)
    labels = sample.labelings.observed
    if sample.constant:
        null = constant_null(float(prepared.evaluate(labels[None])[0]), options)
    else:
        null = calibrate(prepared, sample.labelings, options)
    return TestResult(
        statistic=null.observed,
        pvalue=null.pvalue,
        null_distribution=null.values,
        method=method,
        n=sample.sizes,
        permutations=len(null.values),
        exact=null.exact,
        exceedances=null.exceedances,
        warnings=null.warnings,
        effect_size=prepared.effect(labels),
        details={**prepared.details(labels), **(details or {})},
        **more,
    )


def constant_null(observed: float, options: PermutationOptions) -> Null:
    """All pooled points are equal: every labeling gives the observed value, and p = 1."""
    count = options.permutations if isinstance(options.permutations, int) else 1
    message = "all points of all samples are equal; nothing can tell them apart"
    values = torch.full((count,), observed, dtype=torch.float64)
    return Null(observed, values, count, 1.0, False, (message,))


def permutation_test(
    x: Any,
    y: Any,
    function: Callable[[Any, Any], Any],
    *,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    a: Any = None,
    b: Any = None,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test of equal distributions with any statistic of two samples.

    p = (1 + #{function(x*, y*) ≥ function(x, y)}) / (1 + B) over B random exchanges of the labels,
    or the exact share where there are at most B. One-sided: large values of the statistic speak
    against equality; return ``abs(...)`` for a two-sided test.

    Args:
        x: n points along the first axis, any shape after it (numbers, images, strings).
        y: m points likewise.
        function: ``function(x, y) -> number``. It gets what was passed: NumPy arrays (also for
            lists and data frames) or tensors, with the same trailing shape.
        permutations: B, or ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only. The function then gets pairs
            at matching positions.
        a: Weights are refused: weighted points cannot exchange labels.
        b: As ``a``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; its ``effect_size`` is None, as nothing is known of the statistic.

    Raises:
        ValueError: NaN in the samples or from the function; points of different shapes; weights.
        TypeError: Mixed tensors and arrays; a function that returns no number.

    Notes:
        The function is called B + 1 times. Where it treats many labelings at once, write an
        ``AbstractStatistic`` instead.

    Example:
        >>> x, y = [1.1, 2.3, 0.7], [8.2, 9.5, 7.7, 8.8]
        >>> result = permutation_test(x, y, lambda x, y: y.mean() - x.mean())
        >>> result.exact, result.permutations, round(result.pvalue * 35)
        (True, 35, 1)

    References:
        Phipson, Smyth (2010), Permutation p-values should never be zero.
    """
    no_weights(a, b)
    x, y = as_points(x, y)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    name = getattr(function, "__name__", type(function).__name__)
    result = run_test(
        FunctionStatistic(function, paired),
        pooled(x, y, strata=strata, paired=paired),
        options,
        method=f"permutation test of {name}",
    )
    if isinstance(x, Tensor):
        return result
    plain: TestResult = to_numpy(result)
    return plain
