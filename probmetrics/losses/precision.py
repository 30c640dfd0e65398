"""Half precision is compared, summed and exponentiated in float32."""

import torch
from torch import Tensor

from probmetrics import _checks as checks


def wide(x: Tensor) -> Tensor:
    """Half precision in float32; everything else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def averaged(x: Tensor, name: str) -> Tensor:
    """Values a mean may be taken of: finite, at least one, not in half precision."""
    if x.numel() == 0:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}; pass at least one value")
    return wide(checks.finite(x, name))
