"""Sums over all weighted pairs with their gradients, in one sweep over the tiles each."""

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
        pairs = Pairs(ground, x, x if symmetric else y, split=True)
        sweep = Sweep(pairs, a, b, symmetric, ctx.needs_input_grad[2:])
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
            total = dense_total(ctx.ground, x, y, a, b)
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
        pairs: Pairs,
        a: Tensor,
        b: Tensor,
        symmetric: bool,
        wanted: Sequence[bool],
    ) -> None:
        self.pairs = p = pairs
        self.symmetric = symmetric
        # Uniform weights are one number, applied at the end instead of to every tile.
        self.a, self.row_factor = self._weights(a.detach())
        self.b, self.column_factor = self._weights(b.detach())
        self.wanted = wanted
        need_x, need_y, need_a, need_b = wanted
        self.pull_columns = need_y or (symmetric and need_x)
        self.sum_columns = need_b or (symmetric and need_a)
        self.pulling = need_x or self.pull_columns
        self.need_x = need_x
        self.row_pull = torch.empty_like(p.u) if need_x and not symmetric else None
        self.row_sums = self._zeros(p.n) if need_a else None
        self.shares: list[tuple[tuple[int, int], _Share]] = []

    def _weights(self, weights: Tensor) -> tuple[Tensor | None, Tensor]:
        """Weights to multiply tiles by, or None; and one factor per batch entry."""
        if constant(weights):
            return None, weights[:, 0].double()
        return weights.to(self.pairs.dtype), self._zeros() + 1.0

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
        return totals * self.row_factor * self.column_factor

    def _visit(self, tasks: Sequence[Block]) -> None:
        p = self.pairs
        share = _Share(
            self._zeros(),
            p.v.new_zeros(p.batch, p.parts, p.v.shape[-1], p.m) if self.pull_columns else None,
            self._zeros(p.m) if self.sum_columns else None,
        )
        # The sums of slopes are gathered transposed: a product whose result is narrow is slow.
        for block in tasks:
            e, rows = block.entries, block.rows
            u = p.cut(p.u[e, rows])
            pull = u.new_zeros(u.mT.shape) if self.need_x else None
            sums: Tensor = self._zeros(1)[e]
            for columns in p.column_blocks(rows.start if self.symmetric else 0):
                mirrored = self.symmetric and columns.start > rows.start
                part = self._tile(e, rows, columns, mirrored, share, u, pull)
                sums = sums + (2.0 * part if mirrored else part)
            a = None if self.a is None else self.a[e, rows].double()
            share.totals[e] += sums.sum(-1) if a is None else (sums * a).sum(-1)
            if pull is not None:
                gathered = pull.mT.reshape(p.u[e, rows].shape)
                if self.row_pull is not None:
                    self.row_pull[e, rows] = gathered
                elif share.column_pull is not None:  # of the same points, in the same memory
                    p.add_as_columns(share.column_pull[e, 0, :, rows], gathered.mT)
        self.shares.append(((tasks[0].entries.start, tasks[0].rows.start), share))

    def _tile(
        self,
        e: slice,
        rows: slice,
        columns: slice,
        mirrored: bool,
        share: "_Share",
        u: Tensor,
        pull: Tensor | None,
    ) -> Tensor:
        """Read one tile; returns its row sums Σ_j G_ij b_j, but for the factor."""
        p = self.pairs
        s = p.arguments(e, rows, columns, p.buffer())
        if self.pulling:
            tile, slopes = p.values_and_slopes(s, e, rows, columns, p.buffer(1))
        else:
            tile = slopes = p.values(s, e, rows, columns)
        a = None if self.a is None else self.a[e, rows]
        b = None if self.b is None else self.b[e, columns]
        other_side = mirrored or not self.symmetric
        if share.column_sums is not None and other_side:
            share.column_sums[e, columns] += weighted_rows(tile.mT, a)
        if b is not None:  # in place, which torch's threads share better than a product
            tile.mul_(b.unsqueeze(-2))
        part = tile.sum(-1).double()
        if self.row_sums is not None:
            self.row_sums[e, rows] += part
        if not self.pulling:
            return part
        if b is not None and slopes is not tile:
            slopes.mul_(b.unsqueeze(-2))
        if a is not None:
            slopes.mul_(a.unsqueeze(-1))
        slopes = p.cut(slopes)
        if pull is not None:
            v = p.v[e, columns]
            pull.baddbmm_(v.expand(len(u), -1, -1).mT, slopes.mT)
        if share.column_pull is not None and other_side:
            held = share.column_pull[e, ..., columns]
            held = held[0, : len(u)] if p.parts > 1 else held[:, 0]
            held.baddbmm_(u.mT, slopes)
        return part

    def gradients(self, dtypes: Sequence[torch.dtype]) -> list[Tensor | None]:
        """Gradients of the totals in x, y, a and b."""
        p = self.pairs
        need_a = self.wanted[2]
        dx = dy = da = db = None
        factor = self.row_factor * self.column_factor * p.slope_factor
        pulled = self._column_pull()
        if self.row_pull is not None:
            dx = p.pull_rows(p.u, self.row_pull)
            self.row_pull = None
        if pulled is not None:
            dy = p.pull_columns(p.v, pulled)
            if self.symmetric:
                dx, dy = dy.mul_(2.0), None
        if need_a:
            assert self.row_sums is not None
            da = self.row_sums * self.column_factor.unsqueeze(-1)
        if self.sum_columns:
            sums = [share.column_sums for _, share in self.shares]
            db = torch.stack([s for s in sums if s is not None]).sum(0)
            db *= self.row_factor.unsqueeze(-1)
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
        if whole is None:
            return None
        return (whole[:, 0] if self.pairs.parts == 1 else whole.sum(1)).mT


@dataclass
class _Share:
    """What one thread gathers."""

    totals: Tensor
    column_pull: Tensor | None
    column_sums: Tensor | None


def weighted_rows(tile: Tensor, b: Tensor | None) -> Tensor:
    """tile @ b per batch entry, in float64; None is a plain sum."""
    if b is None:
        return tile.sum(-1).double()
    if tile.shape[0] == 1:
        return torch.mv(tile[0], b[0]).double().unsqueeze(0)
    return (tile @ b.unsqueeze(-1)).squeeze(-1).double()


def constant(weights: Tensor) -> bool:
    """Whether weights are known to be uniform: one number, expanded."""
    return weights.stride(-1) == 0


def dense_total(ground: AbstractGround, x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Σ_ij a_i G_ij b_j from the whole matrix, twice differentiable."""
    matrix = dense_matrix(ground, x, y)
    return ((matrix @ b.unsqueeze(-1)).squeeze(-1) * a).sum(-1).double()


def _like(factor: Tensor, grad: Tensor) -> Tensor:
    """One factor per batch entry, shaped and typed to multiply ``grad``."""
    return factor.to(grad.dtype).reshape(-1, *[1] * (grad.ndim - 1))
