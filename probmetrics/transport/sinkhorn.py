"""Entropic optimal transport by Sinkhorn's algorithm, and the debiased divergence made of it."""

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, Values, WeightsX, WeightsY, array_function
from probmetrics.pairwise import sharded
from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.ground import AbstractGround, some_rows
from probmetrics.pairwise.ranks import Sharded
from probmetrics.transport.entropic import Solution, solve
from probmetrics.transport.entropic_plan import EntropicCoupling, EntropicTransport
from probmetrics.transport.entropic_problem import EntropicProblem, mean_cost
from probmetrics.transport.entropic_value import dual_value, envelope, moving, primal_value
from probmetrics.transport.envelope import unit
from probmetrics.transport.fused_sweeps import why_not_fused
from probmetrics.transport.marginals import Marginal, marginals
from probmetrics.transport.plan import Transport
from probmetrics.transport.starting import coarsened, own_clusters
from probmetrics.transport.symmetric import solve_each

SHARE = 0.05  # ε for None: this share of the mean cost
FINEST = 4.0  # smallest ε, in units of rounding at the mean cost
COARSEST = 1e8  # largest ε, in mean costs: the plan is a⊗b to as many digits
LOOKS = 64  # points of each sample that tell a cost's sign,
ROUNDING = 1e-3  # up to this share of the largest
BACKENDS = ("auto", "dense", "tiled", "fused")


@array_function
def sinkhorn(
    x: SamplesX,
    y: SamplesY,
    *,
    epsilon: float | None = None,
    cost: AbstractGround | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    reach: Any = None,
    penalty: str = "kl",
    tolerance: float = 1e-4,
    max_steps: int = 1000,
    backend: sharded.Backend = "auto",
    start: Transport | None = None,
) -> EntropicTransport:
    """Entropic optimal transport, min_P ⟨P, C⟩ + ε KL(P‖a⊗b) over plans with marginals a and b.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        epsilon: ε, in units of the cost; None is 0.05 of the mean cost of each problem, taken as
            a constant by gradients. Without ``reach``, one above 1e8 mean costs is taken as that,
            where the plan is a⊗b to as many digits.
        cost: A cost of ``probmetrics.pairwise.costs``; None is ‖x − y‖² (not halved).
        a: Weights of x, shape (*batch, n); None is uniform. They sum to one, unless ``reach``
            relaxes the marginals.
        b: Weights of y, shape (*batch, m).
        reach: None asks for exact marginals. A number, in units of the cost, replaces them by a
            penalty reach · KL(P1‖a) and the same for b: mass is destroyed where moving it would
            cost much more than reach. A pair sets the two sides apart (None is exact).
            GeomLoss's reach is the square root of this one for p = 2.
        penalty: "kl", or "tv" for reach · ‖P1 − a‖₁.
        tolerance: Largest L1 error of the marginals, relative to the mass.
        max_steps: Most passes over the pairs.
        backend: "dense" keeps the kernel in memory, "tiled" recomputes it in memory linear in
            n + m, "fused" does so in the registers of a CUDA device, "auto" chooses by size and
            device. ``Sharded(...)``: x, y, a and b are this rank's parts;
            every rank holds the points of all, makes its share of each pass, and gets the
            solution for all points in the order of the ranks.
        start: An earlier solution between as many points, whose potentials to start from.

    Returns:
        An ``EntropicTransport``: ``value`` is that of the dual, shape (*batch), differentiable
        in x, y, a, b; ``entropic_value`` the plan's objective; ``cost`` is ⟨P, C⟩.

    Raises:
        ValueError: ε not above zero or too small for the dtype; weights that do not sum to one
            without ``reach``, a cost below zero with it; a cost that is no single profile.

    Warns:
        RuntimeWarning: The tolerance was not reached; the best iterate is returned.

    Notes:
        One exponential per pair and pass. Passes are extrapolated (Anderson); an ε far below the
        mean cost is approached from above and finished by quasi-Newton steps on the semi-dual.
        Gradients are exact at the optimum (envelope theorem) and cost one more pass at most where
        the cost is ‖x − y‖², else one per side.

    References:
        Cuturi (2013), "Sinkhorn distances"; Peyré & Cuturi (2019), "Computational optimal
        transport", Section 4; Chizat et al. (2018) for relaxed marginals.

    Example:
        >>> solved = sinkhorn([[0.0], [1.0]], [[0.0], [1.0]], epsilon=0.1, tolerance=1e-9)
        >>> round(solved.cost, 6), solved.converged
        (4.5e-05, True)
    """
    task = admit(x, y, epsilon, cost, a, b, reach, penalty, tolerance, max_steps, backend)
    with task.problem.gone_through():
        solution = solve(
            task.problem.detached(),
            task.epsilon,
            task.sides,
            tolerance=tolerance,
            max_steps=max_steps,
            backend=task.backend,
            start=_potential(start, task),
            moving=moving(task.problem),
            scale=task.scale,
        )
        warn_unless_converged(solution, tolerance)
        value = dual_value(task.problem, solution, task.epsilon, task.sides)
        gap = primal_value(task.problem, solution, task.epsilon, task.sides) - value
        value = task.once(envelope(task.problem, solution, task.epsilon, task.sides, value))

    def shaped(z: Tensor) -> Tensor:
        return z.reshape((*task.batch, *z.shape[1:])).to(task.dtype)

    return EntropicTransport(
        value=shaped(value),
        f=shaped(solution.f),
        g=shaped(solution.g),
        converged=solution.converged,
        steps=solution.steps,
        marginal_error=shaped(solution.error),
        dual_gap=shaped(gap),
        coupling=EntropicCoupling(
            task.problem.detached(), solution.f, solution.g, task.epsilon, task.batch, task.points
        ),
        epsilon=shaped(task.epsilon),
    )


@array_function
def sinkhorn_divergence(
    x: SamplesX,
    y: SamplesY,
    *,
    epsilon: float | None = None,
    cost: AbstractGround | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    reach: Any = None,
    penalty: str = "kl",
    tolerance: float = 1e-4,
    max_steps: int = 1000,
    backend: sharded.Backend = "auto",
) -> Values:
    """Sinkhorn divergence, OT_ε(a, b) − ½ OT_ε(a, a) − ½ OT_ε(b, b), debiased entropic transport.

    Zero between equal samples; for ε → 0 the transport cost, for ε → ∞ an MMD with kernel −C/2.
    With relaxed marginals ε/2 (mass of a − mass of b)² is added.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        epsilon: As in ``sinkhorn``; None is 0.05 of the mean cost between x and y.
        cost: A symmetric cost, zero or more and zero for staying; None is ‖x − y‖².
        a: Weights of x.
        b: Weights of y.
        reach: As in ``sinkhorn``, one number for both sides.
        penalty: "kl" or "tv".
        tolerance: As in ``sinkhorn``.
        max_steps: As in ``sinkhorn``, for each of the three problems.
        backend: As in ``sinkhorn``.

    Returns:
        The divergence in units of the cost, shape (*batch); zero or more up to the tolerance.

    Raises:
        ValueError: As ``sinkhorn``; a cost below zero, or above it from a point to itself.

    References:
        Feydy et al. (2019), "Interpolating between optimal transport and MMD using Sinkhorn
        divergences", eq. 3; Séjourné et al. (2019), eq. 17, for relaxed marginals.

    Example:
        >>> round(sinkhorn_divergence([[0.0], [1.0]], [[2.0], [3.0]], epsilon=0.01), 4)
        4.0
    """
    if isinstance(reach, tuple | list):
        raise ValueError(f"the divergence treats both sides alike; pass one reach, got {reach!r}")
    task = admit(x, y, epsilon, cost, a, b, reach, penalty, tolerance, max_steps, backend)
    options: dict[str, Any] = {
        "tolerance": tolerance,
        "max_steps": max_steps,
        "backend": task.backend,
    }
    p, sides = task.problem, task.sides
    _priced(p, "the divergence", own=True)
    with p.gone_through():
        clusters = coarsened(p.detached())
        known: dict[str, Any] = {"scale": task.scale, "coarse": clusters, "moving": moving(p)}
        ends = ((p.x, p.a), (p.y, p.b))
        owns = [EntropicProblem(p.ground, z, z, w, w, p.ranks) for z, w in ends]
        solution, alone = solve_each(
            owns,
            task.epsilon,
            sides[0],
            own_clusters(clusters),
            lambda: solve(p.detached(), task.epsilon, sides, **known, **options),
            **options,
        )
        worst = max((solution, *alone), key=lambda one: float(one.error.max()))
        warn_unless_converged(worst, tolerance)
        value = dual_value(p, solution, task.epsilon, sides)
        total = envelope(p, solution, task.epsilon, sides, value)
        for own, solution in zip(owns, alone, strict=True):
            value = dual_value(own, solution, task.epsilon, sides)
            total = total - 0.5 * envelope(own, solution, task.epsilon, sides, value)
    if reach is not None:
        total = total + 0.5 * task.epsilon * (p.a.sum(-1) - p.b.sum(-1)).square()
    return task.once(total).reshape(task.batch).to(task.dtype)


class Task(NamedTuple):
    """A checked problem, its batch flattened."""

    problem: EntropicProblem
    epsilon: Tensor  # (B,)
    scale: Tensor  # mean cost, (B,)
    sides: tuple[Marginal, Marginal]
    batch: tuple[int, ...]
    points: tuple[Tensor, Tensor]  # as given, flattened, without features
    backend: str

    @property
    def dtype(self) -> torch.dtype:
        """That of the answers: the wider one of the samples'."""
        return self.points[0].dtype

    def once(self, value: Tensor) -> Tensor:
        """A value that every rank holds, where there are ranks."""
        return value if self.problem.ranks is None else self.problem.ranks.once(value)


def admit(
    x: Tensor,
    y: Tensor,
    epsilon: float | None,
    cost: AbstractGround | None,
    a: Tensor | None,
    b: Tensor | None,
    reach: Any,
    penalty: str,
    tolerance: float,
    max_steps: int,
    backend: sharded.Backend,
) -> Task:
    """Check everything a user may have got wrong."""
    checks.positive(tolerance, "tolerance")
    checks.count(max_steps, "max_steps")
    ranks = backend if isinstance(backend, Sharded) else None
    local = checks.choice(backend, "backend", BACKENDS) if isinstance(backend, str) else "tiled"
    if ranks is None:
        x, y = checks.samples(x, y)
    else:
        x, y, a, b = sharded.whole(x, y, a, b, ranks)
    sides = marginals(reach, penalty)
    ground, fx, fy = _embedded(SqEuclidean() if cost is None else cost, x, y)
    weigh = [checks.weights if side.reach is None else checks.measure for side in sides]
    weights = []
    for w, z, check, side, name in zip((a, b), (x, y), weigh, sides, ("a", "b"), strict=True):
        full = checks.weights(None, z).double() if w is None else check(w, z, name).double()
        weights.append(unit(full) if side.reach is None else full)
    shapes = [x.shape[:-2], y.shape[:-2], *(w.shape[:-1] for w in weights)]
    for shape in shapes[1:]:
        checks.broadcastable(shapes[0], shape, ("x", "the other arguments"))
    batch = checks.filled(torch.broadcast_shapes(*shapes))

    def flat(z: Tensor, inner: int) -> Tensor:
        tail = z.shape[z.ndim - inner :]
        return z.expand(*batch, *tail).reshape(-1, *tail)

    same = fy is fx and a is b and sides[0] == sides[1]  # then the plan is symmetric
    points = flat(fx, 2)
    problem = EntropicProblem(
        ground,
        points,
        points if same else flat(fy, 2),
        flat(weights[0], 1),
        flat(weights[1], 1),
        ranks,
    )
    if backend == "fused" and (reason := why_not_fused(problem)) is not None:
        raise ValueError(f"{reason}; use backend='tiled' (or 'auto')")
    given = (flat(x.detach(), 2), flat(y.detach(), 2))
    scale = mean_cost(problem.detached())
    if any(side.reach is not None for side in sides):
        _priced(problem, "destroying mass")
    eps = chosen_epsilon(epsilon, problem, scale)
    if all(side.reach is None for side in sides):  # above, ε log(1 + C/ε) would be rounding
        eps = torch.where(scale > 0, eps.minimum(COARSEST * scale), eps)
    return Task(problem, eps, scale, sides, batch, given, local)


def _embedded(cost: AbstractGround, x: Tensor, y: Tensor) -> tuple[AbstractGround, Tensor, Tensor]:
    if not isinstance(cost, AbstractGround):
        raise TypeError(
            f"cost must be a ground of probmetrics.pairwise.costs, got {type(cost).__name__}"
        )
    if cost.geometry is None or cost.has_offset or any(True for _ in cost.tensors()):
        raise ValueError(
            f"{cost!r} is not one profile of one geometry with numeric parameters, which entropic "
            "transport needs; use a cost such as SqEuclidean(), Euclidean(), PNorm() or Cosine()"
        )
    half = x.dtype in (torch.float16, torch.bfloat16)
    fx, fy = (cost.embed(z.float() if half else z) for z in (x, y))
    return cost, fx, fy


def _priced(problem: EntropicProblem, what: str, *, own: bool = False) -> None:
    """Refuse a cost below zero, and, for ``own``, one that staying has: told from some points."""
    if type(problem.ground) is SqEuclidean:
        return
    some = [some_rows(z.detach(), LOOKS) for z in (problem.x, problem.y)]
    costs = problem.ground.on_features(*some)
    staying = problem.ground.between_features(some[0], some[0])
    slack = ROUNDING * float(costs.abs().max())
    if float(costs.min()) < -slack or (own and float(staying.abs().max()) > slack):
        raise ValueError(
            f"{problem.ground!r} takes values down to {float(costs.min()):.3g}"
            f" and {float(staying.max()):.3g} from a point to itself: {what} needs a cost that is "
            "zero or more, and zero for staying, such as SqEuclidean(), Euclidean() or PNorm()"
        )


def chosen_epsilon(epsilon: float | None, problem: EntropicProblem, typical: Tensor) -> Tensor:
    """ε per batch entry, refused where rounding of the costs, ``typical`` ones, would drown it."""
    if epsilon is None:
        return torch.where(typical > 0, SHARE * typical, 1.0)
    value = checks.positive(epsilon, "epsilon")
    smallest = FINEST * torch.finfo(problem.x.dtype).eps * float(typical.max())
    if value < smallest:
        raise ValueError(
            f"epsilon={value:.3g} is too small for {problem.x.dtype} data with a mean cost of "
            f"{float(typical.max()):.3g}: the smallest safe value is {smallest:.3g}; pass float64 "
            "data, or use wasserstein(...) for epsilon = 0"
        )
    return torch.full_like(typical, value)


def _potential(start: Any, task: Task) -> Tensor | None:
    if start is None:
        return None
    if not isinstance(start, Transport):
        raise TypeError(f"start must be what sinkhorn returns, got {type(start).__name__}")
    g = torch.as_tensor(start.g, dtype=torch.float64, device=task.problem.x.device)
    m = task.problem.b.shape[-1]
    if g.shape[-1:] != (m,) or g.shape[:-1] != task.batch:
        raise ValueError(
            f"start has potentials of shape {tuple(g.shape)}, wanted {(*task.batch, m)}; "
            "it must come from a problem with as many points and the same batch"
        )
    return g.reshape(-1, m)


def warn_unless_converged(solution: Solution, tolerance: float) -> None:
    """Tell once that the marginals are not as accurate as was asked for."""
    if solution.converged:
        return
    warnings.warn(
        f"Sinkhorn stopped after {solution.steps} passes with a marginal error of "
        f"{float(solution.error.max()):.3g}, above the tolerance {tolerance:g}; the best iterate "
        "is returned. Raise max_steps, tolerance or epsilon",
        RuntimeWarning,
        stacklevel=4,
    )
