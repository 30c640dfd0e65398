"""Graphs of near points: minimal spanning trees and nearest neighbours."""

import torch
from torch import Tensor

from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.reduce import reduce_pairs
from probmetrics.pairwise.reductions import KSmallest


def neighbor_edges(z: Tensor, k: int, cost: AbstractGround) -> Tensor:
    """Directed edges from each point to its k nearest others, shape (N k, 2)."""
    z = _wide(z)
    nearest = reduce_pairs(cost, KSmallest(k, skip_self=True), z)[1]
    own = torch.arange(len(z), device=z.device).repeat_interleave(k)
    return torch.stack([own, nearest.reshape(-1)], dim=-1)


def spanning_edges(z: Tensor, k: int, cost: AbstractGround) -> Tensor:
    """Union of k successive minimal spanning trees without a common edge, shape (≤ k(N−1), 2).

    The second tree spans the points without the edges of the first, and so on. Where too few
    edges are left for another whole tree, a spanning forest of the remaining ones is taken.

    Notes:
        Prim's algorithm on rows of distances that are computed when needed: O(N² d) time per
        tree, memory O(N k).

    References:
        Prim (1957); Friedman, Rafsky (1979), Section 4 (orthogonal trees).
    """
    z = _wide(z)
    taken: list[list[int]] = [[] for _ in range(len(z))]
    edges: list[tuple[int, int]] = []
    for _ in range(k):
        tree = _prim(z, cost, taken)
        for i, j in tree:
            taken[i].append(j)
            taken[j].append(i)
        edges += tree
    return torch.tensor(edges, dtype=torch.int64, device=z.device).reshape(-1, 2)


def _prim(z: Tensor, cost: AbstractGround, taken: list[list[int]]) -> list[tuple[int, int]]:
    """A minimal spanning tree, or forest, that avoids the taken edges."""
    points = len(z)
    with torch.no_grad():
        embedded = cost.embed(z)
    best = torch.full((points,), torch.inf, dtype=z.dtype, device=z.device)
    parent = torch.zeros(points, dtype=torch.int64, device=z.device)
    outside = torch.ones(points, dtype=torch.bool, device=z.device)
    edges, current = [], 0
    for _ in range(points - 1):
        outside[current] = False
        with torch.no_grad():
            row = cost.between_features(embedded[current].expand_as(embedded), embedded).to(z)
        if taken[current]:
            row[taken[current]] = torch.inf
        closer = row < best
        best = torch.where(closer, row, best)
        parent[closer] = current
        reach = torch.where(outside, best, torch.inf)
        following = int(reach.argmin())
        if torch.isfinite(reach[following]):
            edges.append((int(parent[following]), following))
        else:  # nothing can be reached any more: start another tree of the forest
            following = int(outside.nonzero()[0])
        current = following
    return edges


def _wide(z: Tensor) -> Tensor:
    """Detached, in double precision where the device has it: ties in distance must be exact."""
    return z.detach().to(torch.float32 if z.device.type == "mps" else torch.float64)
