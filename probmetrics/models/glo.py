"""Generative latent optimisation: a decoder and one code per training point, learned together."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.models import nets
from probmetrics.models.autoencoders import squared_error
from probmetrics.models.base import (
    AbstractLatentModel,
    Batch,
    Objective,
    Seed,
    Shape,
    as_shape,
)


class GLO(AbstractLatentModel):
    """min over θ and z₁ … z_n of mean cost(x_i, G_θ(z_i)), with codes in the unit ball.

    Samples decode draws of the Gaussian fitted to the codes. With an affine decoder and free codes
    (``ball=False``) the optimum is the truncated singular value decomposition.

    Args:
        decoder: Network from codes to points.
        points: n, how many training points have a code; train it on a tensor of that many.
        cost: (x, G(z)) → cost per point; ‖x − G(z)‖² by default.
        ball: Keep codes in the unit ball, as in the paper.
        rate: Learning rate of the codes, as a multiple of the decoder's.
        shape: Shape of one point.
        latent: Coordinates of a code.

    Example:
        >>> model = GLO.build(8, points=20, latent=2)
        >>> model.sample(3, generator=0).shape
        torch.Size([3, 8])

    References:
        Bojanowski et al. (2018), "Optimizing the latent space of generative networks".
    """

    def __init__(
        self,
        decoder: nn.Module,
        *,
        points: int,
        cost: Callable[[Tensor, Tensor], Tensor] | None = None,
        ball: bool = True,
        rate: float = 10.0,
        shape: Shape,
        latent: int,
    ) -> None:
        super().__init__()
        self.shape = as_shape(shape)
        self.latent = checks.count(latent, "latent")
        self.decoder = decoder
        self.cost = squared_error if cost is None else cost
        self.ball = ball
        self.rate = checks.positive(rate, "rate")
        start = torch.randn(checks.count(points, "points"), latent) / latent**0.5
        self.codes = nn.Parameter(self._inside(start))

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        points: int,
        latent: int = 8,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        ball: bool = True,
        rate: float = 10.0,
    ) -> "GLO":
        """With a fully connected decoder, or a convolutional one of that ``width``."""
        network = nets.decoder(latent, shape, hidden=hidden, width=width)
        return cls(network, points=points, ball=ball, rate=rate, shape=shape, latent=latent)

    def decode(self, z: Tensor) -> Tensor:
        points: Tensor = self.decoder(z)
        return points

    @torch.no_grad()
    def noise(
        self,
        n: int,
        *,
        generator: Seed = None,
        truncation: float | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Codes drawn from the Gaussian fitted to those of the training points."""
        plain = super().noise(
            n, generator=generator, truncation=truncation, temperature=temperature
        )
        mean = self.codes.mean(0)
        if len(self.codes) < 2:
            return mean + 0.0 * plain
        _, scale, axes = torch.linalg.svd(self.codes - mean, full_matrices=False)
        spread = scale / (len(self.codes) - 1) ** 0.5
        drawn: Tensor = (plain[:, : len(scale)] * spread) @ axes
        return mean + drawn

    def reconstruct(self, index: Tensor) -> Tensor:
        """What the training points of these rows have become."""
        return self.decode(self.codes[index])

    def encode(self, x: Tensor, *, steps: int = 200, learning_rate: float = 0.05) -> Tensor:
        """Codes of new points, found by descent from the mean code, shape (n, latent)."""
        x = self.points(x)
        z = self.codes.detach().mean(0).repeat(len(x), 1).requires_grad_()
        optimizer = torch.optim.Adam([z], lr=checks.positive(learning_rate, "learning_rate"))
        with torch.enable_grad():
            for _ in range(checks.count(steps, "steps")):
                optimizer.zero_grad()
                self.cost(x, self.decode(z)).sum().backward(inputs=[z])
                optimizer.step()
                with torch.no_grad():
                    z.copy_(self._inside(z))
        return z.detach()

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """The mean cost of the batch at its own codes."""
        if batch.index is None:
            raise ValueError("GLO keeps a code per training point: train it on a tensor (n, …)")
        if checks.readable(batch.index) and int(batch.index.max()) >= len(self.codes):
            raise ValueError(
                f"the data have more points than the {len(self.codes)} this GLO was made for; "
                "pass points=len(x)"
            )
        return self.cost(batch.x, self.decode(self.codes[batch.index])).mean()

    @torch.no_grad()
    def project(self, batch: Batch) -> None:
        """Put the codes back into the unit ball."""
        self.codes.copy_(self._inside(self.codes))

    def objectives(self) -> list[Objective]:
        return [
            Objective("decoder", list(self.decoder.parameters()), self.loss),
            Objective("codes", [self.codes], self.loss, rate=self.rate, after=self.project),
        ]

    def _inside(self, z: Tensor) -> Tensor:
        if not self.ball:
            return z
        length: Tensor = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
        return z / length.clamp(min=1.0)
