"""The statistic of the relative test: both distances and their joint variance, per labeling."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from probmetrics.pairwise.ground import AbstractGround
from probmetrics.twosample.design import Pooled
from probmetrics.twosample.kernel_statistic import ROWS, wide
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared


@dataclass(frozen=True)
class Moments:
    """Means of the kernel for labelings of the models' points, and variances of projections."""

    difference: Tensor  # (B,)
    variances: tuple[Tensor, Tensor, Tensor]  # of the means over x, y and z, (B,) each
    within: tuple[Tensor, Tensor]  # E k(Y, Y′), E k(Z, Z′), U-statistics
    across: tuple[Tensor, Tensor]  # E k(X, Y), E k(X, Z)
    projections: tuple[Tensor, Tensor]  # μ_y and μ_z at x's points, (n, B)

    def variance(self) -> Tensor:
        """Of the difference."""
        return self.variances[0] + self.variances[1] + self.variances[2]

    def studentised(self) -> Tensor:
        """The difference over its standard error; 0/0 is 0."""
        error = self.variance().sqrt()
        return torch.where(error > 0, self.difference / torch.where(error > 0, error, 1.0), 0.0)


class PreparedRelative(AbstractPrepared):
    """t of many labelings of the pooled points of both models, from products with kernel tiles."""

    tolerance = 1e-7

    def __init__(self, x: Tensor, models: Pooled, kernel: AbstractGround, alternative: str) -> None:
        core = kernel.core  # terms in one point alone cancel in every MMD
        with torch.no_grad():
            self.x, self.z = wide(core.embed(x)), wide(core.embed(models.z))
        self.pairs, self.alternative = core.on_features, alternative
        self.n, self.sizes = len(x), models.sizes
        self.batch = max(1, BUDGET // (16 * (len(self.z) + len(self.x))))
        marks = self.z[:: max(1, len(self.z) // 128)]
        among = self._kernel(marks, marks).mean() / 2
        # k − f − f for any f leaves t as it is and keeps rounding small (see KernelStatistic).
        self.shift_x = self._kernel(self.x, marks).mean(-1) - among
        self.shift_z = self._kernel(self.z, marks).mean(-1) - among
        sums = [tile.sum(0) for tile in self._of_x()]
        self.column = torch.stack(sums).sum(0) / self.n  # mean of k over x

    def evaluate(self, labels: Tensor) -> Tensor:
        """t, turned so that large values speak for the alternative."""
        t = self.moments(labels).studentised()
        if self.alternative == "two-sided":
            return t.abs()
        return -t if self.alternative == "y" else t

    def moments(self, labels: Tensor) -> Moments:
        """Everything of each labeling, shape (B, M); group 0 is y."""
        first = (labels.to(self.z.device) == 0).to(self.z).mT  # (M, B)
        sides, (m, size_z) = (first, 1 - first), self.sizes
        near, diagonal = self._products(first)
        at_y, at_z = (tile / size for tile, size in zip(near, self.sizes, strict=True))
        across = [(self.column @ side) / size for side, size in zip(sides, self.sizes, strict=True)]
        within, spreads = [], []
        for side, mean, size in zip(sides, (at_y, at_z), (m, size_z), strict=True):
            total = (mean * side).sum(0) * size
            within.append((total - diagonal @ side) / (size * (size - 1)))
            slope = 2 * (mean - self.column[:, None]) * side
            spreads.append(_variance_of_mean(slope, side, size))
        rows = [torch.cat(parts) for parts in zip(*self._rows(sides), strict=True)]
        gap = 2 * (rows[0] - rows[1])
        spread = gap.var(0) / self.n
        difference = within[0] - 2 * across[0] - within[1] + 2 * across[1]
        return Moments(
            difference,
            (spread, spreads[0], spreads[1]),
            (within[0], within[1]),
            (across[0], across[1]),
            (rows[0], rows[1]),
        )

    def distances(self, seen: Moments) -> tuple[float, float]:
        """Both MMD² of the first labeling."""
        own = self._within_x[0]
        first, second = (
            float(own + within[0] - 2 * across[0])
            for within, across in zip(seen.within, seen.across, strict=True)
        )
        return first, second

    def covariance(self, seen: Moments) -> Tensor:
        """Of both distances, of the first labeling: x is common to them."""
        own = self._within_x[1]
        slopes = torch.stack([2 * (own - at[:, 0]) for at in seen.projections])
        joint = torch.cov(slopes) / self.n
        return joint + torch.diag(torch.stack([part[0] for part in seen.variances[1:]]))

    @cached_property
    def _within_x(self) -> tuple[Tensor, Tensor]:
        """E k(X, X′), and the mean of k(x_i, ·) over x."""
        total, means = torch.zeros_like(self.shift_x[0]), []
        for a in range(0, self.n, ROWS):
            here = self.x[a : a + ROWS]
            tile = self._kernel(here, self.x) - self.shift_x[a : a + ROWS, None] - self.shift_x
            total = total + tile.sum() - tile.diagonal(a).sum()
            means.append(tile.mean(-1))
        return total / (self.n * (self.n - 1)), torch.cat(means)

    def _of_x(self) -> Iterator[Tensor]:
        for a in range(0, self.n, ROWS):
            tile = self._kernel(self.x[a : a + ROWS], self.z)
            yield tile - self.shift_x[a : a + ROWS, None] - self.shift_z

    def _rows(self, sides: tuple[Tensor, Tensor]) -> Iterator[tuple[Tensor, ...]]:
        """μ_y and μ_z at x's points, block by block."""
        for tile in self._of_x():
            yield tuple(tile @ side / size for side, size in zip(sides, self.sizes, strict=True))

    def _products(self, first: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Sums of k(z_i, ·) over y and over z, (M, B) each, and the diagonal of the kernel."""
        over_y, over_z = torch.empty_like(first), torch.empty_like(first)
        diagonal = torch.empty_like(self.shift_z)
        for a in range(0, len(self.z), ROWS):
            b = min(a + ROWS, len(self.z))
            tile = self._kernel(self.z[a:b], self.z)
            tile = tile - self.shift_z[a:b, None] - self.shift_z
            square = self._kernel(self.z[a:b], self.z[a:b])  # distances to itself exactly zero
            tile[:, a:b] = square - self.shift_z[a:b, None] - self.shift_z[a:b]
            over_y[a:b] = tile @ first
            over_z[a:b] = tile.sum(-1, keepdim=True) - over_y[a:b]
            diagonal[a:b] = tile.diagonal(a)
        return (over_y, over_z), diagonal

    def _kernel(self, here: Tensor, there: Tensor) -> Tensor:
        with torch.no_grad():
            return wide(self.pairs(here, there))


def _variance_of_mean(values: Tensor, side: Tensor, size: int) -> Tensor:
    """Variance of the mean of the marked values of each column; the others are zero."""
    centre = values.sum(0) / size
    squares = ((values - centre) * side).square().sum(0)
    return squares / (size * (size - 1))
