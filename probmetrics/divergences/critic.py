"""Training a critic on some points, for a bound on a divergence evaluated on others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, to_numpy, to_tensor
from probmetrics._autograd import outside_inference
from probmetrics._interval import Interval
from probmetrics._training import (
    CriticTraining,
    Drawn,
    admit_pair,
    prepared,
    scores,
    settings,
    split_folds,
    train,
)
from probmetrics.divergences.family import JS, KL, TotalVariation
from probmetrics.divergences.row import FDivergence
from probmetrics.divergences.variational import (
    divergence,
    interval_of_means,
    variational_bound,
)

SCALES = (0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0)  # tried in calibration
CUTS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)


@dataclass(frozen=True, repr=False)
class CriticFit:
    """A divergence estimated by critics, with the critics.

    Attributes:
        interval: The estimate, on points no critic was trained on, with its interval.
        critics: One trained network per fold; its output is the logit, log p/q.
        steps: Steps after which each stopped improving.
        f: The divergence.
    """

    interval: Interval
    critics: tuple["Calibrated", ...]
    steps: tuple[int, ...]
    f: FDivergence

    @property
    def value(self) -> Any:
        """The estimate."""
        return self.interval.value

    def log_ratio(self, at: Any) -> Any:
        """log p/q at points, (k, d) → (k,): the mean of the critics' logits."""
        points = to_tensor(at, "at")
        points = points.unsqueeze(-1) if points.ndim == 1 else points
        checks.sample(points.flatten(1), name="at")
        with torch.no_grad():
            mean = torch.stack([critic(points) for critic in self.critics]).mean(0)
        return to_numpy(mean) if answers_in_numpy({"at": at}) else mean

    def __float__(self) -> float:
        return float(self.interval)

    def __repr__(self) -> str:
        folds = len(self.critics)
        return f"{self.f.name} >= {self.interval}, from {folds} critics, {self.steps} steps"


@outside_inference
def fit_critic(
    x: Any,
    y: Any,
    *,
    f: FDivergence | str = KL,
    objective: FDivergence | str = JS,
    critic: nn.Module | None = None,
    hidden: Sequence[int] = (64, 64),
    folds: int = 3,
    training: CriticTraining | None = None,
    level: float = 0.95,
    generator: torch.Generator | int | None = None,
) -> CriticFit:
    r"""D_f(P‖Q) from below by a trained critic, evaluated where it was not trained.

    The samples are split into folds. For each, a critic ℓ is trained on three quarters of the
    others; the last quarter says when to stop and calibrates the critic. Then

    .. math:: E_P[\mathrm{reward}(\ell)] - E_Q[\mathrm{penalty}(\ell)] \le D_f(P\|Q)

    is evaluated on the fold. Every point is used for evaluation once and for training by the
    critics of the other folds.

    Args:
        x: Sample of P, shape (n, d) or (n, *shape).
        y: Sample of Q, shape (m, d).
        f: The divergence to bound: a row of the family, or its name.
        objective: What the critic is trained to maximise. The same critic, log p/q, is optimal
            for all of them, and that of JS (the logistic loss of a GAN's critic) has bounded
            gradients, where those of KL and of χ² grow exponentially in the logit.
        critic: Network from (k, d) to logits (k,) or (k, 1), copied for each fold and left as it
            is. None is a fully connected one on standardised columns that starts at ℓ = 0.
        hidden: Widths of its layers.
        folds: At least 2.
        training: Steps, batch size, learning rate and patience.
        level: Nominal coverage of the interval.
        generator: Source of splits, batches and the default network.

    Returns:
        A ``CriticFit``; its ``interval`` is about the mean bound of the trained critics.

    Raises:
        ValueError: Samples with fewer than 4 points per fold, NaN; a critic of another shape;
            total variation as an objective, which has no gradient.
        TypeError: A critic that is no network; f that is no divergence.

    Example:
        >>> source = torch.Generator().manual_seed(0)
        >>> x, y = (torch.randn(600, 1, generator=source) for _ in range(2))
        >>> fitted = fit_critic(x + 2, y, f="js", generator=0)
        >>> 0.2 < float(fitted) < 0.42  # JS is 0.3365
        True

    Notes:
        For fixed critics the estimate is unbiased for their bound, hence on average never above
        the divergence. The interval does not contain the gap between bound and divergence.

        Calibration: of the critics s·ℓ, cut off at ±c, the one of the largest bound on the
        quarter kept aside, with c at most log of the number of training points. A larger
        ratio cannot be told from so many points, and claiming it costs KL and χ² an exponential
        penalty at the first stray point. So KL is told up to about log n.

    References:
        Nowozin, Cseke & Tomioka (2016), "f-GAN"; Nguyen, Wainwright & Jordan (2010); McAllester &
        Stratos (2020), "Formal limitations on the measurement of mutual information", for log n.
    """
    row, goal = divergence(f), trainable(objective)
    level = checks.between(level, "level", 0.0, 1.0)
    training = settings(training)
    folds = checks.count(folds, "folds", minimum=2)
    as_numpy = answers_in_numpy({"x": x, "y": y})
    x, y = admit_pair(x, y, 4 * folds)
    source = checks.generator(generator)
    splits = [split_folds(len(z), folds, source) for z in (x, y)]
    rewards, penalties, critics, steps = [], [], [], []
    for (seen_x, kept_x, out_x), (seen_y, kept_y, out_y) in zip(*splits, strict=True):
        seen, kept = (x[seen_x], y[seen_y]), (x[kept_x], y[kept_y])
        network = prepared(critic, torch.cat(seen), hidden, source)
        steps.append(_train(network, seen, kept, goal, training, source))
        fitted = calibrated(network, *kept, row, min(map(len, seen)))
        with torch.no_grad():
            rewards.append(row.reward(fitted(x[out_x]).double()))
            penalties.append(row.penalty(fitted(y[out_y]).double()))
        critics.append(fitted)
    interval = interval_of_means(
        torch.cat(rewards), torch.cat(penalties), scale=row.scale, level=level
    )
    answer = to_numpy(interval) if as_numpy else interval
    return CriticFit(answer, tuple(critics), tuple(steps), row)


def _train(
    network: nn.Module,
    seen: tuple[Tensor, Tensor],
    kept: tuple[Tensor, Tensor],
    goal: FDivergence,
    training: CriticTraining,
    generator: torch.Generator,
) -> int:
    """Raise the bound of some points until it falls on others; the number of steps."""
    drawn = [Drawn(points, training.batch, generator) for points in seen]

    def gain(x: Tensor, y: Tensor) -> Tensor:
        bound: Tensor = variational_bound(scores(network, x), scores(network, y), f=goal)
        return bound

    return train(
        network,
        lambda: -gain(*(rows.draw() for rows in drawn)),
        lambda: float(gain(*kept)),
        training,
    )


class Calibrated(nn.Module):
    """A critic's logits times a scale, cut off at both ends."""

    def __init__(self, network: nn.Module, scale: float, limit: float) -> None:
        super().__init__()
        self.network, self.scale, self.limit = network, scale, limit

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (k,)."""
        logits: Tensor = self.scale * scores(self.network, x)
        return logits.clamp(-self.limit, self.limit)


def calibrated(
    network: nn.Module, x: Tensor, y: Tensor, row: FDivergence, points: int
) -> Calibrated:
    """The scale and the cut with the largest bound on points the critic was not trained on."""
    largest = math.log(points)
    with torch.no_grad():
        at_x, at_y = scores(network, x).double(), scores(network, y).double()
        trials = []
        for limit in (largest, *(c for c in CUTS if c < largest)):
            for scale in SCALES:
                logits = ((scale * z).clamp(-limit, limit) for z in (at_x, at_y))
                trials.append((float(variational_bound(*logits, f=row)), scale, limit))
    _, scale, limit = max(trials)
    return Calibrated(network, scale, limit)


def trainable(objective: FDivergence | str) -> FDivergence:
    """A divergence whose bound has a gradient in the logits."""
    row = divergence(objective)
    with torch.enable_grad():
        reward = row.reward(torch.zeros((), requires_grad=True))
    if not reward.requires_grad or row is TotalVariation:
        raise ValueError(f"{row.name} has no gradient in the logits; train by objective='js'")
    return row
