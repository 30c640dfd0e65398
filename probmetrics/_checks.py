"""Validation of what users pass in: errors say what came, what was wanted, what to do."""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

MASS_TOLERANCE = 1e-4  # weights may miss one by this much in float32; float64 gets 1e-6


def samples(
    x: Tensor,
    y: Tensor,
    *,
    minimum: int = 1,
    names: tuple[str, str] = ("x", "y"),
) -> tuple[Tensor, Tensor]:
    """Two samples that can be compared: finite, same d, same device, one dtype, broadcastable.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        minimum: Fewest points each needs.
        names: What to call them in errors.

    Returns:
        Both in their common dtype; batch dimensions are left to broadcast.
    """
    x = sample(x, minimum=minimum, name=names[0])
    y = sample(y, minimum=minimum, name=names[1])
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"{names[0]} has {x.shape[-1]} columns (d) and {names[1]} has {y.shape[-1]}; "
            "both need the same coordinates in the same order"
        )
    return same_kind(x, y, names)


def same_kind(x: Tensor, y: Tensor, names: tuple[str, str] = ("x", "y")) -> tuple[Tensor, Tensor]:
    """Two tensors on one device, in their common dtype, with batch dimensions that broadcast."""
    if x.device != y.device:
        raise ValueError(
            f"{names[0]} is on {x.device} and {names[1]} on {y.device}; move one with .to(...)"
        )
    broadcastable(x.shape[:-2], y.shape[:-2], names)
    dtype = torch.promote_types(x.dtype, y.dtype)
    return x.to(dtype), y.to(dtype)


def broadcastable(first: Sequence[int], second: Sequence[int], names: tuple[str, str]) -> None:
    """Two batch shapes that broadcast against each other."""
    try:
        common_batch(first, second)
    except RuntimeError as error:
        raise ValueError(
            f"the batch shapes {tuple(first)} of {names[0]} and {tuple(second)} of {names[1]} "
            "do not broadcast; make them equal, or one of them 1"
        ) from error


def common_batch(*shapes: Sequence[int]) -> torch.Size:
    """The batch shape that all shapes broadcast to."""
    first = tuple(shapes[0])
    if all(tuple(shape) == first for shape in shapes[1:]):
        return torch.Size(first)
    common: torch.Size = torch.broadcast_shapes(*(tuple(shape) for shape in shapes))
    return common


def filled(batch: Sequence[int]) -> tuple[int, ...]:
    """A batch shape with at least one problem in it."""
    if 0 in batch:
        raise ValueError(f"the batch is empty: shape {tuple(batch)}; pass at least one problem")
    return tuple(batch)


def sample(x: Tensor, *, minimum: int = 1, name: str = "x") -> Tensor:
    """A sample of at least ``minimum`` finite points, shape (*batch, n, d)."""
    if x.ndim < 2:
        raise ValueError(
            f"{name} must have shape (*batch, n, d): n points of d coordinates; "
            f"got shape {tuple(x.shape)}"
        )
    n, d = x.shape[-2:]
    if d == 0:
        raise ValueError(
            f"{name} has no columns: its shape is {tuple(x.shape)}; pass (n, d) with d >= 1"
        )
    if n < minimum:
        raise ValueError(
            f"{name} has {n} point{'s' * (n != 1)} and at least {minimum} "
            f"{'is' if minimum == 1 else 'are'} needed; its shape is {tuple(x.shape)}"
        )
    return finite(x, name)


def line(x: Tensor, *, minimum: int = 1, name: str = "x") -> Tensor:
    """Points on the real line, shape (*batch, n), finite."""
    if x.ndim < 1 or x.shape[-1] < minimum:
        raise ValueError(
            f"{name} must have shape (*batch, n) with n >= {minimum}; got shape {tuple(x.shape)}"
        )
    return finite(x, name)


def lines(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two samples on the real line, (*batch, n) and (*batch, m): finite, one device and dtype."""
    x, y = line(x, name="x"), line(y, name="y")
    x, y = same_kind(x.unsqueeze(-1), y.unsqueeze(-1))
    return x.squeeze(-1), y.squeeze(-1)


def masses(a: Tensor | None, x: Tensor, name: str = "a", *, of: str = "x") -> Tensor | None:
    """Weights of points on the line ``x``, shape (*batch, n); ``None`` stays ``None`` (uniform)."""
    if a is None:
        return None
    a = weights(a, x, name, points=x.shape[-1])
    broadcastable(a.shape[:-1], x.shape[:-1], (name, of))
    return a


class NotFiniteError(ValueError):
    """NaN or infinity in a tensor."""


def finite(x: Tensor, name: str = "x") -> Tensor:
    """The same tensor, refused if it holds NaN or infinity (where its values can be read)."""
    if not readable(x) or x.numel() == 0 or bool(torch.isfinite(x.detach().sum())):
        return x
    bad = ~torch.isfinite(x.detach())
    if not bool(bad.any()):  # the sum overflowed, the values did not
        return x
    where = [int(i) for i in bad.nonzero()[0]]
    rows = int(bad.reshape(-1, x.shape[-1]).any(-1).sum()) if x.ndim > 1 else int(bad.sum())
    place = f"row {where[-2]}, column {where[-1]}" if x.ndim > 1 else f"position {where[0]}"
    if x.ndim > 2:
        place = f"batch entry {tuple(where[:-2])}, {place}"
    raise NotFiniteError(
        f"{name} holds {x.detach()[tuple(where)].item()} at {place} "
        f"({rows} {'row' if x.ndim > 1 else 'value'}{'s' * (rows != 1)} affected); "
        "drop or impute these before comparing"
    )


def readable(x: Tensor) -> bool:
    """Whether values may be inspected: on the CPU and not while a graph is being traced.

    Reading a value on a GPU stalls it, so there checks look at shapes only.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def number_like(value: Any, like: Tensor) -> Tensor:
    """A number or tensor in the dtype and on the device of ``like``.

    A plain number is filled in on the device; copying it there would wait for the device.
    """
    if isinstance(value, int | float):
        return like.new_full((), value)
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def weights(a: Tensor | None, x: Tensor, name: str = "a", *, points: int | None = None) -> Tensor:
    """Weights of the points of ``x``: non-negative, summing to one; uniform for ``None``.

    Args:
        a: Weights, shape (*batch, n), or None.
        x: The sample, shape (*batch, n, d).
        name: What to call them in errors.
        points: n, if it is not ``x.shape[-2]``.
    """
    n = x.shape[-2] if points is None else points
    if a is None:
        # One number, expanded: the engine recognises the zero stride and skips the products.
        return torch.full((1,), 1.0 / n, dtype=x.dtype, device=x.device).expand(n)
    a = measure(a, x, name, points=n)
    if not readable(a):
        return a
    return _unit_mass(a, name, f"pass {name} / {name}.sum(-1, keepdims=True)")


def measure(
    a: Tensor, x: Tensor, name: str = "a", *, points: int | None = None, part: bool = False
) -> Tensor:
    """Masses of the points of ``x``, shape (*batch, n), of any total above zero.

    With ``part`` they are part of a measure whose other points lie elsewhere, and may all be zero.
    """
    n = x.shape[-2] if points is None else points
    if a.ndim < 1 or a.shape[-1] != n:
        raise ValueError(
            f"{name} must hold one weight per point, shape (*batch, {n}), got {tuple(a.shape)}; "
            f"pass {name}=None for uniform weights"
        )
    if a.device != x.device:
        raise ValueError(f"{name} is on {a.device}, its sample on {x.device}")
    a = finite(a, name).to(x.dtype)
    if not readable(a):
        return a
    if bool((a.detach() < 0).any()):
        raise ValueError(
            f"{name} has negative weights (smallest {a.detach().min().item():.3g}); "
            "weights are masses, zero or more"
        )
    if not part and bool((a.detach().double().sum(-1) <= 0).any()):
        raise ValueError(f"{name} sums to zero; at least one point needs a mass above zero")
    return a


def _unit_mass(a: Tensor, name: str, remedy: str) -> Tensor:
    unit_mass(a.detach().double().sum(-1), a.dtype, name, remedy)
    return a


def unit_mass(mass: Tensor, dtype: torch.dtype, name: str, remedy: str) -> None:
    """Masses of one, up to the rounding of weights of some dtype."""
    if mass.numel() == 0 or not readable(mass):
        return
    tolerance = 1e-6 if dtype == torch.float64 else MASS_TOLERANCE
    if dtype in (torch.float16, torch.bfloat16):
        tolerance = 2e-2
    worst = mass.reshape(-1)[(mass - 1).abs().reshape(-1).argmax()].item()
    if abs(worst - 1) > tolerance:
        raise ValueError(f"{name} sums to {worst:.6g}, not to 1; {remedy}")


def probabilities(p: Tensor, *, name: str = "p", normalize: bool = False) -> Tensor:
    """Probability vectors along the last axis: non-negative, summing to one.

    Args:
        p: Shape (*batch, k).
        name: What to call it in errors.
        normalize: Divide by the sum instead of refusing.
    """
    if p.ndim < 1 or p.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (*batch, k) with k >= 1, got {tuple(p.shape)}")
    p = finite(p, name)
    if not readable(p):
        return p / p.sum(-1, keepdim=True) if normalize else p
    if bool((p.detach() < 0).any()):
        raise ValueError(
            f"{name} has negative entries (smallest {p.detach().min().item():.3g}); "
            "probabilities must be zero or more"
        )
    if not normalize:
        return _unit_mass(p, name, "pass normalize=True to divide by the sum")
    mass = p.sum(-1, keepdim=True)
    if bool((mass.detach() <= 0).any()):
        raise ValueError(f"{name} sums to 0 and cannot be normalised; pass one that has some mass")
    if bool(torch.isinf(mass.detach()).any()):  # the sum overflowed, the shares need not
        return probabilities(p / p.detach().amax(), name=name, normalize=True)
    return p / mass


def log_probabilities(log_p: Tensor, *, name: str = "p", normalize: bool = False) -> Tensor:
    """Logs of probability vectors along the last axis, −∞ for empty bins.

    Args:
        log_p: Shape (*batch, k).
        name: What to call it in errors.
        normalize: Subtract the log of the sum instead of refusing.
    """
    if log_p.ndim < 1 or log_p.shape[-1] == 0:
        raise ValueError(
            f"{name} must have shape (*batch, k) with k >= 1, got {tuple(log_p.shape)}"
        )
    if not readable(log_p):
        return log_p.log_softmax(-1) if normalize else log_p
    finite(torch.where(log_p == -math.inf, 0.0, log_p.detach()), name)
    mass = log_p.detach().double().logsumexp(-1, keepdim=True)
    if bool((mass == -math.inf).any()):
        raise ValueError(f"{name} has only empty bins (all its logs are -inf)")
    if normalize:
        return log_p.log_softmax(-1)
    _unit_mass(
        mass.exp().to(log_p.dtype), name + ".exp()", "pass normalize=True to divide by the sum"
    )
    return log_p


def same_bins(p: Tensor, q: Tensor, names: tuple[str, str] = ("p", "q")) -> None:
    """Two vectors over the same bins: one length, one device, batch dimensions that broadcast."""
    if p.device != q.device:
        raise ValueError(
            f"{names[0]} is on {p.device} and {names[1]} on {q.device}; move one with .to(...)"
        )
    if p.shape[-1] != q.shape[-1]:
        raise ValueError(
            f"{names[0]} has {p.shape[-1]} bins and {names[1]} has {q.shape[-1]}; "
            "both need the same bins in the same order"
        )
    broadcastable(p.shape[:-1], q.shape[:-1], names)


def generator(source: Any, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator to draw through: the one given, a seeded one, or one with fresh entropy.

    The global random state is neither read nor changed.
    """
    device = torch.device(device)
    if isinstance(source, torch.Generator):
        if source.device.type != device.type:
            raise ValueError(
                f"generator is on {source.device} and the data on {device}; "
                f"pass torch.Generator('{device.type}') or an integer seed"
            )
        return source
    made = torch.Generator(device)
    if source is None:
        made.seed()
    elif isinstance(source, Integral) and not isinstance(source, bool):  # NumPy's integers too
        made.manual_seed(int(source))
    else:
        raise TypeError(
            f"generator must be a torch.Generator, an integer seed or None, "
            f"got {type(source).__name__}"
        )
    return made


def positive(value: Any, name: str) -> float:
    """A finite number above zero."""
    number = real(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be above zero, got {value}")
    return number


def real(value: Any, name: str) -> float:
    """A finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number, got {value!r}") from error
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value}")
    return number


def order(p: Any, name: str = "p") -> float:
    """The order of a distance: a number of at least one, or infinity."""
    if isinstance(p, bool) or (not isinstance(p, (int, float)) and not hasattr(p, "__float__")):
        raise TypeError(f"{name} must be a number of at least 1, or math.inf; got {p!r}")
    number = float(p)
    if math.isnan(number) or number < 1:
        raise ValueError(f"{name} must be at least 1 (math.inf is allowed), got {p}")
    return number


def between(value: Any, name: str, low: float, high: float) -> float:
    """A number strictly between two bounds."""
    number = real(value, name)
    if not low < number < high:
        raise ValueError(f"{name} must lie strictly between {low} and {high}, got {value}")
    return number


def count(value: Any, name: str, *, minimum: int = 1, maximum: int | None = None) -> int:
    """A whole number of at least ``minimum`` (and at most ``maximum``)."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    number = int(value)
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{name} must be at most {maximum}, got {value}")
    return number


def choice(value: Any, name: str, known: Iterable[Any]) -> Any:
    """One of the known values; the error lists them."""
    known = list(known)
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}; known: {', '.join(map(str, known))}")
    return value
