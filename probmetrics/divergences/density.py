"""A Distribution as something to integrate: its log-density anywhere, its ends, its draws."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    Kumaraswamy,
    MixtureSameFamily,
    TransformedDistribution,
    Uniform,
    VonMises,
    constraints,
)

from probmetrics import _checks as checks
from probmetrics.divergences.bins import safe_logsumexp

PLACES = ("loc", "scale", "scale_tril", "cov_diag", "cov_factor")  # never infinite


def checked(p: Distribution, q: Distribution) -> torch.Size:
    """Two Distributions that can be compared; returns their common batch shape."""
    for name, law in (("p", p), ("q", q)):
        if not _defines(law, "log_prob"):
            raise TypeError(
                f"{name} is {type(law).__name__}, which has no log_prob; implement it, or draw "
                "samples and use a divergence between samples, e.g. kl_neighbors(x, y)"
            )
        _refuse_broken(law, name)
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"p has events of shape {tuple(p.event_shape)} and q of {tuple(q.event_shape)}; "
            "wrap batch dimensions with torch.distributions.Independent to make them agree"
        )
    checks.broadcastable(p.batch_shape, q.batch_shape, ("p", "q"))
    batch: torch.Size = torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    return batch


def _refuse_broken(law: Distribution, name: str) -> None:
    """Refuse NaN among the parameters, and a place or scale that is infinite."""
    named = getattr(type(law), "arg_constraints", None)
    for parameter in named if isinstance(named, dict) else ():
        value = vars(law).get(parameter)
        if not isinstance(value, Tensor) or not checks.readable(value):
            continue
        wrong = value.isnan() | (value.isinf() if parameter in PLACES else False)
        if bool(wrong.any()):
            raise ValueError(
                f"{name} is {type(law).__name__} whose {parameter} holds "
                f"{value[wrong].reshape(-1)[0].item()}; give it finite parameters"
            )
    for part in ("base_dist", "mixture_distribution", "component_distribution"):
        inner = vars(law).get(part, vars(law).get(f"_{part}"))
        if isinstance(inner, Distribution):
            _refuse_broken(inner, name)


def _defines(law: Distribution, method: str) -> bool:
    return getattr(type(law), method) is not getattr(Distribution, method)


def support_of(law: Distribution) -> Any:
    """The constraint its points satisfy; None where the Distribution does not say."""
    try:
        support = law.support
    except (NotImplementedError, AttributeError):
        return None
    return support if isinstance(support, constraints.Constraint) else None


def is_discrete(law: Distribution) -> bool:
    """Whether its mass sits on isolated points; told from draws where there is no support."""
    support = support_of(law)
    if support is not None:
        return bool(support.is_discrete)
    x = draw(law, 64, 0)
    return not x.is_floating_point() or bool((x == x.round()).all())


def log_density(law: Distribution, x: Tensor) -> Tensor:
    """Log-density at x, shape (n, *batch): −∞ outside the support, never NaN in the gradient.

    Wrappers are followed to their parts, so that a point outside the support of one part (one
    component of a mixture, the base of a transform) is no error of the whole.
    """
    if type(law) is Independent:
        depth = law.reinterpreted_batch_ndims
        return _sum_last(log_density(law.base_dist, x), depth)
    if type(law) is MixtureSameFamily:
        events = len(law.event_shape)
        parts = log_density(law.component_distribution, x.unsqueeze(-1 - events))
        return safe_logsumexp(parts + law.mixture_distribution.logits.log_softmax(-1))
    with torch.no_grad():
        inside = _inside(law, x)
    if not bool(inside.all()):
        events = len(law.event_shape)
        mask = inside.reshape(inside.shape + (1,) * events)
        anchor = draw(law, 1, 0).detach()[0].to(x.dtype)
        x = torch.where(mask, x, anchor)
    return torch.where(inside, _log_prob(law, x), -math.inf)


def _log_prob(law: Distribution, x: Tensor) -> Tensor:
    """Its log_prob, in the dtype of the Distribution where that will not take another."""
    if type(law) is Uniform:  # on the closed interval: preimages may round onto either end
        flat: Tensor = -(law.high - law.low).log()
        return flat.expand(torch.broadcast_shapes(x.shape, flat.shape))
    if type(law) is Kumaraswamy:  # torch's way through powers underflows near both ends
        a, b, log_x = law.concentration1, law.concentration0, x.log()
        rest = torch.log(-torch.expm1(a * log_x))  # log(1 − x^a)
        return torch.as_tensor(a.log() + b.log() + (a - 1) * log_x + (b - 1) * rest)
    if _evaluates_its_base(law):
        return _through_transforms(law, x)
    try:
        found: Tensor = law.log_prob(x)
    except RuntimeError:
        own = draw(law, 1, 0).dtype
        if own == x.dtype:
            raise
        found = law.log_prob(x.to(own))
    return found


def _through_transforms(law: Any, x: Tensor) -> Tensor:
    """The density of the base at the preimage over the Jacobian."""
    depth = len(law.event_shape)
    volume = torch.zeros((), dtype=x.dtype, device=x.device)
    for transform in reversed(law.transforms):
        y, x = x, transform.inv(x)
        depth += transform.domain.event_dim - transform.codomain.event_dim
        slope = transform.log_abs_det_jacobian(x, y)
        volume = volume + _sum_last(slope, depth - transform.domain.event_dim)
    below = log_density(law.base_dist, x)
    return _sum_last(below, depth - len(law.base_dist.event_shape)) - volume


def _sum_last(x: Tensor, axes: int) -> Tensor:
    return x.sum(tuple(range(-axes, 0))) if axes else x


def _inside(law: Any, x: Tensor) -> Tensor:
    """Where x lies in the support, and its preimage in that of a transform's base."""
    support = support_of(law)
    shape = torch.broadcast_shapes(x.shape, law.batch_shape + law.event_shape)
    x = x.expand(shape)
    ok = ~torch.isnan(x)
    for _ in law.event_shape:
        ok = ok.all(-1)
    if support is not None:
        ok = ok & support.check(x)
    if isinstance(law, VonMises):  # periodic: one turn
        ok = ok & (x.abs() <= math.pi)
    if _evaluates_its_base(law):
        for transform in reversed(law.transforms):
            x = transform.inv(x)
        below = _inside(law.base_dist, x)
        while below.ndim > ok.ndim:
            below = below.all(-1)
        ok = ok & below
    return ok


def _evaluates_its_base(law: Any) -> bool:
    """Whether log_prob goes through the base of a transform; Gumbel's, say, has its own formula."""
    return type(law).log_prob is TransformedDistribution.log_prob


def ends(law: Any) -> list[Tensor]:
    """Finite places on the line where the density may jump or blow up; they carry gradients."""
    if isinstance(law, VonMises):  # periodic: one turn
        return [torch.as_tensor(sign * math.pi, dtype=torch.float64) for sign in (-1, 1)]
    if isinstance(law, Independent):
        return [end.squeeze(-1) if end.ndim else end for end in ends(law.base_dist)]
    if isinstance(law, MixtureSameFamily):
        parts = ends(law.component_distribution)
        return [end for part in parts for end in (part.unbind(-1) if part.ndim else (part,))]
    if _evaluates_its_base(law):
        found = ends(law.base_dist)
        for transform in law.transforms:
            found = [transform(end) for end in found]
        return [*found, *_bounds(support_of(law))]
    return _bounds(support_of(law))


def _bounds(support: Any) -> list[Tensor]:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    found = [getattr(support, side, None) for side in ("lower_bound", "upper_bound")]
    tensors = [torch.as_tensor(b, dtype=torch.float64) for b in found if b is not None]
    return [b for b in tensors if bool(torch.isfinite(b).all())]


def draw(
    law: Distribution,
    n: int,
    generator: torch.Generator | int | None,
    batch: torch.Size | None = None,
) -> Tensor:
    """N points, shape (n, *batch, *event), reparametrised where the Distribution can.

    With ``batch``, to which its own batch shape broadcasts, axes of length one are put between.
    Distributions draw from the global state; it is put back as it was.
    """
    device = generator.device if isinstance(generator, torch.Generator) else "cpu"
    source = checks.generator(generator, device)
    seed = int(torch.randint(2**62, (), generator=source, device=device))
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        try:
            points = law.rsample((n,)) if law.has_rsample else law.sample((n,))
        except NotImplementedError as error:
            raise TypeError(
                f"{type(law).__name__} has no sample (or rsample); implement one of them"
            ) from error
    if batch is not None:
        own = points.shape[1:]
        points = points.reshape(n, *(1 for _ in range(len(batch) - len(law.batch_shape))), *own)
    return points


def value_dtype(*laws: Distribution) -> torch.dtype:
    """The floating dtype their log-densities have."""
    kinds = [law.log_prob(draw(law, 1, 0)).dtype for law in laws]
    dtype = kinds[0]
    for kind in kinds[1:]:
        dtype = torch.promote_types(dtype, kind)
    return dtype
