"""Many statistics, one test: calibrate the smallest of their p-values over the same labelings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics.twosample.design import Pooled
from probmetrics.twosample.permutation import (
    PermutationOptions,
    attainable,
    component_values,
    constant_null,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import AbstractStatistic

TIE_BREAK = 1e-6  # weight of the other statistics where the smallest p-values tie


@dataclass(frozen=True)
class MinP:
    """The smallest of many p-values, calibrated.

    Attributes:
        observed: −log of the smallest weighted p-value of the observed labeling.
        null: The same of every other labeling, shape (B,); of all of them when enumerated.
        exceedances: #{null ≥ observed}.
        pvalue: Of the whole test.
        each: p-value of each statistic alone, shape (K,).
        adjusted: p-values of all statistics, valid together: the chance that any of them is at
            most one of these is bounded by it (family-wise), shape (K,).
    """

    observed: float
    null: Tensor
    exceedances: int
    pvalue: float
    each: np.ndarray
    adjusted: np.ndarray


def min_p(
    observed: Tensor,
    values: Tensor,
    *,
    exact: bool,
    weights: Tensor | None = None,
    tolerance: float = 1e-9,
) -> MinP:
    """Calibrate the smallest weighted p-value of several statistics by the labelings themselves.

    Every labeling, the observed one among them, gets its rank p-value in each statistic, and then
    T = min_k p_k / w_k. Under exchangeability the T of all labelings are exchangeable too,
    whatever the dependence between statistics, so their own rank calibrates them: no second round
    of permutations and no search for a corrected level is needed. Ties in T are broken by the mean
    log p-value, also a symmetric function of the labelings.

    Args:
        observed: Statistics of the observed labeling, shape (K,).
        values: Of the others, shape (B, K); of all labelings, the observed included, if exact.
        exact: Whether all labelings were enumerated.
        weights: w_k > 0, shape (K,); equal if None.
        tolerance: Values closer than this, relative to their scale, are ties.

    References:
        Westfall, Young (1993), Resampling-based multiple testing, ch. 2 (single-step min-P);
        Schrab, Kim, Albert, Laurent, Guedj, Gretton (2023), MMD aggregated two-sample test, eq. 15.
    """
    everything = values if exact else torch.cat([observed[None], values])
    ranks = torch.stack(
        [_rank_pvalues(column, tolerance) for column in everything.unbind(-1)], dim=-1
    )
    mine = _at(everything, observed) if exact else 0
    shares = torch.ones_like(observed) if weights is None else weights / weights.mean()
    logs = (ranks / shares).log()
    smallest = logs.min(-1).values
    score = -smallest - TIE_BREAK * ranks.log().mean(-1)
    others = score if exact else score[1:]
    slack = 1e-12
    exceedances = int((others >= score[mine] - slack).sum())
    plus = 0 if exact else 1
    joint = [int((smallest <= log + slack).sum()) / len(smallest) for log in logs[mine].tolist()]
    return MinP(
        observed=float(score[mine]) + 0.0,  # no −0
        null=others,
        exceedances=exceedances,
        pvalue=(plus + exceedances) / (plus + len(others)),
        each=ranks[mine].numpy(),
        adjusted=np.array(joint),
    )


def _rank_pvalues(values: Tensor, tolerance: float) -> Tensor:
    """#{j: v_j ≥ v_i} / #, counting ties up to rounding, shape (B,)."""
    ordered = values.sort().values
    usual = values.abs().quantile(0.9) if len(values) < 2**24 else values.abs().median()
    slack = tolerance * torch.maximum(values.abs(), usual)
    below = torch.searchsorted(ordered, values - slack)
    return (len(values) - below).to(torch.float64) / len(values)


def _at(everything: Tensor, observed: Tensor) -> int:
    """Which of the enumerated labelings gives the observed values."""
    return int((everything - observed).abs().sum(-1).argmin())


def run_min_p(
    statistic: AbstractStatistic,
    sample: Pooled,
    options: PermutationOptions,
    *,
    method: str,
    weights: Tensor | None = None,
    names: tuple[str, ...] | None = None,
    **more: Any,
) -> TestResult:
    """The permutation test of the smallest p-value among a family of statistics.

    ``details`` of the result tells, for each member of the family, its observed value, its own
    p-value and its adjusted one.
    """
    if isinstance(options.permutations, str):
        raise ValueError(
            f"permutations='auto' is for tests of one statistic; {method} ranks many, "
            "so say how many labelings, e.g. permutations=1999"
        )
    prepared = statistic.prepare(sample.z, sample.sizes)
    labels = sample.labelings.observed
    if sample.constant:
        observed = prepared.evaluate(labels[None])[0].to("cpu", torch.float64)
        null = constant_null(0.0, options)
        ones = np.ones(len(observed))
        found = MinP(0.0, null.values, null.exceedances, 1.0, ones, ones)
        exact, warnings = False, null.warnings
    else:
        observed, values, exact = component_values(prepared, sample.labelings, options)
        found = min_p(observed, values, exact=exact, weights=weights, tolerance=prepared.tolerance)
        warnings = attainable(
            1 / (len(values) + (not exact)), options.level, f"{len(values)} labelings"
        )
    family: dict[str, Any] = {
        "values": observed.numpy(),
        "pvalues": found.each,
        "adjusted": found.adjusted,
    }
    if names is not None:
        family["names"] = names
    return TestResult(
        statistic=found.observed,
        pvalue=found.pvalue,
        null_distribution=found.null,
        method=method,
        n=sample.sizes,
        permutations=len(found.null),
        exact=exact,
        exceedances=found.exceedances,
        warnings=warnings,
        details={**family, **prepared.details(labels)},
        **more,
    )
