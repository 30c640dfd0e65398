"""Samples of continuous laws: constant columns and ties refused, or moved apart by noise."""

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.pairwise import sharded
from probmetrics.pairwise.ranks import Sharded

Generator = torch.Generator | int | None


def apart(distance: Tensor, at: str, among: str, copies: int) -> None:
    """Refuse distances of zero, whose logarithm would be infinite."""
    if torch.compiler.is_compiling() or not bool((distance.detach() == 0).any()):
        return
    row = int((distance.detach() == 0).nonzero()[0, -1])
    raise ValueError(
        f"row {row} of {at} occurs {copies} times or more in {among}, so its k-th neighbour is at "
        "distance zero; these estimators are for continuous data. For rounded data pass jitter= "
        "half the step they are rounded to, else raise k or drop duplicates"
    )


def prepared(
    x: Tensor, y: Tensor, jitter: float, generator: Generator, backend: sharded.Backend
) -> tuple[Tensor, Tensor]:
    """Checked samples, half precision made single, with the noise that was asked for."""
    x, y = sharded.samples(x, y, backend)
    _varied(x, "x", backend)
    _varied(y, "y", backend)
    if x.dtype in (torch.float16, torch.bfloat16):
        x, y = x.float(), y.float()
    jitter = checks.real(jitter, "jitter")
    if jitter < 0:
        raise ValueError(f"jitter must be zero or more, got {jitter}")
    if jitter == 0:
        return x, y
    source = checks.generator(generator, x.device)
    # A stream of its own: seeded like the data, the noise would repeat their draws.
    seed = torch.randint(2**62, (), generator=source, device=source.device)
    seed = backend.first(seed) if isinstance(backend, Sharded) else seed
    stream = torch.Generator(source.device).manual_seed(int(seed))
    return _moved(x, jitter, stream, backend), _moved(y, jitter, stream, backend)


def _moved(z: Tensor, jitter: float, stream: torch.Generator, backend: sharded.Backend) -> Tensor:
    """Points with uniform noise; the ranks draw that of all points and take their own."""
    start, total = sharded.place(z, backend)
    shape = (*z.shape[:-2], total, z.shape[-1])
    noise = 2 * torch.rand(shape, generator=stream, device=z.device, dtype=torch.float64) - 1
    return z + (jitter * noise.narrow(-2, start, z.shape[-2])).to(z.dtype)


def _varied(x: Tensor, name: str, backend: sharded.Backend) -> None:
    """Refuse constant columns, in which a sample has no density."""
    if not checks.readable(x) or sharded.count(x, backend) < 2:
        return
    some = x.detach()
    if isinstance(backend, Sharded):  # the extremes say as much as all points do
        some = sharded.extremes(some, backend)
    constant = (some == some[..., :1, :]).all(-2).reshape(-1, x.shape[-1]).any(0)
    if bool(constant.any()):
        column = int(constant.nonzero()[0])
        raise ValueError(
            f"column {column} of {name} is constant, so {name} has no density; drop it from both "
            "samples (if it varies in the other one, the divergence is infinite)"
        )
