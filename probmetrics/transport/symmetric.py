"""The entropic problem from a measure to itself, whose two potentials are one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.threads import cores, run_tasks
from probmetrics.transport.entropic import LOOSE, STALLED, Solution, schedule
from probmetrics.transport.entropic_problem import EntropicProblem, mean_cost
from probmetrics.transport.marginals import Marginal, Update
from probmetrics.transport.starting import Coarse, coarsened, own_clusters, own_start, refined
from probmetrics.transport.storing import make_sweeper, streamed_if_half
from probmetrics.transport.sweeps import WIDE

NEAR = 0.1  # relative marginal errors, point by point, up to which passes act linearly
SMALL = 0.5  # and up to which they do nearly enough to be extrapolated
SLOW = 0.2  # and by which share errors fall at least where halved steps are best
JOINED = 2**20  # pairs up to which problems are solved as one batch
APART = 2**27  # pairs up to which problems are solved side by side, each by one core,
CORES = 2  # where there are up to this many for each;
BESIDE = 2**26  # and up to which the problem between the measures is solved beside them,
FEW = 3  # by up to as many cores
BETWEEN = -1
SHARPER = 0.1  # share of the tolerance that is asked of clusters, whose passes are cheap


def solve_each(
    problems: Sequence[EntropicProblem],
    epsilon: Tensor,
    side: Marginal,
    coarse: Sequence[Coarse | None],
    between: Callable[[], Solution],
    **options: Any,
) -> tuple[Solution, list[Solution]]:
    """``solve_symmetric`` of two problems, and the solution ``between`` their measures.

    As one batch or each on a core where that is faster. Small ones spend more time between passes
    than in them, which one batch spends once. For large ones, two cores that share every pass wait
    for each other after each; solutions of their own do not. Where points have many coordinates
    the passes are long, and unlike numbers of them would leave a core idle.
    """
    pairs = [len(p.x) * p.x.shape[1] ** 2 for p in problems]
    alike = len({p.x.shape for p in problems}) == 1 and all(p.ranks is None for p in problems)
    if alike and max(pairs) < JOINED:
        return between(), _joined([p.detached() for p in problems], epsilon, side, **options)
    found: dict[int, Solution] = {}

    def work(share: Sequence[int]) -> None:
        for k in share:
            if k == BETWEEN:
                found[k] = between()
                continue
            problem = problems[k].detached()
            with problem.gone_through():
                found[k] = solve_symmetric(problem, epsilon, side, coarse=coarse[k], **options)

    apart = all(
        len(p.x) == 1 and p.ranks is None and not p.x.is_cuda and p.x.shape[-1] < WIDE
        for p in problems
    )
    apart = apart and max(pairs) <= APART and cores() <= CORES * len(problems)
    worth = min(pairs) // 4 if apart else 0
    beside = apart and cores() <= FEW and max(pairs) <= BESIDE
    if not beside:
        found[BETWEEN] = between()
    # The one between takes about as long as both others, so that two cores end together.
    run_tasks(work, [0, BETWEEN, 1] if beside else [0, 1], worth, flush=True)
    return found[BETWEEN], [found[0], found[1]]


def _joined(
    problems: Sequence[EntropicProblem], epsilon: Tensor, side: Marginal, **options: Any
) -> list[Solution]:
    """Solutions of problems of one shape, made as one batch."""
    x, a = (torch.cat([getattr(p, name) for p in problems]) for name in ("x", "a"))
    count, batch = len(problems), len(epsilon)
    joined = EntropicProblem(problems[0].ground, x, x, a, a)
    with problems[0].gone_through():
        all_of = solve_symmetric(joined, epsilon.repeat(count), side, **options)
    fields = (all_of.f, all_of.g, all_of.log_r, all_of.log_c, all_of.error)
    return [
        Solution(f, g, log_r, log_c, e, bool((e <= options["tolerance"]).all()), all_of.steps)
        for f, g, log_r, log_c, e in zip(*(z.split(batch) for z in fields), strict=True)
    ]


def solve_symmetric(
    problem: EntropicProblem,
    epsilon: Tensor,
    side: Marginal,
    *,
    tolerance: float,
    max_steps: int,
    backend: str,
    coarse: Coarse | None = None,
) -> Solution:
    """The problem from a measure to itself, where f = g: f ← (f + T f) / 2 converges fast.

    Args:
        problem: With y = x and b = a.
        epsilon: ε per batch entry.
        side: What both marginals owe a.
        tolerance: As in ``solve``.
        max_steps: As in ``solve``.
        backend: As in ``solve``.
        coarse: As in ``solve``.

    References:
        Feydy et al. (2019), "Interpolating between optimal transport and MMD using Sinkhorn
        divergences", eq. 25.
    """
    mass = problem.a.sum(-1)
    stages, coarse = [epsilon], coarse or own_clusters(coarsened(problem))[0]
    if coarse is None:
        stages = schedule(epsilon, mean_cost(problem))
        if type(problem.ground) is SqEuclidean:
            f = own_start(problem, stages[0])
        else:
            f = torch.zeros_like(problem.a)
        if side.reach is None:  # the diagonal alone, a² exp(2f/ε) ≤ a, bounds f
            f = torch.minimum(f, -0.5 * stages[0].unsqueeze(-1) * problem.a.log())
    else:
        few, groups = coarse
        near = max(SHARPER * tolerance, 1e-5)
        rough = solve_symmetric(
            few, epsilon, side, tolerance=near, max_steps=max_steps, backend="dense"
        )
        f = Update(side, epsilon)(refined(problem, few, groups, rough.f, rough.f, epsilon)[1])
    steps = 0
    contracting = side.reach is None and type(problem.ground) is SqEuclidean
    for stage in stages:
        last = stage is epsilon
        sweeper = make_sweeper(problem, stage, streamed_if_half(problem, tolerance, backend))
        eps = stage.unsqueeze(-1)
        update = Update(side, stage)
        goal = tolerance if last else max(tolerance, LOOSE)
        left = max_steps - steps if last else 10
        lowest, since, ahead = float("inf"), 0, _Chebyshev()
        for _ in range(max(1, left)):
            raw = sweeper.own_rows(f)
            image = update(raw)
            steps += 1
            miss = torch.expm1(((f - image) / eps).clamp(max=80.0))
            error = (problem.a * miss.abs()).sum(-1) / mass
            if contracting and bool((miss.abs() < NEAR).all()):
                # The next iterate's error: P is positive, so that its residual, that of this one
                # times (1 − P)/2, is at most half as long, and no L1 norm exceeds this one.
                error = error.minimum(0.5 * ((problem.a * miss.square()).sum(-1) / mass).sqrt())
            worst = float(error.max())
            slow = lowest < 1.0 and worst > SLOW * lowest and contracting
            since = 0 if worst < lowest else since + 1
            lowest = min(lowest, worst)
            done = worst <= goal or since >= STALLED
            if done:
                break
            f = f + ahead(image - f, slow and not since and bool((miss.abs() < SMALL).all()))
    if contracting and done:  # the mean of two potentials: each makes the other's marginal exact
        f = 0.5 * (f + image)
        log_r = torch.zeros_like(f)
    else:
        log_r = (f - (raw if done else sweeper.own_rows(f))) / eps
    converged = bool((error <= tolerance).all())
    return Solution(f, f, log_r, log_r, error, converged, steps)


class _Chebyshev:
    """Steps along residuals Tf − f = −(1 + P)(f − f*), where P is positive: spectrum in [1, 2].

    References:
        Saad (2003), "Iterative methods for sparse linear systems", Algorithm 12.1.
    """

    def __init__(self) -> None:
        self.step: Tensor | None = None
        self.rho = 0.0

    def __call__(self, residual: Tensor, linear: bool) -> Tensor:
        """The next step; half the residual where T is not linear yet."""
        middle, half = 1.5, 0.5
        if not linear:
            self.step = None
            return 0.5 * residual
        if self.step is None:
            self.rho = half / middle
            self.step = residual / middle
        else:
            before, self.rho = self.rho, 1.0 / (2.0 * middle / half - self.rho)
            self.step = self.rho * before * self.step + 2.0 * self.rho / half * residual
        return self.step
