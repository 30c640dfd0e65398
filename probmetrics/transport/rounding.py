"""Whether single precision is enough: for the costs of a problem, and for the sums of a pass."""

import math

import torch
from torch import Tensor

from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.ground import AbstractGround, InnerGeometry, some_rows
from probmetrics.pairwise.tiles import Pairs

SAFE = 1e30  # range of the sums that single precision holds with room to spare
SHARE = 1e-4  # of ε that the rounding of a cost may reach, and of a cost that of a potential
SOME = 64  # points of each sample that say how large costs are


def working_precision(ground: AbstractGround, x: Tensor, y: Tensor, epsilon: Tensor) -> torch.dtype:
    """Float32 where the rounding errors of a cost and of a sum stay far below what they add to.

    A cost's is compared with ε, and ε times that of a sum, whose logarithm is a potential, with
    the cost.
    """
    if x.dtype == torch.float64:
        return torch.float64
    if not isinstance(ground, SqEuclidean) and Pairs(ground, x, y).dtype == torch.float64:
        return torch.float64
    size = _largest(ground, x, y)
    unit = torch.finfo(torch.float32).eps
    coarse = (unit * size / epsilon > SHARE) | ((unit * epsilon / size > SHARE) & (size > 0))
    return torch.float64 if bool(coarse.any()) else torch.float32


def _largest(ground: AbstractGround, x: Tensor, y: Tensor) -> Tensor:
    """About the largest cost, float64, shape (B,)."""
    if not isinstance(ground, SqEuclidean):
        some = [some_rows(z, SOME) for z in (x, y)]
        size = ground.on_features(*some).abs().amax((-1, -2)).double()
        if isinstance(ground.geometry, InnerGeometry):  # 1 − ⟨x, y⟩ is rounded like its terms
            size = size.maximum(some[0].square().sum(-1).amax(-1).double())
        return size
    middle = y.mean(-2, keepdim=True)
    off = [z - middle for z in (x, y)]
    size = torch.stack([torch.einsum("...d,...d->...", z, z).amax(-1) for z in off])
    return size.amax(0).double()


def within(row: Tensor, columns: Tensor | None = None) -> bool:
    """Whether all sums are numbers that single precision holds."""
    low, high = torch.aminmax(row)
    fine = float(low) > 1.0 / SAFE and float(high) < SAFE
    return fine and (columns is None or math.isfinite(float(columns.sum())))
