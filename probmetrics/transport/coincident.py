"""Points that coincide, as one: merged before a problem is solved, told apart in its plan."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Integers = np.ndarray[Any, np.dtype[np.int64]]
Numbers = np.ndarray[Any, np.dtype[np.float64]]


class Merged(NamedTuple):
    """A measure by its distinct points."""

    points: Tensor  # (k, d)
    mass: Tensor  # (k,)
    owner: Tensor  # (n,): which of the distinct points each point is


def merged(z: Tensor, w: Tensor) -> Merged:
    """The distinct points of (n, d) points with weights (n,), on the CPU."""
    rows = z.numpy()
    order = np.lexsort(rows.T)
    new = np.concatenate([[False], (np.diff(rows[order], axis=0) != 0).any(1)])
    places = torch.from_numpy(order)
    owner = torch.empty_like(places)
    owner[places] = torch.from_numpy(new.cumsum())
    count = int(new.sum()) + 1
    if count == len(z):  # as they came
        return Merged(z, w, torch.arange(count))
    first = places[torch.from_numpy(np.flatnonzero(np.concatenate([[True], new[1:]])))]
    return Merged(z[first], w.new_zeros(count).index_add(0, owner, w), owner)


def told_apart(
    plan: tuple[Tensor, Tensor, Tensor], left: Merged, right: Merged, weights: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and mass of a plan between points, from those of one between distinct points.

    What an atom sends or takes is dealt to its members in order (north-west corner): each but one
    cuts one entry in two, so a plan of k + l − 1 entries between atoms has n + m − 1 then.
    """
    rows, columns, mass = (z.numpy() for z in plan)
    for side, weight in zip((left, right), weights, strict=True):
        if side.points.shape[0] < side.owner.numel():
            entry, rows, mass = deal(rows, mass, side.owner.numpy(), weight.numpy())
            columns = columns[entry]
        rows, columns = columns, rows
    return torch.from_numpy(rows), torch.from_numpy(columns), torch.from_numpy(mass)


def deal(
    groups: Integers, amounts: Numbers, member: Integers, wanted: Numbers
) -> tuple[Integers, Integers, Numbers]:
    """Split amounts, each of which belongs to a group, among the members of that group.

    The last amount of a group gives every member what it still wants, so that members get what
    they want up to the last digit, and amounts are kept up to rounding.

    Args:
        groups: Group of each amount, shape (k,).
        amounts: What there is, shape (k,).
        member: Group of each member, shape (n,).
        wanted: What each member takes, shape (n,); those that want nothing get nothing.

    Returns:
        For each share the index of the amount, the index of the member, and how much it is.
    """
    takers = np.flatnonzero(wanted)
    takers = takers[np.argsort(member[takers], kind="stable")]
    begin, end = (np.searchsorted(member[takers], groups, side=side) for side in ("left", "right"))
    order = np.argsort(groups, kind="stable")
    final = np.append(groups[order][1:] != groups[order][:-1], True)
    rest = wanted[takers].tolist()
    shares: list[tuple[int, int, float]] = []
    place = 0
    for k, last in zip(order.tolist(), final.tolist(), strict=True):
        amount, place = float(amounts[k]), max(place, int(begin[k]))
        while place < end[k]:
            only = place == end[k] - 1
            share = rest[place] if last else amount if only else min(amount, rest[place])
            if share > 0:
                shares.append((k, place, share))
            amount, rest[place] = amount - share, max(rest[place] - share, 0.0)
            if not last and (only or rest[place] > 0):
                break
            place += 1
    index, places, parts = zip(*shares, strict=True)
    return np.array(index), takers[np.array(places)], np.array(parts)
