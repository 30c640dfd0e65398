"""Variational autoencoders: Gaussian or Bernoulli decoders, β, free bits, flows; and IWAE."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.losses import (
    free_bits,
    gaussian_kl_terms,
    gaussian_log_density,
    importance_weighted_bound,
    reparameterised,
)
from probmetrics.models import nets
from probmetrics.models.base import (
    AbstractLatentModel,
    Batch,
    Objective,
    Seed,
    Shape,
    as_shape,
    sizes,
)
from probmetrics.models.likelihoods import AbstractLikelihood, named_likelihood
from probmetrics.models.posteriors import AbstractPosteriorFlow

Weight = float | Callable[[int], float]
AT_ONCE = 2**15  # codes decoded together when a likelihood is evaluated


class VAE(AbstractLatentModel):
    """Variational autoencoder: minimises −E log p(x | z) + β KL(q(z | x) ‖ N(0, I)).

    Args:
        encoder: Network from points to mean and log-variance, (n, 2 · latent), and the context of
            ``flow`` behind them, if there is one.
        decoder: Network from codes to the parameters of ``likelihood``.
        likelihood: "gaussian" (σ = 1), "gaussian one" or "gaussian each" (learned σ),
            "bernoulli", or an ``AbstractLikelihood``.
        beta: β, or a schedule step → β.
        free: Nats each coordinate's KL is free to use (closed-form posteriors only).
        flow: Bends the Gaussian posterior; its KL is then estimated from the draws.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.

    Example:
        >>> model = VAE.build(8, latent=2, likelihood="bernoulli")
        >>> model.sample(3, generator=0).shape, model.log_likelihood(torch.zeros(4, 8)).shape
        (torch.Size([3, 8]), torch.Size([4]))

    Notes:
        With affine networks and a learned common σ the optimum is probabilistic PCA.

    References:
        Kingma & Welling (2014); Rezende, Mohamed & Wierstra (2014); Higgins et al. (2017), "β-VAE".
    """

    samples = 1

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        likelihood: str | AbstractLikelihood = "gaussian",
        beta: Weight = 1.0,
        free: float = 0.0,
        flow: AbstractPosteriorFlow | None = None,
        shape: Shape | None = None,
        latent: int | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.latent = sizes(decoder, shape, latent)
        self.encoder, self.decoder, self.flow = encoder, decoder, flow
        self.likelihood = named_likelihood(likelihood, self.shape)
        self.beta = beta if callable(beta) else checks.real(beta, "beta")
        self.free = checks.real(free, "free")
        if self.free and flow is not None:
            raise ValueError("free bits need a closed-form KL; leave free or flow out")

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        latent: int = 8,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        likelihood: str | AbstractLikelihood = "gaussian",
        beta: Weight = 1.0,
        free: float = 0.0,
        flow: AbstractPosteriorFlow | None = None,
        **options: int,
    ) -> "VAE":
        """With fully connected networks, or convolutional ones of that ``width``."""
        outputs = 2 * checks.count(latent, "latent") + (0 if flow is None else flow.context)
        return cls(
            nets.encoder(shape, outputs, hidden=hidden, width=width),
            nets.decoder(latent, shape, hidden=hidden, width=width),
            likelihood=likelihood,
            beta=beta,
            free=free,
            flow=flow,
            shape=shape,
            latent=latent,
            **options,
        )

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, log-variance and context of q(z | x), shapes (n, latent) twice and (n, c)."""
        answer = self.encoder(x)
        context = answer.shape[-1] - 2 * self.latent
        if context != (0 if self.flow is None else self.flow.context):
            raise ValueError(
                f"the encoder gives {answer.shape[-1]} numbers per point, wanted 2 · "
                f"{self.latent} for mean and log-variance"
                + ("" if self.flow is None else f" and {self.flow.context} of context")
            )
        mean, log_variance, context_values = answer.split(
            [self.latent, self.latent, context], dim=-1
        )
        return mean, log_variance, context_values

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means of the codes (before a flow), shape (n, latent)."""
        return self.posterior(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Expected points given codes, shape (n, *shape)."""
        return self.likelihood.mean(self.decoder(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Expected points at the posterior means."""
        z, _, context = self.posterior(x)
        return self.decode(z if self.flow is None else self.flow(z, context)[0])

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        generator: Seed = None,
        truncation: float | None = None,
        temperature: float = 1.0,
        noisy: bool = False,
    ) -> Tensor:
        """New points, shape (n, *shape): expected ones, or drawn with the decoder's noise."""
        source = checks.generator(generator, self.device)
        z = self.noise(n, generator=source, truncation=truncation, temperature=temperature)
        output = self.decoder(z)
        return self.likelihood.draw(output, source) if noisy else self.likelihood.mean(output)

    def log_weights(self, x: Tensor, samples: int, generator: Seed = None) -> Tensor:
        """log p(x, z_i) − log q(z_i | x) for draws z_i of the posterior, shape (samples, n)."""
        mean, log_variance, context = self.posterior(x)
        z = reparameterised(mean, log_variance, samples=samples, generator=generator)
        log_q = gaussian_log_density(z, mean, log_variance)
        if self.flow is not None:
            z, log_det = self.flow(z, context)
            log_q = log_q - log_det
        log_prior = gaussian_log_density(z, torch.zeros_like(z))
        return self._explained(x, z) + log_prior - log_q

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, *, samples: int = 64, generator: Seed = None) -> Tensor:
        """Importance-weighted lower bound of log p(x) in nats, shape (n,); tighter with samples."""
        x = self.likelihood.check(self.points(x))
        source = checks.generator(generator, self.device)
        left = checks.count(samples, "samples")
        most = max(1, AT_ONCE // max(len(x), 1))
        parts = []
        while left:
            parts.append(self.log_weights(x, min(left, most), source))
            left -= len(parts[-1])
        return importance_weighted_bound(torch.cat(parts))

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """The negative bound, in nats per point."""
        x = self.likelihood.check(batch.x)
        beta = self.beta(batch.step) if callable(self.beta) else self.beta
        mean, log_variance, context = self.posterior(x)
        z = reparameterised(mean, log_variance, generator=generator)
        if self.flow is None:
            kl = free_bits(gaussian_kl_terms(mean, log_variance), self.free)
        else:
            log_q = gaussian_log_density(z, mean, log_variance)
            z, log_det = self.flow(z, context)
            kl = (log_q - log_det - gaussian_log_density(z, torch.zeros_like(z))).mean()
        return beta * kl - self._explained(x, z).mean()

    def objectives(self) -> list[Objective]:
        return [Objective("bound", list(self.parameters()), self.loss)]

    def _explained(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) for codes (*samples, n, latent), shape (*samples, n)."""
        output = self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])
        return self.likelihood.log_density(x, output, len(self.shape))


class IWAE(VAE):
    """Importance-weighted autoencoder: a VAE trained on the bound with k samples.

    Args:
        encoder: As in ``VAE``.
        decoder: As in ``VAE``.
        samples: k; 1 is the VAE, with its KL estimated.
        likelihood: As in ``VAE``.
        flow: As in ``VAE``.
        shape: Shape of one point; read off the network if None.
        latent: Coordinates of a code; read off the network if None.

    Example:
        >>> model = IWAE.build(8, latent=2, samples=5)
        >>> model.loss(Batch(torch.zeros(4, 8)), 0).ndim
        0

    References:
        Burda, Grosse & Salakhutdinov (2016), "Importance weighted autoencoders", eq. 8.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        samples: int = 5,
        likelihood: str | AbstractLikelihood = "gaussian",
        beta: Weight = 1.0,
        free: float = 0.0,
        flow: AbstractPosteriorFlow | None = None,
        shape: Shape | None = None,
        latent: int | None = None,
    ) -> None:
        if callable(beta) or beta != 1.0 or free != 0.0:
            raise ValueError("the importance-weighted bound has no separate KL: no beta, no free")
        super().__init__(
            encoder, decoder, likelihood=likelihood, flow=flow, shape=shape, latent=latent
        )
        self.samples = checks.count(samples, "samples")

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        x = self.likelihood.check(batch.x)
        return -importance_weighted_bound(self.log_weights(x, self.samples, generator)).mean()


def bits_per_dimension(log_density: Tensor, shape: Shape) -> Tensor:
    """−log₂ p(x) per coordinate, from nats per point."""
    return -log_density / (math.log(2.0) * math.prod(as_shape(shape)))
