"""The kernel statistic: one product of the pooled kernel matrix gives the MMD of all labelings."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probmetrics.discrepancy import mmd_from_blocks
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.ranks import Sharded
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared, AbstractStatistic

ROWS, COLUMNS = 256, 2048  # of a kernel tile: 4 MB in double precision


@dataclass(frozen=True)
class KernelStatistic(AbstractStatistic):
    """Squared MMD of every labeling, from one product of the pooled kernel matrix.

    With u the indicator of the first sample and K the pooled kernel matrix, xx = uᵀKu costs one
    matrix product for all labelings together; xy = uᵀr − xx and yy = 1ᵀr − 2uᵀr + xx follow from
    the row sums r = K1. By symmetry each tile right of the diagonal counts twice, so half of K is
    evaluated and multiplied. K is streamed in tiles unless half of it fits ``budget``.

    K is centred first: K̃_ij = K_ij − f_i − f_j. For any f this leaves every block combination of
    the MMD as it is: Σ_i Σ_j a_i a_j (f_i + f_j) = 2 Σ_i a_i f_i within a sample and Σ a_i f_i +
    Σ b_j f_j across, so the three blocks cancel (with the diagonal left out and a_i = 1/n,
    dividing by 1 − Σ a_i² makes the same true). What remains is of the size of the statistic and
    not of the kernel, so that rounding is too. f_i is the mean of K over some landmarks.

    Attributes:
        kernel: A kernel of ``probmetrics.pairwise.kernels``, or a function of (x, y) that gives
            the matrix of all pairs.
        unbiased: Leave out the diagonal blocks' diagonals (U-statistic).
        budget: Bytes for a kept kernel matrix; more is recomputed tile by tile.
        paired: The labelings swap pairs (i, i + N/2) only, which takes a quarter of the product.
        ranks: Processes that hold the same pooled sample and share the tiles.
    """

    kernel: AbstractGround | Callable[[Tensor, Tensor], Tensor]
    unbiased: bool = True
    budget: int = BUDGET
    paired: bool = False
    ranks: Sharded | None = None

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "PreparedKernel":
        """Embed the points once, in the caller's precision; continue in double precision."""
        if not isinstance(self.kernel, AbstractGround):
            return self.bind(wide(z), self.kernel)
        core = self.kernel.core  # terms in one point alone cancel, as above
        with torch.no_grad():
            points = core.embed(z)
        try:
            return self.bind(wide(points), core.on_features)
        except RuntimeError:  # networks inside, whose parameters have the caller's precision
            return self.bind(points, core.on_features)

    def bind(self, points: Tensor, pairs: Callable[[Tensor, Tensor], Tensor]) -> "PreparedKernel":
        """Bind to what stands for the pooled points, and a function of two sets of these."""
        kind = PreparedKernel
        if self.ranks is not None:
            return PreparedKernel(points, pairs, self.unbiased, self.budget, ranks=self.ranks)
        if self.paired and 2 * len(points) ** 2 <= self.budget:
            kind = PreparedPairs
        return kind(points, pairs, self.unbiased, self.budget)


@dataclass(frozen=True)
class GramStatistic(AbstractStatistic):
    """Squared MMD of every labeling from a given pooled kernel matrix."""

    unbiased: bool = True

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "PreparedKernel":
        """Bind to a pooled kernel matrix, shape (N, N)."""
        gram = wide(z)
        index = torch.arange(len(gram), device=gram.device)
        return PreparedKernel(index, lambda i, j: gram[i][:, j], self.unbiased, 0)


@dataclass(frozen=True)
class Blocks:
    """Sums of the centred kernel over the blocks of each labeling, weights 1/n and 1/m."""

    xx: Tensor
    yy: Tensor
    xy: Tensor
    trace_x: Tensor
    trace_y: Tensor
    n: Tensor
    m: Tensor
    spread: float  # mean squared distance of a pooled point from the pooled mean, in the RKHS

    def mmd(self, unbiased: bool) -> Tensor:
        """Squared MMD, by the formula of ``discrepancy``."""
        return mmd_from_blocks(
            self.xx,
            self.yy,
            self.xy,
            trace_x=self.trace_x,
            trace_y=self.trace_y,
            squares_x=1 / self.n,
            squares_y=1 / self.m,
            unbiased=unbiased,
        )

    def explained(self) -> Tensor:
        """Share of the pooled variance in the RKHS that the labels explain, adjusted for chance.

        R² = nm/N² · MMD² / V with the biased MMD² and V the variance of the pooled sample; its
        mean over all labelings is 1/(N−1), so 1 − (1 − R²)(N−1)/(N−2) has mean zero.
        """
        points = self.n + self.m
        if self.spread <= 0 or int(points[0]) <= 2:
            return torch.full_like(self.xx, torch.nan)
        share = self.n * self.m / points.square() * self.mmd(unbiased=False) / self.spread
        return 1 - (1 - share) * (points - 1) / (points - 2)


@dataclass(eq=False)
class PreparedKernel(AbstractPrepared):
    """A kernel bound to pooled points: block sums of many labelings in one sweep of its tiles."""

    points: Tensor  # features of the pooled points, shape (N, d), or their indices, shape (N,)
    pairs: Callable[[Tensor, Tensor], Tensor]
    unbiased: bool
    budget: int
    tolerance: float = 1e-6
    ranks: Sharded | None = None
    floor: float = field(init=False)
    batch: int = field(init=False)
    centre: Tensor = field(init=False)  # f, shape (N,)
    kept: list[tuple[int, int, int, Tensor]] | None = field(init=False)

    def __post_init__(self) -> None:
        total = len(self.points)
        landmarks = self.points[:: max(1, total // 128)]
        near = self._kernel(self.points, landmarks)
        among = self._kernel(landmarks, landmarks).mean()
        self.centre = near.mean(-1) - among / 2
        self.floor = 8 * torch.finfo(near.dtype).eps * float(near.abs().max())
        self.batch = max(1, BUDGET // (8 * total))
        self.kept = None
        if 4 * total**2 <= self.budget:
            self.kept = list(self._compute())

    def evaluate(self, labels: Tensor) -> Tensor:
        return self.blocks(labels).mmd(self.unbiased)

    def effect(self, labels: Tensor) -> float | None:
        """Share of the variance in the feature space that the labels explain, adjusted."""
        effect = float(self.blocks(labels[None]).explained()[0])
        return effect if math.isfinite(effect) else None

    def blocks(self, labels: Tensor) -> Blocks:
        """Block sums of each labeling; group 0 is x.

        Time is N²/2 kernel values (unless kept) and N²·B flops.
        """
        return self.blocks_of(self.indicator(labels, 0))

    def blocks_of(self, first: Tensor) -> Blocks:
        """Block sums, given the indicator of the first group, shape (B, N)."""
        xx, rows, diagonal = self.sums(first)
        total, points = rows.sum(), first.shape[-1]
        n = first.sum(-1)
        m = points - n
        ur, trace = first @ rows, first @ diagonal
        return Blocks(
            xx=xx / n.square(),
            yy=(total - 2 * ur + xx) / m.square(),
            xy=(ur - xx) / (n * m),
            trace_x=trace / n.square(),
            trace_y=(diagonal.sum() - trace) / m.square(),
            n=n,
            m=m,
            spread=float(diagonal.mean() - total / points**2),
        )

    def indicator(self, labels: Tensor, group: int) -> Tensor:
        """Which points belong to a group, shape (B, N), as numbers."""
        return (labels.to(self.points.device) == group).to(self.centre.dtype)

    def sums(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uᵀK̃u of each row of u, shape (B,); the row sums of K̃ and its diagonal, shape (N,)."""
        quadratic = torch.zeros_like(u[:, 0])
        rows, diagonal = torch.zeros_like(u[0]), torch.zeros_like(u[0])
        for a, b, c, tile in self._compute() if self.kept is None else self.kept:
            here, there = u[:, a:b], u[:, c : c + tile.shape[-1]]
            twice = 1.0 if a == c else 2.0  # pairs right of the diagonal stand for both orders
            quadratic += twice * ((there @ tile.mT) * here).sum(-1)
            rows[a:b] += tile.sum(-1)
            if a == c:
                diagonal[a:b] = tile.diagonal()
            else:
                rows[c : c + tile.shape[-1]] += tile.sum(-2)
        if self.ranks is None:
            return quadratic, rows, diagonal
        every = self.ranks.total(torch.cat([quadratic, rows, diagonal]))
        return tuple(every.split([len(quadratic), len(rows), len(diagonal)]))

    def sum_of_squares(self) -> float:
        """Σ_{i≠j} k(z_i, z_j)² over pooled points, of the kernel as it is, not centred."""
        total = 0.0
        for a in range(0, len(self.points), ROWS):
            here = self.points[a : a + ROWS]
            square = self._kernel(here, here)
            total += float(square.square().sum() - square.diagonal().square().sum())
            for c in range(a + ROWS, len(self.points), COLUMNS):
                tile = self._kernel(here, self.points[c : c + COLUMNS])
                total += 2 * float(tile.square().sum())
        return total

    def _compute(self) -> Iterator[tuple[int, int, int, Tensor]]:
        """(row start, row stop, column start, centred tile) on and right of the diagonal.

        Of several ranks, each takes its turn.
        """
        total = len(self.points)
        turn, turns = (0, 1) if self.ranks is None else (self.ranks.rank, self.ranks.size)
        places = (
            (a, c)
            for a in range(0, total, ROWS)
            for c in (a, *range(min(a + ROWS, total), total, COLUMNS))
        )
        for a, c in itertools.islice(places, turn, None, turns):
            b = min(a + ROWS, total)
            here = self.points[a:b]
            there = here if a == c else self.points[c : c + COLUMNS]
            yield a, b, c, self._tile(here, there, a, c)

    def _tile(self, here: Tensor, there: Tensor, a: int, c: int) -> Tensor:
        tile = self._kernel(here, there)
        tile = tile - self.centre[a : a + len(here), None]
        return tile.sub_(self.centre[c : c + len(there)])

    def _kernel(self, here: Tensor, there: Tensor) -> Tensor:
        with torch.no_grad():
            return wide(self.pairs(here, there))


class PreparedPairs(PreparedKernel):
    """The same for labelings that swap pairs: a product of half the size in each dimension.

    With s_i = ±1 for pair i as it came or swapped, u = ½(1 + σ) for σ = (s, −s), so that
    uᵀKu = ¼ (1ᵀK1 + 2 σᵀK1 + sᵀHs) with H_ij = K_ij + K_i′j′ − K_ij′ − K_i′j. For two samples that
    are paired arbitrarily, the signs are known as the wild bootstrap.

    References:
        Schrab, Kim, Albert, Laurent, Guedj, Gretton (2023), MMD aggregated two-sample test, eq. 9.
    """

    def __post_init__(self) -> None:
        budget, self.budget = self.budget, 0
        super().__post_init__()
        self.budget = budget
        half = len(self.points) // 2
        self.gap = self.centre.new_zeros(half, half)  # H, right of the diagonal
        self.rows = torch.zeros_like(self.centre)
        self.diagonal = torch.zeros_like(self.centre)
        for a in range(0, half, ROWS):
            self._note(a, min(a + ROWS, half), half)

    def _note(self, a: int, b: int, half: int) -> None:
        """Rows a…b of H right of the diagonal, and their part of the row sums and the diagonal."""
        size = b - a
        first, second = self._upper(a, b, half), self._upper(half + a, half + b, 2 * half)
        # K_ij′ for j ≥ a, and K_i′j: the first holds the square on the diagonal for both.
        across = self._tile(self.points[a:b], self.points[half + a :], a, half + a)
        back = self._tile(self.points[half + a : half + b], self.points[a:half], half + a, a)
        self.gap[a:b, a:] = first + second - across - back
        self.rows[a:b] += across.sum(-1)
        self.rows[half + a :] += across.sum(-2)
        self.rows[half + a : half + b] += back[:, size:].sum(-1)
        self.rows[b:half] += back[:, size:].sum(-2)

    def _upper(self, a: int, b: int, end: int) -> Tensor:
        """Centred kernel of a…b against a…end, whose sums and diagonal are noted."""
        here = self.points[a:b]
        tile = self._tile(here, self.points[a:end], a, a)
        # A square of its own: the distance of a point to itself is exactly zero there.
        tile[:, : b - a] = self._tile(here, here, a, a)
        self.rows[a:b] += tile.sum(-1)
        self.rows[b:end] += tile[:, b - a :].sum(-2)
        self.diagonal[a:b] = tile[:, : b - a].diagonal()
        return tile

    def sums(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = len(self.gap)
        signs = 2 * u[:, :half] - 1
        quadratic = torch.zeros_like(u[:, 0])
        for a in range(0, half, ROWS):
            b = min(a + ROWS, half)
            here = signs[:, a:b]
            quadratic += ((here @ self.gap[a:b, a:b]) * here).sum(-1)
            quadratic += 2 * ((signs[:, b:] @ self.gap[a:b, b:].mT) * here).sum(-1)
        linear = signs @ (self.rows[:half] - self.rows[half:])
        return (self.rows.sum() + 2 * linear + quadratic) / 4, self.rows, self.diagonal


def wide(x: Tensor) -> Tensor:
    """Detached, in double precision where the device has it."""
    return x.detach().to(torch.float32 if x.device.type == "mps" else torch.float64)
