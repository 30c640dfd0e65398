"""Unbalanced transport between samples: what moves, what the rest costs, and the gradients."""

from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.transport.envelope import Flows, Pair, marginals, priced, rooted, warn_unless
from probmetrics.transport.interior import divergence, solve_kullback
from probmetrics.transport.plan import Transport
from probmetrics.transport.problem import Part, SampleProblem
from probmetrics.transport.programme import Solution
from probmetrics.transport.relaxed import dropped, solve_partial, solve_variation

SOLVERS = {"kl": solve_kullback, "tv": solve_variation}


def move_part(problem: SampleProblem, mass: Any, *, root: bool) -> Transport:
    """Move ``mass`` at the least cost."""
    share = checks.positive(mass, "mass")
    weights = problem.weights()
    there = min(float(w.detach().sum(-1).min()) for w in weights)
    if share > there * (1 + 1e-6):
        raise ValueError(
            f"mass = {share:g} cannot be moved, one side holds only {there:g}; pass less"
        )
    share = min(share, there)
    flows, paid = problem.solved(
        lambda part: solve_partial(part.costs(), part.a.numpy(), part.b.numpy(), share)
    )
    missed = (flows.mass.sum(-1) - share).abs()
    error = torch.maximum(_excess(marginals(flows, weights), weights), missed)
    moved = (flows.mass * paid).sum(-1)
    return _answer(problem, flows, moved, (flows.f, flows.g), error, root, 0.0)


def move_priced(problem: SampleProblem, penalty: Any, divergence: str, *, root: bool) -> Transport:
    """Move what is cheaper to move than to make and drop."""
    price = checks.positive(penalty, "penalty")
    solver = SOLVERS[checks.choice(divergence, "divergence", SOLVERS)]

    def solve(part: Part) -> Solution:
        costs = part.costs()
        if costs.min() < 0:
            raise ValueError(
                f"cost has negative entries (smallest {costs.min():.3g}); with priced masses it "
                "would pay to make mass only to move it. Pass a cost of at least zero"
            )
        return solver(costs, part.a.numpy(), part.b.numpy(), price)

    flows, paid = problem.solved(solve)
    weights = problem.weights()
    kept = marginals(flows, weights)
    slopes, idle, error = (_kullback if divergence == "kl" else _variation)(
        flows, kept, weights, price
    )
    moved = (flows.mass * paid).sum(-1)
    return _answer(problem, flows, moved, slopes, error, root, price * idle)


def _kullback(flows: Flows, kept: Pair, weights: Pair, price: float) -> tuple[Pair, Tensor, Tensor]:
    """Derivatives in the masses, Σ KL(kept | masses), and how far stationarity is missed."""
    a, b = (w.detach() for w in weights)
    u, v = kept
    idle = divergence(u, a) + divergence(v, b)
    slopes = -price * torch.expm1(-flows.f / price), -price * torch.expm1(-flows.g / price)
    misses = [
        (k - w * torch.exp(-h / price)).abs().sum(-1)
        for k, w, h in ((u, a, flows.f), (v, b, flows.g))
    ]
    return slopes, idle, torch.maximum(*misses)


def _variation(
    flows: Flows, kept: Pair, weights: Pair, price: float
) -> tuple[Pair, Tensor, Tensor]:
    """Derivatives in the masses, Σ |kept − masses|, and the mass moved that is not there."""
    parts = (dropped(u, w.detach()) for u, w in zip(kept, weights, strict=True))
    idle = sum(parts, torch.zeros_like(flows.dual))
    return (flows.f, flows.g), idle, _excess(kept, weights)


def _excess(kept: Pair, weights: Pair) -> Tensor:
    """Mass moved beyond what is there, the larger of both sides."""
    return torch.maximum(
        *((u - w.detach()).clamp_min(0.0).sum(-1) for u, w in zip(kept, weights, strict=True))
    )


def _answer(
    problem: SampleProblem,
    flows: Flows,
    moved: Tensor,
    slopes: Pair,
    error: Tensor,
    root: bool,
    fixed: Tensor | float,
) -> Transport:
    a, b = problem.weights()
    total = moved + fixed + priced(a, slopes[0]) + priced(b, slopes[1])
    warn_unless(flows, total)
    dtype = problem.x.dtype
    return Transport(
        value=rooted(total, problem.p, root).to(dtype),
        f=flows.f.to(dtype),
        g=flows.g.to(dtype),
        converged=flows.converged,
        steps=flows.steps,
        marginal_error=error,
        dual_gap=total.detach() - flows.dual,
        coupling=problem.coupling(flows, moved),
    )
