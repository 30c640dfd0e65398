"""Mutual information of paired samples, from below by a trained critic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, to_numpy
from probmetrics._autograd import outside_inference
from probmetrics._interval import Interval, normal_interval
from probmetrics._training import (
    CriticTraining,
    Drawn,
    admit_points,
    prepared,
    scores,
    settings,
    split_folds,
    train,
)
from probmetrics.divergences.critic import calibrated
from probmetrics.divergences.family import JS, KL
from probmetrics.divergences.row import FDivergence
from probmetrics.divergences.variational import (
    divergence,
    donsker_varadhan,
    infonce,
    log_mean_exp,
    mine,
    variational_bound,
)

LOGARITHMIC = ("donsker varadhan", "mine", "smile")
BOUNDS = ("nwj", *LOGARITHMIC, "infonce")
PARTNERS = 32  # other partners each point is paired with in evaluation
CANDIDATES = 128  # partners among which InfoNCE looks for the true one
CONTRAST = 64  # and in training


@outside_inference
def mutual_information(
    x: Any,
    y: Any,
    *,
    bound: FDivergence | str = "nwj",
    critic: nn.Module | None = None,
    hidden: Sequence[int] = (64, 64),
    clip: float = 5.0,
    folds: int = 3,
    training: CriticTraining | None = None,
    level: float = 0.95,
    generator: torch.Generator | int | None = None,
) -> Interval:
    """Mutual information I(X; Y) = KL(joint ‖ product of marginals) from pairs, from below.

    A critic of pairs (x, y) is trained on some of the pairs, true ones against others, and its
    bound is evaluated on pairs it has not seen; over the folds every pair is seen once.

    Args:
        x: First halves of the pairs, shape (n, d).
        y: Second halves, shape (n, e), in the same order.
        bound: How:

            - "nwj": unbiased for the critic's bound, so never above the information on average.
            - "donsker varadhan": the same critic scored by the logarithm of a mean, which is
              estimated slightly too low and the bound slightly too high, by O(1/n).
            - "mine": the same bound, also in training, with MINE's corrected gradient.
            - "smile": with scores of other pairs cut off at ``clip``: less variance, and a bias
              upwards where the cut bites.
            - "infonce": tells the true partner among 128; at most log 128 = 4.85.
            - a row of the family or its name: that divergence between joint and product, e.g.
              "js", in place of KL.
        critic: Network from (k, d + e) to logits (k,) or (k, 1), copied for each fold. None is a
            fully connected one on standardised columns.
        hidden: Widths of its layers.
        clip: For "smile".
        folds: At least 2.
        training: Steps, batch size, learning rate and patience.
        level: Nominal coverage of the interval.
        generator: Source of splits, batches and the default network.

    Returns:
        The bound on the information in nats, with the interval of its error on unseen pairs.

    Raises:
        ValueError: n that differs, fewer than 8 pairs per fold, NaN, an unknown bound.
        TypeError: A critic that is no network.

    Example:
        >>> source = torch.Generator().manual_seed(0)
        >>> x, noise = (torch.randn(900, 1, generator=source) for _ in range(2))
        >>> found = mutual_information(x, 0.9 * x + 0.19**0.5 * noise, generator=0)
        >>> 0.6 < float(found) < 1.0  # the information is 0.83
        True

    Notes:
        But for "mine" and "infonce", critics are trained by the logistic loss and calibrated as in
        ``fit_critic``. No bound is told reliably from n pairs beyond log n.

        The interval takes the critics as fixed. The influence of a pair is what it earns less
        what its halves cost among the others.

    References:
        Belghazi et al. (2018), "Mutual information neural estimation"; Poole et al. (2019), "On
        variational bounds of mutual information"; Song & Ermon (2020), "Understanding the
        limitations of variational mutual information estimators"; van den Oord et al. (2018),
        "Representation learning with contrastive predictive coding".
    """
    row = None if bound in LOGARITHMIC or bound == "infonce" else _row(bound)
    limit = math.inf if clip == math.inf else checks.positive(clip, "clip")
    level = checks.between(level, "level", 0.0, 1.0)
    training = settings(training)
    folds = checks.count(folds, "folds", minimum=2)
    as_numpy = answers_in_numpy({"x": x, "y": y})
    pairs = _admit(x, y, 8 * folds)
    source = checks.generator(generator)
    values, influences = [], []
    for seen, kept, out in split_folds(len(pairs.x), folds, source):
        network = prepared(critic, pairs.take(seen).joint(), hidden, source)
        fitted = _trained(network, bound, pairs.take(seen), pairs.take(kept), training, source)
        if bound not in ("mine", "infonce"):
            some = pairs.take(kept)
            other = some.others(PARTNERS).flatten(0, 1)
            fitted = calibrated(fitted, some.joint(), other, row or KL, len(seen))
        with torch.no_grad():
            value, influence = _evaluated(
                fitted, pairs.take(out), bound, row, limit if bound == "smile" else math.inf
            )
        values.append(value * len(out))
        influences.append(influence - influence.mean())
    value = torch.stack(values).sum() / len(pairs.x)
    error = torch.cat(influences).std() / len(pairs.x) ** 0.5
    interval = normal_interval(value, error, method="influence", level=level)
    answer = to_numpy(interval) if as_numpy else interval
    assert isinstance(answer, Interval)
    return answer


@dataclass(frozen=True)
class Pairs:
    """Paired samples, and the pairs they might have made."""

    x: Tensor
    y: Tensor

    def take(self, rows: Tensor) -> "Pairs":
        """Some of the pairs."""
        return Pairs(self.x[rows], self.y[rows])

    def joint(self) -> Tensor:
        """The true pairs, (n, d + e)."""
        return torch.cat([self.x, self.y], -1)

    def others(self, partners: int) -> Tensor:
        """Each x with the y of the next few rows, (n, partners, d + e); fewer if n is small."""
        n = len(self.x)
        steps = torch.arange(1, min(partners, n - 1) + 1, device=self.x.device)
        index = (torch.arange(n, device=self.x.device).unsqueeze(-1) + steps) % n
        x = self.x.unsqueeze(1).expand(-1, len(steps), -1)
        return torch.cat([x, self.y[index]], -1)

    def every(self) -> Tensor:
        """Each x with each y, (n, n, d + e)."""
        n = len(self.x)
        x, y = self.x.unsqueeze(1).expand(-1, n, -1), self.y.unsqueeze(0).expand(n, -1, -1)
        return torch.cat([x, y], -1)


def _trained(
    network: nn.Module,
    bound: FDivergence | str,
    seen: Pairs,
    kept: Pairs,
    training: CriticTraining,
    generator: torch.Generator,
) -> nn.Module:
    """The network after training for a bound."""
    batch = min(training.batch, CONTRAST) if bound == "infonce" else training.batch
    drawn = Drawn(torch.arange(len(seen.x)), batch, generator)
    average: list[Tensor | None] = [None]

    def gain(some: Pairs) -> Tensor:
        if bound == "infonce":
            matrix = scores(network, some.every().flatten(0, 1)).unflatten(0, (len(some.x), -1))
            return _tensor(infonce(matrix))
        true, other = scores(network, some.joint()), scores(network, _rolled(some))
        if bound != "mine":
            return _tensor(variational_bound(true, other, f=JS))
        step = mine(true, other, log_average=average[0])
        average[0] = step.log_average
        return _tensor(step.value)

    def validation() -> float:
        if bound == "infonce":
            parts = Drawn(torch.arange(len(kept.x)), CONTRAST, generator)
            return float(gain(kept.take(parts.draw())))
        true = scores(network, kept.joint())
        other = scores(network, kept.others(PARTNERS).flatten(0, 1))
        if bound == "mine":
            return float(donsker_varadhan(true, other))
        return float(variational_bound(true, other, f=JS))

    train(network, lambda: -gain(seen.take(drawn.draw())), validation, training)
    return network


def _evaluated(
    network: nn.Module,
    pairs: Pairs,
    bound: FDivergence | str,
    row: FDivergence | None,
    limit: float,
) -> tuple[Tensor, Tensor]:
    """The bound on unseen pairs, and the influence of each pair."""
    partners = CANDIDATES - 1 if bound == "infonce" else PARTNERS
    other = pairs.others(partners)
    n, width = other.shape[:2]
    true = scores(network, pairs.joint()).double()
    false = scores(network, other.flatten(0, 1)).double().unflatten(0, (n, width))
    if bound == "infonce":
        every = torch.cat([true.unsqueeze(-1), false], -1)
        terms = true - log_mean_exp(every)
        paid = torch.softmax(every, -1)[:, 1:]
        return terms.mean(), terms - _received(paid)
    if row is not None:
        earned, paid = row.reward(true), row.penalty(false)
        value = row.scale * (earned.mean() - paid.mean())
        return value, row.scale * (earned - paid.mean(-1) - _received(paid) / width)
    false = false.clamp(-limit, limit)
    log_mean = log_mean_exp(false.flatten())
    paid = torch.exp(false - log_mean)
    return true.mean() - log_mean, true - paid.mean(-1) - _received(paid) / width


def _received(paid: Tensor) -> Tensor:
    """What each y cost in all, where entry (i, s) was paid for y of row i + s + 1."""
    n, width = paid.shape
    steps = torch.arange(1, width + 1, device=paid.device)
    index = (torch.arange(n, device=paid.device).unsqueeze(-1) - steps) % n
    return paid.gather(0, index).sum(-1)


def _rolled(pairs: Pairs) -> Tensor:
    """One other pair for each x, (n, d + e); rows come in random order."""
    return torch.cat([pairs.x, pairs.y.roll(1, 0)], -1)


def _row(bound: FDivergence | str) -> FDivergence:
    if bound == "nwj":
        return KL
    try:
        return divergence(bound)
    except ValueError as error:
        raise ValueError(
            f"unknown bound {bound!r}; known: {', '.join(BOUNDS)}, and the divergences: {error}"
        ) from error


def _admit(x: Any, y: Any, fewest: int) -> Pairs:
    x, y = admit_points(x, "x", fewest).flatten(1), admit_points(y, "y", fewest).flatten(1)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} points and y has {len(y)}; they must come in pairs")
    if x.device != y.device:
        raise ValueError(f"x is on {x.device} and y on {y.device}; move one with .to(...)")
    dtype = torch.promote_types(x.dtype, y.dtype)
    return Pairs(x.to(dtype), y.to(dtype))


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)
    return value
