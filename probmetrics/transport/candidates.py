"""Which pairs an optimal plan may use: those of small reduced cost under entropic potentials."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from probmetrics.transport.anderson import Anderson
from probmetrics.transport.ground_cost import GroundCost

TILE = 2**20  # costs in a working block
EXACT_DIMENSIONS = 4  # up to here differences are as fast as a matrix product
UNDERFLOW = 1e-30  # a column sum below tells no more than that its potential has to rise
COARSEST, FINEST, STAGES = 1.0, 0.002, 6  # ε over the scale of the costs, falling in stages
PASSES, ENOUGH, MEMORY = 8, 0.02, 5  # sweeps per stage, or an ℓ1 marginal error that ends it


class CostTiles:
    """The costs between two samples, a block of rows at a time in one reused buffer.

    Where the cost is a power e of the Euclidean distance, points are centred and scaled to unit
    size, and the true cost is ``unit`` times the tile's. For e = 2 each sample is centred on its
    own mean: that takes from the cost a term in x and a term in y alone (``offsets``), which no
    plan can change, and saves the digits that a shift between the samples would cost.
    """

    def __init__(self, ground: GroundCost, x: Tensor, y: Tensor) -> None:
        self.ground, self.power = ground, ground.euclidean_power
        self.gap, self.unit = x.new_zeros(x.shape[-1]), 1.0
        if self.power is not None:
            middle_x, middle_y = x.mean(0), y.mean(0)
            if self.power != 2:
                middle_x = middle_y = 0.5 * (middle_x + middle_y)
            x, y = x - middle_x, y - middle_y
            size = math.sqrt(float(x.square().sum(-1).mean() + y.square().sum(-1).mean())) or 1.0
            x, y, self.gap = x / size, y / size, (middle_x - middle_y) / size
            self.unit = size**self.power
        self.x, self.y = x, y

    @property
    def flipped(self) -> "CostTiles":
        """The same costs with both samples exchanged."""
        other = object.__new__(CostTiles)
        other.ground, other.power, other.unit = self.ground, self.power, self.unit
        other.x, other.y, other.gap = self.y, self.x, -self.gap
        return other

    def offsets(self) -> tuple[Tensor, Tensor]:
        """u and v such that the true cost is ``unit`` · (tile + u_i + v_j)."""
        if self.power != 2:
            return self.x.new_zeros(self.x.shape[0]), self.y.new_zeros(self.y.shape[0])
        half = 0.5 * self.gap.square().sum()
        return 2.0 * (self.x @ self.gap) + half, half - 2.0 * (self.y @ self.gap)

    def pairs(self, i: Tensor, j: Tensor) -> Tensor:
        """Costs of chosen pairs, in float64."""
        parts = zip(i.split(TILE), j.split(TILE), strict=True)
        return torch.cat([self.ground.pairs(self.x[s], self.y[t]) for s, t in parts])

    def exact(self) -> Iterator[tuple[slice, Tensor]]:
        """All costs from differences, in float64."""
        if self.power is None:
            for block in self._blocks():
                yield block, self.ground.matrix(self.x[block], self.y)
            return
        across = self.y.T.contiguous()
        step, total = self._buffer(torch.float64), self._buffer(torch.float64)
        for block in self._blocks():
            size = block.stop - block.start
            tile, gap = total[:size].zero_(), step[:size]
            for k in range(across.shape[0]):
                torch.sub(across[k], self.x[block, k, None], out=gap)
                tile.addcmul_(gap, gap)
            yield block, self._powered(tile)

    def quick(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """All costs, from matrix products where distances are Euclidean: rounding is larger."""
        if self.power is None or (self.x.shape[1] <= EXACT_DIMENSIONS and dtype == torch.float64):
            for block, tile in self.exact():
                yield block, tile.to(dtype)
            return
        x, y = self.x.to(dtype), self.y.to(dtype)
        left = torch.cat([-2.0 * x, x.square().sum(1, keepdim=True), torch.ones_like(x[:, :1])], 1)
        right = torch.cat([y, torch.ones_like(y[:, :1]), y.square().sum(1, keepdim=True)], 1).T
        buffer = self._buffer(dtype)
        for block in self._blocks():
            tile = torch.mm(left[block], right, out=buffer[: block.stop - block.start])
            yield block, self._powered(tile)

    def _blocks(self) -> Iterator[slice]:
        n, rows = self.x.shape[0], max(1, TILE // self.y.shape[0])
        return (slice(start, min(start + rows, n)) for start in range(0, n, rows))

    def _buffer(self, dtype: torch.dtype) -> Tensor:
        n, m = self.x.shape[0], self.y.shape[0]
        return torch.empty(min(n, max(1, TILE // m)), m, dtype=dtype)

    def _powered(self, squares: Tensor) -> Tensor:
        """Costs from squared distances, in place."""
        if self.power == 2:
            return squares
        squares.clamp_(min=0.0)
        return squares.sqrt_() if self.power == 1 else squares.pow_(0.5 * (self.power or 0.0))


def cost_scale(tiles: CostTiles) -> tuple[float, float]:
    """How much costs differ beyond what one point alone explains, and how far they are rounded.

    Both from some hundred points. The first is floored where the last ε would fall below what
    float32 resolves of the costs.
    """
    some = [z[:: max(1, z.shape[0] // 256)] for z in (tiles.x, tiles.y)]
    cost = tiles.ground.matrix(*some)
    centred = cost - cost.mean(0) - cost.mean(1, keepdim=True) + cost.mean()
    spread, largest = float(centred.square().mean().sqrt()), float(cost.abs().max())
    return max(spread, 1e-3 * largest) or 1.0, 4.0 * torch.finfo(torch.float64).eps * largest


def largest_cost(tiles: CostTiles) -> float:
    """The largest of all costs, in absolute value, up to rounding."""
    return max(float(tile.abs_().max()) for _, tile in tiles.quick(torch.float32))


def entropic_potentials(
    tiles: CostTiles, a: Tensor, b: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Rough potentials of the entropic problem with small ε, annealed; in float32.

    While the exponentials of a block of rows are in cache their sums give f, and the same
    values, divided by them, add up to the column sums that give the next g: one sweep with one
    exponential per pair is a full Sinkhorn iteration, extrapolated by Anderson's method. The
    potentials only choose candidates, so they need not be accurate.
    """
    weights, masses = a.float(), b.float().clamp_min(UNDERFLOW)
    f, g, log_b = torch.zeros_like(weights), torch.zeros_like(masses), masses.log()
    for stage in range(STAGES):
        epsilon = scale * COARSEST * (FINEST / COARSEST) ** (stage / (STAGES - 1))
        rate = math.log2(math.e) / epsilon
        jump = Anderson(MEMORY, masses.unsqueeze(0))
        for _ in range(PASSES):
            columns = torch.zeros_like(g)
            lift = (g + epsilon * log_b) * rate
            for block, tile in tiles.quick(torch.float32):
                torch.sub(lift, tile, alpha=rate, out=tile)
                top = tile.amax(1, keepdim=True)
                total = tile.sub_(top).exp2_().sum(1)
                f[block] = -(top.squeeze(1) + total.log2()) / rate
                columns += (weights[block] / total) @ tile
            error = (columns - masses).abs().sum()
            if error < ENOUGH:
                break
            image = g - epsilon * (columns.clamp_min(UNDERFLOW).log() - log_b)
            if columns.min() > UNDERFLOW:
                image = jump.step(g.unsqueeze(0), image.unsqueeze(0), error.unsqueeze(0)).squeeze(0)
            g = image
    return f.double(), g.double()


def nearest_pairs(tiles: CostTiles, g: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """For each point of x the k targets of least c − g: their indices i and j."""
    k, lift = min(k, g.numel()), g.float()
    j = torch.cat(
        [
            torch.topk(tile.sub_(lift), k, dim=1, largest=False, sorted=False).indices
            for _, tile in tiles.quick(torch.float32)
        ]
    )
    i = torch.arange(j.shape[0]).unsqueeze(1).expand_as(j)
    return i.reshape(-1), j.reshape(-1)
