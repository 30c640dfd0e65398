"""The linear programme on the line: the staircase of sorted points, with potentials along it."""

import torch
from torch import Tensor

from probmetrics.transport.programme import Solution, balanced
from probmetrics.transport.quantiles import power as powers
from probmetrics.transport.quantiles import staircase
from probmetrics.transport.sorting import rank_rows


def solve_line(x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, power: float) -> Solution:
    """The monotone plan for the cost |x − y|^power, power ≥ 1, with its potentials.

    Consecutive steps of the staircase share a source or a target, so the steps are a spanning
    tree on which f_i + g_j = c_ij: a step along y changes g alone, one along x changes f alone,
    both by the change of the cost. For a convex cost the c_ij of sorted points are a Monge array,
    hence c − f − g, which is zero on the staircase, is nowhere negative (Hoffman 1963).

    Args:
        x: Points in float64, shape (n,).
        y: Points, shape (m,).
        a: Weights summing to one, or None for equal ones.
        b: Weights of y.
        power: At least one.
    """
    (first_order,), (second_order,) = rank_rows(x), rank_rows(y)
    steps = staircase(_cumulated(a, first_order), _cumulated(b, second_order))
    rows, columns = first_order[steps.i], second_order[steps.j]
    cost = powers(x[rows] - y[columns], power)
    along_x = steps.i.diff() == 1
    rise = cost.diff()
    path_f = torch.cat([cost[:1], cost[:1] + (rise * along_x).cumsum(0)])
    path_g = torch.cat([torch.zeros_like(cost[:1]), (rise * ~along_x).cumsum(0)])
    f, g = torch.empty_like(x), torch.empty_like(y)
    f[rows], g[columns] = path_f, path_g
    weights = [
        torch.full_like(z, 1.0 / z.numel()).numpy() if w is None else w.numpy()
        for w, z in ((a, x), (b, y))
    ]
    f_np, g_np = balanced(f.numpy(), g.numpy(), *weights)
    used = steps.mass > 0
    return Solution(
        rows=rows[used].numpy(),
        columns=columns[used].numpy(),
        mass=steps.mass[used].numpy(),
        f=f_np,
        g=g_np,
        dual=float(weights[0] @ f_np + weights[1] @ g_np),
        steps=1,
        optimal=True,
    )


def _cumulated(weights: Tensor | None, order: Tensor) -> Tensor:
    """Share of mass up to each sorted point; quotients of integers where weights are equal."""
    n = order.numel()
    if weights is None:
        return torch.arange(1, n + 1, dtype=torch.float64) / n
    total = weights[order].cumsum(0)
    return total / total[-1]
