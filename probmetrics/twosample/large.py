"""Kernel tests for large samples: random features, and incomplete sums over pairs."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY
from probmetrics.discrepancy import mmd_from_blocks
from probmetrics.discrepancy.linear_time import mean_embedding
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.spectral import frequencies
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import Pooled, goes_first, pair
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
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared, AbstractStatistic

CACHED = 2**16  # signs worked on at once
SMALLEST = 50  # blocks in the smaller sample, where it has so many points


@table_test
def random_feature_test(
    x: SamplesX,
    y: SamplesY,
    *,
    kernel: AbstractGround | None = None,
    features: int = 500,
    blocks: int = 2000,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test with the MMD of random Fourier features: linear in the sample sizes.

    The points of each sample are dealt at random into blocks of equal size, and whole blocks
    exchange labels: a subgroup of all exchanges, so the test is as exact as with points, while
    the features are averaged over each block once. Points beyond the last block keep their
    labels. Up to ``blocks`` points no blocks are formed.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        kernel: A shift-invariant kernel that random features know (Gaussian, Laplacian, Matérn,
            rational quadratic, inverse multiquadric, sums); ``None`` is a Gaussian with the
            median distance of pooled points.
        features: Frequencies; the kernel's error is of order features^{−½}.
        blocks: How many blocks of points to form in all, about; at most so many per sample.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the frequencies, the blocks and then the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; its statistic is the biased MMD² of the features. ``details`` says how
        many points a block has and how many kept their labels.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, a kernel without features.

    Notes:
        Time O((n + m) d · features + blocks · features · B), memory O(blocks · features) beside
        the samples.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 20000, 3, generator=g)
        >>> random_feature_test(x, 1.1 * y, generator=0).pvalue
        0.001

    References:
        Rahimi, Recht (2007), Random features for large-scale kernel machines; Zhao, Meng (2015),
        FastMMD; Hemerik, Goeman (2018), Exact testing with random permutations (subgroups).
    """
    x, y = pair(x, y)
    features = checks.count(features, "features")
    blocks = checks.count(blocks, "blocks", minimum=4)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    source = options.source()
    sizes, swapped = (len(x), len(y)), goes_first(y, x)
    first, second = (y, x) if swapped else (x, y)
    chosen = pooled_gaussian(torch.cat([first, second])) if kernel is None else kernel
    omega, weights = frequencies(chosen, x.shape[-1], features, _on_cpu(source))
    # Blocks of one size, but enough of them in the smaller sample too.
    size = max(1, min(-(-sum(sizes) // blocks), len(first) // SMALLEST))
    centre = torch.cat([first[:500], second[:500]]).mean(0)
    parts = [_blocks(z - centre, size, blocks, omega, source) for z in (first, second)]
    sample = replace(_pooled_blocks(parts, swapped), flat=_flat(x, y))
    shares = torch.cat([weights, weights]).to(sample.z)
    statistic = EmbeddingStatistic(shares, sizes, size)
    result = run_test(
        statistic, sample, replace(options, generator=source), method="random-feature MMD"
    )
    return replace(
        result,
        n=sizes,
        kernel=chosen,
        bandwidth=_bandwidth(chosen),
        details={"points_per_block": size, "features": features, **result.details},
    )


def _on_cpu(source: torch.Generator) -> torch.Generator:
    """A CPU generator seeded from ours, for what is drawn on the CPU only."""
    if source.device.type == "cpu":
        return source
    seed = torch.randint(2**62, (1,), generator=source, device=source.device)
    return torch.Generator().manual_seed(int(seed))


def _bandwidth(kernel: AbstractGround) -> float | None:
    bandwidth = getattr(kernel, "bandwidth", None)
    return None if bandwidth is None else float(bandwidth)


def _flat(x: Tensor, y: Tensor) -> bool:
    """Whether all points of both samples are equal."""
    return bool((x == x[:1]).all()) and bool((y == x[:1]).all())


def _blocks(
    z: Tensor, size: int, most: int, omega: Tensor, source: torch.Generator
) -> tuple[Tensor, Tensor, int]:
    """Sums of the features over random blocks of equal size, over the rest, and its size."""
    order = torch.randperm(len(z), generator=source, device=source.device).to(z.device)
    count = min(len(z) // size, most)
    if size > 1:
        sums = torch.stack([_sum(z[part], omega) for part in order[: count * size].split(size)])
    else:
        sums = _embed(z[order[:count]], omega)
    rest = z[order[count * size :]]
    return sums, _sum(rest, omega) if len(rest) else torch.zeros_like(sums[0]), len(rest)


def _sum(z: Tensor, omega: Tensor) -> Tensor:
    return mean_embedding(z, torch.ones(len(z), dtype=z.dtype, device=z.device), omega)


def _embed(z: Tensor, omega: Tensor) -> Tensor:
    angles = wide(z) @ omega.to(wide(z)).mT
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _pooled_blocks(parts: list[tuple[Tensor, Tensor, int]], swapped: bool) -> Pooled:
    """Blocks of both samples, then the rest of each as two points that keep their labels."""
    (sums_a, rest_a, left_a), (sums_b, rest_b, left_b) = parts
    z = torch.cat([sums_a, sums_b, rest_a[None], rest_b[None]])
    a, b = int(swapped), 1 - int(swapped)
    observed = torch.tensor([a] * len(sums_a) + [b] * len(sums_b) + [a, b], dtype=torch.uint8)
    strata = torch.zeros(len(z), dtype=torch.int64)
    strata[-2:] = torch.tensor([1, 2])
    if left_a == left_b == 0:
        return Pooled(z[:-2], Labelings(observed[:-2]))
    return Pooled(z, Labelings(observed, strata))


@dataclass(frozen=True)
class EmbeddingStatistic(AbstractStatistic):
    """Biased squared MMD from sums of features over blocks of points.

    Attributes:
        shares: Weight of each feature in the kernel, shape (F,).
        sizes: Points of both samples.
        block: Points per block.
    """

    shares: Tensor
    sizes: tuple[int, int]
    block: int

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedEmbedding":
        """Bind to the sums, shape (blocks, F)."""
        return _PreparedEmbedding(self, z)


class _PreparedEmbedding(AbstractPrepared):
    tolerance = 1e-6

    def __init__(self, made: EmbeddingStatistic, sums: Tensor) -> None:
        self.made, self.total = made, sums.sum(0)
        self.sums = sums * made.shares.sqrt()
        self.total = self.sums.sum(0)
        self.batch = max(1, BUDGET // (8 * (len(sums) + 2 * len(self.total))))

    def evaluate(self, labels: Tensor) -> Tensor:
        n, m = self.made.sizes
        mine = (labels.to(self.sums.device) == 0).to(self.sums.dtype) @ self.sums
        mean_x, mean_y = mine / n, (self.total - mine) / m
        xx, yy, xy = (
            (left * right).sum(-1)
            for left, right in ((mean_x, mean_x), (mean_y, mean_y), (mean_x, mean_y))
        )
        return mmd_from_blocks(xx, yy, xy, unbiased=False)


@table_test
def incomplete_mmd_test(
    x: SamplesX,
    y: SamplesY,
    *,
    kernel: AbstractGround | None = None,
    offsets: int | None = None,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Test with an incomplete MMD: a linear number of pairs, signs exchanged (wild bootstrap).

    Points are paired off at random, x_i with y_i, and the statistic is the mean over i and r = 1
    … ``offsets`` of h_ij = k(x_i, x_j) + k(y_i, y_j) − k(x_i, y_j) − k(x_j, y_i) with j = i + r
    around the circle. Exchanging the labels within pair i turns the sign of row and column i, so
    the null distribution needs no new kernel values. Works with any kernel; the complete test is
    more powerful where it can be afforded.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2; of unequal sizes a random part of the longer one is used.
        kernel: A kernel of ``probmetrics.pairwise.kernels``; ``None`` is a Gaussian with the
            median distance of pooled points.
        offsets: How many pairs per point, below n; ``None`` is 10, or n − 1 if that is less.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the pairing and then the signs.
        level: Level to compare with, for warnings and for ``"auto"``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; its statistic estimates MMD² without bias.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, too many offsets.

    Notes:
        Time O(n · offsets · (d + B)), memory O(n · offsets).

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 5000, 3, generator=g)
        >>> incomplete_mmd_test(x, 1.5 * y, generator=0).pvalue
        0.001

    References:
        Schrab, Kim, Guedj, Gretton (2022), Efficient aggregated kernel tests using incomplete
        U-statistics, eqs. 7 and 11.
    """
    x, y = pair(x, y)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    source, sizes, swapped = options.source(), (len(x), len(y)), goes_first(y, x)
    first, second = (y, x) if swapped else (x, y)
    chosen = pooled_gaussian(torch.cat([first, second])) if kernel is None else kernel
    used = min(sizes)
    wanted = min(10, used - 1) if offsets is None else offsets
    offsets = checks.count(wanted, "offsets", maximum=used - 1)
    drawn = [
        z[torch.randperm(len(z), generator=source, device=source.device)[:used].to(z.device)]
        for z in (first, second)
    ]
    observed = torch.tensor([int(swapped), 1 - int(swapped)], dtype=torch.uint8)
    labelings = Labelings(observed.repeat_interleave(used), paired=True)
    sample = Pooled(torch.cat(drawn), labelings, flat=_flat(x, y))
    result = run_test(
        IncompleteStatistic(chosen, offsets),
        sample,
        replace(options, generator=source),
        method="incomplete MMD",
    )
    return replace(result, n=sizes, kernel=chosen, bandwidth=_bandwidth(chosen))


@dataclass(frozen=True)
class IncompleteStatistic(AbstractStatistic):
    """Mean of h over pairs (i, i + r), r = 1 … offsets, for labelings that swap pairs.

    Attributes:
        kernel: The kernel.
        offsets: How many r.
    """

    kernel: AbstractGround
    offsets: int

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedIncomplete":
        """Evaluate the kernel on the chosen pairs."""
        half = len(z) // 2
        core = self.kernel.core
        rows = []
        with torch.no_grad():
            a, b = wide(core.embed(z[:half])), wide(core.embed(z[half:]))
            for r in range(1, self.offsets + 1):
                a_next, b_next = a.roll(-r, 0), b.roll(-r, 0)
                within = core.between_features(a, a_next) + core.between_features(b, b_next)
                across = core.between_features(a, b_next) + core.between_features(a_next, b)
                rows.append(within - across)
        return _PreparedIncomplete(torch.stack(rows))


class _PreparedIncomplete(AbstractPrepared):
    tolerance = 1e-6

    def __init__(self, pairs: Tensor) -> None:
        self.pairs = pairs  # h at (i, i + r), shape (offsets, n)
        self.floor = 8 * torch.finfo(pairs.dtype).eps * float(pairs.abs().max())
        self.batch = max(1, BUDGET // (8 * pairs.shape[-1]))

    def evaluate(self, labels: Tensor) -> Tensor:
        offsets, half = self.pairs.shape
        swapped = labels[:, :half].to(self.pairs.device)
        around = torch.cat([swapped, swapped[:, :offsets]], dim=-1)
        total = torch.zeros(len(labels), dtype=self.pairs.dtype, device=self.pairs.device)
        step = max(256, CACHED // len(labels))
        for start in range(0, half, step):  # Σ_i s_i Σ_r h_i,i+r s_i+r, a cacheful at a time
            stop = min(start + step, half)
            signs = 1.0 - 2.0 * around[:, start : stop + offsets].to(self.pairs)
            width = stop - start
            inner = torch.zeros_like(signs[:, :width])
            for r in range(offsets):
                inner.addcmul_(signs[:, r + 1 : r + 1 + width], self.pairs[r, start:stop])
            total += (inner * signs[:, :width]).sum(-1)
        return total / self.pairs.numel()
