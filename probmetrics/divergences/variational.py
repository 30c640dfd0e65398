"""Lower bounds on divergences from the scores of a critic.

A critic looks at one point and returns a score. Every bound below is a difference between what
the scores on P earn and what the scores on Q cost; it holds for every critic, is tight for the
right one, and is estimated without bias on points the critic was not trained on, except where it
says otherwise. Scores are differentiable: the negative of a bound is a critic's loss.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Array, LineX, LineY, Values, array_function
from probmetrics._interval import Interval, normal_interval
from probmetrics.divergences.family import KL, named
from probmetrics.divergences.row import FDivergence


@array_function
def variational_bound(score_x: LineX, score_y: LineY, *, f: FDivergence | str = KL) -> Values:
    r"""Variational lower bound on D_f(P‖Q) from logits ℓ, the critic's guess of log p/q.

    .. math:: \mathrm{mean}\, \mathrm{reward}(\ell(x)) - \mathrm{mean}\, \mathrm{penalty}(\ell(y))
              \le D_f(P\|Q), \qquad \text{with equality at } \ell = \log p/q

    Args:
        score_x: Logits at points of P, shape (*batch, n).
        score_y: Logits at points of Q, shape (*batch, m).
        f: A row of the family, or its name: "kl", "js", "pearson", "alpha(0.5)", ….

    Returns:
        The bound, shape (*batch), in the scale of the public functions (JS at most log 2, squared
        Hellinger 1 − BC).

    Raises:
        ValueError: NaN, empty scores, an unknown name.
        TypeError: f is no divergence.

    Example:
        >>> variational_bound([0.0, 0.0], [0.0])
        0.0
        >>> round(variational_bound([50.0], [-50.0], f="js"), 6)  # disjoint: log 2
        0.693147

    Notes:
        Finite, with finite gradients, for logits in ±1000. Total variation has no gradient in the
        logits; ``fit_critic`` trains it through a tanh.

    References:
        Nguyen, Wainwright & Jordan (2010), "Estimating divergence functionals and the likelihood
        ratio by convex risk minimization"; Nowozin, Cseke & Tomioka (2016), "f-GAN", eq. (4).
    """
    score_x, score_y = _scores(score_x, score_y)
    row = divergence(f)
    rewards, penalties = row.reward(score_x).double(), row.penalty(score_y).double()
    return (row.scale * (rewards.mean(-1) - penalties.mean(-1))).to(score_x.dtype)


@array_function
def donsker_varadhan(score_x: LineX, score_y: LineY) -> Values:
    """Donsker–Varadhan lower bound on KL(P‖Q), mean s(x) − log mean e^{s(y)}.

    Tight at s = log p/q plus any constant.

    Args:
        score_x: Scores at points of P, shape (*batch, n).
        score_y: Scores at points of Q, shape (*batch, m).

    Returns:
        The bound, shape (*batch).

    Raises:
        ValueError: NaN or empty scores.

    Example:
        >>> donsker_varadhan([3.0, 3.0], [3.0])
        0.0

    Notes:
        The logarithm of a mean is estimated too low, by var(e^s)/(2 m E[e^s]²): with few points
        and large scores the estimate may lie above the bound. ``nwj`` has no such bias. Its
        gradient over minibatches is biased for the same reason: see ``mine``.

    References:
        Donsker & Varadhan (1983), "Asymptotic evaluation of certain Markov process expectations
        for large time IV"; Belghazi et al. (2018), "Mutual information neural estimation", eq. 2.
    """
    score_x, score_y = _scores(score_x, score_y)
    value = score_x.double().mean(-1) - log_mean_exp(score_y.double())
    return value.to(score_x.dtype)


class Mine(NamedTuple):
    """A Donsker–Varadhan bound whose gradient is that of a long average.

    Attributes:
        value: The bound.
        log_average: log of the moving average of mean e^{s(y)}, to hand to the next step.
    """

    value: Any
    log_average: Any


@array_function
def mine(
    score_x: LineX,
    score_y: LineY,
    *,
    log_average: Values | float | None = None,
    decay: float = 0.99,
) -> Mine:
    """Donsker–Varadhan bound with the gradient correction of MINE.

    The gradient of log mean e^{s(y)} over a minibatch is biased, as it divides by a noisy mean.
    Here the value is that of ``donsker_varadhan``, but its gradient divides by a moving average of
    that mean instead.

    Args:
        score_x: Scores at points of P, shape (*batch, n).
        score_y: Scores at points of Q, shape (*batch, m).
        log_average: What the step before returned; None at the first.
        decay: Share of the old average that is kept, in (0, 1).

    Returns:
        ``value``, shape (*batch), and ``log_average``, without gradient, for the next step.

    Raises:
        ValueError: NaN or empty scores, a decay outside (0, 1).

    Example:
        >>> step = mine([1.0, 2.0], [0.0])
        >>> step.value, step.log_average
        (1.5, 0.0)
        >>> round(mine([1.0, 2.0], [1.0], log_average=step.log_average, decay=0.5).log_average, 4)
        0.6201

    References:
        Belghazi et al. (2018), "Mutual information neural estimation", section 3.2 and eq. (12).
    """
    decay = checks.between(decay, "decay", 0.0, 1.0)
    score_x, score_y = _scores(score_x, score_y)
    mean = log_mean_exp(score_y.double())
    now = mean.detach()
    if log_average is not None:
        before = torch.as_tensor(log_average, dtype=now.dtype, device=now.device).detach()
        now = torch.logaddexp(before + math.log(decay), now + math.log1p(-decay))
    earned = score_x.double().mean(-1)
    slope = torch.exp(mean - now)  # its gradient is E[e^s ∇s] over the moving average
    value = (earned - mean).detach() + (earned - earned.detach()) - (slope - slope.detach())
    return Mine(value.to(score_x.dtype), now.to(score_x.dtype))


@array_function
def nwj(score_x: LineX, score_y: LineY) -> Values:
    """Nguyen–Wainwright–Jordan lower bound on KL(P‖Q), mean s(x) − mean e^{s(y) − 1}.

    ``variational_bound`` of KL at the logits s − 1, so tight at s = 1 + log p/q; also called
    f-GAN-KL and MINE-f.

    Args:
        score_x: Scores at points of P, shape (*batch, n).
        score_y: Scores at points of Q, shape (*batch, m).

    Returns:
        The bound, shape (*batch).

    Raises:
        ValueError: NaN or empty scores.

    Example:
        >>> nwj([1.0], [1.0])
        0.0

    References:
        Nguyen, Wainwright & Jordan (2010); Poole et al. (2019), "On variational bounds of mutual
        information", eq. (6).
    """
    score_x, score_y = _scores(score_x, score_y)
    bound: Tensor = variational_bound(score_x - 1, score_y - 1, f=KL)
    return bound


@array_function
def smile(score_x: LineX, score_y: LineY, *, clip: float = 5.0) -> Values:
    """SMILE estimate of KL(P‖Q), mean s(x) − log mean clip(e^{s(y)}, e^{−clip}, e^{clip}).

    Args:
        score_x: Scores at points of P, shape (*batch, n).
        score_y: Scores at points of Q, shape (*batch, m).
        clip: Where scores on Q are cut off. Infinite gives ``donsker_varadhan``.

    Returns:
        The estimate, shape (*batch).

    Raises:
        ValueError: NaN or empty scores, a clip that is not above zero.

    Example:
        >>> smile([2.0], [100.0], clip=1.0)
        1.0

    Notes:
        A lower bound where no score on Q exceeds ``clip``. Beyond, cutting off lowers the variance,
        which for the Donsker–Varadhan bound grows like e^{KL}, at the price of a bias upwards of
        at most log(1 + E_Q[(e^s − e^clip)₊] / E_Q[clipped]).

    References:
        Song & Ermon (2020), "Understanding the limitations of variational mutual information
        estimators", eq. (17).
    """
    score_x, score_y = _scores(score_x, score_y)
    limit = math.inf if clip == math.inf else checks.positive(clip, "clip")
    clipped = score_y.double().clamp(min=-limit, max=limit)
    return (score_x.double().mean(-1) - log_mean_exp(clipped)).to(score_x.dtype)


@array_function
def infonce(scores: Array) -> Values:
    """InfoNCE lower bound on a mutual information, at most log n.

    mean_i [ s(x_i, y_i) − log mean_j e^{s(x_i, y_j)} ] for n independent pairs (x_i, y_i).

    Args:
        scores: s(x_i, y_j), shape (*batch, n, n): true pairs on the diagonal.

    Returns:
        The bound, shape (*batch).

    Raises:
        ValueError: Scores that are not square, or NaN.

    Example:
        >>> round(infonce([[9.0, 0.0], [0.0, 9.0]]), 4)  # nearly log 2
        0.693

    Notes:
        Tight only for informations well below log n. A lower bound on average for every n.

    References:
        van den Oord, Li & Vinyals (2018), "Representation learning with contrastive predictive
        coding"; Poole et al. (2019), eq. (10).
    """
    if scores.ndim < 2 or scores.shape[-1] != scores.shape[-2] or scores.shape[-1] == 0:
        raise ValueError(
            "scores must have shape (*batch, n, n), true pairs on the diagonal; "
            f"got {tuple(scores.shape)}"
        )
    wide = checks.finite(scores, "scores").double()
    value = wide.diagonal(dim1=-2, dim2=-1) - log_mean_exp(wide)
    return value.mean(-1).to(scores.dtype)


def divergence(f: FDivergence | str) -> FDivergence:
    """A row of the family, by itself or by name."""
    row = named(f) if isinstance(f, str) else f
    if not isinstance(row, FDivergence):
        raise TypeError(f"f must be an f-divergence of the family, got {row!r}")
    return row


def interval_of_means(
    rewards: Tensor,
    penalties: Tensor,
    *,
    scale: float,
    level: float,
    bias: Tensor | None = None,
) -> Interval:
    """scale · (mean reward − mean penalty) with the interval of two independent means."""
    value = scale * (rewards.mean() - penalties.mean())
    variance = rewards.var() / len(rewards) + penalties.var() / len(penalties)
    error = scale * variance.sqrt()
    return normal_interval(value, error, method="influence", level=level, bias=bias)


def log_mean_exp(scores: Tensor) -> Tensor:
    """log mean e^s along the last axis."""
    return scores.logsumexp(-1) - math.log(scores.shape[-1])


def _scores(score_x: Tensor, score_y: Tensor) -> tuple[Tensor, Tensor]:
    """Checked scores, half precision made single."""
    score_x = checks.line(score_x, name="score_x").unsqueeze(-1)
    score_y = checks.line(score_y, name="score_y").unsqueeze(-1)
    score_x, score_y = checks.same_kind(score_x, score_y, ("score_x", "score_y"))
    if score_x.dtype in (torch.float16, torch.bfloat16):
        score_x, score_y = score_x.float(), score_y.float()
    return score_x.squeeze(-1), score_y.squeeze(-1)
