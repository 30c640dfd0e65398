"""Terms on codes and posteriors against torch distributions, the exact KL and brute force."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from probmetrics.gaussian import Gaussian, gaussian_kl
from probmetrics.losses.adversarial import Adversarial
from probmetrics.losses.latent import (
    AggregatedPosterior,
    free_bits,
    gaussian_kl_terms,
    importance_weighted_bound,
    imq_kernel,
    reparameterised,
    residual_kl,
)
from probmetrics.losses.likelihood import (
    bernoulli_log_density,
    gaussian_log_density,
    in_unit_interval,
)
from probmetrics.losses.samples import EnergyLoss, MMDLoss
from probmetrics.losses.schedules import CyclicSchedule, LinearSchedule

DOUBLE = torch.float64


def posterior(n=6, d=3, seed=0):
    source = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, n, d, generator=source, dtype=DOUBLE)
    return mean, log_variance


def test_kl_is_that_between_the_gaussians():
    mean, log_variance = posterior()
    terms = gaussian_kl_terms(mean, log_variance)
    exact = gaussian_kl(
        Gaussian(mean, diagonal=log_variance.exp()),
        Gaussian(torch.zeros_like(mean), diagonal=torch.ones_like(mean)),
    )
    torch.testing.assert_close(terms.sum(-1), exact)
    prior_mean, prior_log_variance = posterior(seed=1)
    general = gaussian_kl_terms(
        mean, log_variance, prior_mean=prior_mean, prior_log_variance=prior_log_variance
    )
    torch.testing.assert_close(
        general,
        kl_divergence(
            Normal(mean, (log_variance / 2).exp()),
            Normal(prior_mean, (prior_log_variance / 2).exp()),
        ),
    )


def test_kl_is_zero_at_the_prior_and_survives_extremes():
    assert gaussian_kl_terms(torch.zeros(2), torch.zeros(2)).tolist() == [0.0, 0.0]
    near = gaussian_kl_terms(torch.zeros(1), torch.tensor([1e-3]))
    assert near.item() == pytest.approx(0.25e-6, rel=1e-3)
    log_variance = torch.tensor([-800.0], requires_grad=True)
    value = gaussian_kl_terms(torch.zeros(1), log_variance)
    value.sum().backward()
    assert value.item() == pytest.approx(399.5)
    assert log_variance.grad.item() == pytest.approx(-0.5)


def test_residual_kl_is_the_closed_form_of_a_shifted_posterior():
    prior_mean, prior_log_variance = posterior(seed=2)
    shift, log_ratio = posterior(seed=3)
    q = Normal(
        prior_mean + (prior_log_variance / 2).exp() * shift,
        ((prior_log_variance + log_ratio) / 2).exp(),
    )
    p = Normal(prior_mean, (prior_log_variance / 2).exp())
    torch.testing.assert_close(residual_kl(shift, log_ratio), kl_divergence(q, p))


def test_free_bits_floor_each_coordinate():
    terms = torch.tensor([[0.0, 1.0], [0.2, 3.0]])
    assert free_bits(terms, 0.0).item() == pytest.approx(2.1)
    assert free_bits(terms, 0.5).item() == pytest.approx(2.5)
    batched = torch.stack([terms, terms])  # leading dimensions are points too
    assert free_bits(batched, 0.5).item() == pytest.approx(2.5)
    with pytest.raises(ValueError, match="nats must be zero or more"):
        free_bits(terms, -1.0)


def test_importance_weighted_bound_grows_with_k_towards_log_p():
    # p(z) = N(0,1), p(x|z) = N(z,1), so p(x) = N(0,2); a bad posterior N(0,1).
    x = torch.tensor([1.5], dtype=DOUBLE)
    z = torch.randn(4000, 64, 1, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    log_weights = Normal(z, 1.0).log_prob(x)  # prior and posterior cancel
    bounds = [
        importance_weighted_bound(log_weights[:, :k], dim=1).mean().item() for k in (1, 4, 16, 64)
    ]
    exact = Normal(0.0, math.sqrt(2)).log_prob(torch.tensor(1.5)).item()
    assert bounds == sorted(bounds)
    assert bounds[-1] < exact + 0.01
    assert bounds[-1] == pytest.approx(exact, abs=0.02)


def test_draws_are_reparameterised_and_seeded():
    mean, log_variance = posterior(n=2, d=2)
    mean.requires_grad_(), log_variance.requires_grad_()
    draws = reparameterised(mean, log_variance, samples=20000, generator=0)
    torch.testing.assert_close(draws.mean(0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(draws.var(0), log_variance.exp(), atol=0.05, rtol=0.05)
    assert torch.equal(
        reparameterised(mean, log_variance, generator=3),
        reparameterised(mean, log_variance, generator=3),
    )
    draws.sum().backward()
    torch.testing.assert_close(mean.grad, torch.full_like(mean, 20000.0))


def test_log_densities_are_those_of_torch():
    source = torch.Generator().manual_seed(0)
    x, mean = torch.rand(2, 4, 1, 3, 3, generator=source, dtype=DOUBLE)
    log_variance = torch.tensor(0.3, dtype=DOUBLE)
    expected = Normal(mean, (log_variance / 2).exp()).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(gaussian_log_density(x, mean, log_variance, event_ndim=3), expected)
    binary = (x > 0.5).double()
    expected = Bernoulli(logits=mean).log_prob(binary).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_log_density(binary, mean, event_ndim=3), expected)
    far = bernoulli_log_density(torch.zeros(1, 1), torch.full((1, 1), 1e4))
    assert far.item() == -1e4


def test_bernoulli_data_outside_the_unit_interval_are_named():
    in_unit_interval(torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"x holds 16 at \(1, 0\).*divide pixels"):
        in_unit_interval(torch.tensor([[0.0], [16.0]]))


def test_imq_kernel_has_the_papers_constants():
    z = torch.zeros(1, 8)
    w = torch.zeros(1, 8)
    w[0, 0] = 4.0  # squared distance 16 = C for d = 8, σ = 1
    assert imq_kernel(8, scales=[1.0])(z, w).item() == pytest.approx(0.5)
    total = sum(s * 16 / (s * 16 + 16) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))
    assert imq_kernel(8)(z, w).item() == pytest.approx(total)
    with pytest.raises(ValueError, match="latent must be at least 1"):
        imq_kernel(0)


def test_aggregated_posterior_vanishes_for_codes_from_the_prior():
    penalty = AggregatedPosterior(MMDLoss(imq_kernel(2, sd=2.0)), sd=2.0)
    source = torch.Generator().manual_seed(0)
    codes = 2.0 * torch.randn(400, 2, generator=source)
    assert abs(penalty(codes, generator=1).item()) < 0.02
    assert penalty(codes * 0.2, generator=1).item() > 0.3
    assert torch.equal(penalty(codes, generator=1), penalty(codes, generator=1))


def test_aggregated_posterior_with_a_critic():
    torch.manual_seed(0)
    penalty = AggregatedPosterior(Adversarial(torch.nn.Linear(2, 1)))
    codes = torch.randn(10, 2, requires_grad=True)
    penalty(codes, generator=0).backward()
    assert codes.grad.abs().sum() > 0
    penalty.critic_loss(codes, generator=0).backward()
    with pytest.raises(TypeError, match="EnergyLoss has no critic"):
        AggregatedPosterior(EnergyLoss()).critic_loss(codes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_terms_are_those_of_float32(dtype):
    mean, log_variance = (0.1 * t.to(dtype) for t in posterior(n=40))
    x = torch.rand(5, 200, generator=torch.Generator().manual_seed(0)).to(dtype)
    logits = (4 * x - 2).to(dtype)
    log_weights = (-100 + 3 * mean).to(dtype)
    cases = [
        (gaussian_kl_terms, (mean, log_variance)),
        (residual_kl, (mean, log_variance)),
        (gaussian_log_density, (x, logits, logits)),
        (bernoulli_log_density, (x, logits)),
        (importance_weighted_bound, (log_weights,)),
        (lambda terms: free_bits(terms, 0.0), (mean.square(),)),
    ]
    for function, tensors in cases:
        value = function(*tensors)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, function(*(t.float() for t in tensors)))


def test_shapes_without_points_or_samples_are_refused():
    with pytest.raises(ValueError, match=r"terms must have shape \(n, d\) with n >= 1, got \(4,\)"):
        free_bits(torch.ones(4), 0.1)
    with pytest.raises(ValueError, match="the number of samples must be at least 1"):
        importance_weighted_bound(torch.zeros(0, 3))


def test_schedules():
    warm = LinearSchedule(1.0, 0.0, steps=10, delay=5)
    assert [warm(s) for s in (0, 5, 10, 15, 99)] == [1.0, 1.0, 0.5, 0.0, 0.0]
    cycle = CyclicSchedule(period=10, rising=0.5)
    assert [cycle(s) for s in (0, 5, 9, 10)] == [0.0, 1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="steps must be at least 1"):
        LinearSchedule(steps=0)
    with pytest.raises(ValueError, match="rising must lie in"):
        CyclicSchedule(rising=0.0)
