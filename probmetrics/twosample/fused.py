"""One kernel test for differences of every kind: fine and wide kernels and the energy distance."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY
from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.kernels import Gaussian, Scaled
from probmetrics.twosample.aggregate import run_min_p
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import pair, pooled
from probmetrics.twosample.family import (
    KernelFamily,
    bandwidth_grid,
    grid_kernels,
    pooled_distances,
)
from probmetrics.twosample.permutation import Generator, PermutationOptions, Permutations
from probmetrics.twosample.result import TestResult

WIDE = (2.0, 8.0)  # bandwidths beyond the grid, in units of its widest
FINE = 0.5  # and the one before it, in units of its finest
SPARED = 5  # one in so many Laplacians is left out: the finest, which see what finer Gaussians do


@table_test
def fused_test(
    x: SamplesX,
    y: SamplesY,
    *,
    bandwidths: int = 10,
    permutations: Permutations = 1999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Fused kernel test: fine and wide kernels together with the energy distance, no tuning.

    The collection is that of ``mmd_aggregated_test``, Gaussian and ℓ1 Laplacian kernels from half
    the smallest to twice the largest usual distance, without the finest Laplacians; a Gaussian
    kernel finer than these, where points still have neighbours for it, which sees the shape of
    clusters; others far wider, which compare little but means; and the energy distance, which has
    no scale and is hard to beat on shifts. Kernels that add nothing cost the others power.
    The statistic is the smallest of their p-values, calibrated by ranking the labelings, with
    ties resolved by the mean log p-value. Single kernels win on one kind of difference each;
    this test stays close to the winner on most (benchmarks/results/power.md).

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        bandwidths: Per kind of kernel.
        permutations: B random labelings; all are enumerated where there are at most B.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only. For n = m unpaired points
            too this is a valid test, the wild bootstrap, at a quarter of the cost.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; its statistic is −log of the smallest p-value, and ``details`` holds,
        per kernel, ``values`` (MMD²; the energy distance for the last), ``pvalues``, ``adjusted``
        and ``kernels``. ``kernel`` is the one with the smallest p-value.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns.

    Notes:
        Time K (N²/2)(d + B) flops for K ≤ 2 · bandwidths − ⌊bandwidths / 5⌋ + 4 kernels, exact at
        any sample size. No bandwidth sees the labels.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 60, 3, generator=g)
        >>> fused_test(x, 1.8 * y, generator=0).reject()
        True

    References:
        Schrab, Kim, Albert, Laurent, Guedj, Gretton (2023), MMD aggregated two-sample test;
        Westfall, Young (1993), Resampling-based multiple testing, ch. 2.
    """
    x, y = pair(x, y)
    bandwidths = checks.count(bandwidths, "bandwidths")
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    sample = pooled(x, y, strata=strata, paired=paired)
    kernels = fused_collection(sample.z, bandwidths)
    result = run_min_p(KernelFamily(kernels, paired=paired), sample, options, method="fused")
    best = int(result.details["pvalues"].argmin())
    return replace(result, kernel=kernels[best], details={**result.details, "kernels": kernels})


def fused_collection(z: Tensor, bandwidths: int) -> tuple[AbstractGround, ...]:
    """Gaussian and Laplacian kernels over their grids, finer and wider Gaussians, −distance."""
    gaussian = grid_kernels(z, bandwidths, shapes=("gaussian",))
    laplacian = grid_kernels(z, bandwidths, shapes=("laplacian",))[bandwidths // SPARED :]
    grid = bandwidth_grid(z, "gaussian", bandwidths)
    fine = [FINE * min(grid)] if _neighbours(z, FINE * min(grid)) >= 1 else []
    beyond = (Gaussian(h) for h in (*fine, *(max(grid) * factor for factor in WIDE)))
    return (*gaussian, *laplacian, *beyond, Scaled(Euclidean(), -1.0))


def _neighbours(z: Tensor, bandwidth: float) -> float:
    """How many other pooled points a point effectively has in a Gaussian kernel of this width.

    The effective number of pairs, (Σ k)² / Σ k², over the number of points. Below one the kernel
    sees a few accidental pairs only: it has no power and costs the other kernels theirs.
    """
    t = pooled_distances(z, "gaussian").square()
    values = Gaussian(bandwidth).profile(t, z.shape[-1])
    share = float(values.sum().square() / values.square().sum().mul(len(values)).clamp_min(1e-300))
    return share * (len(z) - 1) / 2
