"""Directions on the sphere to project on: random, orthogonal, quasi-Monte-Carlo."""

import math

import torch
from torch import Tensor

from probmetrics import _checks as checks

KINDS = ("random", "orthogonal", "qmc")
SOBOL_LIMIT = torch.quasirandom.SobolEngine.MAXDIM


def unit_directions(
    directions: str | Tensor,
    projections: int,
    like: Tensor,
    generator: torch.Generator | int | None,
) -> Tensor:
    """Directions of length one, shape (L, d), in the dtype and on the device of ``like``.

    Args:
        directions: One of ``KINDS``, or the directions themselves, shape (L, d), any length.
        projections: How many to draw; not read if the directions are given.
        like: Sample of shape (*batch, n, d).
        generator: Drawn through, in float64 for any dtype.
    """
    d = like.shape[-1]
    if not isinstance(directions, str):
        return _given(directions, like)
    checks.choice(directions, "directions", KINDS)
    projections = checks.count(projections, "projections")
    source = checks.generator(generator, like.device)
    if d == 1:  # all directions measure the same
        return torch.ones(1, 1, dtype=like.dtype, device=like.device)
    if directions == "qmc":
        drawn = _spread(projections, d, source)
    elif directions == "orthogonal":
        frames = orthonormal_frames(-(-projections // d), d, d, source)
        drawn = frames.reshape(-1, d)[:projections]
    else:
        drawn = torch.randn(
            projections, d, dtype=torch.float64, device=source.device, generator=source
        )
        drawn = drawn / drawn.norm(dim=-1, keepdim=True)
    return drawn.to(like)


def orthonormal_frames(count: int, k: int, d: int, generator: torch.Generator) -> Tensor:
    """Uniformly distributed sets of k orthonormal rows in d dimensions, shape (count, k, d)."""
    drawn = torch.randn(
        count, d, k, dtype=torch.float64, device=generator.device, generator=generator
    )
    q, r = torch.linalg.qr(drawn)
    # With the signs of R's diagonal Q is uniform (Mezzadri 2007, How to generate random matrices).
    frames: Tensor = (q * r.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)).mT
    return frames


def _given(directions: Tensor, like: Tensor) -> Tensor:
    d = like.shape[-1]
    if directions.ndim != 2 or directions.shape[-1] != d or len(directions) == 0:
        raise ValueError(
            f"directions must have shape (L, {d}), one direction per row, "
            f"got {tuple(directions.shape)}"
        )
    if directions.device != like.device:
        raise ValueError(f"directions are on {directions.device}, the samples on {like.device}")
    directions = checks.finite(directions, "directions").to(like.dtype)
    length = directions.norm(dim=-1, keepdim=True)
    if checks.readable(length) and bool((length == 0).any()):
        row = int((length == 0).flatten().nonzero()[0])
        raise ValueError(f"direction {row} is zero; every direction needs a length")
    return torch.div(directions, length)


def _spread(count: int, d: int, generator: torch.Generator) -> Tensor:
    """Points that cover the sphere evenly, each of them uniformly distributed.

    In the plane: equal angles over half a turn, as θ and −θ measure the same, turned at random.
    Else: a scrambled Sobol sequence through the Gaussian quantile function, projected on the
    sphere.
    """
    device = generator.device
    if d == 2:
        start = torch.rand((), dtype=torch.float64, device=device, generator=generator)
        steps = torch.arange(count, dtype=torch.float64, device=device)
        angle = math.pi * (steps + start) / count
        return torch.stack([angle.cos(), angle.sin()], -1)
    if d > SOBOL_LIMIT:
        raise ValueError(
            f"directions='qmc' reaches d = {SOBOL_LIMIT}, the samples have d = {d}; "
            "use directions='orthogonal'"
        )
    seed = int(torch.randint(2**31, (), device=device, generator=generator))
    engine = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed)
    uniform = engine.draw(count, dtype=torch.float64).clamp(2.0**-32, 1 - 2.0**-32)
    normal = torch.special.ndtri(uniform).to(device)
    return torch.div(normal, normal.norm(dim=-1, keepdim=True))
