"""Limited-memory quasi-Newton ascent on the semi-dual, for ε so fine that passes crawl."""

import torch
from torch import Tensor

MEMORY = 10
ARMIJO = 1e-4
SHRINKS = 12  # halvings of a step before it is taken as it is


class QuasiNewton:
    """Directions of ascent for a concave function of g, for a batch of problems at once.

    The inverse Hessian starts from a diagonal, ε / b, whose step is Sinkhorn's own update to
    first order, and learns from the last few steps.

    Args:
        diagonal: Initial inverse Hessian, shape (B, m).

    References:
        Nocedal & Wright (2006), "Numerical optimization", Algorithm 7.4.
    """

    def __init__(self, diagonal: Tensor) -> None:
        self.diagonal = diagonal
        self.steps: list[Tensor] = []
        self.changes: list[Tensor] = []
        self.curvatures: list[Tensor] = []  # ⟨step, change⟩, shape (B, 1)

    def direction(self, gradient: Tensor) -> Tensor:
        """Inverse Hessian times gradient, shape (B, m)."""
        q = gradient.clone()
        factors = []
        memory = list(zip(self.steps, self.changes, self.curvatures, strict=True))
        for s, y, sy in reversed(memory):
            alpha = (s * q).sum(-1, keepdim=True) / sy
            factors.append(alpha)
            q = q - alpha * y
        q = q * self.diagonal
        if memory:
            _, y, sy = memory[-1]
            q = q * (sy / (y.square() * self.diagonal).sum(-1, keepdim=True))
        for (s, y, sy), alpha in zip(memory, reversed(factors), strict=True):
            beta = (y * q).sum(-1, keepdim=True) / sy
            q = q + (alpha - beta) * s
        return q

    def learn(self, step: Tensor, change: Tensor) -> None:
        """Remember a step and the fall of the gradient along it, where the curvature shows."""
        curvature = (step * change).sum(-1, keepdim=True)
        size = (change.square() * self.diagonal).sum(-1, keepdim=True)
        sound = curvature > 1e-14 * size
        if not self.steps and not bool(sound.all()):
            return
        kept = (self.steps, self.changes, self.curvatures)
        for memory, new in zip(kept, (step, change, curvature), strict=True):
            # An entry without curvature information repeats its last pair, which is harmless.
            memory.append(torch.where(sound, new, memory[-1]) if memory else new)
        if len(self.steps) > MEMORY:
            for memory in kept:
                memory.pop(0)
