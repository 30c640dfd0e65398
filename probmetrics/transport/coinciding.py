"""Points of a sample that coincide, as one atom that holds all their mass."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from probmetrics.transport.programme import Index, Solution, Vector


class Atoms(NamedTuple):
    """The distinct points of a sample, what they hold, and which of them each point is."""

    points: Tensor  # (k, d)
    mass: Tensor  # (k,), in float64 on the CPU
    member: Tensor  # (n,), int64, below k


def distinct(points: Tensor, weights: Tensor) -> Atoms:
    """Merge equal rows of points, shape (n, d); their weights, shape (n,), are added."""
    atoms, member = torch.unique(points, dim=0, return_inverse=True)
    member = member.cpu()
    mass = weights.new_zeros(atoms.shape[0]).index_add_(0, member, weights)
    return Atoms(atoms, mass, member)


def shared_out(
    found: Solution, first: Atoms, second: Atoms, weights: tuple[Tensor, Tensor]
) -> Solution:
    """The solution between the points themselves, from one between their atoms.

    A potential is a function of the place, so every point has that of its atom. What an atom
    sends or takes is dealt to its members, in order (north-west corner): each member but one
    cuts one entry in two, so a plan of k + l − 1 entries between atoms has n + m − 1 then.
    """
    sources, targets = first.member.numpy(), second.member.numpy()
    entry, rows, mass = deal(found.rows, found.mass, sources, weights[0].numpy())
    columns = found.columns[entry]
    entry, columns, mass = deal(columns, mass, targets, weights[1].numpy())
    return replace(
        found, rows=rows[entry], columns=columns, mass=mass, f=found.f[sources], g=found.g[targets]
    )


def deal(
    groups: Index, amounts: Vector, member: Index, wanted: Vector
) -> tuple[Index, Index, Vector]:
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
