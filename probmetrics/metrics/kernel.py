"""Kernel distance between features: KID in full and over subsets, CMMD."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, Values, array_function
from probmetrics.discrepancy import mmd
from probmetrics.metrics.base import Encoder
from probmetrics.metrics.cubic import cubic_far, is_far
from probmetrics.metrics.neighbours import plain
from probmetrics.metrics.samples import AbstractSampleMetric
from probmetrics.pairwise.costs import unit
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.kernels import Gaussian, Polynomial
from probmetrics.uncertainty.methods import Subsampling

CONVENTIONS = ("torch-fidelity", "torchmetrics", "clean-fid")


@dataclass(frozen=True)
class SubsetKernelDistance:
    """Kernel distance over random subsets.

    Attributes:
        mean: Over the subsets.
        std: Over the subsets, divisor S. It says how one subset scatters, not how sure the mean is.
    """

    mean: Any
    std: Any


@array_function
def kernel_distance(
    x: SamplesX, y: SamplesY, *, kernel: AbstractGround | None = None, unbiased: bool = True
) -> Values:
    """Squared MMD with the kernel (⟨x, y⟩/d + 1)³, unbiased: KID on Inception features.

    Args:
        x: Data, shape (*batch, n, d), n ≥ 2.
        y: Samples of the model, shape (*batch, m, d), m ≥ 2.
        kernel: Another kernel of ``probmetrics.pairwise.kernels``; None is the cubic one.
        unbiased: U-statistic over all pairs; False is the V-statistic.

    Returns:
        Shape (*batch); may be negative.

    Raises:
        ValueError: Fewer than two points, NaN, shapes that differ.

    Example:
        >>> round(kernel_distance([[0.0], [1.0]], [[1.0], [2.0]]), 6)  # 1 + 27 − 2 · 37/4
        9.5

    Notes:
        All pairs, in linear memory, differentiable in x and y. Without subsets there is no
        Monte Carlo noise; the mean over many subsets tends to this number. The cubic kernel is not
        invariant to a shift, but digits are kept at any offset, where a gradient keeps n m numbers.

    References:
        Bińkowski et al. (2018), Demystifying MMD GANs, section 4.
    """
    x, y = checks.samples(x, y, minimum=2 if unbiased else 1)
    if kernel is None and checks.readable(x) and is_far(x, y):
        return cubic_far(x, y, unbiased=unbiased).to(x.dtype)
    value: Tensor = mmd(x, y, kernel=kernel or Polynomial(), unbiased=unbiased)
    return value


@array_function
def kernel_distance_subsets(
    x: SamplesX,
    y: SamplesY,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    kernel: AbstractGround | None = None,
    convention: str = "torch-fidelity",
    generator: torch.Generator | int | None = None,
) -> SubsetKernelDistance:
    """KID as papers report it: mean and standard deviation over random subsets.

    Args:
        x: Data, shape (n, d).
        y: Samples of the model, shape (m, d).
        subsets: How many.
        subset_size: Points of each sample in a subset, drawn without replacement.
        kernel: None is (⟨x, y⟩/d + 1)³.
        convention: How subsets are drawn. "torch-fidelity": NumPy's RandomState seeded with the
            generator's first draw or, with ``generator=None``, with 2020, y before x as that
            library does with its first and second input: its very numbers come out.
            "torchmetrics": the first points of a ``torch.randperm`` of x, then of y.
            "clean-fid": as torch-fidelity, with min(size, n, m) points.
        generator: A seed or generator; None is the convention's own seed, or fresh entropy.

    Returns:
        ``SubsetKernelDistance``.

    Raises:
        ValueError: A sample smaller than ``subset_size``, but for "clean-fid".

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(60, 4))
        >>> found = kernel_distance_subsets(x, x + 1, subsets=20, subset_size=30)
        >>> bool(abs(found.mean - kernel_distance(x, x + 1)) < 3 * found.std)
        True
    """
    checks.choice(convention, "convention", CONVENTIONS)
    x, y = plain(x, y, minimum=2, names=("x", "y"))
    subsets = checks.count(subsets, "subsets")
    size = checks.count(subset_size, "subset_size", minimum=2)
    if convention == "clean-fid":
        size = min(size, len(x), len(y))
    elif size > min(len(x), len(y)):
        raise ValueError(
            f"subset_size={size} is more than the smaller sample has, {min(len(x), len(y))}; "
            "lower it, or use the full form"
        )
    x, y = x.double(), y.double()
    draw = _draws(convention, generator, len(x), len(y), size)
    values = []
    for _ in range(subsets):
        in_x, in_y = next(draw)
        values.append(kernel_distance(x[in_x], y[in_y], kernel=kernel))
    found = torch.stack(values)
    return SubsetKernelDistance(found.mean(), found.std(correction=0))


@array_function
def cmmd(x: SamplesX, y: SamplesY) -> Values:
    """CMMD: 1000 × the biased squared MMD, Gaussian bandwidth 10, of ℓ2-normalised features.

    Args:
        x: Features of the data, shape (*batch, n, d); CLIP embeddings in the paper.
        y: Features of the samples, shape (*batch, m, d).

    Returns:
        Shape (*batch).

    Example:
        >>> round(cmmd([[1.0, 0.0]], [[0.0, 2.0]]), 5)  # 2000 (1 − e^(−2/200))
        19.90033

    References:
        Jayasumana et al. (2024), Rethinking FID: towards a better evaluation metric for image
        generation, section 4.
    """
    x, y = checks.samples(x, y)
    kernel = Gaussian(10.0)
    value = mmd(unit(x.double()), unit(y.double()), kernel=kernel, unbiased=False)
    return (1000.0 * value).to(x.dtype)


class KernelDistance(AbstractSampleMetric):
    """KID in full: the unbiased squared MMD with the kernel (⟨x, y⟩/d + 1)³ over all pairs.

    Args:
        encoder: See ``AbstractMetric``.
        kernel: Another kernel; None is the cubic one.
        subsets: None for the full U-statistic; a number for mean and std over that many subsets.
        subset_size: Points in a subset.
        convention: How subsets are drawn, see ``kernel_distance_subsets``.
        capacity: Most rows kept a side; None keeps all.
        seed: Of the subsets and the rows kept. Seed 0 in the subset form is the convention's own.
        **options: For ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = KernelDistance()
        >>> metric.update(real=torch.tensor([[0.0], [1.0]]), fake=torch.tensor([[1.0], [2.0]]))
        >>> round(float(metric.compute()), 6)
        9.5
    """

    higher_is_better = False
    minimum = 2
    options = ("kernel", "subsets", "subset_size", "convention", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        kernel: AbstractGround | None = None,
        subsets: int | None = None,
        subset_size: int = 1000,
        convention: str = "torch-fidelity",
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.subsets = None if subsets is None else checks.count(subsets, "subsets")
        self.subset_size = checks.count(subset_size, "subset_size", minimum=2)
        self.convention = checks.choice(convention, "convention", CONVENTIONS)
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)
        self.kernel = kernel

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        x, y = self.rows("real").double(), self.rows("fake").double()
        if self.subsets is None:
            return kernel_distance, (x, y), {"kernel": self.kernel}
        return kernel_distance_subsets, (x, y), self._subset_options()

    def _subset_options(self) -> dict[str, Any]:
        return {
            "subsets": self.subsets,
            "subset_size": self.subset_size,
            "kernel": self.kernel,
            "convention": self.convention,
            "generator": None
            if self.seed == 0 and self.convention != "torchmetrics"
            else self.seed,
        }

    def estimate(self, level: float, generator: torch.Generator | int) -> Any:
        """The interval of the full U-statistic, which the subsets' mean estimates too."""
        from probmetrics.uncertainty import estimate

        x, y = self.rows("real").double(), self.rows("fake").double()
        options: dict[str, Any] = {"level": level, "generator": generator}
        if self.kernel is None and is_far(x, y):
            return estimate(kernel_distance, x, y, method=Subsampling(replicates=60), **options)
        return estimate(mmd, x, y, kernel=self.kernel or Polynomial(), **options)


class CMMD(AbstractSampleMetric):
    """1000 × the biased squared MMD of ℓ2-normalised features, Gaussian bandwidth 10.

    Args are those of ``AbstractSampleMetric``; see ``cmmd`` for the number.
    """

    higher_is_better = False
    minimum = 2
    method = "bootstrap"
    options = ("capacity",)

    def measured(self) -> Any:
        """The estimator, its samples and options."""
        return cmmd, (self.rows("real"), self.rows("fake")), {}

    def estimate(self, level: float, generator: torch.Generator | int) -> Any:
        """1000 times the interval of the MMD."""
        from dataclasses import replace

        from probmetrics.uncertainty import estimate

        x, y = unit(self.rows("real").double()), unit(self.rows("fake").double())
        found = estimate(
            mmd, x, y, level=level, generator=generator, kernel=Gaussian(10.0), unbiased=False
        )
        names = ("value", "low", "high", "standard_error", "bias")
        return replace(found, **{name: 1000 * getattr(found, name) for name in names})


def _draws(convention: str, source: Any, n: int, m: int, size: int) -> Any:
    """Pairs of index tensors, without end."""
    if convention == "torchmetrics":
        made = checks.generator(source)
        while True:
            yield tuple(torch.randperm(k, generator=made)[:size] for k in (n, m))
    seed = 2020
    if source is not None:
        made = checks.generator(source)
        seed = (
            made.initial_seed() % 2**32
            if isinstance(source, int)
            else int(torch.randint(2**31, (1,), generator=made))
        )
    random = np.random.RandomState(seed)
    while True:
        in_y = random.choice(m, size, replace=False)
        in_x = random.choice(n, size, replace=False)
        yield torch.from_numpy(in_x), torch.from_numpy(in_y)
