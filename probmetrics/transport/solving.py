"""Balanced transport between samples, or histograms with a cost matrix, by the best solver."""

from dataclasses import replace

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.transport.coincident import merged, told_apart
from probmetrics.transport.envelope import (
    Flows,
    Pair,
    marginal_error,
    priced,
    rooted,
    stack_flows,
    to_array,
    unit,
    warn_unless,
)
from probmetrics.transport.monotone import solve_line
from probmetrics.transport.plan import SparseCoupling, Transport
from probmetrics.transport.problem import Part, SampleProblem
from probmetrics.transport.programme import Solution, solve, solve_assignment
from probmetrics.transport.quantiles import line_cost
from probmetrics.transport.restricted import ROUNDS, solve_restricted

ASSIGNMENT_POINTS = 200  # up to here the assignment solver wins in every dimension,
ASSIGNMENT_DIMENSIONS = 8  # and from here on at every size that is solved with all pairs
RESTRICTED_PAIRS = 2_000_000  # from here on candidate pairs win,
RESTRICTED_POINTS = 64  # if neither side is a handful,
FALLBACK_PAIRS = 20_000_000  # and up to here all pairs are solved
PATIENCE = 30  # rounds after candidate pairs did not close.


def line_distance(problem: SampleProblem, *, root: bool) -> Tensor:
    """W_p on the line, or its power, by sorting: without plan or potentials."""
    power = problem.line_power
    assert power is not None
    x, y = (z.squeeze(-1) for z in problem.points)
    root = root and problem.p != 1  # for p = 1 the cost itself may be a power
    return line_cost(x, y, problem.a, problem.b, power, root=root).to(problem.x.dtype)


def solve_samples(problem: SampleProblem, *, root: bool, certified: bool) -> Transport:
    """Solve every problem of the batch.

    Args:
        problem: The samples.
        root: Whether the value is the p-th root.
        certified: Whether potentials are wanted; without them an assignment is cheaper.
    """
    certified = certified or any(w is not None and w.requires_grad for w in (problem.a, problem.b))
    on_line = problem.line_power is not None
    flows, paid = problem.solved(
        lambda part: _solve_on_line(part) if on_line else _solve_part(part, certified)
    )
    a, b = problem.weights()
    total = (flows.mass * paid).sum(-1) + priced(a, flows.f) + priced(b, flows.g)
    warn_unless(flows, total)
    value = rooted(total, problem.p, root).to(problem.x.dtype)
    return answer(value, total, flows, problem.coupling(flows, total), (a, b))


def _solve_on_line(part: Part) -> Solution:
    norm = part.ground.norm
    assert norm is not None
    a, b = (None if even else w for even, w in zip(part.even, (part.a, part.b), strict=True))
    return solve_line(part.x[:, 0].cpu(), part.y[:, 0].cpu(), a, b, norm[1])


def _solve_part(part: Part, certified: bool) -> Solution:
    n, m = part.a.numel(), part.b.numel()
    if part.ground.pairwise and _many(n, m):
        return _solve_large(part)
    small = n <= ASSIGNMENT_POINTS or part.x.shape[-1] >= ASSIGNMENT_DIMENSIONS
    if n == m and small and not certified and all(part.even):
        return solve_assignment(part.costs())
    return solve(part.costs(), part.a.numpy(), part.b.numpy())


def _many(n: int, m: int) -> bool:
    return n * m >= RESTRICTED_PAIRS and min(n, m) >= RESTRICTED_POINTS


def _solve_large(part: Part) -> Solution:
    """Between distinct points: where many coincide, most pairs tie and the simplex crawls."""
    left, right = merged(part.x.cpu(), part.a), merged(part.y.cpu(), part.b)
    few = replace(part, x=left.points, y=right.points, a=left.mass, b=right.mass)
    n, m = few.a.numel(), few.b.numel()
    found = None
    if _many(n, m):
        rounds = PATIENCE if n * m <= FALLBACK_PAIRS else ROUNDS
        found = solve_restricted(few.ground, few.x, few.y, few.a, few.b, rounds=rounds)
    if found is None or (not found.optimal and n * m <= FALLBACK_PAIRS):
        found = solve(few.costs(), few.a.numpy(), few.b.numpy())
    i, j, moved = (torch.from_numpy(z) for z in (found.rows, found.columns, found.mass))
    plan = told_apart((i, j, moved), left, right, (part.a, part.b))
    rows, columns, mass = (z.numpy() for z in plan)
    f, g = found.f[left.owner.numpy()], found.g[right.owner.numpy()]
    return replace(found, rows=rows, columns=columns, mass=mass, f=f, g=g)


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
    batch = checks.filled(torch.broadcast_shapes(p.shape[:-1], q.shape[:-1], cost.shape[:-2]))
    dtype = torch.promote_types(torch.promote_types(p.dtype, q.dtype), cost.dtype)
    weights = unit(p).expand(*batch, n), unit(q).expand(*batch, m)
    prices = cost.double().expand(*batch, n, m)
    a, b = (to_array(w.reshape(-1, w.shape[-1])) for w in weights)
    c = to_array(prices.reshape(-1, n, m))
    solutions = [solve(c[k], a[k], b[k]) for k in range(len(c))]
    flows = stack_flows(solutions, batch, cost.device)
    paid = prices.flatten(-2).gather(-1, flows.rows * m + flows.columns)
    total = (flows.mass * paid).sum(-1) + priced(weights[0], flows.f) + priced(weights[1], flows.g)
    warn_unless(flows, total)
    coupling = SparseCoupling(flows.rows, flows.columns, flows.mass, (n, m), total.to(dtype))
    return answer(total.to(dtype), total, flows, coupling, weights)


def answer(
    value: Tensor,
    total: Tensor,
    flows: Flows,
    coupling: SparseCoupling,
    weights: Pair,
) -> Transport:
    """The result that callers see, in their dtype."""
    return Transport(
        value=value,
        f=flows.f.to(value.dtype),
        g=flows.g.to(value.dtype),
        converged=flows.converged,
        steps=flows.steps,
        marginal_error=marginal_error(flows, weights),
        dual_gap=total.detach() - flows.dual,
        coupling=coupling,
    )
