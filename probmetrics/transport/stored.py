"""A ground that reads its values from a matrix, so that histograms go where samples go."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise.ground import AbstractGround


class StoredGeometry:
    """t = C[k, i, j], for "points" that are the places i and j in the k-th of several matrices.

    Args:
        costs: All values, shape (B, n, m).
    """

    def __init__(self, costs: Tensor) -> None:
        self.costs = costs

    def places(self) -> tuple[Tensor, Tensor]:
        """Rows (B, n, 3) and columns (B, m, 3) as points: which matrix, place and side."""
        batch, n, m = self.costs.shape
        sides = []
        for size, side in ((n, 0.0), (m, 1.0)):
            points = self.costs.new_empty(batch, size, 3, dtype=torch.float64)
            points[..., 0] = torch.arange(batch, device=points.device).unsqueeze(-1)
            points[..., 1] = torch.arange(size, device=points.device)
            points[..., 2] = side
            sides.append(points)
        return sides[0], sides[1]

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """The values between rows and columns, or columns and rows, as the points say."""
        k = x[..., :1, 0].long().unsqueeze(-1)
        i, j = x[..., 1].long().unsqueeze(-1), y[..., 1].long().unsqueeze(-2)
        flipped = bool(x[0, 0, 2] == 1.0)
        return self.costs[k, j, i] if flipped else self.costs[k, i, j]

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """The values between matching rows and columns."""
        k, i, j = x[..., 0].long(), x[..., 1].long(), y[..., 1].long()
        return self.costs[k, j, i] if bool(x[..., 2].any()) else self.costs[k, i, j]


@dataclass(frozen=True, repr=False)
class StoredCost(AbstractGround):
    """The cost of moving bin i to bin j, given as a matrix.

    Args:
        stored: The matrices; their ``places`` are the points.

    Example:
        >>> costs = StoredGeometry(torch.tensor([[[0.0, 2.0], [1.0, 0.0]]]))
        >>> StoredCost(costs)(*costs.places())
        tensor([[[0., 2.],
                 [1., 0.]]])
    """

    stored: StoredGeometry

    @property
    def geometry(self) -> Any:
        return self.stored

    def profile(self, t: Tensor, d: int) -> Tensor:
        return t

    def profile_slope(self, t: Tensor, d: int) -> Tensor:
        return torch.ones_like(t)
