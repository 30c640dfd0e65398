"""Where samples lie and how fine their distances are: what rounding may cost an expanded square."""

import math

import numpy as np
import torch
from torch import Tensor

from probmetrics._checks import common_batch, readable

GOLDEN = (5**0.5 - 1) / 2
SHARE = 32  # points of a sample that a look at its scale takes


def centre_of(*points: Tensor) -> Tensor:
    """A robust middle of the pooled points, shape (*batch, 1, d), for numerical centring only.

    The coordinate-wise median of a few points: one outlier at 1e6 would drag the mean, and with
    it the rounding error of every other pair, and one NaN, which a device is not asked about, all
    pairs. Problems in a batch make do with three points.
    """
    single = all(p.ndim == 2 or p.shape[0] == 1 for p in points)
    chosen = [some_rows(p, SHARE if single else 3 if len(points) == 1 else 2) for p in points]
    pooled = chosen[0]
    if len(chosen) > 1:
        batch = common_batch(*(c.shape[:-2] for c in chosen))
        pooled = torch.cat([c.expand(*batch, *c.shape[-2:]) for c in chosen], dim=-2)
    if single or pooled.shape[-2] < 3:
        return pooled.nanmedian(dim=-2, keepdim=True).values
    first, second, third = (pooled[..., i : i + 1, :] for i in range(3))
    low, high = torch.fmin(first, second), torch.fmax(first, second)
    return torch.fmax(low, torch.fmin(high, third))


def some_rows(x: Tensor, few: int = SHARE) -> Tensor:
    """A few points, for looking at the place and scale of a sample.

    Their places follow multiples of the golden ratio, which no periodic order of the rows meets.
    """
    n = x.shape[-2]
    if n <= few:
        return x.detach()
    if readable(x):  # NumPy begins its operations faster
        chosen = (np.arange(1, few + 1) * GOLDEN % 1.0) * n
        return x.detach().index_select(-2, torch.from_numpy(chosen.astype(np.int64)))
    # made on the device: a list of places would have to be copied there, which waits for it
    steps = torch.arange(1, few + 1, dtype=torch.float64, device=x.device)
    places = ((steps * GOLDEN % 1.0) * n).long()
    return x.detach().index_select(-2, places)


def coarse(largest: float, x: Tensor, y: Tensor, length: float | None = None) -> bool:
    """Whether float32 is too coarse for expanding the squared distances between two samples.

    The rounding error grows with the squared distance of the points from their centre. It may
    not reach a thousandth of the squared ``length`` that a kernel resolves or, without one, a
    small part of the shorter squared distances between points.

    Args:
        largest: Largest squared distance of a point from the centre.
        x: Points, shape (*batch, n, d).
        y: Points, shape (*batch, m, d).
        length: The length scale of a smooth kernel, or None.
    """
    resolution = torch.finfo(torch.float32).eps * largest
    if length is not None:
        return not resolution <= 1e-3 * length**2
    few = some_rows(x)
    return _short_gaps(resolution, few, few if y is x else some_rows(y))


def coarse_blocks(largest: float, x: Tensor, y: Tensor) -> bool:
    """Whether float32 is too ``coarse`` for distances within x, within y, or between them."""
    resolution = torch.finfo(torch.float32).eps * largest
    a, b = some_rows(x), some_rows(y)
    return any(_short_gaps(resolution, *pair) for pair in ((a, b), (a, a), (b, b)))


def _short_gaps(resolution: float, x: Tensor, y: Tensor) -> bool:
    """Whether a resolution of squares spoils a tenth of the distances above zero."""
    a, b = (rows.reshape(-1, *rows.shape[-2:])[:8].double() for rows in (x, y))
    gaps = np.sort(differences(a, b).numpy(), axis=None)
    gaps = gaps[np.searchsorted(gaps, 0.0, side="right") :]
    few = math.ceil(0.1 * len(gaps))
    return few > 0 and not resolution <= 2e-5 * float(gaps[few - 1]) ** 2


def centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both samples relative to one common middle; squared distances do not change."""
    if x is y:
        moved = x - centre_of(x)
        return moved, moved
    centre = centre_of(x, y)
    return x - centre, y - centre


def differences(x: Tensor, y: Tensor, p: float = 2.0) -> Tensor:
    """‖x_i − y_j‖_p from the differences themselves, exact at any offset."""
    return torch.cdist(x, y, p=p, compute_mode="donot_use_mm_for_euclid_dist")
