"""The answer in a sentence, with its multiplicity, and what the test could have missed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probmetrics.report.differences import Feature, holm
from probmetrics.twosample.result import TestResult

POWER = 0.8  # share of samples in which the quoted shift would have been found
SPLITS = 8
LARGE, FEW = 4000, 3  # from so many points on, so few deals do: each takes seconds
NAMED = 3  # features named in the sentence


@dataclass(frozen=True)
class Verdict:
    """What the tests say together.

    Attributes:
        different: Whether any test rejects after Holm's adjustment; None where no outcome could
            have (too few points or permutations).
        pvalue: The smallest Holm-adjusted p-value, which is a valid p-value for "no difference".
        adjusted: Holm-adjusted p-value of each test, by name.
        level: The significance level, one less the confidence level.
        detectable_shift: Where no difference was found: the shift of all columns, in pooled
            standard deviations, that the energy test would have found about four times in five.
        sentence: All this in words.
    """

    different: bool | None
    pvalue: float
    adjusted: dict[str, float]
    level: float
    detectable_shift: float | None
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def judge(
    tests: dict[str, TestResult],
    features: Sequence[Feature],
    x: Tensor,
    y: Tensor,
    *,
    level: float,
    names: tuple[str, str],
    what: str,
    generator: torch.Generator,
) -> Verdict:
    """The verdict on two samples.

    Args:
        tests: The permutation tests, by name; "energy" among them.
        features: Columns, the most different first.
        x: A as compared.
        y: B as compared.
        level: Significance level.
        names: Names of the samples.
        what: What a column is called, "feature" or "pixel".
        generator: Draws the splits behind ``detectable_shift``.
    """
    adjusted = dict(zip(tests, holm([t.pvalue for t in tests.values()]), strict=True))
    pvalue = min(adjusted.values())
    attainable = min(float(np.min(smallest_pvalue(t))) for t in tests.values()) * len(tests)
    if pvalue <= level:
        sentence = _found(pvalue, len(tests), features, level, names, what)
        return Verdict(True, pvalue, adjusted, level, None, sentence)
    if attainable > level:
        sentence = (
            f"Undecided: with n = {len(x):,} and m = {len(y):,} and these permutations no outcome "
            f"could be significant at the {level:.3g} level ({_tests(pvalue, len(tests))}). "
            "More data or more permutations are needed."
        )
        return Verdict(None, pvalue, adjusted, level, None, sentence)
    shift = detectable_shift(tests["energy"], x, y, level / len(tests), generator)
    sentence = _not_found(pvalue, len(tests), features, level, (len(x), len(y)), shift, names, what)
    return Verdict(False, pvalue, adjusted, level, shift, sentence)


def smallest_pvalue(test: TestResult) -> float:
    """The smallest p-value that this many labelings could have given."""
    null = np.asarray(test.null_distribution)
    if not test.exact:
        return 1.0 / (1 + test.permutations)
    return float((null >= null.max() * (1 - 1e-9)).mean()) if len(null) else 1.0


def detectable_shift(
    test: TestResult, x: Tensor, y: Tensor, level: float, generator: torch.Generator
) -> float | None:
    """Shift of all columns, in standard deviations, that the energy test finds in 80% of cases.

    The pooled sample is dealt at random into samples of the sizes at hand, one of them is shifted,
    and the shift at which the energy distance crosses the test's critical value is found by two
    secant steps (the distance grows with the square of a small shift). Of some deals the 80%
    quantile is quoted. Each column moves by that many of its own standard deviations, so one
    without spread does not move.
    """
    from probmetrics.discrepancy import energy_distance

    critical = float(np.quantile(np.asarray(test.null_distribution), 1 - level, method="higher"))
    pooled = torch.cat([x, y])
    direction = pooled.std(dim=0)
    if not float(direction.sum()) > 0:
        return None
    needed = []
    for _ in range(SPLITS if len(pooled) < LARGE else FEW):
        order = torch.randperm(len(pooled), generator=generator)
        first, second = pooled[order[: len(x)]], pooled[order[len(x) :]]

        def excess(square: float, first: Tensor = first, second: Tensor = second) -> float:
            value = energy_distance(first, second + square**0.5 * direction)
            return float(value) - critical

        needed.append(_crossing(excess) ** 0.5)
    shift = float(np.quantile(needed, POWER))
    return shift if np.isfinite(shift) and shift > 0 else None


def _crossing(excess: Callable[[float], float]) -> float:
    """Where an increasing, nearly linear function of t ≥ 0 crosses zero: secant steps from 0."""
    low, at_low = 0.0, excess(0.0)
    if at_low >= 0:
        return 0.0
    high = 0.05
    at_high = excess(high)
    while at_high < 0 and high < 1e4:
        low, at_low, high = high, at_high, 4 * high
        at_high = excess(high)
    if at_high < 0:
        return float("inf")
    for _ in range(2):  # regula falsi keeps the bracket
        middle = low - at_low * (high - low) / (at_high - at_low)
        at_middle = excess(middle)
        if at_middle < 0:
            low, at_low = middle, at_middle
        else:
            high, at_high = middle, at_middle
    return low - at_low * (high - low) / (at_high - at_low)


def _tests(pvalue: float, count: int) -> str:
    shown = f"p = {pvalue:.3g}"
    return shown + (f", Holm-adjusted over {count} tests" if count > 1 else "")


def _found(
    pvalue: float,
    count: int,
    features: Sequence[Feature],
    level: float,
    names: tuple[str, str],
    what: str,
) -> str:
    start = f"{names[0]} and {names[1]} differ ({_tests(pvalue, count)})."
    telling = [f for f in features if f.adjusted_pvalue <= level]
    if len(features) == 1:
        return f"{start} Mass must move by {_how(features[0], names[1])}."
    if not telling:
        return (
            f"{start} No single {what} stands out after adjustment: the difference lies in how "
            "they go together, or is spread thinly over many."
        )
    named = ", ".join(f"{f.name} ({_how(f, names[1])})" for f in telling[:NAMED])
    return (
        f"{start} {len(telling)} of {len(features)} {what}s differ on their own; the largest "
        f"differences are in {named}."
    )


def _how(feature: Feature, name: str) -> str:
    """How far a column moved, and whether that is a shift of its mean or of its shape."""
    size = f"{feature.wasserstein:.2g} sd"
    if abs(feature.shift) < 0.5 * feature.wasserstein:
        return f"{size}, another shape in {name}"
    return f"{size}, {'higher' if feature.shift > 0 else 'lower'} in {name}"


def _not_found(
    pvalue: float,
    count: int,
    features: Sequence[Feature],
    level: float,
    sizes: tuple[int, int],
    shift: float | None,
    names: tuple[str, str],
    what: str,
) -> str:
    start = (
        f"No difference between {names[0]} and {names[1]} found at the {100 * level:.3g}% level "
        f"with n = {sizes[0]:,} and m = {sizes[1]:,} ({_tests(pvalue, count)})."
    )
    telling = [f for f in features if f.adjusted_pvalue <= level]
    if telling and len(features) > 1:
        start += f" Yet on its own {telling[0].name} differs (adjusted p = " + (
            f"{telling[0].adjusted_pvalue:.2g}): look at that {what}."
        )
    if shift is None:
        return f"{start} That is no proof that there is none."
    every = f"every {what} by" if len(features) > 1 else "the values by"
    return (
        f"{start} A shift of {every} about {shift:.2g} standard deviations would have been found "
        "four times in five; smaller or subtler differences can go unseen."
    )
