"""Which pairs of many points in few dimensions have small reduced costs, without visiting all."""

import torch
from torch import Tensor

CELL = 8  # most consecutive points that are judged together,
GROUP = 16  # and consecutive cells that are judged before them
CHUNK = 2**22  # pairs evaluated at once
RIDGE = 1e-9


def spatial_order(x: Tensor) -> Tensor:
    """An order of the points in which neighbours in the order are neighbours in space.

    Halves are split at the median of their longest side, again and again (a k-d tree).
    """
    n, d = x.shape
    order = torch.arange(n)
    bounds = torch.tensor([0, n])
    while int(torch.diff(bounds).max()) > 1:
        sizes = torch.diff(bounds)
        part = torch.repeat_interleave(torch.arange(sizes.numel()), sizes)
        points = x[order]
        shape = (sizes.numel(), d)
        index = part.unsqueeze(-1).expand(-1, d)
        low = x.new_full(shape, torch.inf).scatter_reduce(0, index, points, "amin")
        high = x.new_full(shape, -torch.inf).scatter_reduce(0, index, points, "amax")
        axis = (high - low).argmax(-1)
        along = points.gather(1, axis[part].unsqueeze(-1)).squeeze(-1)
        inner = along.argsort()
        order = order[inner[part[inner].argsort(stable=True)]]
        bounds = halved(bounds)
    return order


def halved(bounds: Tensor) -> Tensor:
    """Twice as many parts of a spatial order: where they begin, and the end."""
    middle = (bounds[:-1] + bounds[1:]) // 2
    return torch.cat([torch.stack([bounds[:-1], middle], 1).reshape(-1), bounds[-1:]])


def parts(n: int, count: int) -> Tensor:
    """The bounds of ``count`` parts of a spatial order of n points, a power of two."""
    bounds = torch.tensor([0, n])
    while bounds.numel() <= count:
        bounds = halved(bounds)
    return bounds


class Cells:
    """Runs of consecutive points, with a linear bound on their potential.

    Within a cell potential_i ≤ height + slope·(x_i − centre), and ‖x_i − centre‖ ≤ radius.

    Args:
        points: In spatial order, shape (n, d).
        potential: Shape (n,).
        merged: How many of the smallest cells make one.
    """

    def __init__(self, points: Tensor, potential: Tensor, merged: int) -> None:
        n, d = points.shape
        count = GROUP
        while count * CELL < n:
            count *= 2
        bounds = parts(n, count)
        width = int(torch.diff(bounds).max())
        places = bounds[:-1].unsqueeze(1) + torch.arange(width)
        there = (places < bounds[1:].unsqueeze(1)).view(-1, width * merged)
        self.places = places.clamp(max=n - 1).view(-1, width * merged)
        self.points = points[self.places]
        # A pair with a place that no point fills is never near.
        self.potential = torch.where(there, potential[self.places], -torch.inf)
        there = self.potential.isfinite().unsqueeze(-1)
        number = there.sum(1).clamp_min(1)
        self.centre = (self.points * there).sum(1) / number
        offset = (self.points - self.centre.unsqueeze(1)) * there
        self.radius = offset.norm(dim=-1).amax(-1)
        known = torch.where(there, self.potential.unsqueeze(-1), 0.0)
        known = (known - known.sum(1, keepdim=True) / number.unsqueeze(1)) * there
        gram = offset.mT @ offset
        ridge = RIDGE * gram.diagonal(dim1=-2, dim2=-1).sum(-1) + 1e-300
        eye = torch.eye(d, dtype=points.dtype)
        self.slope = torch.linalg.solve(gram + ridge[:, None, None] * eye, offset.mT @ known)[
            ..., 0
        ]
        rise = (offset @ self.slope.unsqueeze(-1)).squeeze(-1)
        self.height = (self.potential - rise).amax(-1)


def least_reduced(left: Cells, right: Cells, i: Tensor, j: Tensor) -> Tensor:
    """A lower bound of ‖x − y‖² − f − g between all points of cells i and all of cells j.

    With x = x̄ + u, y = ȳ + v, Δ = x̄ − ȳ and slopes s and t the reduced cost is at least ‖Δ‖²
    minus both heights, plus 2Δ·(u − v) + ‖u − v‖² − s·u − t·v. For w = u − v, ‖w‖ ≤ R, the last
    four are ‖w‖² + 2D·w − ½(s + t)·(u + v) with D = Δ − ¼(s − t). Near the plan D and s + t vanish.
    """
    gap = left.centre[i] - right.centre[j]
    s, t = left.slope[i], right.slope[j]
    reach = left.radius[i] + right.radius[j]
    off = (gap - 0.25 * (s - t)).norm(dim=-1)
    inward = off.minimum(reach)
    height = left.height[i] + right.height[j]
    least: Tensor = gap.square().sum(-1) - height + inward * (inward - 2.0 * off)
    return least.sub_(0.5 * (s + t).norm(dim=-1) * reach)


def near_cells(
    left: tuple[Cells, Cells], right: tuple[Cells, Cells], cut: float
) -> tuple[Tensor, Tensor]:
    """Pairs of cells that may hold pairs with ‖x − y‖² − f − g ≤ cut.

    Args:
        left: Groups of cells, and the cells.
        right: The same for y.
        cut: Largest reduced cost.
    """
    n, m = (side[0].radius.numel() for side in (left, right))
    every = torch.arange(n * m).split(CHUNK)
    pairs = [p[least_reduced(left[0], right[0], p // m, p % m) <= cut] for p in every]
    groups = torch.cat(pairs)
    inner = torch.arange(GROUP)
    rows, columns = [], []
    for some in groups.split(CHUNK // GROUP**2):
        i = ((some // m).view(-1, 1, 1) * GROUP + inner.view(-1, 1)).expand(-1, GROUP, GROUP)
        j = ((some % m).view(-1, 1, 1) * GROUP + inner).expand(-1, GROUP, GROUP)
        i, j = i.reshape(-1), j.reshape(-1)
        kept = least_reduced(left[1], right[1], i, j) <= cut
        rows.append(i[kept])
        columns.append(j[kept])
    empty = torch.empty(0, dtype=torch.int64)
    return torch.cat([empty, *rows]), torch.cat([empty, *columns])


def near_pairs(
    x: Tensor, y: Tensor, f: Tensor, g: Tensor, cut: float
) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs with ‖x_i − y_j‖² − f_i − g_j ≤ cut: their i and j, and their costs.

    Args:
        x: Points in spatial order, float64, shape (n, d).
        y: The same, shape (m, d).
        f: Potential on x, shape (n,).
        g: Potential on y, shape (m,).
        cut: Largest reduced cost.
    """
    sides = [(Cells(z, p, GROUP), Cells(z, p, 1)) for z, p in ((x, f), (y, g))]
    rows, columns = near_cells(sides[0], sides[1], cut)
    left, right = sides[0][1], sides[1][1]
    found = []
    for some in torch.arange(rows.numel()).split(CHUNK // CELL**2):
        r, c = rows[some], columns[some]
        cost = x.new_zeros(r.numel(), left.places.shape[1], right.places.shape[1])
        for axis in range(x.shape[1]):
            gap = left.points[r, :, axis].unsqueeze(2) - right.points[c, :, axis].unsqueeze(1)
            cost.addcmul_(gap, gap)
        reduced = cost - left.potential[r].unsqueeze(2) - right.potential[c].unsqueeze(1)
        k, i, j = (reduced <= cut).nonzero(as_tuple=True)
        found.append((left.places[r[k], i], right.places[c[k], j], cost[k, i, j]))
    if not found:
        empty = torch.empty(0, dtype=torch.int64)
        return empty, empty, x.new_empty(0)
    i, j, cost = (torch.cat(pieces) for pieces in zip(*found, strict=True))
    return i, j, cost


def c_transform(x: Tensor, y: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """min_j ‖x_i − y_j‖² − g_j for all i, exactly.

    Args:
        x: Points in spatial order, shape (n, d).
        y: The same, shape (m, d).
        f: Numbers that are not below the answer, shape (n,): the least over some pairs.
        g: Potential, shape (m,).
    """
    slack = 1e-12 * float(f.abs().max() + g.abs().max())
    i, j, cost = near_pairs(x, y, f, g, slack)
    return f.scatter_reduce(0, i, cost - g[j], "amin")
