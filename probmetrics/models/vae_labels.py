"""Semi-supervised VAE: labels where they are known, summed over where they are not."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from probmetrics import _checks as checks
from probmetrics.losses import (
    gaussian_kl_terms,
    gaussian_log_density,
    importance_weighted_bound,
    reparameterised,
    with_labels,
)
from probmetrics.models import nets
from probmetrics.models.base import (
    Batch,
    Objective,
    Seed,
    Shape,
    as_shape,
)
from probmetrics.models.labelled import AbstractLabelledModel
from probmetrics.models.likelihoods import AbstractLikelihood, named_likelihood


class SemiSupervisedVAE(AbstractLabelledModel):
    """VAE with a class y besides the code z: p(y) uniform, p(z) = N(0, I), p(x | y, z).

    With L(x, y) = E_q(z|x,y) log p(x | y, z) + log p(y) − KL(q(z | x, y) ‖ p(z)):

    - a labelled point costs −L(x, y) − α log q(y | x);
    - a point without label costs −Σ_y q(y | x) L(x, y) − H(q(y | x)): y is summed over exactly.

    Args:
        encoder: Network from points with labels appended to mean and log-variance of z.
        decoder: Network from (z, one-hot y) to the parameters of the likelihood.
        classifier: Network from points to class logits.
        classes: How many classes there are.
        weight: α.
        likelihood: As in ``VAE``.
        shape: Shape of one point.
        latent: Coordinates of a code.

    Notes:
        Train it on (x, labels) with −1 for unknown. Time per point without label is that of
        ``classes`` labelled ones.

    Example:
        >>> model = SemiSupervisedVAE.build(8, classes=3, latent=2)
        >>> model.sample(4, labels=1, generator=0).shape
        torch.Size([4, 8])

    References:
        Kingma et al. (2014), "Semi-supervised learning with deep generative models", eqs. 6-9.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        classifier: nn.Module,
        *,
        classes: int,
        weight: float = 1.0,
        likelihood: str | AbstractLikelihood = "gaussian",
        shape: Shape,
        latent: int,
    ) -> None:
        super().__init__()
        self.shape = as_shape(shape)
        self.latent = checks.count(latent, "latent")
        self.classes = checks.count(classes, "classes", minimum=2)
        self.encoder, self.decoder, self.classifier = encoder, decoder, classifier
        self.weight = checks.real(weight, "weight")
        self.likelihood = named_likelihood(likelihood, self.shape)

    @classmethod
    def build(
        cls,
        shape: Shape,
        *,
        classes: int,
        latent: int = 8,
        hidden: Sequence[int] = (128, 128),
        width: int | None = None,
        weight: float = 1.0,
        likelihood: str | AbstractLikelihood = "gaussian",
    ) -> "SemiSupervisedVAE":
        """With fully connected networks, or convolutional ones of that ``width``."""
        sizes = as_shape(shape)
        seen = (sizes[0] + checks.count(classes, "classes"), *sizes[1:])
        return cls(
            nets.encoder(seen, 2 * latent, hidden=hidden, width=width),
            nets.decoder(latent + classes, sizes, hidden=hidden, width=width),
            nets.encoder(sizes, classes, hidden=hidden, width=width),
            classes=classes,
            weight=weight,
            likelihood=likelihood,
            shape=sizes,
            latent=latent,
        )

    def classify(self, x: Tensor) -> Tensor:
        """log q(y | x), shape (n, classes)."""
        return torch.log_softmax(self.classifier(x), dim=-1)

    def encode(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Posterior means of the codes; classes are read off the points unless given."""
        labels = self.classify(x).argmax(-1) if labels is None else labels
        return self._posterior(x, labels)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Expected points for codes with one-hot labels appended, (n, latent + classes)."""
        return self.likelihood.mean(self.decoder(z))

    def reconstruct(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Expected points at the posterior means, with the classes given or read off."""
        labels = self.classify(x).argmax(-1) if labels is None else labels
        return self.decode(with_labels(self.encode(x, labels), labels, self.classes))

    def bound(self, x: Tensor, labels: Tensor, generator: Seed = None) -> Tensor:
        """L(x, y) of each point, one draw of z, shape (n,)."""
        mean, log_variance = self._posterior(x, labels)
        z = reparameterised(mean, log_variance, generator=generator)
        output = self.decoder(with_labels(z, labels, self.classes))
        explained = self.likelihood.log_density(x, output, len(self.shape))
        log_prior = -torch.log(torch.tensor(float(self.classes), device=x.device))
        return explained + log_prior - gaussian_kl_terms(mean, log_variance).sum(-1)

    def marginal_bound(self, x: Tensor, generator: Seed = None) -> Tensor:
        """Σ_y q(y | x) L(x, y) + H(q(y | x)), shape (n,): a bound without the label."""
        log_q = self.classify(x)
        n, k = log_q.shape
        every = torch.arange(k, device=x.device).repeat_interleave(n)
        repeated = x.repeat(k, *[1] * (x.ndim - 1))
        bounds = self.bound(repeated, every, generator).reshape(k, n).mT
        return (log_q.exp() * (bounds - log_q)).sum(-1)

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, *, samples: int = 64, generator: Seed = None) -> Tensor:
        """Lower bound of log p(x) in nats, shape (n,): importance-weighted, summed over classes."""
        x = self.likelihood.check(self.points(x))
        source = checks.generator(generator, self.device)
        draws = range(checks.count(samples, "samples"))
        known = torch.arange(self.classes, device=x.device)[:, None].expand(-1, len(x))
        per_class = [
            importance_weighted_bound(
                torch.stack([self._log_weight(x, labels, source) for _ in draws])
            )
            for labels in known
        ]
        return importance_weighted_bound(torch.stack(per_class))  # the mean is p(y) = 1/classes

    def _log_weight(self, x: Tensor, labels: Tensor, source: torch.Generator) -> Tensor:
        """log p(x, z | y) − log q(z | x, y) for one draw of z."""
        mean, log_variance = self._posterior(x, labels)
        z = reparameterised(mean, log_variance, generator=source)
        output = self.decoder(with_labels(z, labels, self.classes))
        return (
            self.likelihood.log_density(x, output, len(self.shape))
            + gaussian_log_density(z, torch.zeros_like(z))
            - gaussian_log_density(z, mean, log_variance)
        )

    def loss(self, batch: Batch, generator: Seed = None) -> Tensor:
        """The mean cost of labelled and unlabelled points, in nats."""
        labels = batch.known_labels("SemiSupervisedVAE", self.classes)
        x = self.likelihood.check(batch.x)
        source = checks.generator(generator, x.device)
        known = labels >= 0
        total = x.new_zeros(())
        if bool(known.any()):
            seen, names = x[known], labels[known]
            total = total - self.bound(seen, names, source).sum()
            guess = cross_entropy(self.classifier(seen), names, reduction="sum")
            total = total + self.weight * guess
        if not bool(known.all()):
            total = total - self.marginal_bound(x[~known], source).sum()
        return total / len(x)

    def objectives(self) -> list[Objective]:
        return [Objective("bound", list(self.parameters()), self.loss)]

    def _posterior(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(with_labels(x, labels, self.classes)).chunk(2, dim=-1)
        return mean, log_variance
