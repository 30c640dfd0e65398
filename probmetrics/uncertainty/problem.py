"""An estimator with its samples, ready to be evaluated on some of the points."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, is_array, to_numpy, to_tensor
from probmetrics._autograd import ordinary, outside_inference
from probmetrics._interval import Interval

Options = dict[str, Any]


@dataclass(frozen=True)
class Traits:
    """What has to be known about an estimator of the package besides its signature.

    Attributes:
        line: Whether points lie along the last axis, without coordinates.
        prepare: Options that hold still while samples vary: a bandwidth, drawn directions.
        variance: Variance of the value from other sources than the samples.
        bias: Estimated bias of the value; None is none.
        least: Variance that remains where the first-order term vanishes.
    """

    line: bool = False
    prepare: Callable[[Tensor, Tensor, Options, torch.Generator], Options] | None = None
    variance: "Callable[[Problem], Tensor | None] | None" = None
    bias: "Callable[[Problem, Tensor], Tensor | None] | None" = None
    least: "Callable[[Problem], Tensor] | None" = None


@dataclass(frozen=True, eq=False)
class Problem:
    """An estimator with its samples: evaluated on some of the points, or with its gradient.

    Where an estimator of the package takes a root, the problem is about the power under it.
    """

    estimator: Callable[..., Any]
    x: Tensor
    y: Tensor
    a: Tensor | None
    b: Tensor | None
    options: Options
    given: Options  # the options before any of them was prepared
    traits: Traits | None  # None for functions of the caller
    as_numpy: bool
    generator: torch.Generator
    power: float = 1.0  # of the value the caller wants

    @classmethod
    def admit(
        cls,
        estimator: Callable[..., Any],
        x: Any,
        y: Any,
        options: Options,
        traits: Traits | None,
        generator: torch.Generator | int | None,
    ) -> "Problem":
        """The checked problem, with random options drawn once."""
        as_numpy = answers_in_numpy({"x": x, "y": y})
        x, y = to_tensor(x, "x"), to_tensor(y, "y")
        given = dict(options)
        a, b = (given.pop(name, None) for name in ("a", "b"))
        a, b = (None if w is None else to_tensor(w, n) for w, n in ((a, "a"), (b, "b")))
        source = checks.generator(generator, x.device)
        if traits is None:
            options, power = given, 1.0
        else:
            x, y = _checked(x, y, traits.line)
            given = {k: to_tensor(v, k) if is_array(v) else v for k, v in given.items()}
            power = _power(estimator, given)
            options = dict(given, root=False) if power != 1.0 else given
            if traits.prepare:
                options = traits.prepare(x, y, options, source)
        problem = cls(estimator, x, y, a, b, options, given, traits, as_numpy, source, power)
        problem._check_points()
        return problem

    def _check_points(self) -> None:
        for points, name, mass, of in ((self.x, "x", self.a, "a"), (self.y, "y", self.b, "b")):
            axis = self.axis(points)
            size = points.shape[axis] if points.ndim else 0
            if size < 2:
                raise ValueError(
                    f"{name} has {size} point{'s' * (size != 1)} and an interval needs at least 2; "
                    f"its shape is {tuple(points.shape)}"
                )
            checks.finite(points, name)
            if mass is None:
                continue
            mass = checks.weights(mass, points, of, points=size)
            if checks.readable(mass) and bool((mass.double().square().sum(-1) > 1 - 1e-12).any()):
                raise ValueError(f"{of} puts all its mass on one point; an interval needs two")

    def axis(self, points: Tensor) -> int:
        """Which axis counts the points."""
        line = points.ndim == 1 if self.traits is None else self.traits.line
        return -1 if line else -2

    @property
    def sizes(self) -> tuple[int, int]:
        """n and m."""
        return self.x.shape[self.axis(self.x)], self.y.shape[self.axis(self.y)]

    def value(self, rows_x: Tensor | None = None, rows_y: Tensor | None = None) -> Tensor:
        """The estimate on some of the points (all by default), float64, without gradient."""
        x, a = _select(self.x, self.a, rows_x, self.axis(self.x))
        y, b = _select(self.y, self.b, rows_y, self.axis(self.y))
        weights: Options = {name: w for name, w in (("a", a), ("b", b)) if w is not None}
        with torch.no_grad():
            if not self.as_numpy or self.traits is not None:
                return number(self.estimator(x, y, **self.options, **weights), self.estimator)
            weights = to_numpy(weights)
            return number(
                self.estimator(x.numpy(), y.numpy(), **self.options, **weights), self.estimator
            )

    @outside_inference
    def gradients(self) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The estimate, the weights (*batch, n) and (*batch, m), and its gradients in them."""
        batch = torch.broadcast_shapes(
            self.x.shape[: self.axis(self.x)], self.y.shape[: self.axis(self.y)]
        )
        first, second = (
            checks.weights(given, points, points=size).detach().expand(*batch, -1).clone()
            for given, points, size in zip(
                (self.a, self.b), (self.x, self.y), self.sizes, strict=True
            )
        )
        with torch.enable_grad():
            a, b = first.requires_grad_(), second.requires_grad_()
            value = self._weighted(a, b)
            if not isinstance(value, Tensor) or not value.requires_grad:
                raise ValueError(_without_gradient(self.estimator))
            in_a, in_b = torch.autograd.grad(value.sum(), (a, b), materialize_grads=True)
        weights = a.detach().double(), b.detach().double()
        return number(value, self.estimator), weights, (in_a.double(), in_b.double())

    def _weighted(self, a: Tensor, b: Tensor) -> Any:
        parameters = inspect.signature(self.estimator).parameters
        free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if not free and not {"a", "b"} <= set(parameters):
            raise ValueError(_without_gradient(self.estimator))
        x, y = ordinary(self.x.detach()), ordinary(self.y.detach())
        return self.estimator(x, y, a=a, b=b, **self.options)

    def answer(self, interval: Interval) -> Interval:
        """The interval in the caller's dtype and for the root, if the caller wants one."""
        rooted = interval if self.power == 1.0 else self._rooted(interval)
        names = ("value", "low", "high", "standard_error", "bias")
        return replace(rooted, **{name: getattr(rooted, name).to(self.x.dtype) for name in names})

    def _rooted(self, interval: Interval) -> Interval:
        parts = (interval.value, interval.low, interval.high, interval.value - interval.bias)
        value, low, high, centre = (part.clamp(min=0.0) ** (1 / self.power) for part in parts)
        # At zero the root has no derivative: there, what the width of the interval says.
        positive = value > 0
        slope = torch.where(positive, value, 1.0) ** (1 - self.power) / self.power
        half = (high - low) / 2
        error = torch.where(positive, slope * interval.standard_error, half).minimum(half)
        return replace(
            interval, value=value, low=low, high=high, standard_error=error, bias=value - centre
        )


def number(answer: Any, estimator: Callable[..., Any]) -> Tensor:
    """What an estimator answered, as a finite float64 tensor without gradient."""
    try:
        value = torch.as_tensor(answer).detach().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name_of(estimator)} must return a number or an array of numbers, "
            f"got {type(answer).__name__}"
        ) from error
    if checks.readable(value) and not bool(torch.isfinite(value).all()):
        bad = value[~torch.isfinite(value)][0].item()
        raise ValueError(f"{name_of(estimator)} answered {bad}, which has no interval")
    return value


def name_of(estimator: Callable[..., Any]) -> str:
    """What to call an estimator in errors."""
    return str(getattr(estimator, "__name__", repr(estimator)))


def option(estimator: Callable[..., Any], options: Options, name: str) -> Any:
    """An option as given, or its default; None if there is no such option."""
    if name in options:
        return options[name]
    parameter = inspect.signature(estimator).parameters.get(name)
    return None if parameter is None else parameter.default


def _power(estimator: Callable[..., Any], options: Options) -> float:
    """The power under the root the estimator takes, 1 where it takes none."""
    if not option(estimator, options, "root"):
        return 1.0
    if option(estimator, options, "unbiased"):
        return 1.0  # refused by the estimator itself
    order = option(estimator, options, "p")
    order = 2.0 if order is None else checks.order(order)
    if order == math.inf:
        raise ValueError(
            "p = inf has no influence function and no known rate, hence no interval; "
            "pass a finite p"
        )
    return order


def _checked(x: Tensor, y: Tensor, line: bool) -> tuple[Tensor, Tensor]:
    """Samples as the estimators of the package take them, half precision made single."""
    if line:
        x, y = checks.lines(x, y)
    else:
        x, y = (z.unsqueeze(-1) if z.ndim == 1 else z for z in (x, y))
        x, y = checks.samples(x, y)
    if x.dtype in (torch.float16, torch.bfloat16):
        x, y = x.float(), y.float()
    return x, y


def _select(
    points: Tensor, weights: Tensor | None, rows: Tensor | None, axis: int
) -> tuple[Tensor, Tensor | None]:
    """Some of the points, with their weights brought back to a sum of one."""
    if rows is None:
        return points, weights
    points = points.index_select(axis, rows)
    if weights is None:
        return points, None
    weights = weights.index_select(-1, rows)
    mass = weights.sum(-1, keepdim=True)
    if checks.readable(mass) and bool((mass <= 0).any()):
        raise ValueError(
            "a resample holds only points of weight zero; drop such points first, or use "
            "method='influence'"
        )
    return points, weights / mass


def _without_gradient(estimator: Callable[..., Any]) -> str:
    return (
        f"{name_of(estimator)} has no gradient in weights a= and b=, which method='influence' "
        "reads; use 'jackknife', 'bootstrap' or 'subsampling'"
    )
