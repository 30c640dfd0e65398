"""The size of coordinates, to be divided by before they are squared or raised."""

import torch
from torch import Tensor


def magnitude(x: Tensor, y: Tensor) -> Tensor:
    """The power of two below the largest coordinate of x and y, one if all are zero, (*batch).

    Dividing by it, and multiplying again, is exact.
    """
    largest = torch.maximum(*(z.detach().abs().amax((-2, -1)) for z in (x, y)))
    exponent = torch.where(largest > 0, torch.frexp(largest).exponent - 1, 0)
    return torch.ldexp(torch.ones_like(largest), exponent)
