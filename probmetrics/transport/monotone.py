"""The linear programme on the line: the staircase of sorted points, with potentials along it."""

import torch
from torch import Tensor

from probmetrics.transport.programme import Solution, balanced
from probmetrics.transport.quantiles import Sorted, accumulate, staircase
from probmetrics.transport.quantiles import power as powers
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
    n, m = x.numel(), y.numel()
    if a is None and b is None:  # counted in units of 1/(n m): steps that are equal meet exactly
        left = Sorted(x[first_order], m * torch.arange(1.0, n + 1, dtype=torch.float64))
        right = Sorted(y[second_order], n * torch.arange(1.0, m + 1, dtype=torch.float64))
        steps, unit = staircase(left, right), n * m
    else:
        left = Sorted(x[first_order], *_cumulated(a, first_order))
        right = Sorted(y[second_order], *_cumulated(b, second_order))
        steps, unit = staircase(left, right), 1
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
        mass=(steps.mass[used] / unit).numpy(),
        f=f_np,
        g=g_np,
        dual=float(weights[0] @ f_np + weights[1] @ g_np),
        steps=1,
        optimal=True,
    )


def _cumulated(weights: Tensor | None, order: Tensor) -> tuple[Tensor, Tensor]:
    """Share of mass up to each sorted point, and its rest."""
    return accumulate(torch.ones(order.numel()) if weights is None else weights[order])
