"""The samples of many labelings at once, and what a null distribution says about a size."""

import torch
from torch import Tensor

from probmetrics.twosample.result import TestResult


def split_rows(points: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """The two samples of each labeling, shapes (B, n, d) and (B, m, d).

    Args:
        points: Pooled points, shape (N, d).
        first: Which points belong to the first sample, equally many in each row, shape (B, N).
    """
    n = int(first[0].sum())
    order = first.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    gathered = points[order]
    return gathered[:, :n], gathered[:, n:]


def above_null(result: TestResult, unit: float) -> float | None:
    """The statistic less its mean over the labelings, in a unit: zero on average under equality."""
    if not unit > 0 or result.permutations == 0:
        return None
    null = torch.as_tensor(result.null_distribution, dtype=torch.float64)
    return (result.statistic - float(null.mean())) / unit
