"""Adversarial losses whose critic gives an energy: EBGAN with its repelling term, and BEGAN."""

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.losses.precision import averaged, wide


class EBGANLoss(nn.Module):
    """Losses of an energy-based GAN on the critic's energies D ≥ 0 (reconstruction errors).

    Critic: E D(x) + E [margin − D(y)]₊; generator: E D(y).

    Args:
        margin: m. At P = Q the critic's best value is m.

    Example:
        >>> loss = EBGANLoss(margin=2.0)
        >>> loss.critic(torch.tensor([0.5]), torch.tensor([1.5])).item()
        1.0

    References:
        Zhao, Mathieu & LeCun (2017), "Energy-based generative adversarial networks", eqs. 1, 2.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = checks.positive(margin, "margin")

    def critic(self, energy_x: Tensor, energy_y: Tensor) -> Tensor:
        """What the critic minimises, from the energies of data and of generated points."""
        energy_x, energy_y = _energies(energy_x, energy_y)
        return energy_x.mean() + torch.relu(self.margin - energy_y).mean()

    def generator(self, energy_y: Tensor) -> Tensor:
        """What the generator minimises."""
        return averaged(energy_y, "energy_y").mean()

    def extra_repr(self) -> str:
        return f"margin={self.margin}"


def pulling_away(codes: Tensor) -> Tensor:
    """Mean squared cosine between the codes of different points of a batch.

    Σ_{i≠j} (cos(s_i, s_j))² / (n (n − 1)): 0 for orthogonal codes, 1 for parallel ones. The
    diagonal is left out.

    Args:
        codes: The critic's codes of generated points, shape (n, …), n ≥ 2.

    Raises:
        ValueError: Fewer than two points.

    Example:
        >>> pulling_away(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).item()
        0.0

    Notes:
        O(n² k) for codes of size k. A code that is zero has cosine zero and gradient zero.

    References:
        Zhao, Mathieu & LeCun (2017), eq. 4.
    """
    flat = wide(checks.sample(codes.flatten(1), minimum=2, name="codes"))
    squared = flat.square().sum(-1, keepdim=True)
    unit = flat * torch.where(squared != 0, squared, 1.0).rsqrt()
    cosine = unit @ unit.mT
    n = len(flat)
    return (cosine.square().sum() - cosine.diagonal().square().sum()) / (n * (n - 1))


class BEGANLoss(nn.Module):
    """Losses of a boundary-equilibrium GAN, with the balance k that keeps the game even.

    Critic: L(x) − k L(y); generator: L(y); after each step k ← k + λ (γ L(x) − L(y)), kept in
    [0, 1], where L is the mean energy (reconstruction error). k is a buffer, saved with the loss.

    Args:
        diversity: γ in (0, 1]: the ratio L(y) / L(x) at equilibrium.
        rate: λ.

    Example:
        >>> loss = BEGANLoss(diversity=0.5, rate=0.1)
        >>> x, y = torch.tensor([2.0]), torch.tensor([0.5])
        >>> round(loss.update(x, y).item(), 4), round(loss.balance.item(), 4)
        (2.5, 0.05)

    References:
        Berthelot, Schumm & Metz (2017), "BEGAN", section 3.4.
    """

    balance: Tensor

    def __init__(self, diversity: float = 0.5, *, rate: float = 1e-3) -> None:
        super().__init__()
        self.diversity = checks.positive(diversity, "diversity")
        if self.diversity > 1:
            raise ValueError(f"diversity must be at most 1, got {diversity}")
        self.rate = checks.positive(rate, "rate")
        self.register_buffer("balance", torch.zeros(()))

    def critic(self, energy_x: Tensor, energy_y: Tensor) -> Tensor:
        """What the critic minimises at the present balance."""
        energy_x, energy_y = _energies(energy_x, energy_y)
        return energy_x.mean() - self.balance * energy_y.mean()

    def generator(self, energy_y: Tensor) -> Tensor:
        """What the generator minimises."""
        return averaged(energy_y, "energy_y").mean()

    @torch.no_grad()
    def update(self, energy_x: Tensor, energy_y: Tensor) -> Tensor:
        """Move the balance by one step; the convergence measure L(x) + |γ L(x) − L(y)|."""
        energy_x, energy_y = _energies(energy_x, energy_y)
        gap = self.diversity * energy_x.mean() - energy_y.mean()
        self.balance.add_(self.rate * gap.to(self.balance)).clamp_(0.0, 1.0)
        return energy_x.mean() + gap.abs()

    def extra_repr(self) -> str:
        return f"diversity={self.diversity}, rate={self.rate}"


def _energies(energy_x: Tensor, energy_y: Tensor) -> tuple[Tensor, Tensor]:
    return averaged(energy_x, "energy_x"), averaged(energy_y, "energy_y")
