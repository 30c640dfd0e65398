"""One pass of Sinkhorn over all pairs: the row update and, from the same exponentials, the columns.

With P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε), a pass at g makes the rows of P right and reads off
how far its columns are from b. While the exponentials of a block of rows are in cache, their row
sums give f, and the same values scaled by a_i over the row sum add into the column sums. One
exponential per pair per iteration, and the marginal error comes free.
"""

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics.pairwise import LogSumExp
from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.threads import run_tasks
from probmetrics.pairwise.tiled import fold
from probmetrics.pairwise.tiles import Block, Pairs, blocks

LOG2E = math.log2(math.e)
BLOCK = 2**18  # entries of a block of rows: a megabyte of float32
ABSORB = 40.0  # nats by which scalings may grow before a kernel in memory is rebuilt

Update = Callable[[Tensor], Tensor]  # potential of exact marginals ↦ potential of relaxed ones


@dataclass(frozen=True)
class EntropicProblem:
    """Move the measure a on x onto the measure b on y; the batch is flattened into one axis.

    Attributes:
        ground: A cost of the engine with numeric parameters.
        x: Embedded points, shape (B, n, d).
        y: Embedded points, shape (B, m, d), or x itself.
        a: Weights, float64, shape (B, n).
        b: Weights, float64, shape (B, m).
    """

    ground: AbstractGround
    x: Tensor
    y: Tensor
    a: Tensor
    b: Tensor

    def transposed(self) -> "EntropicProblem":
        """The same problem from y to x."""
        return EntropicProblem(self.ground, self.y, self.x, self.b, self.a)

    def detached(self) -> "EntropicProblem":
        """The same problem without a graph."""
        x = self.x.detach()
        y = x if self.y is self.x else self.y.detach()
        return EntropicProblem(self.ground, x, y, self.a.detach(), self.b.detach())

    def softmin(self, g: Tensor, epsilon: Tensor) -> Tensor:
        """−ε log Σ_j b_j exp((g_j − C_ij)/ε), safely, shape (B, n): the row update at g."""
        pairs = Pairs(self.ground, self.x, self.y)
        offset = self.b.log() + g / epsilon.unsqueeze(-1)
        found: Tensor = fold(pairs, LogSumExp(offset.to(pairs.dtype), -1.0 / epsilon))
        return -epsilon.unsqueeze(-1) * found.double()


class AbstractSweeper(abc.ABC):
    """Makes passes over the pairs of one problem at one ε.

    Args:
        problem: What to solve.
        epsilon: ε per batch entry, float64, shape (B,).
    """

    def __init__(self, problem: EntropicProblem, epsilon: Tensor) -> None:
        self.problem, self.epsilon = problem, epsilon
        self.dtype = working_precision(problem, epsilon)

    @abc.abstractmethod
    def sweep(self, f: Tensor, g: Tensor, update: Update) -> tuple[Tensor, Tensor, Tensor]:
        """One pass at g, shape (B, m), with f, shape (B, n), a guess of the row potential.

        Returns:
            f at g; log r, r_i = Σ_j b_j exp((f_i + g_j − C_ij)/ε) there; and log c,
            c_j = Σ_i a_i exp((f_i + g_j − C_ij)/ε). All float64.
        """

    @abc.abstractmethod
    def rows(self, g: Tensor, f: Tensor) -> Tensor:
        """The row update alone, −ε log Σ_j b_j exp((g_j − C_ij)/ε), near a guess f."""

    def mended(self, f: Tensor, g: Tensor, log_c: Tensor) -> Tensor:
        """log c with columns that underflowed recomputed in the log domain."""
        bad = ~log_c.isfinite()
        if not bool(bad.any()):
            return log_c
        flipped = self.problem.transposed()
        exact = flipped.softmin(f, self.epsilon)  # the g of exact columns
        return torch.where(bad, (g - exact) / self.epsilon.unsqueeze(-1), log_c)


def working_precision(problem: EntropicProblem, epsilon: Tensor) -> torch.dtype:
    """Float32 where the rounding error of a cost stays far below ε, else float64."""
    if problem.x.dtype == torch.float64:
        return torch.float64
    if not isinstance(problem.ground, SqEuclidean):
        return Pairs(problem.ground, problem.x, problem.y).dtype
    middle = problem.y.mean(-2, keepdim=True)
    size = torch.stack([(z - middle).square().sum(-1).amax(-1) for z in (problem.x, problem.y)])
    error = torch.finfo(torch.float32).eps * size.amax(0).double() / epsilon
    return torch.float64 if bool((error > 1e-4).any()) else torch.float32


class StreamedSweeper(AbstractSweeper):
    """Recomputes every block of rows in each pass; memory linear in n + m."""

    def __init__(self, problem: EntropicProblem, epsilon: Tensor) -> None:
        super().__init__(problem, epsilon)
        self.pairs = Pairs(problem.ground, problem.x.to(self.dtype), problem.y.to(self.dtype))
        self.rate = (-LOG2E / epsilon).to(self.pairs.dtype)
        self.folded = type(problem.ground) is SqEuclidean
        if self.folded:  # potentials ride on the squared norms of the augmented points
            d = self.pairs.d
            self.u = self.pairs.u * self.rate[:, None, None]
            self.row_norm = self.pairs.u[..., d].double()
            self.v = self.pairs.v.clone()
            self.column_norm = self.pairs.v[..., d + 1].double()
        else:
            self.u, self.v = self.pairs.u, self.pairs.v

    def _load(self, f: Tensor, g: Tensor) -> None:
        if self.folded:
            d = self.pairs.d
            rate = (-LOG2E / self.epsilon).unsqueeze(-1)
            self.u[..., d] = (rate * (self.row_norm - f)).to(self.u.dtype)
            self.v[..., d + 1] = (self.column_norm - g).to(self.v.dtype)
            return
        scale = (LOG2E / self.epsilon).unsqueeze(-1)
        self.f2, self.g2 = ((scale * z).to(self.u.dtype) for z in (f, g))

    def _exponents(self, e: slice, rows: slice, buffer: Tensor) -> Tensor:
        """log₂ of exp((f + g − C)/ε) on a block of rows with all columns."""
        if self.folded:
            u, v = self.u[e, rows], self.v[e]
            tile = buffer[: u.shape[0] * u.shape[1] * v.shape[1]].view(len(u), -1, v.shape[1])
            if len(u) == 1:
                torch.mm(u[0], v[0].T, out=tile[0])
            else:
                torch.bmm(u, v.mT, out=tile)
            return tile
        columns = slice(0, self.pairs.m)
        s = self.pairs.arguments(e, rows, columns, buffer)
        tile = self.pairs.values(s, e, rows, columns)
        tile.mul_(self.rate[e, None, None])
        return tile.add_(self.f2[e, rows].unsqueeze(-1)).add_(self.g2[e].unsqueeze(-2))

    def _blocks(self) -> list[Block]:
        n, m, batch = self.pairs.n, self.pairs.m, self.pairs.batch
        size = BLOCK if self.pairs.u.device.type == "cpu" else 2**26
        rows = max(1, min(n, size // m))
        entries = max(1, size // (rows * m))
        return [Block(e, r) for e in blocks(batch, entries) for r in blocks(n, rows)]

    def sweep(self, f: Tensor, g: Tensor, update: Update) -> tuple[Tensor, Tensor, Tensor]:
        self._load(f, g)
        p, tasks = self.pairs, self._blocks()
        new, log_r = torch.empty_like(f), torch.empty_like(f)
        b = self.problem.b.to(p.dtype)
        shares: list[tuple[int, Tensor]] = []

        def work(share: Sequence[Block]) -> None:
            first = share[0]
            buffer = p.u.new_empty(_size(first, p.m))
            sums = torch.zeros_like(g, dtype=p.dtype)
            for block in share:
                e, rows = block.entries, block.rows
                tile = self._exponents(e, rows, buffer).exp2_()
                near = f[e, rows]
                row = times_vector(tile, b[e])
                if not bool((row > 1e-30).all() & (row < 1e30).all()):
                    tile, near = self._safe_block(e, rows, near, buffer)
                    row = times_vector(tile, b[e])
                eps = self.epsilon[e].unsqueeze(-1)
                raw = near - eps * row.double().log()
                new[e, rows] = update_part(update, raw, e)
                log_r[e, rows] = (new[e, rows] - raw) / eps
                scaled = self.problem.a[e, rows] * ((new[e, rows] - near) / eps).exp()
                sums[e] += times_vector(tile.mT, scaled.to(tile.dtype))
            shares.append((tasks.index(first), sums))

        run_tasks(work, tasks, p.count)
        total = torch.stack([s.double() for _, s in sorted(shares, key=lambda pair: pair[0])])
        return new, log_r, self.mended(new, g, total.sum(0).log())

    def _safe_block(
        self, e: slice, rows: slice, f: Tensor, buffer: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The block with rows shifted so that their largest term is one, and the f that does."""
        exponents = self._exponents(e, rows, buffer)
        top = exponents.amax(-1, keepdim=True)
        top = torch.where(top.isfinite(), top, 0.0)
        shift = top.squeeze(-1).double() * self.epsilon[e].unsqueeze(-1) / LOG2E
        return exponents.sub_(top).exp2_(), f - shift

    def rows(self, g: Tensor, f: Tensor) -> Tensor:
        self._load(f, g)
        p = self.pairs
        found = torch.empty_like(f)
        b = self.problem.b.to(p.dtype)

        def work(share: Sequence[Block]) -> None:
            buffer = p.u.new_empty(_size(share[0], p.m))
            for block in share:
                e, rows = block.entries, block.rows
                row = times_vector(self._exponents(e, rows, buffer).exp2_(), b[e])
                near = f[e, rows]
                if not bool((row > 1e-30).all() & (row < 1e30).all()):
                    tile, near = self._safe_block(e, rows, near, buffer)
                    row = times_vector(tile, b[e])
                found[e, rows] = near - self.epsilon[e].unsqueeze(-1) * row.double().log()

        run_tasks(work, self._blocks(), p.count)
        return found


class CachedSweeper(AbstractSweeper):
    """Keeps the kernel exp((f₀ + g₀ − C)/ε) in memory and iterates with products.

    Scalings exp((f − f₀)/ε) carry what has changed since; when they leave a safe range the kernel
    is rebuilt around the current potentials.
    """

    def __init__(self, problem: EntropicProblem, epsilon: Tensor) -> None:
        super().__init__(problem, epsilon)
        self.kernel: Tensor | None = None
        self.f0, self.g0 = problem.a, problem.b

    def _rebuild(self, f: Tensor, g: Tensor) -> None:
        p = self.problem
        pairs = Pairs(p.ground, p.x.to(self.dtype), p.y.to(self.dtype))
        if self.kernel is None:
            self.kernel = pairs.u.new_empty(pairs.batch, pairs.n, pairs.m)
        kernel = self.kernel
        self.f0, self.g0 = f.clone(), g.clone()
        scale = LOG2E / self.epsilon
        f2, g2 = ((scale.unsqueeze(-1) * z).to(kernel.dtype) for z in (f, g))
        rate = -scale.to(kernel.dtype)

        def work(share: Sequence[Block]) -> None:
            buffer = pairs.buffer()
            for block in share:
                e, rows = block.entries, block.rows
                for columns in pairs.column_blocks():
                    s = pairs.arguments(e, rows, columns, buffer)
                    tile = pairs.values(s, e, rows, columns).mul_(rate[e, None, None])
                    tile.add_(f2[e, rows].unsqueeze(-1)).add_(g2[e, columns].unsqueeze(-2))
                    torch.exp2(tile, out=kernel[e, rows, columns])

        run_tasks(work, pairs.row_blocks(), pairs.count)

    def _scalings(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        eps = self.epsilon.unsqueeze(-1)
        u, v = (f - self.f0) / eps, (g - self.g0) / eps
        far = max(float(u.abs().max()), float(v.abs().max()))
        if self.kernel is None or not far < ABSORB:
            self._rebuild(self.problem.softmin(g, self.epsilon), g)
            u, v = (f - self.f0) / eps, torch.zeros_like(v)
        return u, v

    def rows(self, g: Tensor, f: Tensor) -> Tensor:
        _, v = self._scalings(f, g)
        assert self.kernel is not None
        weighted = (self.problem.b * v.exp()).to(self.kernel.dtype)
        row = times_vector(self.kernel, weighted).double()
        if not bool((row > 0).all()):
            return self.problem.softmin(g, self.epsilon)
        return self.f0 - self.epsilon.unsqueeze(-1) * row.log()

    def sweep(self, f: Tensor, g: Tensor, update: Update) -> tuple[Tensor, Tensor, Tensor]:
        eps = self.epsilon.unsqueeze(-1)
        raw = self.rows(g, f)
        new = update(raw)
        if float(((new - self.f0) / eps).abs().max()) >= ABSORB:
            self._rebuild(new, g)
        assert self.kernel is not None
        scaled = (self.problem.a * ((new - self.f0) / eps).exp()).to(self.kernel.dtype)
        column = times_vector(self.kernel.mT, scaled).double()
        log_c = column.log() + (g - self.g0) / eps
        return new, (new - raw) / eps, self.mended(new, g, log_c)


def times_vector(matrix: Tensor, v: Tensor) -> Tensor:
    """Matrix @ v per batch entry, shapes (B, n, m), (B, m) → (B, n)."""
    if matrix.shape[0] == 1:
        return torch.mv(matrix[0], v[0]).unsqueeze(0)
    return torch.bmm(matrix, v.unsqueeze(-1)).squeeze(-1)


def update_part(update: Update, raw: Tensor, entries: slice) -> Tensor:
    """An update on some entries of the batch; updates act on each number alone."""
    apply = getattr(update, "of", None)
    return update(raw) if apply is None else apply(raw, entries)


def _size(block: Block, m: int) -> int:
    e, r = block.entries, block.rows
    return int((e.stop - e.start) * (r.stop - r.start) * m)
