"""A number of labelings that grows until the decision is clear, and the valid p-value it earns."""

import functools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from probmetrics import _checks as checks

RISK = 5e-4  # chance, per look and side, that a stop contradicts the limit of all labelings
DOUBLINGS = 8


@dataclass(frozen=True)
class SequentialPlan:
    """Look at B₀, 2B₀+1, 4B₀+3, … labelings and stop once the p-value is clear of the level.

    At the look with B labelings and s exceedances the sampling stops *low* if the one-sided
    Clopper–Pearson upper limit for the p-value is below ``level``, *high* if the lower limit is
    above it, and at the last look in any case.

    The naive (1+s)/(1+B) is no p-value at a stopping time. Ours is the *stage-wise* one: the
    probability, if the labels are exchangeable, that the same plan ends at least as low, where
    low stops rank before later outcomes and high stops after them, earlier ones further out. If
    the labels are exchangeable, the rank of the observed statistic is uniform, so s after B
    labelings is uniform on 0…B and grows as in Pólya's urn, from which the probability follows
    exactly. Ties only raise s, on every path, and this ordering is monotone in s on every path:
    the p-value stays valid, P(p ≤ α) ≤ α for every α. At the first look it is (1+s)/(1+B).

    Attributes:
        level: The level the p-value is compared to.

    References:
        Clopper, Pearson (1934); Jennison, Turnbull (2000), Group Sequential Methods, §8.4
        (stage-wise ordering); Gandy (2009), Sequential implementation of Monte Carlo tests with
        uniformly bounded resampling risk.
    """

    level: float

    @cached_property
    def looks(self) -> tuple[int, ...]:
        """Labelings drawn by each look; B + 1 doubles."""
        first = max(10, math.ceil(5 / self.level))
        return tuple(first * 2**k - 1 for k in range(DOUBLINGS + 1))

    def bounds(self, look: int) -> tuple[int, int]:
        """(low, high): stop low at s ≤ low, high at s ≥ high; low may be −1 (never)."""
        from scipy.special import bdtr

        total = self.looks[look]
        if look == DOUBLINGS:
            return total, total + 1
        below = bdtr(np.arange(total + 1.0), total, self.level)  # P(Bin ≤ s)
        low = int(np.searchsorted(below, RISK, side="left")) - 1
        # P(Bin ≥ s) = 1 − P(Bin ≤ s−1) falls under the risk from here on
        high = int(np.searchsorted(below, 1 - RISK, side="right")) + 1
        return low, high

    def stops(self, look: int, exceedances: int) -> bool:
        """Whether the sampling ends at this look."""
        low, high = self.bounds(look)
        return exceedances <= low or exceedances >= high

    def pvalue(self, look: int, exceedances: int) -> float:
        """The stage-wise p-value of stopping at ``look`` with this many exceedances."""
        checks.count(exceedances, "exceedances", minimum=0, maximum=self.looks[look])
        mass, start, lower, upper = _arrivals(self, look)
        cut = max(exceedances + 1 - start, 0)
        if look < DOUBLINGS and exceedances >= self.bounds(look)[1]:
            return float(1 - upper - mass[cut:].sum())
        return float(lower + mass[:cut].sum())

    def _grow(self, mass: np.ndarray, start: int, look: int) -> tuple[np.ndarray, int]:
        """Mass of s one look later: given s of B, the increment is beta-binomial."""
        from scipy.special import betaln

        before, after = self.looks[look], self.looks[look + 1]
        more = after - before
        t = np.arange(more + 1.0)
        choose = -betaln(t + 1, more - t + 1) - math.log(more + 1)
        grown = np.zeros(len(mass) + more)
        for i, weight in enumerate(mass):
            a, b = start + i + 1, before - start - i + 1
            grown[i : i + more + 1] += weight * np.exp(
                choose + betaln(a + t, b + more - t) - betaln(a, b)
            )
        return grown, start


@functools.lru_cache(maxsize=32)
def _arrivals(plan: SequentialPlan, look: int) -> tuple[np.ndarray, int, float, float]:
    """Where the paths are at a look, if the labels are exchangeable.

    Returns:
        The probability of arriving with s = start, start + 1, … exceedances; start; and the
        probabilities of having stopped low and high before.
    """
    if look == 0:
        first = plan.looks[0] + 1
        return np.full(first, 1.0 / first), 0, 0.0, 0.0
    mass, start, lower, upper = _arrivals(plan, look - 1)
    low, high = plan.bounds(look - 1)
    inner = slice(max(0, low + 1 - start), max(0, high - start))
    lower += float(mass[: inner.start].sum())
    upper += float(mass[inner.stop :].sum())
    mass, start = plan._grow(mass[inner], start + inner.start, look - 1)
    return mass, start, lower, upper
