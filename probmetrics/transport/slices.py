"""Costs along many directions, a block at a time: memory stays that of the samples."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from probmetrics._checks import readable
from probmetrics.pairwise.threads import run_tasks
from probmetrics.pairwise.tiles import blocks
from probmetrics.transport.quantiles import line_cost

BLOCK = 2**18  # projected numbers held at a time


def mean_cost(
    x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, theta: Tensor, p: float
) -> Tensor:
    """Mean over directions of W_p^p, in float64, in memory linear in the samples."""
    inputs = (x, y, a, b, theta)
    if torch.compiler.is_compiling():
        return _costs(p, *inputs).mean(-1)
    if not torch.is_grad_enabled() or not any(z is not None and z.requires_grad for z in inputs):
        return costs_by_block(*inputs, p).mean(-1)
    batch = torch.broadcast_shapes(
        x.shape[:-2], y.shape[:-2], *(w.shape[:-1] for w in (a, b) if w is not None)
    )
    x, y, theta = (z.expand(*batch, *z.shape[-2:]) for z in (x, y, theta))
    a, b = (None if w is None else w.expand(*batch, w.shape[-1]) for w in (a, b))
    value: Tensor = _MeanCost.apply(p, x, y, a, b, theta)  # type: ignore[no-untyped-call]
    return value


class _MeanCost(torch.autograd.Function):
    """Mean cost over directions whose derivatives are summed block by block with the value."""

    @staticmethod
    def forward(ctx: Any, p: float, *inputs: Tensor | None) -> Tensor:
        """Value for inputs x, y, a, b, theta of the same batch shape."""
        value, slopes = _cost_and_slopes(p, inputs, ctx.needs_input_grad[1:])
        ctx.p = p
        ctx.save_for_backward(*inputs, *slopes)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Derivatives of each batch entry's value, times the gradient that comes in."""
        inputs, slopes = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
        (grad,) = grads
        if torch.is_grad_enabled():  # a second derivative was asked for: record every step
            value = _costs(ctx.p, *inputs).mean(-1)
            wanted = [z for z, want in zip(inputs, ctx.needs_input_grad[1:], strict=True) if want]
            found = iter(torch.autograd.grad(value, wanted, grad, create_graph=True))
            return None, *(next(found) if want else None for want in ctx.needs_input_grad[1:])
        return None, *(
            None if slope is None else slope * grad.reshape(grad.shape + (1,) * extra).to(slope)
            for slope, extra in zip(slopes, (2, 2, 1, 1, 2), strict=True)
        )


def _cost_and_slopes(
    p: float, inputs: tuple[Tensor | None, ...], wanted: tuple[bool, ...]
) -> tuple[Tensor, list[Tensor | None]]:
    """The mean cost, and its derivative in each input that wants one."""
    x, y, a, b, theta = (None if z is None else z.detach() for z in inputs)
    assert x is not None
    assert y is not None
    assert theta is not None
    total = torch.zeros(x.shape[:-2], dtype=torch.float64, device=x.device)
    sums = [
        None if z is None or not want else torch.zeros_like(z)
        for z, want in zip((x, y, a, b, theta), wanted, strict=True)
    ]
    step = _block_size(x, y)
    for start in range(0, theta.shape[-2], step):
        rows = slice(start, start + step)
        parts = (x, y, a, b, theta[..., rows, :])
        leaves: list[Any] = [
            None if z is None else z.detach().requires_grad_(want)
            for z, want in zip(parts, wanted, strict=True)
        ]
        with torch.enable_grad():
            costs = _costs(p, *leaves).sum(-1) / theta.shape[-2]
            tracked = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
            slopes = iter(torch.autograd.grad(costs.sum(), tracked))
        total += costs.detach()
        for k, part in enumerate(sums):
            if part is not None:
                (part[..., rows, :] if k == 4 else part).add_(next(slopes))
    return total, sums


def costs_by_block(
    x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, theta: Tensor, p: float
) -> Tensor:
    """W_p^p along each direction, shape (*batch, L), in float64, without a gradient.

    Blocks of directions go to the cores whole: projected, sorted and summed in one core's cache.
    """
    groups = blocks(theta.shape[-2], _block_size(x, y))
    first = _costs(p, x, y, a, b, theta[..., groups[0], :])
    # Filled in place: small results left between the blocks' buffers would keep the allocator
    # from using those again.
    costs = first.new_empty(*first.shape[:-1], theta.shape[-2])
    costs[..., groups[0]] = first

    def work(share: Sequence[slice]) -> None:
        for rows in share:
            costs[..., rows] = _costs(p, x, y, a, b, theta[..., rows, :])

    if readable(x) and torch.autograd.forward_ad._current_level < 0:
        run_tasks(work, groups[1:], costs.numel() * (x.shape[-2] + y.shape[-2]))
    else:
        work(groups[1:])
    return costs


def _costs(
    p: float, x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, theta: Tensor
) -> Tensor:
    """W_p^p along each direction, all at once: the definition."""
    a, b = (None if w is None else w.unsqueeze(-2) for w in (a, b))
    return line_cost(theta @ x.mT, theta @ y.mT, a, b, p, root=False, overwrite=True)


def _block_size(x: Tensor, y: Tensor) -> int:
    """How many directions to project on at a time."""
    per_direction = x.numel() // x.shape[-1] + y.numel() // y.shape[-1]
    return max(1, BLOCK // max(per_direction, 1))  # an empty batch projects nothing
