"""A kernel chosen for power on one half of the data, and tested on the other."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, WeightsX, WeightsY
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.criterion import power_ratio
from probmetrics.twosample.design import Pooled, no_weights, pair, pooled, random_half
from probmetrics.twosample.fused import fused_collection
from probmetrics.twosample.kernel_statistic import KernelStatistic, wide
from probmetrics.twosample.labelings import Labelings
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult

MOST = 2000  # points of each half sample that the criterion looks at


@table_test
def selected_kernel_test(
    x: SamplesX,
    y: SamplesY,
    *,
    kernels: Sequence[AbstractGround] | None = None,
    bandwidths: int = 10,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """MMD test with the kernel of most power among several, chosen on a held-out half.

    A random half of each sample chooses the kernel: the one with the largest ratio of MMD² to its
    standard deviation under the alternative, which decides the power of large samples. The other
    half is tested by permutation, so the choice costs no level. It costs half the data:
    ``fused_test`` uses all of it and is usually more powerful; this one gives a single kernel,
    whose witness function says where the samples differ.

    Args:
        x: Sample, shape (n, d), n ≥ 4.
        y: Sample, shape (m, d), m ≥ 4.
        kernels: What to choose from; ``None`` is the collection of ``fused_test``: Gaussian and
            ℓ1 Laplacian kernels over a grid of bandwidths, wide Gaussians, minus the distance.
        bandwidths: Per kind of kernel, of the default collection.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the halves and then the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        a: Weights are refused: weighted points cannot exchange labels.
        b: As ``a``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult`` for the held-out half; ``n`` counts all points. ``kernel`` is the chosen
        one; ``details`` has ``kernels``, their ``ratios``, and ``tested``, the sizes of the
        halves. ``effect_size`` as for ``mmd_test``.

    Raises:
        ValueError: Fewer than four points, NaN, different d or columns, no kernels.

    Notes:
        Time K N²/4 kernel values for K kernels (of at most 2000 points per half), and a test of
        N/2 points.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 100, 2, generator=g)
        >>> result = selected_kernel_test(x, 1.8 * y, generator=0)
        >>> result.pvalue <= 0.05, result.details["tested"]
        (True, (50, 50))

    References:
        Gretton et al. (2012), Optimal kernel choice for large-scale two-sample tests; Sutherland
        et al. (2017), Generative models and model criticism via optimized MMD.
    """
    no_weights(a, b)
    x, y = pair(x, y)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    source = options.source()
    bandwidths = checks.count(bandwidths, "bandwidths")
    sample = pooled(x, y)
    collection = fused_collection(sample.z, bandwidths) if kernels is None else tuple(kernels)
    if not collection:
        raise ValueError("kernels is empty; pass at least one, or None for the default collection")
    train = random_half(sample.labelings, source)
    ratios = _ratios(sample, train, collection)
    best = collection[int(ratios.argmax())]
    result = run_test(
        KernelStatistic(best),
        held_out(sample, train),
        replace(options, generator=source),
        method="MMD, selected kernel",
    )
    bandwidth = getattr(best, "bandwidth", None)
    details = {"kernels": collection, "ratios": ratios.cpu().numpy(), "tested": result.n}
    return replace(
        result,
        n=sample.sizes,
        kernel=best,
        bandwidth=None if bandwidth is None else float(bandwidth),
        details={**result.details, **details},
    )


def held_out(sample: Pooled, train: Tensor) -> Pooled:
    """The points that nothing was learned from, with their own labelings."""
    test = ~train
    labelings = Labelings(sample.labelings.observed[test])
    return Pooled(sample.z[test.to(sample.z.device)], labelings, flat=sample.constant)


def _ratios(sample: Pooled, train: Tensor, kernels: tuple[AbstractGround, ...]) -> Tensor:
    """Criterion of each kernel on the points to learn from."""
    labels = sample.labelings.observed
    chosen = [
        ((labels == group) & train).nonzero()[:MOST, 0] for group in labels.unique_consecutive()
    ]
    index = torch.cat(chosen)
    first = labels[index] == labels[0]
    points = wide(sample.z[index.to(sample.z.device)])
    with torch.no_grad():
        values = [power_ratio(k.core(points, points).double(), first) for k in kernels]
    return torch.stack(values)
