"""Transport of a hundred thousand points in up to three dimensions, within a certified error."""

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from probmetrics._arrays import SamplesX, SamplesY, WeightsX, WeightsY, array_function
from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.transport.cells import near_pairs, parts, spatial_order
from probmetrics.transport.coincident import merged, told_apart
from probmetrics.transport.entropic import solve
from probmetrics.transport.envelope import Flows, priced, rooted
from probmetrics.transport.finishing import Level, finished
from probmetrics.transport.magnitude import magnitude
from probmetrics.transport.marginals import Marginal
from probmetrics.transport.plan import Transport
from probmetrics.transport.problem import SampleProblem
from probmetrics.transport.solving import answer, solve_samples
from probmetrics.transport.sweeps import EntropicProblem

COARSE = 1024  # clusters of the problem that is solved with all pairs
FACTOR = 4  # how many times more there are on the next level
TAIL = 5.0  # pairs whose density is below e^−TAIL of a full one are left out
BLURS = (2.0, 1.0)  # ε on each level, in units of the squared spacing of its points,
LAST_BLURS = (1.0, 0.5)  # and on the last
PASSES = 60  # at each; then the pairs that may carry mass are found anew
RELAXATION = 1.7
ABSORB = 20  # passes between which scalings are moved into the potentials
DIMENSIONS = 3
LARGEST = 2.0**508  # coordinate whose squared distances are finite


@array_function
def multiscale_transport(
    x: SamplesX,
    y: SamplesY,
    *,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = True,
    tolerance: float = 0.01,
) -> Transport:
    r"""Optimal transport for ‖x − y‖² between very many points in d ≤ 3, bounded from both sides.

    The plan is feasible, so its cost is an upper bound of W₂²; the potentials are feasible for all
    n·m pairs, so their value is a lower bound: cost − ``dual_gap`` ≤ W₂² ≤ cost.

    Args:
        x: Sample, shape (*batch, n, d), d ≤ 3.
        y: Sample, shape (*batch, m, d).
        a: Weights of x, shape (*batch, n), summing to one; uniform if None. Zeros are exact.
        b: Weights of y, shape (*batch, m).
        root: Whether ``value`` is W₂ or W₂²; ``cost`` and ``dual_gap`` are never rooted.
        tolerance: The gap that counts as converged, as a share of the cost's spread: of
            E‖x − y‖² over independent pairs, about their means.

    Returns:
        A ``Transport`` with a sparse plan of exact marginals, potentials and ``dual_gap``. Its
        ``value`` is that of the plan, with gradients by the envelope theorem, exact for the plan
        as it is.

    Raises:
        ValueError: More than three dimensions; coordinates whose squares overflow; samples or
            weights that do not fit.

    Warns:
        RuntimeWarning: The gap is above the tolerance; the bounds hold all the same.

    Example:
        >>> import torch
        >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
        >>> solved = multiscale_transport(x, x + 2.0)
        >>> bool(abs(solved.cost - 8.0) <= solved.dual_gap + 1e-5), solved.converged
        (True, True)

    Notes:
        Entropic transport between clusters, then between more and smaller ones, with ε of the
        order of their squared spacing; from level to level potentials are prolonged by a
        Sinkhorn update and only pairs that may carry mass are kept. On the last level linear
        programmes on these pairs, and on those that their potentials miss, make the plan; what
        no pair can carry is moved within the smallest cell that holds both ends. Pairs, and the
        certificate, are found by bounds on pairs of cells. Computed in float64 on the CPU. In
        one dimension sorting is exact and is used. Points that coincide are solved as one.

        Where points fall into islands (coarse lattices, clusters far apart) the gap is widest;
        where it matters there, use ``cost - dual_gap``, or ``exact_transport`` up to some 20,000
        points.

    References:
        Schmitzer (2019), "Stabilized sparse scaling algorithms for entropy regularized transport
        problems"; Mérigot (2011), "A multiscale approach to optimal transport".
    """
    problem = SampleProblem.admit(x, y, 2.0, None, a, b)
    d = problem.x.shape[-1]
    if d > DIMENSIONS:
        raise ValueError(
            f"x has d = {d}, and cells prune pairs in up to {DIMENSIONS} dimensions only; use "
            "sinkhorn(...), or exact_transport(...) up to some 20,000 points"
        )
    if d == 1:
        return solve_samples(problem, root=root, certified=True)
    size = _unit(problem)
    points = [
        (z.detach() / size[..., None, None]).cpu().reshape(-1, *z.shape[-2:])
        for z in problem.points
    ]
    weights = problem.weights()
    masses = [w.detach().cpu().reshape(-1, w.shape[-1]) for w in weights]
    solved = [_solve(*each) for each in zip(*points, *masses, strict=True)]
    width = max(part.mass.numel() for part in solved)

    def stacked(tensors: list[Tensor]) -> Tensor:
        padded = [torch.nn.functional.pad(z, (0, width - z.numel())) for z in tensors]
        return torch.stack(padded).reshape((*problem.batch, width)).to(x.device)

    def shaped(tensors: list[Tensor]) -> Tensor:
        found = torch.stack(tensors)
        return found.reshape((*problem.batch, *found.shape[1:])).to(x.device)

    flows = Flows(
        rows=stacked([part.rows for part in solved]),
        columns=stacked([part.columns for part in solved]),
        mass=stacked([part.mass for part in solved]),
        f=shaped([part.f for part in solved]),
        g=shaped([part.g for part in solved]),
        dual=shaped([part.dual for part in solved]),
        converged=True,
        steps=max(part.steps for part in solved),
    )
    paid = (flows.mass * _paid(problem, flows, size)).sum(-1)
    total = paid + priced(weights[0], flows.f) + priced(weights[1], flows.g)
    gap = total.detach() - flows.dual
    allowed = tolerance * shaped([part.spread for part in solved])
    largest = flows.f.abs().amax(-1) + flows.g.abs().amax(-1)
    rounding = 1e-12 * total.detach().abs() + 1e-14 * largest
    flows = flows._replace(converged=bool((gap <= allowed + rounding).all()))
    square = size.square()
    if not flows.converged:
        wide, narrow = float((gap * square).max()), float((allowed * square).min())
        warnings.warn(
            f"the bounds of the transport cost differ by {wide:.3g}, more than the "
            f"tolerance ({narrow:.3g}); both hold, see Transport.dual_gap",
            RuntimeWarning,
            stacklevel=3,
        )
    value = (size * rooted(total, 2.0, True) if root else square * total).to(x.dtype)
    total, square = square * total, square.unsqueeze(-1)
    flows = flows._replace(f=square * flows.f, g=square * flows.g, dual=size.square() * flows.dual)
    return answer(value, total, flows, problem.coupling(flows, total), weights)


def _unit(problem: SampleProblem) -> Tensor:
    """The unit each problem is solved in, (*batch): costs are homogeneous of degree two."""
    size = magnitude(*(z.detach() for z in problem.points))
    if bool((size > LARGEST).any()):
        raise ValueError(
            f"coordinates reach {float(size.max()):.3g}, and squared distances beyond the largest "
            "number in float64; divide x and y by one number first"
        )
    return size


def _paid(problem: SampleProblem, flows: Flows, size: Tensor) -> Tensor:
    """The cost of each pair that carries mass, in units of ``size``², differentiable."""
    ends = []
    for z, index in zip(problem.points, (flows.rows, flows.columns), strict=True):
        ends.append(z.gather(-2, index.unsqueeze(-1).expand(*index.shape, z.shape[-1])))
    return ((ends[0] - ends[1]) / size[..., None, None]).square().sum(-1)


class _Part(NamedTuple):
    """One problem solved."""

    rows: Tensor
    columns: Tensor
    mass: Tensor
    f: Tensor
    g: Tensor
    dual: Tensor
    spread: Tensor
    steps: int


def _solve(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> _Part:
    """Between the distinct points; what coincides shares their potentials and their flows."""
    left, right = merged(x, a), merged(y, b)
    part = _solve_distinct(left.points, right.points, left.mass, right.mass)
    plan = (part.rows, part.columns, part.mass)
    rows, columns, mass = told_apart(plan, left, right, (a, b))
    f, g = part.f[left.owner], part.g[right.owner]
    return part._replace(rows=rows, columns=columns, mass=mass, f=f, g=g)


def _solve_distinct(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> _Part:
    """Coarse to fine on points with mass, then a plan with exact marginals, then the proof."""
    keep = [w.nonzero().squeeze(1) for w in (a, b)]
    keep = [k[spatial_order(z[k])] for k, z in zip(keep, (x, y), strict=True)]
    p, q = a[keep[0]], b[keep[1]]
    means = [_mean(z[k], w) for z, k, w in ((x, keep[0], p), (y, keep[1], q))]
    u, v = x[keep[0]] - means[0], y[keep[1]] - means[1]
    size = float(magnitude(u, v))  # points may be close together and far from the others
    u, v = u / size, v / size
    gap = means[0] - means[1]
    spread = float(p @ u.square().sum(1) + q @ v.square().sum(1))
    level, plan, epsilon, steps = _descend(u, v, p, q, spread)
    i, j, mass, f, g = finished(level, plan, epsilon, spread)
    # ‖x − y‖² = ‖u − v‖² + 2⟨u, gap⟩ − 2⟨v, gap⟩ + ‖gap‖²
    half = 0.5 * gap.square().sum()
    full_f, full_g = torch.zeros_like(a), torch.zeros_like(b)
    full_f[keep[0]] = size * (size * f + 2.0 * (level.x @ gap)) + half
    full_g[keep[1]] = size * (size * g - 2.0 * (level.y @ gap)) + half
    _fill(x, y, full_f, full_g, keep)
    shift = 0.5 * (a @ full_f - b @ full_g)
    full_f, full_g = full_f - shift, full_g + shift
    dual = a @ full_f + b @ full_g
    scatter = dual.new_tensor(size * size * spread)
    return _Part(keep[0][i], keep[1][j], mass, full_f, full_g, dual, scatter, steps)


def _mean(z: Tensor, w: Tensor) -> Tensor:
    """The mean, which for one point is that point to the last digit."""
    return z[0] + (w.unsqueeze(1) * (z - z[0])).sum(0)


def _descend(
    x: Tensor, y: Tensor, a: Tensor, b: Tensor, spread: float
) -> tuple[Level, tuple[Tensor, Tensor, Tensor], float, int]:
    """Potentials from the coarsest clusters down to the points, and the pairs of the last plan."""
    n, m = a.numel(), b.numel()
    d = x.shape[1]
    sizes = [COARSE]
    while sizes[-1] * FACTOR * 2 < max(n, m):
        sizes.append(sizes[-1] * FACTOR)
    level, steps, before = None, 0, COARSE
    for k, count in enumerate([*sizes, max(n, m)]):
        last = k == len(sizes)
        (cx, ca), (cy, cb) = (
            _clusters(z, w, _groups(w.numel(), w.numel() if last else count))
            for z, w in ((x, a), (y, b))
        )
        spacing = (spread if spread > 1e-200 else 1.0) * min(ca.numel(), cb.numel()) ** (-2.0 / d)
        if level is None:
            level = _coarsest(cx, cy, ca, cb, spacing)
        else:
            owners = _owner(x.shape[0], before, ca.numel()), _owner(y.shape[0], before, cb.numel())
            level = _prolonged(level, plan, epsilon, (cx, cy), (ca, cb), owners)
        for blur in LAST_BLURS if last else BLURS:
            epsilon = blur * spacing
            level, plan, made = _scaled(level, epsilon)
            steps += made
        before = count
    assert level is not None
    return level, plan, epsilon, steps


def _groups(size: int, count: int) -> Tensor:
    """To which of ``count`` runs each of ``size`` points in spatial order belongs."""
    if count >= size:
        return torch.arange(size)
    sizes = torch.diff(parts(size, count))
    return torch.repeat_interleave(torch.arange(count), sizes)


def _owner(size: int, count: int, finer: int) -> Tensor:
    """Which of ``count`` runs each of the ``finer`` runs of points lies in."""
    coarse, fine = _groups(size, count), _groups(size, finer)
    return torch.zeros(finer, dtype=torch.int64).scatter(0, fine, coarse)


def _clusters(z: Tensor, w: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Centroids and masses of the groups."""
    count = int(group[-1]) + 1
    mass = w.new_zeros(count).index_add(0, group, w)
    centre = z.new_zeros(count, z.shape[1]).index_add(0, group, w.unsqueeze(1) * z)
    return centre / mass.unsqueeze(1), mass


def _coarsest(x: Tensor, y: Tensor, a: Tensor, b: Tensor, epsilon: float) -> Level:
    """All pairs of few clusters."""
    problem = EntropicProblem(SqEuclidean(), x[None], y[None], a[None], b[None])
    sides = (Marginal(), Marginal())
    eps = torch.tensor([epsilon], dtype=torch.float64)
    found = solve(problem, eps, sides, tolerance=1e-2, max_steps=200, backend="dense")
    return Level(x, y, a, b, found.f[0], found.g[0])


def _prolonged(
    level: Level,
    plan: tuple[Tensor, Tensor, Tensor],
    epsilon: float,
    points: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
    owners: tuple[Tensor, Tensor],
) -> Level:
    """Potentials of finer clusters: Sinkhorn's updates over the clusters their owners reach."""
    found = []
    for k, (z, owner) in enumerate(zip(points, owners, strict=True)):
        mine, theirs = plan[k], plan[1 - k]
        far, potential, mass = ((level.y, level.g, level.b), (level.x, level.f, level.a))[k]
        order = mine.argsort(stable=True)
        counts = torch.bincount(mine, minlength=int(owner.max()) + 1)
        starts = counts.cumsum(0) - counts
        each = counts[owner]
        rows = torch.repeat_interleave(torch.arange(owner.numel()), each)
        place = torch.arange(rows.numel()) - (each.cumsum(0) - each)[rows]
        ends = theirs[order[starts[owner[rows]] + place]]
        cost = (z[rows] - far[ends]).square().sum(1)
        exponent = (potential[ends] - cost) / epsilon + mass[ends].log()
        top = torch.full((owner.numel(),), -torch.inf).double()
        top = top.scatter_reduce(0, rows, exponent, "amax")
        total = torch.zeros_like(top).index_add(0, rows, (exponent - top[rows]).exp())
        found.append(-epsilon * (top + total.log()))
    return Level(*points, *weights, *found)


def _scaled(level: Level, epsilon: float) -> tuple[Level, tuple[Tensor, Tensor, Tensor], int]:
    """Sinkhorn at ε on the pairs that may carry mass."""
    from scipy.sparse import csr_array

    i, j, cost = _candidates(level, epsilon)
    order = torch.argsort(i, stable=True)
    i, j, cost = i[order], j[order], cost[order]
    n, m = level.a.numel(), level.b.numel()
    starts = torch.cat([torch.zeros(1).long(), torch.bincount(i, minlength=n).cumsum(0)])
    a, b = level.a.numpy(), level.b.numpy()
    f, g = level.f, level.g
    shape, places = (n, m), (j.int().numpy(), starts.int().numpy())
    tiny = 1e-300
    for block in range(PASSES // ABSORB):
        top = torch.full((n,), -torch.inf).double().scatter_reduce(0, i, g[j] - cost, "amax")
        f = -top  # keeps every row's largest entry at its weight
        density = ((f[i] + g[j] - cost) / epsilon).exp_().numpy()
        kernel = csr_array((density, *places), shape=shape)
        back = kernel.T
        log_r, log_s = np.zeros(n), np.zeros(m)
        for step in range(ABSORB):
            # Over-relaxed but at both ends (Lehmann et al. 2021): first and last pass are exact.
            push = RELAXATION if block and 0 < step < ABSORB - 1 else 1.0
            exact = -np.log(np.maximum(kernel @ (b * np.exp(log_s)), tiny))
            log_r += push * (exact - log_r)
            exact = -np.log(np.maximum(back @ (a * np.exp(log_r)), tiny))
            log_s = np.clip(log_s + push * (exact - log_s), -50.0, 50.0)
        g = g + epsilon * torch.from_numpy(log_s)
        f = f + epsilon * torch.from_numpy(log_r)
    scaled = ((f[i] + g[j] - cost) / epsilon).clamp_(max=50.0).exp_()
    mass = level.a[i] * level.b[j] * scaled
    return level._replace(f=f, g=g), (i, j, mass), PASSES


def _candidates(level: Level, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs whose density exp((f + g − C)/ε) is not negligible; each point has at least one."""
    x, y, f, g = level.x, level.y, level.f, level.g
    full = max(float(level.a.max()), float(level.b.max()))
    cut = epsilon * (TAIL + math.log(full))
    i, j, cost = near_pairs(x, y, f, g, cut)
    lost = [
        (torch.bincount(k, minlength=w.numel()) == 0).nonzero().squeeze(1)
        for k, w in ((i, f), (j, g))
    ]
    pieces = []
    for rows, z, w, h, flip in ((lost[0], x, y, g, False), (lost[1], y, x, f, True)):
        for some in rows.split(256):
            all_costs = (z[some].unsqueeze(1) - w).square().sum(-1)
            near = (all_costs - h).topk(min(4, h.numel()), 1, largest=False).indices
            ends = some.unsqueeze(1).expand_as(near).reshape(-1), near.reshape(-1)
            ends = (ends[1], ends[0]) if flip else ends
            pieces.append((*ends, all_costs.gather(1, near).reshape(-1)))
    if not pieces:
        return i, j, cost
    more_i, more_j, more = (torch.cat(columns) for columns in zip(*pieces, strict=True))
    _, first = np.unique((more_i * g.numel() + more_j).numpy(), return_index=True)
    one = torch.from_numpy(first)  # of the pairs of which both ends were lost
    return torch.cat([i, more_i[one]]), torch.cat([j, more_j[one]]), torch.cat([cost, more[one]])


def _fill(x: Tensor, y: Tensor, f: Tensor, g: Tensor, keep: list[Tensor]) -> None:
    """Potentials of points without mass, in place: the price at which they would be used."""
    rest = torch.ones_like(g, dtype=torch.bool)
    rest[keep[1]] = False
    for some in rest.nonzero().squeeze(1).split(256):
        gap = (y[some].unsqueeze(1) - x[keep[0]]).square().sum(-1)
        g[some] = (gap - f[keep[0]]).amin(1)
    rest = torch.ones_like(f, dtype=torch.bool)
    rest[keep[0]] = False
    for some in rest.nonzero().squeeze(1).split(256):
        f[some] = ((x[some].unsqueeze(1) - y).square().sum(-1) - g).amin(1)
