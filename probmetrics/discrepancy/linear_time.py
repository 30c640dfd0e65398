"""MMD in time linear in the sample size: pairs of points, blocks of points, random features."""

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, Values, WeightsX, WeightsY, array_function
from probmetrics.discrepancy.kernel import default_kernel, mmd, mmd_from_blocks
from probmetrics.pairwise.centring import centred
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.spectral import frequencies

CHUNK = 2**22  # entries of a block of features


@array_function
def linear_mmd(x: SamplesX, y: SamplesY, *, kernel: AbstractGround | None = None) -> Values:
    """Squared MMD, unbiased, from disjoint pairs of points in one linear pass.

    The mean over i of k(x_2i, x_2i+1) + k(y_2i, y_2i+1) − k(x_2i, y_2i+1) − k(x_2i+1, y_2i).
    Points are used in the order given, so they must come in random order.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d). Of unequal sizes the longer one is cut.
        kernel: As in ``mmd``.

    Returns:
        MMD², shape (*batch); it may be negative. Its standard error is of order n^{−½} also
        where P = Q, unlike that of ``mmd``, which is of order n^{−1} there.

    References:
        Gretton et al. (2012), "A kernel two-sample test", Lemma 14.

    Example:
        >>> from probmetrics.pairwise.kernels import Linear
        >>> linear_mmd([[0.0], [1.0]], [[2.0], [4.0]], kernel=Linear())
        6.0
    """
    terms = linear_mmd_terms(x, y, kernel)
    return terms.double().mean(-1).to(terms.dtype)


def linear_mmd_terms(x: Tensor, y: Tensor, kernel: AbstractGround | None) -> Tensor:
    """The independent terms whose mean is ``linear_mmd``, shape (*batch, min(n, m) // 2)."""
    x, y = checks.samples(x, y, minimum=2)
    chosen = default_kernel(x, y) if kernel is None else kernel
    core, factor = chosen.core.standardised()
    used = 2 * (min(x.shape[-2], y.shape[-2]) // 2)
    if factor is not None:
        x, y = (z * factor.to(z)[..., None, None] for z in (x, y))
    x1, x2 = x[..., 0:used:2, :], x[..., 1:used:2, :]
    y1, y2 = y[..., 0:used:2, :], y[..., 1:used:2, :]
    x1, x2, y1, y2 = torch.broadcast_tensors(x1, x2, y1, y2)
    within = core.between(x1, x2) + core.between(y1, y2)
    return within - core.between(x1, y2) - core.between(x2, y1)


@array_function
def block_mmd(
    x: SamplesX,
    y: SamplesY,
    *,
    block: int | None = None,
    kernel: AbstractGround | None = None,
) -> Values:
    """Squared MMD, unbiased: the mean over disjoint blocks of the U-statistic of each.

    Points are used in the order given, so they must come in random order.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d). Of unequal sizes the longer one is cut.
        block: Points per block, at least 2; None is √n. Points that fill no block are left out.
        kernel: As in ``mmd``.

    Returns:
        MMD², shape (*batch); it may be negative.

    References:
        Zaremba, Gretton & Blaschko (2013), "B-tests: Low variance kernel two-sample tests", eq. 4.

    Example:
        >>> from probmetrics.pairwise.kernels import Linear
        >>> x, y = [[0.0], [1.0], [0.0], [1.0]], [[2.0], [4.0], [2.0], [4.0]]
        >>> block_mmd(x, y, block=2, kernel=Linear())
        5.0
    """
    x, y = checks.samples(x, y, minimum=2)
    n = min(x.shape[-2], y.shape[-2])
    size = max(2, round(n**0.5)) if block is None else checks.count(block, "block", minimum=2)
    if size > n:
        raise ValueError(f"block={size} is larger than the smaller sample, which has {n} points")
    chosen = default_kernel(x, y) if kernel is None else kernel
    chosen, factor = chosen.standardised()
    if factor is not None:
        x, y = (z * factor.to(z)[..., None, None] for z in (x, y))
    x, y = (z[..., : n // size * size, :].unflatten(-2, (-1, size)) for z in (x, y))
    values = mmd(x, y, kernel=chosen, unbiased=True)
    return values.double().mean(-1).to(values.dtype)


@array_function
def random_feature_mmd(
    x: SamplesX,
    y: SamplesY,
    *,
    features: int = 1000,
    kernel: AbstractGround | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    unbiased: bool = True,
    generator: torch.Generator | int | None = None,
) -> Values:
    """Squared MMD with the kernel replaced by its average over random frequencies.

    The mean embedding becomes a vector of cosines and sines, so the cost is n · features; the
    error of the approximation is of order features^{−½}, whatever n.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        features: Number of frequencies.
        kernel: Gaussian, Laplacian, Matérn, rational quadratic, inverse multiquadric or a sum of
            these; None as in ``mmd`` (for unbatched samples).
        a: Weights of x, shape (*batch, n), summing to one; None is uniform.
        b: Weights of y, shape (*batch, m).
        unbiased: As in ``mmd``, for the approximated kernel.
        generator: Source of the frequencies, which x and y share.

    Returns:
        MMD², shape (*batch), zero or more if not ``unbiased``.

    References:
        Rahimi & Recht (2007); Sutherland & Schneider (2015), "On the error of random Fourier
        features", Section 3.3.

    Example:
        >>> x = [[0.0], [1.0], [2.0]]
        >>> random_feature_mmd(x, x, unbiased=False, generator=0)
        0.0
    """
    x, y = checks.samples(x, y, minimum=2 if unbiased else 1)
    features = checks.count(features, "features")
    chosen = default_kernel(x, y) if kernel is None else kernel
    source = checks.generator(generator)
    weights_x, weights_y = checks.weights(a, x, "a"), checks.weights(b, y, "b")
    x, y = centred(x, y)  # the angles of far-off points would lose their digits
    omega, share = frequencies(chosen, x.shape[-1], features, source)
    mean_x, mean_y = (mean_embedding(z, w, omega) for z, w in ((x, weights_x), (y, weights_y)))
    share = torch.cat([share, share]).to(mean_x)
    xx, yy, xy = (
        (share * left * right).sum(-1)
        for left, right in ((mean_x, mean_x), (mean_y, mean_y), (mean_x, mean_y))
    )
    squares_x, squares_y = (w.double().square().sum(-1) for w in (weights_x, weights_y))
    at_zero = share.sum() / 2  # k(x, x)
    value = mmd_from_blocks(
        xx,
        yy,
        xy,
        trace_x=squares_x * at_zero,
        trace_y=squares_y * at_zero,
        squares_x=squares_x,
        squares_y=squares_y,
        unbiased=unbiased,
    )
    return value.to(x.dtype)


def mean_embedding(x: Tensor, weights: Tensor, omega: Tensor) -> Tensor:
    """Weighted means of cos⟨ω, x⟩ and sin⟨ω, x⟩ in float64, shape (*batch, 2 · features)."""
    work = x.double() if x.dtype == torch.float64 else x.float()
    omega = omega.to(work)
    rows = max(1, CHUNK // max(1, omega.shape[0]))
    sums = None
    for start in range(0, x.shape[-2], rows):
        angles = work[..., start : start + rows, :] @ omega.mT
        part = torch.cat([angles.cos(), angles.sin()], dim=-1)
        w = weights[..., start : start + rows].to(work)
        added = (w.unsqueeze(-2) @ part).squeeze(-2).double()
        sums = added if sums is None else sums + added
    assert sums is not None
    return sums
