"""Nearest neighbours in few coordinates through a k-d tree, which looks at few of the pairs."""

import numpy as np
import torch
from torch import Tensor

from probmetrics._checks import readable
from probmetrics.pairwise.centring import differences
from probmetrics.pairwise.ground import AbstractGround, MinkowskiGeometry, SquaredGeometry
from probmetrics.pairwise.reductions import KSmallest

LEAST = 2**16  # pairs from which on a tree is worth building
FEW = 4  # coordinates, or
MORE, MANY = 6, 2**12  # a few more where there are many points
RARE = 16  # copies and ties of more than one point in this many are left to tiles
PER_WORKER = 2**8  # points for which a thread is worth starting
OPENED = 2**20  # distances looked at together where a row has ties


def tree_neighbors(
    ground: AbstractGround, x: Tensor, y: Tensor, reduction: KSmallest
) -> tuple[Tensor, Tensor] | None:
    """The k nearest points of each row, or None where tiles do better.

    Distances are float64 sums of squared differences. Of several points at exactly the k-th
    distance the first are taken.

    Args:
        ground: Any ground.
        x: Embedded points, shape (1, n, d).
        y: Embedded points, shape (1, m, d).
        reduction: How many neighbours.

    Returns:
        Their distances in the tree's norm, float64, and their columns, shape (1, n, k), in
        ascending order, ties by column.
    """
    if not _suits(ground, x, y, reduction):
        return None
    from scipy.spatial import cKDTree

    rows, columns = (z.detach()[0].double().numpy() for z in (x, y))
    if not np.isfinite(rows.sum() + columns.sum()) or _copied(columns):
        return None
    order = ground.geometry.p if isinstance(ground.geometry, MinkowskiGeometry) else 2.0
    tree = cKDTree(columns, leafsize=16 if x.shape[-1] < FEW else 32)
    k, n = reduction.k, len(rows)
    asked = min(k + reduction.skip_self + 1, tree.n)
    workers = max(1, min(torch.get_num_threads(), n // PER_WORKER))
    distances, found = tree.query(rows, k=asked, p=order, workers=workers)
    distances, found = distances.reshape(n, asked), found.reshape(n, asked)
    if not np.isfinite(distances[:, -1]).all():  # squares that overflow
        return None
    if reduction.skip_self:
        distances, found = _without_self(distances, found)
    level = distances[:, 1 : k + 1] == distances[:, :k][:, : distances.shape[1] - 1]
    tied = level.any(1) | (distances[:, k - 1] == 0.0)  # copies, or squares that vanish
    if tied.sum() * RARE > n:
        return None
    gaps, chosen = (torch.from_numpy(part[:, :k].copy()) for part in (distances, found))
    points = torch.from_numpy(rows), torch.from_numpy(columns)
    open_rows = torch.from_numpy(np.flatnonzero(tied))
    for some in open_rows.split(max(1, OPENED // len(columns))) if len(open_rows) else ():
        gaps[some], chosen[some] = _first_of_ties(*points, some, reduction, order)
    return gaps.unsqueeze(0), chosen.unsqueeze(0)


def _suits(ground: AbstractGround, x: Tensor, y: Tensor, reduction: KSmallest) -> bool:
    """Whether near points in the tree's norm are near in the ground, and few are looked at."""
    ranked = isinstance(ground.geometry, SquaredGeometry | MinkowskiGeometry) and ground.increasing
    n, m, d = x.shape[-2], y.shape[-2], x.shape[-1]
    few = d <= FEW or (d <= MORE and m >= MANY)
    large = n * m >= LEAST and m >= 16 * (reduction.k + 1)
    plain = type(x.detach()) is Tensor and readable(x) and not ground.has_offset
    return ranked and few and large and len(x) == 1 and plain


def _copied(points: np.ndarray) -> bool:
    """Whether many points are copies: a tree cannot part them, and looks at each."""
    along = points @ np.cos(np.arange(1.0, points.shape[1] + 1))
    along.sort()
    return bool((along[1:] == along[:-1]).sum() * RARE > len(along))


def _without_self(distances: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row without its own number; where copies crowded it out, without the last one."""
    own = found == np.arange(len(found))[:, None]
    own[:, -1] |= ~own.any(1)
    shape = len(found), found.shape[1] - 1
    return distances[~own].reshape(shape), found[~own].reshape(shape)


def _first_of_ties(
    x: Tensor, y: Tensor, rows: Tensor, reduction: KSmallest, order: float
) -> tuple[Tensor, Tensor]:
    """The k nearest columns of some rows, of those at the k-th distance the first."""
    gaps = differences(x[rows], y, order)
    if reduction.skip_self:
        gaps[torch.arange(len(rows)), rows] = float("inf")
    last = gaps.kthvalue(reduction.k, dim=-1, keepdim=True).values
    nearer, level = gaps < last, gaps == last
    room = reduction.k - nearer.sum(-1, keepdim=True)
    taken = nearer | (level & (level.cumsum(-1) <= room))
    columns = taken.nonzero()[:, 1].reshape(len(rows), reduction.k)
    values, by_distance = gaps.gather(-1, columns).sort(dim=-1, stable=True)
    return values, columns.gather(-1, by_distance)
