"""The entropic optimum as a differentiable number: the envelope theorem on its potentials."""

from typing import Any

import torch
from torch import Tensor

from probmetrics._autograd import final
from probmetrics.pairwise import LogSumExp
from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.ground import InnerGeometry, SquaredGeometry
from probmetrics.pairwise.tiled import (
    differentiable,
    fold_by_recomputation,
    plan_coefficient,
    row_gradient,
)
from probmetrics.pairwise.tiles import Pairs
from probmetrics.transport.entropic import Solution
from probmetrics.transport.marginals import Marginal
from probmetrics.transport.rounding import working_precision
from probmetrics.transport.sweeps import EntropicProblem, Sweeper

HESSIAN = "use sinkhorn_hessian_product, or difference the first one numerically"


def dual_value(
    problem: EntropicProblem,
    solution: Solution,
    epsilon: Tensor,
    sides: tuple[Marginal, Marginal],
) -> Tensor:
    """The dual at the potentials, float64, shape (B,): no gradient."""
    a, b = problem.a.detach(), problem.b.detach()
    moved = (b * solution.log_c.exp()).sum(-1) - a.sum(-1) * b.sum(-1)
    if all(side.reach is None for side in sides):
        moved = torch.zeros_like(moved)  # rows are exact, so the plan's mass is one
    parts = sides[0].dual(solution.f, a) + sides[1].dual(solution.g, b)
    return parts - epsilon * moved


def primal_value(
    problem: EntropicProblem,
    solution: Solution,
    epsilon: Tensor,
    sides: tuple[Marginal, Marginal],
) -> Tensor:
    """The objective of the plan itself, float64, shape (B,)."""
    a, b = problem.a.detach(), problem.b.detach()
    r, c = solution.log_r.exp(), solution.log_c.exp()
    objective = (a * r * solution.f).sum(-1) + (b * c * solution.g).sum(-1)
    objective = objective - epsilon * ((b * c).sum(-1) - a.sum(-1) * b.sum(-1))
    for side, weights, log in ((sides[0], a, solution.log_r), (sides[1], b, solution.log_c)):
        objective = objective + side.penalty_value(weights, log)
    return objective


def envelope(
    problem: EntropicProblem,
    solution: Solution,
    epsilon: Tensor,
    sides: tuple[Marginal, Marginal],
    value: Tensor,
) -> Tensor:
    """``value`` with its exact gradient in x, y, a and b.

    At the optimum the potentials do not move to first order. Only the cost moves with the
    points, by the plan: ∂/∂x_i = Σ_j P_ij ∂C_ij/∂x_i. And only the dual's own terms move with the
    weights.
    """
    a, b = problem.a.detach(), problem.b.detach()
    eps = epsilon.unsqueeze(-1)
    worth_a = sides[0].slope(solution.f) - eps * (solution.log_r.exp() - b.sum(-1, keepdim=True))
    worth_b = sides[1].slope(solution.g) - eps * (solution.log_c.exp() - a.sum(-1, keepdim=True))
    row = solution.f / eps + a.log()
    column = solution.g / eps + b.log()
    plan = _Plan(problem, solution, epsilon, row, column, (worth_a, worth_b))
    plan.remember()
    answer: Tensor = differentiable(
        _Envelope, value, plan, problem.x, problem.y, problem.a, problem.b
    )
    return answer


class _Plan:
    """A plan and how the value changes with it, holding no kernel once it is made."""

    def __init__(
        self,
        problem: EntropicProblem,
        solution: Solution,
        epsilon: Tensor,
        row: Tensor,
        column: Tensor,
        worth: tuple[Tensor, Tensor],
    ) -> None:
        self.ground, self.epsilon, self.row, self.column = problem.ground, epsilon, row, column
        self.f, self.g, self.worth = solution.f, solution.g, worth
        self.weights = problem.a.detach(), problem.b.detach()
        self.same, self.ranks = problem.y is problem.x, problem.ranks
        self.moments: tuple[Tensor | None, Tensor | None] = (None, None)
        self.moving = moving(problem)
        self.sweeper = solution.sweeper

    def remember(self) -> None:
        """Take the plan's moments from passes made, or from the kernel while it is there."""
        sweeper, self.sweeper = self.sweeper, None
        if sweeper is None or type(self.ground) is not SqEuclidean or not any(self.moving):
            return
        if sweeper.formed or sweeper.last is not None:
            self.moments = sweeper.moments(self.f, self.g, *self.moving)

    def pulled(
        self, x: Tensor, y: Tensor, up: Tensor, need_x: bool, need_y: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """2 Σ_j P_ij (x_i − y_j) times ``up``, and the same for y."""
        problem = EntropicProblem(self.ground, x, x if self.same else y, *self.weights, self.ranks)
        known = all(
            moment is not None or not need
            for moment, need in zip(self.moments, (need_x, need_y), strict=True)
        )
        moments = self.moments
        sweeper = Sweeper(problem, self.epsilon, kept=False)
        if not known:
            moments = sweeper.moments(self.f, self.g, need_x, need_y)
        p = sweeper.pairs
        found: list[Tensor | None] = [None, None]
        ends = (p.u[..., : p.d] * (-0.5 / p.rate), p.v[..., : p.d])
        for k, (need, z, moment) in enumerate(zip((need_x, need_y), ends, moments, strict=True)):
            if need and moment is not None:
                slope = z.mT * moment[:, :1] - moment[:, 1:]
                slope = (2.0 * up)[:, None, None] * slope
                found[k] = slope.mT.to(x.dtype)
        return found[0], found[1]


def moving(problem: EntropicProblem) -> tuple[bool, bool]:
    """Whether gradients in x, and in y, may be asked for."""
    if not torch.is_grad_enabled():
        return False, False
    return problem.x.requires_grad, problem.y.requires_grad and problem.y is not problem.x


class _Envelope(torch.autograd.Function):
    """A value whose gradients follow from the plan."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, plan: Any, x: Tensor, y: Tensor, a: Tensor, b: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, y, a, b)
        ctx.plan = plan
        return value.clone()

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Any:
        x, y, a, b = ctx.saved_tensors
        plan: _Plan = ctx.plan
        need_x, need_y, need_a, need_b = ctx.needs_input_grad[2:]
        with torch.no_grad():
            dx, dy = _Envelope._of_points(plan, x.detach(), y.detach(), up, need_x, need_y)
            da, db = (
                up.unsqueeze(-1) * worth if need else None
                for need, worth in zip((need_a, need_b), plan.worth, strict=True)
            )
        pairs = zip((dx, dy, da, db), (x, y, a, b), strict=True)
        found = (None if z is None else final(z, source, HESSIAN) for z, source in pairs)
        return None, None, *found

    @staticmethod
    def _of_points(
        plan: _Plan, x: Tensor, y: Tensor, up: Tensor, need_x: bool, need_y: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        dx = dy = None
        if need_x or need_y:
            need_y = need_y and not plan.same
            if type(plan.ground) is SqEuclidean:
                dx, dy = plan.pulled(x, y, up, need_x, need_y)
            else:
                dtype = working_precision(plan.ground, x, y, plan.epsilon)
                ends = (plan.ground, plan.epsilon, x.to(dtype), y.to(dtype))
                dx, dy = _moved(*ends, plan.row, plan.column, up, need_x, need_y)
            if plan.same and dx is not None:
                dx = 2.0 * dx  # a measure moved onto itself: rows and columns are alike
            dx, dy = (None if z is None else z.to(x.dtype) for z in (dx, dy))
        return dx, dy


def _moved(
    ground: Any,
    epsilon: Tensor,
    x: Tensor,
    y: Tensor,
    row: Tensor,
    column: Tensor,
    up: Tensor,
    need_x: bool,
    need_y: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Σ_j P_ij ∂C_ij/∂x_i times ``up``, and the same for y."""
    scale = -1.0 / epsilon
    dx = dy = None
    if isinstance(ground.geometry, SquaredGeometry | InnerGeometry):
        rows = (up / scale).unsqueeze(-1)
        if need_x:
            pairs = Pairs(ground, x, y)
            plan = plan_coefficient(pairs, scale, row, column, rows=rows.expand_as(row))
            dx = row_gradient(pairs, plan)
        if need_y:
            pairs = Pairs(ground, y, x)
            plan = plan_coefficient(pairs, scale, column, row, rows=rows.expand_as(column))
            dy = row_gradient(pairs, plan)
        return dx, dy
    # No analytic slope (ℓp norms): differentiate the row update, whose gradient is the plan's.
    with torch.enable_grad():
        x, y = x.detach().requires_grad_(need_x), y.detach().requires_grad_(need_y)
        lse = fold_by_recomputation(ground, LogSumExp(column, scale), x, y, len(x))
        mass = (row + lse.detach()).exp()
        total = (mass * lse / scale.unsqueeze(-1) * up.unsqueeze(-1)).sum()
        wanted = [z for z in (x, y) if z.requires_grad]
        found = iter(torch.autograd.grad(total, wanted))
    return next(found) if need_x else None, next(found) if need_y else None
