"""Terms on codes and posteriors: closed-form KLs, free bits, bounds, aggregated posteriors."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from probmetrics import _checks as checks
from probmetrics.losses.adversarial import Adversarial
from probmetrics.losses.precision import wide
from probmetrics.losses.sample_loss import SampleLoss
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.kernels import InverseMultiquadric, Sum

Seed = torch.Generator | int | None
IMQ_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def residual_kl(shift: Tensor, log_ratio: Tensor) -> Tensor:
    """KL of a Gaussian coordinate from its prior, ½ (s² + e^r − 1 − r), one term per coordinate.

    Args:
        shift: s, the posterior's mean minus the prior's, in prior standard deviations.
        log_ratio: r, log posterior variance minus log prior variance.

    Returns:
        Nats, zero or more, in the broadcast shape; not summed.

    Example:
        >>> residual_kl(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])).tolist()
        [0.5, 0.0]

    Notes:
        In log-variances it neither overflows for tiny variances nor cancels near the prior, and a
        residual posterior (a shift and a ratio given by the network) needs nothing else.

    References:
        Vahdat & Kautz (2020), "NVAE", eq. 2.
    """
    shift, log_ratio = wide(shift), wide(log_ratio)
    return 0.5 * (shift.square() + torch.expm1(log_ratio) - log_ratio)


def gaussian_kl_terms(
    mean: Tensor,
    log_variance: Tensor,
    *,
    prior_mean: Tensor | float = 0.0,
    prior_log_variance: Tensor | float = 0.0,
) -> Tensor:
    """KL(N(mean, e^log_variance) ‖ prior) in nats, one term per coordinate.

    Their sum over the last axis is the KL between the diagonal Gaussians. The prior is N(0, 1)
    unless given.

    Args:
        mean: Posterior means, shape (*batch, n, d).
        log_variance: Posterior log-variances, the same shape.
        prior_mean: Prior means, broadcast.
        prior_log_variance: Prior log-variances, broadcast.

    Example:
        >>> terms = gaussian_kl_terms(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
        >>> terms.sum(-1).item()
        2.5

    References:
        Kingma & Welling (2014), "Auto-encoding variational Bayes", appendix B.
    """
    mean, log_variance = wide(mean), wide(log_variance)
    prior = checks.number_like(prior_log_variance, mean)
    return residual_kl((mean - prior_mean) * torch.exp(-0.5 * prior), log_variance - prior)


def free_bits(terms: Tensor, nats: float) -> Tensor:
    """Σ_j max(nats, mean over points of the KL of coordinate j): small KLs cost nothing more.

    Args:
        terms: KL per point and coordinate, shape (n, d).
        nats: λ, zero or more; 0 gives the plain mean KL.

    Returns:
        A scalar, nats per point.

    Example:
        >>> free_bits(torch.tensor([[0.1, 2.0], [0.3, 4.0]]), 0.5).item()
        3.5

    References:
        Kingma et al. (2016), "Improved variational inference with inverse autoregressive flow",
        eq. 16.
    """
    if checks.real(nats, "nats") < 0:
        raise ValueError(f"nats must be zero or more, got {nats}")
    if terms.ndim < 2 or len(terms) == 0:
        raise ValueError(f"terms must have shape (n, d) with n >= 1, got {tuple(terms.shape)}")
    means = wide(terms).flatten(0, -2).mean(0)
    return (means if nats == 0 else means.clamp(min=nats)).sum()


def importance_weighted_bound(log_weights: Tensor, dim: int = 0) -> Tensor:
    """log (1/k) Σ_i w_i along ``dim``: a lower bound of log p(x), tighter with k on average.

    Args:
        log_weights: log p(x, z_i) − log q(z_i | x), e.g. shape (k, n).
        dim: The axis of the k samples.

    Example:
        >>> round(importance_weighted_bound(torch.tensor([[0.0], [1.0]])).item(), 5)
        0.62011

    References:
        Burda, Grosse & Salakhutdinov (2016), "Importance weighted autoencoders", eq. 8.
    """
    k = checks.count(log_weights.shape[dim], "the number of samples")
    return torch.logsumexp(wide(log_weights), dim) - math.log(k)


def reparameterised(
    mean: Tensor, log_variance: Tensor, *, samples: int | None = None, generator: Seed = None
) -> Tensor:
    """Draws mean + e^{½ log_variance} ε, differentiable in both.

    Args:
        mean: Shape (n, d).
        log_variance: Shape (n, d).
        samples: Draws per point; None is one, without an axis for it.
        generator: Draws ε.

    Returns:
        Shape (n, d), or (samples, n, d).

    Example:
        >>> reparameterised(torch.zeros(3, 2), torch.zeros(3, 2), samples=5, generator=0).shape
        torch.Size([5, 3, 2])
    """
    source = checks.generator(generator, mean.device)
    front = () if samples is None else (checks.count(samples, "samples"),)
    shape = (*front, *torch.broadcast_shapes(mean.shape, log_variance.shape))
    noise = torch.randn(shape, generator=source, device=mean.device, dtype=mean.dtype)
    return mean + torch.exp(0.5 * log_variance) * noise


def information_bound(posterior: Distribution, codes: Tensor, prior: Distribution) -> Tensor:
    """E log q(c | x) + H(c), a lower bound of the information I(c; x), in nats per point.

    Args:
        posterior: q(· | x) for the n points that were generated from the codes.
        codes: The codes c, drawn from the prior: (n,) class numbers, or (n, k) coordinates.
        prior: The law of one code, whose entropy is known.

    Returns:
        A scalar; H(c) when q finds every discrete code with certainty.

    Example:
        >>> from torch.distributions import Categorical
        >>> prior = Categorical(probs=torch.full((4,), 0.25))
        >>> codes = torch.tensor([0, 3, 1])
        >>> sure = Categorical(logits=100 * torch.eye(4)[codes])
        >>> round(information_bound(sure, codes, prior).item(), 5)  # log 4
        1.38629

    References:
        Chen et al. (2016), "InfoGAN", eq. 5.
    """
    log_density = posterior.log_prob(codes)
    if log_density.ndim < 1 or len(log_density) != len(codes):
        raise ValueError(
            f"posterior must be one law per code, batch shape ({len(codes)}, …); "
            f"its log densities have shape {tuple(log_density.shape)}"
        )
    per_code = log_density.reshape(len(codes), -1).sum(-1)
    return per_code.mean() + prior.entropy().sum()


def imq_kernel(
    latent: int, *, sd: float = 1.0, scales: Sequence[float] = IMQ_SCALES
) -> AbstractGround:
    """Σ_s C_s / (C_s + ‖z − z′‖²) with C_s = s · 2 d σ²: the kernel of WAE-MMD for d codes.

    2 d σ² is the mean squared distance between two draws of the prior N(0, σ² I).

    Args:
        latent: d.
        sd: σ of the prior.
        scales: s, one kernel each; they are summed.

    Example:
        >>> round(imq_kernel(2, scales=[1.0])(torch.zeros(1, 2), torch.ones(1, 2)).item(), 5)
        0.66667

    References:
        Tolstikhin et al. (2018), "Wasserstein auto-encoders", section 4.
    """
    base = 2.0 * checks.count(latent, "latent") * checks.positive(sd, "sd") ** 2
    kernels: list[AbstractGround] = [
        InverseMultiquadric((checks.positive(s, "scales") * base) ** 0.5, beta=1.0) for s in scales
    ]
    if not kernels:
        raise ValueError("scales is empty; give at least one")
    return kernels[0] if len(kernels) == 1 else Sum(tuple(kernels))


class AggregatedPosterior(nn.Module):
    """Divergence between fresh draws of the prior and the codes of a batch.

    Args:
        divergence: A ``SampleLoss`` or an ``Adversarial``; the prior takes the place of the data.
        sd: σ of the prior N(0, σ² I).

    Example:
        >>> from probmetrics.losses.samples import EnergyLoss
        >>> penalty = AggregatedPosterior(EnergyLoss())
        >>> bool(penalty(torch.full((50, 2), 3.0), generator=0) > 4)
        True

    References:
        Tolstikhin et al. (2018), eq. 4; Makhzani et al. (2015), "Adversarial autoencoders".
    """

    def __init__(self, divergence: SampleLoss | Adversarial, *, sd: float = 1.0) -> None:
        super().__init__()
        self.divergence = divergence
        self.sd = checks.positive(sd, "sd")

    def forward(self, codes: Tensor, *, generator: Seed = None) -> Tensor:
        """The divergence of the codes, shape (n, d), from as many draws of the prior."""
        source = checks.generator(generator, codes.device)
        value: Tensor = self.divergence(self._prior(codes, source), codes, generator=source)
        return value

    def critic_loss(self, codes: Tensor, *, generator: Seed = None) -> Tensor:
        """What the critic of an ``Adversarial`` divergence minimises on these codes."""
        if not isinstance(self.divergence, Adversarial):
            raise TypeError(f"{type(self.divergence).__name__} has no critic to train")
        source = checks.generator(generator, codes.device)
        return self.divergence.critic_loss(self._prior(codes, source), codes, generator=source)

    def _prior(self, codes: Tensor, source: torch.Generator) -> Tensor:
        return self.sd * torch.randn(
            codes.shape, generator=source, device=codes.device, dtype=codes.dtype
        )
