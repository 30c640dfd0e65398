"""Effect sizes of whole distributions: energy and kernel coefficients between zero and one."""

from typing import Any

from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, Values, WeightsX, WeightsY, array_function
from probmetrics.discrepancy import default_kernel, energy_distance, mmd
from probmetrics.pairwise import Total, reduce_pairs, sharded
from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.ground import AbstractGround


@array_function
def energy_coefficient(
    x: SamplesX,
    y: SamplesY,
    *,
    power: float = 1.0,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    unbiased: bool = True,
    backend: sharded.Backend = "auto",
) -> Values:
    r"""Energy coefficient of inhomogeneity, H = (2E‖X−Y‖ − E‖X−X′‖ − E‖Y−Y′‖) / (2E‖X−Y‖).

    0 for equal distributions, 1 for two different points; free of units.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        power: Exponent of the distances, strictly between 0 and 2.
        a: Weights of x, shape (*batch, n), summing to one; None is uniform.
        b: Weights of y, shape (*batch, m).
        unbiased: Leave out the distances of points to themselves in the numerator, so that its
            mean is zero for equal distributions; H may then be negative.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        H, shape (*batch); 0 where all points are equal.

    Raises:
        ValueError: As ``energy_distance``.

    Notes:
        Cost and gradients as ``energy_distance``.

    Example:
        >>> energy_coefficient([[0.0], [0.0]], [[3.0], [3.0]])
        1.0

    References:
        Székely, Rizzo (2013), Energy statistics, eq. 4.5 (coefficient of inhomogeneity).
    """
    x, y = sharded.samples(x, y, backend, minimum=2 if unbiased else 1)
    power = checks.between(power, "power", 0.0, 2.0)
    distance = energy_distance(x, y, power=power, a=a, b=b, unbiased=unbiased, backend=backend)
    weights = sharded.weights(a, x, backend, "a"), sharded.weights(b, y, backend, "b")
    between = Total(*weights)
    across = reduce_pairs(Euclidean(power), between, x, y, backend=backend)
    return _ratio(distance, 2 * across.to(x.dtype))


@array_function
def mmd_coefficient(
    x: SamplesX,
    y: SamplesY,
    *,
    kernel: AbstractGround | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    unbiased: bool = True,
    backend: sharded.Backend = "auto",
) -> Values:
    r"""Kernel coefficient, MMD² / (MMD² + 2 E k(X, Y)).

    With E k(X, X′) + E k(Y, Y′) for the denominator, it is the squared distance of the mean
    embeddings over the sum of their squared lengths: 0 for equal distributions, and 1 where, at
    the kernel's scale, no point of x is near one of y.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        kernel: A kernel with values zero or more; None is the Gaussian with the median distance.
        a: Weights of x, shape (*batch, n), summing to one; None is uniform.
        b: Weights of y, shape (*batch, m).
        unbiased: MMD² as a U-statistic; the coefficient may then be negative.
        backend: "auto", "dense", "tiled", "fused", or ``Sharded(...)`` for samples on many ranks.

    Returns:
        The coefficient, shape (*batch); 0 where both MMD² and E k(X, Y) are zero.

    Raises:
        ValueError: As ``mmd``.

    Notes:
        Cost and gradients as ``mmd``.

    Example:
        >>> from probmetrics.pairwise.kernels import Gaussian
        >>> round(mmd_coefficient([[0.0], [0.0]], [[9.0], [9.0]], kernel=Gaussian(1.0)), 6)
        1.0

    References:
        Gretton et al. (2012), A kernel two-sample test, Lemma 6 (the terms of the ratio).
    """
    x, y = sharded.samples(x, y, backend, minimum=2 if unbiased else 1)
    chosen = default_kernel(x, y, backend) if kernel is None else kernel
    squared = mmd(x, y, kernel=chosen, a=a, b=b, unbiased=unbiased, backend=backend)
    weights = sharded.weights(a, x, backend, "a"), sharded.weights(b, y, backend, "b")
    between = Total(*weights)
    across = reduce_pairs(chosen, between, x, y, backend=backend)
    return _ratio(squared, squared + 2 * across.to(x.dtype))


def _ratio(top: Any, bottom: Any) -> Tensor:
    """top / bottom, 0 where the bottom is, with a finite gradient there too."""
    known = bottom > 0
    answer: Tensor = (top / bottom.where(known, bottom.new_ones(()))).where(
        known, bottom.new_zeros(())
    )
    return answer
