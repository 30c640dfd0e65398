"""What each family is known to do, against closed forms: pPCA, PCA, SVD, Jacobians, brute force."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from probmetrics.losses import EnergyLoss, MMDLoss, imq_kernel, with_labels
from probmetrics.models import (
    AAE,
    BEGAN,
    EBGAN,
    GAN,
    GLO,
    GMMN,
    IWAE,
    MMDGAN,
    VAE,
    WAE,
    Autoencoder,
    Batch,
    CodeGMMN,
    ConditionalGAN,
    ContractiveAutoencoder,
    CouplingFlow,
    DenoisingAutoencoder,
    GaussianModel,
    HierarchicalVAE,
    InfoGAN,
    InverseAutoregressiveFlow,
    PlanarFlow,
    SemiSupervisedAAE,
    SemiSupervisedVAE,
    SinkhornGenerator,
    SparseAutoencoder,
    SupervisedAAE,
    fit,
)
from probmetrics.models.likelihoods import GaussianLikelihood
from probmetrics.pairwise.kernels import Gaussian

DOUBLE = torch.float64
LOG2 = math.log(2.0)


def low_rank(n=400, d=5, k=2, noise=0.3, seed=0):
    source = torch.Generator().manual_seed(seed)
    axes = torch.randn(k, d, generator=source, dtype=DOUBLE) * torch.tensor([[2.0], [1.2]])
    z = torch.randn(n, k, generator=source, dtype=DOUBLE)
    rest = torch.randn(n, d, generator=source, dtype=DOUBLE)
    return z @ axes + noise * rest + 1.0


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def lbfgs(model, loss, steps=60):
    """Minimise a deterministic loss to numerical precision."""
    optimiser = torch.optim.LBFGS(
        model.parameters(),
        max_iter=steps,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
    )

    def closure():
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(8):
        optimiser.step(closure)
    return loss().item()


class Affine(nn.Module):
    """Mean affine in x, one log-variance for all points: the posterior family of pPCA."""

    def __init__(self, d, k):
        super().__init__()
        self.mean, self.log_variance = nn.Linear(d, k), nn.Parameter(torch.zeros(k))

    def forward(self, x):
        mean = self.mean(x)
        return torch.cat([mean, self.log_variance.expand_as(mean)], -1)


def test_linear_vae_reaches_the_likelihood_of_probabilistic_pca():
    x = low_rank()
    law = GaussianLikelihood(1.0, learned="one")
    model = VAE(Affine(5, 2), nn.Linear(2, 5), likelihood=law, shape=5, latent=2).double()
    # With an affine decoder E_q ‖x − Wz − b‖² is known, so the bound needs no draws:
    # the loss at z = mean, plus tr(W S Wᵀ) / (2σ²). Checked against draws below.

    def bound():
        mean, log_variance, _ = model.posterior(x)
        spread = (model.decoder.weight.square() * log_variance.exp()[:1]).sum()
        explained = law.log_density(x, model.decoder(mean), 1).mean()
        kl = 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance).sum(-1).mean()
        return -explained + 0.5 * spread * torch.exp(-law.log_variance) + kl

    source = torch.Generator().manual_seed(1)
    drawn = torch.stack([model.loss(Batch(x), source) for _ in range(300)]).mean()
    torch.testing.assert_close(drawn, bound(), rtol=0.01, atol=0.0)
    best = -lbfgs(model, bound)
    exact = GaussianModel(5, components=2).double()
    exact.solve(x)
    likelihood = exact.log_likelihood(x).mean().item()
    assert best == pytest.approx(likelihood, abs=1e-5)
    # the posterior is then exact, so that one sample tells the likelihood
    weights = model.log_weights(x[:20], 3, generator=0)
    torch.testing.assert_close(weights[0], exact.log_likelihood(x[:20]), atol=2e-2, rtol=0)
    torch.testing.assert_close(weights[0], weights[2], atol=2e-2, rtol=0)


def test_probabilistic_pca_is_scikit_learns_and_gaussian_with_all_axes():
    from sklearn.decomposition import PCA

    x = low_rank()
    model = GaussianModel(5, components=2).double()
    model.solve(x)
    expected = torch.from_numpy(PCA(2).fit(x.numpy()).score_samples(x.numpy()))
    torch.testing.assert_close(model.log_likelihood(x), expected, rtol=1e-6, atol=1e-6)
    whole = GaussianModel(5).double()
    whole.solve(x)
    torch.testing.assert_close(
        whole.log_likelihood(x), MultivariateNormal(x.mean(0), x.mT.cov()).log_prob(x)
    )
    drawn = model.sample(200_000, generator=0)
    law = model.axes.mT @ torch.diag(model.scales**2) @ model.axes
    law = law + model.noise_sd**2 * torch.eye(5)
    torch.testing.assert_close(drawn.mT.cov(), law, atol=0.06, rtol=0.01)
    z = model.encode(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2, dtype=DOUBLE), atol=1e-9, rtol=0)
    flat = GaussianModel(6).double()
    flat.solve(torch.cat([x, torch.ones(400, 1, dtype=DOUBLE)], -1))
    assert torch.equal(flat.sample(3, generator=0)[:, 5].round(decimals=9), torch.ones(3).double())
    with pytest.raises(ValueError, match="singular and has no density: 1 directions"):
        flat.log_likelihood(torch.zeros(1, 6))
    with pytest.raises(ValueError, match="pass components=3 or fewer"):
        GaussianModel(5, components=4).solve(torch.randn(3, 5))


def test_linear_autoencoder_is_pca():
    x = low_rank()
    model = Autoencoder(nn.Linear(5, 2), nn.Linear(2, 5), shape=5, latent=2).double()
    best = lbfgs(model, lambda: model.loss(Batch(x)))
    _, scale, axes = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    assert best == pytest.approx((scale[2:] ** 2).sum().item() / len(x), rel=1e-9)
    projected = (x - x.mean(0)) @ axes[:2].mT @ axes[:2] + x.mean(0)
    torch.testing.assert_close(model.reconstruct(x), projected, atol=1e-4, rtol=0)


def test_linear_glo_is_the_truncated_svd():
    x = low_rank(n=60)
    model = GLO(nn.Linear(2, 5, bias=False), points=60, ball=False, shape=5, latent=2).double()
    everyone = Batch(x, index=torch.arange(60))
    best = lbfgs(model, lambda: model.loss(everyone))
    left, scale, right = torch.linalg.svd(x, full_matrices=False)
    assert best == pytest.approx((scale[2:] ** 2).sum().item() / 60, rel=1e-8)
    truncated = left[:, :2] * scale[:2] @ right[:2]
    torch.testing.assert_close(
        model.reconstruct(torch.arange(60)).detach(), truncated, atol=1e-4, rtol=0
    )


def test_glo_keeps_codes_in_the_ball_and_finds_those_of_new_points():
    x = low_rank(n=50).float()
    model = GLO.build(5, points=50, latent=2, hidden=(16,), rate=30.0)
    history = fit(model, x, steps=150, batch_size=50, learning_rate=0.01, progress=False)
    assert model.codes.norm(dim=-1).max() <= 1 + 1e-6
    assert history.losses["codes"][-1] < 0.5 * history.losses["codes"][0]
    codes = model.encode(x[:5])
    found = (model.decode(codes) - x[:5]).square().sum(-1)
    trained = (model.reconstruct(torch.arange(5)) - x[:5]).square().sum(-1)
    assert bool((found < trained + 0.5).all())
    assert model.sample(4, generator=0).shape == (4, 5)
    with pytest.raises(ValueError, match="train it on a tensor"):
        model.loss(Batch(x))
    with pytest.raises(ValueError, match="more points than the 50"):
        model.loss(Batch(x, index=torch.tensor([50])))


def test_importance_weighted_bounds_increase_towards_the_likelihood():
    x = low_rank()[:100]
    exact = GaussianModel(5, components=2).double()
    exact.solve(low_rank())
    decoder = nn.Linear(2, 5).double()
    decoder.weight.data = (exact.axes * exact.scales[:, None]).mT.clone()
    decoder.bias.data = exact.mean.clone()
    wrong = Affine(5, 2).double()  # a poor posterior
    with torch.no_grad():
        wrong.mean.weight.mul_(0.5)
    law = GaussianLikelihood(exact.noise_sd.item())
    model = IWAE(wrong, decoder, samples=7, likelihood=law, shape=5, latent=2).double()
    bounds = [
        model.log_likelihood(x, samples=k, generator=0).mean().item() for k in (1, 10, 100, 3000)
    ]
    assert bounds == sorted(bounds)
    truth = exact.log_likelihood(x).mean().item()
    assert bounds[-1] < truth + 0.01
    assert bounds[-1] == pytest.approx(truth, abs=0.3)
    one = IWAE(wrong, decoder, samples=1, likelihood=law, shape=5, latent=2).double()
    vae = VAE(wrong, decoder, likelihood=law, shape=5, latent=2).double()
    source, other = (torch.Generator().manual_seed(5) for _ in range(2))
    drawn = torch.stack([one.loss(Batch(x), source) for _ in range(200)]).mean()
    closed = torch.stack([vae.loss(Batch(x), other) for _ in range(200)]).mean()
    torch.testing.assert_close(drawn, closed, rtol=0.01, atol=0.0)
    with pytest.raises(ValueError, match="no beta, no free"):
        IWAE(wrong, decoder, beta=2.0, shape=5, latent=2)


def test_beta_schedules_and_free_bits_change_the_bound():
    x = low_rank().float()
    network = nn.Linear(5, 4), nn.Linear(2, 5)
    plain = VAE(*network, shape=5, latent=2)
    half = VAE(*network, beta=lambda step: 0.5 if step < 3 else 1.0, shape=5, latent=2)
    first, later = Batch(x, step=0), Batch(x, step=3)
    assert half.loss(first, 0) < plain.loss(first, 0)
    torch.testing.assert_close(half.loss(later, 0), plain.loss(later, 0))
    floor = VAE(*network, free=50.0, shape=5, latent=2)
    kl_free = VAE(*network, beta=0.0, shape=5, latent=2).loss(first, 0)
    torch.testing.assert_close(floor.loss(first, 0), kl_free + 100.0)


def test_bernoulli_vae_refuses_data_outside_the_unit_interval():
    model = VAE.build(4, latent=2, likelihood="bernoulli", hidden=(4,))
    with pytest.raises(ValueError, match=r"data holds 16 at .*divide pixels"):
        fit(model, torch.full((10, 4), 16.0), steps=1, progress=False)
    with pytest.raises(ValueError, match="unknown likelihood 'poisson'"):
        VAE.build(4, likelihood="poisson")
    drawn = model.sample(50, generator=0, noisy=True)
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}


FLOWS = [
    lambda: PlanarFlow(3, layers=3, context=4),
    lambda: InverseAutoregressiveFlow(3, layers=3, context=4, hidden=16),
    lambda: InverseAutoregressiveFlow(1, layers=2, context=4, hidden=16),
]


@pytest.mark.parametrize("build", FLOWS, ids=["planar", "iaf", "iaf-1d"])
def test_posterior_flows_have_the_jacobian_they_say(build):
    flow = build().double()
    for parameter in flow.parameters():  # far from the identity
        parameter.data += 0.3 * torch.randn_like(parameter)
    z, context = torch.randn(4, flow.latent, dtype=DOUBLE), torch.randn(4, 4, dtype=DOUBLE)
    _, log_det = flow(z, context)
    for row in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda t, row=row: flow(t[None], context[row : row + 1])[0][0], z[row]
        )
        torch.testing.assert_close(log_det[row], torch.linalg.slogdet(jacobian)[1])
    stacked, dets = flow(z.expand(6, 4, -1), context)
    assert stacked.shape == (6, 4, flow.latent)
    torch.testing.assert_close(dets[2], log_det)


def test_autoregressive_layers_see_earlier_coordinates_only():
    flow = InverseAutoregressiveFlow(4, layers=1, context=2, hidden=32).double()
    flow.steps[0].second.weight.data.normal_()
    context = torch.randn(1, 2, dtype=DOUBLE)
    jacobian = torch.autograd.functional.jacobian(
        lambda t: flow(t[None], context)[0][0].flip(-1), torch.randn(4, dtype=DOUBLE)
    )
    assert torch.equal(jacobian, jacobian.tril())
    assert (jacobian.tril(-1).abs() > 1e-8).sum() == 6


@pytest.mark.parametrize("kind", ["planar", "iaf"])
def test_vae_with_a_flow_keeps_a_valid_bound(kind):
    x = low_rank(noise=3.0)[:50]
    exact = GaussianModel(5, components=2).double()
    exact.solve(low_rank(noise=3.0))
    decoder = nn.Linear(2, 5).double()
    decoder.weight.data = (exact.axes * exact.scales[:, None]).mT.clone()
    decoder.bias.data = exact.mean.clone()
    flow = PlanarFlow(2, context=3) if kind == "planar" else InverseAutoregressiveFlow(2, context=3)
    law = GaussianLikelihood(exact.noise_sd.item())
    encoder = nn.Linear(5, 7)  # the exact posterior, which the flow then bends
    shrink = exact.scales / (exact.scales**2 + exact.noise_sd**2)
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.weight[:2] = shrink[:, None] * exact.axes
        encoder.bias[:2] = -encoder.weight[:2] @ exact.mean.float()
        encoder.bias[2:4] = (exact.noise_sd**2 / (exact.scales**2 + exact.noise_sd**2)).log()
        for parameter in flow.parameters():
            parameter.mul_(0.5)
    model = VAE(encoder, decoder, likelihood=law, flow=flow, shape=5, latent=2).double()
    truth = exact.log_likelihood(x).mean().item()
    few, many = (model.log_likelihood(x, samples=k, generator=0).mean().item() for k in (1, 4000))
    assert few < many < truth + 0.05
    assert many == pytest.approx(truth, abs=1.0)
    assert -model.loss(Batch(x), 0) < truth
    model.loss(Batch(x), 0).backward()
    assert all(p.grad.isfinite().all() for p in flow.parameters())
    assert model.reconstruct(x).shape == x.shape
    with pytest.raises(ValueError, match="wanted 2 · 2 for mean and log-variance and 3 of context"):
        VAE(nn.Linear(5, 4), decoder, flow=flow, shape=5, latent=2).double().posterior(x)


def test_semi_supervised_bound_sums_over_the_classes():
    model = SemiSupervisedVAE.build(3, classes=4, latent=2, hidden=(8,)).double()
    x = torch.randn(6, 3, dtype=DOUBLE)
    log_q = model.classify(x)
    torch.testing.assert_close(log_q.exp().sum(-1), torch.ones(6, dtype=DOUBLE))
    total, many = torch.zeros(6, dtype=DOUBLE), x.repeat(5000, 1)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        got = model.marginal_bound(many, source).reshape(5000, 6).mean(0)
        for label in range(4):
            labels = torch.full((30000,), label)
            bound = model.bound(many, labels, source).reshape(5000, 6).mean(0)
            total += log_q[:, label].exp() * (bound - log_q[:, label])
    torch.testing.assert_close(got, total, atol=0.15, rtol=0)


def test_semi_supervised_loss_joins_both_kinds_of_points():
    model = SemiSupervisedVAE.build(3, classes=2, latent=2, hidden=(8,), weight=0.7).double()
    x, labels = torch.randn(5, 3, dtype=DOUBLE), torch.tensor([0, -1, 1, -1, 1])
    known = labels >= 0
    source, other = (torch.Generator().manual_seed(2) for _ in range(2))
    value = model.loss(Batch(x, labels), source)
    bound = model.bound(x[known], labels[known], other)
    guess = model.classify(x[known]).gather(1, labels[known][:, None]).sum()
    rest = model.marginal_bound(x[~known], other)
    torch.testing.assert_close(value, -(bound.sum() + 0.7 * guess + rest.sum()) / 5)
    with pytest.raises(ValueError, match=r"SemiSupervisedVAE needs labels; pass \(x, labels\)"):
        model.loss(Batch(x), 0)


def test_semi_supervised_likelihood_is_exact_where_the_posterior_is():
    model = SemiSupervisedVAE.build(3, classes=2, latent=2, hidden=(8,)).double()
    for network in (model.encoder, model.decoder):  # q = p(z), and x does not depend on z
        for layer in (network.layers[-1],):
            nn.init.zeros_(layer.weight)
    nn.init.zeros_(model.encoder.layers[-1].bias)
    x = torch.randn(5, 3, dtype=DOUBLE)
    exact = torch.distributions.Normal(model.decoder.layers[-1].bias, 1.0).log_prob(x).sum(-1)
    torch.testing.assert_close(model.log_likelihood(x, samples=2), exact.detach())
    mixed = SemiSupervisedVAE.build(3, classes=2, latent=1, hidden=(8,)).double()
    truth = torch.stack([quadrature(mixed, x, label) for label in range(2)]).logsumexp(0) - LOG2
    found = mixed.log_likelihood(x, samples=4000, generator=0)
    torch.testing.assert_close(found, truth, atol=0.02, rtol=0)
    assert mixed.log_likelihood(x, samples=1, generator=0).mean() < truth.mean()


@torch.no_grad()
def quadrature(model, x, label):
    """log p(x | y) with the one code integrated on a line."""
    z = torch.linspace(-8, 8, 4001, dtype=DOUBLE)
    seen = with_labels(z[:, None], torch.full((len(z),), label), 2)
    explained = torch.distributions.Normal(model.decoder(seen)[:, None], 1.0).log_prob(x).sum(-1)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z)[:, None]
    return (explained + prior).logsumexp(0) + math.log(float(z[1] - z[0]))


@pytest.mark.parametrize("family", [ConditionalGAN, SemiSupervisedVAE, SupervisedAAE])
def test_labelled_models_take_labels_in_any_form(family):
    model = family.build((1, 4, 4), classes=3, latent=2, hidden=(8,))
    expected = model.sample(4, labels=torch.tensor([2, 2, 2, 2]), generator=0)
    for labels in (2, [2, 2, 2, 2], np.int64(2), np.full(4, 2), torch.tensor(2), 2.0):
        assert torch.equal(model.sample(4, labels=labels, generator=0), expected)
    start, end = model.noise(4, generator=0), model.noise(4, generator=1)
    path = model.interpolate(start, end, 5, labels=[0, 1, 2, 0])
    assert path.shape == (5, 4, 1, 4, 4)
    first = model.decode(with_labels(start, torch.tensor([0, 1, 2, 0]), 3)).detach()
    torch.testing.assert_close(path[0], first)
    torch.testing.assert_close(model.interpolate(start, end, 5, labels=1)[-1, 1], path[-1, 1])
    with pytest.raises(ValueError, match="told the class: interpolate"):
        model.interpolate(start, end)
    with pytest.raises(ValueError, match=r"labels must lie in 0 … 2, got 3 … 3"):
        model.sample(2, labels=3)
    with pytest.raises(ValueError, match=r"one for each of the 2 points; got shape \(3,\)"):
        model.sample(2, labels=[0, 1, 2])


def test_infogan_draws_and_walks_with_the_codes_it_is_given():
    model = InfoGAN.build(2, classes=3, continuous=2, noise=2, hidden=(8,))
    z = model.noise(4, labels=1, codes=torch.zeros(4, 2), generator=0)
    assert z[:, 2:].tolist() == [[0.0, 1.0, 0.0, 0.0, 0.0]] * 4
    other = model.noise(4, labels=[2, 2, 2, 2], codes=torch.ones(4, 2), generator=1)
    half = model.path(z, other, 3)[1]
    assert half[:, 2:].tolist() == [[0.0, 0.5, 0.5, 0.5, 0.5]] * 4
    assert model.interpolate(z, other, 3).shape == (3, 4, 2)
    with pytest.raises(ValueError, match="labels must lie in 0 … 2"):
        model.sample(2, labels=3)
    with pytest.raises(ValueError, match=r"codes must have shape \(4, 2\), got \(4, 1\)"):
        model.sample(4, codes=torch.zeros(4, 1))
    with pytest.raises(ValueError, match="no classes to choose"):
        InfoGAN.build(2, classes=0, continuous=1, noise=2, hidden=(8,)).sample(2, labels=0)


def test_hierarchical_bound_is_below_the_importance_weighted_one():
    model = HierarchicalVAE.build(4, latent=2, lower=3, hidden=(16,)).double()
    x = torch.randn(30, 4, dtype=DOUBLE)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        bound = -sum(model.loss(Batch(x), source) for _ in range(400)) / 400
        single = sum(model._log_weight(x, source).mean() for _ in range(400)) / 400
    torch.testing.assert_close(bound, single, atol=0.1, rtol=0)  # closed-form KLs against draws
    assert model.log_likelihood(x, samples=50, generator=0).mean() > bound
    blind = HierarchicalVAE.build(4, latent=2, lower=3, hidden=()).double()
    for network in (blind.top, blind.residual):
        for parameter in network.parameters():
            parameter.data.zero_()
    with torch.no_grad():  # both posteriors are their priors: the KL is exactly zero
        explained = blind.loss(Batch(x), torch.Generator().manual_seed(3))
        blind.beta = 100.0
        torch.testing.assert_close(
            blind.loss(Batch(x), torch.Generator().manual_seed(3)), explained
        )


def test_contractive_penalty_is_the_squared_frobenius_norm():
    model = ContractiveAutoencoder(
        nn.Sequential(nn.Linear(4, 3), nn.Tanh()), nn.Linear(3, 4), shape=4, latent=3
    ).double()
    x = torch.randn(6, 4, dtype=DOUBLE)
    expected = sum(
        torch.autograd.functional.jacobian(lambda t: model.encode(t[None])[0], row).square().sum()
        for row in x
    )
    torch.testing.assert_close(model.contraction(x), expected / 6)
    model.loss(Batch(x)).backward()
    assert model.encoder[0].weight.grad.isfinite().all()


def test_autoencoders_walk_on_straight_lines():
    model = Autoencoder.build((1, 3, 3), latent=2, hidden=())
    start, end = torch.randn(4, 2), torch.randn(4, 2)
    path = model.interpolate(start, end, 5)
    assert path.shape == (5, 4, 1, 3, 3)
    torch.testing.assert_close(path[1], model.decode(0.75 * start + 0.25 * end).detach())
    torch.testing.assert_close(path[-1], model.decode(end).detach())
    with pytest.raises(ValueError, match=r"codes of shape \(n, 2\)"):
        model.interpolate(start, end[:, :1])


def test_sparse_and_denoising_autoencoders():
    x = torch.rand(50, 4)
    sparse = SparseAutoencoder.build(4, latent=6, hidden=(), rate=0.2)
    codes = torch.full((10, 6), 0.2)
    assert sparse.sparsity(codes).item() == pytest.approx(0.0, abs=1e-6)
    kl = 0.2 * math.log(0.2 / 0.5) + 0.8 * math.log(0.8 / 0.5)
    assert sparse.sparsity(codes + 0.3).item() == pytest.approx(6 * kl, rel=1e-5)
    plain = SparseAutoencoder.build(4, latent=6, hidden=())
    assert plain.sparsity(-codes).item() == pytest.approx(1.2)
    noisy = DenoisingAutoencoder.build(4, latent=2, noise=0.5, masking=0.3)
    assert torch.equal(noisy.corrupt(x, 1), noisy.corrupt(x, 1))
    zeroed = DenoisingAutoencoder.build(4, latent=2, noise=0.0, masking=0.3).corrupt(
        torch.ones(20000, 4), 0
    )
    assert (zeroed == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    with pytest.raises(ValueError, match=r"masking in \[0, 1\)"):
        DenoisingAutoencoder.build(4, masking=1.0)


def test_flow_is_inverted_and_its_density_integrates():
    model = CouplingFlow(2, layers=4, hidden=(16,)).double()
    x = low_rank()[:, :2]
    fit(model, x, steps=150, batch_size=400, learning_rate=5e-3, progress=False)
    torch.testing.assert_close(model.decode(model.encode(x)), x)
    z, log_det = model.transform(x[:3])
    for row in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda t: model.encode(t[None])[0], x[row])
        torch.testing.assert_close(log_det[row], torch.linalg.slogdet(jacobian)[1])
    assert z.shape == (3, 2)
    side = torch.linspace(-12, 14, 400, dtype=DOUBLE)
    grid = torch.cartesian_prod(side, side)
    mass = model.log_likelihood(grid).exp().sum() * (side[1] - side[0]) ** 2
    assert mass.item() == pytest.approx(1.0, abs=1e-3)
    gaussian = MultivariateNormal(x.mean(0), x.mT.cov()).log_prob(x).mean()
    assert model.log_likelihood(x).mean() > gaussian - 0.05
    drawn = model.sample(20000, generator=0)
    torch.testing.assert_close(drawn.mean(0), x.mean(0), atol=0.25, rtol=0)


def test_actnorm_standardises_its_first_batch():
    model = CouplingFlow(3, layers=1).train()
    x = 5 + 3 * torch.randn(500, 3)
    z, _ = model.steps[0](x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(3), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="at least two coordinates"):
        CouplingFlow(1)


def test_mmd_gan_with_identity_features_is_the_gmmn():
    network = nn.Linear(3, 2)
    kernel = MMDLoss(Gaussian(1.0))
    plain = GMMN(network, kernel, shape=2, latent=3)
    game = MMDGAN(network, nn.Identity(), kernel, shape=2, latent=3)
    batch = Batch(torch.randn(20, 2))
    torch.testing.assert_close(game.loss(batch, 5), plain.loss(batch, 5))
    (gradient,) = torch.autograd.grad(plain.loss(batch, 5), network.weight)
    (other,) = torch.autograd.grad(game.loss(batch, 5), network.weight)
    torch.testing.assert_close(gradient, other)


def test_aae_is_the_wae_with_squared_cost_and_a_critic():
    model = AAE.build(4, latent=2, hidden=(8,), weight=3.0)
    wae = WAE(
        model.encoder,
        model.decoder,
        model.penalty.divergence,
        weight=3.0,
        shape=4,
        latent=2,
    )
    batch = Batch(torch.randn(10, 4))
    torch.testing.assert_close(model.loss(batch, 1), wae.loss(batch, 1))
    torch.testing.assert_close(model.critic_loss(batch, 1), wae.critic_loss(batch, 1))


def test_wae_mmd_vanishes_when_codes_match_the_prior():
    model = WAE(nn.Identity(), nn.Identity(), shape=2, latent=2, weight=1.0)
    source = torch.Generator().manual_seed(0)
    prior = torch.randn(600, 2, generator=source)
    assert abs(model.loss(Batch(prior), 1).item()) < 0.03
    assert model.loss(Batch(prior + 3), 1).item() > 1.0
    kernel = model.penalty.divergence.options["kernel"]
    assert repr(kernel) == repr(imq_kernel(2))
    random = WAE.build(4, latent=2, random=True, hidden=(8,))
    x = torch.randn(5, 4)
    assert not torch.equal(random.codes(x, 0), random.encode(x))
    assert torch.equal(random.codes(x, 0), random.codes(x, 0))


def test_supervised_aae_decodes_the_class_it_is_told():
    x, labels = torch.randn(12, 4), torch.arange(12) % 3
    model = SupervisedAAE.build(4, classes=3, latent=2, hidden=(8,))
    fit(model, (x, labels), steps=3, batch_size=6, progress=False)
    assert not torch.equal(model.reconstruct(x, labels), model.reconstruct(x, (labels + 1) % 3))
    assert not torch.equal(
        model.sample(4, labels=0, generator=0), model.sample(4, labels=1, generator=0)
    )
    with pytest.raises(ValueError, match="reconstruct\\(x, labels\\)"):
        model.reconstruct(x)
    with pytest.raises(ValueError, match="SupervisedAAE needs labels"):
        fit(model, x, steps=1, progress=False)


def test_semi_supervised_models_learn_from_few_labels():
    source = torch.Generator().manual_seed(0)
    truth = torch.arange(300) % 2
    x = torch.randn(300, 2, generator=source) * 0.4 + 2.0 * (2 * truth[:, None] - 1)
    labels = torch.where(torch.arange(300) < 20, truth, -1)
    for build in (SemiSupervisedAAE.build, SemiSupervisedVAE.build):
        model = build(2, classes=2, latent=1, hidden=(16,))
        fit(model, (x, labels), steps=150, learning_rate=5e-3, progress=False)
        correct = (model.classify(x).argmax(-1) == truth).float().mean()
        assert correct > 0.97, build
        assert model.reconstruct(x).shape == x.shape
        assert model.sample(5, labels=1, generator=0).shape == (5, 2)


def test_conditional_gan_tells_its_classes_apart():
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    x = 0.3 * torch.randn(400, 1, generator=source) + 3.0 * (2 * labels[:, None] - 1)
    model = ConditionalGAN.build(1, classes=2, latent=2, hidden=(32,), objective="hinge")
    fit(model, (x, labels), steps=300, learning_rate=2e-3, progress=False)
    assert model.sample(200, labels=1, generator=0).mean() > 1.0
    assert model.sample(200, labels=0, generator=0).mean() < -1.0
    with pytest.raises(ValueError, match="decodes codes with labels"):
        model.decode(torch.zeros(1, 2))
    assert model.decode(with_labels(torch.zeros(1, 2), torch.tensor([0]), 2)).shape == (1, 1)


def test_infogan_loss_is_the_game_minus_the_information():
    model = InfoGAN.build(2, classes=3, continuous=2, noise=2, hidden=(8,), weight=0.5)
    batch = Batch(torch.randn(9, 2))
    z = model.noise(9, generator=4)
    assert z.shape == (9, 7)
    assert torch.equal(z[:, 2:5].sum(-1), torch.ones(9))
    assert z[:, 5:].abs().max() <= 1
    made = model.decode(z)
    game = model.divergence(batch.x, made)
    torch.testing.assert_close(model.loss(batch, 4), game - 0.5 * model.information(z, made))
    read = model.reader
    fixed = torch.zeros(9, 7)
    fixed[torch.arange(9), z[:, 2:5].argmax(-1)] = 200.0
    fixed[:, 3:5] = z[:, 5:]
    fixed[:, 5:] = -8.0

    class Perfect(nn.Module):
        def forward(self, x):
            return fixed

    model.reader = Perfect()
    sharp = 2 * (math.log(2) + 4.0 - 0.5 * math.log(2 * math.pi))
    assert model.information(z, made).item() == pytest.approx(math.log(3) + sharp, rel=1e-4)
    model.reader = read
    assert model.encode(batch.x).shape == (9,)
    with pytest.raises(ValueError, match="needs a code to read"):
        InfoGAN.build(2, classes=0, continuous=0)


def test_energy_critics():
    x = torch.randn(64, 2)
    ebgan = EBGAN.build(2, latent=3, hidden=(16,), margin=0.5)
    torch.testing.assert_close(ebgan.energy(x), (ebgan.reconstruct(x) - x).square().mean(-1))
    fit(ebgan, x, steps=5, batch_size=32, progress=False)
    began = BEGAN.build(2, latent=3, hidden=(16,), rate=0.5)
    torch.testing.assert_close(began.energy(x), (began.reconstruct(x) - x).abs().mean(-1))
    fit(began, x, steps=5, batch_size=32, progress=False)
    assert began.convergence.isfinite()
    assert 0 <= began.losses.balance.item() <= 1
    assert "losses.balance" in began.state_dict()
    with pytest.raises(ValueError, match="codes has 1 point"):
        fit(EBGAN.build(2, latent=1), x[:1], steps=1, progress=False)


def test_code_gmmn_leaves_its_autoencoder_alone():
    x = low_rank().float()
    autoencoder = Autoencoder.build(5, latent=2, hidden=())
    fit(autoencoder, x, steps=100, learning_rate=0.01, progress=False)
    before = [p.clone() for p in autoencoder.parameters()]
    model = CodeGMMN.build(autoencoder, latent=2, hidden=(16,), divergence=EnergyLoss())
    history = fit(model, x, steps=120, batch_size=64, learning_rate=5e-3, progress=False)
    losses = history.losses["generator"]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert all(torch.equal(a, b) for a, b in zip(before, autoencoder.parameters(), strict=True))
    assert model.sample(3, generator=0).shape == (3, 5)


def test_packed_critics_need_whole_packs():
    model = GAN.build(2, latent=2, hidden=(8,), packed=3)
    fit(model, torch.randn(60, 2), steps=2, batch_size=30, progress=False)
    with pytest.raises(ValueError, match="multiple of 3"):
        fit(model, torch.randn(60, 2), steps=1, batch_size=32, progress=False)


def test_spectral_and_clipped_critics():
    clipped = GAN.build(2, latent=2, hidden=(8,), objective="wgan", clip=0.02)
    fit(clipped, torch.randn(60, 2), steps=2, progress=False)
    assert all(p.abs().max() <= 0.02 for p in clipped.divergence.critic.parameters())
    spectral = GAN.build(2, latent=2, hidden=(8,), objective="hinge", spectral=True)
    fit(spectral, torch.randn(60, 2), steps=2, progress=False)
    assert spectral.sample(3, generator=0).shape == (3, 2)


def test_sinkhorn_generator_is_zero_at_equality():
    model = SinkhornGenerator(nn.Identity(), shape=2, latent=2)
    x = model.noise(50, generator=1)
    assert abs(model.loss(Batch(x), 1).item()) < 1e-3
