"""Baselines that are solved, not trained: Gaussian with principal components, mixtures by EM."""

import math

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.losses import gaussian_log_density
from probmetrics.models.base import (
    AbstractGenerativeModel,
    AbstractLatentModel,
    Objective,
    Seed,
    Shape,
    as_shape,
)


class GaussianModel(AbstractLatentModel):
    """Probabilistic PCA: N(μ, W Wᵀ + σ² I), by maximum likelihood.

    W holds the leading principal axes scaled by √(λ − σ²), and σ² is the mean of the variances
    left over; with all axes it is the Gaussian fitted to the data.

    Args:
        shape: Shape of one point.
        components: Principal axes; None keeps all (at least one direction is left as noise only
            if ``components`` is below the number of coordinates).

    Example:
        >>> model = GaussianModel.build(2, components=1)
        >>> model.solve(torch.randn(50, 2))
        >>> model.sample(3, generator=0).shape, model.log_likelihood(torch.zeros(1, 2)).shape
        (torch.Size([3, 2]), torch.Size([1]))

    References:
        Tipping & Bishop (1999), "Probabilistic principal component analysis", eqs. 7, 8.
    """

    mean: Tensor
    axes: Tensor
    scales: Tensor
    noise_sd: Tensor

    def __init__(self, shape: Shape, *, components: int | None = None) -> None:
        super().__init__()
        self.shape = as_shape(shape)
        size = math.prod(self.shape)
        whole = size if components is None else components
        self.latent = checks.count(whole, "components", maximum=size)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.eye(size)[: self.latent])
        self.register_buffer("scales", torch.ones(self.latent))
        self.register_buffer("noise_sd", torch.tensor(0.0))

    @classmethod
    def build(cls, shape: Shape, *, components: int | None = None) -> "GaussianModel":
        """The model itself, under the name all models have it."""
        return cls(shape, components=components)

    def solve(self, x: Tensor) -> None:
        """Fit mean, axes and noise to data (n, *shape)."""
        from sklearn.decomposition import PCA

        rows = checks.sample(self.points(x).flatten(1), minimum=2, name="data")
        limit = min(rows.shape)
        if self.latent > limit:
            raise ValueError(
                f"{self.latent} components need at least as many points and coordinates, "
                f"got {len(rows)} points; pass components={limit} or fewer"
            )
        found = PCA(self.latent, svd_solver="full").fit(rows.double().cpu().numpy())
        noise = max(float(found.noise_variance_), 0.0)
        spread = torch.from_numpy(found.explained_variance_)
        self.mean.copy_(torch.from_numpy(found.mean_))
        self.axes.copy_(torch.from_numpy(found.components_))
        self.scales.copy_((spread - noise).clamp(min=0.0).sqrt())
        self.noise_sd.fill_(noise**0.5)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means of the codes, shape (n, latent)."""
        gap = (x.flatten(1) - self.mean) @ self.axes.mT
        total = self.scales.square() + self.noise_sd.square()
        return gap * self.scales / torch.where(total > 0, total, 1.0)

    def decode(self, z: Tensor) -> Tensor:
        return (self.mean + (z * self.scales) @ self.axes).reshape(-1, *self.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Points projected onto the principal axes."""
        flat = x.flatten(1) - self.mean
        return (self.mean + flat @ self.axes.mT @ self.axes).reshape(-1, *self.shape)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        generator: Seed = None,
        truncation: float | None = None,
        temperature: float = 1.0,
        noisy: bool = True,
    ) -> Tensor:
        """New points; ``noisy=False`` leaves out the noise around the principal axes."""
        source = checks.generator(generator, self.device)
        points = super().sample(n, generator=source, truncation=truncation, temperature=temperature)
        if not noisy:
            return points
        rest = torch.randn(points.shape, generator=source, device=self.device, dtype=points.dtype)
        return points + self.noise_sd * rest

    @torch.no_grad()
    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x) in nats, shape (n,), exact.

        Raises:
            ValueError: The fitted Gaussian is singular, so that it has no density.
        """
        gap = self.points(x).flatten(1).double() - self.mean.double()
        inside = gap @ self.axes.double().mT
        noise = self.noise_sd.double().square()
        total = self.scales.double().square() + noise
        left = gap.shape[-1] - self.latent
        smallest = torch.minimum(total.min(), noise) if left else total.min()
        if bool(smallest <= 1e-12 * total.max()):
            flat = int((total <= 1e-12 * total.max()).sum())
            raise ValueError(
                f"the fitted Gaussian is singular and has no density: {flat or left} directions "
                "have no variance; drop constant coordinates or pass fewer components"
            )
        value = gaussian_log_density(inside, torch.zeros_like(inside), total.log())
        if left:
            rest = (gap.square().sum(-1) - inside.square().sum(-1)).clamp(min=0.0)
            value = value - 0.5 * (rest / noise + left * (noise.log() + math.log(2 * math.pi)))
        return value.to(x.dtype)

    def objectives(self) -> list[Objective]:
        return []


class MixtureModel(AbstractGenerativeModel):
    """Mixture of Gaussians with full covariances, by scikit-learn's EM.

    Args:
        shape: Shape of one point.
        components: Gaussians in the mixture.
        regularisation: Added to the diagonal of each covariance.
        seed: Of the initialisation.

    Example:
        >>> model = MixtureModel.build(2, components=2)
        >>> model.solve(torch.randn(50, 2))
        >>> model.sample(3, generator=0).shape
        torch.Size([3, 2])

    References:
        Dempster, Laird & Rubin (1977), "Maximum likelihood from incomplete data via the EM
        algorithm".
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(
        self, shape: Shape, *, components: int = 8, regularisation: float = 1e-6, seed: int = 0
    ) -> None:
        super().__init__()
        self.shape = as_shape(shape)
        k, size = checks.count(components, "components"), math.prod(self.shape)
        self.regularisation = checks.positive(regularisation, "regularisation")
        self.seed = checks.count(seed, "seed", minimum=0)
        self.register_buffer("weights", torch.full((k,), 1.0 / k))
        self.register_buffer("means", torch.zeros(k, size))
        self.register_buffer("factors", torch.eye(size).repeat(k, 1, 1))

    @classmethod
    def build(
        cls, shape: Shape, *, components: int = 8, regularisation: float = 1e-6, seed: int = 0
    ) -> "MixtureModel":
        """The model itself, under the name all models have it."""
        return cls(shape, components=components, regularisation=regularisation, seed=seed)

    def solve(self, x: Tensor) -> None:
        """Fit weights, means and covariances to data (n, *shape)."""
        from sklearn.mixture import GaussianMixture

        k = len(self.weights)
        rows = checks.sample(self.points(x).flatten(1), minimum=max(2, k), name="data")
        found = GaussianMixture(
            k, reg_covar=self.regularisation, random_state=self.seed, max_iter=500
        ).fit(rows.double().cpu().numpy())
        self.weights.copy_(torch.from_numpy(found.weights_))
        self.means.copy_(torch.from_numpy(found.means_))
        self.factors.copy_(torch.linalg.cholesky(torch.from_numpy(found.covariances_)))

    @torch.no_grad()
    def sample(self, n: int, *, generator: Seed = None, temperature: float = 1.0) -> Tensor:
        """New points; ``temperature`` scales the spread around the means."""
        source = checks.generator(generator, self.device)
        n = checks.count(n, "n")
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=source)
        noise = torch.randn(
            n, self.means.shape[1], 1, generator=source, device=self.device, dtype=self.dtype
        )
        spread = checks.positive(temperature, "temperature") * (self.factors[chosen] @ noise)
        return (self.means[chosen] + spread.squeeze(-1)).reshape(n, *self.shape)

    @torch.no_grad()
    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x) in nats, shape (n,), exact."""
        rows = self.points(x).flatten(1).double()
        law = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(probs=self.weights.double()),
            torch.distributions.MultivariateNormal(
                self.means.double(), scale_tril=self.factors.double(), validate_args=False
            ),
        )
        value: Tensor = law.log_prob(rows)
        return value.to(x.dtype)

    def objectives(self) -> list[Objective]:
        return []
