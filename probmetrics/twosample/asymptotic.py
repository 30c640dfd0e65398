"""The distribution of kernel statistics in large samples, from a pilot: null and alternative."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.kernels import Scaled
from probmetrics.twosample.kernel import energy_test, mmd_test, pooled_gaussian
from probmetrics.twosample.kernel_statistic import wide

NORMAL = NormalDist()
SPECTRUM = 400  # points of each sample whose kernel matrix tells the null distribution


def kernel_of(test: Callable[..., Any], options: dict[str, Any]) -> AbstractGround | None:
    """The kernel of a test that the formula knows; None is the Gaussian of the pilot."""
    if test is energy_test:
        return Scaled(Euclidean(float(options.get("power", 1.0))), -1.0)
    if test is not mmd_test:
        name = getattr(test, "__name__", repr(test))
        raise ValueError(
            f"method='asymptotic' knows mmd_test and energy_test, not {name}; "
            "use method='simulation'"
        )
    kernel = options.get("kernel")
    if kernel is not None and not isinstance(kernel, AbstractGround):
        raise ValueError("method='asymptotic' needs a kernel of probmetrics.pairwise.kernels")
    return kernel


class KernelPilot:
    """What a pilot tells about MMD² at any sample sizes.

    Attributes:
        squared: MMD² of the pilot: the V-statistic where the pilot is taken as the population,
            the U-statistic where it is a draw of it.
    """

    def __init__(
        self, x: Tensor, y: Tensor, kernel: AbstractGround | None, population: bool
    ) -> None:
        x, y = wide(x), wide(y)
        z = torch.cat([x, y])
        core = (pooled_gaussian(z) if kernel is None else kernel).core
        self.n, self.m, self.population = len(x), len(y), population
        with torch.no_grad():
            gram = core(z)
        gram = gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
        # Spread over each sample, which may be in some order.
        chosen = [
            start + torch.linspace(0, size - 1, min(size, SPECTRUM)).long()
            for start, size in ((0, self.n), (self.n, self.m))
        ]
        rows = torch.cat(chosen).to(gram.device)
        self.gram = gram[rows][:, rows]
        self.parts = len(chosen[0]), len(chosen[1])
        self.standard: dict[tuple[float, float], float] = {}
        xx, yy, xy = gram[: self.n, : self.n], gram[self.n :, self.n :], gram[: self.n, self.n :]
        # Hoeffding's projections of the U-statistic: 2 (μ_x − μ_y) at points of x, and at y's.
        slope_x, slope_y = 2 * (xx.mean(1) - xy.mean(1)), 2 * (yy.mean(1) - xy.mean(0))
        self.projections = slope_x.var(correction=0), slope_y.var(correction=0)
        self.scatters = _scatter(xx), _scatter(yy), _scatter(xy)
        if population:
            self.squared = float(xx.mean() + yy.mean() - 2 * xy.mean())
        else:
            within = [(k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
            self.squared = float(within[0] + within[1] - 2 * xy.mean())

    def deviation(self, n: int, m: int, *, second: bool = True) -> float:
        """Standard deviation of the unbiased MMD² under the alternative."""
        in_x, in_y = self.projections
        variance = in_x / n + in_y / m
        if second:
            xx, yy, xy = self.scatters
            variance = variance + 2 * xx / n**2 + 2 * yy / m**2 + 4 * xy / (n * m)
        return math.sqrt(max(float(variance), 0.0))

    def quantile(self, n: int, m: int, level: float) -> float:
        """The (1 − level) quantile of the unbiased MMD² under exchange of the labels.

        In the limit it is (1/n + 1/m) Σ λ (Z² − 1), with λ the eigenvalues of the kernel operator
        of the mixture of n/(n+m) parts of P and m/(n+m) of Q, centred. A shifted gamma variable
        has the same mean 0, variance 2Σλ² and third moment 8Σλ³.
        """
        share = n / (n + m)
        if (share, level) not in self.standard:
            self.standard[share, level] = self._standard(share, level)
        return (1 / n + 1 / m) * self.standard[share, level]

    def _standard(self, share: float, level: float) -> float:
        """The quantile of Σ λ (Z² − 1)."""
        from scipy.stats import gamma

        (n, m), one = self.parts, torch.ones_like(self.gram[0])
        mass = torch.cat([one[:n] * (share / n), one[n:] * ((1 - share) / m)])
        gram = self.gram - (self.gram @ mass)[:, None] - self.gram @ mass
        gram = gram + mass @ (self.gram @ mass)
        root = mass.sqrt()
        operator = root[:, None] * gram * root
        square = operator @ operator
        two, three = float(operator.square().sum()), float((square * operator).sum())
        if two <= 0:
            return 0.0
        spread = math.sqrt(2 * two)
        if three <= 1e-9 * two**1.5:
            return spread * NORMAL.inv_cdf(1 - level)
        # The gamma with shape k has skewness 2/√k; the sum has 8Σλ³ / (2Σλ²)^1.5.
        shape = (2 * spread**3 / (8 * three)) ** 2
        return spread * (float(gamma.ppf(1 - level, shape)) - shape) / math.sqrt(shape)

    def power(self, n: int, m: int, level: float, confidence: float) -> tuple[float, float, float]:
        """P(MMD² > quantile) and the interval that the pilot's own error leaves."""
        threshold, deviation = self.quantile(n, m, level), self.deviation(n, m)
        error = NORMAL.inv_cdf((1 + confidence) / 2) * self.deviation(self.n, self.m)
        values = [
            _normal_above(threshold, squared, deviation)
            for squared in (self.squared, self.squared - error, self.squared + error)
        ]
        return values[0], values[1], values[2]


def _normal_above(threshold: float, mean: float, deviation: float) -> float:
    if deviation <= 0:
        return float(mean > threshold)
    return NORMAL.cdf((mean - threshold) / deviation)


def _scatter(block: Tensor) -> Tensor:
    """Mean square of a block with both its means taken off."""
    centred = block - block.mean(1, keepdim=True) - block.mean(0) + block.mean()
    return centred.square().mean()
