"""Stable functions of the log-ratio ℓ = log p/q that the rows of the family are made of.

Two kinds live here. A *pair* works on logits of any size and saturates far out; a *perspective*
q·(f(p/q) − f(1) − f′(1)(p/q − 1)) works on the masses of a bin, keeps its relative accuracy as
p → q, where the textbook formula cancels, and is non-negative there.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Function = Callable[[Tensor], Tensor]
Perspective = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

LOG2 = math.log(2.0)
FAR = 0.5  # |ℓ| below which excesses of order ℓ² are summed as power series
TERMS = 17  # of that series: 0.5**17 / 17! is below the rounding of float64


def lift(x: Tensor) -> Tensor:
    """Half precision in float32; everything else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def bend(logit: Tensor, exponent: float = 1.0) -> Tensor:
    """The logit h(ℓ) that keeps e^{kh} and e^{−kh} finite for the exponents given.

    For k > 0, kh(ℓ) = kℓ up to c and c + log1p(kℓ − c) beyond, so that e^{kh} = e^c (1 + kℓ − c):
    the tangent of the exponential. A negative exponent bends the other end.
    """
    logit = lift(logit)
    if exponent == 0:
        return logit
    knee = 0.75 * math.log(torch.finfo(logit.dtype).max)
    z = logit * exponent
    return (z.clamp(max=knee) + torch.relu(z - knee).log1p()) / exponent


def _bend_both(logit: Tensor, alpha: float) -> Tensor:
    """Bent for e^{αℓ} and e^{(α−1)ℓ}, whichever of them grows at either end."""
    return bend(bend(logit, max(alpha, 0.0)), min(alpha - 1.0, 0.0))


def _growth(logit: Tensor, rate: float) -> Tensor:
    """(e^{rate·ℓ} − 1)/rate, which is ℓ at rate zero."""
    return logit if rate == 0 else torch.expm1(rate * logit) / rate


def _series(logit: Tensor, alpha: float) -> Tensor:
    """(e^{αℓ} − 1 − α(e^ℓ − 1)) / (α(α−1)) for small ℓ, non-negative and without cancellation.

    The coefficient of ℓ^k/k! is (α^k − α)/(α(α−1)) = 1 + α + … + α^{k−2}: no pole at α = 0, 1.
    """
    sums = [0.0, 0.0, 1.0]
    for _ in range(3, TERMS + 1):
        sums.append(1.0 + alpha * sums[-1])
    total = torch.full_like(logit, sums[TERMS] / math.factorial(TERMS))
    for k in range(TERMS - 1, 1, -1):
        total = total * logit + sums[k] / math.factorial(k)
    return total * logit * logit


def power_perspective(alpha: float, times: float) -> Perspective:
    """Times the α-divergence density (p^α q^{1−α} − αp − (1−α)q) / (α(α−1))."""
    bound = FAR / max(1.0, abs(alpha))

    def perspective(p: Tensor, q: Tensor, logit: Tensor, log_p: Tensor) -> Tensor:
        near = logit.abs() < bound
        close = q * _series(torch.where(near, logit, 0.0), alpha)
        far = torch.where(near, 1.0, logit)
        # Divide by whichever of α, 1 − α is the larger, so that both limits are exact.
        if alpha >= 0.5:
            away = (_mass_growth(p, log_p, far, alpha - 1.0) - (p - q)) / alpha
        else:
            log_q = log_p - logit
            away = (_mass_growth(q, log_q, far, alpha) - (p - q)) / (alpha - 1.0)
        return times * torch.where(near, close, away)

    return perspective


def _mass_growth(p: Tensor, log_p: Tensor, logit: Tensor, rate: float) -> Tensor:
    """Growth times mass, p (e^{rate·ℓ} − 1)/rate; in logs where e^{rate·ℓ} could overflow."""
    if rate == 0:
        return p * logit
    z = rate * logit
    large = z > 30
    moderate = p * torch.expm1(torch.where(large, 0.0, z))
    return torch.where(large, torch.exp(torch.where(large, log_p + z, 0.0)) - p, moderate) / rate


def power_pair(alpha: float, times: float) -> tuple[Function, Function]:
    """Reward times·(e^{(α−1)ℓ} − 1)/(α−1) and penalty times·(e^{αℓ} − 1)/α."""

    def reward(logit: Tensor) -> Tensor:
        logit = lift(logit) if alpha == 1 else _bend_both(logit, alpha)
        return times * _growth(logit, alpha - 1.0)

    def penalty(logit: Tensor) -> Tensor:
        logit = lift(logit) if alpha == 0 else _bend_both(logit, alpha)
        return times * _growth(logit, alpha)

    return reward, penalty


def js_perspective(p: Tensor, q: Tensor, logit: Tensor, log_p: Tensor) -> Tensor:
    """The density p log(2p/(p+q)) + q log(2q/(p+q)) of 2 JS."""
    # With s = (p − q)/(p + q) = tanh(ℓ/2): (p+q)/2 · [(1+s) log(1+s) + (1−s) log(1−s)].
    near = logit.abs() < 2 * FAR
    close = torch.where(near, logit, 0.0)
    s = torch.tanh(close / 2)
    far = torch.where(near, 1.0, logit)
    away = p * (LOG2 + logsigmoid(far)) + q * (LOG2 + logsigmoid(-far))
    return torch.where(near, (p + q) / 2 * (s * close + torch.log1p(-s * s)), away)


def jeffrey_conjugate(t: Tensor) -> Tensor:
    """The conjugate of (u − 1) log u."""
    # t = 1 + log u − 1/u is solved by w = 1/u, w + log w = 1 − t: Newton on y = log w, convex,
    # from the right. A last step outside no_grad carries f*′(t) = u.
    x = 1 - lift(t)

    def step(y: Tensor) -> Tensor:
        return y - (y.exp() + y - x) / (y.exp() + 1)

    with torch.no_grad():
        y = torch.where(x > 1, x.clamp(min=1).log(), x)
        for _ in range(8):
            y = step(y)
    y = step(y.detach())
    return torch.exp(y) + torch.exp(-y) - x - 1


def symmetric_chi2_conjugate(t: Tensor) -> Tensor:
    """The conjugate of (u − 1)² + (u − 1)²/u."""
    # t = 2u − 1 − u⁻² is the one positive root of 2u³ − (1 + t)u² − 1, convex beyond it: Newton
    # from the right. A last step outside no_grad carries f*′(t) = u.
    rise = 1 + lift(t)

    def step(u: Tensor) -> Tensor:
        return u - (2 * u - rise - u**-2) * u / (2 * (3 * u - rise))

    with torch.no_grad():
        u = torch.relu(rise) / 2 + 1
        for _ in range(64):
            u = step(u)
    u = step(u.detach())
    return (u - 1) * (u + 1) + 2 * (1 - 1 / u)
