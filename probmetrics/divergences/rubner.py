"""Rubner's measures between histograms that are no f-divergence: bin by bin, and across bins.

The χ² statistic of that list is the ``le_cam`` divergence and its Jeffrey divergence twice the
``js_divergence``; both are here or there under one formula. The earth mover's distance under any
other cost than the line's belongs to the linear programme of ``transport``.

References:
    Rubner, Tomasi & Guibas (2000), "The earth mover's distance as a metric for image retrieval".
    Puzicha, Rubner, Tomasi & Buhmann (1999), "Empirical evaluation of dissimilarity measures".
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Values, array_function
from probmetrics.divergences import bins
from probmetrics.divergences.family import LeCam

if TYPE_CHECKING:
    Histogram = Any
    Positions = Any
    Similarity = Any
else:
    Histogram = Float[Tensor, "*#batch k"]
    Positions = Float[Tensor, "*#batch k"]
    Similarity = Float[Tensor, "k k"]


@array_function
def minkowski(
    p: Histogram, q: Histogram, *, r: float | int = 2.0, normalize: bool = False
) -> Values:
    """Minkowski distance L_r between histograms, root taken.

    (Σ |p − q|^r)^{1/r}; the largest difference at r = ∞.

    Args:
        p: Probabilities, shape (*batch, k).
        q: Probabilities, shape (*batch, k).
        r: Order, 1 <= r <= ∞.
        normalize: Divide by the sum instead of refusing vectors that miss one.

    Returns:
        Distances of the batch shape.

    Raises:
        ValueError: Invalid probabilities, different numbers of bins, an order below one.

    Example:
        >>> minkowski([0.5, 0.5, 0.0], [0.0, 0.5, 0.5], r=1)
        1.0

    Notes:
        O(k). At r = 1 it is twice the ``total_variation``. The gradient is zero where p = q, and at
        r = ∞ shared among the bins that tie for the largest difference.
    """
    order = checks.order(r, "r")
    shared, dtype = bins.pair(p, q, normalize=normalize)
    gap = (shared.p - shared.q).abs()
    if math.isinf(order):
        return gap.amax(-1).to(dtype)
    if order == 1:
        return gap.sum(-1, dtype=torch.float64).to(dtype)
    # Relative to the largest difference nothing over- or underflows; its own gradient cancels.
    top = gap.detach().amax(-1, keepdim=True)
    scale = torch.where(top > 0, top, 1.0)
    share = gap / scale
    total = torch.where(share > 0, torch.where(share > 0, share, 1.0) ** order, 0.0)
    mass = total.sum(-1, dtype=torch.float64)
    safe = torch.where(mass > 0, mass, 1.0) ** (1 / order)
    return torch.where(mass > 0, safe * scale.squeeze(-1), 0.0).to(dtype)


@array_function
def histogram_intersection(p: Histogram, q: Histogram, *, normalize: bool = False) -> Values:
    """Histogram intersection as a distance, one minus the common mass.

    1 − Σ min(p, q), which is the ``total_variation`` of vectors that sum to one.

    Args:
        p: Probabilities, shape (*batch, k).
        q: Probabilities, shape (*batch, k).
        normalize: Divide by the sum instead of refusing vectors that miss one.

    Returns:
        Distances of the batch shape, in [0, 1].

    Raises:
        ValueError: Invalid probabilities, different numbers of bins.

    Example:
        >>> histogram_intersection([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])
        0.5

    Notes:
        O(k). Swain and Ballard's similarity is Σ min(p, q) itself. Where p = q the gradient is that
        of the mean of both sides.

    References:
        Swain & Ballard (1991), "Color indexing".
    """
    shared, dtype = bins.pair(p, q, normalize=normalize)
    common = torch.minimum(shared.p, shared.q).sum(-1, dtype=torch.float64)
    return (1 - common).to(dtype)


@array_function
def chi2_statistic(p: Histogram, q: Histogram, *, normalize: bool = False) -> Values:
    """The χ² statistic between histograms, against their mean: at most 1.

    ½ Σ (p − q)²/(p + q) = Σ (p − m)²/m with m = (p + q)/2: the ``le_cam`` divergence.

    Args:
        p: Probabilities, shape (*batch, k).
        q: Probabilities, shape (*batch, k).
        normalize: Divide by the sum instead of refusing vectors that miss one.

    Returns:
        Values of the batch shape.

    Raises:
        ValueError: Invalid probabilities, different numbers of bins.

    Example:
        >>> chi2_statistic([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])
        0.5

    Notes:
        O(k); symmetric, with a finite gradient everywhere.
    """
    shared, dtype = bins.pair(p, q, normalize=normalize)
    return bins.divergence(LeCam, shared).to(dtype)


@array_function
def quadratic_form(
    p: Histogram, q: Histogram, A: Similarity, *, root: bool = True, normalize: bool = False
) -> Values:
    """Quadratic-form distance between histograms, root taken.

    √((p − q)ᵀ A (p − q)), A_ij the similarity of bins i and j.

    Args:
        p: Probabilities, shape (*batch, k).
        q: Probabilities, shape (*batch, k).
        A: Similarities, shape (k, k), positive semidefinite on vectors that sum to zero; only
            its symmetric part counts. 1 − cost/max cost is a common choice.
        root: False for the square.
        normalize: Divide by the sum instead of refusing vectors that miss one.

    Returns:
        Distances of the batch shape.

    Raises:
        ValueError: Invalid probabilities, an A of another shape, or a negative form.

    Example:
        >>> round(quadratic_form([1.0, 0.0], [0.0, 1.0], [[1.0, 0.5], [0.5, 1.0]]), 8)
        1.0

    Notes:
        O(k²). The gradient of the root is zero where p = q.

    References:
        Hafner et al. (1995), "Efficient color histogram indexing for quadratic form distances".
    """
    shared, dtype = bins.pair(p, q, normalize=normalize)
    k = shared.p.shape[-1]
    if A.shape != (k, k):
        raise ValueError(f"A must have shape ({k}, {k}), one row per bin, got {tuple(A.shape)}")
    if A.device != shared.p.device:
        raise ValueError(f"A is on {A.device} and the histograms on {shared.p.device}")
    A = checks.finite(A, "A").double()
    gap = (shared.p - shared.q).double()
    form = ((gap @ A) * gap).sum(-1)
    slack = 1e-12 * (gap.detach().abs() @ A.detach().abs() * gap.detach().abs()).sum(-1)
    if checks.readable(form) and bool((form.detach() < -slack).any()):
        raise ValueError(
            f"(p − q)ᵀA(p − q) is negative (smallest {form.detach().min().item():.3g}): A must be "
            "positive semidefinite, as 1 − cost/cost.max() is for many costs"
        )
    positive = form > 0
    if root:
        form = torch.where(positive, form, 1.0).sqrt()
    return torch.where(positive, form, 0.0).to(dtype)


@array_function
def kolmogorov_smirnov(p: Histogram, q: Histogram, *, normalize: bool = False) -> Values:
    """Kolmogorov–Smirnov distance between histograms: the largest gap of their running sums.

    max_i |Σ_{j<=i} (p_j − q_j)|, the bins in their natural order.

    Args:
        p: Probabilities, shape (*batch, k).
        q: Probabilities, shape (*batch, k).
        normalize: Divide by the sum instead of refusing vectors that miss one.

    Returns:
        Distances of the batch shape, in [0, 1].

    Raises:
        ValueError: Invalid probabilities, different numbers of bins.

    Example:
        >>> kolmogorov_smirnov([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])
        0.5

    Notes:
        O(k). The gradient belongs to the largest gap, shared among ties.
    """
    shared, dtype = bins.pair(p, q, normalize=normalize)
    return _running_gap(shared).abs().amax(-1).to(dtype)


@array_function
def match_distance(
    p: Histogram, q: Histogram, *, positions: Positions | None = None, normalize: bool = False
) -> Values:
    """Match distance: the 1-Wasserstein distance between histograms on a line of bins.

    Σ_i |P_i − Q_i| (t_{i+1} − t_i) with the running sums P, Q and the bins' places t.

    Args:
        p: Probabilities, shape (*batch, k).
        q: Probabilities, shape (*batch, k).
        positions: Places of the bins, shape (k,) or (*batch, k), in any order; 0, 1, …, k − 1 for
            None.
        normalize: Divide by the sum instead of refusing vectors that miss one.

    Returns:
        Distances of the batch shape, in the unit of the positions.

    Raises:
        ValueError: Invalid probabilities, different numbers of bins, positions of another length.

    Example:
        >>> match_distance([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])
        1.0
        >>> match_distance([1.0, 0.0], [0.0, 1.0], positions=[0.0, 2.5])
        2.5

    Notes:
        O(k), O(k log k) with positions. The gradient is zero in p and q where the sums cross.

    References:
        Werman, Peleg & Rosenfeld (1985), "A distance metric for multidimensional histograms".
    """
    shared, dtype = bins.pair(p, q, normalize=normalize)
    if positions is None:
        return _running_gap(shared)[..., :-1].abs().sum(-1).to(dtype)
    checks.same_bins(positions, shared.p, ("positions", "p"))
    places, order = checks.finite(positions, "positions").double().sort(-1)
    places, order, gap = torch.broadcast_tensors(places, order, (shared.p - shared.q).double())
    gap = gap.gather(-1, order).cumsum(-1)[..., :-1]
    return (gap.abs() * places.diff(dim=-1)).sum(-1).to(dtype)


def _running_gap(shared: bins.Bins) -> Tensor:
    """Difference of the running sums."""
    return (shared.p - shared.q).double().cumsum(-1)
