"""Plain Sinkhorn passes on a ladder of ε: slow, and never stuck."""

import math

import torch
from torch import Tensor

from probmetrics.transport.entropic import Solution, Update, make_sweeper, mean_cost
from probmetrics.transport.marginals import Marginal
from probmetrics.transport.sweeps import EntropicProblem

STEP = 0.5  # from one ε to the next
PASSES = 10  # made at each but the last


def solve_plain(
    problem: EntropicProblem,
    epsilon: Tensor,
    sides: tuple[Marginal, Marginal],
    *,
    tolerance: float,
    max_steps: int,
    backend: str,
) -> Solution:
    """Potentials by alternating updates, the way that cannot fail to converge.

    Where few masses meet costs far above ε the marginal error stays flat for many passes while
    the potentials walk to where they belong. Extrapolation and line searches take that for the
    end; plain passes go on.

    Args:
        problem: What to solve.
        epsilon: ε per batch entry, float64, shape (B,).
        sides: What the two marginals of the plan owe a and b.
        tolerance: Largest L1 error relative to the mass of b.
        max_steps: Most passes over the pairs.
        backend: "auto", "dense" or "tiled".
    """
    ratio = float((epsilon / mean_cost(problem).clamp_min(1e-300)).min())
    rungs = max(0, math.ceil(math.log(max(ratio, 1e-12)) / math.log(STEP)))
    g, mass, steps = torch.zeros_like(problem.b), problem.b.sum(-1), 0
    for rung in range(rungs, -1, -1):
        stage = epsilon * STEP**-rung
        if rung and steps + PASSES >= max_steps:
            continue
        sweeper = make_sweeper(problem, stage, backend)
        eps = stage.unsqueeze(-1)
        update = Update(sides[0], stage)
        f = update(problem.softmin(g, stage))
        for _ in range(PASSES if rung else max(1, max_steps - steps)):
            f, log_r, log_c = sweeper.sweep(f, g, update)
            steps += 1
            image = sides[1].update(g - eps * log_c, stage)
            miss = ((g - image) / eps).clamp(max=80.0)
            error = (problem.b * torch.expm1(miss).abs()).sum(-1) / mass
            if bool((error <= tolerance).all()):
                break
            if rung or steps < max_steps:
                g = image
    return Solution(f, g, log_r, log_c, error, bool((error <= tolerance).all()), steps)
