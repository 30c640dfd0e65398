"""Anderson acceleration of a fixed-point iteration, for a batch of problems at once."""

import torch
from torch import Tensor

RIDGE = 1e-10  # relative to the largest squared residual difference in memory


class Anderson:
    """Extrapolates g ← G(g) from the last few iterates.

    The next point is G(g_k) − Σ γ_i ΔG_i with γ the least-squares fit of the residual by its last
    differences. An entry of the batch whose error has doubled since its best forgets its memory
    and goes on from the plain step at its best.

    Args:
        memory: How many differences are kept.
        weights: Weights of the residual's entries in the fit, shape (B, m).

    References:
        Walker & Ni (2011), "Anderson acceleration for fixed-point iterations", Algorithm AA.
    """

    def __init__(self, memory: int, weights: Tensor) -> None:
        self.memory, self.weights = memory, weights
        self.residuals: list[Tensor] = []
        self.images: list[Tensor] = []
        self.last: tuple[Tensor, Tensor] | None = None
        self.best = weights.new_full((len(weights),), float("inf"))
        self.home = torch.zeros_like(weights)  # the plain step at each entry's best

    def step(self, g: Tensor, image: Tensor, error: Tensor) -> Tensor:
        """The next point.

        Args:
            g: Current point, shape (B, m).
            image: G(g).
            error: Error at g, shape (B,), for telling whether extrapolation still helps.
        """
        grown = error > 2.0 * self.best
        better = (error < self.best).unsqueeze(-1)
        self.best = torch.minimum(self.best, error)
        self.home = torch.where(better, image, self.home)
        residual = image - g
        if self.last is not None:
            self.residuals.append(residual - self.last[0])
            self.images.append(image - self.last[1])
            if len(self.residuals) > self.memory:
                self.residuals.pop(0)
                self.images.pop(0)
        self.last = (residual, image)
        if bool(grown.any()):
            keep = (~grown).to(g.dtype).unsqueeze(-1)
            self.residuals = [keep * difference for difference in self.residuals]
            self.images = [keep * difference for difference in self.images]
            image = torch.where(grown.unsqueeze(-1), self.home, image)
        if not self.residuals:
            return image
        differences = torch.stack(self.residuals, dim=-2)  # (B, k, m)
        weighted = differences * self.weights.unsqueeze(-2)
        gram = weighted @ differences.mT
        scale = gram.diagonal(dim1=-2, dim2=-1).amax(-1)[:, None, None]
        ridge = torch.where(scale > 0, RIDGE * scale, 1.0) * torch.eye(len(self.residuals)).to(gram)
        gamma = torch.linalg.solve(gram + ridge, weighted @ residual.unsqueeze(-1))
        moved = image - (gamma * torch.stack(self.images, dim=-2)).sum(-2)
        return torch.where(moved.isfinite().all(-1, keepdim=True), moved, image)
