"""The sharded backend: columns stay on their ranks, rows come to them, readings are merged."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.pairwise.bandwidth import POINTS, quantile_bandwidths
from probmetrics.pairwise.ranks import Sharded, padded
from probmetrics.pairwise.reductions import (
    AbstractReduction,
    CountWithin,
    KSmallest,
    LogSumExp,
    Total,
    WeightedSum,
)

Backend = str | Sharded
Answer = Any  # what the reduction of a pair of shards answers
Local = Callable[[AbstractReduction, Tensor, Tensor, str], Answer]


def reduce_sharded(
    ranks: Sharded, reduction: AbstractReduction, x: Tensor, y: Tensor, local: Local
) -> Any:
    """The reduction of this rank's rows over the columns of all ranks; a ``Total`` is everyone's.

    Args:
        ranks: Where the rows and columns live.
        reduction: With this rank's part of weights, offsets and radii.
        x: Embedded points, shape (*batch, n, d): this rank's rows.
        y: Embedded points, shape (*batch, m, d): this rank's columns, or x itself.
        local: The reduction of one pair of shards, on a backend of this process.
    """
    same = y is x
    options = _tensors(reduction)
    flat = not (isinstance(reduction, WeightedSum) and reduction.columns)
    shaped = {k: v.unsqueeze(-1) if flat else v for k, v in options.items()}
    given, counts = ranks.alike(x=x, y=y, **shaped)
    shared: dict[str, Any] = {k: given[k].squeeze(-1) if flat else given[k] for k in options}
    alone = isinstance(reduction, Total) and reduction.rows is reduction.columns
    if alone:
        shared["columns"] = shared["rows"]
    reduction = dataclasses.replace(reduction, **shared)
    x = given["x"]
    shards = _Shards(ranks, reduction, x, x if same else given["y"], counts, local)
    if isinstance(reduction, Total):
        return shards.total(symmetric=same and alone)
    return shards.ring() if ranks.ring else shards.gathered()


def _tensors(reduction: AbstractReduction) -> dict[str, Tensor]:
    """Options with a number per row or column, whose gradients the ranks must agree on."""
    names = ("weights", "offset", "radius", "column_radius", "rows", "columns")
    found = {name: getattr(reduction, name, None) for name in names}
    return {k: v for k, v in found.items() if isinstance(v, Tensor) and v.ndim}


class _Shards:
    """One call: the rows of one rank after the other meet this rank's columns."""

    def __init__(
        self,
        ranks: Sharded,
        reduction: AbstractReduction,
        x: Tensor,
        y: Tensor,
        counts: Tensor,
        local: Local,
    ) -> None:
        self.ranks, self.reduction, self.local = ranks, reduction, local
        self.x, self.y, self.same = x, y, y is x
        self.sizes: list[int] = counts[:, 0].tolist()
        self.columns: list[int] = counts[:, 1].tolist()
        self.most = max(self.sizes)
        self.rank, self.size = ranks.rank, ranks.size
        if isinstance(reduction, KSmallest):
            reduction.check(sum(self.sizes), sum(self.columns))

    @property
    def travelling(self) -> list[Tensor]:
        """What goes with the rows: the points, shape (*batch, n, d), and an option per row."""
        option = None
        if isinstance(self.reduction, Total):
            option = self.reduction.rows
        elif isinstance(self.reduction, CountWithin) and isinstance(self.reduction.radius, Tensor):
            option = self.reduction.radius if self.reduction.radius.ndim else None
        return [self.x] if option is None else [self.x, option.unsqueeze(-1)]

    def visits(self, steps: int) -> Iterator[tuple[int, list[Tensor]]]:
        """(whose rows, those rows and their option), this rank's own first."""
        yield self.rank, self.travelling
        if self.ranks.ring or steps == 1:
            passing = [padded(t, -2, self.most) for t in self.travelling]
            for step in range(1, steps):
                passing = [self.ranks.pass_on(t) for t in passing]
                whose = (self.rank - step) % self.size
                yield whose, [t.narrow(-2, 0, self.sizes[whose]) for t in passing]
            return
        every = [self.ranks.gather(padded(t, -2, self.most)) for t in self.travelling]
        for step in range(1, steps):
            whose = (self.rank - step) % self.size
            yield whose, [t[whose].narrow(-2, 0, self.sizes[whose]) for t in every]

    def read(self, whose: int, rows: list[Tensor]) -> Answer:
        """The reduction of some rank's rows with this rank's columns."""
        own = self.same and whose == self.rank
        reduction, backend = self.reduction, self.ranks.local
        if isinstance(reduction, KSmallest):
            k = min(reduction.k, self.columns[self.rank] - (own and reduction.skip_self))
            reduction = KSmallest(max(0, k), skip_self=own and reduction.skip_self)
        elif isinstance(reduction, Total):
            reduction = reduction if own else Total(rows[1].squeeze(-1), reduction.columns)
        elif isinstance(reduction, CountWithin) and len(rows) > 1:
            reduction = CountWithin(rows[1].squeeze(-1))
        empty = not self.sizes[whose] or not self.columns[self.rank]
        if empty or (isinstance(reduction, KSmallest) and reduction.k == 0):
            backend = "dense"
        answer = self.local(reduction, rows[0], rows[0] if own else self.y, backend)
        if not isinstance(self.reduction, KSmallest):
            return answer.double() if answer.is_floating_point() else answer
        values, indices = answer
        return self._k_wide(values, indices + sum(self.columns[: self.rank]))

    def _k_wide(self, values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Readings of as many neighbours as were asked for, the missing ones infinitely far."""
        assert isinstance(self.reduction, KSmallest)
        k = self.reduction.k
        return padded(values, -1, k, float("inf")), padded(indices, -1, k, -1)

    def total(self, *, symmetric: bool) -> Tensor:
        """Σ_ij a_i G_ij b_j over all ranks; of a sample with itself each pair of ranks once."""
        steps = self.size // 2 + 1 if symmetric else self.size
        parts = []
        for step, (whose, rows) in enumerate(self.visits(steps)):
            halved = 2 * step == self.size  # both ranks of this pair meet each other
            parts.append(self.read(whose, rows) * (2.0 if symmetric and step and not halved else 1))
        return self.ranks.once(self.ranks.total(torch.stack(parts).sum(0)))

    @property
    def axis(self) -> int:
        """Which axis of a reading counts the rows."""
        return self.reduction.row_axis

    def ring(self) -> Answer:
        """Readings travel with their rows, and come home merged."""
        reading: Answer = None
        for whose, rows in self.visits(self.size):
            new = self.read(whose, rows)
            if reading is not None:
                new = self._merged(self._cut_each(reading, self.sizes[whose]), new)
            reading = self._each(new, lambda t: self.ranks.pass_on(padded(t, self.axis, self.most)))
        return self._cut_each(reading, self.sizes[self.rank])

    def gathered(self) -> Answer:
        """Readings of all rows on every rank, merged by all-reduce or all-gather."""
        readings: list[Answer] = [None] * self.size
        for whose, rows in self.visits(self.size):
            readings[whose] = self.read(whose, rows)
        if isinstance(self.reduction, KSmallest):
            return self._nearest(readings)
        fill = -float("inf") if isinstance(self.reduction, LogSumExp) else 0.0
        stacked = torch.stack([padded(t, self.axis, self.most, fill) for t in readings])
        if isinstance(self.reduction, LogSumExp):
            top = finite_or_zero(self.ranks.largest(stacked))
            sums = self.ranks.scatter((stacked - top).exp())
            return self._cut(log_or_never(sums) + top[self.rank], self.sizes[self.rank])
        return self._cut(self.ranks.scatter(stacked), self.sizes[self.rank])

    def _nearest(self, readings: list[Answer]) -> Answer:
        merged: list[Tensor] = []
        for part in (0, 1):
            stacked = torch.stack([padded(r[part], -2, self.most) for r in readings])
            every = self.ranks.gather(stacked)[:, self.rank]  # (columns of a rank, *batch, n, k)
            merged.append(torch.cat(list(self._cut(every, self.sizes[self.rank])), dim=-1))
        assert isinstance(self.reduction, KSmallest)
        values, order = merged[0].topk(self.reduction.k, dim=-1, largest=False)
        return values, merged[1].gather(-1, order)

    def _merged(self, left: Answer, right: Answer) -> Answer:
        if isinstance(self.reduction, LogSumExp):
            both = torch.stack([left, right])
            top = finite_or_zero(both.detach().amax(0))
            return log_or_never((both - top).exp().sum(0)) + top
        if isinstance(self.reduction, KSmallest):
            return self.reduction.merge(left, right)
        return self.reduction.merge((left,), (right,))[0]

    def _each(self, reading: Answer, change: Callable[[Tensor], Tensor]) -> Answer:
        if isinstance(reading, tuple):
            return tuple(change(part) for part in reading)
        return change(reading)

    def _cut_each(self, reading: Answer, n: int) -> Answer:
        return self._each(reading, lambda t: self._cut(t, n))

    def _cut(self, reading: Tensor, n: int) -> Tensor:
        return reading.narrow(self.axis, 0, n)


def finite_or_zero(top: Tensor) -> Tensor:
    """Maxima that can be subtracted: zero where every term is left out."""
    return torch.where(top.isfinite(), top, 0.0)


def log_or_never(sums: Tensor) -> Tensor:
    """log of a sum of exponentials, −∞ with derivative zero where there is no term."""
    some = sums != 0
    return torch.where(some, torch.where(some, sums, 1.0).log(), -float("inf"))


# What estimators ask of a backend, whichever it is.


def samples(
    x: Tensor,
    y: Tensor,
    backend: Backend,
    *,
    minimum: int = 1,
    names: tuple[str, str] = ("x", "y"),
) -> tuple[Tensor, Tensor]:
    """Two checked samples; with ``Sharded`` the shards of all ranks are checked together."""
    if not isinstance(backend, Sharded):
        return checks.samples(x, y, minimum=minimum, names=names)

    def check() -> tuple[Tensor, Tensor]:
        first, second = _shardable(x, names[0]), _shardable(y, names[1])
        return checks.samples(first, second, minimum=0, names=names)

    same = y is x
    first, second = backend.agree(check, x, y)
    given, counts = backend.alike(**{names[0]: first, names[1]: second})
    for name, found in zip(names, counts.sum(0).tolist(), strict=True):
        if found < minimum:
            raise ValueError(f"{name} has {found} points on all ranks; at least {minimum} needed")
    first, second = (given[name] for name in names)
    return first, first if same else second


def _shardable(x: Tensor, name: str) -> Tensor:
    from probmetrics.pairwise.ranks import DTYPES, MOST_BATCH

    if x.dtype not in DTYPES or x.ndim - 2 > MOST_BATCH:
        raise ValueError(
            f"{name} is {x.dtype} of shape {tuple(x.shape)}; sharded samples are float tensors "
            f"(*batch, n, d) with at most {MOST_BATCH} batch dimensions"
        )
    return x


def count(x: Tensor, backend: Backend) -> int:
    """How many points a sample has, on all ranks."""
    n = x.shape[-2]
    if not isinstance(backend, Sharded):
        return n
    return int(backend.total(torch.tensor(n, device=x.device)))


def place(x: Tensor, backend: Backend) -> tuple[int, int]:
    """Where this process's points begin among those of all ranks, and how many these are."""
    n = x.shape[-2]
    if not isinstance(backend, Sharded):
        return 0, n
    counts = backend.gather(torch.tensor(n, device=x.device)).tolist()
    return sum(counts[: backend.rank]), sum(counts)


def extremes(x: Tensor, backend: Sharded) -> Tensor:
    """The smallest and largest coordinates over all ranks, shape (*batch, 2, d)."""
    ends = [padded(sign * x, -2, max(1, x.shape[-2]), -float("inf")).amax(-2) for sign in (1, -1)]
    return backend.largest(torch.stack(ends, dim=-2)) * x.new_tensor([[1.0], [-1.0]])


def weights(a: Tensor | None, x: Tensor, backend: Backend, name: str = "a") -> Tensor:
    """Weights of this process's points, which sum to one over all ranks."""
    if not isinstance(backend, Sharded):
        return checks.weights(a, x, name)
    n, total = x.shape[-2], count(x, backend)
    if not _given(a, x, name, backend) or a is None:
        return torch.full((1,), 1.0 / total, dtype=x.dtype, device=x.device).expand(n)

    a = _part(a, x, name, backend)
    mass = backend.total(a.detach().double().sum(-1))
    checks.unit_mass(mass, a.dtype, name, f"pass {name} divided by its sum over all ranks")
    return a


def whole(
    x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, ranks: Sharded
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Samples and weights of all ranks, on every rank, in the order of the ranks."""
    same = y is x
    x, y = samples(x, y, ranks)
    found: list[Tensor | None] = []
    for z, w, name in ((x, a, "a"), (y, b, "b")):
        counts = ranks.gather(torch.tensor(z.shape[-2], device=z.device)).tolist()
        found.append(ranks.joined(z, counts, -2))
        every = None
        if _given(w, z, name, ranks):
            assert w is not None
            part = _part(w, z, name, ranks)
            part = ranks.alike(**{name: part.unsqueeze(-1)})[0][name].squeeze(-1)
            every = ranks.joined(part, counts, -1)
        found.append(every)
    first, second = found[0], found[2]
    assert first is not None
    assert second is not None
    return first, first if same else second, found[1], found[3]


def _part(a: Tensor, x: Tensor, name: str, ranks: Sharded) -> Tensor:
    """Weights of this rank's points, once those of every rank are masses."""
    return ranks.agree(lambda: checks.measure(a, x, name, part=True), x)


def _given(a: Tensor | None, x: Tensor, name: str, ranks: Sharded) -> bool:
    """Whether weights were passed: on all ranks, or on none."""
    given = int(ranks.total(torch.tensor(a is not None, device=x.device).long()))
    if 0 < given < ranks.size:
        raise ValueError(f"{name} came from {given} of {ranks.size} ranks; pass it on all")
    return given > 0


def summed(value: Tensor, backend: Backend) -> Tensor:
    """A sum over the points of this process, over the points of all ranks."""
    return backend.once(backend.total(value)) if isinstance(backend, Sharded) else value


def bandwidth(x: Tensor, y: Tensor, backend: Backend) -> Tensor:
    """The median distance in the pooled sample, by the rule of ``median_bandwidth``.

    Across ranks only the order along its projection is gathered, and the points it selects.
    """
    if not isinstance(backend, Sharded):
        return quantile_bandwidths(x, y, [0.5])[..., 0]
    batch = checks.common_batch(x.shape[:-2], y.shape[:-2])
    pooled = torch.cat([z.detach().expand(*batch, *z.shape[-2:]) for z in (x, y)], dim=-2)
    if pooled.dtype in (torch.float16, torch.bfloat16):
        pooled = pooled.float()
    chosen = _chosen(pooled, backend) if count(pooled, backend) > POINTS else None
    if chosen is None:
        counts = backend.gather(torch.tensor(pooled.shape[-2], device=pooled.device)).tolist()
        chosen = backend.joined(pooled, counts, -2)
    return quantile_bandwidths(chosen, None, [0.5])[..., 0]


def _chosen(pooled: Tensor, backend: Sharded) -> Tensor:
    """``POINTS`` points, evenly spaced along the order by the projection, on every rank."""
    n, d = pooled.shape[-2:]
    steps = torch.arange(1, d + 1, dtype=torch.float64, device=pooled.device)
    places = pooled @ torch.cos(steps).to(pooled.dtype)
    counts = backend.gather(torch.tensor(n, device=pooled.device)).tolist()
    order = backend.joined(places, counts, -1).argsort(dim=-1)
    total = order.shape[-1]
    at = torch.linspace(0, total - 1, POINTS, device=pooled.device).round().long()
    local = order[..., at] - sum(counts[: backend.rank])  # (*batch, POINTS)
    mine = (local >= 0) & (local < n)
    found = pooled.new_zeros(*pooled.shape[:-2], POINTS, d)
    if n:
        index = local.clamp(0, n - 1).unsqueeze(-1).expand_as(found)
        found = torch.where(mine.unsqueeze(-1), pooled.gather(-2, index), found)
    return backend.total(found)


def together(backend: Backend, check: Callable[[], Any], *tensors: Tensor) -> Any:
    """What a check gives, once it has succeeded on all ranks."""
    return backend.agree(check, *tensors) if isinstance(backend, Sharded) else check()
