"""A lower bound of W₁ from a critic: Kantorovich and Rubinstein's dual, on points kept aside."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, to_numpy, to_tensor
from probmetrics._autograd import outside_inference
from probmetrics._interval import Interval, normal_interval
from probmetrics._training import (
    CriticTraining,
    Drawn,
    admit_pair,
    layer_widths,
    prepared,
    scores,
    settings,
    split_folds,
    train,
)
from probmetrics.pairwise.ground import safe_sqrt

CONSTRAINTS = ("spectral", "penalty")
PENALTY = 10.0  # weight of squared excess slope in training
TRAINING = CriticTraining(steps=600, learning_rate=5e-3)
CONTRACTIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Softplus, nn.Sigmoid, nn.Identity, nn.Flatten)
TILE = 2**20  # pairs of points looked at together


@dataclass(frozen=True, repr=False)
class DualBound:
    """A lower bound of K · W₁ by critics, with the critics.

    Attributes:
        interval: The bound, on points no critic was trained on, with its interval.
        critics: One per fold: a function of points (k, d) giving scores (k,).
        lipschitz: K.
        certified: "everywhere": every critic is K-Lipschitz as a function, by the product of the
            largest singular values of its weights, so the bound is on average at most K · W₁.
            "held-out": its slope is at most K between the points it was evaluated at.
        steps: Steps after which each stopped improving.
    """

    interval: Interval
    critics: tuple["LipschitzCritic", ...]
    lipschitz: float
    certified: str
    steps: tuple[int, ...]

    @property
    def value(self) -> Any:
        """The bound."""
        return self.interval.value

    def score(self, at: Any) -> Any:
        """The mean of the critics' scores at points, (k, d) → (k,); each is set to mean zero."""
        points = to_tensor(at, "at")
        points = points.unsqueeze(-1) if points.ndim == 1 else points
        checks.sample(points.flatten(1), name="at")
        with torch.no_grad():
            mean = torch.stack([critic(points) for critic in self.critics]).mean(0)
        return to_numpy(mean) if answers_in_numpy({"at": at}) else mean

    def __float__(self) -> float:
        return float(self.interval)

    def __repr__(self) -> str:
        factor = "" if self.lipschitz == 1 else f"{self.lipschitz:g} "
        return f"{factor}W1 >= {self.interval}, Lipschitz {self.certified}"


class MaxMin(nn.Module):
    """Sorts pairs of features: 1-Lipschitz, and it keeps the length of every gradient.

    References:
        Anil, Lucas & Grosse (2019), "Sorting out Lipschitz function approximation", section 4.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape; an odd one out stays."""
        pairs = x.shape[-1] // 2
        left, right, rest = x.split([pairs, pairs, x.shape[-1] - 2 * pairs], -1)
        return torch.cat([torch.maximum(left, right), torch.minimum(left, right), rest], -1)


@outside_inference
def kantorovich_rubinstein(
    x: Any,
    y: Any,
    *,
    critic: nn.Module | None = None,
    constraint: str = "spectral",
    lipschitz: float = 1.0,
    hidden: Sequence[int] = (64, 64),
    folds: int = 3,
    training: CriticTraining | None = None,
    level: float = 0.95,
    generator: torch.Generator | int | None = None,
) -> DualBound:
    r"""Lower bound of K · W₁(P, Q) by Lipschitz critics, evaluated where they were not trained.

    .. math:: K \, W_1(P, Q) = \sup_{\mathrm{Lip}(h) \le K} E_P h - E_Q h

    The samples are split into folds. For each, a critic is trained on three quarters of the
    others, the last quarter says when to stop, and the difference of its mean scores is taken on
    the fold.

    Args:
        x: Sample of P, shape (n, d) or (n, *shape); distances are Euclidean.
        y: Sample of Q, shape (m, d).
        critic: Network from (k, d) to scores (k,) or (k, 1), copied for each fold and left as it
            is. None is a fully connected one with ``MaxMin``. Inputs reach it centred and
            divided by one scale. With "spectral" an ``nn.Sequential`` of ``nn.Linear`` and
            activations that do not expand.
        constraint: How the slope is held:

            - "spectral": weights stay nearly orthogonal in training, and in the end scores are
              divided by the product of the exact largest singular values.
            - "penalty": slopes above K are penalised on segments between the samples, and in the
              end scores are divided by the steepest slope found between or at the points of the
              fold.
        lipschitz: K.
        hidden: Widths of the default network.
        folds: At least 2.
        training: Steps, batch size, learning rate and patience.
        level: Nominal coverage of the interval.
        generator: Source of splits, batches and the default network.

    Returns:
        A ``DualBound``; its ``interval`` is about the mean bound of the trained critics. Not
        clipped: between equal distributions it scatters about zero.

    Raises:
        ValueError: Fewer than 4 points per fold, NaN, a critic that cannot be certified or of
            another shape.
        TypeError: A critic that is no network.

    Example:
        >>> source = torch.Generator().manual_seed(0)
        >>> x, y = (torch.randn(400, 2, generator=source) for _ in range(2))
        >>> bound = kantorovich_rubinstein(x + 3, y, generator=0)
        >>> 3.8 < float(bound) < 4.6, bound.certified  # W₁ is 3 √2 = 4.24
        (True, 'everywhere')

    Notes:
        W₁ between *samples* is on average too high, by a term of order n^(−1/d); this bound is on
        average too low, by what the critic did not learn. Together they enclose the truth. With
        "spectral" the bound is never above K · W₁ on average; with "penalty" never above
        K · W₁ between the points of each fold. Without a gradient in x and y: for a training loss
        see ``losses``.

    References:
        Villani (2009), "Optimal transport", remark 6.5; Miyato et al. (2018), "Spectral
        normalization for generative adversarial networks"; Anil, Lucas & Grosse (2019), for the
        network; Petzka, Fischer & Lukovnikov (2018), "On the regularization of Wasserstein GANs",
        for the one-sided penalty.
    """
    checks.choice(constraint, "constraint", CONSTRAINTS)
    scale = checks.positive(lipschitz, "lipschitz")
    level = checks.between(level, "level", 0.0, 1.0)
    training = TRAINING if training is None else settings(training)
    folds = checks.count(folds, "folds", minimum=2)
    as_numpy = answers_in_numpy({"x": x, "y": y})
    x, y = admit_pair(x, y, 4 * folds)
    source = checks.generator(generator)
    earned: list[list[Tensor]] = [[], []]
    critics, steps = [], []
    splits = [split_folds(len(z), folds, source) for z in (x, y)]
    for (seen_x, kept_x, out_x), (seen_y, kept_y, out_y) in zip(*splits, strict=True):
        seen, kept, out = (x[seen_x], y[seen_y]), (x[kept_x], y[kept_y]), (x[out_x], y[out_y])
        network = _network(critic, seen, constraint, hidden, source)
        fitted = LipschitzCritic(network, torch.cat(seen))
        steps.append(_train(fitted, seen, kept, constraint, training, source))
        steepest = _product(network) if constraint == "spectral" else _steepest(fitted, *out)
        fitted.settle(scale / steepest if steepest > 0 else 1.0, torch.cat(seen))
        for found, points in zip(earned, out, strict=True):
            with torch.no_grad():
                found.append(fitted(points).double())
        critics.append(fitted)
    interval = _interval(*(torch.cat(found) for found in earned), level=level)
    certified = "everywhere" if constraint == "spectral" else "held-out"
    answer = to_numpy(interval) if as_numpy else interval
    assert isinstance(answer, Interval)
    return DualBound(answer, tuple(critics), scale, certified, tuple(steps))


def _interval(at_x: Tensor, at_y: Tensor, *, level: float) -> Interval:
    """The difference of two independent means."""
    error = (at_x.var() / len(at_x) + at_y.var() / len(at_y)).sqrt()
    return normal_interval(at_x.mean() - at_y.mean(), error, method="influence", level=level)


class LipschitzCritic(nn.Module):
    """factor · s · network((t − middle) / s): its slope is that of the network times ``factor``."""

    middle: Tensor

    def __init__(self, network: nn.Module, points: Tensor) -> None:
        super().__init__()
        self.network, self.factor, self.offset = network, 1.0, 0.0
        self.register_buffer("middle", points.mean(0))
        squares = (points - self.middle).double().flatten(1).square()
        size = float(squares.sum(-1).mean().sqrt())
        self.size = size if size > 0 else 1.0

    def settle(self, factor: float, points: Tensor) -> None:
        """Stretch the scores, and set their mean to zero."""
        self.factor = factor
        with torch.no_grad():
            self.offset = float(self(points).double().mean())

    def forward(self, points: Tensor) -> Tensor:
        """Scores, shape (k,)."""
        scored = scores(self.network, (points - self.middle) / self.size)
        return self.factor * self.size * scored.to(points.dtype) - self.offset


def _network(
    critic: nn.Module | None,
    seen: tuple[Tensor, Tensor],
    constraint: str,
    hidden: Sequence[int],
    generator: torch.Generator,
) -> nn.Module:
    """A fresh critic: a copy of the caller's, or the default one."""
    if critic is not None:
        network = prepared(critic, seen[0], hidden, generator)
    else:
        widths = [seen[0][0].numel(), *layer_widths(hidden), 1]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(widths):
            linear = nn.utils.skip_init(nn.Linear, before, after, dtype=seen[0].dtype)
            with torch.no_grad():
                linear.weight.normal_(0.0, before**-0.5, generator=generator)
                linear.bias.zero_()
            layers += [linear, MaxMin()]
        network = nn.Sequential(*layers[:-1]).to(seen[0].device)
    if constraint == "spectral":
        _certifiable(network)
        _orthogonalise(network, steps=12)
    return network


def _certifiable(network: nn.Module) -> None:
    for part in network if isinstance(network, nn.Sequential) else [network]:
        steep = isinstance(part, nn.LeakyReLU) and abs(part.negative_slope) > 1
        if steep or not isinstance(part, (nn.Linear, MaxMin, *CONTRACTIONS)):
            raise ValueError(
                f"critic holds {type(part).__name__}, whose Lipschitz constant is not known; pass "
                "an nn.Sequential of nn.Linear and ReLU, LeakyReLU, Tanh, Sigmoid, Softplus or "
                "MaxMin, or constraint='penalty'"
            )


def _linears(network: nn.Module) -> list[nn.Linear]:
    return [part for part in network.modules() if isinstance(part, nn.Linear)]


def _product(network: nn.Module) -> float:
    """The product of the largest singular values, rounded up."""
    total = 1.0
    for linear in _linears(network):
        weight = linear.weight.detach().double()
        rounding = 1e-6 if linear.weight.dtype == torch.float32 else 1e-12
        total *= float(torch.linalg.matrix_norm(weight, 2)) * (1 + rounding)
    return total


@torch.no_grad()
def _orthogonalise(network: nn.Module, steps: int = 3) -> None:
    """Move every weight towards its polar factor, the nearest matrix with singular values one.

    Newton and Schulz's step W ← (3 W − W Wᵀ W)/2 takes singular values in (0, √3) into (0, 1];
    the row sums of W Wᵀ bound their squares. The weights stay nearly orthogonal from step to
    step, so that few iterations do; what they leave undone is measured in the end.

    References:
        Björck & Bowie (1971), "An iterative algorithm for computing the best estimate of an
        orthogonal matrix".
    """
    for linear in _linears(network):
        weight = linear.weight
        wide = weight if weight.shape[0] <= weight.shape[1] else weight.mT
        for _ in range(steps):
            gram = wide @ wide.mT
            largest = gram.abs().sum(-1).max()
            shrink = (2.5 / largest.clamp(min=2.5)).sqrt()
            wide = shrink * (1.5 * wide - 0.5 * shrink.square() * (gram @ wide))
        weight.copy_(wide if weight.shape[0] <= weight.shape[1] else wide.mT)


def _train(
    critic: LipschitzCritic,
    seen: tuple[Tensor, Tensor],
    kept: tuple[Tensor, Tensor],
    constraint: str,
    training: CriticTraining,
    generator: torch.Generator,
) -> int:
    """Raise the difference of mean scores on some points until it falls on others."""
    drawn = [Drawn(points, training.batch, generator) for points in seen]

    def loss() -> Tensor:
        x, y = (rows.draw() for rows in drawn)
        gain: Tensor = (critic(x).mean() - critic(y).mean()) / critic.size
        return (
            -gain if constraint == "spectral" else PENALTY * _excess(critic, x, y, generator) - gain
        )

    def validation() -> float:
        gain = float(critic(kept[0]).mean() - critic(kept[1]).mean())
        if constraint == "spectral":
            return gain / _product(critic.network)
        return gain / max(_steepest(critic, *kept), 1e-12)

    def after() -> None:
        if constraint == "spectral":
            _orthogonalise(critic.network)

    return train(critic, loss, validation, training, after)


def _excess(critic: LipschitzCritic, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared slope above one, at points on segments between x and y."""
    pairs = min(len(x), len(y))
    place = torch.rand(pairs, *[1] * (x.ndim - 1), generator=generator).to(x)
    points = torch.lerp(x[:pairs], y[:pairs], place).requires_grad_()
    (slope,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    excess: Tensor = safe_sqrt(slope.flatten(1).square().sum(-1)) - 1.0
    return excess.relu().square().mean()


def _steepest(critic: LipschitzCritic, x: Tensor, y: Tensor) -> float:
    """The largest slope of the scores between points of x and of y, or at any of them."""
    with torch.enable_grad():
        points = torch.cat([x, y]).detach().requires_grad_()
        scored = critic(points)
        (slope,) = torch.autograd.grad(scored.sum(), points)
    steepest = float(slope.double().flatten(1).norm(dim=-1).max())
    (x, y), (at_x, at_y) = (
        z.detach().double().split([len(x), len(y)]) for z in (points.flatten(1), scored)
    )
    for rows in torch.arange(len(x), device=x.device).split(max(1, TILE // len(y))):
        gap = torch.cdist(x[rows], y, compute_mode="donot_use_mm_for_euclid_dist")
        rise = (at_x[rows].unsqueeze(1) - at_y).abs()
        slopes = torch.where(gap > 0, rise / torch.where(gap > 0, gap, 1.0), 0.0)
        steepest = max(steepest, float(slopes.max()))
    return steepest
