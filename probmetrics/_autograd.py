"""What autograd does not do by itself: refuse a second derivative, record in inference mode."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

INSTEAD = "difference the first one numerically"
P = ParamSpec("P")
R = TypeVar("R")


def ordinary(value: R) -> R:
    """The value, copied if it is a tensor of inference mode, which no graph can hold."""
    if isinstance(value, Tensor) and value.is_inference():
        with torch.inference_mode(False):
            return value.clone()  # type: ignore[return-value]
    return value


def outside_inference(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that takes gradients inside do so in ``torch.inference_mode``, too."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        given: Any = [ordinary(each) for each in args]
        named: Any = {name: ordinary(each) for name, each in kwargs.items()}
        if not torch.is_inference_mode_enabled():
            return function(*given, **named)
        with torch.inference_mode(False):
            return function(*given, **named)

    return wrapper


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
