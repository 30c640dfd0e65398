"""Kernel two-sample tests: MMD with any kernel, the energy distance, a given kernel matrix."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Array, SamplesX, SamplesY, WeightsX, WeightsY, array_function
from probmetrics.pairwise import sharded
from probmetrics.pairwise.bandwidth import median_bandwidth
from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.kernels import Distance, Gaussian, Scaled
from probmetrics.pairwise.ranks import Sharded
from probmetrics.pairwise.sharded import Backend
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import Pooled, goes_first, labelings_of, no_weights, pair, pooled
from probmetrics.twosample.kernel_statistic import GramStatistic, KernelStatistic, wide
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import BUDGET

Kernel = AbstractGround | Callable[[Tensor, Tensor], Tensor]


@table_test
def mmd_test(
    x: SamplesX,
    y: SamplesY,
    *,
    kernel: Kernel | None = None,
    unbiased: bool = True,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    backend: Backend = "auto",
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test of equal distributions with the squared maximum mean discrepancy.

    The statistic is MMD²(x, y) = E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y), as ``mmd`` returns it.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        kernel: A kernel of ``probmetrics.pairwise.kernels``; ``None`` is a Gaussian whose
            bandwidth is the median distance of the pooled sample. A bandwidth that you choose by
            looking at x against y makes the test reject too often.
        unbiased: U-statistic (may be negative) rather than V-statistic.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points); labels are exchanged within equal
            ones only, e.g. sites or batches of an experiment.
        paired: x_i and y_i are a pair (before and after); labels are exchanged within pairs only.
        a: Weights are refused: weighted points cannot exchange labels.
        b: As ``a``.
        backend: ``"dense"`` keeps half the kernel matrix, ``"tiled"`` recomputes it in tiles for
            every batch, ``"auto"`` keeps it while it is small. ``Sharded(...)``: x and y are this
            rank's parts; every rank holds all points and evaluates its share of the matrix, and
            the labelings are drawn on rank 0.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``. ``effect_size`` is the share of the pooled variance in the kernel's
        feature space that the labels explain, adjusted to mean zero under exchange.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, weights, a batch of pairs.

    Notes:
        Time (N²/2)(d + B) flops for N = n + m; memory 8 N B bytes of labels (in batches of at
        most 256 MB) and half the kernel matrix while that takes less than 256 MB, else tiles of
        4 MB. The answer is the same for x and y exchanged, NumPy or torch, any batch.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(40, 2, generator=g)
        >>> y = torch.randn(50, 2, generator=g) + 1.0
        >>> mmd_test(x, y, generator=0).pvalue
        0.001

    References:
        Gretton, Borgwardt, Rasch, Schölkopf, Smola (2012), A kernel two-sample test, eqs. 3, 5.
    """
    no_weights(a, b)
    x, y, ranks = _everywhere(x, y, backend, strata)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    options = options if ranks is None else together(options, ranks)
    sample = pooled(x, y, strata=strata, paired=paired)
    chosen = pooled_gaussian(sample.z) if kernel is None else kernel
    statistic = KernelStatistic(chosen, unbiased, kept_bytes(backend), paired, ranks)
    bandwidth = getattr(chosen, "bandwidth", None)
    return run_test(
        statistic,
        sample,
        options,
        method="MMD",
        kernel=chosen,
        bandwidth=None if bandwidth is None else float(bandwidth),
    )


@table_test
def energy_test(
    x: SamplesX,
    y: SamplesY,
    *,
    power: float = 1.0,
    unbiased: bool = False,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    backend: Backend = "auto",
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test of equal distributions with the energy distance.

    The statistic is 2 E‖X−Y‖^power − E‖X−X′‖^power − E‖Y−Y′‖^power, as ``energy_distance``
    returns it: MMD² with the kernel −‖x − y‖^power, evaluated by the same code. It has no
    bandwidth to choose and is hard to beat on shifts of the mean.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        power: Exponent of the distance, strictly between 0 and 2.
        unbiased: U-statistic rather than V-statistic.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points); labels are exchanged within equal
            ones only.
        paired: x_i and y_i are a pair; labels are exchanged within pairs only.
        a: Weights are refused: weighted points cannot exchange labels.
        b: As ``a``.
        backend: As for ``mmd_test``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``. ``effect_size`` is the share of the pooled dispersion E‖Z−Z′‖^power
        that the labels explain (as DISCO's), adjusted to mean zero under exchange.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, weights, a batch of pairs.

    Notes:
        Cost as for ``mmd_test``. Large coordinates dominate distances: standardise columns of
        different units first, by the pooled sample.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(40, 2, generator=g)
        >>> y = torch.randn(50, 2, generator=g) + 1.0
        >>> energy_test(x, y, generator=0).pvalue
        0.001

    References:
        Székely, Rizzo (2013), Energy statistics, eqs. 5.1 and 6.1; Rizzo, Székely (2010), DISCO
        analysis, eq. 3.3.
    """
    no_weights(a, b)
    x, y, ranks = _everywhere(x, y, backend, strata)
    power = checks.between(power, "power", 0.0, 2.0)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    options = options if ranks is None else together(options, ranks)
    distance = Scaled(Euclidean(power), -1.0)
    statistic = KernelStatistic(distance, unbiased, kept_bytes(backend), paired, ranks)
    sample = pooled(x, y, strata=strata, paired=paired)
    return run_test(statistic, sample, options, method="energy", kernel=Distance(power))


@array_function
def mmd_test_from_gram(
    gram: Array,
    n: int,
    *,
    unbiased: bool = True,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test with the squared MMD of a given kernel matrix.

    For the energy test pass minus a matrix of distances (and ``unbiased=False``).

    Args:
        gram: Symmetric kernel matrix of the pooled sample, shape (N, N): the points of x first.
            The kernel and its bandwidth must not have been chosen by looking at the labels.
        n: How many points belong to x; the other m = N − n to y; both at least two.
        unbiased: U-statistic (the diagonal of the matrix does not matter) or V-statistic.
        permutations: B random labelings, or ``"auto"``, as for ``mmd_test``.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points).
        paired: Points i and n + i are a pair.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``, the same as ``mmd_test`` gives for that kernel and seed where n ≠ m;
        for n = m the order in which labels are drawn follows the matrix instead of the points.

    Raises:
        ValueError: The matrix is not square, symmetric or finite, or n leaves a side too small.

    Example:
        >>> points = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [5.3]])
        >>> mmd_test_from_gram(-torch.cdist(points, points), 3, unbiased=False).pvalue * 35
        1.0
    """
    gram = _gram(gram)
    n = checks.count(n, "n", minimum=2, maximum=len(gram) - 2)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    order = torch.arange(len(gram), device=gram.device)
    observed = (order >= n).to(torch.uint8)
    if goes_first(gram[n:, n:], gram[:n, :n]):
        order = order.roll(-n)
    sample = Pooled(
        gram[order][:, order], labelings_of(observed[order].cpu(), strata=strata, paired=paired)
    )
    return run_test(GramStatistic(unbiased), sample, options, method="MMD", kernel="precomputed")


def _gram(gram: Tensor) -> Tensor:
    """A square, finite, symmetric matrix of at least four points."""
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or len(gram) < 4:
        raise ValueError(
            "gram must be the square kernel matrix of at least 2 + 2 pooled points, "
            f"got shape {tuple(gram.shape)}"
        )
    gram = checks.finite(gram, "gram").detach()
    gap = float((gram - gram.mT).abs().max())
    if gap > 1e-3 * float(gram.abs().max()):
        raise ValueError(
            f"gram is not symmetric: entries differ by up to {gap:.3g} from their mirror images; "
            "pass the matrix of all pooled pairs, not of x against y"
        )
    return gram


def pooled_gaussian(z: Tensor) -> Gaussian:
    """Gaussian kernel with the median distance between pooled points, which sees no labels."""
    return Gaussian(float(median_bandwidth(wide(z))))


def _everywhere(
    x: Tensor, y: Tensor, backend: Backend, strata: Any
) -> tuple[Tensor, Tensor, Sharded | None]:
    """The checked samples: those of all ranks, where there are ranks."""
    if not isinstance(backend, Sharded):
        return *pair(x, y), None
    if strata is not None:
        raise ValueError("strata are not gathered from ranks; test with them on one process")
    with torch.no_grad():
        x, y, _, _ = sharded.whole(x, y, None, None, backend)
    return *pair(x, y), backend


def together(options: PermutationOptions, ranks: Sharded) -> PermutationOptions:
    """The options with one source of labelings for all ranks: that of rank 0."""
    source = options.source()
    state = ranks.first(source.get_state())
    source.set_state(state)
    quiet = options.progress if ranks.rank == 0 else False
    return dataclasses.replace(options, generator=source, progress=quiet)


def kept_bytes(backend: Backend) -> int:
    """How much of the kernel matrix may be kept between batches of labelings."""
    if isinstance(backend, Sharded):
        return BUDGET
    checks.choice(backend, "backend", ("auto", "dense", "tiled"))
    return {"auto": BUDGET, "dense": 2**62, "tiled": 0}[backend]
