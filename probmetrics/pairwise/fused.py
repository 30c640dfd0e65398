"""The fused backend: the reductions as GPU kernels, forward and backward, in linear memory."""

import functools
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise.fused_forms import Form, fused_forms, without_form
from probmetrics.pairwise.fused_launch import Plan, Samples, in_base_two
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.reductions import (
    AbstractReduction,
    CountWithin,
    KSmallest,
    LogSumExp,
    Total,
    WeightedSum,
)
from probmetrics.pairwise.tiled import Scale, differentiable, near_values


def unavailable(ground: AbstractGround, reduction: AbstractReduction, x: Tensor) -> str | None:
    """Why these cannot be fused here; None if they can."""
    if x.device.type != "cuda" and not _interpreted():
        return f"backend='fused' needs a CUDA device, and the points are on {x.device}"
    if not _installed():
        return "backend='fused' needs Triton (pip install 'probmetrics[gpu]')"
    if x.dtype not in (torch.float32, torch.float64):
        return f"backend='fused' reads float32 and float64, and the features are {x.dtype}"
    return without_form(ground, reduction, x.shape[-1])


@functools.lru_cache(maxsize=1)
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _interpreted() -> bool:
    """Whether Triton's interpreter is asked for, which runs the kernels on a CPU for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def reduce_fused(
    ground: AbstractGround, reduction: AbstractReduction, x: Tensor, y: Tensor, batch: torch.Size
) -> Any:
    """The reduction of all pairs.

    Args:
        ground: A ground that has a form.
        reduction: Not flattened.
        x: Embedded points, shape (*batch, n, d).
        y: Embedded points, shape (*batch, m, d), or x itself.
        batch: The common batch shape.
    """
    forms = fused_forms(ground, x.shape[-1])
    same = y is x
    x = x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
    y = x if same else y.expand(*batch, *y.shape[-2:]).reshape(-1, *y.shape[-2:])
    flat = reduction.flatten(batch)
    u = v = None  # ground = u(x) + v(y) + form
    if ground.has_offset:
        u = ground.offset(x)
        v = u if same else ground.offset(y)
    if isinstance(flat, KSmallest):
        values, indices = _neighbors(ground, forms[0], x, y, flat, v)
        shape = (*batch, *values.shape[1:])
        return values.reshape(shape), indices.reshape(shape)
    if isinstance(flat, Total):
        symmetric = same and isinstance(reduction, Total) and reduction.rows is reduction.columns
        answer = _total(forms, flat, x, y, u, v, symmetric=symmetric)
    elif isinstance(flat, WeightedSum):
        answer = _weighted_sum(forms, flat, x, y, u, v)
    elif isinstance(flat, LogSumExp):
        answer = _log_sum_exp(forms[0], flat, x, y, u, v)
    else:
        assert isinstance(flat, CountWithin)
        answer = _count_within(forms[0], flat, x, y, u, v)
    return answer.reshape((*batch, *answer.shape[1:]))


def _total(
    forms: Sequence[Form], total: Total, x: Tensor, y: Tensor, u: Tensor | None, v: Tensor | None,
    *, symmetric: bool,
) -> Tensor:  # fmt: skip
    a, b = total.rows, total.columns
    other = (x.detach(), a.detach()) if symmetric else (y, b)
    answer = _add(
        [differentiable(FusedTotal, f, symmetric, y is x, x, other[0], a, other[1]) for f in forms]
    )
    if u is None or v is None:
        return answer
    wide_a, wide_b = a.double(), b.double()
    of_rows = (wide_a * u.double()).sum(-1) * wide_b.sum(-1)
    return answer + of_rows + (wide_b * v.double()).sum(-1) * wide_a.sum(-1)


def _weighted_sum(
    forms: Sequence[Form],
    reduction: WeightedSum,
    x: Tensor,
    y: Tensor,
    u: Tensor | None,
    v: Tensor | None,
) -> Tensor:
    weights = reduction.weights
    if weights is None:
        weights = y.new_ones(len(y), y.shape[-2], 1)
    elif not reduction.columns:
        weights = weights.unsqueeze(-1)
    sums = _add([differentiable(FusedWeightedSum, f, y is x, x, y, weights) for f in forms])
    if u is not None and v is not None:
        wide = weights.double()
        of_rows = u.double().unsqueeze(-1) * wide.sum(-2, keepdim=True)
        sums = sums + of_rows + (wide * v.double().unsqueeze(-1)).sum(-2, keepdim=True)
    return sums if reduction.columns and reduction.weights is not None else sums.squeeze(-1)


def _log_sum_exp(
    form: Form, reduction: LogSumExp, x: Tensor, y: Tensor, u: Tensor | None, v: Tensor | None
) -> Tensor:
    scale = _column(reduction.scale, x)
    offset = x.new_zeros(len(x), y.shape[-2]) if reduction.offset is None else reduction.offset
    if v is not None:
        offset = offset + scale * v
    answer: Tensor = differentiable(FusedLogSumExp, form, reduction.scale, y is x, x, y, offset)
    return answer if u is None else answer + scale * u


def _count_within(
    form: Form, reduction: CountWithin, x: Tensor, y: Tensor, u: Tensor | None, v: Tensor | None
) -> Tensor:
    rows, columns = x.new_zeros(x.shape[:-1]), y.new_zeros(y.shape[:-1])
    if reduction.column_radius is not None:
        columns = columns + reduction.column_radius.to(columns)
    elif isinstance(reduction.radius, Tensor):
        rows = rows + reduction.radius.to(rows)
    else:
        assert reduction.radius is not None
        rows = rows + reduction.radius
    if u is not None and v is not None:
        rows, columns = rows - u, columns - v
    samples = Samples(form, x, y)
    scales = rows.new_full((len(x),), form.factor)
    return samples.count_within(rows.detach().contiguous(), columns.detach().contiguous(), scales)


def _neighbors(
    ground: AbstractGround, form: Form, x: Tensor, y: Tensor, reduction: KSmallest, v: Tensor | None
) -> tuple[Tensor, Tensor]:
    samples = Samples(form, x, y)
    offsets = (y.new_zeros(y.shape[:-1]) if v is None else v.detach()).contiguous()
    scales = x.new_full((len(x),), form.factor)
    indices = samples.k_smallest(reduction.k, offsets, scales, skip=reduction.skip_self)
    return near_values(ground, x, y, indices)


class FusedWeightedSum(torch.autograd.Function):
    """Σ_j G_ij w_jc without the terms in one point, float64, shape (B, n, c).

    For a sample with itself the gradient in x is that through rows and columns, from one sweep.
    """

    @staticmethod
    def forward(ctx: Any, form: Form, same: bool, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        ctx.samples = samples = Samples(form, x, x if same else y)
        ctx.save_for_backward(x, y, w)
        return samples.weighted_sum(w).mul_(form.factor)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, y, w = ctx.saved_tensors
        samples: Samples = ctx.samples
        _, _, need_x, need_y, need_w = ctx.needs_input_grad
        g_, w_, factor = g.detach(), w.detach(), samples.form.factor
        dx = dy = dw = None
        with torch.no_grad():
            if need_x:
                dx = samples.pull(g_, w_, both=samples.same).mul_(factor)
            if need_y and not samples.same:
                dy = samples.swapped().pull(w_, g_).mul_(factor)
            if need_w:
                dw = samples.swapped().weighted_sum(g_).mul_(factor)
        return (None, None, *once((dx, dy, dw), (x, y, w), g))


class FusedTotal(torch.autograd.Function):
    """Σ_ij a_i G_ij b_j without the terms in one point, float64, shape (B,).

    With ``symmetric`` the samples and the weights are one: the value takes the tiles on and above
    the diagonal, and the gradient one sweep in place of two.
    """

    @staticmethod
    def forward(
        ctx: Any,
        form: Form,
        symmetric: bool,
        same: bool,
        x: Tensor,
        y: Tensor,
        a: Tensor,
        b: Tensor,
    ) -> Tensor:
        ctx.samples = samples = Samples(form, x, x if same else y)
        ctx.symmetric = symmetric
        ctx.save_for_backward(x, y, a, b)
        sums = samples.weighted_sum(b.unsqueeze(-1), half=symmetric).squeeze(-1)
        return (sums * a.double()).sum(-1).mul_(form.factor)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, y, a, b = ctx.saved_tensors
        samples: Samples = ctx.samples
        need_x, need_y, need_a, need_b = ctx.needs_input_grad[3:]
        factor = samples.form.factor * (2.0 if ctx.symmetric else 1.0)
        scale = (g.detach() * factor).reshape(-1, 1, 1)
        rows, columns = a.detach().unsqueeze(-1), b.detach().unsqueeze(-1)
        dx = dy = da = db = None
        with torch.no_grad():
            if need_x:
                dx = samples.pull(rows, columns, both=samples.same and not ctx.symmetric) * scale
            if need_a:
                da = (samples.weighted_sum(columns) * scale).squeeze(-1)
            if need_y and not samples.same:
                dy = samples.swapped().pull(columns, rows) * scale
            if need_b:
                db = (samples.swapped().weighted_sum(rows) * scale).squeeze(-1)
        return (None, None, None, *once((dx, dy, da, db), (x, y, a, b), g))


class FusedLogSumExp(torch.autograd.Function):
    """log Σ_j exp(offset_j + scale · G_ij) without the terms in one point, float64, (B, n).

    Its gradients are sums under the plan 2^(offset_j + scale · G_ij − out_i): the kernels of
    ``FusedWeightedSum`` with that plan as one more factor.
    """

    @staticmethod
    def forward(
        ctx: Any, form: Form, scale: Scale, same: bool, x: Tensor, y: Tensor, offset: Tensor
    ) -> Tensor:
        samples = Samples(form, x, x if same else y)
        scales = _column(scale, x).to(samples.dtype).squeeze(-1) * form.factor
        columns, base = in_base_two(offset, samples.dtype), in_base_two(scales, samples.dtype)
        out = samples.log_sum_exp(columns, base)
        rows = in_base_two(-torch.where(out.isfinite(), out, 0.0), samples.dtype)
        ctx.samples, ctx.scales, ctx.plan = samples, scales, Plan(rows, columns, base)
        ctx.save_for_backward(x, y, offset)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, y, offset = ctx.saved_tensors
        samples, plan = ctx.samples, ctx.plan
        _, _, _, need_x, need_y, need_offset = ctx.needs_input_grad
        rows, scales = g.detach().unsqueeze(-1), ctx.scales.reshape(-1, 1, 1)
        columns = rows.new_ones(*offset.shape, 1)
        dx = dy = do = None
        with torch.no_grad():
            if need_x:
                dx = samples.pull(rows, columns, plan, both=samples.same) * scales
            if need_y and not samples.same:
                dy = samples.swapped().pull(columns, rows, plan.swapped()) * scales
            if need_offset:
                do = samples.swapped().weighted_sum(rows, plan.swapped()).squeeze(-1)
        return (None, None, None, *once((dx, dy, do), (x, y, offset), g))


class _Once(torch.autograd.Function):
    """A gradient as it is, which refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *inputs: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        raise RuntimeError(
            "the fused backend has no second derivative; use backend='dense', or 'tiled', whose "
            "second derivatives go through the dense matrix"
        )


def once(
    gradients: tuple[Tensor | None, ...], inputs: tuple[Tensor, ...], g: Tensor
) -> list[Tensor | None]:
    """Gradients in the dtype of their inputs, tied to all of them for ``_Once`` to refuse."""
    cast = [
        None if found is None else found.to(value.dtype)
        for found, value in zip(gradients, inputs, strict=True)
    ]
    if not torch.is_grad_enabled():
        return cast
    return [None if found is None else differentiable(_Once, found, *inputs, g) for found in cast]


def _add(terms: list[Tensor]) -> Tensor:
    return sum(terms[1:], start=terms[0])


def _column(scale: Scale, x: Tensor) -> Tensor:
    """The scale of each batch entry, shape (B, 1)."""
    if isinstance(scale, Tensor):
        return scale.detach().to(x).expand(len(x)).unsqueeze(-1)
    return x.new_full((len(x), 1), scale)
