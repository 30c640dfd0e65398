"""What a metric remembers of the samples it has seen: monoids kept as lists of tensors.

A state is a dictionary of lists of tensors, and joining two states joins the lists. That is the
one operation distributed gathering offers, so a state that is gathered, merged or streamed is the
same state.
"""

import abc
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.gaussian import Moments

State = dict[str, list[Tensor]]
BLOCK = 1024  # rows gathered before their moments are taken


@dataclass(frozen=True)
class AbstractAccumulator(abc.ABC):
    """Says which tensors are kept, how rows come in, and how a joined state is made short."""

    @property
    @abc.abstractmethod
    def fields(self) -> tuple[str, ...]:
        """Names of the lists; joining two states joins them field by field."""

    @abc.abstractmethod
    def add(self, state: State, rows: Tensor, seen: int, stream: int) -> State:
        """The state with more rows.

        Args:
            state: What is kept so far.
            rows: Shape (n, d).
            seen: How many rows came before.
            stream: Which of several parallel streams this is (the rank).
        """

    def compact(self, state: State) -> State:
        """An equal state in one tensor per field."""
        return {name: [torch.cat(parts)] if parts else [] for name, parts in state.items()}


@dataclass(frozen=True)
class Store(AbstractAccumulator):
    """Keeps every row; memory grows with n."""

    @property
    def fields(self) -> tuple[str, ...]:
        return ("rows",)

    def add(self, state: State, rows: Tensor, seen: int, stream: int) -> State:
        return {"rows": [*state["rows"], rows]}


@dataclass(frozen=True)
class Reservoir(AbstractAccumulator):
    """A uniform sample without replacement of ``capacity`` of the rows seen, in constant memory.

    Each row draws a uniform key when it comes, and the rows with the smallest keys stay. That is a
    monoid: the sample of two streams together is the smallest keys of both samples. Rows come out
    in the order of their keys.

    Args:
        capacity: How many rows to keep.
        seed: Of the keys; with the same seed the same rows stay.

    References:
        Efraimidis, Spirakis (2006), Weighted random sampling with a reservoir (equal weights).
    """

    capacity: int
    seed: int = 0

    def __post_init__(self) -> None:
        checks.count(self.capacity, "capacity")

    @property
    def fields(self) -> tuple[str, ...]:
        return ("rows", "keys")

    def add(self, state: State, rows: Tensor, seen: int, stream: int) -> State:
        keys = self._keys(len(rows), seen, stream).to(rows.device)
        kept = sum(len(k) for k in state["keys"])
        if kept >= self.capacity:  # what cannot stay is not even copied
            bound = torch.cat(state["keys"]).max()
            stays = keys < bound
            rows, keys = rows[stays], keys[stays]
        joined = {"rows": [*state["rows"], rows], "keys": [*state["keys"], keys]}
        many = kept + len(rows) > 2 * self.capacity
        return self.compact(joined) if many or kept < self.capacity <= kept + len(rows) else joined

    def compact(self, state: State) -> State:
        joined = super().compact(state)
        if not joined["keys"]:
            return joined
        keys, rows = joined["keys"][0], joined["rows"][0]
        order = keys.argsort(stable=True)[: self.capacity]
        return {"rows": [rows[order]], "keys": [keys[order]]}

    def _keys(self, n: int, seen: int, stream: int) -> Tensor:
        mixed = hash((int(self.seed), int(stream), int(seen))) % 2**63
        source = torch.Generator().manual_seed(mixed)
        return torch.rand(n, generator=source, dtype=torch.float64)


@dataclass(frozen=True)
class GroupedMoments(AbstractAccumulator):
    """Moments of the rows, dealt in turn to several groups, in float64.

    Together the groups are the moments of all rows; leaving some out shows how an estimate moves
    with the sample size. Rows are gathered until there are enough for one product.

    Args:
        groups: How many; memory is groups · d² numbers.
    """

    groups: int = 1

    @property
    def fields(self) -> tuple[str, ...]:
        return ("moments", "pending")

    def add(self, state: State, rows: Tensor, seen: int, stream: int) -> State:
        pending = [*state["pending"], rows]
        if sum(len(part) for part in pending) < BLOCK:
            return {"moments": state["moments"], "pending": pending}
        gathered = torch.cat(pending)
        whole = len(gathered) // self.groups * self.groups
        moments = self._folded([*state["moments"], *self._packed(gathered[:whole])])
        late = gathered[whole:].clone()  # a view would hold all that was gathered
        return {"moments": moments, "pending": [late]}

    def compact(self, state: State) -> State:
        pending = torch.cat(state["pending"]) if state["pending"] else None
        late = [] if pending is None or not len(pending) else self._packed(pending)
        return {"moments": self._folded([*state["moments"], *late]), "pending": []}

    def groups_of(self, state: State) -> list[Moments]:
        """The moments of each group."""
        packed = self.compact(state)["moments"][0][0]
        return [unpacked(part) for part in packed]

    def _packed(self, rows: Tensor) -> list[Tensor]:
        d = rows.shape[-1]
        parts = [
            Moments.of(rows[g :: self.groups])
            if len(rows) > g
            else Moments.zero(d, device=rows.device)
            for g in range(self.groups)
        ]
        return [torch.stack([packed(part) for part in parts]).unsqueeze(0)]

    def _folded(self, parts: list[Tensor]) -> list[Tensor]:
        """States (k, groups, 2 + d + d²), each of k partial ones, as one."""
        states = [state for part in parts for state in part]
        if len(states) < 2:
            return [states[0].unsqueeze(0)] if states else []
        groups = []
        for group in zip(*states, strict=True):
            total = unpacked(group[0])
            for part in group[1:]:
                total = total.merge(unpacked(part))
            groups.append(packed(total))
        return [torch.stack(groups).unsqueeze(0)]


def packed(moments: Moments) -> Tensor:
    """Moments in one vector of 2 + d + d² numbers."""
    parts = (moments.weight, moments.squares, moments.mean, moments.scatter)
    return torch.cat([torch.as_tensor(part).reshape(-1) for part in parts])


def unpacked(vector: Tensor) -> Moments:
    """The moments in a vector, see `packed`."""
    d = round((vector.numel() - 2 + 0.25) ** 0.5 - 0.5)
    return Moments(vector[0], vector[1], vector[2 : 2 + d], vector[2 + d :].reshape(d, d))


def union(parts: list[Moments]) -> Moments:
    """Moments of all parts together."""
    total = parts[0]
    for part in parts[1:]:
        total = total.merge(part)
    return total


def rows_of(state: State) -> Any:
    """The rows a `Store` or `Reservoir` keeps, shape (n, d); None where there are none."""
    parts = [part for part in state["rows"] if len(part)]
    return torch.cat(parts) if parts else None
