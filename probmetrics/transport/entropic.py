"""Solving entropic transport problems: annealing, accelerated passes, and when to stop."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.threads import on_all_threads
from probmetrics.transport.anderson import Anderson, shortened
from probmetrics.transport.entropic_problem import mean_cost
from probmetrics.transport.marginals import Marginal, Update
from probmetrics.transport.semidual import ARMIJO, SHRINKS, QuasiNewton
from probmetrics.transport.starting import Coarse, coarsened, gaussian_start, refined
from probmetrics.transport.storing import make_sweeper, streamed_if_few
from probmetrics.transport.sweeps import LOG2E, EntropicProblem, Sweeper

FEW = 4  # passes go on with those of a batch that need them once this many times fewer are left
PATIENCE = 15  # passes in which the error has to halve, or quasi-Newton steps take over
STALLED = 40  # steps without a smaller error after which rounding is what limits it
MEMORY = 6  # differences that the acceleration keeps
FINE = 0.02  # an ε below this share of the mean cost is approached from above
ANNEALING = 0.3  # by which factor
LOOSE = 0.1  # accuracy asked of the problems on the way
SMALL_PAIRS = 2**21  # up to here problems that converge slowly are solved by Newton's steps,
SMALL_POINTS = 1280  # if their systems are of this size at most,
ROUNDING = 1e-11  # an error that more passes may not lower
HARD = 100  # after as many passes,
FINISHING = 40  # and in as many, or from the beginning


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
    sweeper: Sweeper | None = None  # that made the last pass, for the plan's moments


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
    moving: tuple[bool, bool] = (False, False),
    scale: Tensor | None = None,
    coarse: Coarse | None = None,
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
        moving: Whether gradients in x, and in y, will be asked for.
        scale: The mean cost, where it is known, shape (B,).
        coarse: What ``coarsened`` says of the problem, where that is known.
    """
    options: dict[str, Any] = {"max_steps": max_steps, "backend": backend, "moving": moving}
    options |= {"scale": scale, "coarse": coarse}
    with problem.gone_through():
        found = _descend(problem, epsilon, sides, start, tolerance=tolerance, **options)
        near = float(found.error.max()) <= max(tolerance, ROUNDING)
        if not found.converged and not near and found.steps < max_steps:
            with on_all_threads():
                found = _mended(problem, epsilon, sides, found, tolerance, max_steps, backend)
        return _with_idle(problem, epsilon, sides, found)


def _mended(
    problem: EntropicProblem,
    epsilon: Tensor,
    sides: tuple[Marginal, Marginal],
    found: Solution,
    tolerance: float,
    max_steps: int,
    backend: str,
) -> Solution:
    """The solution with the entries that missed the tolerance solved the slow way, one by one.

    Small ones by Newton's steps from where passes slowed down; where these fail, and for large
    ones, down the whole ladder.
    """
    from probmetrics.transport.ladder import solve_ladder

    most, steps = max_steps - found.steps, 0
    fields = ("f", "g", "log_r", "log_c", "error")
    for name in fields:  # the sweeper of the last pass remembers the ones it made
        setattr(found, name, getattr(found, name).clone())
    for k in (~(found.error <= tolerance)).nonzero().squeeze(-1).tolist():
        one, eps = problem.entry(k), epsilon[k : k + 1]
        used, near = 0, (found.f[k : k + 1].clone(), found.g[k : k + 1].clone())
        for start in (near, None) if is_small(one) else (None,):
            left = most - used if start is None else min(most, FINISHING)
            slow = solve_ladder(
                one, eps, sides, tolerance=tolerance, max_steps=left, backend=backend, start=start
            )
            used += slow.steps
            if not float(slow.error) >= float(found.error[k]):
                for name in fields:
                    getattr(found, name)[k] = getattr(slow, name)[0]
            if float(found.error[k]) <= tolerance or used >= most:
                break
        steps = max(steps, used)
    found.steps, found.converged = found.steps + steps, bool((found.error <= tolerance).all())
    return found


def is_small(problem: EntropicProblem) -> bool:
    """Whether systems of equations in one potential of each problem are cheap."""
    n, m = problem.x.shape[1], problem.y.shape[1]
    return n * m <= SMALL_PAIRS and m <= SMALL_POINTS


def _descend(
    problem: EntropicProblem,
    epsilon: Tensor,
    sides: tuple[Marginal, Marginal],
    start: Tensor | None,
    *,
    tolerance: float,
    max_steps: int,
    backend: str,
    moving: tuple[bool, bool] = (False, False),
    scale: Tensor | None = None,
    coarse: Coarse | None = None,
) -> Solution:
    """Solve at one ε after the other, each from the last."""
    smooth = all(side.smooth for side in sides)
    stages, steps = [epsilon], 0
    guess: tuple[Tensor, Tensor] | None = None
    if start is None:
        scale = mean_cost(problem) if scale is None else scale
        stages = schedule(epsilon, scale)
        coarse = coarse or coarsened(problem)
        if coarse is not None:
            few, groups = coarse
            options: dict[str, Any] = {"max_steps": max_steps, "scale": scale, "backend": "dense"}
            near = max(0.3 * tolerance, 1e-4)
            rough = _descend(few, epsilon, sides, None, tolerance=near, **options)
            f, g = refined(problem, few, groups, rough.f, rough.g, epsilon)
            guess, stages = (f, Update(sides[1], epsilon)(g)), [epsilon]
            backend = streamed_if_few(problem, tolerance, backend)
    fine = len(stages) > 1
    if guess is None:
        guess = first_guess(problem, stages[0], sides)
    f, g = guess[0], guess[1] if start is None else start
    for k, stage in enumerate(stages):
        last = k == len(stages) - 1
        ahead = len(stages) - 1 - k
        left = max_steps - steps - ahead
        if left < 1 and not last:
            continue  # too few passes for the whole way down: begin nearer to the end
        sweeper = make_sweeper(problem, stage, backend, moving if last else (False, False))
        goal = tolerance if last else max(tolerance, LOOSE)
        most = max(1, min(left, HARD if is_small(problem) else left) if last else min(left, 30))
        if fine and smooth:
            found = _climb(sweeper, sides, g, f, tolerance=goal, max_steps=most)
        else:
            found = _iterate(sweeper, sides, g, f, tolerance=goal, max_steps=most)
        f, g = found.f, found.g
        steps += found.steps
    found.steps, found.sweeper = steps, sweeper
    return found


def first_guess(
    problem: EntropicProblem, epsilon: Tensor, sides: tuple[Marginal, Marginal]
) -> tuple[Tensor, Tensor]:
    """Potentials to start from without having seen a pair."""
    if type(problem.ground) is SqEuclidean:
        f, g = gaussian_start(problem.detached(), epsilon)
        if all(side.reach is None for side in sides):
            return f, g
        return f, torch.zeros_like(g)
    return torch.zeros_like(problem.a), torch.zeros_like(problem.b)


def _with_idle(
    problem: EntropicProblem,
    epsilon: Tensor,
    sides: tuple[Marginal, Marginal],
    found: Solution,
) -> Solution:
    """The solution with the potentials of points without mass, which no pass has to get right."""
    idle = problem.b == 0
    if bool(idle.any()):
        raw = problem.transposed().softmin(found.f, epsilon)
        g = Update(sides[1], epsilon)(raw)
        found.g = torch.where(idle, g, found.g)
        found.log_c = torch.where(idle, (g - raw) / epsilon.unsqueeze(-1), found.log_c)
    return found


def _iterate(
    sweeper: Sweeper,
    sides: tuple[Marginal, Marginal],
    g: Tensor,
    f: Tensor,
    *,
    tolerance: float,
    max_steps: int,
    anderson: Anderson | None = None,
) -> Solution:
    """Accelerated passes at one ε, keeping each batch entry's best.

    Extrapolation is fast where passes contract well and can stall where they do not; then the
    dual is climbed with a line search, which cannot. Once few entries of the batch are left, passes
    go over these alone.
    """
    p, epsilon = sweeper.problem, sweeper.epsilon
    eps = epsilon.unsqueeze(-1)
    mass = p.b.sum(-1)
    row_update, column_update = (Update(side, epsilon) for side in sides)
    anderson = anderson or Anderson(MEMORY, p.b / mass.unsqueeze(-1))
    best: Solution | None = None
    before = float("inf")
    for step in range(1, max_steps + 1):
        f, log_r, log_c = sweeper.sweep(f, g, row_update)
        plain = g - eps * log_c
        image = column_update(plain)
        miss = log_c if image is plain else (g - image) / eps
        error = missed(p.b, miss) / mass
        best = better(best, Solution(f, g, log_r, log_c, error, False, step))
        waiting = ~(best.error <= tolerance)
        left = int(waiting.sum())
        if not left:
            best.converged = True
            break
        if step % PATIENCE == 0:
            worst = float(best.error.max())
            smooth = all(side.smooth for side in sides)
            if is_small(p) and worst > 0.5 * before:
                break  # Newton's steps take over
            if worst >= before and not smooth:
                break
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
        if FEW * left <= waiting.numel() and step < max_steps:
            rows = waiting.nonzero().squeeze(-1)
            rest = _iterate(
                sweeper.entries(rows),
                sides,
                g[rows],
                f[rows],
                tolerance=tolerance,
                max_steps=max_steps - step,
                anderson=anderson.entries(rows),
            )
            return merged(best, rest, rows, step)
        g = torch.where(waiting.unsqueeze(-1), g, best.g)
    assert best is not None
    best.steps = step
    return best


def missed(weights: Tensor, log_ratio: Tensor) -> Tensor:
    """Σ w |r − 1| for the ratios r of masses to those wanted, shape (B,)."""
    ratio = torch.exp2(log_ratio.clamp(max=80.0).mul_(LOG2E))  # base 2 is faster than base e
    return (weights * ratio.sub_(1.0).abs_()).sum(-1)


def _climb(
    sweeper: Sweeper,
    sides: tuple[Marginal, Marginal],
    g: Tensor,
    f: Tensor,
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
        ahead = plain
        if newton.steps:
            ahead = shortened(newton.direction(gradient), now.g + plain, plain)
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
        best = better(best, now)
        if stalled >= STALLED:
            break
    best.converged, best.steps = bool((best.error <= tolerance).all()), step
    return best


def merged(best: Solution, rest: Solution, rows: Tensor, step: int) -> Solution:
    """The best of a batch of which some entries went on after ``step`` passes."""
    for name in ("f", "g", "log_r", "log_c", "error"):
        old, new = getattr(best, name), getattr(rest, name)
        won = (rest.error < best.error[rows]).view(-1, *([1] * (new.ndim - 1)))
        setattr(rest, name, old.index_copy(0, rows, torch.where(won, new, old[rows])))
    rest.steps += step
    return rest


def better(best: Solution | None, new: Solution) -> Solution:
    """Each batch entry from whichever has the smaller error there."""
    if best is None:
        return new
    won = new.error < best.error
    if bool(won.all()):
        return new
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
