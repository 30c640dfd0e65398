"""Kernel tests on disjoint blocks of points: linear time, signs exchanged or a normal limit."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, WeightsX, WeightsY
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import Pooled, goes_first, no_weights, pair
from probmetrics.twosample.kernel import pooled_gaussian
from probmetrics.twosample.kernel_statistic import wide
from probmetrics.twosample.labelings import Labelings
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import AbstractPrepared, AbstractStatistic

PAIRS = 2**22  # pairs of points whose kernel is evaluated at once
SIGNS = 2**22  # signs worked on at once
MANY = 30  # blocks from which a normal limit is taken without a further word


@table_test
def block_mmd_test(
    x: SamplesX,
    y: SamplesY,
    *,
    block: int | None = None,
    kernel: AbstractGround | None = None,
    calibration: str = "permutation",
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Block test (B-test): the mean of the MMD² of disjoint blocks, in time n^{3/2} by default.

    Points are paired off at random, x_i with y_i, and dealt into blocks of s pairs. The statistic
    is the mean over blocks of the U-statistic 1/(s(s−1)) Σ_{i≠j} h_ij with h_ij = k(x_i, x_j) +
    k(y_i, y_j) − k(x_i, y_j) − k(x_j, y_i).

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2; of unequal sizes a random part of the longer one is used.
        block: Pairs s per block, at least 2; None is the root of the smaller size. Pairs that
            fill no block are left out. Larger blocks cost more and are more powerful.
        kernel: A kernel of ``probmetrics.pairwise.kernels``; ``None`` is a Gaussian with the
            median distance of pooled points.
        calibration: ``"permutation"``: labels are exchanged within pairs, which turns signs of
            h; exact. ``"normal"``: the blocks are independent, so their mean over its standard
            error is compared with a normal; needs no labelings, holds for many blocks only, and
            is reported with a warning below 30.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the pairing and then the signs.
        level: Level to compare with, for warnings and for ``"auto"``.
        a: Weights are refused: weighted points cannot exchange labels.
        b: As ``a``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; its statistic estimates MMD² without bias. ``details`` has ``block``,
        ``blocks``, and the standard error of the mean over blocks.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, a block beyond the sample.

    Notes:
        Time O(n s (d + B)), memory O(n s).

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 2000, 3, generator=g)
        >>> block_mmd_test(x, 1.5 * y, generator=0).pvalue
        0.001

    References:
        Zaremba, Gretton, Blaschko (2013), B-tests: low variance kernel two-sample tests, eqs. 3–4.
    """
    no_weights(a, b)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    return _block_test(x, y, block, kernel, calibration, options, "block MMD")


@table_test
def linear_mmd_test(
    x: SamplesX,
    y: SamplesY,
    *,
    kernel: AbstractGround | None = None,
    calibration: str = "permutation",
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Linear-time MMD test: ``block_mmd_test`` with blocks of two, h(1, 2), h(3, 4), ….

    The statistic is that of ``linear_mmd``, of randomly paired points. It uses n/2 of the n²
    pairs: take it where points are plenty and time is short, else a test with more pairs.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2; of unequal sizes a random part of the longer one is used.
        kernel: As for ``block_mmd_test``.
        calibration: As for ``block_mmd_test``.
        permutations: As for ``block_mmd_test``.
        generator: As for ``block_mmd_test``.
        level: As for ``block_mmd_test``.
        a: Weights are refused.
        b: As ``a``.
        batch: As for ``block_mmd_test``.
        progress: As for ``block_mmd_test``.

    Returns:
        A ``TestResult``, as for ``block_mmd_test``.

    Raises:
        ValueError: As for ``block_mmd_test``.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 5000, 3, generator=g)
        >>> linear_mmd_test(x, 1.5 * y, calibration="normal", generator=0).reject()
        True

    References:
        Gretton, Borgwardt, Rasch, Schölkopf, Smola (2012), A kernel two-sample test, Lemma 14.
    """
    no_weights(a, b)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    return _block_test(x, y, 2, kernel, calibration, options, "linear MMD")


def _block_test(
    x: Tensor,
    y: Tensor,
    block: int | None,
    kernel: AbstractGround | None,
    calibration: str,
    options: PermutationOptions,
    method: str,
) -> TestResult:
    x, y = pair(x, y)
    checks.choice(calibration, "calibration", ("permutation", "normal"))
    smaller = min(len(x), len(y))
    wanted = max(2, math.isqrt(smaller)) if block is None else block
    size = checks.count(wanted, "block", minimum=2, maximum=smaller)
    source = options.source()
    sample, chosen = _paired_off(x, y, size, kernel, source)
    statistic = BlockStatistic(chosen, size)
    if calibration == "normal":
        result = _normal_test(statistic, sample, method)
    else:
        permuted = replace(options, generator=source)
        result = run_test(statistic, sample, permuted, method=method)
    bandwidth = getattr(chosen, "bandwidth", None)
    bandwidth = None if bandwidth is None else float(bandwidth)
    return replace(result, n=(len(x), len(y)), kernel=chosen, bandwidth=bandwidth)


def _paired_off(
    x: Tensor, y: Tensor, size: int, kernel: AbstractGround | None, source: torch.Generator
) -> tuple[Pooled, AbstractGround]:
    """Random pairs of a point of each sample, whole blocks of them, and the kernel."""
    swapped = goes_first(y, x)
    first, second = (y, x) if swapped else (x, y)
    chosen = pooled_gaussian(torch.cat([first, second])) if kernel is None else kernel
    used = min(len(x), len(y)) // size * size
    drawn = [
        z[torch.randperm(len(z), generator=source, device=source.device)[:used].to(z.device)]
        for z in (first, second)
    ]
    observed = torch.tensor([int(swapped), 1 - int(swapped)], dtype=torch.uint8)
    labelings = Labelings(observed.repeat_interleave(used), paired=True)
    flat = bool((x == x[:1]).all()) and bool((y == x[:1]).all())
    return Pooled(torch.cat(drawn), labelings, flat=flat), chosen


def _normal_test(statistic: "BlockStatistic", sample: Pooled, method: str) -> TestResult:
    """Compare the mean over blocks with its standard error."""
    prepared = statistic.prepare(sample.z, sample.sizes)
    values = prepared.block_values(sample.labelings.observed[None])[0]
    mean, error = float(values.mean()), prepared.error(values)
    warnings = ["the p-value rests on a normal limit"]
    if len(values) < MANY:
        warnings = [f"a normal limit for {len(values)} blocks is rough; use permutation"]
    pvalue = 1.0
    if error > 0 and not sample.constant:
        pvalue = 0.5 * math.erfc(mean / error / math.sqrt(2))
    else:
        warnings.append("the blocks do not vary, so nothing can be said")
    return TestResult(
        statistic=mean,
        pvalue=pvalue,
        null_distribution=torch.empty(0, dtype=torch.float64),
        method=f"{method} (normal limit)",
        n=sample.sizes,
        permutations=0,
        exact=False,
        exceedances=0,
        warnings=tuple(warnings),
        details=prepared.details(sample.labelings.observed),
    )


@dataclass(frozen=True)
class BlockStatistic(AbstractStatistic):
    """Mean over blocks of the U-statistic of h, for labelings that swap pairs.

    Attributes:
        kernel: The kernel.
        size: Pairs per block.
    """

    kernel: AbstractGround
    size: int

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedBlocks":
        """Evaluate h within each block."""
        core = self.kernel.core  # terms in one point alone cancel in h
        with torch.no_grad():
            points = wide(core.embed(z))
            x, y = (part.unflatten(0, (-1, self.size)) for part in points.chunk(2))
            step = max(1, PAIRS // self.size**2)
            rows = []
            for u, v in zip(x.split(step), y.split(step), strict=True):
                across = core.on_features(u, v)
                own = core.on_features(u, u) + core.on_features(v, v)
                rows.append(own - across - across.mT)
        gap = torch.cat(rows)
        gap.diagonal(dim1=-2, dim2=-1).zero_()
        return _PreparedBlocks(gap)


class _PreparedBlocks(AbstractPrepared):
    tolerance = 1e-6

    def __init__(self, gap: Tensor) -> None:
        self.gap = gap  # h, shape (blocks, size, size), zero on the diagonal
        self.floor = 8 * torch.finfo(gap.dtype).eps * float(gap.abs().max())
        self.batch = max(1, 8 * SIGNS // (gap.shape[0] * gap.shape[1]))

    def block_values(self, labels: Tensor) -> Tensor:
        """The U-statistic of each block, shape (B, blocks)."""
        blocks, size, _ = self.gap.shape
        half = blocks * size
        values = torch.empty(len(labels), blocks, dtype=self.gap.dtype, device=self.gap.device)
        swapped = labels[:, :half].to(self.gap.device)
        step = max(1, SIGNS // (len(labels) * size))
        for start in range(0, blocks, step):
            stop = min(start + step, blocks)
            signs = 1.0 - 2.0 * swapped[:, start * size : stop * size].to(self.gap)
            signs = signs.unflatten(-1, (-1, size)).transpose(0, 1)
            inner = signs @ self.gap[start:stop]
            values[:, start:stop] = (inner * signs).sum(-1).mT
        return values / (size * (size - 1))

    def evaluate(self, labels: Tensor) -> Tensor:
        blocks, size, _ = self.gap.shape
        if size > 2:
            return self.block_values(labels).mean(-1)
        # Blocks of two have one h each, whose sign turns where one of the two pairs is swapped.
        swapped = labels[:, : 2 * blocks].to(self.gap.device)
        turned = swapped[:, ::2] != swapped[:, 1::2]
        h = self.gap[:, 0, 1]
        return (h.sum() - 2 * (turned.to(h) @ h)) / blocks

    def error(self, values: Tensor) -> float:
        """Standard error of the mean over blocks."""
        return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan

    def details(self, labels: Tensor) -> dict[str, float]:
        """How the points were dealt, and the standard error of the mean."""
        values = self.block_values(labels[None])[0]
        return {
            "block": self.gap.shape[-1],
            "blocks": len(values),
            "standard_error": self.error(values),
        }
