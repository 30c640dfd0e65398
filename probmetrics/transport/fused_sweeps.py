"""Passes of Sinkhorn by the fused kernels: no block of the matrix leaves the registers of a GPU."""

import torch
from torch import Tensor

from probmetrics.pairwise.fused import reduce_fused, unavailable
from probmetrics.pairwise.fused_forms import fused_forms
from probmetrics.pairwise.fused_launch import DIRECT, Plan, Samples
from probmetrics.pairwise.reductions import LogSumExp
from probmetrics.transport.marginals import Update
from probmetrics.transport.sweeps import LOG2E, EntropicProblem, Sweeper


def why_not_fused(problem: EntropicProblem) -> str | None:
    """Why the passes of a problem cannot be fused; None if they can."""
    if problem.ranks is not None:
        return "ranks share passes over tiles"
    return unavailable(problem.ground, LogSumExp(), problem.x)


def fused_sweeper(problem: EntropicProblem, epsilon: Tensor, backend: str) -> "FusedSweeper | None":
    """A sweeper by the fused kernels where that was asked for, or "auto" takes it to pay."""
    if backend == "fused":
        return FusedSweeper(problem, epsilon)
    if backend != "auto" or not problem.x.is_cuda or why_not_fused(problem) is not None:
        return None
    made = FusedSweeper(problem, epsilon)
    # float64 has no fused product: its differences pay in few coordinates only
    return made if made.dtype == torch.float32 or made.pairs.d <= DIRECT else None


class FusedSweeper(Sweeper):
    """Two log-sum-exps per pass: rows at g, then columns at the f found.

    The columns need the rows' sums, so that one visit cannot serve both unless the tile is kept;
    the exponentials are made twice instead, and the memory is linear.

    Args:
        problem: What to solve; its ground has a fused form.
        epsilon: ε per batch entry, float64, shape (B,).
    """

    def __init__(self, problem: EntropicProblem, epsilon: Tensor) -> None:
        super().__init__(problem, epsilon, kept=False)
        self.formed = True  # moments need no other preparation

    def sweep(self, f: Tensor, g: Tensor, update: Update) -> tuple[Tensor, Tensor, Tensor]:
        """As in ``Sweeper``."""
        raw = self.rows(g, f)
        new = update(raw)
        eps = self.epsilon.unsqueeze(-1)
        p = self.problem
        log_c = (g - self._softmin(p.y, p.x, p.a, new)) / eps
        log_r = torch.zeros_like(raw) if new is raw else (new - raw) / eps
        return new, log_r, log_c

    def rows(self, g: Tensor, f: Tensor) -> Tensor:
        """As in ``Sweeper``; no guess is needed."""
        p = self.problem
        return self._softmin(p.x, p.y, p.b, g)

    def own_rows(self, f: Tensor) -> Tensor:
        """As in ``Sweeper``."""
        return self.rows(f, f)

    def entries(self, chosen: Tensor) -> "FusedSweeper":
        """As in ``Sweeper``."""
        return FusedSweeper(self.problem.entries(chosen), self.epsilon[chosen])

    def moments(
        self, f: Tensor, g: Tensor, rows: bool, columns: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """As in ``Sweeper``: weighted sums under the plan."""
        p, pairs = self.problem, self.pairs
        (form,) = fused_forms(p.ground, pairs.d)
        x, y = p.x.to(self.dtype), p.y.to(self.dtype)
        samples = Samples(form, x, x if pairs.same else y)
        scales = -LOG2E * form.factor / self.epsilon
        exponents = [
            (w.log2() + LOG2E * z / self.epsilon.unsqueeze(-1)).to(self.dtype).contiguous()
            for w, z in ((p.a, f), (p.b, g))
        ]
        plan = Plan(exponents[0], exponents[1], scales.to(self.dtype).contiguous())
        left = self._load_of(pairs.u[..., : pairs.d] * (-0.5 / pairs.rate)).mT
        right = self._load_of(pairs.v[..., : pairs.d]).mT
        return (
            samples.weighted_sum(right, plan).mT if rows else None,
            samples.swapped().weighted_sum(left, plan.swapped()).mT if columns else None,
        )

    def _softmin(self, x: Tensor, y: Tensor, weights: Tensor, g: Tensor) -> Tensor:
        """−ε log Σ_j w_j exp((g_j − C_ij)/ε), shape (B, n)."""
        eps = self.epsilon.unsqueeze(-1)
        reading = LogSumExp((weights.log() + g / eps).to(self.dtype), -1.0 / self.epsilon)
        left = x.to(self.dtype)
        right = left if y is x else y.to(self.dtype)
        found: Tensor = reduce_fused(self.problem.ground, reading, left, right, x.shape[:1])
        return -eps * found.double()
