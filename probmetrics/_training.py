"""Training a critic: the default network, minibatches, splits, and early stopping."""

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics._arrays import to_tensor

CHECK = 25  # steps between looks at the validation points


@dataclass(frozen=True)
class CriticTraining:
    """How a critic is trained.

    Args:
        steps: Most steps of Adam.
        batch: Points of either sample per step.
        learning_rate: Of Adam.
        patience: Looks at the validation points without a better bound before stopping.
    """

    steps: int = 1000
    batch: int = 256
    learning_rate: float = 2e-3
    patience: int = 8

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patience"):
            checks.count(getattr(self, name), name)
        checks.positive(self.learning_rate, "learning_rate")


def settings(training: CriticTraining | None) -> CriticTraining:
    """The settings given, or the default ones."""
    if training is None:
        return CriticTraining()
    if not isinstance(training, CriticTraining):
        raise TypeError(
            f"training must be a CriticTraining(steps=…, batch=…), got {type(training).__name__}"
        )
    return training


class Drawn:
    """Minibatches of a sample."""

    def __init__(self, points: Tensor, batch: int, generator: torch.Generator) -> None:
        self.points, self.batch, self.generator = points, batch, generator

    def draw(self) -> Tensor:
        """Some of the points, all of them if they fit."""
        n = len(self.points)
        if n <= self.batch:
            return self.points
        return self.points[torch.randint(n, (self.batch,), generator=self.generator)]


def train(
    network: nn.Module,
    loss: Callable[[], Tensor],
    validation: Callable[[], float],
    training: CriticTraining,
    after: Callable[[], None] = lambda: None,
) -> int:
    """Minimise a stochastic loss, keeping the parameters of the best validation.

    Args:
        network: What is trained, where parameters require gradients.
        loss: Of a fresh minibatch.
        validation: A gain on points kept aside, the larger the better.
        training: Steps, learning rate and patience.
        after: Called after each step, to bring the parameters back to where they belong.

    Returns:
        The step at which they were best; 0 is the beginning.
    """
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not learning:
        raise ValueError("critic has no parameter to train; pass one whose parameters require grad")
    optimizer = torch.optim.Adam(learning, lr=training.learning_rate)
    best, best_step, state = -math.inf, 0, copy.deepcopy(network.state_dict())
    waited = 0
    for step in range(training.steps + 1):
        if step % CHECK == 0 or step == training.steps:
            network.eval()
            with torch.no_grad():
                now = validation()
            network.train()
            if now > best:
                best, best_step, waited = now, step, 0
                state = copy.deepcopy(network.state_dict())
            else:
                waited += 1
            if waited > training.patience or step == training.steps:
                break
        optimizer.zero_grad()
        with torch.enable_grad():
            loss().backward()
        nn.utils.clip_grad_norm_(learning, 10.0)
        optimizer.step()
        after()
    network.load_state_dict(state)
    network.eval()
    return best_step


class Standardised(nn.Module):
    """A fully connected tanh network on standardised columns.

    The last layer starts at zero, so that training starts from ℓ = 0, whose bound is zero.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, points: Tensor, hidden: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        flat = points.flatten(1)
        spread = flat.std(0)
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("spread", torch.where(spread > 0, spread, torch.ones_like(spread)))
        widths = [flat.shape[-1], *layer_widths(hidden)]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [_linear(before, after, generator), nn.Tanh()]
        last = _linear(widths[-1], 1, generator)
        with torch.no_grad():
            last.weight.zero_()
            last.bias.zero_()
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: Tensor) -> Tensor:
        """Scores, shape (k,)."""
        standard = (x.flatten(1) - self.mean) / self.spread
        scores: Tensor = self.layers(standard.to(next(self.parameters()).dtype)).squeeze(-1)
        return scores


def layer_widths(hidden: Sequence[int]) -> list[int]:
    """The widths of hidden layers."""
    if isinstance(hidden, str) or not isinstance(hidden, Sequence):
        raise TypeError(f"hidden must be a sequence of widths, such as (64, 64), got {hidden!r}")
    return [checks.count(width, "hidden") for width in hidden]


def _linear(before: int, after: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer drawn as torch does by default, through a generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, before, after)
    bound = before**-0.5
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            drawn = torch.rand(parameter.shape, generator=generator)
            parameter.copy_((2 * drawn - 1) * bound)
    return layer


def prepared(
    critic: nn.Module | None,
    points: Tensor,
    hidden: Sequence[int],
    generator: torch.Generator,
) -> nn.Module:
    """A fresh critic: a copy of the caller's, or the default network for these points."""
    if critic is None:
        return Standardised(points, hidden, generator).to(points.device)
    if not isinstance(critic, nn.Module):
        raise TypeError(f"critic must be a torch.nn.Module, got {type(critic).__name__}")
    return copy.deepcopy(critic).train()


def scores(network: nn.Module, points: Tensor) -> Tensor:
    """One score per point, shape (k,)."""
    own = next(network.parameters(), None)
    # The default network standardises in the dtype of the data, where offsets cost no digits.
    as_they_are = own is None or isinstance(network, Standardised)
    found = network(points if as_they_are else points.to(own))
    if found.ndim == 2 and found.shape[-1] == 1:
        found = found.squeeze(-1)
    if found.shape != points.shape[:1]:
        raise ValueError(
            f"critic must give one score per point, shape ({len(points)},) or ({len(points)}, 1), "
            f"got {tuple(found.shape)}"
        )
    scored: Tensor = found
    return scored


def admit_points(x: Any, name: str, fewest: int) -> Tensor:
    """A sample of points of whatever shape, (n, …), floating and finite, without gradient."""
    points = to_tensor(x, name)
    points = points.unsqueeze(-1) if points.ndim == 1 else points
    if points.ndim < 2:
        raise ValueError(f"{name} must have shape (n, d), got {tuple(points.shape)}")
    checks.sample(points.flatten(1), minimum=fewest, name=name)
    return points.detach().float() if points.element_size() < 4 else points.detach()


def admit_pair(x: Any, y: Any, fewest: int) -> tuple[Tensor, Tensor]:
    """Two samples of points of one shape, on one device, in one dtype."""
    x, y = admit_points(x, "x", fewest), admit_points(y, "y", fewest)
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"points of x have shape {tuple(x.shape[1:])} and points of y {tuple(y.shape[1:])}; "
            "both need the same coordinates"
        )
    if x.device != y.device:
        raise ValueError(f"x is on {x.device} and y on {y.device}; move one with .to(...)")
    dtype = torch.promote_types(x.dtype, y.dtype)
    return x.to(dtype), y.to(dtype)


def split_folds(
    size: int, folds: int, generator: torch.Generator
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Rows to train on, to stop by and to evaluate on, for each fold."""
    order = torch.randperm(size, generator=generator)
    parts = []
    for fold in range(folds):
        rest = torch.cat([order[k::folds] for k in range(folds) if k != fold])
        kept = max(1, len(rest) // 4)
        parts.append((rest[kept:], rest[:kept], order[fold::folds]))
    return parts
