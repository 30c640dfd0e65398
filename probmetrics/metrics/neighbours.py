"""Nearest neighbours and ball counts whose ties are decided in float64, in linear memory."""

from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.pairwise import reduce_pairs
from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.reductions import AbstractReduction, KSmallest, Reading

SPARE = 3  # neighbours looked at beyond the k asked for, whose order rounding may have changed
TIE = 1e-13  # squared distances that agree to this share of themselves are equal


def plain(x: Tensor, y: Tensor, *, minimum: int, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """Two checked samples without batch dimensions."""
    x, y = checks.samples(x, y, minimum=minimum, names=names)
    for z, name in ((x, names[0]), (y, names[1])):
        if z.ndim != 2:
            raise ValueError(
                f"{name} must have shape (n, d), one problem at a time; got {tuple(z.shape)}"
            )
    return x.detach(), y.detach()


def single(x: Tensor, *, minimum: int, name: str) -> Tensor:
    """One checked sample without batch dimensions."""
    x = checks.sample(x, minimum=minimum, name=name)
    if x.ndim != 2:
        raise ValueError(
            f"{name} must have shape (n, d), one problem at a time; got {tuple(x.shape)}"
        )
    return x.detach()


def nearest(x: Tensor, y: Tensor | None = None, k: int = 1) -> tuple[Tensor, Tensor]:
    """Squared distances (n, k), float64, ascending, and indices of the k nearest points of y.

    With y None, those of x itself, each point left out of its own neighbours (its copies are not).
    The distances are sums of squared differences of the rows as they are, so the distance of a
    copy is exactly zero.
    """
    others = x if y is None else y
    skip = y is None
    available = len(others) - skip
    found = reduce_pairs(SqEuclidean(), KSmallest(min(k + SPARE, available), skip_self=skip), x, y)
    indices = found[1]
    squares = torch.stack([squared(x, others[column]) for column in indices.mT], -1)
    squares, order = squares.sort(dim=-1, stable=True)
    return squares[:, :k], indices.gather(-1, order)[:, :k]


def squared(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_i‖² of rows, float64."""
    return (x.double() - y.double()).square().sum(-1)


def count_balls(x: Tensor, y: Tensor, radii: Tensor, *, closed: bool = False) -> Tensor:
    """In how many of the balls around the points of y each point of x lies, shape (n,).

    Args:
        x: Points, shape (n, d).
        y: Centres, shape (m, d).
        radii: *Squared* radii, shape (m,), float64.
        closed: Count points on the sphere too; by default ‖x − y‖ < r, strictly.

    Notes:
        Where rounding of the fast squared distances could change an answer, the pair is looked at
        again with float64 differences; distances equal to 13 digits are ties.
    """
    middle = y.double().mean(0)
    x_c, y_c = (x.double() - middle).to(x.dtype), (y.double() - middle).to(x.dtype)
    scale = max(float(z.double().square().sum(-1).max()) for z in (x_c, y_c))
    slack = 64 * torch.finfo(x.dtype).eps * scale + 1e-300
    counts = reduce_pairs(SqEuclidean(), _Band(radii - slack, radii + slack), x_c, y_c)
    surely: Tensor = counts[..., 0]
    perhaps = counts[..., 1]
    unsure = (surely != perhaps).nonzero().squeeze(-1)
    step = max(1, 2**24 // len(y))
    for rows in unsure.split(step):
        surely[rows] = _close_calls(x[rows], y, x_c[rows], y_c, radii, slack, closed)
    return surely


def _close_calls(
    x: Tensor,
    y: Tensor,
    x_c: Tensor,
    y_c: Tensor,
    radii: Tensor,
    slack: float,
    closed: bool,
) -> Tensor:
    """The counts of some rows, every pair near a sphere decided by float64 differences."""
    margin = SqEuclidean()(x_c, y_c).double() - radii
    close = margin.abs() <= 2 * slack
    counts = ((margin < 0) & ~close).sum(-1)
    row, column = close.nonzero(as_tuple=True)
    exact, radius = squared(x[row], y[column]), radii[column]
    tied = (exact - radius).abs() <= TIE * radius
    inside = (exact < radius) & ~tied | (tied & closed)
    counts.index_add_(0, row, inside.long())
    return counts


@dataclass(frozen=True, eq=False)
class _Band(AbstractReduction):
    """How many columns lie below a low and below a high bound of their own, (n, 2)."""

    low: Tensor
    high: Tensor

    def check(self, n: int, m: int) -> None:
        assert self.low.shape == self.high.shape == (m,)

    def of(self, tile: Tensor, rows: slice, columns: slice) -> Reading:
        low, high = (bound[columns].to(tile.dtype) for bound in (self.low, self.high))
        return (torch.stack([(tile < low).sum(-1), (tile < high).sum(-1)], -1),)

    def merge(self, left: Reading, right: Reading) -> Reading:
        return (left[0] + right[0],)

    @property
    def row_axis(self) -> int:
        return -2
