"""Distances along many directions, a block at a time: memory stays that of the samples."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from probmetrics._checks import readable
from probmetrics.pairwise.threads import run_tasks
from probmetrics.pairwise.tiles import blocks
from probmetrics.transport.quantiles import line_cost, mean_power, safe_root

BLOCK = 2**18  # projected numbers held at a time
AXES = (2, 2, 1, 1, 2)  # of x, y, a, b and theta behind those of the batch


def mean_distance(
    x: Tensor,
    y: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    theta: Tensor,
    p: float,
    *,
    root: bool,
) -> Tensor:
    """Mean over directions of W_p^p, or its p-th root, in float64, in memory linear in the samples.

    The root is a p-norm of distances: of their powers, which may neither vanish nor overflow,
    only ratios are ever formed.
    """
    inputs = (x, y, a, b, theta)
    root = root and p != 1  # which is its own root, with the derivatives of the power at zero
    if torch.compiler.is_compiling():
        return averaged(_costs(p, root, *inputs), p, root=root)
    if not torch.is_grad_enabled() or not any(z is not None and z.requires_grad for z in inputs):
        return averaged(costs_by_block(*inputs, p, root=root), p, root=root)
    batch = torch.broadcast_shapes(
        x.shape[:-2], y.shape[:-2], *(w.shape[:-1] for w in (a, b) if w is not None)
    )
    x, y, theta = (z.expand(*batch, *z.shape[-2:]) for z in (x, y, theta))
    a, b = (None if w is None else w.expand(*batch, w.shape[-1]) for w in (a, b))
    value: Tensor = _MeanDistance.apply(  # type: ignore[no-untyped-call]
        p, root, x, y, a, b, theta
    )
    return value


def averaged(costs: Tensor, p: float, *, root: bool) -> Tensor:
    """The mean of W_p^p over the last axis, or with ``root`` the p-th root of that, from W_p."""
    return mean_power(costs, None, p, True) if root and p != 1 else costs.mean(-1)


class _MeanDistance(torch.autograd.Function):
    """Mean over directions whose derivatives are summed block by block with the value."""

    @staticmethod
    def forward(ctx: Any, p: float, root: bool, *inputs: Tensor | None) -> Tensor:
        """Value for inputs x, y, a, b, theta of the same batch shape."""
        value, slopes = _value_and_slopes(p, root, inputs, ctx.needs_input_grad[2:])
        ctx.p, ctx.root = p, root
        ctx.save_for_backward(*inputs, *slopes, value)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Derivatives of each batch entry's value, times the gradient that comes in."""
        inputs, slopes, value = (
            ctx.saved_tensors[:5],
            ctx.saved_tensors[5:10],
            ctx.saved_tensors[10],
        )
        (grad,) = grads
        if torch.is_grad_enabled():  # a second derivative was asked for: record every step
            made = _recorded(ctx.p, ctx.root, value.detach(), *inputs)
            wanted = [z for z, want in zip(inputs, ctx.needs_input_grad[2:], strict=True) if want]
            found = iter(torch.autograd.grad(made, wanted, grad, create_graph=True))
            return None, None, *(next(found) if want else None for want in ctx.needs_input_grad[2:])
        return (
            None,
            None,
            *(
                None if slope is None else slope * grad.reshape(grad.shape + (1,) * extra).to(slope)
                for slope, extra in zip(slopes, AXES, strict=True)
            ),
        )


def _recorded(
    p: float,
    root: bool,
    known: Tensor,
    x: Tensor,
    y: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    theta: Tensor,
) -> Tensor:
    """The value once more, every step recorded; of samples divided by the value that is known.

    Powers of distances, not of their roots: a square has a second derivative also at zero.
    """
    if not root:
        return _costs(p, False, x, y, a, b, theta).mean(-1)
    unit = known.to(x.dtype)
    unit = torch.where(unit > 0, unit, 1.0)
    x, y = (z / unit[..., None, None] for z in (x, y))
    return unit * safe_root(_costs(p, False, x, y, a, b, theta).mean(-1), p)


def _value_and_slopes(
    p: float, root: bool, inputs: tuple[Tensor | None, ...], wanted: tuple[bool, ...]
) -> tuple[Tensor, list[Tensor | None]]:
    """The value, and its derivative in each input that wants one."""
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
            costs = _costs(p, root, *leaves)
            share = costs.new_full(costs.shape[-1:], 1 / theta.shape[-2])
            value = mean_power(costs, share, p, True) if root else (costs * share).sum(-1)
            tracked = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
            slopes = iter(torch.autograd.grad(value.sum(), tracked))
        factors = None
        if root and start > 0:
            total, factors = _joined(total, value.detach(), p)
        else:
            total = total + value.detach()
        for k, part in enumerate(sums):
            if part is None:
                continue
            slope = next(slopes)
            if factors is not None:
                old, new = (factor.reshape(total.shape + (1,) * AXES[k]) for factor in factors)
                part *= old
                slope = slope * new
            (part[..., rows, :] if k == 4 else part).add_(slope)
    return total, sums


def _joined(total: Tensor, part: Tensor, p: float) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The p-norm of two numbers, and its derivatives in both."""
    pair = torch.stack([total, part], -1)
    whole = mean_power(pair, torch.ones_like(pair), p, True)
    ratio = pair / torch.where(whole > 0, whole, 1.0).unsqueeze(-1)
    old, new = ratio.pow(p - 1).unbind(-1)
    return whole, (old, new)


def costs_by_block(
    x: Tensor,
    y: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    theta: Tensor,
    p: float,
    *,
    root: bool,
) -> Tensor:
    """W_p^p, or with ``root`` W_p, along each direction, shape (*batch, L), without a gradient.

    Blocks of directions go to the cores whole: projected, sorted and summed in one core's cache.
    """
    groups = blocks(theta.shape[-2], _block_size(x, y))
    first = _costs(p, root, x, y, a, b, theta[..., groups[0], :])
    # Filled in place: small results left between the blocks' buffers would keep the allocator
    # from using those again.
    costs = first.new_empty(*first.shape[:-1], theta.shape[-2])
    costs[..., groups[0]] = first

    def work(share: Sequence[slice]) -> None:
        for rows in share:
            costs[..., rows] = _costs(p, root, x, y, a, b, theta[..., rows, :])

    if readable(x) and torch.autograd.forward_ad._current_level < 0:
        run_tasks(work, groups[1:], costs.numel() * (x.shape[-2] + y.shape[-2]))
    else:
        work(groups[1:])
    return costs


def _costs(
    p: float,
    root: bool,
    x: Tensor,
    y: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    theta: Tensor,
) -> Tensor:
    """W_p^p, or W_p, along each direction, all at once: the definition."""
    a, b = (None if w is None else w.unsqueeze(-2) for w in (a, b))
    return line_cost(theta @ x.mT, theta @ y.mT, a, b, p, root=root, overwrite=True)


def _block_size(x: Tensor, y: Tensor) -> int:
    """How many directions to project on at a time."""
    per_direction = x.numel() // x.shape[-1] + y.numel() // y.shape[-1]
    return max(1, BLOCK // max(per_direction, 1))  # an empty batch projects nothing
