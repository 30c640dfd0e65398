"""What entropic transport solves: two measures, a cost, and the ranks that share the work."""

import contextlib
import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics.pairwise import LogSumExp, Total, reduce_pairs
from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.ranks import Sharded
from probmetrics.pairwise.threads import WORTH_SHARING, on_one_thread
from probmetrics.pairwise.tiled import fold
from probmetrics.pairwise.tiles import Pairs
from probmetrics.transport.rounding import working_precision

SHORT = 2**20  # pairs


@dataclass(frozen=True)
class EntropicProblem:
    """Move the measure a on x onto the measure b on y; the batch is flattened into one axis.

    Attributes:
        ground: A cost of the engine with numeric parameters.
        x: Embedded points, shape (B, n, d).
        y: Embedded points, shape (B, m, d), or x itself.
        a: Weights, float64, shape (B, n).
        b: Weights, float64, shape (B, m).
        ranks: Processes that hold the same problem and share the work of its passes.
    """

    ground: AbstractGround
    x: Tensor
    y: Tensor
    a: Tensor
    b: Tensor
    ranks: Sharded | None = None

    def gone_through(self) -> contextlib.AbstractContextManager[None]:
        """A context in which torch uses one thread where several would wait for each other.

        For a batch of problems that one core goes through sooner than several, and between the
        passes of a single one where points are too few to share; its passes go to all cores.
        """
        batch, n, d = self.x.shape
        m = self.y.shape[1]
        short = 1 < batch <= SHORT / (n * m)
        light = batch == 1 and (n + m) * d <= WORTH_SHARING
        return on_one_thread((short or light) and self.x.is_cpu, tasks=light)

    @property
    def kernel_bytes(self) -> int:
        """Size of the kernel between all points of all problems."""
        batch, n, _ = self.x.shape
        return batch * n * self.y.shape[1] * (8 if self.x.dtype == torch.float64 else 4)

    def transposed(self) -> "EntropicProblem":
        """The same problem from y to x."""
        return EntropicProblem(self.ground, self.y, self.x, self.b, self.a, self.ranks)

    def detached(self) -> "EntropicProblem":
        """The same problem without a graph."""
        x = self.x.detach()
        y = x if self.y is self.x else self.y.detach()
        a = self.a.detach()
        b = a if self.b is self.a else self.b.detach()
        return EntropicProblem(self.ground, x, y, a, b, self.ranks)

    def entry(self, k: int) -> "EntropicProblem":
        """The k-th problem of the batch."""
        one = slice(k, k + 1)
        x = self.x[one]
        y = x if self.y is self.x else self.y[one]
        return EntropicProblem(self.ground, x, y, self.a[one], self.b[one], self.ranks)

    def entries(self, chosen: Tensor) -> "EntropicProblem":
        """Some problems of the batch, by their places in it."""
        x = self.x[chosen]
        y = x if self.y is self.x else self.y[chosen]
        return dataclasses.replace(self, x=x, y=y, a=self.a[chosen], b=self.b[chosen])

    def pairs(self, epsilon: Tensor) -> Pairs:
        """All pairs, in the precision that ε asks for."""
        dtype = working_precision(self.ground, self.x, self.y, epsilon)
        x = self.x.to(dtype)
        return Pairs(self.ground, x, x if self.y is self.x else self.y.to(dtype))

    def softmin(self, g: Tensor, epsilon: Tensor) -> Tensor:
        """−ε log Σ_j b_j exp((g_j − C_ij)/ε), safely, shape (B, n): the row update at g."""
        pairs = self.pairs(epsilon)
        offset = self.b.log() + g / epsilon.unsqueeze(-1)
        found: Tensor = fold(pairs, LogSumExp(offset.to(pairs.dtype), -1.0 / epsilon))
        return -epsilon.unsqueeze(-1) * found.double()


def mean_cost(problem: EntropicProblem) -> Tensor:
    """Σ_ij a_i b_j C_ij over unit masses, shape (B,)."""
    a, b = (w / w.sum(-1, keepdim=True) for w in (problem.a, problem.b))
    x, y = problem.x.detach(), problem.y.detach()
    if type(problem.ground) is SqEuclidean:  # ‖E x − E y‖² + both variances, in n steps
        means, spreads = [], []
        for z, w in ((x, a), (y, b)):
            off = z - z[..., :1, :]  # an offset would cost the mean its digits
            mean = w.to(z.dtype).unsqueeze(-2) @ off
            off -= mean
            means.append((mean + z[..., :1, :]).squeeze(-2).double())
            spreads.append((w * torch.einsum("...d,...d->...", off, off).double()).sum(-1))
        return (means[0] - means[1]).square().sum(-1) + spreads[0] + spreads[1]
    total: Tensor = reduce_pairs(problem.ground, Total(a, b), x, y, backend="tiled")
    return total
