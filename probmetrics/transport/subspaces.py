"""Wasserstein distance of projections on subspaces of k dimensions, averaged."""

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import (
    Array,
    SamplesX,
    SamplesY,
    Values,
    WeightsX,
    WeightsY,
    array_function,
)
from probmetrics.transport.directions import orthonormal_frames
from probmetrics.transport.magnitude import magnitude
from probmetrics.transport.quantiles import safe_root
from probmetrics.transport.sliced import Features, prepare
from probmetrics.transport.slices import mean_distance


@array_function
def projected_wasserstein(
    x: SamplesX,
    y: SamplesY,
    *,
    k: int = 2,
    p: float | int = 2.0,
    projections: int = 16,
    root: bool = True,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    generator: torch.Generator | int | None = None,
    directions: Array | str = "random",
    features: Features | None = None,
) -> Values:
    r"""Wasserstein distance of order p between projections on k-dimensional subspaces, averaged.

    .. math:: \frac1L \sum_{l=1}^L W_p^p(U_l x, U_l y), \qquad U_l U_l^\top = I_k

    and its p-th root: k = 1 is the sliced distance, k = d the Wasserstein distance itself, and
    every k is a lower bound of that.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        k: Dimension of the subspaces, from 1 to d; not read if frames are given.
        p: Order, at least 1 and finite.
        projections: How many subspaces L to draw; for k = d one is used.
        root: Take the p-th root of the mean.
        a: Weights of x, shape (*batch, n), summing to one; uniform if None.
        b: Weights of y, shape (*batch, m).
        generator: Source of the subspaces; an integer seeds a new one.
        directions: ``"random"``: independent, uniform subspaces. ``"orthogonal"``: uniform, and
            orthogonal to each other in groups of ⌊d/k⌋. Or frames, shape (L, k, d); their rows
            are made orthonormal.
        features: Compare Φ(x) with Φ(y), a function from (*batch, n, d) to (*batch, n, d′).

    Returns:
        One distance per batch entry, in the unit of x.

    Raises:
        ValueError: Samples or weights that do not fit; k outside 1…d; p below one or infinite;
            misshapen or degenerate frames.
        TypeError: p, k or projections of another type; tensors and other arrays in one call.

    Example:
        >>> x = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
        >>> y = [[0.0, 3.0, 4.0], [1.0, 3.0, 4.0]]
        >>> projected_wasserstein(x, y, k=2, directions=[[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
        5.0

    Notes:
        For k > 1 each subspace is one exact linear programme
        (:func:`~probmetrics.transport.exact.wasserstein`), solved one after the other. Gradients
        in x, y, a, b as there.

    References:
        Paty & Cuturi (2019), Subspace robust Wasserstein distances, section 3; Lin et al. (2021),
        On projection robust optimal transport, definition 2.2 (integral projection robust).
    """
    from probmetrics.transport.exact import wasserstein  # POT is loaded when it is used

    dtype, order, x, y, a, b = prepare(x, y, p, a, b, features)
    frames = _frames(directions, k, projections, x, generator)
    if frames.shape[-2] == 1:
        return mean_distance(x, y, a, b, frames.squeeze(-2), order, root=root).to(dtype)
    unit = magnitude(x, y) if root else torch.ones((), dtype=x.dtype, device=x.device)
    x, y = (z / unit[..., None, None] for z in (x, y))
    costs = [
        wasserstein(x @ frame.mT, y @ frame.mT, p=order, a=a, b=b, root=False).double()
        for frame in frames
    ]
    total = torch.stack(costs).mean(0)
    return (unit * safe_root(total, order) if root else total).to(dtype)


def _frames(
    directions: str | Tensor,
    k: int,
    projections: int,
    x: Tensor,
    generator: torch.Generator | int | None,
) -> Tensor:
    """Orthonormal frames, shape (L, k, d)."""
    d = x.shape[-1]
    if not isinstance(directions, str):
        return _given_frames(directions, x)
    checks.choice(directions, "directions", ("random", "orthogonal"))
    k = checks.count(k, "k", maximum=d)
    projections = checks.count(projections, "projections")
    source = checks.generator(generator, x.device)
    if k == d:  # distances do not depend on the axes
        return torch.eye(d, dtype=x.dtype, device=x.device).unsqueeze(0)
    group = d // k if directions == "orthogonal" else 1
    drawn = orthonormal_frames(-(-projections // group), group * k, d, source)
    return drawn.reshape(-1, k, d)[:projections].to(x)


def _given_frames(frames: Tensor, x: Tensor) -> Tensor:
    d = x.shape[-1]
    if (
        frames.ndim != 3
        or frames.shape[-1] != d
        or not 1 <= frames.shape[-2] <= d
        or not len(frames)
    ):
        raise ValueError(
            f"directions must hold frames, shape (L, k, {d}) with 1 <= k <= {d}, "
            f"got {tuple(frames.shape)}"
        )
    if frames.device != x.device:
        raise ValueError(f"directions are on {frames.device}, the samples on {x.device}")
    frames = checks.finite(frames, "directions").to(x.dtype)
    q, r = torch.linalg.qr(frames.mT)
    size = r.diagonal(dim1=-2, dim2=-1).abs()
    if checks.readable(size):
        bad = size.amin(-1) <= 10 * torch.finfo(size.dtype).eps * size.amax(-1)
        if bool(bad.any()):
            raise ValueError(f"the rows of frame {int(bad.nonzero()[0])} are linearly dependent")
    return torch.transpose(q, -1, -2)
