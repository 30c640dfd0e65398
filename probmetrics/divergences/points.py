"""Two Distributions as masses on common points: probabilities as given, listed, counted, or nodes.

The answers are log-masses with the points along the last axis, made for ``bins``; what is then
summed over a histogram is summed over them, gradients with respect to parameters included.
"""

import math
from typing import Any

import torch
from torch.distributions import Bernoulli, Categorical, Distribution, OneHotCategorical
from torch.nn.functional import logsigmoid, pad

from probmetrics.divergences import bins
from probmetrics.divergences.density import checked, draw, is_discrete, log_density, support_of
from probmetrics.divergences.quadrature import UNIT, Masses, as_masses, integrated
from probmetrics.divergences.row import FDivergence

COUNTED = 2**21  # most integers summed over


def masses(row: FDivergence, p: Distribution, q: Distribution) -> Masses | None:
    """Bins of the two, and where D_f diverges in spite of them; None if there is no reliable sum.

    Args:
        row: The divergence to be summed; it says which parts of the line matter.
        p: First Distribution.
        q: Second Distribution, on the same kind of points.
    """
    batch = checked(p, q)
    scalar = math.prod(p.event_shape) == 1 and len(p.event_shape) <= 1
    listed = tables(p, q)
    if listed is not None:
        return listed
    if is_discrete(p):
        if not p.event_shape:
            return _counted(row, p, q, batch)
        return _enumerated(p, q)
    return integrated(row, p, q, batch) if scalar else None


def tables(p: Any, q: Any) -> Masses | None:
    """Distributions that are vectors of probabilities: read those, as log_prob hides zeros."""
    found: bins.Bins
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        if all("logits" in vars(law) and "probs" not in vars(law) for law in (p, q)):
            sides = [torch.stack([logsigmoid(-s.logits), logsigmoid(s.logits)], -1) for s in (p, q)]
            found = bins.from_logs(*sides)
        else:
            sides = [torch.stack([1 - law.probs, law.probs], -1) for law in (p, q)]
            found = bins.from_masses(*sides)
    elif any(isinstance(p, k) and isinstance(q, k) for k in (Categorical, OneHotCategorical)):
        size = max(p.probs.shape[-1], q.probs.shape[-1])
        found = bins.from_masses(*(pad(s.probs, (0, size - s.probs.shape[-1])) for s in (p, q)))
    else:
        return None
    return found, torch.zeros(found.p.shape[:-1], dtype=torch.bool, device=found.p.device)


def _enumerated(p: Distribution, q: Distribution) -> Masses | None:
    """Exact sums over events that both can list."""
    try:
        points, others = p.enumerate_support(expand=False), q.enumerate_support(expand=False)
    except NotImplementedError:
        return None
    if points.shape != others.shape or not bool((points == others).all()):
        return None
    return as_masses(log_density(p, points), log_density(q, points))


def _counted(
    row: FDivergence, p: Distribution, q: Distribution, batch: torch.Size
) -> Masses | None:
    """Sums over the integers between the ends; doubled until what is left does not count."""
    device = draw(p, 1, 0).device
    bounds = _integer_bounds(p, q)
    if bounds is None:
        return None
    low, high = bounds
    size = 256 if high is None else high - low + 1
    if size > COUNTED:
        return None
    while True:
        points = low + torch.arange(size, device=device, dtype=torch.float64)
        points = points.reshape(-1, *(1 for _ in batch))
        found = as_masses(log_density(p, points), log_density(q, points))
        if high is not None:
            return found if _unit(found[0]) else None
        with torch.no_grad():
            terms = bins.terms(row, found[0]).abs()
            outer = terms[..., size // 2 :].sum(-1)
            inner = terms[..., size // 4 : size // 2].sum(-1)
            diverges = torch.isinf(outer)
            settled = outer <= 1e-15 * terms.sum(-1) + 1e-30
            if 2 * size > COUNTED:  # a sum diverges whose last doublings do not shrink
                diverges = diverges | (~settled & (outer >= 0.75 * inner))
        if _unit(found[0]) and bool((settled | diverges).all()):
            return found[0], diverges
        size *= 2
        if size > COUNTED:
            return None


def _integer_bounds(p: Distribution, q: Distribution) -> tuple[int, int | None] | None:
    lows, highs = [], []
    for law in (p, q):
        support: Any = support_of(law)
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        if type(support).__name__ in ("_Boolean", "Boolean"):
            lows.append(0.0)
            highs.append(1.0)
            continue
        if not hasattr(support, "lower_bound"):
            return None
        lows.append(float(torch.as_tensor(support.lower_bound).min()))
        upper = getattr(support, "upper_bound", math.inf)
        highs.append(float(torch.as_tensor(upper).max()))
    high = max(highs)
    return int(min(lows)), None if math.isinf(high) else int(high)


def _unit(found: bins.Bins) -> bool:
    """Whether both sides' masses sum to one."""
    with torch.no_grad():
        totals = torch.stack([found.p.sum(-1), found.q.sum(-1)])
        return bool(((totals - 1).abs() < UNIT).all())
