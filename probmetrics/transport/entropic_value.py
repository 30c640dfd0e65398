"""The entropic optimum as a differentiable number: the envelope theorem on its potentials."""

from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise import LogSumExp
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
from probmetrics.transport.sweeps import EntropicProblem


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
    plan = (problem.ground, epsilon, row, column, worth_a, worth_b, problem.y is problem.x)
    answer: Tensor = differentiable(
        _Envelope, value, plan, problem.x, problem.y, problem.a, problem.b
    )
    return answer


class _Envelope(torch.autograd.Function):
    """A value whose gradients follow from the plan."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, plan: Any, x: Tensor, y: Tensor, a: Tensor, b: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.plan = plan
        return value.clone()

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the gradient of an entropic value follows from its potentials, which were not "
                "differentiated; for second derivatives use sinkhorn_hessian_product"
            )
        x, y = ctx.saved_tensors
        ground, epsilon, row, column, worth_a, worth_b, same = ctx.plan
        need_x, need_y, need_a, need_b = ctx.needs_input_grad[2:]
        dx = dy = None
        if need_x or need_y:
            both = _moved(ground, epsilon, x, y, row, column, up, need_x, need_y and not same)
            dx, dy = both
            if same and dx is not None:
                dx = 2.0 * dx  # a measure moved onto itself: rows and columns are alike
        da = up.unsqueeze(-1) * worth_a if need_a else None
        db = up.unsqueeze(-1) * worth_b if need_b else None
        return None, None, dx, dy, da, db


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
            dx = row_gradient(pairs, plan).to(x.dtype)
        if need_y:
            pairs = Pairs(ground, y, x)
            plan = plan_coefficient(pairs, scale, column, row, rows=rows.expand_as(column))
            dy = row_gradient(pairs, plan).to(y.dtype)
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
