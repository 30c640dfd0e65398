"""Whether single precision is enough: for the costs of a problem, and for the sums of a pass."""

import math

import torch
from torch import Tensor

from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.tiles import Pairs

SAFE = 1e30  # range of the sums that single precision holds with room to spare
SHARE = 1e-4  # of ε that the rounding of a cost may reach


def working_precision(ground: AbstractGround, x: Tensor, y: Tensor, epsilon: Tensor) -> torch.dtype:
    """Float32 where the rounding error of a cost stays far below ε, else float64."""
    if x.dtype == torch.float64:
        return torch.float64
    if not isinstance(ground, SqEuclidean):
        return Pairs(ground, x, y).dtype
    middle = y.mean(-2, keepdim=True)
    off = [z - middle for z in (x, y)]
    size = torch.stack([torch.einsum("...d,...d->...", z, z).amax(-1) for z in off])
    error = torch.finfo(torch.float32).eps * size.amax(0).double() / epsilon
    return torch.float64 if bool((error > SHARE).any()) else torch.float32


def within(row: Tensor, columns: Tensor | None = None) -> bool:
    """Whether all sums are numbers that single precision holds."""
    low, high = torch.aminmax(row)
    fine = float(low) > 1.0 / SAFE and float(high) < SAFE
    return fine and (columns is None or math.isfinite(float(columns.sum())))
