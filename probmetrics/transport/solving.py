"""From samples, or histograms with a cost matrix, to a certified and differentiable answer."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.transport.envelope import (
    Flows,
    marginal_error,
    priced,
    rooted,
    stack_flows,
    to_array,
    unit,
    warn_unless,
)
from probmetrics.transport.ground_cost import GroundCost, ground_cost
from probmetrics.transport.monotone import solve_line
from probmetrics.transport.plan import SparseCoupling, Transport
from probmetrics.transport.programme import Solution, solve, solve_assignment
from probmetrics.transport.quantiles import line_cost

ASSIGNMENT_POINTS = 200  # up to here the assignment solver wins in every dimension,
ASSIGNMENT_DIMENSIONS = 8  # and from here on at every size that is solved with all pairs
RESTRICTED_PAIRS = 2_000_000  # from here on candidate pairs win


@dataclass(frozen=True)
class SampleProblem:
    """Move the sample x onto the sample y; admitted, embedded, and broadcast to one batch."""

    x: Tensor  # (*batch, n, d), as the caller gave it
    y: Tensor
    points: tuple[Tensor, Tensor]  # what the cost reads, usually in float64
    a: Tensor | None  # (*batch, n) in float64, summing to one; None is uniform
    b: Tensor | None
    ground: GroundCost
    p: float

    @classmethod
    def admit(
        cls, x: Tensor, y: Tensor, p: Any, cost: Any, a: Tensor | None, b: Tensor | None
    ) -> "SampleProblem":
        """Check everything a user may have got wrong."""
        x, y = checks.samples(x, y)
        p = checks.order(p)
        ground = ground_cost(cost, p)
        a, b = _weights(a, x, "a"), _weights(b, y, "b")
        sides = [x.shape[:-2], y.shape[:-2], *(w.shape[:-1] for w in (a, b) if w is not None)]
        for other in sides[1:]:
            checks.broadcastable(sides[0], other, ("x", "the other arguments"))
        batch = torch.broadcast_shapes(*sides)
        if 0 in batch:
            raise ValueError(f"the batch is empty: shape {tuple(batch)}; pass at least one problem")
        problem = cls(
            x=x.expand(*batch, *x.shape[-2:]),
            y=y.expand(*batch, *y.shape[-2:]),
            points=(_broadcast(ground.embed(x), batch), _broadcast(ground.embed(y), batch)),
            a=None if a is None else unit(a).expand(*batch, a.shape[-1]),
            b=None if b is None else unit(b).expand(*batch, b.shape[-1]),
            ground=ground,
            p=p,
        )
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

    def line_value(self, *, root: bool) -> Tensor:
        """W_p or its power by sorting, without plan or potentials."""
        power = self.line_power
        assert power is not None
        x, y = (z.squeeze(-1) for z in self.points)
        root = root and self.p != 1  # for p = 1 the cost itself may be a power
        return line_cost(x, y, self.a, self.b, power, root=root).to(self.x.dtype)

    def transport(self, *, root: bool, certified: bool) -> Transport:
        """Solve every problem of the batch.

        Args:
            root: Whether the value is the p-th root.
            certified: Whether potentials are wanted; without them an assignment is cheaper.
        """
        dtype = self.x.dtype
        weights = [
            z.new_full(z.shape[:-1], 1.0 / z.shape[-2], dtype=torch.float64) if w is None else w
            for w, z in ((self.a, self.x), (self.b, self.y))
        ]
        flows, paid = self._solve_all(weights, certified)
        total = (
            (flows.mass * paid).sum(-1) + priced(weights[0], flows.f) + priced(weights[1], flows.g)
        )
        warn_unless(flows, total)
        value = rooted(total, self.p, root).to(dtype)
        coupling = SparseCoupling(
            flows.rows,
            flows.columns,
            flows.mass,
            (self.x.shape[-2], self.y.shape[-2]),
            total.to(dtype),
            points=(self.x.detach(), self.y),
            extension=_Extension(self, flows.g),
        )
        return _answer(value, total, flows, coupling, weights)

    def _solve_all(self, weights: list[Tensor], certified: bool) -> tuple[Flows, Tensor]:
        """The flows of all problems, and the cost of each pair that carries mass."""
        x, y = (z.reshape(-1, *z.shape[-2:]) for z in self.points)
        a, b = (w.detach().reshape(-1, w.shape[-1]).cpu() for w in weights)
        solutions, matrices = [], []
        for k in range(x.shape[0]):
            solution, matrix = self._solve_one(x[k], y[k], a[k], b[k], certified)
            solutions.append(solution)
            if matrix is not None:
                i, j = (
                    torch.from_numpy(z).to(matrix.device) for z in (solution.rows, solution.columns)
                )
                matrices.append(matrix[i, j])
        flows = stack_flows(solutions, self.batch, self.x.device)
        if matrices:
            width = flows.mass.shape[-1]
            padded = [torch.nn.functional.pad(c, (0, width - c.numel())) for c in matrices]
            return flows, torch.stack(padded).reshape(flows.mass.shape)
        ends = [
            z.gather(-2, index.unsqueeze(-1).expand(*index.shape, z.shape[-1]))
            for z, index in zip(self.points, (flows.rows, flows.columns), strict=True)
        ]
        return flows, self.ground.pairs(*ends)

    def _solve_one(
        self, x: Tensor, y: Tensor, a: Tensor, b: Tensor, certified: bool
    ) -> tuple[Solution, Tensor | None]:
        """One solution, and all costs with their graph where single pairs cannot be evaluated."""
        if not self.ground.pairwise:
            matrix = self.ground.matrix(x, y)
            return self._solve_matrix(matrix, a, b, certified), matrix
        with torch.no_grad():
            x, y = x.detach(), y.detach()
            if self.line_power is not None:
                first, second = None if self.a is None else a, None if self.b is None else b
                line = solve_line(x[:, 0].cpu(), y[:, 0].cpu(), first, second, self.line_power)
                return line, None
            return self._solve_matrix(self.ground.matrix(x, y), a, b, certified), None

    def _solve_matrix(self, matrix: Tensor, a: Tensor, b: Tensor, certified: bool) -> Solution:
        n, m = matrix.shape
        small = n <= ASSIGNMENT_POINTS or self.x.shape[-1] >= ASSIGNMENT_DIMENSIONS
        if n == m and small and not certified and self.a is None and self.b is None:
            return solve_assignment(to_array(matrix))
        return solve(to_array(matrix), a.numpy(), b.numpy())


def solve_histograms(p: Tensor, q: Tensor, cost: Tensor, *, normalize: bool) -> Transport:
    """Move the histogram p onto q at the costs of a matrix."""
    p = checks.probabilities(p, name="p", normalize=normalize)
    q = checks.probabilities(q, name="q", normalize=normalize)
    n, m = p.shape[-1], q.shape[-1]
    if cost.ndim < 2 or cost.shape[-2:] != (n, m):
        raise ValueError(
            f"cost must have shape (*batch, {n}, {m}) for p with {n} bins and q with {m}, "
            f"got {tuple(cost.shape)}"
        )
    if len({p.device, q.device, cost.device}) > 1:
        raise ValueError(
            f"p, q and cost are on {p.device}, {q.device} and {cost.device}; move them"
        )
    cost = checks.finite(cost, "cost")
    for other, name in ((q.shape[:-1], "q"), (cost.shape[:-2], "cost")):
        checks.broadcastable(p.shape[:-1], other, ("p", name))
    checks.broadcastable(q.shape[:-1], cost.shape[:-2], ("q", "cost"))
    batch = torch.broadcast_shapes(p.shape[:-1], q.shape[:-1], cost.shape[:-2])
    if 0 in batch:
        raise ValueError(f"the batch is empty: shape {tuple(batch)}; pass at least one problem")
    dtype = torch.promote_types(torch.promote_types(p.dtype, q.dtype), cost.dtype)
    weights = [unit(w).expand(*batch, w.shape[-1]) for w in (p, q)]
    prices = cost.double().expand(*batch, n, m)
    a, b = (to_array(w.reshape(-1, w.shape[-1])) for w in weights)
    c = to_array(prices.reshape(-1, n, m))
    solutions = [solve(c[k], a[k], b[k]) for k in range(len(c))]
    flows = stack_flows(solutions, batch, cost.device)
    paid = prices.flatten(-2).gather(-1, flows.rows * m + flows.columns)
    total = (flows.mass * paid).sum(-1) + priced(weights[0], flows.f) + priced(weights[1], flows.g)
    warn_unless(flows, total)
    coupling = SparseCoupling(flows.rows, flows.columns, flows.mass, (n, m), total.to(dtype))
    return _answer(total.to(dtype), total, flows, coupling, weights)


@dataclass(frozen=True)
class _Extension:
    """New points go to the target whose potential prices them best: the Laguerre cells of g."""

    problem: SampleProblem
    g: Tensor

    def __call__(self, new: Tensor) -> Tensor:
        ground, y = self.problem.ground, self.problem.y
        batch = self.problem.batch
        x, _ = checks.samples(new.to(y.dtype), y, names=("x", "y"))
        x = x.expand(*batch, *x.shape[-2:])
        with torch.no_grad():
            z = _broadcast(ground.embed(x), batch).reshape(-1, *x.shape[-2:-1], self._width)
            targets = self.problem.points[1].detach().reshape(-1, y.shape[-2], self._width)
            g = self.g.reshape(-1, 1, y.shape[-2])
            chosen = [self._nearest(z[k], targets[k], g[k]) for k in range(z.shape[0])]
        index = torch.stack(chosen).reshape(*x.shape[:-1], 1)
        return y.gather(-2, index.expand(*x.shape))

    @property
    def _width(self) -> int:
        return self.problem.points[1].shape[-1]

    def _nearest(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        block = max(1, 2**20 // y.shape[0])
        parts = [self.problem.ground.matrix(part, y) - g for part in x.split(block)]
        return torch.cat([part.argmin(-1) for part in parts])


def _answer(
    value: Tensor, total: Tensor, flows: Flows, coupling: SparseCoupling, weights: list[Tensor]
) -> Transport:
    dtype = value.dtype
    return Transport(
        value=value,
        f=flows.f.to(dtype),
        g=flows.g.to(dtype),
        converged=flows.converged,
        steps=flows.steps,
        marginal_error=marginal_error(flows, *weights),
        dual_gap=total.detach() - flows.dual,
        coupling=coupling,
    )


def _weights(weights: Tensor | None, x: Tensor, name: str) -> Tensor | None:
    """Weights as given if they pass; None stays None."""
    if weights is not None:
        checks.weights(weights, x, name)
    return weights


def _broadcast(points: Tensor, batch: tuple[int, ...]) -> Tensor:
    return points.expand(*batch, *points.shape[-2:])
