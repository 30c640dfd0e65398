"""Linear programmes as differentiable numbers: the envelope theorem on plans and potentials."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from probmetrics._autograd import final
from probmetrics.pairwise.ground import safe_power
from probmetrics.transport.programme import Solution, Vector

Pair = tuple[Tensor, Tensor]  # something of x, and the same of y


class Flows(NamedTuple):
    """The solutions of a batch, padded to one number of entries; all in float64."""

    rows: Tensor  # (*batch, k)
    columns: Tensor
    mass: Tensor
    f: Tensor  # (*batch, n)
    g: Tensor  # (*batch, m)
    dual: Tensor  # (*batch)
    converged: bool
    steps: int


def stack_flows(
    solutions: Sequence[Solution], batch: tuple[int, ...], device: torch.device
) -> Flows:
    """The solutions of a batch, one behind the other, as tensors of the batch shape."""
    width = max(s.mass.size for s in solutions)

    def stacked(arrays: list[Any]) -> Tensor:
        values = torch.from_numpy(np.stack(arrays))
        return values.reshape((*batch, *values.shape[1:])).to(device)

    def padded(array: Any) -> Any:
        return np.pad(array, (0, width - array.size))

    return Flows(
        rows=stacked([padded(s.rows) for s in solutions]),
        columns=stacked([padded(s.columns) for s in solutions]),
        mass=stacked([padded(s.mass) for s in solutions]),
        f=stacked([s.f for s in solutions]),
        g=stacked([s.g for s in solutions]),
        dual=stacked([np.float64(s.dual) for s in solutions]),
        converged=all(s.optimal for s in solutions),
        steps=max(s.steps for s in solutions),
    )


def warn_unless(flows: Flows, value: Tensor) -> None:
    """Tell once that a programme was not solved to the end."""
    if flows.converged:
        return
    gaps = (value.detach() - flows.dual).flatten()
    gap = float(gaps[gaps.abs().argmax()])
    meaning = (
        "the value is an upper bound by at most that"
        if gap > 0
        else "rounding: masses or costs differ by more digits than float64 has"
    )
    warnings.warn(
        f"the linear programme ended before its optimum: plan and potentials differ by {gap:.3g} "
        f"in cost; {meaning} (Transport.dual_gap)",
        RuntimeWarning,
        stacklevel=2,
    )


class _Priced(torch.autograd.Function):
    """Zero, with the potential as its gradient in the masses.

    The optimal value is piecewise linear in the masses, and a potential is its slope. The plan
    moves with the masses too, so second derivatives are not those of this function: asking for
    them is an error, not a zero.
    """

    @staticmethod
    def forward(ctx: Any, mass: Tensor, potential: Tensor) -> Tensor:
        ctx.save_for_backward(mass, potential)
        return mass.new_zeros(mass.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        mass, potential = ctx.saved_tensors
        return final(grad.unsqueeze(-1) * potential, mass), None


def priced(mass: Tensor, potential: Tensor) -> Tensor | float:
    """Zero whose derivative in ``mass`` is ``potential``, shape (*batch)."""
    if not (mass.requires_grad and torch.is_grad_enabled()):
        return 0.0
    zero: Tensor = _Priced.apply(  # type: ignore[no-untyped-call]
        mass.expand(potential.shape), potential
    )
    return zero


def rooted(total: Tensor, p: float, root: bool) -> Tensor:
    """total^(1/p), or the total itself; the root's gradient at zero is zero."""
    return safe_power(total, 1 / p) if root else total


def marginals(flows: Flows, weights: Pair) -> Pair:
    """P1 and Pᵀ1, for weights that say how many points there are."""
    batch = flows.mass.shape[:-1]
    empty = [w.new_zeros(*batch, w.shape[-1]) for w in weights]
    return (
        empty[0].scatter_add(-1, flows.rows, flows.mass),
        empty[1].scatter_add(-1, flows.columns, flows.mass),
    )


def marginal_error(flows: Flows, weights: Pair) -> Tensor:
    """The larger of ‖P1 − a‖₁ and ‖Pᵀ1 − b‖₁, shape (*batch)."""
    pairs = zip(marginals(flows, weights), weights, strict=True)
    return torch.maximum(*((u - w.detach()).abs().sum(-1) for u, w in pairs))


def unit(weights: Tensor) -> Tensor:
    """Weights in float64 divided by their sum, which float32 and half cannot hold to the digit."""
    weights = weights.double()
    return weights / weights.sum(-1, keepdim=True)


def to_array(values: Tensor) -> Vector:
    """The same numbers for a solver that runs on the CPU."""
    array: Vector = values.detach().cpu().numpy()
    return array
