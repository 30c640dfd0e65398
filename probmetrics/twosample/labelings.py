"""The labelings under which a pooled sample is exchangeable: counted, enumerated, drawn."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import chain, combinations

import numpy as np
import torch
from torch import Tensor

# Labelings are drawn in blocks whose size depends on the pooled sample alone, so that neither the
# memory budget nor the number of threads can change which labelings a seed gives.
BLOCK = 2**22  # uniforms per block


@dataclass(frozen=True, eq=False)
class Labelings:
    """All ways to hand the observed labels to the pooled points, within strata.

    A labeling is a vector of group numbers, ``uint8``, one per pooled point. Without strata these
    are all N!/Πn_g! arrangements of the observed labels; with strata, the products of the
    arrangements within each stratum. Pairs are strata of two points with one label of each kind.

    Attributes:
        observed: Group number of each pooled point, shape (N,), ``uint8``.
        strata: Stratum of each pooled point, 0, 1, …, shape (N,), ``int64``; ``None`` for one.
        paired: The points i and i + N/2 form pair i, and labels are exchanged within pairs only.
    """

    observed: Tensor
    strata: Tensor | None = None
    paired: bool = False

    @property
    def points(self) -> int:
        """Size N of the pooled sample."""
        return len(self.observed)

    @cached_property
    def counts(self) -> np.ndarray:
        """How many points of each group each stratum holds, shape (strata, groups)."""
        labels = self.observed.numpy()
        groups = int(labels.max()) + 1
        stratum = np.zeros(self.points, dtype=np.int64)
        if self.strata is not None:
            stratum = self.strata.numpy()
        flat = np.bincount(stratum * groups + labels, minlength=(stratum.max() + 1) * groups)
        return flat.reshape(-1, groups)

    @cached_property
    def total(self) -> int | float:
        """The number of labelings; infinity where it exceeds 10^15."""
        if self.paired:
            return 2 ** (self.points // 2) if self.points <= 100 else math.inf
        from scipy.special import gammaln

        counts = self.counts
        logarithm = (gammaln(counts.sum(1) + 1) - gammaln(counts + 1).sum(1)).sum()
        if logarithm > math.log(1e15):
            return math.inf
        return math.prod(_multinomial(row.tolist()) for row in counts)

    def enumerate(self) -> Iterator[Tensor]:
        """Every labeling once, in blocks of shape (rows, N)."""
        tables = []
        for stratum, places in enumerate(self._places()):
            counts = [1, 1] if self.paired else self.counts[stratum].tolist()
            tables.append((places, _arrangements(counts)))
        sizes = [len(rows) for _, rows in tables]
        step = max(1, BLOCK // self.points)
        for start in range(0, math.prod(sizes), step):
            index = np.arange(start, min(start + step, math.prod(sizes)))
            labels = np.empty((len(index), self.points), dtype=np.uint8)
            for (places, rows), choice in zip(tables, np.unravel_index(index, sizes), strict=True):
                labels[:, places] = rows[choice]
            yield torch.from_numpy(labels)

    def draw(self, generator: torch.Generator, count: int) -> Iterator[Tensor]:
        """``count`` independent uniform labelings, in blocks of shape (rows, N).

        The first labelings of a longer run are those of a shorter one.
        """
        step = max(1, BLOCK // self.points)
        for start in range(0, count, step):
            yield self._draw(generator, min(step, count - start))

    def _draw(self, generator: torch.Generator, rows: int) -> Tensor:
        device = generator.device
        observed = self.observed.to(device)
        columns = self.points // 2 if self.paired else self.points
        keys = torch.rand(rows, columns, generator=generator, dtype=torch.float64, device=device)
        if self.paired:
            # Both labels of a swapped pair turn: 0 ⊕ 1 = 1 and 1 ⊕ 1 = 0.
            swap = (keys < 0.5).view(torch.uint8)
            labels = torch.empty(rows, 2 * columns, dtype=torch.uint8, device=device)
            torch.bitwise_xor(observed[:columns], swap, out=labels[:, :columns])
            torch.bitwise_xor(observed[columns:], swap, out=labels[:, columns:])
            return labels
        sizes = self.counts.sum(0)
        lead = int(observed[0])  # the group the topmost keys go to
        if self.strata is None and (sizes > 0).sum() == 2:
            chosen = keys.topk(int(sizes[lead]), dim=-1, sorted=False).indices
            other = next(g for g, size in enumerate(sizes) if size > 0 and g != lead)
            return torch.full(keys.shape, other, dtype=torch.uint8, device=device).scatter_(
                -1, chosen, lead
            )
        # Sorting stratum + uniform shuffles each stratum in place; the labels of the stratum, in
        # any fixed order, then fall on its points at random.
        strata = torch.zeros(self.points, dtype=torch.int64, device=device)
        if self.strata is not None:
            strata = self.strata.to(device)
        template = observed[strata.argsort(stable=True)]
        order = (strata + keys).argsort(dim=-1)
        return torch.empty_like(order, dtype=torch.uint8).scatter_(
            -1, order, template.expand(rows, -1)
        )

    def _places(self) -> list[np.ndarray]:
        if self.paired:
            half = self.points // 2
            return [np.array([i, i + half]) for i in range(half)]
        if self.strata is None:
            return [np.arange(self.points)]
        strata = self.strata.numpy()
        return [np.flatnonzero(strata == s) for s in range(len(self.counts))]


def _multinomial(counts: list[int]) -> int:
    """Number of arrangements of a multiset with these multiplicities."""
    return reduce(
        lambda product, k: product * math.comb(sum(counts[: k + 1]), counts[k]),
        range(len(counts)),
        1,
    )


def _arrangements(counts: list[int]) -> np.ndarray:
    """Every arrangement of ``counts[g]`` copies of each g, shape (arrangements, sum(counts))."""
    points = sum(counts)
    groups = [g for g, size in enumerate(counts) if size > 0]
    if len(groups) <= 1:
        return np.full((1, points), groups[0] if groups else 0, dtype=np.uint8)
    first, size = groups[0], counts[groups[0]]
    inner = _arrangements([0 if g == first else c for g, c in enumerate(counts)])
    chosen = np.fromiter(
        chain.from_iterable(combinations(range(points), size)), dtype=np.int64
    ).reshape(-1, size)
    mine = np.zeros((len(chosen), points), dtype=bool)
    np.put_along_axis(mine, chosen, True, axis=1)
    labels = np.full((len(chosen), len(inner), points), first, dtype=np.uint8)
    rest = np.nonzero(~mine)[1].reshape(len(chosen), 1, -1)
    np.put_along_axis(labels, np.broadcast_to(rest, (len(chosen), *inner.shape)), inner[None], 2)
    return labels.reshape(-1, points)
