"""Flows that bend a Gaussian posterior: planar and inverse autoregressive layers."""

import abc
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid, softplus

from probmetrics import _checks as checks


class AbstractPosteriorFlow(nn.Module, abc.ABC):
    """z ↦ (z′, log|det ∂z′/∂z|), given a context vector per point.

    Attributes:
        context: Coordinates the encoder gives besides mean and log-variance.
    """

    context: int

    @abc.abstractmethod
    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (*samples, n, d) with context (n, c) to bent codes and log-determinants."""


class PlanarFlow(AbstractPosteriorFlow):
    """Planar layers, z′ = z + û tanh(w·z + b), with û, w, b read off the context.

    û = u + (softplus(w·u) − 1 − w·u) w/‖w‖² keeps w·û > −1, so that the layer is invertible.

    Args:
        latent: Coordinates of a code.
        layers: How many.
        context: Coordinates of the context.

    Example:
        >>> flow = PlanarFlow(2, layers=3, context=4)
        >>> z, log_det = flow(torch.zeros(5, 2), torch.zeros(5, 4))
        >>> z.shape, log_det.shape
        (torch.Size([5, 2]), torch.Size([5]))

    References:
        Rezende & Mohamed (2015), "Variational inference with normalizing flows", eqs. 10-12 and
        appendix A.1.
    """

    def __init__(self, latent: int, *, layers: int = 4, context: int = 16) -> None:
        super().__init__()
        self.latent = checks.count(latent, "latent")
        self.layers = checks.count(layers, "layers")
        self.context = checks.count(context, "context")
        self.read = nn.Linear(context, layers * (2 * latent + 1))

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(z.shape[:-1])
        for part in self.read(context).chunk(self.layers, dim=-1):
            u, w, b = part.split([self.latent, self.latent, 1], dim=-1)
            along = (w * u).sum(-1, keepdim=True)
            length = w.square().sum(-1, keepdim=True)
            safe = torch.where(length > 0, length, 1.0)
            u = u + (softplus(along) - 1 - along) * w / safe
            turn = torch.tanh((w * z).sum(-1, keepdim=True) + b)
            slope = (1 - turn.square()) * (w * u).sum(-1, keepdim=True)
            total = total + torch.log1p(slope).squeeze(-1)
            z = z + u * turn
        return z, total


class InverseAutoregressiveFlow(AbstractPosteriorFlow):
    """Inverse autoregressive layers, z′ = σ ⊙ z + (1 − σ) ⊙ m with (m, log σ) masked in z.

    Coordinate j of m and σ depends on z_1 … z_{j−1} and the context; between layers the order of
    coordinates is reversed. log|det| = Σ_j log σ_j.

    Args:
        latent: Coordinates of a code.
        layers: How many.
        context: Coordinates of the context.
        hidden: Width of the hidden layer of each masked network.

    Example:
        >>> flow = InverseAutoregressiveFlow(3, context=2)
        >>> z, log_det = flow(torch.zeros(5, 3), torch.zeros(5, 2))
        >>> z.shape, log_det.shape
        (torch.Size([5, 3]), torch.Size([5]))

    References:
        Kingma et al. (2016), "Improved variational inference with inverse autoregressive flow",
        algorithm 1; Germain et al. (2015), "MADE", for the masks.
    """

    def __init__(
        self, latent: int, *, layers: int = 2, context: int = 16, hidden: int = 64
    ) -> None:
        super().__init__()
        self.latent = checks.count(latent, "latent")
        self.context = checks.count(context, "context")
        self.steps = nn.ModuleList(
            _MaskedNetwork(latent, context, checks.count(hidden, "hidden"))
            for _ in range(checks.count(layers, "layers"))
        )

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(z.shape[:-1])
        for step in self.steps:
            shift, gate = step(z, context)
            share = torch.sigmoid(gate)
            z = share * z + (1 - share) * shift
            total = total + logsigmoid(gate).sum(-1)
            z = z.flip(-1)
        return z, total


class _MaskedNetwork(nn.Module):
    """One hidden layer whose j-th outputs see coordinates before j only."""

    into: Tensor
    out: Tensor

    def __init__(self, latent: int, context: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(latent, hidden)
        self.given = nn.Linear(context, hidden, bias=False)
        self.second = nn.Linear(hidden, 2 * latent)
        degrees = torch.arange(hidden) % max(latent - 1, 1)  # a unit of degree k sees z_0 … z_k
        inputs = torch.arange(latent)
        # With one coordinate there is nothing before it: the units see the context alone.
        sees = degrees[:, None] >= inputs[None, :] if latent > 1 else torch.zeros(hidden, 1)
        feeds = inputs[:, None] > degrees[None, :] if latent > 1 else torch.ones(1, hidden)
        self.register_buffer("into", sees.to(torch.get_default_dtype()))
        self.register_buffer("out", feeds.repeat(2, 1).to(torch.get_default_dtype()))
        with torch.no_grad():  # begin near the identity: open gates
            self.second.weight.mul_(0.1)
            self.second.bias.zero_()
            self.second.bias[latent:] = 2.0

    def forward(self, z: Tensor, context: Tensor) -> Sequence[Tensor]:
        """(m, gate) before the sigmoid."""
        hidden = linear(z, self.first.weight * self.into, self.first.bias) + self.given(context)
        return linear(torch.tanh(hidden), self.second.weight * self.out, self.second.bias).chunk(
            2, dim=-1
        )
