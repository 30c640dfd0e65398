"""Two-level hierarchical VAE whose lower posterior is a correction of its prior."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.losses import (
    gaussian_kl_terms,
    gaussian_log_density,
    importance_weighted_bound,
    reparameterised,
    residual_kl,
)
from probmetrics.models import nets
from probmetrics.models.base import (
    AbstractLatentModel,
    Batch,
    Objective,
    Seed,
    Shape,
    as_shape,
)
from probmetrics.models.likelihoods import AbstractLikelihood, named_likelihood


class HierarchicalVAE(AbstractLatentModel):
    """p(z₂) = N(0, I), p(z₁ | z₂) = N(μ(z₂), σ²(z₂)), p(x | z₁), with residual posteriors.

    q(z₂ | x) is Gaussian; q(z₁ | x, z₂) = N(μ + σ s, σ² e^r) with the shift s and log-ratio r read
    off (x, z₂), so that a posterior that has nothing to say costs nothing. The loss is
    −E log p(x | z₁) + β (KL₂ + KL₁), each in closed form.

    Args:
        top: Network from points to mean and log-variance of z₂, (n, 2 · latent).
        prior: Network from z₂ to mean and log-variance of z₁, (n, 2 · lower).
        residual: Network from (flattened point, z₂) to s and r, (n, 2 · lower).
        decoder: Network from z₁ to the parameters of the likelihood.
        likelihood: As in ``VAE``.
        beta: β.
        shape: Shape of one point.
        latent: Coordinates of z₂.
        lower: Coordinates of z₁.

    Example:
        >>> model = HierarchicalVAE.build(8, latent=2, lower=4)
        >>> model.sample(3, generator=0).shape, model.log_likelihood(torch.zeros(5, 8)).shape
        (torch.Size([3, 8]), torch.Size([5]))

    References:
        Sønderby et al. (2016), "Ladder variational autoencoders"; Vahdat & Kautz (2020), "NVAE",
        section 3.2.
    """

    def __init__(
        self,
        top: nn.Module,
        prior: nn.Module,
        residual: nn.Module,
        decoder: nn.Module,
        *,
        likelihood: str | AbstractLikelihood = "gaussian",
        beta: float = 1.0,
        shape: Shape,
        latent: int,
        lower: int,
    ) -> None:
        super().__init__()
        self.shape = as_shape(shape)
        self.latent = checks.count(latent, "latent")
        self.lower = checks.count(lower, "lower")
        self.top, self.prior, self.residual, self.decoder = top, prior, residual, decoder
        self.likelihood = named_likelihood(likelihood, self.shape)
        self.beta = checks.real(beta, "beta")

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        latent: int = 4,
        lower: int = 16,
        hidden: Sequence[int] = (128, 128),
        likelihood: str | AbstractLikelihood = "gaussian",
        beta: float = 1.0,
    ) -> "HierarchicalVAE":
        """With fully connected networks."""
        size = torch.Size(as_shape(shape)).numel()
        return cls(
            nets.encoder(shape, 2 * latent, hidden=hidden),
            nets.MLP(latent, 2 * lower, hidden=hidden),
            nets.MLP(size + latent, 2 * lower, hidden=hidden),
            nets.decoder(lower, shape, hidden=hidden),
            likelihood=likelihood,
            beta=beta,
            shape=shape,
            latent=latent,
            lower=lower,
        )

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means of z₂, shape (n, latent)."""
        codes: Tensor = self.top(x)
        return codes.chunk(2, dim=-1)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Expected points for codes z₂, each at the mean of z₁ given z₂."""
        return self._shown(self.prior(z).chunk(2, dim=-1)[0])

    def reconstruct(self, x: Tensor) -> Tensor:
        """Expected points at the posterior means of both levels."""
        z2 = self.encode(x)
        mean, log_variance = self.prior(z2).chunk(2, dim=-1)
        shift, _ = self._correction(x, z2)
        return self._shown(mean + torch.exp(0.5 * log_variance) * shift)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        generator: Seed = None,
        truncation: float | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """New points: both levels drawn, the point at its mean; temperature acts on both."""
        source = checks.generator(generator, self.device)
        z2 = self.noise(n, generator=source, truncation=truncation, temperature=temperature)
        mean, log_variance = self.prior(z2).chunk(2, dim=-1)
        cooled = log_variance + 2 * torch.log(torch.tensor(float(temperature)))
        return self._shown(reparameterised(mean, cooled, generator=source))

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """The negative bound, in nats per point."""
        x = self.likelihood.check(batch.x)
        source = checks.generator(generator, x.device)
        mean2, log_variance2 = self.top(x).chunk(2, dim=-1)
        z2 = reparameterised(mean2, log_variance2, generator=source)
        mean1, log_variance1 = self.prior(z2).chunk(2, dim=-1)
        shift, log_ratio = self._correction(x, z2)
        z1 = reparameterised(
            mean1 + torch.exp(0.5 * log_variance1) * shift,
            log_variance1 + log_ratio,
            generator=source,
        )
        kl = gaussian_kl_terms(mean2, log_variance2).sum(-1) + residual_kl(shift, log_ratio).sum(-1)
        explained = self.likelihood.log_density(x, self.decoder(z1), len(self.shape))
        return (self.beta * kl - explained).mean()

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, *, samples: int = 64, generator: Seed = None) -> Tensor:
        """Importance-weighted lower bound of log p(x) in nats, shape (n,)."""
        x = self.likelihood.check(self.points(x))
        source = checks.generator(generator, self.device)
        weights = [self._log_weight(x, source) for _ in range(checks.count(samples, "samples"))]
        return importance_weighted_bound(torch.stack(weights))

    def objectives(self) -> list[Objective]:
        return [Objective("bound", list(self.parameters()), self.loss)]

    def _log_weight(self, x: Tensor, source: torch.Generator) -> Tensor:
        """log p(x, z₁, z₂) − log q(z₁, z₂ | x) for one draw of both."""
        mean2, log_variance2 = self.top(x).chunk(2, dim=-1)
        z2 = reparameterised(mean2, log_variance2, generator=source)
        mean1, log_variance1 = self.prior(z2).chunk(2, dim=-1)
        shift, log_ratio = self._correction(x, z2)
        mean_q = mean1 + torch.exp(0.5 * log_variance1) * shift
        z1 = reparameterised(mean_q, log_variance1 + log_ratio, generator=source)
        return (
            self.likelihood.log_density(x, self.decoder(z1), len(self.shape))
            + gaussian_log_density(z1, mean1, log_variance1)
            - gaussian_log_density(z1, mean_q, log_variance1 + log_ratio)
            + gaussian_log_density(z2, torch.zeros_like(z2))
            - gaussian_log_density(z2, mean2, log_variance2)
        )

    def _correction(self, x: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_ratio = self.residual(torch.cat([x.flatten(1), z2], dim=-1)).chunk(2, dim=-1)
        return shift, log_ratio

    def _shown(self, z1: Tensor) -> Tensor:
        return self.likelihood.mean(self.decoder(z1))
