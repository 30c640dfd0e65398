"""Kernel tests without a bandwidth to choose: aggregated (MMDAgg) and fused (MMD-FUSE)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probmetrics._arrays import SamplesX, SamplesY
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.twosample.aggregate import run_min_p
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import pair, pooled
from probmetrics.twosample.family import KernelFamily, PreparedFamily, grid_kernels
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import AbstractPrepared, AbstractStatistic


@table_test
def mmd_aggregated_test(
    x: SamplesX,
    y: SamplesY,
    *,
    kernels: Sequence[AbstractGround] | None = None,
    bandwidths: int = 10,
    weights: Sequence[float] | None = None,
    permutations: Permutations = 1999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """MMDAgg: tests with many kernels aggregated into one that keeps its level.

    Every kernel's unbiased MMD² gets a permutation p-value p_k; the statistic is the smallest
    p_k / w_k, calibrated over the same labelings. It adapts to the scale of the difference: no
    single bandwidth could be tuned much better in hindsight.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        kernels: The collection; ``None`` is Gaussian and ℓ1 Laplacian kernels over ``bandwidths``
            geometrically spaced bandwidths each, from half the 5% quantile of the distances
            between pooled points to twice the 95% quantile.
        bandwidths: Per kind of kernel, of the default collection.
        weights: One per kernel, above zero; equal if None.
        permutations: B random labelings; all are enumerated where there are at most B. The
            smallest of K p-values needs more labelings than one: about K/level.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only. For n = m unpaired points
            too this is a valid test, the wild bootstrap, at a quarter of the cost.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; its statistic is −log of the smallest p-value. ``details`` holds, per
        kernel, ``values`` (MMD²), ``pvalues``, ``adjusted`` and ``kernels``; ``kernel`` is the
        one with the smallest p-value.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, weights that do not fit.

    Notes:
        Time K (N²/2)(d + B) flops for K kernels; memory 8 N B bytes of labels in batches and at
        most 256 MB of kernel matrices. The published test estimates a corrected level from a
        second set of permutations; ranking the labelings against each other needs only one set
        and is exact. The published default reads its bandwidths off distances from x to y, which
        see the labels; ours come from the pooled sample.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 60, 3, generator=g)
        >>> mmd_aggregated_test(x, 2 * y, generator=0).reject()
        True

    References:
        Schrab, Kim, Albert, Laurent, Guedj, Gretton (2023), MMD aggregated two-sample test.
    """
    x, y = pair(x, y)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    sample = pooled(x, y, strata=strata, paired=paired)
    family = _collection(sample.z, kernels, bandwidths, "geometric")
    result = run_min_p(
        KernelFamily(family, paired=paired),
        sample,
        options,
        method="MMDAgg",
        weights=_weights(weights, len(family)),
    )
    best = int(result.details["pvalues"].argmin())
    return replace(result, kernel=family[best], details={**result.details, "kernels": family})


@table_test
def mmd_fuse_test(
    x: SamplesX,
    y: SamplesY,
    *,
    kernels: Sequence[AbstractGround] | None = None,
    bandwidths: int = 10,
    permutations: Permutations = 1999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """MMD-FUSE: the soft maximum of many normalised MMDs, calibrated by permutation.

    The statistic is (1/λ) log mean_k exp(λ MMD²_k / √N_k) with the unbiased MMD², the size
    N_k = Σ_{i≠j} k(z_i, z_j)² / (n(n−1)) over pooled points, and λ = n(n−1), n the smaller
    sample size.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        kernels: The collection; ``None`` is Gaussian and ℓ1 Laplacian kernels over ``bandwidths``
            evenly spaced bandwidths each, from half the 5% quantile of the distances between
            pooled points to twice the 95% quantile.
        bandwidths: Per kind of kernel, of the default collection.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only. For n = m unpaired points
            too this is a valid test, the wild bootstrap, at a quarter of the cost.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``. ``details`` has ``values`` (MMD² per kernel), ``shares`` (each kernel's
        part in the soft maximum) and ``kernels``; ``kernel`` is the one with the largest part.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns.

    Notes:
        Cost as for ``mmd_aggregated_test``. N_k does not see the labels. The paper states
        λ = √(n(n−1)); the authors' program, with which its powers were found, has λ = n(n−1),
        close to a maximum, and so has this function: among clusters it rejects more often.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 60, 3, generator=g)
        >>> mmd_fuse_test(x, 2 * y, generator=0).reject()
        True

    References:
        Biggs, Schrab, Gretton (2023), MMD-FUSE: learning and combining kernels for two-sample
        testing without data splitting, Section 4.
    """
    x, y = pair(x, y)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    sample = pooled(x, y, strata=strata, paired=paired)
    family = _collection(sample.z, kernels, bandwidths, "linear")
    result = run_test(
        FuseStatistic(KernelFamily(family, paired=paired)), sample, options, method="MMD-FUSE"
    )
    best = int(result.details["shares"].argmax())
    return replace(result, kernel=family[best], details={**result.details, "kernels": family})


def _collection(
    z: Tensor, kernels: Sequence[AbstractGround] | None, bandwidths: int, spacing: str
) -> tuple[AbstractGround, ...]:
    if kernels is None:
        return grid_kernels(z, bandwidths, spacing=spacing)
    if len(kernels) == 0:
        raise ValueError("kernels is empty; pass at least one, or None for the default collection")
    return tuple(kernels)


def _weights(weights: Sequence[float] | None, count: int) -> Tensor | None:
    if weights is None:
        return None
    given = torch.as_tensor(weights, dtype=torch.float64)
    if given.shape != (count,) or not bool((given > 0).all()):
        raise ValueError(f"weights must be {count} positive numbers, one per kernel, got {weights}")
    return given


@dataclass(frozen=True)
class FuseStatistic(AbstractStatistic):
    """Soft maximum of normalised MMDs.

    Attributes:
        family: The kernels.
    """

    family: KernelFamily

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedFuse":
        """Prepare the kernels and their sizes N_k."""
        prepared = self.family.prepare(z, sizes)
        smallest = min(sizes)
        squares = [member.sum_of_squares() for member in prepared.members]
        return _PreparedFuse(prepared, squares, smallest)


class _PreparedFuse(AbstractPrepared):
    tolerance = 1e-6

    def __init__(self, family: PreparedFamily, squares: list[float], smallest: int) -> None:
        self.family, self.batch = family, family.batch
        pairs = smallest * (smallest - 1)
        self.factor = float(pairs)  # λ
        self.norms = torch.tensor(squares, dtype=torch.float64).div(pairs).sqrt()

    def evaluate(self, labels: Tensor) -> Tensor:
        count = len(self.norms)
        return (self._exponents(labels).logsumexp(-1) - math.log(count)) / self.factor

    def details(self, labels: Tensor) -> dict[str, Any]:
        """The parts of the kernels in the observed value."""
        return {
            "values": self.family.evaluate(labels[None])[0].cpu().numpy(),
            "shares": self._exponents(labels[None])[0].softmax(-1).cpu().numpy(),
        }

    def _exponents(self, labels: Tensor) -> Tensor:
        values = self.family.evaluate(labels)
        norms = self.norms.to(values)
        return self.factor * values / torch.where(norms > 0, norms, 1.0)
