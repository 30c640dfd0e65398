"""Custom gradients that are an error, not a silent zero, to differentiate once more."""

from typing import Any

import torch
from torch import Tensor

INSTEAD = "difference the first one numerically"


def final(gradient: Tensor, source: Tensor, instead: str = INSTEAD) -> Tensor:
    """A gradient computed by hand, whose own derivative was not: asking for that is an error.

    ``torch.autograd.function.once_differentiable`` does the same only where the incoming gradient
    itself requires one; below a linear layer of the graph it does not, and a second derivative
    would leave out a term without a word.

    Args:
        gradient: What ``backward`` returns.
        source: The saved input, or output, that it depends on.
        instead: What the error tells to do.
    """
    if not torch.is_grad_enabled():
        return gradient
    refused: Tensor = _Final.apply(gradient.detach(), source, instead)  # type: ignore[no-untyped-call]
    return refused


class _Final(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, source: Tensor, instead: str) -> Tensor:
        ctx.instead = instead
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Tensor:
        raise RuntimeError(
            "this gradient is exact but has no derivative of its own: a second derivative does not "
            f"exist here or is not implemented; {ctx.instead}"
        )
