"""The plan of an entropic problem, known by its potentials and never formed unless asked for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics.pairwise.reductions import AbstractReduction, Reading, per_entry
from probmetrics.pairwise.tiled import fold
from probmetrics.transport.plan import AbstractCoupling, Transport
from probmetrics.transport.sweeps import EntropicProblem


@dataclass(frozen=True)
class PlanSum(AbstractReduction):
    """Σ_j P_ij w_jk with P_ij = exp(row_i + column_j + scale · C_ij), shape (B, n, k).

    Args:
        row: Exponents on rows, shape (B, n).
        column: Exponents on columns, shape (B, m).
        scale: −1/ε, shape (B,).
        weights: Shape (B, m, k), or None for Σ_j P_ij C_ij, shape (B, n, 1).
    """

    row: Tensor
    column: Tensor
    scale: Tensor
    weights: Tensor | None

    def of(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        exponent = tile * per_entry(self.scale, tile)
        exponent = exponent + self.row[:, rows].to(tile.dtype).unsqueeze(-1)
        plan = (exponent + self.column[:, columns].to(tile.dtype).unsqueeze(-2)).exp()
        if self.weights is None:
            return ((plan * tile).sum(-1, keepdim=True, dtype=torch.float64),)
        return ((plan @ self.weights[:, columns].to(tile.dtype)).double(),)

    def merge(self, left: Reading, right: Reading) -> Reading:
        return (left[0] + right[0],)

    @property
    def row_axis(self) -> int:
        return -2

    def check(self, n: int, m: int) -> None:
        assert self.row.shape[-1] == n
        assert self.column.shape[-1] == m

    def take(self, entries: slice) -> "PlanSum":
        weights = None if self.weights is None else self.weights[entries]
        return PlanSum(self.row[entries], self.column[entries], self.scale[entries], weights)


class EntropicCoupling(AbstractCoupling):
    """P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε).

    Args:
        problem: The problem, its batch flattened.
        f: Potential, float64, shape (B, n).
        g: Potential, float64, shape (B, m).
        epsilon: ε, float64, shape (B,).
        batch: The batch dimensions that callers know.
        points: The samples as given, flattened, for maps.
    """

    def __init__(
        self,
        problem: EntropicProblem,
        f: Tensor,
        g: Tensor,
        epsilon: Tensor,
        batch: tuple[int, ...],
        points: tuple[Tensor, Tensor],
    ) -> None:
        self.problem, self.f, self.g = problem, f, g
        self.epsilon, self.batch, self.points = epsilon, batch, points

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.batch, self.f.shape[-1], self.g.shape[-1])

    def _exponents(self) -> tuple[Tensor, Tensor]:
        eps = self.epsilon.unsqueeze(-1)
        return self.f / eps + self.problem.a.log(), self.g / eps + self.problem.b.log()

    def _folded(
        self, problem: EntropicProblem, row: Tensor, column: Tensor, w: Tensor | None
    ) -> Tensor:
        pairs = problem.pairs(self.epsilon)
        found: Tensor = fold(pairs, PlanSum(row, column, -1.0 / self.epsilon, w))
        return found

    def plan(self) -> Tensor:
        row, column = self._exponents()
        p = self.problem
        pairs = p.pairs(self.epsilon)
        ends = (z.to(pairs.dtype) for z in (p.x, p.y))
        cost = p.ground.on_features(*ends).double() / self.epsilon[:, None, None]
        plan = (row.unsqueeze(-1) + column.unsqueeze(-2) - cost).exp()
        return plan.to(self.points[0].dtype).reshape(self.shape)

    def apply(self, v: Tensor) -> Tensor:
        row, column = self._exponents()
        flat = v.reshape(-1, *v.shape[-2:])
        found = self._folded(self.problem, row, column, flat)
        return found.to(v.dtype).reshape(*self.batch, *found.shape[1:])

    def apply_transpose(self, u: Tensor) -> Tensor:
        row, column = self._exponents()
        flat = u.reshape(-1, *u.shape[-2:])
        found = self._folded(self.problem.transposed(), column, row, flat)
        return found.to(u.dtype).reshape(*self.batch, *found.shape[1:])

    def cost(self) -> Tensor:
        row, column = self._exponents()
        found = self._folded(self.problem, row, column, None).sum((-1, -2))
        return found.to(self.points[0].dtype).reshape(self.batch)

    def map(self, x: Tensor | None) -> Tensor:
        p = self.problem
        own, y = self.points
        if x is not None:
            _fits(x, self.batch, own.shape[-1])
        new = own if x is None else x.to(own.dtype).expand(*self.batch, *x.shape[-2:])
        flat = new.reshape(-1, *new.shape[-2:])
        with torch.no_grad():
            embedded = p.x if x is None else p.ground.embed(flat)
        # The entropic map: y averaged under the plan's row at a new point, whose potential
        # follows from g (Pooladian & Niles-Weed 2021, eq. 3).
        there = EntropicProblem(p.ground, embedded, p.y, p.a, p.b)
        f = there.softmin(self.g, self.epsilon)
        eps = self.epsilon.unsqueeze(-1)
        column = self.g / eps + p.b.log()
        targets = y.reshape(-1, *y.shape[-2:]).double()
        centre = targets.mean(-2, keepdim=True)  # an offset would be rounded with the weights
        weights = torch.cat([torch.ones_like(targets[..., :1]), targets - centre], -1)
        sums = self._folded(there, f / eps, column, weights)
        moved = sums[..., 1:] / sums[..., :1] + centre
        return moved.to(own.dtype).reshape(*self.batch, *moved.shape[1:])


def _fits(x: Tensor, batch: tuple[int, ...], d: int) -> None:
    """New points for every problem of a batch."""
    outer = x.shape[:-2]
    spare = len(batch) - len(outer)
    fits = spare >= 0 and all(s in (1, b) for s, b in zip(outer, batch[spare:], strict=True))
    if not fits or x.shape[-1] != d:
        wanted = ", ".join([*(str(size) for size in batch), "k", str(d)])
        raise ValueError(f"x has shape {tuple(x.shape)}, but this plan maps points ({wanted})")


@dataclass(frozen=True, repr=False, eq=False)
class EntropicTransport(Transport):
    """A ``Transport`` whose plan carries entropy; ``value`` is that of the dual.

    Attributes:
        epsilon: ε, in units of the cost, shape (*batch).

    The plan's own objective is ``entropic_value``; the transport cost ⟨P, C⟩ alone is ``cost``.
    """

    epsilon: float | Tensor = 0.0

    @property
    def dual_value(self) -> float | Tensor:
        """Value of the dual at f and g: a lower bound of the optimum, shape (*batch)."""
        value: float | Tensor = self.value
        return value

    @property
    def entropic_value(self) -> float | Tensor:
        """⟨P, C⟩ + ε KL(P‖a⊗b), with penalties where marginals are relaxed, shape (*batch)."""
        value: float | Tensor = self.value + self.dual_gap
        return value
