"""The sum over all weighted pairs with its gradient, in one sweep over the tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.threads import run_tasks
from probmetrics.pairwise.tiled import dense_matrix, differentiate
from probmetrics.pairwise.tiles import Block, Pairs


class TiledTotal(torch.autograd.Function):
    """Σ_ij a_i G_ij b_j per batch entry, float64, shape (B,).

    With ``symmetric`` the samples are one and the weights are one, and only tiles on and above
    the diagonal are visited. The total enters any loss through one factor per batch entry, so
    its gradient is known up to that factor while the tile is still in cache: value and gradient
    cost one sweep.
    """

    @staticmethod
    def forward(
        ctx: Any,
        ground: AbstractGround,
        symmetric: bool,
        x: Tensor,
        y: Tensor,
        a: Tensor,
        b: Tensor,
    ) -> Tensor:
        ctx.ground, ctx.symmetric = ground, symmetric
        ctx.save_for_backward(x, y, a, b)
        sweep = Sweep(ground, x, y, a, b, symmetric, ctx.needs_input_grad[2:])
        total = sweep.run()
        ctx.gradients = sweep.gradients((x.dtype, y.dtype, a.dtype, b.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            x, y, a, b = ctx.saved_tensors
            if ctx.symmetric:
                y, b = x, a
            matrix = dense_matrix(ctx.ground, x, y)
            total = ((matrix @ b.unsqueeze(-1)).squeeze(-1) * a).sum(-1).double()
            return (None, None, *differentiate(total, (x, y, a, b), needs, g))
        return (
            None,
            None,
            *(None if grad is None else grad * _like(g, grad) for grad in ctx.gradients),
        )


class Sweep:
    """One pass over the tiles, gathering the total and whatever gradients are wanted.

    In the symmetric case only x and a want gradients; a tile above the diagonal then stands for
    its mirror image too, whose rows are this tile's columns.
    """

    def __init__(
        self,
        ground: AbstractGround,
        x: Tensor,
        y: Tensor,
        a: Tensor,
        b: Tensor,
        symmetric: bool,
        wanted: Sequence[bool],
    ) -> None:
        self.pairs = p = Pairs(ground, x, x if symmetric else y)
        self.symmetric = symmetric
        self.a, self.b = a.detach(), b.detach()
        self.wanted = wanted
        need_x, need_y, need_a, need_b = wanted
        self.pull_columns = need_y or (symmetric and need_x)
        self.sum_columns = need_b or (symmetric and need_a)
        self.row_pull = torch.zeros_like(p.u) if need_x else None
        self.row_sums = self._zeros(p.n) if need_a else None
        self.shares: list[tuple[tuple[int, int], _Share]] = []
        # A slope that is a multiple of the value (Gaussians) is read off the same tile.
        self.multiple = ground.slope_multiple(p.d)
        # Uniform weights are one number, applied at the end instead of to every tile.
        self.factor = torch.ones(p.batch, dtype=torch.float64, device=p.u.device)
        for weights in (self.a, self.b):
            if constant(weights):
                self.factor = self.factor * weights[:, 0].double()

    def _zeros(self, *shape: int) -> Tensor:
        p = self.pairs
        return torch.zeros(p.batch, *shape, dtype=torch.float64, device=p.u.device)

    def run(self) -> Tensor:
        """Visit all tiles; returns the totals, shape (B,)."""
        tasks = self.pairs.row_blocks()  # in the symmetric case the first rows are the longest
        run_tasks(self._visit, tasks, self.pairs.count)
        self.shares.sort(key=lambda item: item[0])  # the order of the sums must not vary
        totals = self._zeros()
        for _, share in self.shares:
            totals += share.totals
        return totals

    def _visit(self, tasks: Sequence[Block]) -> None:
        p = self.pairs
        share = _Share(
            self._zeros(),
            torch.zeros_like(p.v) if self.pull_columns else None,
            self._zeros(p.m) if self.sum_columns else None,
        )
        buffer = p.buffer()
        for block in tasks:
            e, rows = block.entries, block.rows
            a = self.a[e, rows]
            sums = torch.zeros(a.shape, dtype=torch.float64, device=a.device)
            for columns in p.column_blocks(rows.start if self.symmetric else 0):
                mirrored = self.symmetric and columns.start > rows.start
                part = self._tile(e, rows, columns, mirrored, buffer, share)
                sums += 2.0 * part if mirrored else part
            share.totals[e] += (sums * a.double()).sum(-1)
        self.shares.append(((tasks[0].entries.start, tasks[0].rows.start), share))

    def _tile(
        self, e: slice, rows: slice, columns: slice, mirrored: bool, buffer: Tensor, share: "_Share"
    ) -> Tensor:
        """Read one tile; returns its row sums Σ_j G_ij b_j."""
        p = self.pairs
        pulling = self.row_pull is not None or self.pull_columns
        s = p.arguments(e, rows, columns, buffer)
        slopes = p.slopes(s) if pulling and self.multiple is None else None
        tile = p.values(s, e, rows, columns)
        a, b = self.a[e, rows].to(tile.dtype), self.b[e, columns].to(tile.dtype)
        part = weighted_rows(tile, b)
        other_side = mirrored or not self.symmetric
        if self.row_sums is not None:
            self.row_sums[e, rows] += part
        if share.column_sums is not None and other_side:
            share.column_sums[e, columns] += weighted_rows(tile.mT, a)
        if not pulling:
            return part
        weighted = tile if slopes is None else slopes
        if not constant(self.a):
            weighted.mul_(a.unsqueeze(-1))
        if not constant(self.b):
            weighted.mul_(b.unsqueeze(-2))
        if self.row_pull is not None:
            add_product(self.row_pull[e, rows], weighted, p.v[e, columns])
        if share.column_pull is not None and other_side:
            add_product(share.column_pull[e, columns], weighted.mT, p.u[e, rows])
        return part

    def gradients(self, dtypes: Sequence[torch.dtype]) -> list[Tensor | None]:
        """Gradients of the totals in x, y, a and b."""
        p = self.pairs
        need_x, _, need_a, _ = self.wanted
        dx = dy = da = db = None
        factor = self.factor * (1.0 if self.multiple is None else self.multiple)
        pulled = self._column_pull()
        if need_x:
            assert self.row_pull is not None
            dx = p.pull_rows(p.u, self.row_pull)
            self.row_pull = None
        if pulled is not None:
            dy = p.pull_columns(p.v, pulled)
            if self.symmetric:
                assert dx is not None
                dx, dy = dx.add_(dy).mul_(2.0), None
        if need_a:
            da = self.row_sums
        if self.sum_columns:
            sums = [share.column_sums for _, share in self.shares]
            db = torch.stack([s for s in sums if s is not None]).sum(0)
            if self.symmetric:
                assert da is not None
                da, db = 2.0 * (da + db), None
        moved = [None if g is None else g.mul_(_like(factor, g)) for g in (dx, dy)]
        return [
            None if g is None else g.to(dtype)
            for g, dtype in zip((*moved, da, db), dtypes, strict=True)
        ]

    def _column_pull(self) -> Tensor | None:
        """The columns' sums of all threads."""
        whole = self.shares[0][1].column_pull
        for _, share in self.shares[1:]:
            if whole is not None and share.column_pull is not None:
                whole += share.column_pull
            share.column_pull = None  # as large as the sample: not kept longer than needed
        return whole


@dataclass
class _Share:
    """What one thread gathers."""

    totals: Tensor
    column_pull: Tensor | None
    column_sums: Tensor | None


def weighted_rows(tile: Tensor, b: Tensor) -> Tensor:
    """tile @ b per batch entry, in float64."""
    if constant(b):
        return tile.sum(-1).double() * b[:, :1].double()
    if tile.shape[0] == 1:
        return torch.mv(tile[0], b[0]).double().unsqueeze(0)
    return (tile @ b.unsqueeze(-1)).squeeze(-1).double()


def constant(weights: Tensor) -> bool:
    """Whether weights are known to be uniform: one number, expanded."""
    return weights.stride(-1) == 0


def add_product(target: Tensor, left: Tensor, right: Tensor) -> None:
    """target += left @ right, per batch entry."""
    if target.shape[0] == 1:
        target[0].addmm_(left[0], right[0])
    else:
        target.baddbmm_(left, right)


def _like(factor: Tensor, grad: Tensor) -> Tensor:
    """One factor per batch entry, shaped and typed to multiply ``grad``."""
    return factor.to(grad.dtype).reshape(-1, *[1] * (grad.ndim - 1))
