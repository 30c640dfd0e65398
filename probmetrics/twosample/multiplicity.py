"""Many p-values: adjusted for their number, or combined into one."""

import math
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Array, array_function

METHODS = ("bonferroni", "holm", "hochberg", "bh", "by")


@array_function
def adjust_pvalues(pvalues: Array, *, method: str = "holm") -> Any:
    """p-values adjusted for how many there are: reject those at most the level.

    With p_(1) ≤ … ≤ p_(k):

    - ``"bonferroni"``: k p; ``"holm"``: max_{j≤i} (k−j+1) p_(j). The chance of any false rejection
      is at most the level (family-wise error), under any dependence.
    - ``"hochberg"``: min_{j≥i} (k−j+1) p_(j); family-wise, for independent or positively dependent
      p-values.
    - ``"bh"``: min_{j≥i} (k/j) p_(j) (Benjamini–Hochberg). The expected share of false rejections
      among all is at most the level, for independent or positively dependent p-values.
    - ``"by"``: ``"bh"`` times 1 + 1/2 + … + 1/k (Benjamini–Yekutieli), under any dependence.

    Args:
        pvalues: p-values in [0, 1], shape (*batch, k); each batch entry is a family.
        method: One of the above.

    Returns:
        Adjusted p-values, at most 1, in the order and shape given.

    Raises:
        ValueError: Values outside [0, 1], NaN, none at all, an unknown method.

    Example:
        >>> adjust_pvalues([0.01, 0.04, 0.03], method="holm")
        array([0.03, 0.06, 0.06])
        >>> adjust_pvalues([0.01, 0.04, 0.03], method="bh")
        array([0.03, 0.04, 0.04])

    References:
        Holm (1979); Hochberg (1988); Benjamini, Hochberg (1995); Benjamini, Yekutieli (2001),
        The control of the false discovery rate in multiple testing under dependency, Theorem 1.3.
    """
    checks.choice(method, "method", METHODS)
    p = _family(pvalues)
    k = p.shape[-1]
    if method == "bonferroni":
        return (k * p).clamp_max(1.0)
    ordered, order = p.sort(dim=-1)
    rank = torch.arange(1, k + 1, dtype=p.dtype, device=p.device)
    if method == "holm":
        adjusted = ((k - rank + 1) * ordered).cummax(-1).values
    else:
        factor = k - rank + 1 if method == "hochberg" else k / rank
        if method == "by":
            factor = factor * (1 / rank).sum()
        adjusted = (factor * ordered).flip(-1).cummin(-1).values.flip(-1)
    return torch.empty_like(p).scatter_(-1, order, adjusted.clamp_max(1.0))


@array_function
def combine_pvalues(pvalues: Array, *, method: str = "cauchy", weights: Array | None = None) -> Any:
    """One p-value from several of the same null hypothesis.

    - ``"cauchy"``: P(Cauchy > Σ w_i tan(π (½ − p_i))). Accurate for small p-values under any
      dependence between normal test statistics; not exact for large ones.
    - ``"fisher"``: P(χ²_2k > −2 Σ log p_i), for independent p-values.
    - ``"bonferroni"``: min(1, min p_i / w_i), valid under any dependence.

    Permutation tests of several statistics on the same samples are better combined exactly, over
    the same labelings, as ``fused_test`` and ``wasserstein_test`` do.

    Args:
        pvalues: p-values in [0, 1], shape (*batch, k).
        method: One of the above.
        weights: Non-negative, summing to one, shape (k,); equal for None. Not for ``"fisher"``.

    Returns:
        Combined p-values, shape (*batch).

    Raises:
        ValueError: Values outside [0, 1], NaN, none at all, unfit weights, an unknown method.

    Example:
        >>> round(combine_pvalues([0.01, 0.5, 0.2]), 4)
        0.0287
        >>> round(combine_pvalues([0.01, 0.5, 0.25], method="bonferroni"), 4)
        0.03

    References:
        Liu, Xie (2020), Cauchy combination test, eq. 1 and Theorem 1; Fisher (1932).
    """
    checks.choice(method, "method", ("cauchy", "fisher", "bonferroni"))
    p = _family(pvalues)
    k = p.shape[-1]
    if method == "fisher":
        if weights is not None:
            raise ValueError("Fisher's combination takes no weights; use method='cauchy'")
        # P(χ²_2k > 2t) = Q(k, t), the upper incomplete gamma function
        return torch.special.gammaincc(torch.full_like(p[..., 0], float(k)), -p.log().sum(-1))
    share = torch.full_like(p[..., :1].expand_as(p), 1.0 / k)
    if weights is not None:
        share = checks.probabilities(weights.to(p), name="weights")
    if share.shape[-1] != k:
        raise ValueError(f"weights must have shape ({k},), got {tuple(share.shape)}")
    if method == "bonferroni":
        weighed = torch.where(share > 0, p / torch.where(share > 0, share, 1.0), torch.inf)
        return weighed.min(-1).values.clamp_max(1.0)
    return _cauchy(p, share)


def _cauchy(p: Tensor, share: Tensor) -> Tensor:
    """P(Cauchy > Σ w tan(π(½ − p))), without losing small p-values or dividing by zero."""
    # tan(π(½ − p)) = cot(πp) ~ 1/(πp) near 0; a p of exactly 1 counts as the largest below it.
    inside = p.clamp(min=torch.finfo(p.dtype).tiny * 4, max=1 - torch.finfo(p.dtype).eps)
    score = 1 / torch.tan(math.pi * inside.clamp_max(0.5)) - 1 / torch.tan(
        math.pi * (1 - inside).clamp_max(0.5)
    )
    total = (share * score).sum(-1)
    # ½ − atan(t)/π, as atan2(1, t)/π, which keeps its digits for large t
    combined = torch.atan2(torch.ones_like(total), total) / math.pi
    return torch.where(((p == 0) & (share > 0)).any(-1), 0.0, combined)


def _family(pvalues: Tensor) -> Tensor:
    """p-values in double precision, checked."""
    if pvalues.ndim == 0 or pvalues.shape[-1] == 0:
        raise ValueError(
            f"pvalues must have shape (*batch, k) with k >= 1, got {tuple(pvalues.shape)}"
        )
    p = checks.finite(pvalues.detach(), "pvalues").double()
    if checks.readable(p) and bool(((p < 0) | (p > 1)).any()):
        raise ValueError(
            f"pvalues must lie in [0, 1], got values from {p.min().item():.3g} "
            f"to {p.max().item():.3g}"
        )
    return p
