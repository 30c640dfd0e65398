"""Two samples to be moved onto each other: admitted, embedded, and solved one by one in a batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.transport.envelope import Flows, stack_flows, to_array, unit
from probmetrics.transport.ground_cost import GroundCost, ground_cost
from probmetrics.transport.plan import SparseCoupling
from probmetrics.transport.programme import Matrix, Solution

SMALLEST = 1e-290  # largest cost: below, sums of costs times weights lose their digits


@dataclass(frozen=True)
class Part:
    """One problem of a batch, as a solver sees it: no graph, weights in float64 on the CPU."""

    x: Tensor  # (n, d), embedded
    y: Tensor
    a: Tensor  # (n,)
    b: Tensor
    even: tuple[bool, bool]  # whether the weights of x, of y, were left uniform
    ground: GroundCost
    matrix: Tensor | None  # all costs, where single pairs cannot be evaluated

    def costs(self) -> Matrix:
        """All costs, shape (n, m)."""
        if self.matrix is not None:
            return to_array(self.matrix)
        costs = self.ground.matrix(self.x, self.y)
        # Distances of 1e-3 to the power 200 are zero, and of 1e11 infinite.
        largest = float(costs.abs().max())
        lost = self.ground.norm is not None and largest < SMALLEST and not self._coincide()
        if lost or not math.isfinite(largest):
            raise ValueError(
                f"the largest cost is {largest:.3g}, beyond what float64 can hold: distances to "
                "the power p vanish or overflow; divide both samples by the size of their "
                "distances, or pass a smaller p"
            )
        return to_array(costs)

    def _coincide(self) -> bool:
        """Whether all points of both samples are one."""
        return bool((self.x == self.x[:1]).all() and (self.y == self.x[:1]).all())


@dataclass(frozen=True)
class SampleProblem:
    """Move the sample x onto the sample y, broadcast to one batch."""

    x: Tensor  # (*batch, n, d), as the caller gave it
    y: Tensor
    points: tuple[Tensor, Tensor]  # what the cost reads, usually in float64
    a: Tensor | None  # (*batch, n) in float64; None is uniform
    b: Tensor | None
    ground: GroundCost
    p: float

    @classmethod
    def admit(
        cls,
        x: Tensor,
        y: Tensor,
        p: Any,
        cost: Any,
        a: Tensor | None,
        b: Tensor | None,
        *,
        balanced: bool = True,
    ) -> "SampleProblem":
        """Check everything a user may have got wrong.

        Args:
            x: Sample, shape (*batch, n, d).
            y: Sample, shape (*batch, m, d).
            p: Power of the ground distance.
            cost: Ground distance, or None for Euclidean.
            a: Weights of x, or None.
            b: Weights of y, or None.
            balanced: Whether weights have to sum to one; they are then divided by their sum.
        """
        x, y = checks.samples(x, y)
        p = checks.order(p)
        ground = ground_cost(cost, p)
        check = checks.weights if balanced else checks.measure
        given = [w for w in (a, b) if w is not None]
        sides = [x.shape[:-2], y.shape[:-2], *(w.shape[:-1] for w in given)]
        for w, z, name in ((a, x, "a"), (b, y, "b")):
            if w is not None:
                check(w, z, name)
        for side in sides[1:]:
            checks.broadcastable(sides[0], side, ("x", "the other arguments"))
        batch = checks.filled(torch.broadcast_shapes(*sides))
        scale = unit if balanced else Tensor.double
        problem = cls(
            x=_broadcast(x, batch),
            y=_broadcast(y, batch),
            points=(_broadcast(ground.embed(x), batch), _broadcast(ground.embed(y), batch)),
            a=None if a is None else scale(a).expand(*batch, a.shape[-1]),
            b=None if b is None else scale(b).expand(*batch, b.shape[-1]),
            ground=ground,
            p=p,
        )
        if math.isinf(p) and not balanced:
            raise ValueError("p = inf is no linear programme; pass a finite p")
        if math.isinf(p) and problem.line_power is None:
            raise ValueError(
                "p = inf is no linear programme; it is solved in one dimension only, "
                f"and x has d = {x.shape[-1]}; pass a finite p"
            )
        return problem

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the answer."""
        return tuple(self.x.shape[:-2])

    @property
    def line_power(self) -> float | None:
        """e ≥ 1 if the cost is |x − y|^e on the line, where sorting solves the programme."""
        norm = self.ground.norm
        if norm is None or self.points[0].shape[-1] != 1 or norm[1] < 1:
            return None
        return norm[1]

    def weights(self) -> tuple[Tensor, Tensor]:
        """a and b, uniform where they were not given."""
        even = [
            z.new_full(z.shape[:-1], 1.0 / z.shape[-2], dtype=torch.float64)
            for z in (self.x, self.y)
        ]
        return (even[0] if self.a is None else self.a, even[1] if self.b is None else self.b)

    def solved(self, solver: Callable[[Part], Solution]) -> tuple[Flows, Tensor]:
        """The flows of all problems, and the cost of each pair they use: differentiable."""
        x, y = (z.reshape(-1, *z.shape[-2:]) for z in self.points)
        a, b = (w.detach().reshape(-1, w.shape[-1]).cpu() for w in self.weights())
        even = (self.a is None, self.b is None)
        solutions, paid = [], []
        for k in range(x.shape[0]):
            matrix = None if self.ground.pairwise else self.ground.matrix(x[k], y[k])
            held = None if matrix is None else matrix.detach()
            with torch.no_grad():
                part = Part(x[k].detach(), y[k].detach(), a[k], b[k], even, self.ground, held)
                solution = solver(part)
            solutions.append(solution)
            if matrix is not None:
                ends = (solution.rows, solution.columns)
                i, j = (torch.from_numpy(z).to(matrix.device) for z in ends)
                paid.append(matrix[i, j])
        flows = stack_flows(solutions, self.batch, self.x.device)
        if not paid:
            return flows, self._paid(flows)
        width = flows.mass.shape[-1]
        padded = [torch.nn.functional.pad(c, (0, width - c.numel())) for c in paid]
        return flows, torch.stack(padded).reshape(flows.mass.shape)

    def coupling(self, flows: Flows, cost: Tensor) -> SparseCoupling:
        """The plan of the flows, between the points the caller gave."""
        return SparseCoupling(
            flows.rows,
            flows.columns,
            flows.mass,
            (self.x.shape[-2], self.y.shape[-2]),
            cost.to(self.x.dtype),
            points=(self.x.detach(), self.y),
            extension=LaguerreMap(self, flows.g),
        )

    def _paid(self, flows: Flows) -> Tensor:
        ends = [
            z.gather(-2, index.unsqueeze(-1).expand(*index.shape, z.shape[-1]))
            for z, index in zip(self.points, (flows.rows, flows.columns), strict=True)
        ]
        return self.ground.pairs(*ends)


@dataclass(frozen=True)
class LaguerreMap:
    """Sends a point to the target whose potential prices it best: y_j of least c(x, y_j) − g_j."""

    problem: SampleProblem
    g: Tensor  # (*batch, m)

    def __call__(self, new: Tensor) -> Tensor:
        """Targets of points (*batch, k, d)."""
        ground, y, batch = self.problem.ground, self.problem.y, self.problem.batch
        x, _ = checks.samples(new.to(y.dtype), y)
        x = _broadcast(x, batch)
        with torch.no_grad():
            points, targets = _broadcast(ground.embed(x), batch), self.problem.points[1].detach()
            targets = targets.reshape(-1, *targets.shape[-2:])
            points = points.reshape(-1, *points.shape[-2:])
            g = self.g.reshape(-1, 1, y.shape[-2])
            chosen = [self._cells(points[k], targets[k], g[k]) for k in range(len(points))]
        index = torch.stack(chosen).reshape(*x.shape[:-1], 1)
        return y.gather(-2, index.expand(*x.shape))

    def _cells(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        block = max(1, 2**20 // y.shape[0])
        priced = (self.problem.ground.matrix(part, y) - g for part in x.split(block))
        return torch.cat([costs.argmin(-1) for costs in priced])


def _broadcast(points: Tensor, batch: tuple[int, ...]) -> Tensor:
    return points.expand(*batch, *points.shape[-2:])
