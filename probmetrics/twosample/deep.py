"""A deep kernel learned on one half of the data, and tested on the other."""

import copy
import itertools
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, WeightsX, WeightsY
from probmetrics._autograd import outside_inference
from probmetrics.pairwise.bandwidth import median_bandwidth
from probmetrics.pairwise.kernels import Gaussian
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.criterion import power_ratio
from probmetrics.twosample.design import no_weights, pair, pooled, random_half
from probmetrics.twosample.kernel_statistic import KernelStatistic, wide
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.selected import held_out

if TYPE_CHECKING:
    from collections.abc import Iterator

START = 0.1  # first share of the input kernel alone
MINIBATCH = 512  # points of each sample per step


@table_test
def deep_kernel_test(
    x: SamplesX,
    y: SamplesY,
    *,
    network: nn.Module | None = None,
    hidden: int | None = None,
    steps: int = 300,
    rate: float = 0.002,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """MMD test with a learned deep kernel, trained on half of each sample and tested on the other.

    k(x, y) = [(1 − ε) κ(φ(x), φ(y)) + ε] q(x, y) with Gaussian kernels κ and q, a network φ, and
    0 < ε < 1, which keeps the kernel characteristic. Weights, both bandwidths and ε maximise the
    ratio of MMD² to its standard deviation under the alternative by Adam.

    Args:
        x: Sample, shape (n, d), n ≥ 4; tens of points at least to learn anything.
        y: Sample, shape (m, d), likewise.
        network: φ, a module from points (standardised by the half to learn from) to features; a
            copy is trained in double precision. ``None`` is a perceptron with three hidden layers
            and softplus, drawn through ``generator``.
        hidden: Width of the perceptron; None is 3d + 20, at most 100.
        steps: Steps of Adam.
        rate: Its learning rate.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the halves, the first weights, the minibatches and then
            the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        a: Weights are refused: weighted points cannot exchange labels.
        b: As ``a``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult`` for the held-out half; ``n`` counts all points. ``kernel`` is the learned
        ``DeepKernel``, a function of points; ``details`` has the criterion before and after
        (``ratios``) and ``tested``, the sizes of the halves. ``effect_size`` as for ``mmd_test``.

    Raises:
        ValueError: Fewer than four points, NaN, different d or columns; options not above zero.

    Notes:
        Each step evaluates the kernel on at most 512 points per sample. On the CPU learning runs
        on one thread, so that a seed gives one answer whatever the number of threads.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 120, 2, generator=g)
        >>> deep_kernel_test(x, 1.8 * y, steps=50, generator=0).reject()
        True

    References:
        Liu, Xu, Lu, Zhang, Gretton, Sutherland (2020), Learning deep kernels for non-parametric
        two-sample tests, eqs. 1, 4 and Algorithm 1.
    """
    no_weights(a, b)
    x, y = pair(x, y)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    steps = checks.count(steps, "steps", minimum=0)
    rate, source = checks.positive(rate, "rate"), options.source()
    width = min(3 * x.shape[-1] + 20, 100) if hidden is None else checks.count(hidden, "hidden")
    sample = pooled(x, y)
    train = random_half(sample.labelings, source)
    points = wide(sample.z[train.to(sample.z.device)])
    labels = sample.labelings.observed
    first = (labels[train] == labels[0]).to(points.device)
    phi = perceptron(points.shape[-1], width, source) if network is None else network
    with _steady(points):
        kernel, ratios = learn(phi, points, first, steps=steps, rate=rate, source=source)
        with torch.no_grad():
            test = held_out(sample, train)
            test = replace(test, z=kernel.features(wide(test.z)))
    result = run_test(
        KernelStatistic(kernel.on_features),
        test,
        replace(options, generator=source),
        method="MMD, deep kernel",
    )
    details = {**result.details, "ratios": ratios, "tested": result.n}
    return replace(result, n=sample.sizes, kernel=kernel, details=details)


class DeepKernel:
    """[(1 − ε) κ(φ(x), φ(y)) + ε] q(x, y), called with two sets of points.

    Attributes:
        network: φ, on standardised points.
        centre: Taken off points first, shape (d,).
        scale: And divided by, shape (d,).
        inner: Bandwidth of κ, for features.
        outer: Bandwidth of q, for standardised points.
        share: ε.
    """

    def __init__(self, network: nn.Module, frame: tuple[Tensor, Tensor], free: Tensor) -> None:
        self.network = network
        self.centre, self.scale = frame
        self.inner, self.outer = free[0].exp(), free[1].exp()
        self.share = free[2].sigmoid()

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Kernel matrix, shape (n, m)."""
        return self.on_features(self.features(x), self.features(y))

    def features(self, x: Tensor) -> Tensor:
        """Standardised points beside their features, each in units of its bandwidth."""
        inputs = (x.to(self.centre) - self.centre) / self.scale
        learned = self.network(inputs).flatten(1)
        return torch.cat([inputs / self.outer, learned / self.inner], dim=-1)

    def on_features(self, x: Tensor, y: Tensor) -> Tensor:
        """Kernel matrix of points for which ``features`` is known."""
        d = self.centre.shape[-1]
        q = Gaussian(1.0)(x[:, :d], y[:, :d])
        kappa = Gaussian(1.0)(x[:, d:], y[:, d:])
        matrix: Tensor = ((1 - self.share) * kappa + self.share) * q
        return matrix

    def __repr__(self) -> str:
        inner, outer, share = (float(v) for v in (self.inner, self.outer, self.share))
        return f"DeepKernel(inner={inner:.3g}, outer={outer:.3g}, share={share:.3g})"


def perceptron(inputs: int, hidden: int, source: torch.Generator) -> nn.Module:
    """Three hidden layers with softplus, drawn like torch's own, but from ``source``."""
    layers: list[nn.Module] = []
    sizes = [inputs, hidden, hidden, hidden, hidden]
    for before, after in itertools.pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, before, after, dtype=torch.float64)
        bound = 1 / math.sqrt(before)
        with torch.no_grad():
            for parameter in (layer.weight, layer.bias):
                drawn = torch.rand(
                    parameter.shape, generator=source, dtype=torch.float64, device=source.device
                )
                parameter.copy_(bound * (2 * drawn - 1))
        layers += [layer, nn.Softplus()]
    return nn.Sequential(*layers[:-1])


@outside_inference
def learn(
    network: nn.Module,
    points: Tensor,
    first: Tensor,
    *,
    steps: int,
    rate: float,
    source: torch.Generator,
) -> tuple[DeepKernel, tuple[float, float]]:
    """A deep kernel of high power for these points, and the criterion before and after.

    Args:
        network: φ; a copy is trained.
        points: Shape (N, d).
        first: Which belong to the first sample, shape (N,).
        steps: Steps of Adam.
        rate: Its learning rate.
        source: Draws the minibatches.
    """
    network = copy.deepcopy(network).to(points)
    centre, scale = points.mean(0), points.std(0)
    scale = torch.where(scale > 0, scale, 1.0)
    inputs = (points - centre) / scale
    with torch.no_grad():
        scales = [
            float(median_bandwidth(network(inputs).flatten(1))),
            float(median_bandwidth(inputs)),
        ]
    free = torch.tensor(
        [math.log(scales[0]), math.log(scales[1]), math.log(START / (1 - START))],
        dtype=points.dtype,
        device=points.device,
        requires_grad=True,
    )

    def kernel() -> DeepKernel:
        return DeepKernel(network, (centre, scale), free)

    def ratio(rows: Tensor) -> Tensor:
        made = kernel()
        features = made.features(points[rows])
        return power_ratio(made.on_features(features, features), first[rows])

    draw = _minibatches(first, source)
    everything = draw()
    with torch.no_grad():
        before = float(ratio(everything))
    weights = [p for p in network.parameters() if p.requires_grad]
    ascent = torch.optim.Adam([free, *weights], lr=rate)
    for _ in range(steps):
        with torch.enable_grad():
            ascent.zero_grad()
            (-ratio(draw())).backward()
        slopes = [p.grad for p in (free, *weights) if p.grad is not None]
        if not all(bool(torch.isfinite(slope).all()) for slope in slopes):
            break
        ascent.step()
    network.requires_grad_(False)
    free.requires_grad_(False)
    with torch.no_grad():
        return kernel(), (before, float(ratio(everything)))


def _minibatches(first: Tensor, source: torch.Generator) -> Callable[[], Tensor]:
    """Draws the rows of a step: everything, or a random part of large samples."""
    groups = [mask.nonzero()[:, 0] for mask in (first, ~first)]

    def draw() -> Tensor:
        parts = []
        for group in groups:
            if len(group) > MINIBATCH:
                order = torch.randperm(len(group), generator=source, device=source.device)
                group = group[order[:MINIBATCH].to(group.device)]
            parts.append(group)
        return torch.cat(parts)

    return draw


@contextmanager
def _steady(points: Tensor) -> "Iterator[None]":
    """One thread on the CPU: learning would amplify the order in which threads add up."""
    threads: Any = torch.get_num_threads()
    if points.device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
