"""Families of kernels over a grid of bandwidths, all evaluated on the same labelings."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.pairwise.ground import AbstractGround, Geometry
from probmetrics.pairwise.kernels import Gaussian, Laplacian
from probmetrics.twosample.kernel_statistic import KernelStatistic, PreparedKernel, wide
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared, AbstractStatistic

SCALE_POINTS = 500  # pooled points whose distances the grid is read off
SHARED = 2**26  # bytes of distances that kernels of one kind share
SHAPES = ("gaussian", "laplacian")


@dataclass(frozen=True)
class KernelFamily(AbstractStatistic):
    """Squared MMD of every labeling with each of several kernels.

    Attributes:
        kernels: The kernels.
        unbiased: U-statistics rather than V-statistics.
        paired: The labelings swap pairs only.
    """

    kernels: tuple[AbstractGround, ...]
    unbiased: bool = True
    paired: bool = False

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "PreparedFamily":
        """Prepare each kernel on the pooled points."""
        budget = BUDGET // len(self.kernels)
        shared: dict[Geometry, Tensor] = {}
        members = []
        for kernel in self.kernels:
            statistic = KernelStatistic(kernel, self.unbiased, budget, self.paired)
            reading = _shared_reading(kernel, wide(z), shared)
            if reading is None:
                members.append(statistic.prepare(z, sizes))
            else:
                index = torch.arange(len(z), device=z.device)
                members.append(statistic.bind(index, reading))
        return PreparedFamily(members)


class PreparedFamily(AbstractPrepared):
    """Kernels bound to the same pooled points."""

    tolerance = 1e-6

    def __init__(self, members: list[PreparedKernel]) -> None:
        self.members = members
        self.batch = members[0].batch

    def evaluate(self, labels: Tensor) -> Tensor:
        first = self.members[0].indicator(labels, 0)
        values = [member.blocks_of(first).mmd(member.unbiased) for member in self.members]
        return torch.stack(values, dim=-1)


Reading = Callable[[Tensor, Tensor], Tensor]


def _shared_reading(
    kernel: AbstractGround, points: Tensor, shared: dict[Geometry, Tensor]
) -> Reading | None:
    """A kernel as a function of positions, read off distances that all kernels of its kind share.

    Args:
        kernel: The kernel.
        points: Pooled points, shape (N, d).
        shared: Distances between all points by geometry; a missing one is added.

    Returns:
        ``None`` where distances take too much memory or the kernel has features of its own.
    """
    core = kernel.core
    geometry, d = core.geometry, points.shape[-1]
    if geometry is None or core.embedding() or 8 * len(points) ** 2 > SHARED:
        return None
    if geometry not in shared:
        with torch.no_grad():
            shared[geometry] = geometry.matrix(points, points)
    t = shared[geometry]

    def reading(here: Tensor, there: Tensor) -> Tensor:
        return core.tile(t[_span(here)][:, _span(there)] * core.rate(d), d)

    return reading


def _span(positions: Tensor) -> slice | Tensor:
    """Consecutive positions as a slice, which copies nothing."""
    first, last = int(positions[0]), int(positions[-1])
    return slice(first, last + 1) if last - first + 1 == len(positions) else positions


def pooled_distances(z: Tensor, shape: str) -> Tensor:
    """Distances between at most a few hundred pooled points, taken in shuffled order.

    Args:
        z: Pooled points, shape (N, d).
        shape: ``"gaussian"`` (ℓ2) or ``"laplacian"`` (ℓ1).
    """
    checks.choice(shape, "kernel shape", SHAPES)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))[:SCALE_POINTS]
    return torch.pdist(wide(z)[order.to(z.device)], p=2.0 if shape == "gaussian" else 1.0)


def bandwidth_grid(
    z: Tensor, shape: str, count: int, *, spacing: str = "geometric", widen: float = 2.0
) -> list[float]:
    """Bandwidths from well below to well above the distances between pooled points.

    From the 5% quantile of the distances divided by ``widen`` to the 95% quantile times it. The
    distances are those between pooled points, whatever their labels, of at most a few hundred
    points taken in shuffled order: distances from x to y would see the labels and cost the test
    its level.

    Args:
        z: Pooled points, shape (N, d).
        shape: ``"gaussian"`` (ℓ2 distances) or ``"laplacian"`` (ℓ1).
        count: How many bandwidths.
        spacing: ``"geometric"`` or ``"linear"``.
        widen: Factor beyond the quantiles.
    """
    count = checks.count(count, "bandwidths")
    distances = pooled_distances(z, shape)
    apart = distances[distances > 0]
    if len(apart) == 0:
        return [1.0] * count
    low, high = apart.quantile(torch.tensor([0.05, 0.95]).to(apart)).tolist()
    low, high = low / widen, high * widen
    if spacing == "linear":
        return torch.linspace(low, high, count, dtype=torch.float64).tolist()
    return torch.logspace(0, 1, count, base=high / low, dtype=torch.float64).mul(low).tolist()


def grid_kernels(
    z: Tensor, count: int, *, spacing: str = "geometric", shapes: tuple[str, ...] = SHAPES
) -> tuple[AbstractGround, ...]:
    """Gaussian and ℓ1 Laplacian kernels over their grids of bandwidths."""
    return tuple(
        Gaussian(bandwidth) if shape == "gaussian" else Laplacian(bandwidth, norm=1)
        for shape in shapes
        for bandwidth in bandwidth_grid(z, shape, count, spacing=spacing)
    )
