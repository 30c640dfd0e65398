"""Mixed tables: numeric and categorical columns compared by a product kernel."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy
from probmetrics.pairwise.kernels import Gaussian
from probmetrics.twosample.categorical import encode
from probmetrics.twosample.columns import column_names
from probmetrics.twosample.design import no_weights, pooled
from probmetrics.twosample.kernel_statistic import KernelStatistic
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult

Columns = Sequence[str | int]


def mixed_test(
    x: Any,
    y: Any,
    *,
    categorical: Columns | None = None,
    bandwidth: float | None = None,
    mismatch: float | None = None,
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
    """MMD test of tables with numeric and categorical columns, by a product kernel.

    k(z, z′) = exp(−‖u − u′‖² / 2σ²) · exp(−θ · #{categories that differ}) with u the numeric
    columns in units of their pooled standard deviations. It is a Gaussian kernel of (u/σ, √θ · one
    indicator per category), hence characteristic: it sees differences in the columns of either
    kind and in the dependence between them.

    Args:
        x: Table of n ≥ 2 rows: a data frame, or an array of shape (n, d) or (n,).
        y: Table of m ≥ 2 rows with the same columns.
        categorical: Names or positions of the categorical columns. ``None`` takes those that hold
            text, booleans, categories or mixed kinds.
        bandwidth: σ, in units of the pooled standard deviations; None is the median distance.
        mismatch: θ; None makes the kernel fall to e^{−½} at the mean number of mismatches, as the
            Gaussian factor does at its median.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's rows, labels of y's rows); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only.
        a: Weights are refused: weighted points cannot exchange labels.
        b: As ``a``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; ``effect_size`` as for ``mmd_test``. ``details`` has ``mismatch`` θ and
        the names of the ``categorical`` columns.

    Raises:
        ValueError: Fewer than two rows, missing values, different columns, unknown names.
        TypeError: A column declared numeric that holds text.

    Notes:
        Cost as for ``mmd_test`` at d = numeric columns + categories.

    Example:
        >>> import pandas as pd
        >>> age, plan = [20, 30, 25, 41, 38, 29] * 5, ["free", "paid", "free"] * 10
        >>> x = pd.DataFrame({"age": age, "plan": plan})
        >>> y = pd.DataFrame({"age": age, "plan": ["paid"] * 30})
        >>> result = mixed_test(x, y, generator=0)
        >>> result.columns, result.reject()
        (('age', 'plan'), True)

    References:
        Gretton (2015), A simpler condition for consistency of a kernel independence test
        (products of characteristic kernels).
    """
    no_weights(a, b)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    table = embed_tables(x, y, categorical)
    sigma = None if bandwidth is None else checks.positive(bandwidth, "bandwidth")
    theta = None if mismatch is None else checks.positive(mismatch, "mismatch")
    sample = pooled(*table.points.split(table.sizes), strata=strata, paired=paired)
    points, sigma, theta = table.scaled(sample.z, sigma, theta)
    result = run_test(
        KernelStatistic(Gaussian(1.0)),
        replace(sample, z=points),
        options,
        method="MMD, product kernel",
    )
    kernel = f"Gaussian({sigma:.4g}) × exp(−{theta:.4g} · mismatches)"
    details = {**result.details, "mismatch": theta, "categorical": table.categorical}
    result = replace(result, kernel=kernel, bandwidth=sigma, columns=table.names, details=details)
    if isinstance(x, Tensor):
        return result
    return replace(result, null_distribution=result.null_distribution.numpy())


@dataclass(frozen=True, eq=False)
class MixedTable:
    """Two tables with the same columns as numbers, pooled.

    Attributes:
        numeric: Numeric columns in units of their pooled standard deviations, shape (N, p).
        indicators: One column per category of each categorical column, shape (N, q), over √2: the
            squared distance between rows counts the columns in which they differ.
        sizes: Rows of each table.
        names: Names of all columns, where the tables have them.
        categorical: Names, or positions, of the categorical columns.
    """

    numeric: Tensor
    indicators: Tensor
    sizes: list[int]
    names: tuple[str, ...] | None
    categorical: tuple[str | int, ...]

    @property
    def points(self) -> Tensor:
        """Numeric columns, then indicators, shape (N, p + q)."""
        return torch.cat([self.numeric, self.indicators], dim=-1)

    def scaled(
        self, z: Tensor, sigma: float | None, theta: float | None
    ) -> tuple[Tensor, float, float]:
        """Points whose Gaussian kernel of bandwidth one is the product kernel; σ and θ.

        Args:
            z: The points in an order of their own, shape (N, p + q).
            sigma: σ; None is the median distance of the numeric part.
            theta: θ; None is ½ over the mean number of mismatches.
        """
        p = self.numeric.shape[1]
        numeric, indicators = z[:, :p], z[:, p:]
        if sigma is None:
            sigma = _typical(torch.pdist(_some(numeric))) if p else 1.0
        if theta is None:
            mismatches = torch.pdist(_some(indicators)).square()
            mean = float(mismatches.mean()) if mismatches.numel() else 0.0
            theta = 0.5 / mean if mean > 0 else 1.0
        scaled = torch.cat([numeric / sigma, indicators * (2 * theta) ** 0.5], dim=-1)
        return scaled, sigma, theta


def embed_tables(x: Any, y: Any, categorical: Columns | None = None) -> MixedTable:
    """Two tables as numbers, with categorical columns as indicators; scales see no labels."""
    names = column_names(x, y)
    answers_in_numpy({"x": x, "y": y})  # refuses a mixture of kinds
    first, second = table_columns(x, "x"), table_columns(y, "y")
    if len(first) != len(second):
        raise ValueError(
            f"x has {len(first)} columns and y has {len(second)}; both need the same ones"
        )
    sizes = [len(first[0]), len(second[0])]
    chosen = _chosen(categorical, names, first, second)
    numeric, indicators = [], []
    for k, (u, v) in enumerate(zip(first, second, strict=True)):
        label = names[k] if names is not None else k
        if k in chosen:
            codes, known = encode(_known(u, label)[:, None], _known(v, label)[:, None])
            indicators.append(np.eye(len(known[0]))[codes[:, 0]] / np.sqrt(2.0))
        else:
            numeric.append(_numbers(np.concatenate([u, v]), label))
    rows = sum(sizes)
    return MixedTable(
        torch.from_numpy(np.stack(numeric, -1) if numeric else np.empty((rows, 0))),
        torch.from_numpy(np.concatenate(indicators, -1) if indicators else np.empty((rows, 0))),
        sizes,
        names,
        tuple(names[k] if names is not None else k for k in sorted(chosen)),
    )


def table_columns(table: Any, name: str) -> list[np.ndarray]:
    """The columns of a data frame or array, each of shape (n,)."""
    if isinstance(table, Tensor):
        table = table.detach().cpu().numpy()
    if hasattr(table, "columns"):
        columns = [_column(table[label]) for label in table.columns]
    else:
        if np.ma.is_masked(table):
            raise ValueError(f"{name} has masked values; drop or impute these before comparing")
        array = np.asarray(table)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2:
            raise ValueError(f"{name} must be a table of shape (n, d), got shape {array.shape}")
        columns = [_column(column) for column in array.T]
    if not columns or len(columns[0]) < 2:
        raise ValueError(f"{name} needs at least one column and two rows")
    if any(column.dtype.kind == "c" for column in columns):
        raise TypeError(f"{name} is complex; pass real numbers, e.g. its real and imaginary parts")
    return columns


def _column(series: Any) -> np.ndarray:
    """A column of a data frame; one declared categorical as objects, times as numbers."""
    array = np.asarray(series)
    if str(getattr(series, "dtype", "")) == "category":
        return array.astype(object)
    if array.dtype.kind in "mM":
        return np.where(np.isnat(array), np.nan, array.astype(np.int64).astype(np.float64))
    return _plain(array)


def has_times(table: Any) -> bool:
    """Whether a table has columns of times or durations, which are numbers to ``mixed_test``."""
    if hasattr(table, "columns"):
        return any(np.asarray(table[label]).dtype.kind in "mM" for label in table.columns)
    return not isinstance(table, Tensor) and np.asarray(table).dtype.kind in "mM"


def is_categorical(column: np.ndarray) -> bool:
    """Whether a column holds text, booleans, categories or mixed kinds instead of numbers."""
    return column.dtype.kind not in "iuf"


def _plain(column: np.ndarray) -> np.ndarray:
    """An object column of numbers as numbers."""
    if column.dtype.kind == "O" and all(
        (isinstance(v, int | float | np.number) and not isinstance(v, bool))
        or type(v).__name__ == "NAType"
        for v in column
    ):
        return np.array([np.nan if _absent(v) else float(v) for v in column])
    return column


def _chosen(
    categorical: Columns | None,
    names: tuple[str, ...] | None,
    first: list[np.ndarray],
    second: list[np.ndarray],
) -> set[int]:
    """Positions of the categorical columns."""
    if categorical is None:
        return {
            k
            for k, columns in enumerate(zip(first, second, strict=True))
            if any(is_categorical(column) for column in columns)
        }
    known = list(names) if names is not None else []
    found = set()
    for name in categorical:
        if name in known:
            found.add(known.index(str(name)))
        elif isinstance(name, int) and 0 <= name < len(first):
            found.add(name)
        else:
            wanted = ", ".join(known) if known else f"positions 0 … {len(first) - 1}"
            raise ValueError(f"categorical names an unknown column {name!r}; known: {wanted}")
    return found


def _known(column: np.ndarray, label: str | int) -> np.ndarray:
    """A categorical column without missing values."""
    missing = [_absent(v) for v in column.tolist()]
    if any(missing):
        raise ValueError(
            f"column {label!r} misses {sum(missing)} values, the first in row "
            f"{missing.index(True)}; drop these rows, or give missing values a category"
        )
    return column


def _absent(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def _numbers(column: np.ndarray, label: str | int) -> np.ndarray:
    """A numeric column, centred, in units of its standard deviation."""
    if column.dtype.kind not in "iufb":
        raise TypeError(
            f"column {label!r} holds {column.dtype}, wanted numbers; name it in categorical=[...]"
        )
    column = column.astype(np.float64)
    checks.finite(torch.from_numpy(column), f"column {label!r}")
    column = column - column[0]
    spread = float(column.std())
    return (column - column.mean()) / spread if spread > 0 else np.zeros_like(column)


def _some(points: Tensor, most: int = 1000) -> Tensor:
    """At most so many rows, in shuffled order, whatever their labels."""
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:most]
    return points[order]


def _typical(distances: Tensor) -> float:
    """The median of the distances above zero; 1 without any."""
    apart = distances[distances > 0]
    return float(apart.median()) if len(apart) else 1.0
