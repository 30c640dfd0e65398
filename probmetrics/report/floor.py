"""The noise floor: what a distance reads between samples of the same distribution."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probmetrics.report.metrics import Distance

SPLITS = 20
QUANTILE = 0.95


@dataclass(frozen=True, eq=False)
class NoiseFloor:
    """A distance between random halves of A, beside the same distance from A to B at that size.

    The value of a distance depends on the sizes of the samples: its bias and its spread shrink as
    they grow. Halves of A are smaller than A, so their distance may not be held against the
    distance of all of A to all of B. Each split therefore also draws from B as many points as the
    second half has, without replacement, and measures them against the first half.

    Attributes:
        floor: Distance between the halves, one per split, shape (splits,).
        matched: Distance between the first half and as many points of B, shape (splits,).
        sizes: Points on the two sides of each of these distances.
    """

    floor: np.ndarray
    matched: np.ndarray
    sizes: tuple[int, int]

    @property
    def mean(self) -> float:
        """Mean distance between halves of A."""
        return float(self.floor.mean())

    @property
    def upper(self) -> float:
        """The 95% quantile of the distance between halves of A."""
        return float(np.quantile(self.floor, QUANTILE))

    @property
    def lower(self) -> float:
        """The 5% quantile: the far end of a score of which more is better."""
        return float(np.quantile(self.floor, 1 - QUANTILE))

    @property
    def matched_mean(self) -> float:
        """Mean distance between half of A and as many points of B."""
        return float(self.matched.mean())

    @property
    def share_above(self) -> float:
        """Share of pairs of splits in which B is farther from A than A from itself."""
        return float((self.matched[:, None] > self.floor[None, :]).mean())


def noise_floor(
    distance: Distance,
    x: Tensor,
    y: Tensor,
    *,
    minimum: int,
    limit: int | None,
    generator: torch.Generator,
    splits: int = SPLITS,
) -> NoiseFloor | None:
    """Noise floor of a distance; None where the halves would have too few points.

    Args:
        distance: Of two samples.
        x: A, shape (n, d).
        y: B, shape (m, d).
        minimum: Fewest points per side that the distance takes.
        limit: Most points of A to halve.
        generator: Draws the halves.
        splits: How many.
    """
    half = len(x) // 2
    second = min(len(x) - half, len(y))
    if limit is not None:
        half, second = min(half, limit // 2), min(second, limit // 2)
    if min(half, second) < max(minimum, 1):
        return None
    floor, matched = [], []
    for _ in range(splits):
        of_x = torch.randperm(len(x), generator=generator)
        of_y = torch.randperm(len(y), generator=generator)[:second]
        base = x[of_x[:half]]
        floor.append(float(distance(base, x[of_x[half : half + second]])))
        matched.append(float(distance(base, y[of_y])))
    return NoiseFloor(np.array(floor), np.array(matched), (half, second))
