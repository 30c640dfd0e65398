"""Distances between mean embeddings: MMD, energy distance, and the witness function."""

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import (
    SamplesAt,
    SamplesX,
    SamplesY,
    Values,
    ValuesAt,
    WeightsX,
    WeightsY,
    array_function,
)
from probmetrics.pairwise import Sharded, WeightedSum, reduce_pairs, sharded
from probmetrics.pairwise.blocks import reduce_blocks
from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.ground import AbstractGround, safe_sqrt
from probmetrics.pairwise.kernels import Gaussian

MODERATE = 2**20  # coordinates of two samples that are put into one tensor


def mmd_from_blocks(
    xx: Tensor,
    yy: Tensor,
    xy: Tensor,
    *,
    trace_x: Tensor | float = 0.0,
    trace_y: Tensor | float = 0.0,
    squares_x: Tensor | float = 0.0,
    squares_y: Tensor | float = 0.0,
    unbiased: bool,
) -> Tensor:
    """Squared MMD from the three block sums of a kernel matrix: the one formula for all of them.

    With weights a, b summing to one, xx = Σ a_i a_j k(x_i, x_j), yy and xy alike,
    trace_x = Σ a_i² k(x_i, x_i) and squares_x = Σ a_i²:

    - biased (V-statistic): xx + yy − 2 xy
    - unbiased (U-statistic): (xx − trace_x) / (1 − squares_x) + … − 2 xy

    All arguments broadcast over any leading shape.

    References:
        Gretton et al. (2012), "A kernel two-sample test", eqs. 3 and 5.
    """
    if not unbiased:
        return xx + yy - 2.0 * xy
    within_x = (xx - trace_x) / (1.0 - squares_x)
    within_y = (yy - trace_y) / (1.0 - squares_y)
    return within_x + within_y - 2.0 * xy


@array_function
def mmd(
    x: SamplesX,
    y: SamplesY,
    *,
    kernel: AbstractGround | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    unbiased: bool = True,
    root: bool = False,
    backend: sharded.Backend = "auto",
) -> Values:
    """Squared maximum mean discrepancy, unbiased by default.

    MMD²(P, Q) = E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y).

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        kernel: Any kernel of ``probmetrics.pairwise.kernels``; None is the Gaussian whose
            bandwidth is the median distance in the pooled sample.
        a: Weights of x, shape (*batch, n), summing to one; None is uniform.
        b: Weights of y, shape (*batch, m).
        unbiased: Leave out each point's kernel with itself (U-statistic); the estimate may then
            be negative. With False the V-statistic, zero or more.
        root: The MMD itself, √MMD²; of the V-statistic only.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        MMD², shape (*batch), in squared kernel units; nothing is clipped.

    Raises:
        ValueError: A single point where the unbiased estimate needs two; ``root`` of an unbiased
            estimate, which may be negative.

    Notes:
        Time n² + m² + n m kernel evaluations (each half-square once), memory linear. Gradients
        in x, y, a, b and the kernel's features; the bandwidth chosen by default is a constant.

    References:
        Gretton et al. (2012), "A kernel two-sample test", Lemma 6.

    Example:
        >>> from probmetrics.pairwise.kernels import Gaussian
        >>> round(mmd([[0.0], [1.0]], [[1.0], [2.0]], kernel=Gaussian(1.0)), 6)
        0.038863
    """
    x, y = sharded.samples(x, y, backend, minimum=2 if unbiased else 1)
    if root and unbiased:
        raise ValueError(
            "the unbiased estimate of MMD² may be negative and has no root; "
            "pass unbiased=False together with root=True"
        )
    chosen = default_kernel(x, y, backend) if kernel is None else kernel
    squared = _block_mmd(chosen, x, y, a, b, unbiased=unbiased, backend=backend)
    return _root(squared, root).to(x.dtype)


@array_function
def energy_distance(
    x: SamplesX,
    y: SamplesY,
    *,
    power: float = 1.0,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    unbiased: bool = False,
    root: bool = False,
    backend: sharded.Backend = "auto",
) -> Values:
    """Energy distance, 2 E‖X − Y‖^power − E‖X − X′‖^power − E‖Y − Y′‖^power.

    This is Székely's squared form; SciPy's ``energy_distance`` is its root. It is twice the
    squared MMD of the kernel ``Distance(power)``.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        power: Exponent, strictly between 0 and 2. At 2 the value would only compare means.
        a: Weights of x, shape (*batch, n), summing to one; None is uniform.
        b: Weights of y, shape (*batch, m).
        unbiased: Leave out the zero distances of points to themselves from the means
            (U-statistic). The default V-statistic is zero or more, and zero for x = y.
        root: √ of the V-statistic, a metric on distributions.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        The distance, shape (*batch), in the unit of the data to the ``power``.

    Raises:
        ValueError: ``power`` outside (0, 2); a single point with ``unbiased``.

    Notes:
        Time n² + m² + n m distances (each half-square once), memory linear. The gradient at a
        tie is zero, and at x = y the root's gradient is zero too.

    References:
        Székely & Rizzo (2013), "Energy statistics: A class of statistics based on distances",
        eqs. 2.1 and 6.1.

    Example:
        >>> energy_distance([[0.0]], [[3.0]])
        6.0
    """
    x, y = sharded.samples(x, y, backend, minimum=2 if unbiased else 1)
    power = checks.between(power, "power", 0.0, 2.0)
    if root and unbiased:
        raise ValueError(
            "the unbiased estimate may be negative and has no root; "
            "pass unbiased=False together with root=True"
        )
    # The squared MMD of −‖x − y‖^power; the sign is left to the end.
    squared = 0.0 - _block_mmd(Euclidean(power), x, y, a, b, unbiased=unbiased, backend=backend)
    return _root(squared, root).to(x.dtype)


@array_function
def witness(
    x: SamplesX,
    y: SamplesY,
    at: SamplesAt,
    *,
    kernel: AbstractGround | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    backend: sharded.Backend = "auto",
) -> ValuesAt:
    """Witness function of the MMD, E k(X, t) − E k(Y, t), at points t.

    Positive where x has more mass than y at the kernel's scale. It is differentiable in ``at``:
    following its gradient moves points towards x and away from y.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        at: Points to look at, shape (*batch, l, d).
        kernel: As in ``mmd``.
        a: Weights of x.
        b: Weights of y.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        The witness, shape (*batch, l), not normalised: MMD² is its mean difference between x
        and y.

    References:
        Gretton et al. (2012), "A kernel two-sample test", Section 2.3.

    Example:
        >>> from probmetrics.pairwise.kernels import Linear
        >>> witness([[1.0]], [[0.0]], [[2.0], [-1.0]], kernel=Linear())
        array([ 2., -1.])
    """
    x, y = sharded.samples(x, y, backend)
    at, _ = sharded.samples(at, x, backend, names=("at", "x"))
    chosen = default_kernel(x, y, backend) if kernel is None else kernel
    # A term in one point alone shifts the witness, so the kernel is used whole here.
    weights_x = sharded.weights(a, x, backend, "a")
    weights_y = sharded.weights(b, y, backend, "b")
    if _in_one_sum(chosen, x, y, weights_x, weights_y, backend):
        signed = WeightedSum(torch.cat([weights_x, -weights_y], dim=-1))
        pooled = torch.cat([x, y], dim=-2)
        return reduce_pairs(chosen, signed, at, pooled, backend=backend).to(at.dtype)
    seen = reduce_pairs(chosen, WeightedSum(weights_x), at, x, backend=backend)
    other = reduce_pairs(chosen, WeightedSum(weights_y), at, y, backend=backend)
    return (seen - other).to(at.dtype)


def default_kernel(x: Tensor, y: Tensor, backend: sharded.Backend = "auto") -> AbstractGround:
    """The Gaussian kernel whose bandwidth is the median distance in the pooled sample."""
    bandwidth = sharded.bandwidth(x, y, backend)
    if bandwidth.ndim == 0 and checks.readable(bandwidth):
        return Gaussian(bandwidth.item())
    return Gaussian(bandwidth)


def _block_mmd(
    kernel: AbstractGround,
    x: Tensor,
    y: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    *,
    unbiased: bool,
    backend: sharded.Backend,
) -> Tensor:
    """Squared MMD in float64 for checked samples."""
    weights_x = sharded.weights(a, x, backend, "a")
    weights_y = sharded.weights(b, y, backend, "b")
    core = kernel.core  # terms in one point alone cancel, so they need not be computed
    blocks = reduce_blocks(core, x, y, weights_x, weights_y, backend=backend)
    if not unbiased:
        return mmd_from_blocks(*blocks, unbiased=False)
    squares_x, squares_y = (w.double().square() for w in (weights_x, weights_y))

    def over_points(values: Tensor) -> Tensor:
        return sharded.summed(values.sum(-1), backend)

    return mmd_from_blocks(
        *blocks,
        trace_x=over_points(squares_x * core.diagonal(x).double()),
        trace_y=over_points(squares_y * core.diagonal(y).double()),
        squares_x=over_points(squares_x),
        squares_y=over_points(squares_y),
        unbiased=True,
    )


def _in_one_sum(
    kernel: AbstractGround, x: Tensor, y: Tensor, a: Tensor, b: Tensor, backend: sharded.Backend
) -> bool:
    """Whether moderate samples are one sum with signed weights, prepared once.

    Not where that would compute gradients nobody wants, or hand other shapes to a network.
    """
    moderate = x.numel() + y.numel() <= MODERATE and not isinstance(backend, Sharded)
    alike = x.shape[:-2] == y.shape[:-2] and a.shape[:-1] == b.shape[:-1]
    wanted = x.requires_grad == y.requires_grad and a.requires_grad == b.requires_grad
    return moderate and alike and wanted and not kernel.embedding()


def _root(squared: Tensor, root: bool) -> Tensor:
    """√ of a value that is zero or more but for rounding; derivative zero at zero."""
    return safe_sqrt(squared) if root else squared
