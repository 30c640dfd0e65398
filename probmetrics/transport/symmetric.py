"""The entropic problem from a measure to itself, whose two potentials are one."""

import torch
from torch import Tensor

from probmetrics.transport.entropic import (
    LOOSE,
    STALLED,
    Solution,
    first_guess,
    make_sweeper,
    schedule,
)
from probmetrics.transport.entropic_problem import EntropicProblem, mean_cost
from probmetrics.transport.marginals import Marginal, Update
from probmetrics.transport.starting import coarsened, refined


def solve_symmetric(
    problem: EntropicProblem,
    epsilon: Tensor,
    side: Marginal,
    *,
    tolerance: float,
    max_steps: int,
    backend: str,
) -> Solution:
    """The problem from a measure to itself, where f = g: f ← (f + T f) / 2 converges fast.

    Args:
        problem: With y = x and b = a.
        epsilon: ε per batch entry.
        side: What both marginals owe a.
        tolerance: As in ``solve``.
        max_steps: As in ``solve``.
        backend: As in ``solve``.

    References:
        Feydy et al. (2019), "Interpolating between optimal transport and MMD using Sinkhorn
        divergences", eq. 25.
    """
    mass = problem.a.sum(-1)
    stages, coarse = schedule(epsilon, mean_cost(problem)), coarsened(problem)
    if coarse is None:
        f, g = first_guess(problem, stages[0], (side, side))
        f = 0.5 * (f + g)  # from g = 0 too the fixed point is near the half
    else:
        few, groups = coarse
        few = EntropicProblem(few.ground, few.x, few.x, few.a, few.a)
        near = max(0.3 * tolerance, 1e-4)
        rough = solve_symmetric(
            few, epsilon, side, tolerance=near, max_steps=max_steps, backend="dense"
        )
        f = Update(side, epsilon)(refined(problem, few, groups, rough.f, rough.f, epsilon)[1])
        stages = [epsilon]
    steps = 0
    for stage in stages:
        last = stage is epsilon
        sweeper = make_sweeper(problem, stage, backend)
        eps = stage.unsqueeze(-1)
        update = Update(side, stage)
        goal = tolerance if last else max(tolerance, LOOSE)
        left = max_steps - steps if last else 10
        lowest, since = float("inf"), 0
        for _ in range(max(1, left)):
            raw = sweeper.own_rows(f)
            image = update(raw)
            steps += 1
            miss = ((f - image) / eps).clamp(max=80.0)
            error = (problem.a * torch.expm1(miss).abs()).sum(-1) / mass
            worst = float(error.max())
            since = 0 if worst < lowest else since + 1
            lowest = min(lowest, worst)
            if worst <= goal or since >= STALLED:
                break
            f = 0.5 * (f + image)
    raw_log = (
        (f - raw) / eps if worst <= goal or since >= STALLED else (f - sweeper.own_rows(f)) / eps
    )
    converged = bool((error <= tolerance).all())
    return Solution(f, f, raw_log, raw_log, error, converged, steps)
