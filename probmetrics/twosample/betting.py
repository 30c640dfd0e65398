"""Sequential testing by betting: look at the data as they come and stop at any time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, to_tensor
from probmetrics.discrepancy import witness
from probmetrics.pairwise.bandwidth import median_bandwidth
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.kernels import Gaussian
from probmetrics.twosample.columns import column_names
from probmetrics.twosample.kernel_statistic import wide

STAKES = 20  # λ = 1/21 … 20/21: the wealth is split between them
FACTORS = (0.5, 1.0, 2.0)  # of the median bandwidth, for the default kernels


@dataclass(frozen=True)
class SequentialResult:
    """Where a sequential test stands.

    Attributes:
        e_value: The wealth a bettor has made of 1 by betting against equality. Its mean at any
            stopping time is at most 1 if the distributions are equal.
        log_e_value: Its logarithm, which does not overflow.
        pvalue: 1 / (largest e-value so far), at most 1: valid at any time.
        rejected: Whether the e-value has ever reached 1/level.
        level: The level.
        n: Points seen so far of x and of y.
        batches: Batches seen so far.
        rejected_at: Points seen of x and y when it was first rejected.
    """

    e_value: float
    log_e_value: float
    pvalue: float
    rejected: bool
    level: float
    n: tuple[int, int]
    batches: int
    rejected_at: tuple[int, int] | None = None


@dataclass(eq=False)
class SequentialTest:
    r"""Two-sample test of a stream, by betting: valid whenever you look, and stop when you like.

    A bettor starts with wealth 1. Before the points of step t are seen, she fixes a function g_t
    with values in [−½, ½] from the points before, and bets that it is larger on x than on y:

    K_t = K_{t−1} (1 + λ S_t),  S_t = mean g_t(x of step t) − mean g_t(y of step t) ∈ [−1, 1].

    If both distributions are equal, S_t has mean zero given the past, and K_t is a martingale
    whatever g_t and λ are: by Ville's inequality it ever exceeds 1/α with probability at most α.
    If they differ, a good g_t makes it grow exponentially.

    Here g_t is the witness function of the MMD between the points seen so far, moved to its
    middle, scaled by its largest value on them and clipped to [−½, ½]. The wealth is split
    between kernels and between stakes λ ∈ (0, 1), so neither is tuned: an average of martingales
    is one. Nothing is bet on the first batch.

    Args:
        level: Level of the test.
        kernels: Kernels of ``probmetrics.pairwise.kernels``, the wealth being split between them;
            ``None`` is Gaussians of half, one and two times the median distance of the points seen
            before, looked at again whenever their number has doubled.
        memory: Most recent points of each sample that the witness is made of; ``None`` keeps all.

    Raises:
        ValueError: Batches with NaN, other columns than before, or no points; unfit options.

    Notes:
        Pairs or chunks of a batch are bet on one after the other: min(n, m) steps for batches of
        n and m points. Time O((n + m) · memory · d) per batch and kernel. All randomness is that
        of the data. The steps of both samples must be independent draws; within a step x and y
        may be dependent (pairs) if they are exchangeable. E-values of independent streams
        multiply; those of dependent ones average.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> test = SequentialTest(level=0.01)
        >>> for step in range(40):
        ...     result = test.update(torch.randn(10, 2, generator=g),
        ...                          torch.randn(10, 2, generator=g) + 0.8)
        ...     if result.rejected:
        ...         break
        >>> result.rejected, result.n[0] <= 200
        (True, True)

    References:
        Shekhar, Ramdas (2023), Nonparametric two-sample testing by betting, Section 3;
        Podkopaev, Blöbaum, Kasiviswanathan, Ramdas (2023), Sequential kernelized independence
        testing; Ville (1939); Cover (1991), Universal portfolios (mixtures of stakes).
    """

    level: float = 0.05
    kernels: Sequence[AbstractGround] | None = None
    memory: int | None = 2000
    history: list[SequentialResult] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        checks.between(self.level, "level", 0.0, 1.0)
        if self.memory is not None:
            checks.count(self.memory, "memory", minimum=2)
        if self.kernels is not None and len(self.kernels) == 0:
            raise ValueError("kernels is empty; pass at least one, or None for the default")
        self._kernels: tuple[AbstractGround, ...] = (
            () if self.kernels is None else tuple(self.kernels)
        )
        self._measured = 0  # points seen when the bandwidth was last looked at
        self._past: tuple[Tensor, Tensor] | None = None
        self._columns: tuple[str, ...] | None = None
        self._seen = (0, 0)
        self._best = 0.0  # largest log e-value so far
        self._logs: Tensor | None = None  # log wealth by kernel and stake

    def update(self, x: Any, y: Any) -> SequentialResult:
        """Bet on a batch, then learn from it.

        Args:
            x: New points, shape (n, d) or (n,), n ≥ 1; arrays, tensors, data frames.
            y: New points, shape (m, d), m ≥ 1; n ≠ m is welcome.

        Returns:
            Where the test stands now.
        """
        names = column_names(x, y)
        first, second = self._admit(x, y, names)
        if self._past is not None:
            self._bet(first, second)
        self._learn(first, second, names)
        return self.result

    @property
    def result(self) -> SequentialResult:
        """Where the test stands."""
        if not self.history:
            return SequentialResult(1.0, 0.0, 1.0, False, self.level, (0, 0), 0)
        return self.history[-1]

    def plot(self, ax: Any = None, *, label: str | None = None) -> Any:
        """The e-value by the number of points seen, with the threshold; returns the axes.

        Args:
            ax: Axes to draw on, also those another test was drawn on; new ones if None.
            label: Name of this line in the legend.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.figure().add_subplot()
        seen, values = [sum(r.n) for r in self.history], [r.log_e_value for r in self.history]
        ax.plot(seen, values, label=label)
        threshold = f"log 1/{self.level:g}"
        if threshold not in ax.get_legend_handles_labels()[1]:
            ax.axhline(-math.log(self.level), color="C3", label=threshold)
        ax.set_xlabel("points seen")
        ax.set_ylabel("log e-value")
        ax.legend()
        return ax

    def _admit(self, x: Any, y: Any, names: tuple[str, ...] | None) -> tuple[Tensor, Tensor]:
        """A batch in double precision, refused before anything is changed by it."""
        answers_in_numpy({"x": x, "y": y})
        first, second = to_tensor(x, "x"), to_tensor(y, "y")
        first, second = (v.unsqueeze(-1) if v.ndim == 1 else v for v in (first, second))
        first, second = checks.samples(first, second)
        if first.ndim != 2 or second.ndim != 2:
            raise ValueError(
                f"a batch has shape (n, d), got {tuple(first.shape)} and {tuple(second.shape)}"
            )
        if self._past is not None and first.shape[-1] != self._past[0].shape[-1]:
            raise ValueError(
                f"this batch has {first.shape[-1]} columns (d), those before had "
                f"{self._past[0].shape[-1]}"
            )
        if names is not None and self._columns is not None and names != self._columns:
            raise ValueError(
                f"this batch has columns {', '.join(names)}; those before had "
                f"{', '.join(self._columns)}"
            )
        return wide(first), wide(second)

    def _bet(self, x: Tensor, y: Tensor) -> None:
        assert self._past is not None
        if self.kernels is None and sum(self._seen) >= 2 * self._measured:
            self._measured = sum(self._seen)
            bandwidth = float(median_bandwidth(*self._past))
            self._kernels = tuple(Gaussian(bandwidth * factor) for factor in FACTORS)
        gains = torch.stack([payoffs(x, y, self._past, kernel) for kernel in self._kernels])
        stakes = torch.arange(1, STAKES + 1, dtype=gains.dtype, device=gains.device) / (STAKES + 1)
        grown = torch.log1p(stakes * gains[..., None]).sum(1)  # (kernels, stakes)
        self._logs = grown if self._logs is None else self._logs + grown

    def _learn(self, x: Tensor, y: Tensor, names: tuple[str, ...] | None) -> None:
        past = (x, y)
        if self._past is not None:
            past = (torch.cat([self._past[0], x]), torch.cat([self._past[1], y]))
        if self.memory is not None:
            past = (past[0][-self.memory :], past[1][-self.memory :])
        self._past, self._columns = past, names or self._columns
        self._seen = (self._seen[0] + len(x), self._seen[1] + len(y))
        log = 0.0
        if self._logs is not None:
            log = float(self._logs.flatten().logsumexp(0)) - math.log(self._logs.numel())
        self._best = max(self._best, log)
        rejected = self._best >= -math.log(self.level)
        before = self.result
        at = before.rejected_at or (self._seen if rejected else None)
        self.history.append(
            SequentialResult(
                e_value=math.exp(min(log, 700.0)),
                log_e_value=log,
                pvalue=math.exp(-self._best),
                rejected=rejected,
                level=self.level,
                n=self._seen,
                batches=before.batches + 1,
                rejected_at=at,
            )
        )


def payoffs(x: Tensor, y: Tensor, past: tuple[Tensor, Tensor], kernel: AbstractGround) -> Tensor:
    """S_t of the steps of a batch, shape (min(n, m),), each in [−1, 1]; g is made of the past.

    The longer sample is cut into as many chunks as the shorter has points.
    """
    everything = torch.cat([*past, x, y])
    values = witness(*past, everything, kernel=kernel)
    n, m = len(past[0]), len(past[1])
    known, new = values[: n + m], values[n + m :]
    middle = (known[:n].mean() + known[n:].mean()) / 2
    largest = float((known - middle).abs().max())
    if largest <= 0 or not math.isfinite(largest):
        return torch.zeros(min(len(x), len(y)), dtype=x.dtype, device=x.device)
    g = ((new - middle) / (2 * largest)).clamp(-0.5, 0.5)
    steps = min(len(x), len(y))
    sides = (g[: len(x)], g[len(x) :])
    first, second = (
        torch.stack([part.mean() for part in side.tensor_split(steps)]) for side in sides
    )
    return first - second
