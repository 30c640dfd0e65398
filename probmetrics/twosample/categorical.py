"""Tests of categorical columns: χ², likelihood ratio and Fisher's, calibrated by permutation."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import to_numpy
from probmetrics.twosample.aggregate import run_min_p
from probmetrics.twosample.columns import column_names
from probmetrics.twosample.design import as_points, no_weights, pooled
from probmetrics.twosample.permutation import Generator, PermutationOptions, Permutations
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared, AbstractStatistic

STATISTICS = ("chi2", "g", "fisher")


def categorical_test(
    x: Any,
    y: Any,
    *,
    statistic: str = "chi2",
    permutations: Permutations = 9999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    a: Any = None,
    b: Any = None,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test that the categories of each column are equally frequent in both samples.

    Exchanging labels fixes both margins of the table of sample against category, which is the
    distribution behind Fisher's exact test; no cell is too small. With several columns the test
    is the smallest of their p-values, calibrated over the same labelings.

    Args:
        x: n categories, shape (n,), or n rows of d of them, shape (n, d): strings, numbers,
            a data frame.
        y: m likewise.
        statistic: ``"chi2"``: Pearson's Σ (observed − expected)² / expected. ``"g"``: the
            likelihood ratio, 2 Σ observed log(observed / expected). ``"fisher"``: −log of the
            table's probability given its margins (Freeman–Halton).
        permutations: B random labelings; all are enumerated where there are at most B.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings.
        strata: (labels of x's rows, labels of y's rows); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only.
        a: Weights are refused: weighted rows cannot exchange labels; repeat rows instead.
        b: As ``a``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; ``details`` holds, per column, ``values`` (the statistics), ``pvalues``,
        ``adjusted``, ``categories`` and ``tables`` (counts, shape (2, categories)).
        ``effect_size`` is the largest Cramér's V of any column, in [0, 1].

    Raises:
        ValueError: Fewer than two rows, missing values, different d or columns, an unknown
            statistic.

    Notes:
        Time O(N · categories · B).

    Example:
        >>> x = ["red"] * 9 + ["blue"] * 1
        >>> y = ["red"] * 2 + ["blue"] * 8
        >>> result = categorical_test(x, y, generator=0)
        >>> result.details["tables"][0].tolist(), result.pvalue < 0.02
        ([[1, 9], [8, 2]], True)

    References:
        Agresti (2013), Categorical Data Analysis, Sections 3.2 and 3.5; Freeman, Halton (1951).
    """
    no_weights(a, b)
    checks.choice(statistic, "statistic", STATISTICS)
    names = column_names(x, y)
    first, second = as_points(x, y)
    tensors = isinstance(first, Tensor)
    tables = [_columns(points, name) for points, name in ((first, "x"), (second, "y"))]
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    codes, categories = encode(*tables)
    split = len(tables[0])
    sample = pooled(codes[:split], codes[split:], strata=strata, paired=paired)
    counted = CategoryStatistic(statistic, tuple(len(c) for c in categories))
    result = run_min_p(counted, sample, options, method=f"{statistic} by column", columns=names)
    counts = [
        np.stack([np.bincount(part[:, k], minlength=len(c)) for part in np.split(codes, [split])])
        for k, c in enumerate(categories)
    ]
    details = {**result.details, "categories": categories, "tables": counts}
    result = replace(result, details=details, effect_size=max(map(_cramer, counts)))
    if tensors:
        return result
    plain: TestResult = to_numpy(result)
    return plain


def _columns(points: Any, name: str) -> np.ndarray:
    """Rows of categories, shape (n, d)."""
    array = points.detach().cpu().numpy() if isinstance(points, Tensor) else points
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) < 2:
        raise ValueError(
            f"{name} must have shape (n,) or (n, d) with n >= 2, got {tuple(points.shape)}"
        )
    if array.dtype.kind == "O":
        missing = [i for i, row in enumerate(array) if any(v is None or v != v for v in row)]
        if missing:
            raise ValueError(
                f"{name} misses values in {len(missing)} rows, the first at row {missing[0]}; "
                "drop these rows, or give missing values a category of their own"
            )
    return np.asarray(array)


def encode(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, list[list[Any]]]:
    """Numbers in place of categories, shape (n + m, d), and the categories of each column."""
    both = np.concatenate([x, y])
    codes = np.empty(both.shape, dtype=np.int64)
    categories = []
    for k in range(both.shape[1]):
        column = both[:, k]
        if column.dtype.kind == "O":  # mixed kinds have no order of their own
            known = sorted(set(column.tolist()), key=lambda value: (type(value).__name__, value))
            index = {value: i for i, value in enumerate(known)}
            codes[:, k] = [index[value] for value in column.tolist()]
        else:
            values, inverse = np.unique(column, return_inverse=True)
            known, codes[:, k] = values.tolist(), inverse.reshape(-1)
        categories.append(known)
    return codes, categories


def _cramer(table: np.ndarray) -> float:
    """Cramér's V = √(χ²/N) for two samples."""
    table = table[:, table.sum(0) > 0].astype(np.float64)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    return float(np.sqrt(((table - expected) ** 2 / expected).sum() / table.sum()))


@dataclass(frozen=True)
class CategoryStatistic(AbstractStatistic):
    """A statistic of the table of sample against category, for every column.

    Attributes:
        name: One of ``STATISTICS``.
        categories: How many each column has.
    """

    name: str
    categories: tuple[int, ...]

    def prepare(self, z: Any, sizes: tuple[int, ...]) -> "_PreparedCategories":
        """Indicators of the categories of each column."""
        codes = torch.as_tensor(z)
        onehot = [
            torch.nn.functional.one_hot(column, count).double()
            for column, count in zip(codes.mT, self.categories, strict=True)
        ]
        return _PreparedCategories(self.name, onehot)


class _PreparedCategories(AbstractPrepared):
    tolerance = 1e-9

    def __init__(self, name: str, onehot: list[Tensor]) -> None:
        self.name, self.onehot = name, onehot
        self.batch = max(1, BUDGET // (16 * len(onehot[0])))

    def evaluate(self, labels: Tensor) -> Tensor:
        first = (labels == 0).double().cpu()
        return torch.stack([self._column(first, column) for column in self.onehot], dim=-1)

    def _column(self, first: Tensor, onehot: Tensor) -> Tensor:
        """The statistic of one column from its counts, shape (B, 2, categories)."""
        margin = onehot.sum(0)
        mine = first @ onehot
        counts = torch.stack([mine, margin - mine], dim=-2)
        if self.name == "fisher":
            # P(table) = Π margins! / (N! Π counts!), and the margins are the same throughout.
            constant = torch.lgamma(margin + 1).sum() - torch.lgamma(margin.sum() + 1)
            sizes = torch.lgamma(counts.sum(-1) + 1).sum(-1)
            return torch.lgamma(counts + 1).sum((-1, -2)) - sizes - constant
        expected = counts.sum(-1, keepdim=True) * margin / margin.sum()
        if self.name == "g":
            return 2 * torch.xlogy(counts, counts / expected).sum((-1, -2))
        return ((counts - expected).square() / expected).sum((-1, -2))
