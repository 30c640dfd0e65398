"""The ranks of a process group: collectives with gradients, checked headers, errors with names."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from probmetrics import _checks as checks

Found = TypeVar("Found")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
GRACE = 2.0  # seconds that ranks may lag behind one that met an error, before they are named
MOST_BATCH = 6  # batch dimensions that ranks tell each other about


@dataclass(frozen=True)
class Sharded:
    """Samples that live on the ranks of a ``torch.distributed`` group, as a ``backend=``.

    Each rank passes its own rows; the answer is that of all rows together, in the order of the
    ranks, and every rank gets it. All ranks make the same call; shards may differ in length, and
    be empty.

    Args:
        group: The process group; None is the default one.
        ring: Send rows from neighbour to neighbour, in memory of two shards, instead of gathering
            all rows on every rank. Where a gradient is wanted, the rows that passed are kept;
            second derivatives are refused.
        averaged: Gradients will be averaged over the ranks, as DistributedDataParallel and FSDP
            do: the average is then the gradient of the one loss on all rows. False where nobody
            averages: each rank's gradient is the derivative in its own rows.
        timeout: Seconds to wait for the other ranks; None is the group's own timeout.
        local: The backend for a pair of shards: "auto", "dense", "tiled" or "fused".

    Example:
        >>> Sharded(ring=True)
        Sharded(group=None, ring=True, averaged=True, timeout=None, local='auto')

    Notes:
        Every rank must call ``backward`` too: gradients travel the way the rows came, reversed.
    """

    group: Any = None
    ring: bool = False
    averaged: bool = True
    timeout: float | None = None
    local: str = "auto"

    def __post_init__(self) -> None:
        checks.choice(self.local, "local", ("auto", "dense", "tiled", "fused"))
        if self.timeout is not None:
            checks.positive(self.timeout, "timeout")

    @property
    def rank(self) -> int:
        """This process's place in the group."""
        return self._known()[0]

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self._known()[1]

    def _known(self) -> tuple[int, int]:
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError(
                "backend=Sharded() needs a process group: call "
                "torch.distributed.init_process_group(...) on every rank first (torchrun does)"
            )
        rank = dist.get_rank(self.group)
        if rank < 0:
            raise ValueError("this process is not in the group that backend=Sharded(group) names")
        return rank, dist.get_world_size(self.group)

    # What every rank does together. Each of these is one step that all ranks have to reach.

    def together(self, start: Callable[[], Any]) -> None:
        """Start a collective and wait for it; an error names the ranks that did not take part."""
        if dist.get_world_size(self.group) == 1:
            return
        limit = None if self.timeout is None else timedelta(seconds=self.timeout)
        try:
            self._count(self.rank, 1)
            works = start()
            for work in works if isinstance(works, list) else [works]:
                work.wait() if limit is None else work.wait(limit)
        except RuntimeError as error:
            raise RuntimeError(f"{self._missing()} ({error})") from error

    def _count(self, rank: int, step: int) -> int:
        """How many steps a rank has begun, after adding ``step``."""
        name = "default" if self.group is None else getattr(self.group, "group_name", "group")
        store = dist.distributed_c10d._get_default_store()
        return int(store.add(f"probmetrics/{name}/{rank}", step))

    def _missing(self) -> str:
        rank, size = self._known()
        try:
            own, until = self._count(rank, 0), time.monotonic() + GRACE
            behind = list(range(size))
            while behind and time.monotonic() < until:
                behind = [r for r in behind if self._count(r, 0) < own]
                time.sleep(0.05)
        except RuntimeError:
            return "the store of the process group (on rank 0, as a rule) does not answer"
        if not behind:
            return "a collective failed although all ranks took part"
        named = ", ".join(map(str, behind))
        many = len(behind) > 1
        return (
            f"rank{'s' * many} {named} did not take part in step {own}: "
            f"{'they have' if many else 'it has'} failed, or not made the same calls"
        )

    def agree(self, check: Callable[[], Found], *tensors: Any) -> Found:
        """What ``check`` gives, once it has succeeded on all ranks; else an error on every rank.

        Args:
            check: Raises where this rank's input is wrong.
            tensors: Some tensors of the call, whose device the ranks talk over.
        """
        size = self.size
        failure: Exception | None = None
        try:
            found = check()
        except Exception as error:
            failure = error
        device = next((t.device for t in tensors if isinstance(t, Tensor)), torch.device("cpu"))
        flags = self.gather(torch.tensor([failure is not None], dtype=torch.int64, device=device))
        failed = [r for r in range(size) if int(flags[r])]
        if not failed:
            return found
        texts: list[Any] = [None] * size
        own = None if failure is None else f"{type(failure).__name__}: {failure}"
        dist.all_gather_object(texts, own, group=self.group)
        told = "; ".join(f"on rank {r}: {texts[r]}" for r in failed)
        if failure is not None and not isinstance(failure, ValueError | TypeError):
            raise failure
        if isinstance(failure, TypeError):
            raise TypeError(told) from failure
        raise ValueError(told) from failure

    def alike(self, **tensors: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Samples (*batch, n, d) that differ between ranks in n only, and all n.

        Where any rank wants a gradient all take part in it.

        Returns:
            The tensors, and how many rows of each lie on each rank, shape (ranks, tensors).
        """
        device = next(iter(tensors.values())).device
        own = torch.tensor([_header(t) for t in tensors.values()], device=device)
        every = self.gather(own)  # (ranks, tensors, numbers)
        facts = ("dimensions", "dtype", "d", *["batch shape"] * MOST_BATCH)
        for k, name in enumerate(tensors):
            for place, fact in enumerate(facts):
                column = every[:, k, 2 + place].tolist()
                if len(set(column)) > 1:
                    told = ", ".join(
                        f"{_shown(fact, value)} on rank {r}" for r, value in enumerate(column)
                    )
                    raise ValueError(f"{name} differs in its {fact} between ranks: {told}")
            tensors[name] = self._learning(tensors[name], name, every[:, k, 1])
        return tensors, every[:, :, 0].cpu()

    def _learning(self, x: Tensor, name: str, flags: Tensor) -> Tensor:
        """The tensor, taking part in gradients if that of any rank does."""
        if not bool((flags > 0).any()):
            return x
        if bool((flags < 0).any()):
            off = [r for r, flag in enumerate(flags.tolist()) if flag < 0]
            raise ValueError(
                f"gradients are switched off (no_grad) on ranks {off} and wanted for {name} on "
                "others; all ranks must make the same calls"
            )
        return x if x.requires_grad else x.detach().requires_grad_()

    # Collectives. Those of floating tensors are differentiable, any number of times.

    def gather(self, x: Tensor) -> Tensor:
        """The tensors of all ranks, of one shape, stacked: (ranks, *shape)."""
        found: Tensor = _apply(_Gather, self, x) if x.is_floating_point() else self._gathered(x)
        return found

    def total(self, x: Tensor) -> Tensor:
        """The sum over all ranks, on every rank."""
        found: Tensor = _apply(_Total, self, x) if x.is_floating_point() else self._summed(x)
        return found

    def scatter(self, x: Tensor) -> Tensor:
        """Of tensors stacked as ``gather`` does, this rank's one, summed over all ranks."""
        found: Tensor = _apply(_Scatter, self, x) if x.is_floating_point() else self._shared(x)
        return found

    def pass_on(self, x: Tensor) -> Tensor:
        """The tensor of the rank before this one; this rank's goes to the one after it."""
        found: Tensor = _apply(_Pass, self, x, 1) if x.is_floating_point() else self._sent(x, 1)
        return found

    def largest(self, x: Tensor) -> Tensor:
        """The elementwise maximum over all ranks; no gradient."""
        x = x.detach().clone()
        self.together(lambda: dist.all_reduce(x, dist.ReduceOp.MAX, self.group, async_op=True))
        return x

    def first(self, x: Tensor) -> Tensor:
        """The tensor of rank 0, on every rank; no gradient."""
        given, x = x.device, x.detach().clone()
        if dist.get_backend(self.group) == "nccl":
            x = x.cuda()
        source = 0 if self.group is None else dist.get_global_rank(self.group, 0)
        self.together(lambda: dist.broadcast(x, source, self.group, async_op=True))
        return x.to(given)

    def once(self, value: Tensor) -> Tensor:
        """A value that every rank holds, with gradients as ``averaged`` says."""
        return value if self.averaged else _scaled(value, 1.0 / self.size)

    def rows(self, x: Tensor) -> Tensor:
        """The rows of all ranks in the order of the ranks, (*batch, n, d) → (*batch, N, d).

        A loss evaluated on gathered rows has, on every rank, the value on the global batch, and
        under DistributedDataParallel its gradient. For losses without ``backend=``:
        ``SlicedLoss()(ranks.rows(x), ranks.rows(y))``.

        Args:
            x: This rank's rows; n may differ between ranks.
        """
        self.agree(lambda: _points(x), x)
        given, counts = self.alike(x=x)
        return self.once(self.joined(given["x"], counts[:, 0].tolist(), -2))

    def joined(self, x: Tensor, counts: Sequence[int], axis: int) -> Tensor:
        """Tensors that differ in one dimension, of known lengths, one after the other."""
        parts = self.gather(padded(x, axis, max(counts)))
        return torch.cat([parts[r].narrow(axis, 0, n) for r, n in enumerate(counts)], dim=axis)

    def _gathered(self, x: Tensor) -> Tensor:
        x = x.detach().contiguous()
        parts = [x.clone() for _ in range(self.size)]
        self.together(lambda: dist.all_gather(parts, x, self.group, async_op=True))
        return torch.stack(parts)

    def _summed(self, x: Tensor) -> Tensor:
        x = x.detach().contiguous().clone()
        self.together(lambda: dist.all_reduce(x, group=self.group, async_op=True))
        return x

    def _shared(self, x: Tensor) -> Tensor:
        if dist.get_backend(self.group) != "nccl":  # gloo has no operation of its own for it
            return self._summed(x)[self.rank]
        x = x.detach().contiguous()
        own = torch.empty_like(x[0])
        self.together(lambda: dist.reduce_scatter_tensor(own, x, group=self.group, async_op=True))
        return own

    def _sent(self, x: Tensor, step: int) -> Tensor:
        rank, size = self._known()
        x = x.detach().contiguous()
        new = x.clone()
        ends = [(rank + step) % size, (rank - step) % size]
        if self.group is not None:
            ends = [dist.get_global_rank(self.group, end) for end in ends]

        def start() -> Any:
            out = dist.P2POp(dist.isend, x, ends[0], self.group)
            return dist.batch_isend_irecv([out, dist.P2POp(dist.irecv, new, ends[1], self.group)])

        self.together(start)
        return new


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ranks: Sharded, x: Tensor) -> Tensor:
        ctx.ranks = ranks
        return ranks._gathered(x)

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Any:
        return None, ctx.ranks.scatter(up)


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ranks: Sharded, x: Tensor) -> Tensor:
        ctx.ranks = ranks
        return ranks._shared(x)

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Any:
        return None, ctx.ranks.gather(up)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ranks: Sharded, x: Tensor) -> Tensor:
        ctx.ranks = ranks
        return ranks._summed(x)

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Any:
        return None, ctx.ranks.total(up)


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ranks: Sharded, x: Tensor, step: int) -> Tensor:
        ctx.ranks, ctx.step = ranks, step
        return ranks._sent(x, step)

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("second derivatives do not pass around a ring; use ring=False")
        return None, ctx.ranks._sent(up, -ctx.step), None


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Any:
        return up * ctx.factor, None


def _apply(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    apply: Callable[..., Any] = function.apply
    return apply(*inputs)


def _scaled(x: Tensor, factor: float) -> Tensor:
    found: Tensor = _apply(_Scaled, x, factor)
    return found


def padded(x: Tensor, axis: int, length: int, fill: float = 0.0) -> Tensor:
    """The tensor with one of its dimensions filled up to a length."""
    missing = length - x.shape[axis]
    if missing == 0:
        return x
    shape = list(x.shape)
    shape[axis] = missing
    return torch.cat([x, x.new_full(shape, fill)], dim=axis)


def _header(x: Tensor) -> list[int]:
    """What other ranks need to know of a sample: n, gradient, dimensions, dtype, d, batch."""
    learns = -1 if not torch.is_grad_enabled() else int(x.requires_grad)
    batch = [*x.shape[:-2], *[0] * MOST_BATCH][:MOST_BATCH]
    return [x.shape[-2], learns, x.ndim, DTYPES.index(x.dtype), x.shape[-1], *batch]


def _shown(fact: str, value: int) -> str:
    return str(DTYPES[value]).removeprefix("torch.") if fact == "dtype" else f"{fact} {value}"


def _points(x: Tensor) -> Tensor:
    if x.dtype not in DTYPES or x.ndim - 2 > MOST_BATCH:
        raise ValueError(
            f"sharded samples are float tensors (*batch, n, d) with at most {MOST_BATCH} batch "
            f"dimensions, got {x.dtype} of shape {tuple(x.shape)}"
        )
    return checks.sample(x, minimum=0)
