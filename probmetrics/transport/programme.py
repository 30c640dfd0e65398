"""The transport linear programme with all costs in memory, solved and certified in float64."""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Vector = np.ndarray[Any, np.dtype[np.float64]]
Matrix = np.ndarray[Any, np.dtype[np.float64]]
Index = np.ndarray[Any, np.dtype[np.int64]]

DIGITS = 1e-10  # a gap below, relative to the value, is not worth another pass
CLOSED = 1e-8  # the largest gap of an optimum, relative to the value
ROUNDING = 1e-16  # and to the cost of an arbitrary plan
REFINEMENTS, CAP = 8, 1e-3  # passes over what is left of the costs, each capped lower
MAX_STEPS = 2**62  # pivots: the simplex ends by itself
TILE = 2**20  # numbers in a working block


@dataclass(frozen=True)
class Solution:
    """A plan by its entries, potentials that are feasible, and what they prove.

    Attributes:
        rows: Index of the source of each entry.
        columns: Index of the target.
        mass: How much it moves.
        f: Potentials of the sources.
        g: Potentials of the targets: f_i + g_j ≤ c_ij for all pairs, up to rounding.
        dual: Σ a f + Σ b g, a lower bound on every plan's cost; NaN without potentials.
        steps: Programmes solved.
        optimal: Whether the solver says that it finished, and the potentials agree.
    """

    rows: Index
    columns: Index
    mass: Vector
    f: Vector
    g: Vector
    dual: float
    steps: int
    optimal: bool


def solve(cost: Matrix, a: Vector, b: Vector) -> Solution:
    """Network simplex on all pairs; points without weight take no part in it.

    Where a few costs dwarf the rest, its potentials keep too few digits for the rest. Then what
    the potentials leave of the costs is solved again, capped: no plan uses pairs that far from
    tight, and if one did, the gap would tell.
    """
    rows, columns = np.flatnonzero(a), np.flatnonzero(b)
    kept = cost if rows.size == a.size and columns.size == b.size else cost[np.ix_(rows, columns)]
    level = float(a[rows] @ np.abs(kept) @ b[columns])  # cost if masses did not choose
    scale = _size(kept)
    found, gap = _pivoted(cost, kept, np.zeros(columns.size), a, b)
    for _ in range(REFINEMENTS):
        if not found.optimal or abs(gap) <= DIGITS * abs(found.dual):
            break
        scale *= CAP
        left = np.minimum(kept - found.f[rows, None] - found.g[columns], scale)
        again, closer = _pivoted(cost, left, found.g[columns], a, b)
        if not (again.optimal and abs(closer) < abs(gap)):
            break
        found, gap = again, closer
    # A gap far below zero is none: then the plan does not move what it should.
    closed = abs(gap) <= CLOSED * abs(found.dual) + ROUNDING * level
    return replace(found, optimal=found.optimal and closed)


def _pivoted(
    cost: Matrix, left: Matrix, base: Vector, a: Vector, b: Vector
) -> tuple[Solution, float]:
    """The programme with costs ``left`` between points of weight, and its gap for ``cost``.

    POT adds one to the largest cost to price its artificial arcs, so costs of 1e-20 are lost
    beside it and an arbitrary plan is called optimal: costs are brought to unit scale first.

    Args:
        cost: All costs.
        left: What is left of those between points of weight, given potentials ``base``.
        base: Potentials of the targets of weight.
        a: Weights of the sources.
        b: Weights of the targets.
    """
    from ot import emd

    rows, columns, scale = np.flatnonzero(a), np.flatnonzero(b), _size(left)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its warnings are read from the log
        plan, log = emd(
            a[rows],
            b[columns],
            np.ascontiguousarray(left / scale),
            numItermax=MAX_STEPS,
            log=True,
            center_dual=False,
        )
    i, j = np.nonzero(plan)
    f, g = feasible_potentials(cost, base + log["v"] * scale, rows, columns)
    f, g = balanced(f, g, a, b)
    dual, done = float(a @ f + b @ g), log["warning"] is None
    solution = Solution(rows[i], columns[j], plan[i, j], f, g, dual, steps=1, optimal=done)
    return solution, float(plan[i, j] @ cost[rows[i], columns[j]]) - dual


def _size(cost: Matrix) -> float:
    return float(max(cost.max(), -cost.min())) or 1.0


def solve_assignment(cost: Matrix) -> Solution:
    """Equal weights, n = m: the Jonker–Volgenant algorithm, which gives no potentials."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    n = len(cost)
    nothing = np.full(n, np.nan)
    mass = np.full(n, 1.0 / n)
    return Solution(rows, columns, mass, nothing, nothing, np.nan, steps=1, optimal=True)


def feasible_potentials(
    cost: Matrix, g: Vector, rows: Index, columns: Index
) -> tuple[Vector, Vector]:
    """Potentials of all points from those of the targets that carry mass, by c-transforms.

    f_i = min_j c_ij − g_j is the largest feasible f for a g, so no step lowers the dual value.
    Points without weight get the potential at which they would just begin to be used.

    Args:
        cost: All costs, (n, m).
        g: Potentials of ``columns``.
        rows: Sources that carry mass.
        columns: Targets that carry mass.
    """
    m = cost.shape[1]
    every = np.full(m, -np.inf)  # where no minimum looks
    every[columns] = g
    if columns.size < m:
        f = transform(cost[rows], every)
        idle = np.setdiff1d(np.arange(m), columns)
        every[idle] = transform(cost[np.ix_(rows, idle)].T, f)
    return transform(cost, every), every


def transform(cost: Matrix, g: Vector) -> Vector:
    """The c-transform min_j c_ij − g_j for each i, a block of rows at a time."""
    block = max(1, TILE // max(1, cost.shape[1]))
    parts = [(cost[i : i + block] - g).min(axis=1) for i in range(0, len(cost), block)]
    return np.concatenate(parts)


def balanced(f: Vector, g: Vector, a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """The potentials shifted against each other so that both sides hold half the dual value."""
    shift = 0.5 * (float(a @ f) / a.sum() - float(b @ g) / b.sum())
    return f - shift, g + shift
