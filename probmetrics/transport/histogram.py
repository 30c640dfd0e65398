"""Entropic transport between histograms, at the costs of a matrix."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import WeightsX, WeightsY, array_function
from probmetrics._autograd import final
from probmetrics.pairwise.tiled import differentiable
from probmetrics.transport.entropic import solve
from probmetrics.transport.entropic_plan import EntropicCoupling, EntropicTransport
from probmetrics.transport.entropic_problem import EntropicProblem, mean_cost
from probmetrics.transport.entropic_value import dual_value, envelope, primal_value
from probmetrics.transport.envelope import unit
from probmetrics.transport.marginals import Marginal
from probmetrics.transport.plan import Transport
from probmetrics.transport.sinkhorn import chosen_epsilon, warn_unless_converged
from probmetrics.transport.stored import StoredCost, StoredGeometry

if TYPE_CHECKING:
    Costs = Any
else:
    Costs = Float[Tensor, "*#batch n m"]


@array_function
def entropic_earth_mover(
    p: WeightsX,
    q: WeightsY,
    cost: Costs,
    *,
    epsilon: float | None = None,
    normalize: bool = False,
    tolerance: float = 1e-6,
    max_steps: int = 2000,
    start: Transport | None = None,
) -> EntropicTransport:
    r"""Entropic transport between two histograms, its plan, potentials and accuracy.

    .. math:: \min_{P 1 = p, \; P^\top 1 = q} \; \langle P, C \rangle + \varepsilon
              \, \mathrm{KL}(P \,\|\, p \otimes q)

    Args:
        p: Probability vector, shape (*batch, n). Zeros are exact.
        q: Probability vector, shape (*batch, m).
        cost: Cost of moving one unit from bin i to bin j, shape (*batch, n, m); finite, of any
            sign.
        epsilon: ε, in units of the cost; None is 0.05 of the mean of C − min C under p ⊗ q,
            taken as a constant by gradients.
        normalize: Divide p and q by their sums, e.g. for counts.
        tolerance: Largest L1 error of the marginals.
        max_steps: Most passes over the matrix.
        start: An earlier solution between as many bins, whose potentials to start from.

    Returns:
        An ``EntropicTransport``: ``value`` is that of the dual, shape (*batch), differentiable in
        p, q and the cost; ``entropic_value`` the plan's objective; ``cost`` is ⟨P, C⟩, the
        transport cost alone.

    Raises:
        ValueError: Negative or non-finite entries of p or q, or sums other than one; a cost of
            another shape, or not finite; ε not above zero, or below what float64 resolves.
        TypeError: Tensors and other arrays in one call.

    Warns:
        RuntimeWarning: The tolerance was not reached; the best iterate is returned.

    Example:
        >>> moved = entropic_earth_mover([0.5, 0.5], [0.25, 0.75], [[0, 1], [1, 0]], epsilon=0.01)
        >>> round(moved.cost, 6), moved.converged
        (0.25, True)

    Notes:
        Solved in float64 whatever the dtype, with one matrix of n·m entries beside the cost. The
        gradient in the cost is the plan, that in p and q the potentials, centred. ``map`` has no
        meaning: bins have no coordinates. POT's ``ot.sinkhorn`` has the same plan; its entropy
        −H(P) differs from KL(P‖p⊗q) by a number that depends on p and q alone.

    References:
        Cuturi (2013), "Sinkhorn distances: lightspeed computation of optimal transport"; Peyré &
        Cuturi (2019), "Computational optimal transport", eq. 4.2.
    """
    p, q = (checks.probabilities(w, name=s, normalize=normalize) for w, s in ((p, "p"), (q, "q")))
    batch = admit_costs(p, q, cost)
    checks.positive(tolerance, "tolerance")
    checks.count(max_steps, "max_steps")
    dtype = torch.promote_types(torch.promote_types(p.dtype, q.dtype), cost.dtype)
    n, m = p.shape[-1], q.shape[-1]
    prices = cost.expand(*batch, n, m)
    a, b = (unit(w).expand(*batch, w.shape[-1]).reshape(-1, w.shape[-1]) for w in (p, q))
    held = prices.detach().double().reshape(-1, n, m)
    low = held.amin((-1, -2))
    # Marginals of mass one make a constant on all costs a constant on f: solve without it.
    problem = _stored(held - low[:, None, None], a, b)
    scale = mean_cost(problem.detached())
    eps = chosen_epsilon(epsilon, problem, scale)
    sides = (Marginal(), Marginal())
    options: dict[str, Any] = {"tolerance": tolerance, "backend": "dense", "scale": scale}
    begin = _start(start, batch, m, a)
    solution = solve(problem.detached(), eps, sides, max_steps=max_steps, start=begin, **options)
    warn_unless_converged(solution, tolerance)
    solution.f = solution.f + low.unsqueeze(-1)
    problem = _stored(held, a, b)
    coupling = HistogramCoupling(
        problem.detached(), solution.f, solution.g, eps, batch, (held.to(dtype), held.to(dtype))
    )
    value = dual_value(problem, solution, eps, sides)
    gap = primal_value(problem, solution, eps, sides) - value
    value = envelope(problem, solution, eps, sides, value).reshape(batch)
    value = value + differentiable(_Moved, prices, coupling)

    def shaped(z: Tensor) -> Tensor:
        return z.reshape((*batch, *z.shape[1:])).to(dtype)

    return EntropicTransport(
        value=value.to(dtype),
        f=shaped(solution.f),
        g=shaped(solution.g),
        converged=solution.converged,
        steps=solution.steps,
        marginal_error=shaped(solution.error),
        dual_gap=shaped(gap),
        coupling=coupling,
        epsilon=shaped(eps),
    )


class HistogramCoupling(EntropicCoupling):
    """An entropic plan between bins, which have no coordinates."""

    def map(self, x: Tensor | None) -> Tensor:
        raise ValueError(
            "this plan moves the bins of a histogram, which have no coordinates; "
            "use apply(v) with the values v of the target bins"
        )


class _Moved(torch.autograd.Function):
    """Zero, with the plan as its gradient in the costs (envelope theorem)."""

    @staticmethod
    def forward(ctx: Any, prices: Tensor, coupling: EntropicCoupling) -> Tensor:
        ctx.coupling, ctx.dtype = coupling, prices.dtype
        ctx.save_for_backward(prices)
        return prices.new_zeros(coupling.batch, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Any:
        (prices,) = ctx.saved_tensors
        return final((up[..., None, None] * ctx.coupling.plan()).to(ctx.dtype), prices), None


def admit_costs(p: Tensor, q: Tensor, cost: Tensor) -> tuple[int, ...]:
    """The batch shape of two histograms and the costs between their bins, which have to fit."""
    n, m = p.shape[-1], q.shape[-1]
    if cost.ndim < 2 or cost.shape[-2:] != (n, m):
        raise ValueError(
            f"cost must have shape (*batch, {n}, {m}) for p with {n} bins and q with {m}, "
            f"got {tuple(cost.shape)}"
        )
    if len({p.device, q.device, cost.device}) > 1:
        raise ValueError(
            f"p, q and cost are on {p.device}, {q.device} and {cost.device}; move them"
        )
    checks.finite(cost, "cost")
    for other, name in ((q.shape[:-1], "q"), (cost.shape[:-2], "cost")):
        checks.broadcastable(p.shape[:-1], other, ("p", name))
    checks.broadcastable(q.shape[:-1], cost.shape[:-2], ("q", "cost"))
    return checks.filled(torch.broadcast_shapes(p.shape[:-1], q.shape[:-1], cost.shape[:-2]))


def _stored(costs: Tensor, a: Tensor, b: Tensor) -> EntropicProblem:
    geometry = StoredGeometry(costs)
    return EntropicProblem(StoredCost(geometry), *geometry.places(), a, b)


def _start(start: Any, batch: tuple[int, ...], m: int, like: Tensor) -> Tensor | None:
    if start is None:
        return None
    if not isinstance(start, Transport):
        raise TypeError(f"start must be an earlier answer, got {type(start).__name__}")
    g = torch.as_tensor(start.g, dtype=torch.float64, device=like.device)
    if g.shape != (*batch, m):
        raise ValueError(
            f"start has potentials of shape {tuple(g.shape)}, wanted {(*batch, m)}; "
            "it must come from a problem with as many bins and the same batch"
        )
    return g.reshape(-1, m)
