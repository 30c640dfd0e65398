"""The f-divergences and critics, one row each: a reward and a penalty of the log-ratio.

D_f(P‖Q) = ∫ q f(p/q) = sup_ℓ E_P[reward(ℓ)] − E_Q[penalty(ℓ)], attained at ℓ = log p/q, with
reward(ℓ) = f′(e^ℓ) and penalty(ℓ) = f*(f′(e^ℓ)) = e^ℓ f′(e^ℓ) − f(e^ℓ). With ℓ = log p/q the pair
is the divergence; with known ratios at drawn points, its Monte Carlo estimate; with the logits of
a critic, a lower bound and the loss of an f-GAN.

Logits far out saturate: the fastest exponential of a pair continues along its tangent beyond
e^c, c = ¾ log(largest number of the dtype) (66.5 in float32, 532 in float64), because the *logit*
is bent there: log1p growth inside that exponential. Values and gradients stay finite for logits
in ±1000, averages of millions of them too, and a bent logit is still a logit: where both halves
are exponentials, the bound stays a bound. Linear halves (the reward of KL) are never bent.
Half-precision logits are answered in float32, as autocast does; their gradients are rounded back
to half precision, where float16 overflows beyond 65504.

References:
    Nguyen, Wainwright & Jordan (2010), "X
    Nowozin, Cseke & Tomioka (2016), "f-GAN", tables 1 and 2.
    Cichocki & Amari (2010), "Families of alpha- beta- and gamma-divergences".
"""

import math
import re
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from probmetrics import _checks as checks
from probmetrics.divergences.logratio import (
    LOG2,
    Function,
    bend,
    jeffrey_conjugate,
    js_perspective,
    lift,
    power_pair,
    power_perspective,
    symmetric_chi2_conjugate,
)
from probmetrics.divergences.row import CriticRow, FDivergence


def _inside(t: Tensor, domain: Tensor, formula: Function) -> Tensor:
    """The formula on its domain, +∞ outside; the gradient is finite on both."""
    return torch.where(domain, formula(torch.where(domain, t, -1.0)), math.inf)


def Alpha(alpha: float | int) -> FDivergence:  # noqa: N802
    """The α-divergence (∫ p^α q^{1−α} − 1)/(α(α−1)), f(u) = (u^α − 1 − α(u − 1))/(α(α−1)).

    α = 1 is KL and α = 0 reverse KL (with f in its centred form, f′(1) = 0); α = 2 is half the
    Pearson χ², α = −1 half the Neyman χ², α = ½ is 4 (1 − BC). Rényi's divergence is
    log(1 + α(α−1) D_α)/(α−1) and Tsallis' is α D_α: ``renyi_of_alpha``, ``tsallis_of_alpha``.
    """
    alpha = checks.real(alpha, "alpha")
    reward, penalty = power_pair(alpha, 1.0)

    def f(u: Tensor) -> Tensor:
        if alpha == 1:
            return torch.xlogy(u, u) - (u - 1)
        if alpha == 0:
            return (u - 1) - u.log()
        return (u**alpha - 1 - alpha * (u - 1)) / (alpha * (alpha - 1))

    def conjugate(t: Tensor) -> Tensor:
        if alpha == 1:
            return torch.expm1(t)
        if alpha == 0:
            return _inside(t, t < 1, lambda s: -torch.log1p(-s))
        base, power = 1 + (alpha - 1) * t, alpha / (alpha - 1)
        if alpha > 1:  # below the slope at zero the supremum sits at u = 0
            return (base.clamp(min=0) ** power - 1) / alpha
        return torch.where(
            base > 0, (torch.where(base > 0, base, 1.0) ** power - 1) / alpha, math.inf
        )

    return FDivergence(
        f"alpha({alpha:g})" if float(f"{alpha:g}") == alpha else f"alpha({alpha!r})",
        f=f,
        conjugate=conjugate,
        reward=reward,
        penalty=penalty,
        activation=reward,
        composite=penalty,
        output=lambda logit: logit,
        perspective=power_perspective(alpha, 1.0),
        order=alpha,
    )


def _power_row(name: str, alpha: float, times: float, **fields: Any) -> FDivergence:
    reward, penalty = power_pair(alpha, times)
    perspective = power_perspective(alpha, times)
    return FDivergence(
        name,
        reward=reward,
        penalty=penalty,
        perspective=perspective,
        order=alpha,
        times=times,
        **fields,
    )


KL = _power_row(
    "kl",
    1.0,
    1.0,
    f=lambda u: torch.xlogy(u, u),
    conjugate=lambda t: torch.exp(t - 1),
    activation=lift,
    composite=lambda v: torch.exp(bend(lift(v) - 1)),
    output=lambda logit: 1 + logit,
    anchor=1.0,
)

ReverseKL = _power_row(
    "reverse kl",
    0.0,
    1.0,
    f=lambda u: -u.log(),
    conjugate=lambda t: _inside(t, t < 0, lambda s: -1 - (-s).log()),
    activation=lambda v: -torch.exp(-bend(v, -1.0)),
    composite=lambda v: lift(v) - 1,
    output=lambda logit: logit,
    anchor=-1.0,
)

# f* of (u − 1)² over the whole line, as in the table: a valid, marginally weaker bound below
# T = −2, where the conjugate over u >= 0 alone would stay at −1.
PearsonChi2: FDivergence = _power_row(
    "pearson",
    2.0,
    2.0,
    f=lambda u: (u - 1) ** 2,
    conjugate=lambda t: t * (t / 4 + 1),
    activation=lift,
    composite=lambda v: lift(v) * (lift(v) / 4 + 1),
    output=lambda logit: PearsonChi2.reward(logit),
)

NeymanChi2: FDivergence = _power_row(
    "neyman",
    -1.0,
    2.0,
    f=lambda u: (u - 1) ** 2 / u,
    conjugate=lambda t: _inside(t, t <= 1, lambda s: 2 - 2 * (1 - s).clamp(min=0).sqrt()),
    activation=lambda v: NeymanChi2.reward(lift(v) / 2),
    composite=lambda v: NeymanChi2.penalty(lift(v) / 2),
    output=lambda logit: 2 * logit,
)

# Pearson + Neyman, ∫ (p − q)²(p + q)/(pq).
SymmetricChi2: FDivergence = FDivergence(
    "symmetric chi2",
    f=lambda u: PearsonChi2.f(u) + NeymanChi2.f(u),
    conjugate=symmetric_chi2_conjugate,
    reward=lambda logit: PearsonChi2.reward(logit) + NeymanChi2.reward(logit),
    penalty=lambda logit: PearsonChi2.penalty(logit) + NeymanChi2.penalty(logit),
    activation=lambda v: SymmetricChi2.reward(v),
    composite=lambda v: SymmetricChi2.penalty(v),
    output=lambda logit: logit,
    perspective=lambda *bin: PearsonChi2.perspective(*bin) + NeymanChi2.perspective(*bin),
)

SquaredHellinger: FDivergence = _power_row(
    "squared hellinger",
    0.5,
    0.5,
    f=lambda u: (u.sqrt() - 1) ** 2,
    conjugate=lambda t: _inside(t, t < 1, lambda s: s / (1 - s)),
    activation=lambda v: SquaredHellinger.reward(2 * lift(v)),
    composite=lambda v: SquaredHellinger.penalty(2 * lift(v)),
    output=lambda logit: logit / 2,
    scale=0.5,
)


JS = FDivergence(
    "js",
    f=lambda u: torch.xlogy(u, u) - (u + 1) * ((u + 1) / 2).log(),
    conjugate=lambda t: _inside(t, t < LOG2, lambda s: -torch.log1p(-torch.expm1(s))),
    reward=lambda logit: LOG2 + logsigmoid(lift(logit)),
    penalty=lambda logit: -logsigmoid(-lift(logit)) - LOG2,
    activation=lambda v: LOG2 + logsigmoid(lift(v)),
    composite=lambda v: -logsigmoid(-lift(v)) - LOG2,
    output=lambda logit: logit,
    perspective=js_perspective,
    scale=0.5,
)

GAN = FDivergence(
    "gan",
    f=lambda u: torch.xlogy(u, u) - (u + 1) * torch.log1p(u),
    conjugate=lambda t: _inside(t, t < 0, lambda s: -torch.log(-torch.expm1(s))),
    reward=lambda logit: logsigmoid(lift(logit)),
    penalty=lambda logit: -logsigmoid(-lift(logit)),
    activation=lambda v: logsigmoid(lift(v)),
    composite=lambda v: -logsigmoid(-lift(v)),
    output=lambda logit: logit,
    perspective=lambda p, q, logit, log_p: js_perspective(p, q, logit, log_p) - LOG2 * (p + q),
)

Jeffrey: FDivergence = FDivergence(
    "jeffrey",
    f=lambda u: (u - 1) * u.log(),
    conjugate=jeffrey_conjugate,
    reward=lambda logit: lift(logit) - torch.expm1(-bend(logit, -1.0)),
    penalty=lambda logit: lift(logit) + torch.expm1(bend(logit)),
    activation=lambda v: Jeffrey.reward(v),
    composite=lambda v: Jeffrey.penalty(v),
    output=lambda logit: logit,
    perspective=lambda p, q, logit, log_p: (p - q) * logit,
)

# The optimal critic is a sign, so the pair in ℓ has no gradient: a critic of total variation is
# trained through activation and composite, ½ tanh v.
TotalVariation = FDivergence(
    "total variation",
    f=lambda u: (u - 1).abs() / 2,
    conjugate=lambda t: torch.where(t <= 0.5, t.clamp(min=-0.5), math.inf),
    reward=lambda logit: lift(logit).sign() / 2,
    penalty=lambda logit: lift(logit).sign() / 2,
    activation=lambda v: torch.tanh(lift(v)) / 2,
    composite=lambda v: torch.tanh(lift(v)) / 2,
    output=lambda logit: torch.where(logit == 0, 0.0, math.inf) * logit.sign(),
    perspective=lambda p, q, logit, log_p: (p - q).abs() / 2,
)

# f(u) = ½(u − 1)²/(u + 1), so that D = ½ ∫ (p − q)²/(p + q) lies in [0, 1].
LeCam: FDivergence = FDivergence(
    "le cam",
    f=lambda u: (u - 1) ** 2 / (2 * (u + 1)),
    conjugate=lambda t: _inside(
        t, t <= 0.5, lambda s: 2 * (1 - ((0.5 - s) / 2).clamp(0, 1).sqrt()) ** 2 - 0.5
    ),
    reward=lambda logit: torch.tanh(lift(logit) / 2) * (0.5 + torch.sigmoid(-lift(logit))),
    penalty=lambda logit: torch.tanh(lift(logit) / 2) * (0.5 + torch.sigmoid(lift(logit))),
    activation=lambda v: LeCam.reward(v),
    composite=lambda v: LeCam.penalty(v),
    output=lambda logit: logit,
    perspective=lambda p, q, logit, log_p: (p - q) * torch.tanh(logit / 2) / 2,
)

# Critic rows: the score is used as it comes.
WGAN = CriticRow("wgan", reward=lift, penalty=lift, generator=lambda s: -lift(s))

# At the optimum, sign(p − q), the value is 2 TV − 2.
Hinge = CriticRow(
    "hinge",
    reward=lambda s: -torch.relu(1 - lift(s)),
    penalty=lambda s: torch.relu(1 + lift(s)),
    generator=lambda s: -lift(s),
)


def least_squares(
    fake: float | int = 0.0, real: float | int = 1.0, target: float | int = 1.0
) -> CriticRow:
    """Least-squares critic: ½E(s_x − real)² + ½E(s_y − fake)²; generator ½E(s_y − target)².

    At the optimum s = (real·p + fake·q)/(p + q) the value E reward − E penalty is
    −¼ (real − fake)² (1 − Le Cam). With real − target = 1 and real − fake = 2 the generator's
    loss on both samples is ½ χ²_Pearson(P + Q ‖ 2Q).

    References:
        Mao et al. (2017), "Least squares generative adversarial networks", eq. (2).
    """
    labels = [checks.real(v, n) for v, n in ((fake, "fake"), (real, "real"), (target, "target"))]
    low, high, wanted = labels
    standard = labels == [0.0, 1.0, 1.0]
    return CriticRow(
        "least squares" if standard else f"least squares({low!r}, {high!r}, {wanted!r})",
        reward=lambda s: -((lift(s) - high) ** 2) / 2,
        penalty=lambda s: (lift(s) - low) ** 2 / 2,
        generator=lambda s: (lift(s) - wanted) ** 2 / 2,
    )


LeastSquares = least_squares()

DIVERGENCES: dict[str, FDivergence] = {
    row.name: row
    for row in (
        KL, ReverseKL, Jeffrey, JS, SquaredHellinger, PearsonChi2, NeymanChi2, SymmetricChi2,
        TotalVariation, LeCam, GAN,
    )
}  # fmt: skip
CRITICS: dict[str, CriticRow] = {row.name: row for row in (WGAN, Hinge, LeastSquares)}


def named(name: str) -> FDivergence | CriticRow:
    """The row of that name: "kl", "js", "alpha(0.3)", "wgan", "least squares(-1, 1, 0)", ….

    Raises:
        ValueError: No such row; the message lists those there are.
    """
    known: dict[str, FDivergence | CriticRow] = {**DIVERGENCES, **CRITICS}
    if name in known:
        return known[name]
    match = re.fullmatch(r"(alpha|least squares)\((.*)\)", name)
    if match is None:
        raise ValueError(f"unknown divergence {name!r}; known: {', '.join(known)}, alpha(<number>)")
    numbers = [float(number) for number in match[2].split(",")]
    return Alpha(*numbers) if match[1] == "alpha" else least_squares(*numbers)


def renyi_of_alpha(value: Tensor, alpha: float | int) -> Tensor:
    """Rényi's divergence log(1 + α(α−1) D_α)/(α−1) from the α-divergence; KL at α = 1."""
    if alpha == 1:
        return value
    return torch.log1p(alpha * (alpha - 1) * value) / (alpha - 1)


def tsallis_of_alpha(value: Tensor, alpha: float | int) -> Tensor:
    """Tsallis' relative entropy (∫ p^α q^{1−α} − 1)/(α − 1) = α D_α from the α-divergence."""
    return alpha * value
