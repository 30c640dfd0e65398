"""Points that coincide, as one: merged before a problem is solved, told apart in its plan."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


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


def dealt(
    atoms: Tensor, mass: Tensor, owner: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Entries of a plan dealt to the points that coincide: entry, point and mass of each piece.

    Both are laid out along the mass of their atom, and cut where either ends (the north-west
    corner rule), so that an atom of k points makes at most k − 1 pieces more than it has entries.

    Args:
        atoms: To which distinct point each entry belongs, shape (e,).
        mass: What it carries, shape (e,); the sum over an atom is the mass of its points.
        owner: To which distinct point each point belongs, shape (n,).
        weights: Its mass, shape (n,).
    """
    members = torch.bincount(owner)
    point = torch.empty_like(members).scatter_(0, owner, torch.arange(owner.numel()))
    alone = members[atoms] == 1
    single = alone.nonzero().squeeze(1)
    several = (~alone).nonzero().squeeze(1)
    several = several[atoms[several].argsort(stable=True)]
    wanted = torch.zeros_like(members, dtype=torch.bool)
    wanted[atoms[several]] = True
    points = wanted[owner].nonzero().squeeze(1)
    points = points[owner[points].argsort(stable=True)]
    ends_of_entries, _ = _ends(atoms[several], mass[several])
    ends_of_points, total = _ends(owner[points], weights[points])
    level = torch.cat([ends_of_entries, ends_of_points])
    atom = torch.cat([atoms[several], owner[points]])
    # At a tie an entry ends before a point: the last cut of an atom is then that of a point.
    is_point = torch.arange(level.numel()) >= several.numel()
    order = torch.from_numpy(np.lexsort((is_point.numpy(), level.numpy(), atom.numpy())))
    level, atom, is_point = level[order], atom[order], is_point[order]
    begins = torch.ones_like(atom, dtype=torch.bool)
    begins[1:] = atom[1:] != atom[:-1]
    before = torch.where(begins, 0.0, level.roll(1))
    # How many entries, and points, have ended before each cut.
    member = is_point.cumsum(0) - is_point.long()
    entry = (torch.arange(order.numel()) - member).clamp(max=max(several.numel() - 1, 0))
    piece = (level - before) * total[member]
    kept = piece > 0
    return (
        torch.cat([single, several[entry[kept]]]),
        torch.cat([point[atoms[single]], points[member[kept]]]),
        torch.cat([mass[single], piece[kept]]),
    )


def _ends(atoms: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Where each of some masses, in the order of their atoms, ends: as a share of its atom's.

    The last of an atom ends at one, exactly. And the mass of the atom, for each.
    """
    along = mass.cumsum(0)
    counts = torch.bincount(atoms)
    counts = counts[counts > 0]
    last = counts.cumsum(0) - 1
    start = torch.cat([along.new_zeros(1), along[last[:-1]]])[: last.numel()]
    total = along[last] - start
    total, start = (torch.repeat_interleave(z, counts) for z in (total, start))
    return (along - start) / torch.where(total > 0, total, 1.0), total
