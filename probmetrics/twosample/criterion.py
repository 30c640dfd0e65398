"""The criterion of test power: MMD² in units of its standard deviation under the alternative."""

import torch
from torch import Tensor

RIDGE = 1e-8  # added to the variance, in units of the kernel's square


def power_ratio(gram: Tensor, first: Tensor) -> Tensor:
    """Unbiased MMD² over the standard deviation of √n MMD²: large where a test is powerful.

    For large samples a kernel's test rejects with probability Φ(√n · ratio − c/√n), of which the
    first term soon dominates. With the witness w(z) = E k(z, X) − E k(z, Y), the variance to
    leading order is 4 Var w(X)/n + 4 Var w(Y)/m; at n = m this is the published 4(E H² − (E H)²)
    without its dependence on how the points are paired off.

    Args:
        gram: Kernel matrix of pooled points, shape (N, N), differentiable.
        first: Which points belong to the first sample, shape (N,), ``bool``.

    References:
        Sutherland et al. (2017), Generative models and model criticism via optimized maximum mean
        discrepancy, eqs. 2–5; Liu et al. (2020), Learning deep kernels for non-parametric
        two-sample tests, eqs. 3–5.
    """
    n, m = int(first.sum()), int((~first).sum())
    inner = gram - torch.diag_embed(gram.diagonal())
    across = gram[first][:, ~first]
    witness_x = inner[first][:, first].sum(-1) / (n - 1) - across.mean(-1)
    witness_y = across.mean(-2) - inner[~first][:, ~first].sum(-1) / (m - 1)
    value = witness_x.mean() - witness_y.mean()
    smaller = min(n, m)
    variance = 4 * smaller * (witness_x.var() / n + witness_y.var() / m)
    scale = gram.detach().abs().max().square().clamp_min(torch.finfo(gram.dtype).tiny)
    ratio: Tensor = value / (variance + RIDGE * scale).sqrt()
    return ratio
