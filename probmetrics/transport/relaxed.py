"""Linear programmes that need not move all mass: a part of it, or what is worth the price."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from probmetrics.transport.programme import CLOSED, Matrix, Solution, Vector, solve

EPSILON = 2.0**-52
DUST = 4 * EPSILON  # of all mass: what a point sends less than it has by rounding alone


def solve_partial(cost: Matrix, a: Vector, b: Vector, mass: float) -> Solution:
    """Move exactly ``mass`` at the least cost; a and b say how much there is.

    A balanced programme with one more point on each side (Chapel et al. 2020, eq. 5): the new
    target takes what stays at its source, free of charge, the new source fills what no one
    reaches, and between the two nothing can be gained. Its potentials (f, f₀), (g, g₀) give
    those of

        max Σ a φ + Σ b ψ + mass·κ   subject to   φ_i + ψ_j + κ ≤ c_ij,   φ, ψ ≤ 0

    as φ = f + g₀, ψ = g + f₀, κ = −f₀ − g₀: φ and ψ are the derivatives in a and b.
    """
    n, m = cost.shape
    ceiling = 2.0 * float(np.abs(cost).max()) or 1.0
    extended = np.pad(cost, ((0, 1), (0, 1)))
    extended[n, m] = ceiling
    rest_a, rest_b = max(float(b.sum()) - mass, 0.0), max(float(a.sum()) - mass, 0.0)
    found = solve(extended, np.append(a, rest_a), np.append(b, rest_b))
    kappa = -float(found.f[n] + found.g[m])
    psi = np.minimum(found.g[:m] + found.f[n], 0.0)
    phi = np.minimum((cost - psi).min(axis=1) - kappa, 0.0)
    dual = float(a @ phi + b @ psi) + mass * kappa
    real = _between_points(found, cost)
    # The programme holds all that rests as well, and rounds in units of that.
    moved = float(real.mass.sum())
    real = replace(real, mass=real.mass * (mass / moved if moved > 0 else 1.0))
    primal = float(real.mass @ cost[real.rows, real.columns])
    return _proven(real, phi, psi, primal, dual, float(a @ -phi - b @ psi) + mass * abs(kappa))


def solve_variation(cost: Matrix, a: Vector, b: Vector, penalty: float) -> Solution:
    """Make or drop mass at ``penalty`` a unit: the ℓ1 distance of the marginals, priced.

    Balanced again: a target that takes dropped mass and a source that makes it, each at
    ``penalty`` a unit and large enough for all of it. Since costs are not negative it never pays
    to make mass beside a source. Its potentials give those of

        max Σ a φ + Σ b ψ   subject to   φ_i + ψ_j ≤ c_ij,   |φ|, |ψ| ≤ penalty.
    """
    n, m = cost.shape
    # Nothing moves at more than two penalties; four are as far as infinity, and keep the scale.
    # Nor is anything dropped that can move if one is more than every cost: so is any more.
    near = np.minimum(cost, 4.0 * penalty)
    price = min(penalty, float(near.max()) or penalty)
    extended = np.pad(near, ((0, 1), (0, 1)), constant_values=price)
    extended[n, m] = 0.0
    total_a, total_b = float(a.sum()), float(b.sum())
    found = solve(extended, np.append(a, total_b), np.append(b, total_a))
    psi = np.clip(found.g[:m] + found.f[n], -price, price)
    phi = np.clip((near - psi).min(axis=1), -price, price)
    even = abs(total_a - total_b) <= DUST * (total_a + total_b)
    # What one side has more has to be dropped, and costs all of the penalty.
    shift = 0.0 if even else float(np.copysign(penalty - price, total_a - total_b))
    phi, psi = phi + shift, psi - shift
    dual = float(a @ phi + b @ psi)
    size = float(a @ np.abs(phi) + b @ np.abs(psi))
    real = _between_points(found, cost)
    idle = 0.0
    for index, w in ((real.rows, a), (real.columns, b)):
        kept = np.bincount(index, real.mass, w.size).astype(np.float64)
        idle += float(dropped(torch.from_numpy(kept), torch.from_numpy(w)))
    primal = float(real.mass @ cost[real.rows, real.columns]) + penalty * idle
    return _proven(real, phi, psi, primal, dual, size)


def dropped(kept: Tensor, masses: Tensor) -> Tensor:
    """Σ |kept − masses| over the last axis, but for rounding, which a penalty would magnify."""
    missing = (kept - masses).abs()
    return torch.where(missing > DUST * masses.sum(-1, keepdim=True), missing, 0.0).sum(-1)


def _between_points(found: Solution, cost: Matrix) -> Solution:
    """The entries of an extended plan that join two real points."""
    n, m = cost.shape
    real = (found.rows < n) & (found.columns < m)
    return replace(found, rows=found.rows[real], columns=found.columns[real], mass=found.mass[real])


def _proven(
    real: Solution, f: Vector, g: Vector, primal: float, dual: float, size: float
) -> Solution:
    """The solution with its own potentials; optimal if their value meets that of the plan.

    Args:
        real: The plan between points.
        f: Potentials of the sources.
        g: Potentials of the targets.
        primal: Value of the plan.
        dual: Value of the potentials.
        size: Sum of the absolute terms of ``dual``, which bounds its rounding.
    """
    closed = abs(primal - dual) <= CLOSED * abs(primal) + 4 * EPSILON * size
    return replace(real, f=f, g=g, dual=dual, optimal=real.optimal and closed)
