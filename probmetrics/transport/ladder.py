"""Sinkhorn's plain passes down a ladder of ε, with Newton's steps where a problem is small."""

import math

import torch
from torch import Tensor

from probmetrics.transport.entropic import Solution, better, first_guess, is_small
from probmetrics.transport.entropic_problem import EntropicProblem, mean_cost
from probmetrics.transport.marginals import Marginal, Update
from probmetrics.transport.storing import make_sweeper
from probmetrics.transport.sweeps import Sweeper

STEP = 0.5  # from one ε to the next
PASSES = 12  # made at each but the last
LOOSE = 1e-2  # accuracy asked of each but the last
ARMIJO = 1e-4
SHRINK = 0.3
SHRINKS = 12
FLOOR = 1e-9  # below this error, passes that do not lower it are lost in rounding,
STALLED = 12  # and after as many no more are made
ROUNDING = 1e-14  # of the dual, relative to its terms


def solve_ladder(
    problem: EntropicProblem,
    epsilon: Tensor,
    sides: tuple[Marginal, Marginal],
    *,
    tolerance: float,
    max_steps: int,
    backend: str,
    start: tuple[Tensor, Tensor] | None = None,
) -> Solution:
    """Potentials by small steps in ε: slow, and never stuck.

    Where few masses meet costs far above ε the marginal error stays flat for many passes while
    the potentials walk to where they belong. Extrapolation and quasi-Newton steps take that for
    the end; an ε that falls by halves leads there. Small problems are in float64.

    Args:
        problem: What to solve; a batch of one.
        epsilon: ε, float64, shape (1,).
        sides: What the two marginals of the plan owe a and b.
        tolerance: Largest L1 error relative to the mass of b.
        max_steps: Most passes over the pairs.
        backend: "auto", "dense" or "tiled".
        start: Potentials already near, from which the last ε alone is solved.
    """
    newton = None
    if is_small(problem):
        x = problem.x.double()
        y = x if problem.y is problem.x else problem.y.double()
        problem = EntropicProblem(problem.ground, x, y, problem.a, problem.b)
        newton = Newton(problem, sides)
    ratio = float(epsilon / mean_cost(problem).clamp_min(1e-300))
    rungs = max(0, math.ceil(math.log(min(max(ratio, 1e-12), 1.0)) / math.log(STEP)))
    spare = max(max_steps // 3, 1)  # passes that the last ε may always make
    rungs = min(rungs, (max_steps - spare) // PASSES)
    rungs = 0 if start is not None else rungs
    f, g = start or first_guess(problem, epsilon * STEP**-rungs, sides)
    steps = 0
    for rung in range(rungs, -1, -1):
        stage = epsilon * STEP**-rung
        stop = (
            max(tolerance, LOOSE) if rung else tolerance,
            PASSES if rung else max(1, max_steps - steps),
        )
        visit = _Visit(problem, stage, sides, make_sweeper(problem, stage, backend))
        found = _plain(visit, f, g, *stop) if newton is None else _climb(visit, newton, f, g, *stop)
        f, g = found.f, found.g
        steps += found.steps
    found.converged, found.steps = bool(found.error <= tolerance), steps
    return found


class _Visit:
    """One pass at potentials, and what it tells: the plain step, the dual and its slope."""

    def __init__(
        self,
        problem: EntropicProblem,
        epsilon: Tensor,
        sides: tuple[Marginal, Marginal],
        sweeper: Sweeper,
    ) -> None:
        self.problem, self.epsilon, self.sides, self.sweeper = problem, epsilon, sides, sweeper
        self.update_rows, self.update_columns = (Update(side, epsilon) for side in sides)
        self.mass = problem.b.sum(-1)
        self.steps = 0

    def __call__(self, f: Tensor, g: Tensor) -> tuple[Solution, Tensor]:
        p, eps = self.problem, self.epsilon.unsqueeze(-1)
        f, log_r, log_c = self.sweeper.sweep(f, g, self.update_rows)
        self.steps += 1
        image = self.update_columns(g - eps * log_c)
        miss = ((g - image) / eps).clamp(max=80.0)
        error = (p.b * torch.expm1(miss).abs()).sum(-1) / self.mass
        return Solution(f, g, log_r, log_c, error, False, self.steps), image

    def dual(self, at: Solution) -> tuple[float, float]:
        """The dual, and the rounding error it may have."""
        p, (left, right) = self.problem, self.sides
        moved = self.epsilon * (p.b * at.log_c.clamp(max=80.0).exp()).sum(-1)
        value = left.dual(at.f, p.a) + right.dual(at.g, p.b) - moved
        size = (p.a * at.f.abs()).sum() + (p.b * at.g.abs()).sum() + moved.sum()
        return float(value), ROUNDING * float(size)

    def gradient(self, at: Solution) -> Tensor:
        """The dual's derivative in g, f following."""
        density = at.log_c.clamp(max=80.0).exp()
        return self.problem.b * (self.sides[1].density(at.g) - density)


def _plain(visit: _Visit, f: Tensor, g: Tensor, tolerance: float, max_steps: int) -> Solution:
    """Plain passes at one ε."""
    best: Solution | None = None
    since = 0
    for step in range(1, max_steps + 1):
        now, image = visit(f, g)
        since = since + 1 if best is not None and float(now.error) >= float(best.error) else 0
        best = better(best, now)
        best.steps = step
        if float(now.error) <= tolerance or _lost(best, since):
            break
        f, g = now.f, image
    assert best is not None
    return best


def _climb(
    visit: _Visit, newton: "Newton", f: Tensor, g: Tensor, tolerance: float, max_steps: int
) -> Solution:
    """Newton's steps at one ε, shortened until the dual rises; a plain pass where none does."""
    now, image = visit(f, g)
    best, since = now, 0
    while visit.steps < max_steps and not float(now.error) <= tolerance:
        if _lost(best, since):
            break
        dual, noise = visit.dual(now)
        slope_in = visit.gradient(now)
        ahead = newton.step(now.f, now.g, image - now.g, visit.epsilon)
        slope = float((ahead * slope_in).sum())
        length, found = 1.0, None
        for _ in range(SHRINKS if slope > 0 else 0):
            if visit.steps >= max_steps:
                break
            trial = visit(now.f, visit.sides[1].allowed(now.g + length * ahead))
            risen = visit.dual(trial[0])[0] - dual
            if risen >= ARMIJO * length * slope + noise or (
                risen >= -noise and float(trial[0].error) < float(now.error)
            ):
                found = trial
                break
            length *= SHRINK
        now, image = visit(now.f, image) if found is None else found
        since = since + 1 if float(now.error) >= float(best.error) else 0
        best = better(best, now)
    best.steps = visit.steps
    return best


def _lost(best: Solution, since: int) -> bool:
    return since >= STALLED and float(best.error) < FLOOR


class Newton:
    """Steps towards the fixed point of g ↦ T(g), the two updates of a pass.

    The derivative of an exact row update is minus the row-normalised plan π, that of a column
    update minus the column-normalised plan κ, each times the slope s of its marginal's update:
    δ solves (I − s_b κᵀ s_a π) δ = T(g) − g. Where both marginals are exact the constants, which
    change nothing, are fixed by adding 1bᵀ.

    Args:
        problem: In float64.
        sides: Its marginals.
    """

    def __init__(self, problem: EntropicProblem, sides: tuple[Marginal, Marginal]) -> None:
        cost = problem.ground.on_features(problem.x, problem.y)
        self.cost, self.sides, self.problem = cost.double(), sides, problem
        self.reach = (self.cost.amax((-1, -2)) - self.cost.amin((-1, -2))).unsqueeze(-1)
        self.exact = all(side.reach is None for side in sides)

    def step(self, f: Tensor, g: Tensor, residual: Tensor, epsilon: Tensor) -> Tensor:
        """δ at potentials f and g, shape (B, m)."""
        a, b = self.problem.a, self.problem.b
        eps = epsilon[:, None, None]
        row = (g.unsqueeze(-2) - self.cost) / eps + b.log().unsqueeze(-2)
        column = (f.unsqueeze(-1) - self.cost) / eps + a.log().unsqueeze(-1)
        raw_f = -epsilon.unsqueeze(-1) * row.logsumexp(-1)
        raw_g = -epsilon.unsqueeze(-1) * column.logsumexp(-2)
        pi, kappa = row.softmax(-1), column.softmax(-2)
        pi = pi * self.sides[0].update_slope(raw_f, epsilon).unsqueeze(-1)
        kappa = kappa * self.sides[1].update_slope(raw_g, epsilon).unsqueeze(-2)
        matrix = torch.eye(g.shape[-1], dtype=g.dtype, device=g.device) - kappa.mT @ pi
        if self.exact:
            matrix = matrix + b.unsqueeze(-2)
        delta, info = torch.linalg.solve_ex(matrix, residual.unsqueeze(-1))
        delta = delta.squeeze(-1)
        if self.exact:  # constants change nothing
            delta = delta - (b * delta).sum(-1, keepdim=True)
        # Parts of the plan that hardly meet leave their distance open: no further than costs go.
        longest = delta.abs().amax(-1, keepdim=True).clamp_min(1e-300)
        delta = delta * (self.reach / longest).clamp(max=1.0)
        sound = (info == 0).unsqueeze(-1) & delta.isfinite().all(-1, keepdim=True)
        return torch.where(sound, delta, residual)
