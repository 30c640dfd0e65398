"""Entropic Wasserstein barycentres, of histograms on fixed bins and of samples with free points."""

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import array_function
from probmetrics.transport.envelope import unit
from probmetrics.transport.sinkhorn import sinkhorn

if TYPE_CHECKING:
    Histograms = Any
    Costs = Any
    Measures = Any
    Masses = Any
    Shares = Any
    Points = Any
else:
    Histograms = Float[Tensor, "*#batch k n"]
    Costs = Float[Tensor, "n l"]
    Measures = Float[Tensor, "*batch k n d"]
    Masses = Float[Tensor, "*#batch k n"]
    Shares = Float[Tensor, "*#batch k"]
    Points = Float[Tensor, "*#batch l d"]

SHARE = 0.05  # ε for None: this share of the mean cost


@dataclass(frozen=True)
class EntropicBarycenter:
    """A barycentre and how it was found.

    Attributes:
        weights: Masses of its points or bins, shape (*batch, l).
        points: Its points, shape (*batch, l, d); None for histograms.
        converged: Whether the tolerance was met in every problem of the batch.
        steps: Iterations made.
        error: What the tolerance was asked of, shape (*batch).
        epsilon: ε used, in units of the cost, shape (*batch).
    """

    weights: Any
    points: Any
    converged: bool
    steps: int
    error: Any
    epsilon: Any


@array_function
def sinkhorn_barycenter(
    p: Histograms,
    cost: Costs,
    *,
    weights: Shares | None = None,
    epsilon: float | None = None,
    debiased: bool = True,
    normalize: bool = False,
    tolerance: float = 1e-6,
    max_steps: int = 2000,
) -> EntropicBarycenter:
    r"""Entropic Wasserstein barycentre of histograms, on bins that stay where they are.

    .. math:: \arg\min_q \sum_k w_k S_\varepsilon(p_k, q)

    with the Sinkhorn divergence S_ε where ``debiased``, else with OT_ε whose entropy is relative
    to p_k ⊗ (one per bin), the barycentre of iterative Bregman projections: blurred by about √ε.

    Args:
        p: Probability vectors, shape (*batch, k, n): k histograms each. Zeros are allowed.
        cost: Cost between their bins and those of the barycentre, shape (n, l); square and
            symmetric where ``debiased``. For points z take ``SqEuclidean()(z)``.
        weights: w, shape (*batch, k), summing to one; uniform if None.
        epsilon: ε in units of the cost; None is 0.05 of the mean cost between all bins, which
            for a fine grid is a wide blur.
        debiased: Remove the blur.
        normalize: Divide the histograms by their sums.
        tolerance: Largest L1 difference between the barycentre and its marginals in the k plans,
            averaged by w, in the plan onto itself where debiased, and between two of its iterates.
        max_steps: Most iterations.

    Returns:
        An ``EntropicBarycenter`` with ``weights`` of shape (*batch, l), no graph.

    Raises:
        ValueError: Histograms or weights that are no probabilities; a cost of another shape, or
            not symmetric where debiased; ε too small for float64.

    Warns:
        RuntimeWarning: The tolerance was not met; the last iterate is returned.

    Notes:
        In the log domain and float64: k·n·l exponentials twice per iteration, in memory for one
        problem's k·n·l numbers. Debiasing undoes a blur, which is ill-posed: of details finer than
        √ε, S_ε tells next to nothing, and iterations find them slowly or stop short of them.

    References:
        Benamou et al. (2015), "Iterative Bregman projections for regularized transportation
        problems", Proposition 2; Janati, Cuturi & Gramfort (2020), "Debiased Sinkhorn
        barycenters", Algorithm 1.

    Example:
        >>> import numpy as np
        >>> bins = np.arange(5.0)
        >>> p = np.array([[1.0, 0, 0, 0, 0], [0, 0, 0, 0, 1.0]])
        >>> sinkhorn_barycenter(p, (bins[:, None] - bins) ** 2, epsilon=0.1).weights.round(3)
        array([0., 0., 1., 0., 0.])
    """
    if p.ndim < 2:
        raise ValueError(f"p must have shape (*batch, k, n), got {tuple(p.shape)}")
    p = checks.probabilities(p, normalize=normalize).detach()
    cost = _square_cost(p, cost, debiased)
    weights = _shares(weights, p.shape[-2], p).detach()
    checks.positive(tolerance, "tolerance")
    checks.count(max_steps, "max_steps")
    batch = torch.broadcast_shapes(p.shape[:-2], weights.shape[:-1])
    eps = _fixed_epsilon(epsilon, cost)
    log_p = unit(p).log().expand(*batch, *p.shape[-2:])
    w = unit(weights).expand(*batch, weights.shape[-1]).unsqueeze(-1)
    log_q, error, steps = _projected(log_p, -cost / eps, w, debiased, tolerance, max_steps)
    converged = bool((error <= tolerance).all())
    if not converged:
        _warn(steps, float(error.max()), tolerance)
    return EntropicBarycenter(
        weights=log_q.exp().to(p.dtype),
        points=None,
        converged=converged,
        steps=steps,
        error=error.to(p.dtype),
        epsilon=torch.full(batch, eps, dtype=p.dtype, device=p.device),
    )


def _projected(
    log_p: Tensor, kernel: Tensor, w: Tensor, debiased: bool, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor, int]:
    """Bregman projections in the log domain: the log barycentre, its error, iterations made."""
    size = kernel.shape[-1]
    v = log_p.new_zeros(*log_p.shape[:-1], size)  # log scalings on the barycentre's side
    blur = log_p.new_zeros(*log_p.shape[:-2], size)  # the log of the debiasing d
    log_q = log_p.new_full((*log_p.shape[:-2], size), -math.log(size))
    steps = 0
    while steps < max_steps:
        steps += 1
        u = log_p - torch.logsumexp(kernel + v.unsqueeze(-2), -1)
        reached = torch.logsumexp(kernel.T + u.unsqueeze(-2), -1)  # log Kᵀ u
        before = log_q.exp()
        log_q = blur + (w * reached).sum(-2)
        log_q = log_q - torch.logsumexp(log_q, -1, keepdim=True)
        q = log_q.exp()
        missed = ((v + reached).exp() - q.unsqueeze(-2)).abs().sum(-1)
        error = torch.maximum((w.squeeze(-1) * missed).sum(-1), (q - before).abs().sum(-1))
        if debiased:
            smooth = torch.logsumexp(kernel + blur.unsqueeze(-2), -1)
            error = error.maximum(((blur + smooth).exp() - q).abs().sum(-1))
        if bool((error <= tolerance).all()):
            break
        v = log_q.unsqueeze(-2) - reached
        if debiased:
            blur = 0.5 * (blur + log_q - smooth)
    return log_q, error, steps


@array_function
def sinkhorn_barycenter_points(
    x: Measures,
    *,
    a: Masses | None = None,
    weights: Shares | None = None,
    size: int | None = None,
    start: Points | None = None,
    epsilon: float | None = None,
    debiased: bool = True,
    tolerance: float = 1e-4,
    max_steps: int = 200,
    generator: torch.Generator | int | None = None,
) -> EntropicBarycenter:
    r"""Entropic Wasserstein barycentre of samples for ‖x − y‖², by points that move.

    .. math:: \arg\min_z \sum_k w_k S_\varepsilon(x_k, z), \qquad z_i \leftarrow z_i
              + \sum_k w_k T_{z \to x_k}(z_i) - T_{z \to z}(z_i)

    T being barycentric maps of entropic plans; the step is the gradient, per unit of mass, halved.
    Without ``debiased`` the last term is z_i, and the points shrink towards each other.

    Args:
        x: k samples, shape (*batch, k, n, d). Samples of unequal size: pad with any points and
            give them weight zero.
        a: Weights of their points, shape (*batch, k, n); uniform if None.
        weights: w, shape (*batch, k), summing to one; uniform if None.
        size: Number of points of the barycentre, n if None; they weigh the same.
        start: Where they start, shape (*batch, size, d). None starts at points drawn from the
            samples and moved to the barycentre of the means.
        epsilon: ε in units of the cost; None is, for each problem of the batch, 0.05 of the mean
            squared distance between a sample's points and the start's.
        debiased: Whether S_ε or OT_ε is minimised.
        tolerance: Root mean square step of the points, relative to their spread.
        max_steps: Most iterations.
        generator: Draws the start.

    Returns:
        An ``EntropicBarycenter`` with ``points`` of shape (*batch, size, d), no graph.

    Raises:
        ValueError: Samples or weights that do not fit; a start of another shape.

    Warns:
        RuntimeWarning: The points still moved at the end.

    Notes:
        Every step solves k transport problems (and one of z with itself), warm-started. The
        objective is not convex in z; the means are right from the first step on.

    References:
        Cuturi & Doucet (2014), "Fast computation of Wasserstein barycenters", Algorithm 2; Luise
        et al. (2019), "Sinkhorn barycenters with free support".

    Example:
        >>> import numpy as np
        >>> x = np.array([[[0.0], [1.0]], [[4.0], [7.0]]])
        >>> found = sinkhorn_barycenter_points(x, epsilon=0.01, generator=0)
        >>> np.sort(found.points, axis=0).round(2).tolist()
        [[2.0], [4.0]]
    """
    if x.ndim < 3:
        raise ValueError(f"x must have shape (*batch, k, n, d), got {tuple(x.shape)}")
    x = checks.sample(x).detach()
    count, n, d = x.shape[-3:]
    a = checks.weights(a, x, "a").detach()
    weights = _shares(weights, count, x).detach()
    size = n if size is None else checks.count(size, "size")
    checks.positive(tolerance, "tolerance")
    checks.count(max_steps, "max_steps")
    batch = torch.broadcast_shapes(x.shape[:-3], weights.shape[:-1], a.shape[:-2])
    points = x.double().expand(*batch, count, n, d)
    masses = unit(a).expand(*batch, count, n)
    w = unit(weights)[..., None, None]
    z = _start(points, masses, w, size, start, generator).expand(*batch, size, d)
    eps = _free_epsilon(epsilon, points, masses, z)
    unit_length = eps.sqrt()[..., None, None]  # in which ε is one for all problems
    points, z = points / unit_length.unsqueeze(-3), z / unit_length
    solved, own, steps = None, None, 0
    options: dict[str, Any] = {"epsilon": 1.0, "tolerance": min(1e-3, tolerance), "max_steps": 2000}
    while steps < max_steps:
        steps += 1
        with warnings.catch_warnings():  # what counts is whether the last plans are accurate
            warnings.simplefilter("ignore", RuntimeWarning)
            solved = sinkhorn(z.unsqueeze(-3), points, b=masses, start=solved, **options)
            own = sinkhorn(z, z, start=own, **options) if debiased else None
        goal = (w * solved.map()).sum(-3)
        move = goal - (z if own is None else own.map())
        z = z + move
        spread = (z - z.mean(-2, keepdim=True)).square().sum((-1, -2))
        error = (move.square().sum((-1, -2)) / (spread + size)).sqrt()
        if bool((error <= tolerance).all()):
            break
    assert solved is not None
    accurate = solved.converged and (own is None or own.converged)
    converged = accurate and bool((error <= tolerance).all())
    if not converged:
        _warn(steps, float(error.max()), tolerance)
    return EntropicBarycenter(
        weights=torch.full((*batch, size), 1.0 / size, dtype=x.dtype, device=x.device),
        points=(z * unit_length).to(x.dtype),
        converged=converged,
        steps=steps,
        error=error.to(x.dtype),
        epsilon=eps.to(x.dtype),
    )


def _start(
    points: Tensor,
    masses: Tensor,
    w: Tensor,
    size: int,
    start: Tensor | None,
    generator: torch.Generator | int | None,
) -> Tensor:
    """Points drawn from all samples, each about its sample's mean, moved to the mean of means."""
    *batch, count, n, d = points.shape
    if start is not None:
        if start.ndim < 2 or start.shape[-2:] != (size, d):
            raise ValueError(f"start must have shape {(size, d)}, got {tuple(start.shape)}")
        return checks.finite(start.detach(), "start").double()
    means = (masses.unsqueeze(-1) * points).sum(-2, keepdim=True)
    source = checks.generator(generator, points.device)
    pool = (w * masses.unsqueeze(-1)).squeeze(-1).reshape(-1, count * n)
    drawn = torch.multinomial(pool, size, replacement=bool((pool > 0).sum(-1).min() < size),
                              generator=source)  # fmt: skip
    moved = (points - means).reshape(-1, count * n, d)
    chosen = moved.gather(1, drawn.unsqueeze(-1).expand(-1, -1, d)).reshape(*batch, size, d)
    chosen = chosen - chosen.mean(-2, keepdim=True)
    return chosen + (w * means).sum(-3)


def _shares(weights: Tensor | None, count: int, like: Tensor) -> Tensor:
    """Weights of the measures."""
    return checks.weights(weights, like, "weights", points=count)


def _square_cost(p: Tensor, cost: Tensor, debiased: bool) -> Tensor:
    n = p.shape[-1]
    if cost.ndim != 2 or cost.shape[0] != n:
        raise ValueError(
            f"cost must have shape ({n}, l) for histograms with {n} bins, got {tuple(cost.shape)}"
        )
    if cost.device != p.device:
        raise ValueError(f"p is on {p.device} and cost on {cost.device}; move one with .to(...)")
    cost = checks.finite(cost.detach(), "cost").double()
    slack = 1e-6 * float(cost.abs().max())
    if debiased and (cost.shape[1] != n or float((cost - cost.T).abs().max()) > slack):
        raise ValueError(
            "debiased=True moves the barycentre onto itself, so cost must be square and symmetric; "
            "pass such a cost, or debiased=False"
        )
    return cost


def _fixed_epsilon(epsilon: float | None, cost: Tensor) -> float:
    typical = float(cost.mean())
    if epsilon is None:
        return SHARE * typical if typical > 0 else 1.0
    value = checks.positive(epsilon, "epsilon")
    smallest = 4.0 * torch.finfo(torch.float64).eps * float(cost.abs().max())
    if value < smallest:
        raise ValueError(
            f"epsilon={value:.3g} is too small: the smallest safe value is {smallest:.3g}"
        )
    return value


def _free_epsilon(epsilon: float | None, points: Tensor, masses: Tensor, z: Tensor) -> Tensor:
    """ε of each problem, shape (*batch)."""
    batch = points.shape[:-3]
    if epsilon is not None:
        return points.new_full(batch, checks.positive(epsilon, "epsilon"))
    middle = z.mean(-2, keepdim=True).unsqueeze(-3)
    far = (masses * (points - middle).square().sum(-1)).sum(-1).mean(-1)
    own = (z - z.mean(-2, keepdim=True)).square().sum(-1).mean(-1)
    typical = SHARE * (far + own)
    return torch.where(typical > 0, typical, 1.0).expand(batch)


def _warn(steps: int, error: float, tolerance: float) -> None:
    warnings.warn(
        f"the barycentre moved by {error:.3g} after {steps} steps, above the tolerance "
        f"{tolerance:g}; raise max_steps, tolerance or epsilon",
        RuntimeWarning,
        stacklevel=4,
    )
