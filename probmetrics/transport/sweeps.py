"""One pass of Sinkhorn over all pairs: the row update and, from the same exponentials, the columns.

With P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε), a pass at g makes the rows of P right and reads off
how far its columns are from b. While the exponentials of a block of rows are in cache, their row
sums give f, and the same values scaled by a_i over the row sum add into the column sums. One
exponential per pair per iteration, and the marginal error comes free.
"""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.threads import run_tasks
from probmetrics.pairwise.tiles import Block, blocks, scratch
from probmetrics.transport.entropic_problem import EntropicProblem as EntropicProblem
from probmetrics.transport.marginals import Marginal, Update
from probmetrics.transport.rounding import within

LOG2E = math.log2(math.e)
WIDE = 32  # coordinates from which products are the work
BLOCK = 2**19  # entries of a block of rows: smaller ones fit a cache better and cost more calls
KEPT_BLOCK = 2**20  # the same of a kernel in memory, whose passes are bound by that memory
WIDE_BLOCK = 2**21  # and where points have many coordinates, so that products are the work;
MADE_BLOCK = 2**22  # where these go into or read a kernel in memory, a block needs none of its own
ABSORB = 40.0  # nats by which scalings may grow before a kernel in memory is formed anew
FAR = 100.0  # nats from a safer place at which exponents are rounded too much to be used there
HIGHEST = 100.0  # log₂ of the largest entry beside a row's largest one that has mass


class Sweeper:
    """Makes passes over the pairs of one problem at one ε.

    A sweeper that keeps the kernel forms exp((f₀ + g₀ − C)/ε) once, in its first pass; scalings
    exp((f − f₀)/ε) carry what has changed since, and when they leave a safe range the next pass
    forms it anew. Otherwise every pass recomputes each block, in memory linear in n + m.

    Args:
        problem: What to solve.
        epsilon: ε per batch entry, float64, shape (B,).
        kept: Whether to keep the kernel.
        carried: Whether passes carry the points of y, and of x, along, so that ``moments`` of
            the last pass cost no other.
    """

    def __init__(
        self,
        problem: EntropicProblem,
        epsilon: Tensor,
        *,
        kept: bool,
        carried: tuple[bool, bool] = (False, False),
    ) -> None:
        self.problem, self.epsilon, self.ranks = problem, epsilon, problem.ranks
        self.kept = kept and self.ranks is None  # each rank sees its own blocks of rows
        self.pairs = problem.pairs(epsilon)
        self.dtype = self.pairs.dtype
        self.rate = (-LOG2E / epsilon).to(self.dtype)
        self.folded = type(problem.ground) is SqEuclidean
        self.u, self.v = self.pairs.u, self.pairs.v
        if self.folded:  # potentials ride on the squared norms of the augmented points
            d = self.pairs.d
            self.row_norm = self.u[..., d].double()
            self.column_norm = self.v[..., d + 1].double()
            self.u = self.u * self.rate[:, None, None]
            self.v = self.v.clone()
        self.a, self.b = problem.a.to(self.dtype), problem.b.to(self.dtype)
        self.kernel: Tensor | None = None
        self.formed = False
        self.f0, self.g0 = problem.a, problem.b
        self.held: Tensor | None = None
        self.last: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self._carry(*carried)

    def _carry(self, right: bool, left: bool) -> None:
        """Load passes with y on the columns, with x on the rows, beside the ones they sum."""
        p = self.pairs
        self.right = self._load_of(p.v[..., : p.d]) if right else None
        self.left = self._load_of(p.u[..., : p.d] * (-0.5 / p.rate)) if left else None

    @staticmethod
    def _load_of(points: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(points[..., :1]), points], -1).mT.contiguous()

    def entries(self, chosen: Tensor) -> "Sweeper":
        """A sweeper of some problems of the batch, with what is known of their kernels."""
        few = copy.copy(self)
        few.problem = self.problem.entries(chosen)
        few.pairs = copy.copy(self.pairs)
        few.pairs.batch = chosen.numel()
        few.pairs.u, few.pairs.v = self.pairs.u[chosen], self.pairs.v[chosen]
        few.held = few.last = few.right = few.left = None
        names = ["epsilon", "rate", "u", "v", "a", "b", "f0", "g0"]
        for name in [*names, *(["row_norm", "column_norm"] if self.folded else [])]:
            setattr(few, name, getattr(self, name)[chosen])
        few.kernel = None if self.kernel is None else self.kernel[chosen]
        return few

    def moments(
        self, f: Tensor, g: Tensor, rows: bool, columns: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Σ_j P_ij [1, y_j], shape (B, 1 + d, n), and Σ_i P_ij [1, x_i], shape (B, 1 + d, m).

        For the plan P at f and g, and points about the centre that the pairs share; float64. Of
        the last pass where that was there and carried them, else by one pass.
        """
        known = self.last is not None and torch.equal(self.last[0], f)
        known = known and self.last is not None and torch.equal(self.last[1], g)
        enough = (self.right is not None or not rows) and (self.left is not None or not columns)
        if not (known and enough):
            self._carry(rows, columns)
            self.held = f
            self.sweep(f, g, Update(Marginal(), self.epsilon))
            self.held = None
        assert self.last is not None
        return self.last[2] if rows else None, self.last[3] if columns else None

    def sweep(self, f: Tensor, g: Tensor, update: Update) -> tuple[Tensor, Tensor, Tensor]:
        """One pass at g, shape (B, m), with f, shape (B, n), a guess of the row potential.

        Returns:
            f at g; log r, r_i = Σ_j b_j exp((f_i + g_j − C_ij)/ε) there; and log c,
            c_j = Σ_i a_i exp((f_i + g_j − C_ij)/ε). All float64.
        """
        near, rows, columns, shift = self._passed(f, g, update)
        raw = near - self.epsilon.unsqueeze(-1) * self._log(rows[:, 0])
        new = update(raw) if self.held is None else self.held
        if self.right is not None or self.left is not None:
            scaling = self._row_scaling(rows[:, 0].to(self.dtype), near, update).unsqueeze(-2)
            weights = (self.problem.b * shift.exp()).unsqueeze(-2)
            self.last = (new, g, rows * scaling, columns * weights)
        log_c = self._log(columns[:, 0]) + shift
        log_r = torch.zeros_like(raw) if new is raw else (new - raw) / self.epsilon.unsqueeze(-1)
        return new, log_r, self._mended(new, g, log_c)

    def _log(self, sums: Tensor) -> Tensor:
        """Logarithms, float64, of sums of numbers in the working precision."""
        return sums.to(self.dtype).log().double() if self.kept else sums.log()

    def rows(self, g: Tensor, f: Tensor) -> Tensor:
        """The row update alone, −ε log Σ_j b_j exp((g_j − C_ij)/ε), near a guess f."""
        near, rows, _, _ = self._passed(f, g, None)
        return near - self.epsilon.unsqueeze(-1) * rows[:, 0].log()

    def own_rows(self, f: Tensor) -> Tensor:
        """``rows`` of a measure with itself at g = f: the kernel is symmetric, so half of it."""
        p = self.pairs
        if self.kept or not self.folded or p.batch > 1 or not p.same:
            return self.rows(f, f)
        self._load(f, f)
        tasks = self._own(_halves(p.n, self._block_rows() * p.m))
        found: list[Tensor] = []
        everything, b = slice(0, 1), self.b[0]

        def work(share: Sequence[slice]) -> None:
            buffer = scratch(max((_area(rows, p.n) for rows in share), default=0), self.u)
            sums = torch.zeros_like(b)
            for rows in share:
                tile = self._exponents(everything, rows, buffer, rows.start).exp2_()[0]
                sums[rows] += torch.mv(tile, b[rows.start :])
                below = tile[:, rows.stop - rows.start :]
                sums[rows.stop :].addmv_(below.mT, b[rows])
            found.append(sums)

        run_tasks(work, tasks, self._pairs() // 2, flush=True)
        found = found or [torch.zeros_like(b)]  # a rank may have no block
        row = torch.stack(found).sum(0, dtype=torch.float64).unsqueeze(0)
        row = row if self.ranks is None else self.ranks.total(row)
        if not within(row):
            return self.rows(f, f)
        return f - self.epsilon.unsqueeze(-1) * row.log()

    def _passed(
        self, f: Tensor, g: Tensor, update: Update | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A pass around f, or around a safer place: that place, row sums, column sums, log shift.

        The quick pass takes f for a fair guess, and looks at the sums afterwards.
        """
        eps = self.epsilon.unsqueeze(-1)
        if self.formed:
            shift = (g - self.g0) / eps
            if float(shift.abs().max()) < ABSORB:
                weights = (LOG2E * shift).to(self.dtype).exp2_().mul_(self.b)
                row, columns = self._pass(self.f0, weights, update)
                if within(row[:, 0], columns):
                    return self.f0, row, columns, shift
        self._load(f, g)
        none = torch.zeros_like(g)
        self.f0, self.g0 = f.clone(), g
        row, columns = self._pass(self.f0, self.b, update, forming=True)
        if not within(row[:, 0], columns):
            self.f0 = f.clone()
            row, columns = self._pass(self.f0, self.b, update, forming=True, careful=True)
            if bool(
                ((self.f0 - f).abs() > FAR * eps).any()
            ):  # exponents were rounded far from zero
                self._load(self.f0, g)
                row, columns = self._pass(self.f0, self.b, update, forming=True, careful=True)
        self.formed = self.kept
        return self.f0, row, columns, none

    def _pass(
        self,
        near: Tensor,
        weights: Tensor,
        update: Update | None,
        *,
        forming: bool = False,
        careful: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Row and column sums of the kernel around ``near``; a careful pass moves that in place.

        Shapes (B, k, n) and (B, k, m): first the sums, then those with what the pass carries.
        """
        p = self.pairs
        if forming and self.kept and self.kernel is None:
            self.kernel = self.u.new_empty(p.batch, p.n, p.m)
        left = self.left
        right = weights.unsqueeze(-2) * (1.0 if self.right is None else self.right)
        row = self.u.new_zeros(p.batch, right.shape[1], p.n)
        tasks = self._own(self._blocks(forming))
        before = near.clone() if careful and self.ranks is not None else None
        shares: list[tuple[int, Tensor]] = []

        def work(share: Sequence[Block]) -> None:
            if not share:
                return
            first = share[0]
            buffer = None if self.kernel is not None else scratch(_size(first, p.m), self.u)
            sums = self.u.new_zeros(p.batch, 1 if left is None else left.shape[1], p.m)
            for block in share:
                e, rows = block.entries, block.rows
                if self.kernel is not None:
                    tile = self.kernel[e, rows]
                if forming:
                    space = tile.view(-1) if buffer is None else buffer
                    made = self._exponents(e, rows, space)
                    if careful:
                        self._lower(made, near, e, rows)
                    made.exp2_()
                    if buffer is None and made.data_ptr() != tile.data_ptr():
                        tile.copy_(made)
                    tile = made
                found = times_rows(tile, right[e])
                row[e, :, rows] = found
                if update is not None:
                    scaled = self._row_scaling(found[:, 0], near, update, e, rows).unsqueeze(-2)
                    scaled = scaled if left is None else scaled * left[e, :, rows]
                    sums[e] += times_rows(tile.mT, scaled)
            shares.append((tasks.index(first), sums))

        run_tasks(work, tasks, self._pairs(forming), flush=True)
        ordered = [s.double() for _, s in sorted(shares, key=lambda pair: pair[0])]
        rows = row.double()
        if self.ranks is None:
            return rows, torch.stack(ordered).sum(0)
        ordered.append(rows.new_zeros(p.batch, 1 if left is None else left.shape[1], p.m))
        if before is not None:  # what other ranks moved
            near.copy_(before + self.ranks.total(near - before))
        return self.ranks.total(rows), self.ranks.total(torch.stack(ordered).sum(0))

    def _own(self, tasks: list[Any]) -> list[Any]:
        """The blocks that this process works on."""
        return tasks if self.ranks is None else tasks[self.ranks.rank :: self.ranks.size]

    def _row_scaling(
        self,
        row: Tensor,
        near: Tensor,
        update: Update,
        e: slice = slice(None),
        rows: slice = slice(None),
    ) -> Tensor:
        """a times what the row update, or the potential held, multiplies the kernel with."""
        if self.held is not None:
            ahead = (self.held[e, rows] - near[e, rows]) / self.epsilon[e].unsqueeze(-1)
            return (self.problem.a[e, rows] * ahead.exp()).to(self.dtype)
        if update.exact:
            return self.a[e, rows] / row
        eps, here = self.epsilon[e].unsqueeze(-1), near[e, rows]
        new = update.of(here - eps * row.double().log(), e)
        return (self.problem.a[e, rows] * ((new - here) / eps).exp()).to(self.dtype)

    def _lower(self, exponents: Tensor, near: Tensor, e: slice, rows: slice) -> None:
        """Shift rows, in place, so that the largest term of each row's sum is one."""
        top = (exponents + self.b[e].log2().unsqueeze(-2)).amax(-1, keepdim=True)
        top = torch.where(top.isfinite(), top, 0.0)
        near[e, rows] -= top.squeeze(-1).double() * self.epsilon[e].unsqueeze(-1) / LOG2E
        exponents.sub_(top).clamp_(max=HIGHEST)

    def _load(self, f: Tensor, g: Tensor) -> None:
        rate = (-LOG2E / self.epsilon).unsqueeze(-1)
        if self.folded:
            d = self.pairs.d
            self.u[..., d] = (rate * (self.row_norm - f)).to(self.dtype)
            self.v[..., d + 1] = (self.column_norm - g).to(self.dtype)
            return
        self.f2, self.g2 = ((-rate * z).to(self.dtype) for z in (f, g))

    def _exponents(self, e: slice, rows: slice, buffer: Tensor, first: int = 0) -> Tensor:
        """log₂ of exp((f + g − C)/ε) on a block of rows with the columns from ``first`` on."""
        if self.folded:
            u, v = self.u[e, rows], self.v[e, first:]
            tile = buffer[: u.shape[0] * u.shape[1] * v.shape[1]].view(len(u), -1, v.shape[1])
            if len(u) == 1:
                torch.mm(u[0], v[0].T, out=tile[0])
            else:
                torch.bmm(u, v.mT, out=tile)
            return tile
        columns = slice(0, self.pairs.m)
        s = self.pairs.arguments(e, rows, columns, buffer)
        tile = self.pairs.values(s, e, rows, columns)
        tile = tile.mul_(self.rate[e, None, None])
        return tile.add_(self.f2[e, rows].unsqueeze(-1)).add_(self.g2[e].unsqueeze(-2))

    def _block_rows(self, forming: bool = True) -> int:
        if self.u.device.type != "cpu":
            size = 2**26
        elif not forming:
            carries = self.right is not None or self.left is not None
            size = MADE_BLOCK if carries and self.pairs.d >= WIDE else KEPT_BLOCK
        else:
            wide = MADE_BLOCK if self.kept else WIDE_BLOCK
            size = BLOCK if self.pairs.d < WIDE else wide
        share = 1 if self.ranks is None else self.ranks.size
        return max(1, min(math.ceil(self.pairs.n / share), size // self.pairs.m))

    def _pairs(self, forming: bool = True) -> int:
        """What a pass is worth in the pairs that tell whether cores should share it."""
        if not forming:
            return self.pairs.count // 8
        cheap = self.folded and self.pairs.d < WIDE
        return self.pairs.count // 4 if cheap else self.pairs.count

    def _blocks(self, forming: bool) -> list[Block]:
        p, rows = self.pairs, self._block_rows(forming)
        entries = 1
        if rows == p.n:
            many = KEPT_BLOCK if p.together or not forming else BLOCK
            entries = max(1, many // (rows * p.m))
        return [Block(e, r) for e in blocks(p.batch, entries) for r in blocks(p.n, rows)]

    def _mended(self, f: Tensor, g: Tensor, log_c: Tensor) -> Tensor:
        """log c with columns that underflowed recomputed in the log domain."""
        if math.isfinite(float(log_c.sum())):
            return log_c
        bad = ~log_c.isfinite()
        exact = self.problem.transposed().softmin(f, self.epsilon)  # the g of exact columns
        return torch.where(bad, (g - exact) / self.epsilon.unsqueeze(-1), log_c)


def times_rows(matrix: Tensor, v: Tensor) -> Tensor:
    """Matrix times each row of v per batch entry, shapes (B, n, m), (B, k, m) → (B, k, n)."""
    if matrix.shape[0] > 1:
        return torch.bmm(v, matrix.mT)  # in this order: the other is ten times as slow
    if v.shape[1] == 1:
        return torch.mv(matrix[0], v[0, 0]).view(1, 1, -1)
    if v.shape[1] >= WIDE:  # a product: the order that is faster where rows are few
        return torch.mm(matrix[0], v[0].T).T.unsqueeze(0)
    return torch.mm(v[0], matrix[0].T).unsqueeze(0)


def _halves(n: int, area: int) -> list[slice]:
    """Rows of about ``area`` entries on and above the diagonal."""
    bounds = [0]
    while bounds[-1] < n:
        bounds.append(min(n, bounds[-1] + max(1, area // (n - bounds[-1]))))
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def _area(rows: slice, n: int) -> int:
    return int((rows.stop - rows.start) * (n - rows.start))


def _size(block: Block, m: int) -> int:
    e, r = block.entries, block.rows
    return int((e.stop - e.start) * (r.stop - r.start) * m)
