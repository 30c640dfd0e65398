"""Anderson acceleration of a fixed-point iteration, for a batch of problems at once."""

import copy
import math

import torch
from torch import Tensor

RIDGE = 1e-10  # relative to the largest squared residual difference in memory
LEAP = 8.0


class Anderson:
    """Extrapolates g ← G(g) from the last few iterates.

    The next point is G(g_k) − Σ γ_i ΔG_i with γ the least-squares fit of the residual by its last
    differences, ``shortened`` where these are no more than rounding. An entry of the batch whose
    error has doubled since its best forgets its memory and goes on from the plain step at its best.

    Args:
        memory: How many differences are kept.
        weights: Weights of the residual's entries in the fit, shape (B, m).

    References:
        Walker & Ni (2011), "Anderson acceleration for fixed-point iterations", Algorithm AA.
    """

    def __init__(self, memory: int, weights: Tensor) -> None:
        batch, m = weights.shape
        self.weights = weights
        self.residuals = weights.new_zeros(batch, memory, m)  # the oldest is overwritten
        self.images = weights.new_zeros(batch, memory, m)
        self.gram = weights.new_zeros(batch, memory, memory)
        self.eye = torch.eye(memory, dtype=weights.dtype, device=weights.device)
        self.steps = 0
        self.last: tuple[Tensor, Tensor] | None = None
        self.best = weights.new_full((batch,), float("inf"))
        self.home = torch.zeros_like(weights)  # the plain step at each entry's best

    def entries(self, chosen: Tensor) -> "Anderson":
        """The same for some entries of the batch, by their places in it."""
        few = copy.copy(self)
        for name in ("weights", "residuals", "images", "gram", "best", "home"):
            setattr(few, name, getattr(self, name)[chosen])
        if self.last is not None:
            few.last = (self.last[0][chosen], self.last[1][chosen])
        return few

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
        last, self.last = self.last, (residual, image)
        right, plain = None, image
        if last is not None:
            change = image - last[1]
            right = self._remember(residual - last[0], change, residual)
        if bool(grown.any()):
            keep = (~grown).to(g.dtype)[:, None, None]
            for memory in (self.residuals, self.images, self.gram):
                memory *= keep
            right = None if right is None else right * keep
            image = torch.where(grown.unsqueeze(-1), self.home, image)
        if right is None:
            return image
        scale = self.gram.diagonal(dim1=-2, dim2=-1).amax(-1)[:, None, None]
        ridge = torch.where(scale > 0, RIDGE * scale, 1.0) * self.eye
        gamma = torch.linalg.solve(self.gram + ridge, right)
        ahead = -(gamma * self.images).sum(-2)
        moved = image + shortened(ahead, plain, change)
        if math.isfinite(float(moved.sum())):
            return moved
        return torch.where(moved.isfinite().all(-1, keepdim=True), moved, image)

    def _remember(self, change: Tensor, image_change: Tensor, residual: Tensor) -> Tensor:
        """Keep the last differences in place of the oldest.

        Returns:
            Products of all differences with the residual, shape (B, memory, 1).
        """
        slot = self.steps % self.gram.shape[-1]
        self.residuals[:, slot], self.images[:, slot] = change, image_change
        both = torch.stack([change, residual], -2) * self.weights.unsqueeze(-2)
        products = both @ self.residuals.mT
        self.gram[:, slot], self.gram[:, :, slot] = products[:, 0], products[:, 0]
        self.steps += 1
        return products[:, 1].unsqueeze(-1)


def shortened(ahead: Tensor, image: Tensor, change: Tensor) -> Tensor:
    """A step, shape (B, m), of at most ``LEAP`` times what an image spans and images move.

    What fits rounding is without bound, and potentials of 1e13 have no digits left to tell how far
    they are from the marginals. Images are soft minima of costs, so no optimum is that far.
    """
    low, high = torch.aminmax(image, dim=-1, keepdim=True)
    longest = LEAP * (high - low + change.abs().amax(-1, keepdim=True))
    length = ahead.abs().amax(-1, keepdim=True)
    return ahead * (longest / length.clamp_min(1e-300)).clamp(max=1.0)
