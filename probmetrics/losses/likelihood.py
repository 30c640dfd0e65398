"""Log-densities of decoders, in nats per point."""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from probmetrics import _checks as checks
from probmetrics.losses.precision import wide


def gaussian_log_density(
    x: Tensor, mean: Tensor, log_variance: Tensor | float = 0.0, *, event_ndim: int = 1
) -> Tensor:
    """log N(x; mean, e^log_variance), summed over the last ``event_ndim`` dimensions.

    Example:
        >>> round(gaussian_log_density(torch.zeros(1, 2), torch.zeros(1, 2)).item(), 5)
        -1.83788
    """
    x, mean = wide(x), wide(mean)
    spread = checks.number_like(log_variance, mean)
    terms = (x - mean).square() * torch.exp(-spread) + spread + math.log(2 * math.pi)
    return _summed(-0.5 * terms, event_ndim)


def bernoulli_log_density(x: Tensor, logits: Tensor, *, event_ndim: int = 1) -> Tensor:
    """x log p + (1 − x) log(1 − p) with p = sigmoid(logits), summed over the event dimensions.

    Args:
        x: Values in [0, 1]; between 0 and 1 it is the usual relaxation, not a density.
        logits: Of the same shape, up to broadcasting.
        event_ndim: Trailing dimensions to sum over.

    Raises:
        ValueError: Values outside [0, 1].

    Example:
        >>> round(bernoulli_log_density(torch.ones(1, 2), torch.zeros(1, 2)).item(), 5)
        -1.38629
    """
    x, logits = wide(x), wide(logits)
    return _summed(x * logits - softplus(logits), event_ndim)


def in_unit_interval(x: Tensor, name: str = "x") -> Tensor:
    """Values a Bernoulli decoder can explain: from 0 to 1, named by place where they are not."""
    if not checks.readable(x) or x.numel() == 0:
        return x
    outside = (x.detach() < 0) | (x.detach() > 1)
    if bool(outside.any()):
        place = tuple(int(i) for i in outside.nonzero()[0])
        low, high = x.detach().min().item(), x.detach().max().item()
        raise ValueError(
            f"{name} holds {x.detach()[place].item():.6g} at {place} (range {low:.3g} … "
            f"{high:.3g}), outside the [0, 1] of a Bernoulli decoder; rescale the data, e.g. "
            "divide pixels by their largest value, or use a Gaussian decoder"
        )
    return x


def _summed(terms: Tensor, event_ndim: int) -> Tensor:
    return terms.flatten(-event_ndim).sum(-1) if event_ndim else terms
