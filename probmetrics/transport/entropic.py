"""Solving entropic transport problems: annealing, accelerated passes, and when to stop."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics.pairwise import Total, reduce_pairs
from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.transport.anderson import Anderson
from probmetrics.transport.marginals import Marginal
from probmetrics.transport.semidual import ARMIJO, SHRINKS, QuasiNewton
from probmetrics.transport.sweeps import (
    AbstractSweeper,
    CachedSweeper,
    EntropicProblem,
    StreamedSweeper,
)

PATIENCE = 15  # passes in which the error has to halve, or quasi-Newton steps take over
STALLED = 40  # steps without a smaller error after which rounding is what limits it
MEMORY = 6  # differences that the acceleration keeps
FINE = 0.02  # an ε below this share of the mean cost is approached from above
ANNEALING = 0.3  # by which factor
LOOSE = 0.1  # accuracy asked of the problems on the way
CACHED_BYTES = 2**26  # a kernel of this size is kept in memory,
WIDE_BYTES = 2**30  # and of this one where points are wide, so that forming it is the work
WIDE = 32


@dataclass
class Solution:
    """Potentials and how good they are, all float64."""

    f: Tensor  # (B, n)
    g: Tensor  # (B, m)
    log_r: Tensor  # (B, n): row i of the plan has mass a_i r_i
    log_c: Tensor  # (B, m): column j has mass b_j c_j
    error: Tensor  # (B,): L1 error of the marginals, or of the update for relaxed ones
    converged: bool
    steps: int


def mean_cost(problem: EntropicProblem) -> Tensor:
    """Σ_ij a_i b_j C_ij over unit masses, shape (B,)."""
    a, b = (w / w.sum(-1, keepdim=True) for w in (problem.a, problem.b))
    x, y = problem.x.detach(), problem.y.detach()
    if type(problem.ground) is SqEuclidean:  # ‖E x − E y‖² + both variances, in n steps
        means, spreads = [], []
        for z, w in ((x.double(), a), (y.double(), b)):
            mean = (w.unsqueeze(-1) * z).sum(-2)
            means.append(mean)
            spreads.append((w * (z - mean.unsqueeze(-2)).square().sum(-1)).sum(-1))
        return (means[0] - means[1]).square().sum(-1) + spreads[0] + spreads[1]
    total: Tensor = reduce_pairs(problem.ground, Total(a, b), x, y, backend="tiled")
    return total


def make_sweeper(problem: EntropicProblem, epsilon: Tensor, backend: str) -> AbstractSweeper:
    """A sweeper that keeps the kernel where memory allows and it pays, else one that streams."""
    batch, n, d = problem.x.shape
    m = problem.y.shape[-2]
    size = batch * n * m * (8 if problem.x.dtype == torch.float64 else 4)
    fits = size <= CACHED_BYTES or (d >= WIDE and size <= WIDE_BYTES)
    cached = fits if backend == "auto" else backend == "dense"
    return (CachedSweeper if cached else StreamedSweeper)(problem, epsilon)


def schedule(epsilon: Tensor, scale: Tensor) -> list[Tensor]:
    """The ε to solve at, one after the other: straight, or from above where ε is fine."""
    ratio = float((epsilon / scale.clamp_min(1e-300)).min())
    if ratio >= FINE or ratio <= 0:
        return [epsilon]
    steps = math.ceil(math.log(FINE / ratio) / -math.log(ANNEALING))
    ladder = [epsilon * ANNEALING ** -(steps - k) for k in range(steps)]
    return [*ladder, epsilon]


def solve(
    problem: EntropicProblem,
    epsilon: Tensor,
    sides: tuple[Marginal, Marginal],
    *,
    tolerance: float,
    max_steps: int,
    backend: str,
    start: Tensor | None = None,
) -> Solution:
    """Potentials whose plan misses the marginals by at most ``tolerance`` in L1.

    Args:
        problem: What to solve.
        epsilon: ε per batch entry, float64, shape (B,).
        sides: What the two marginals of the plan owe a and b.
        tolerance: Largest L1 error relative to the mass of b.
        max_steps: Most passes over the pairs, all stages together.
        backend: "auto", "dense" (kernel in memory) or "tiled" (streamed).
        start: g to start from, shape (B, m).
    """
    g = torch.zeros_like(problem.b) if start is None else start
    f: Tensor | None = None
    stages = [epsilon] if start is not None else schedule(epsilon, mean_cost(problem))
    steps = 0
    for k, stage in enumerate(stages):
        last = k == len(stages) - 1
        ahead = len(stages) - 1 - k
        left = max_steps - steps - ahead
        if left < 1 and not last:
            continue  # too few passes for the whole way down: begin nearer to the end
        sweeper = make_sweeper(problem, stage, backend)
        fine = len(stages) > 1 and all(side.smooth for side in sides)
        found = (_climb if fine else _iterate)(
            sweeper,
            sides,
            g,
            f,
            tolerance=tolerance if last else max(tolerance, LOOSE),
            max_steps=left if last else min(left, 30),
        )
        f, g = found.f, found.g
        steps += found.steps
    found.steps = steps
    return found


def _iterate(
    sweeper: AbstractSweeper,
    sides: tuple[Marginal, Marginal],
    g: Tensor,
    f: Tensor | None,
    *,
    tolerance: float,
    max_steps: int,
) -> Solution:
    """Accelerated passes at one ε, keeping each batch entry's best.

    Extrapolation is fast where passes contract well and can stall where they do not; then the
    dual is climbed with a line search, which cannot.
    """
    p, epsilon = sweeper.problem, sweeper.epsilon
    eps = epsilon.unsqueeze(-1)
    mass = p.b.sum(-1)
    row_update, column_update = (Update(side, epsilon) for side in sides)
    anderson = Anderson(MEMORY, p.b / mass.unsqueeze(-1))
    f = row_update(p.softmin(g, epsilon)) if f is None else f
    best: Solution | None = None
    before = float("inf")
    for step in range(1, max_steps + 1):
        f, log_r, log_c = sweeper.sweep(f, g, row_update)
        image = column_update(g - eps * log_c)
        miss = ((g - image) / eps).clamp(max=80.0)  # log c where the marginal is exact
        error = (p.b * torch.expm1(miss).abs()).sum(-1) / mass
        best = _better(best, Solution(f, g, log_r, log_c, error, False, step))
        if bool((best.error <= tolerance).all()):
            best.converged = True
            break
        if step % PATIENCE == 0:
            worst = float(best.error.max())
            smooth = all(side.smooth for side in sides)
            if worst >= before and not smooth:
                break  # rounding, not the number of passes, is what limits the error
            if worst > 0.5 * before and smooth and step < max_steps:
                rest = _climb(
                    sweeper,
                    sides,
                    best.g,
                    best.f,
                    tolerance=tolerance,
                    max_steps=max_steps - step,
                )
                rest.steps += step
                return rest
            before = worst
        g = anderson.step(g, image, error)
        done = (best.error <= tolerance).unsqueeze(-1)
        g = torch.where(done, best.g, g)
    assert best is not None
    best.steps = step
    return best


def _climb(
    sweeper: AbstractSweeper,
    sides: tuple[Marginal, Marginal],
    g: Tensor,
    f: Tensor | None,
    *,
    tolerance: float,
    max_steps: int,
) -> Solution:
    """Quasi-Newton ascent on the dual as a function of g alone, f following from each pass."""
    p, epsilon = sweeper.problem, sweeper.epsilon
    mass = p.b.sum(-1)
    row_update, column_update = (Update(side, epsilon) for side in sides)
    newton = QuasiNewton(column_update(epsilon.unsqueeze(-1) / p.b.clamp_min(1e-300)))
    noise = (1e-14 if sweeper.dtype == torch.float64 else 2e-6) * epsilon * mass
    f = row_update(p.softmin(g, epsilon)) if f is None else f

    def visit(f: Tensor, g: Tensor, step: int) -> tuple[Solution, Tensor, Tensor]:
        f, log_r, log_c = sweeper.sweep(f, g, row_update)
        dual = sides[0].dual(f, p.a) + sides[1].dual(g, p.b)
        dual = dual - epsilon * (p.b * log_c.clamp(max=80.0).exp()).sum(-1)
        gradient = p.b * (sides[1].density(g) - log_c.clamp(max=80.0).exp())
        error = gradient.abs().sum(-1) / mass
        return Solution(f, g, log_r, log_c, error, False, step), dual, gradient

    now, dual, gradient = visit(f, g, 1)
    best, step, stalled = now, 1, 0
    while step < max_steps and not bool((best.error <= tolerance).all()):
        plain = column_update(now.g - epsilon.unsqueeze(-1) * now.log_c) - now.g
        ahead = newton.direction(gradient) if newton.steps else plain
        slope = (ahead * gradient).sum(-1)
        ahead = torch.where((slope > 0).unsqueeze(-1), ahead, plain)
        slope = (ahead * gradient).sum(-1)
        length = torch.ones_like(slope)
        for _ in range(SHRINKS):
            trial, risen, steeper = visit(now.f, now.g + length.unsqueeze(-1) * ahead, step + 1)
            step += 1
            enough = risen >= dual + ARMIJO * length * slope - noise
            if bool(enough.all()) or step >= max_steps:
                break
            length = torch.where(enough, length, 0.4 * length)
        moving = (trial.error < best.error) | (risen > dual + noise)
        stalled = 0 if bool(moving.any()) else stalled + 1
        newton.learn(trial.g - now.g, gradient - steeper)
        now, dual, gradient = trial, risen, steeper
        best = _better(best, now)
        if stalled >= STALLED:
            break
    best.converged, best.steps = bool((best.error <= tolerance).all()), step
    return best


def _better(best: Solution | None, new: Solution) -> Solution:
    """Each batch entry from whichever has the smaller error there."""
    if best is None:
        return new
    won = new.error < best.error
    rows = won.unsqueeze(-1)
    return Solution(
        torch.where(rows, new.f, best.f),
        torch.where(rows, new.g, best.g),
        torch.where(rows, new.log_r, best.log_r),
        torch.where(rows, new.log_c, best.log_c),
        torch.where(won, new.error, best.error),
        False,
        new.steps,
    )


class Update:
    """A marginal's update bound to ε, on all batch entries or on some."""

    def __init__(self, side: Marginal, epsilon: Tensor) -> None:
        self.side, self.epsilon = side, epsilon

    def __call__(self, raw: Tensor) -> Tensor:
        return self.side.update(raw, self.epsilon)

    def of(self, raw: Tensor, entries: slice) -> Tensor:
        """The update on some entries of the batch."""
        return self.side.update(raw, self.epsilon[entries])


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
    f = torch.zeros_like(problem.a)
    steps = 0
    for stage in schedule(epsilon, mean_cost(problem)):
        last = stage is epsilon
        sweeper = make_sweeper(problem, stage, backend)
        eps = stage.unsqueeze(-1)
        update = Update(side, stage)
        goal = tolerance if last else max(tolerance, LOOSE)
        left = max_steps - steps if last else 10
        f = update(problem.softmin(f, stage)) if steps == 0 else f
        f = 0.5 * f if steps == 0 else f  # from g = 0 the fixed point is near the half
        lowest, since = float("inf"), 0
        for _ in range(max(1, left)):
            image = update(sweeper.rows(f, f))
            steps += 1
            miss = ((f - image) / eps).clamp(max=80.0)
            error = (problem.a * torch.expm1(miss).abs()).sum(-1) / mass
            worst = float(error.max())
            since = 0 if worst < lowest else since + 1
            lowest = min(lowest, worst)
            if worst <= goal or since >= STALLED:
                break
            f = 0.5 * (f + image)
    # At f both marginals are a · exp((f − T f) / ε) with T the update of an exact marginal.
    raw_log = miss if side.reach is None else (f - sweeper.rows(f, f)) / eps
    converged = bool((error <= tolerance).all())
    return Solution(f, f, raw_log, raw_log, error, converged, steps)
