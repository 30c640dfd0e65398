"""Fréchet distance extrapolated to infinitely many samples, with the error of doing so."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, array_function
from probmetrics.gaussian import Moments, frechet_distance, gaussian_frechet
from probmetrics.metrics.accumulators import union
from probmetrics.metrics.neighbours import plain
from probmetrics.uncertainty.estimate import estimate

LEVELS = (1, 2, 4)  # shares of the samples: whole, halves, quarters


@dataclass(frozen=True)
class Extrapolation:
    """A value extrapolated to infinitely many samples.

    Attributes:
        value: The intercept of the line in 1/n.
        standard_error: Of the value: sampling and the line's own.
        slope: Of the line, in units of value × n.
        sizes: Fake samples in each of the points the line goes through.
        values: Mean distance at each size.
    """

    value: Any
    standard_error: Any
    slope: Any
    sizes: tuple[int, ...]
    values: Any


@array_function
def frechet_infinity(
    x: SamplesX,
    y: SamplesY,
    *,
    repeats: int = 3,
    generator: torch.Generator | int | None = None,
) -> Extrapolation:
    """Fréchet distance extrapolated to infinite samples, FD∞ (d²).

    The distance of samples of sizes n and m exceeds that of their populations by about
    c·(1/n) at a fixed ratio n : m. Both samples are split at random into halves and quarters, the
    distances of the parts averaged, and a line in 1/n is fitted; FD∞ is its intercept.

    Args:
        x: Data, shape (n, d), n ≥ 8.
        y: Samples of the model, shape (m, d), m ≥ 8.
        repeats: How many random partitions.
        generator: Source of the partitions.

    Returns:
        An ``Extrapolation``; the value may be negative.

    Raises:
        ValueError: Fewer than eight points a side, NaN, shapes that differ.

    Example:
        >>> import torch
        >>> x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
        >>> y = torch.randn(400, 4, generator=torch.Generator().manual_seed(1))
        >>> fit = frechet_infinity(x, y, generator=0)
        >>> bool(abs(fit.value) < 3 * fit.standard_error + 0.02)
        True

    Notes:
        1 + 6·repeats distances. The standard error joins the sampling error of the distance
        (influence function), the scatter of the intercept over the partitions, and how far the
        intercept of the two largest sizes is from it. Quarters with fewer rows than coordinates
        leave the regime in which the bias is linear in 1/n: that distance then leads.

    References:
        Chong, Forsyth (2020), Effectively unbiased FID and Inception score and where to find them,
        section 4. There only the model's samples shrink; here the data do too, so that the bias
        from finitely many data goes as well.
    """
    x, y = plain(x, y, minimum=8, names=("x", "y"))
    repeats = checks.count(repeats, "repeats", minimum=2)
    source = checks.generator(generator, x.device)
    whole = frechet_distance(x.double(), y.double())
    stacked = torch.stack([_curve(x, y, whole, source) for _ in range(repeats)])
    sizes = tuple(len(y) // level for level in LEVELS)
    lines = [_line(curve, sizes) for curve in stacked]
    value, slope = _line(stacked.mean(0), sizes)
    scatter = torch.stack([line[0] for line in lines]).var() / repeats
    sampling = estimate(frechet_distance, x.double(), y.double(), method="influence", generator=0)
    bent = _bend(stacked.mean(0), sizes).square()
    error = (sampling.standard_error**2 + scatter + bent).sqrt()
    return Extrapolation(value, error, slope, sizes, stacked.mean(0))


def intercept(x: Tensor, y: Tensor, generator: torch.Generator | int) -> Tensor:
    """FD∞ from one random partition and without its error: seven distances."""
    x, y = x.double(), y.double()
    curve = _curve(x, y, frechet_distance(x, y), checks.generator(generator, x.device))
    return _line(curve, tuple(len(y) // level for level in LEVELS))[0]


def frechet_from_groups(
    real: list[Moments] | tuple[Tensor, Tensor], fake: list[Moments], sampling: Tensor
) -> Extrapolation:
    """FD∞ from the moments of four groups of rows a side, or of the model's side alone.

    Args:
        real: Groups, or the exact mean and covariance.
        fake: Groups.
        sampling: Variance of the distance of all rows.
    """
    count = len(fake)
    levels = [level for level in LEVELS if level <= count]
    means, spreads = [], []
    for level in levels:
        size = count // level
        parts = []
        for start in range(0, count, size):
            right = union(fake[start : start + size])
            if isinstance(real, tuple):
                left = real
            else:
                moments = union(real[start : start + size])
                left = (moments.mean, moments.covariance())
            parts.append(gaussian_frechet(*left, right.mean, right.covariance()))
        found = torch.stack(parts)
        means.append(found.mean())
        spreads.append(found.var() / len(found) if len(found) > 1 else found.new_zeros(()))
    total = float(union(fake).weight)
    sizes = tuple(round(total / level) for level in levels)
    curve = torch.stack(means)
    value, slope = _line(curve, sizes)
    # The parts of one level average the same rows, so first-order terms agree between levels.
    own = _bend(curve, sizes).square()
    return Extrapolation(value, (sampling.to(own) + own).sqrt(), slope, sizes, curve)


def _curve(x: Tensor, y: Tensor, whole: Tensor, source: torch.Generator | None) -> Tensor:
    """Mean distances of the parts of a random partition at every level, shape (levels,)."""
    x, y = (z[torch.randperm(len(z), generator=source, device=z.device)] for z in (x, y))
    means = [whole] + [_mean_of_parts(x, y, level) for level in LEVELS[1:]]
    return torch.stack([mean.double() for mean in means])


def _mean_of_parts(x: Tensor, y: Tensor, level: int) -> Tensor:
    parts = [frechet_distance(x[i::level], y[i::level]) for i in range(level)]
    return torch.stack(parts).double().mean()


def _bend(values: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """How far the intercept of the two largest sizes is from that of all: what the line may miss.

    Zero on a line; where parts have fewer rows than coordinates the points lie on a curve.
    """
    if len(sizes) < 3:
        return torch.zeros_like(values[0])
    return _line(values[:2], sizes[:2])[0] - _line(values, sizes)[0]


def _line(values: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Intercept and slope of the least-squares line through (1/size, value)."""
    at = 1.0 / torch.tensor(sizes, dtype=values.dtype, device=values.device)
    centred = at - at.mean()
    slope = (centred * (values - values.mean())).sum() / centred.square().sum()
    return values.mean() - slope * at.mean(), slope
