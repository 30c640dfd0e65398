"""Second derivatives of entropic transport values in the points, by implicit differentiation."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Array, SamplesX, SamplesY, WeightsX, WeightsY, array_function
from probmetrics.pairwise.centring import centre_of
from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.reductions import AbstractReduction, Reading, per_entry
from probmetrics.pairwise.tiled import fold
from probmetrics.pairwise.tiles import blocks
from probmetrics.transport.conjugate import conjugate_gradients
from probmetrics.transport.entropic import Solution, solve
from probmetrics.transport.entropic_plan import PlanSum
from probmetrics.transport.marginals import Marginal
from probmetrics.transport.sinkhorn import BACKENDS, Task, admit, warn_unless_converged
from probmetrics.transport.sweeps import EntropicProblem
from probmetrics.transport.symmetric import solve_symmetric

TILE = 2**16  # coordinates of differences in a tile of a general cost
Sides = tuple[Marginal, Marginal]


@array_function
def sinkhorn_hessian_product(
    x: SamplesX,
    y: SamplesY,
    v: Array,
    *,
    epsilon: float | None = None,
    cost: AbstractGround | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    reach: Any = None,
    debiased: bool = False,
    tolerance: float = 1e-8,
    max_steps: int = 1000,
    backend: str = "auto",
) -> Array:
    r"""Hessian of the entropic transport value in x, times v: ∂²/∂x² OT_ε(x, y) · v.

    .. math:: (Hv)_i = \sum_j P_{ij} \, \partial^2_{xx} C_{ij} v_i
              + \sum_j \dot P_{ij} \, \partial_x C_{ij}, \qquad
              \dot P_{ij} = P_{ij} (\dot f_i + \dot g_j - \partial_x C_{ij} \cdot v_i) / \varepsilon

    The motion of the potentials, ḟ and ġ, keeps the marginals of P: one linear system, solved by
    conjugate gradients with applications of the plan.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        v: Direction in which x moves, shape (*batch, n, d).
        epsilon: ε; None is 0.05 of the mean cost, taken as a constant.
        cost: A twice differentiable cost of ``probmetrics.pairwise.costs``; None is ‖x − y‖².
        a: Weights of x, shape (*batch, n).
        b: Weights of y, shape (*batch, m).
        reach: Strength of a KL penalty in place of exact marginals, as in ``sinkhorn``.
        debiased: The Hessian of ``sinkhorn_divergence`` instead of that of ``sinkhorn``'s value.
        tolerance: Of the marginals (L1, relative to the mass) and of the linear system (residual
            relative to its right side).
        max_steps: Most passes of Sinkhorn, and most steps of conjugate gradients.
        backend: As in ``sinkhorn``, for finding the potentials.

    Returns:
        H v, shape (*batch, n, d), without a graph.

    Raises:
        ValueError: As ``sinkhorn``; v of another shape than x.

    Warns:
        RuntimeWarning: The potentials or the linear system missed the tolerance.

    Notes:
        In float64. The plan is never stored: two passes over the pairs per step of conjugate
        gradients, in memory linear in n + m for ‖x − y‖²; other costs are differentiated tile by
        tile. Steps grow as ε shrinks and the plan splits into parts that hardly exchange mass.
        Points of weight zero get zero. At kinks (ties under ‖x − y‖) the derivatives of the cost
        count as zero.

    References:
        Cuturi et al. (2020), "Supervised quantile normalization for matrix factorization using
        optimal transport", Section 4 (implicit differentiation); Luise et al. (2018),
        "Differential properties of Sinkhorn approximation", Theorem 2.

    Example:
        >>> x, y, v = [[0.0], [1.0]], [[3.0], [4.0]], [[1.0], [1.0]]
        >>> sinkhorn_hessian_product(x, y, v, epsilon=0.5).round(6)  # moving all: OT grows by 2‖v‖²
        array([[1.],
               [1.]])
    """
    given = x.dtype
    checks.choice(backend, "backend", BACKENDS)
    task = admit(x, y, epsilon, cost, a, b, reach, "kl", tolerance, max_steps, backend)
    v = _direction(v, x, task)
    ground = SqEuclidean() if cost is None else cost
    fx, fy = (z.double() for z in task.points)
    p = task.problem.detached()
    options: dict[str, Any] = {
        "tolerance": tolerance,
        "max_steps": max_steps,
        "backend": backend,
    }
    problem = EntropicProblem(p.ground, p.x.double(), p.y.double(), p.a, p.b)
    solution = solve(problem, task.epsilon, task.sides, **options)
    warn_unless_converged(solution, tolerance)
    moved = _make(ground, problem, fx, fy, solution, task.epsilon, task.sides)
    result = moved.product(v, None, tolerance, max_steps)
    if debiased:
        if task.sides[0] != task.sides[1]:
            raise ValueError(
                f"the divergence treats both sides alike; pass one reach, got {reach!r}"
            )
        own = EntropicProblem(p.ground, problem.x, problem.x, p.a, p.a)
        alone = solve_symmetric(own, task.epsilon, task.sides[0], **options)
        warn_unless_converged(alone, tolerance)
        moved = _make(ground, own, fx, fx, alone, task.epsilon, task.sides)
        # Half of the term of x with itself; rows and columns move alike, which doubles the rows.
        result = result - moved.product(v, v, tolerance, max_steps)
    return result.to(given).reshape(*task.batch, *result.shape[1:])


def _direction(v: Tensor, x: Tensor, task: Task) -> Tensor:
    n, d = x.shape[-2:]
    if v.ndim == 1 and d == 1:
        v = v.unsqueeze(-1)
    if v.ndim < 2 or v.shape[-2:] != (n, d):
        raise ValueError(f"v must have the shape of x, {(*task.batch, n, d)}, got {tuple(v.shape)}")
    if v.device != x.device:
        raise ValueError(f"v is on {v.device} and x on {x.device}; move one with .to(...)")
    if torch.broadcast_shapes(v.shape[:-2], task.batch) != torch.Size(task.batch):
        raise ValueError(f"v has batch shape {tuple(v.shape[:-2])}, the problem {task.batch}")
    v = checks.finite(v.detach(), "v").double()
    return v.expand(*task.batch, n, d).reshape(-1, n, d)


class _AbstractMoved(abc.ABC):
    """How an entropic optimum answers to motion of the points; conjugate gradients inside.

    Args:
        ground: The cost.
        problem: The problem, in float64.
        x: Points before any features, float64, shape (B, n, d).
        y: The same, shape (B, m, d).
        solution: Its potentials.
        epsilon: ε, shape (B,).
        sides: What the marginals owe.
    """

    def __init__(
        self,
        ground: AbstractGround,
        problem: EntropicProblem,
        x: Tensor,
        y: Tensor,
        solution: Solution,
        epsilon: Tensor,
        sides: Sides,
    ) -> None:
        self.ground, self.problem, self.x, self.y = ground, problem, x, y
        self.epsilon = epsilon
        eps = epsilon.unsqueeze(-1)
        self.row = solution.f / eps + problem.a.log()
        self.column = solution.g / eps + problem.b.log()
        one = problem.b.new_ones(*problem.b.shape, 1)
        self.row_mass = self.apply(one).squeeze(-1)
        self.column_mass = self.apply(torch.ones_like(problem.a).unsqueeze(-1), True).squeeze(-1)
        self.stiff = tuple(
            eps * w * side.density(z) / side.reach if side.reach is not None else 0.0 * w
            for side, w, z in zip(
                sides, (problem.a, problem.b), (solution.f, solution.g), strict=True
            )
        )
        self.balanced = all(side.reach is None for side in sides)

    def apply(self, columns: Tensor, transposed: bool = False) -> Tensor:
        """P v, or Pᵀ v, for columns of numbers."""
        p, row, column = self.problem, self.row, self.column
        if transposed:
            p, row, column = p.transposed(), column, row
        found: Tensor = fold(
            p.pairs(self.epsilon), PlanSum(row, column, -1.0 / self.epsilon, columns)
        )
        return found

    def potentials(
        self, r: Tensor, s: Tensor, tolerance: float, max_steps: int
    ) -> tuple[Tensor, Tensor]:
        """ḟ and ġ with (D_a + P1) ḟ + P ġ = r and Pᵀ ḟ + (D_b + Pᵀ1) ġ = s.

        D is what relaxed marginals add. ḟ is eliminated; what is left for ġ is symmetric, and
        zero on constants where the marginals are exact.
        """
        top, bottom = self.row_mass + self.stiff[0], self.column_mass + self.stiff[1]
        inverse = torch.where(top > 0, 1.0 / torch.where(top > 0, top, 1.0), 0.0)
        start = torch.where(bottom > 0, 1.0 / torch.where(bottom > 0, bottom, 1.0), 0.0)

        def reduced(g: Tensor) -> Tensor:
            inner = inverse * self.apply(g.unsqueeze(-1)).squeeze(-1)
            return bottom * g - self.apply(inner.unsqueeze(-1), True).squeeze(-1)

        right = s - self.apply((inverse * r).unsqueeze(-1), True).squeeze(-1)
        if self.balanced:  # rounding must not leave the range of the system
            right = right - self.column_mass * (
                right.sum(-1, keepdim=True) / self.column_mass.sum(-1, keepdim=True)
            )
        g = conjugate_gradients(reduced, right, start, tolerance, max_steps)
        f = inverse * (r - self.apply(g.unsqueeze(-1)).squeeze(-1))
        return f, g

    def product(self, v: Tensor, w: Tensor | None, tolerance: float, max_steps: int) -> Tensor:
        """The part of x in the Hessian times the motion v of x and w of y."""
        f, g = self.potentials(*self.pushed(v, w), tolerance, max_steps)
        return self.pulled(v, w, f, g)

    @abc.abstractmethod
    def pushed(self, v: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor]:
        """Σ_j P_ij Ċ_ij and Σ_i P_ij Ċ_ij, where Ċ is how the costs change with the points."""

    @abc.abstractmethod
    def pulled(self, v: Tensor, w: Tensor | None, f: Tensor, g: Tensor) -> Tensor:
        """∂/∂x of −Σ_ij P_ij (ḟ_i + ġ_j − Ċ_ij): P and Ċ move with x, ḟ and ġ are held."""


class _MovedSquares(_AbstractMoved):
    """For ‖x − y‖², where Ċ_ij = 2 (x_i − y_j)·(v_i − w_j) is a product of 2d + 2 columns."""

    def _factors(
        self, v: Tensor, w: Tensor | None, f: Tensor, g: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Columns whose product is ḟ_i + ġ_j − Ċ_ij; the centred points."""
        x, y = self.problem.x, self.problem.y
        centre = centre_of(x, y)
        x, y = x - centre, y - centre
        w = torch.zeros_like(y) if w is None else w
        one_x, one_y = torch.ones_like(x[..., :1]), torch.ones_like(y[..., :1])
        left = [f.unsqueeze(-1) - 2.0 * (x * v).sum(-1, keepdim=True), one_x, 2.0 * x, 2.0 * v]
        right = [one_y, g.unsqueeze(-1) - 2.0 * (y * w).sum(-1, keepdim=True), w, y]
        return torch.cat(left, -1), torch.cat(right, -1), x, y

    def _sum(self, left: Tensor, right: Tensor, columns: Tensor, transposed: bool) -> Tensor:
        p, row, column = self.problem, self.row, self.column
        if transposed:
            p, row, column = p.transposed(), column, row
        reduction = SlopeSum(row, column, -1.0 / self.epsilon, columns, left, right)
        found: Tensor = fold(p.pairs(self.epsilon), reduction)
        return found

    def pushed(self, v: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor]:
        nothing = torch.zeros_like(self.problem.a), torch.zeros_like(self.problem.b)
        left, right, x, y = self._factors(v, w, *nothing)
        rows = self._sum(left, right, torch.ones_like(y[..., :1]), False)
        columns = self._sum(right, left, torch.ones_like(x[..., :1]), True)
        return -rows.squeeze(-1), -columns.squeeze(-1)

    def pulled(self, v: Tensor, w: Tensor | None, f: Tensor, g: Tensor) -> Tensor:
        left, right, x, y = self._factors(v, w, f, g)
        swept = self._sum(left, right, torch.cat([torch.ones_like(y[..., :1]), y], -1), False)
        pull = 2.0 / self.epsilon[:, None, None] * (x * swept[..., :1] - swept[..., 1:])
        push = self.row_mass.unsqueeze(-1) * v
        return pull + 2.0 * (push if w is None else push - self.apply(w))


class _MovedTiles(_AbstractMoved):
    """For any cost, tile by tile, differentiated as often as needed."""

    def _tiles(self) -> Iterator[tuple[slice, slice]]:
        batch, n, d = self.x.shape
        m = self.y.shape[-2]
        side = max(1, int((TILE / (batch * d)) ** 0.5))
        for rows in blocks(n, side):
            for columns in blocks(m, side):
                yield rows, columns

    def _change(self, x: Tensor, y: Tensor, v: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor]:
        """Costs of a tile, and how they change."""
        # Forward by two reverse steps: the gradient is linear in the weights of the costs.
        with torch.enable_grad():
            ends = [z if z.requires_grad else z.detach().requires_grad_() for z in (x, y)]
            costs = self.ground.on_features(*(self.ground.embed(z) for z in ends))
            weights = torch.ones_like(costs, requires_grad=True)
            slopes = torch.autograd.grad(costs, ends, weights, create_graph=True)
            along = (slopes[0] * v).sum() + (0.0 if w is None else (slopes[1] * w).sum())
            change = torch.autograd.grad(along, weights, create_graph=True)[0]
        return costs, change

    def _plan(self, costs: Tensor, rows: slice, columns: slice) -> Tensor:
        exponent = self.row[:, rows].unsqueeze(-1) + self.column[:, columns].unsqueeze(-2)
        return (exponent - costs / self.epsilon[:, None, None]).exp()

    def pushed(self, v: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor]:
        r, s = torch.zeros_like(self.problem.a), torch.zeros_like(self.problem.b)
        for rows, columns in self._tiles():
            own = None if w is None else w[:, columns]
            costs, change = self._change(self.x[:, rows], self.y[:, columns], v[:, rows], own)
            moved = (self._plan(costs, rows, columns) * change).detach()
            r[:, rows] += moved.sum(-1)
            s[:, columns] += moved.sum(-2)
        return r, s

    def pulled(self, v: Tensor, w: Tensor | None, f: Tensor, g: Tensor) -> Tensor:
        total = torch.zeros_like(self.x)
        for rows, columns in self._tiles():
            own = None if w is None else w[:, columns]
            with torch.enable_grad():
                x = self.x[:, rows].detach().requires_grad_()
                costs, change = self._change(x, self.y[:, columns], v[:, rows], own)
                rise = f[:, rows].unsqueeze(-1) + g[:, columns].unsqueeze(-2) - change
                lost = -(self._plan(costs, rows, columns) * rise).sum()
                total[:, rows] += torch.autograd.grad(lost, x)[0]
        return total


@dataclass(frozen=True)
class SlopeSum(AbstractReduction):
    """Σ_j P_ij ⟨left_i, right_j⟩ columns_jk, shape (B, n, k).

    Args:
        row: Exponents of P on rows, shape (B, n).
        column: Exponents on columns, shape (B, m).
        scale: −1/ε, shape (B,).
        weights: Shape (B, m, k).
        left: Shape (B, n, r).
        right: Shape (B, m, r).
    """

    row: Tensor
    column: Tensor
    scale: Tensor
    weights: Tensor
    left: Tensor
    right: Tensor

    def of(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        exponent = tile * per_entry(self.scale, tile) + self.row[:, rows].unsqueeze(-1)
        plan = (exponent + self.column[:, columns].unsqueeze(-2)).exp()
        plan = plan * (self.left[:, rows] @ self.right[:, columns].mT)
        return (plan @ self.weights[:, columns],)

    def merge(self, left: Reading, right: Reading) -> Reading:
        return (left[0] + right[0],)

    @property
    def row_axis(self) -> int:
        return -2

    def check(self, n: int, m: int) -> None:
        assert (self.row.shape[-1], self.column.shape[-1]) == (n, m)

    def take(self, entries: slice) -> "SlopeSum":
        parts = (self.row, self.column, self.scale, self.weights, self.left, self.right)
        return SlopeSum(*(part[entries] for part in parts))


def _make(ground: AbstractGround, *arguments: Any) -> _AbstractMoved:
    """The answer to motion, by products where the cost allows."""
    plain = type(ground) is SqEuclidean and ground.features is None
    return (_MovedSquares if plain else _MovedTiles)(ground, *arguments)
