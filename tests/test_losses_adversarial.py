"""Adversarial losses against their optima: exact critics, minima at equality, penalties by hand."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Normal, Uniform

from probmetrics.divergences.family import (
    CRITICS,
    DIVERGENCES,
    GAN,
    JS,
    Hinge,
    PearsonChi2,
    least_squares,
)
from probmetrics.losses.adversarial import Adversarial, AdversarialLoss
from probmetrics.losses.energy_based import BEGANLoss, EBGANLoss, pulling_away
from probmetrics.losses.latent import information_bound
from probmetrics.losses.penalties import (
    GradientPenalty,
    clip_weights,
    gradient_penalty,
    spectral_normalise,
)
from probmetrics.losses.samples import EnergyLoss, MMDLoss
from probmetrics.losses.showing import pack, with_labels
from probmetrics.pairwise.kernels import Gaussian

LOG2 = math.log(2)
LINE = torch.linspace(-12, 13, 20001, dtype=torch.float64)
P, Q = (Normal(torch.tensor(m, dtype=torch.float64), 1.0).log_prob(LINE).exp() for m in (0.0, 1.0))
STEP = float(LINE[1] - LINE[0])
ROWS = [*DIVERGENCES.values(), *CRITICS.values()]


def integrated(loss, score_p, score_q):
    """The critic's loss with densities in place of samples."""
    row = loss.row
    return -((row.activation(score_p) * P).sum() - (row.composite(score_q) * Q).sum()) * STEP


def test_optimal_discriminator_is_the_density_ratio_and_gives_two_js_minus_two_log_two():
    logit = (P / Q).log()
    torch.testing.assert_close(torch.sigmoid(logit), P / (P + Q))
    value = -integrated(AdversarialLoss(GAN), logit, logit)
    assert value.item() == pytest.approx(2 * 0.11142148 - 2 * LOG2, abs=1e-7)
    assert value.item() == pytest.approx(-1.16345140, abs=1e-7)
    # and no other critic does better
    source = torch.Generator().manual_seed(0)
    for _ in range(5):
        other = logit + 0.3 * torch.randn((), generator=source, dtype=torch.float64)
        assert -integrated(AdversarialLoss(GAN), other, other) < value


@pytest.mark.parametrize("row", DIVERGENCES.values(), ids=repr)
def test_the_optimal_output_of_each_row_reaches_the_divergence(row):
    logit = 0.5 - LINE  # log p/q of N(0,1) against N(1,1)
    if row.name == "total variation":
        logit = 1e3 * logit
    value = -integrated(AdversarialLoss(row), row.output(logit), row.output(logit)).item()
    exact = (row.f(P / Q) * Q).sum().item() * STEP
    inside = row.name in ("js", "gan", "total variation", "kl", "reverse kl", "le cam", "jeffrey")
    assert value == pytest.approx(exact, abs=1e-5 if inside else 1e-3)


def test_gan_losses_are_those_of_the_paper():
    source = torch.Generator().manual_seed(0)
    sx, sy = torch.randn(50, generator=source), torch.randn(40, generator=source)
    real, fake = torch.sigmoid(sx), torch.sigmoid(sy)
    critic = -real.log().mean() - (1 - fake).log().mean()
    torch.testing.assert_close(AdversarialLoss(GAN).critic(sx, sy), critic)
    torch.testing.assert_close(AdversarialLoss("gan").generator(sy), -fake.log().mean())
    minimax = AdversarialLoss(GAN, saturating=True).generator(sy)
    torch.testing.assert_close(minimax, (1 - fake).log().mean())
    torch.testing.assert_close(AdversarialLoss("wgan").critic(sx, sy), sy.mean() - sx.mean())
    hinge = torch.relu(1 - sx).mean() + torch.relu(1 + sy).mean()
    torch.testing.assert_close(AdversarialLoss(Hinge).critic(sx, sy), hinge)
    squares = 0.5 * ((sx - 1) ** 2).mean() + 0.5 * (sy**2).mean()
    torch.testing.assert_close(AdversarialLoss("least squares").critic(sx, sy), squares)
    torch.testing.assert_close(
        AdversarialLoss("least squares").generator(sy), 0.5 * ((sy - 1) ** 2).mean()
    )


def test_saturating_gradient_vanishes_for_a_sure_critic_and_the_other_does_not():
    sure = torch.full((8,), -30.0, requires_grad=True)
    (vanishing,) = torch.autograd.grad(AdversarialLoss(GAN, saturating=True).generator(sure), sure)
    (alive,) = torch.autograd.grad(AdversarialLoss(GAN).generator(sure), sure)
    assert vanishing.abs().max() < 1e-12
    torch.testing.assert_close(alive, torch.full((8,), -1 / 8))


def test_least_squares_with_b_minus_a_two_and_b_minus_c_one_is_pearson_of_the_mixture():
    row = least_squares(fake=-1.0, real=1.0, target=0.0)
    score = (P - Q) / (P + Q)
    critic = integrated(AdversarialLoss(row), score, score)
    assert critic.item() < integrated(AdversarialLoss(row), score + 0.05, score + 0.05).item()
    both = (row.generator(score) * (P + Q)).sum() * STEP
    mixture, twice = P + Q, 2 * Q
    pearson = ((mixture - twice) ** 2 / mixture).sum() * STEP / 2
    assert both.item() == pytest.approx(pearson.item(), rel=1e-6)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_gradients_stay_finite_for_wild_scores(row):
    scores = torch.tensor([-1000.0, -60.0, 0.0, 60.0, 1000.0], requires_grad=True)
    loss = AdversarialLoss(row)
    for value in (loss.critic(scores, scores), loss.generator(scores)):
        (gradient,) = torch.autograd.grad(value, scores)
        assert value.isfinite(), row
        assert gradient.isfinite().all(), row


def test_half_precision_scores_give_float32():
    scores = torch.randn(7, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert AdversarialLoss(JS).critic(scores, scores).dtype == torch.float32


class Weighted(nn.Module):
    """A linear critic with a given weight."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return x @ self.weight


@pytest.mark.parametrize("at", ["between", "real", "fake", "both"])
def test_penalty_of_a_linear_critic_is_zero_at_norm_one(at):
    x, y = torch.randn(9, 2), torch.randn(6, 2)
    assert gradient_penalty(Weighted([0.6, 0.8]), x, y, at=at, generator=0).item() < 1e-12
    wide = gradient_penalty(Weighted([3.0, 4.0]), x, y, at=at, generator=0)
    assert wide.item() == pytest.approx(16.0)
    flat = Weighted([0.0, 0.5])
    assert gradient_penalty(flat, x, y, at=at, generator=0).item() == pytest.approx(0.25)
    assert gradient_penalty(flat, x, y, at=at, one_sided=True, generator=0).item() == 0.0


def test_penalty_norm_is_taken_per_sample():
    x = torch.tensor([[1.0], [3.0]])  # gradients 2 and 6 of t ↦ t²: (1 + 25)/2, not (√40 − 1)²
    value = gradient_penalty(lambda t: t.square().sum(-1), x, x, at="real")
    assert value.item() == pytest.approx(13.0)
    ones = gradient_penalty(lambda t: t.square().sum(-1), x, x, at="real", target=0.0)
    assert ones.item() == pytest.approx(20.0)


def test_penalty_interpolates_each_pair_and_reaches_the_parameters():
    seen = []

    def critic(t):
        seen.append(t.detach())
        return network(t)

    network = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    x, y = torch.zeros(5, 2), torch.tensor([[1.0, 2.0]]).repeat(3, 1)
    gradient_penalty(critic, x, y, generator=0).backward()
    assert seen[0].shape == (3, 2)
    torch.testing.assert_close(seen[0][:, 1], 2 * seen[0][:, 0])  # on the segment
    assert len(seen[0][:, 0].unique()) == 3  # a place of its own for each pair
    assert network[0].weight.grad.abs().sum() > 0
    repeated = gradient_penalty(network, x, y, generator=0)
    assert torch.equal(repeated, gradient_penalty(network, x, y, generator=0))


def test_penalty_where_the_critic_is_flat_has_a_finite_gradient():
    critic = Weighted([0.0, 0.0])
    gradient_penalty(critic, torch.zeros(3, 2), torch.ones(3, 2), generator=0).backward()
    assert critic.weight.grad.isfinite().all()


def test_penalty_refuses_what_it_cannot_use():
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="do not depend on its input"):
        gradient_penalty(lambda t: torch.zeros(len(t)), x, x)
    with pytest.raises(ValueError, match="points of one shape"):
        gradient_penalty(nn.Linear(2, 1), x, torch.zeros(3, 3))
    with pytest.raises(ValueError, match="unknown at 'everywhere'"):
        gradient_penalty(nn.Linear(2, 1), x, x, at="everywhere")
    with pytest.raises(ValueError, match="weight must be above zero"):
        GradientPenalty(0.0)


@pytest.mark.parametrize("at", ["between", "real", "fake", "both"])
def test_penalty_joins_the_dtypes_that_autocast_leaves(at):
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    y = (x + 1).bfloat16()
    critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    options = {"at": at, "generator": 0}
    value = gradient_penalty(critic, x, y, **options)
    torch.testing.assert_close(value, gradient_penalty(critic, x, y.float(), **options))
    with torch.autocast("cpu", torch.bfloat16):
        half = gradient_penalty(critic, x, y, **options)
    torch.testing.assert_close(half, value, rtol=0.05, atol=0.01)
    with pytest.raises(ValueError, match="at least one point each"):
        gradient_penalty(critic, x, y[:0], at=at)


def test_no_scores_are_no_loss():
    none, some = torch.zeros(0), torch.zeros(3)
    for critic in (AdversarialLoss("gan"), EBGANLoss(), BEGANLoss()):
        for scores in ((none, some), (some, none)):
            with pytest.raises(ValueError, match="is empty, shape \\(0,\\); pass at least one"):
                critic.critic(*scores)
        with pytest.raises(ValueError, match="_y is empty"):
            critic.generator(none)


def test_half_precision_codes_and_energies_are_averaged_in_float32():
    codes = torch.randn(9, 500, generator=torch.Generator().manual_seed(0)).bfloat16()
    torch.testing.assert_close(pulling_away(codes), pulling_away(codes.float()))
    energy = codes.abs()[:, 0]
    assert EBGANLoss().critic(energy, energy).dtype == torch.float32
    assert BEGANLoss().generator(energy) == energy.float().mean()


def test_clipping_and_spectral_normalisation():
    network = nn.Sequential(nn.Linear(3, 5), nn.Conv1d(1, 2, 3))
    clip_weights(network, 0.02)
    assert all(p.abs().max() <= 0.02 for p in network.parameters())
    normal = spectral_normalise(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 1)))
    for _ in range(200):
        normal(torch.zeros(1, 6))
    assert torch.linalg.matrix_norm(normal[0].weight, 2).item() == pytest.approx(1.0, rel=1e-2)
    assert spectral_normalise(normal) is normal  # a second time changes nothing
    assert len(normal[0].parametrizations.weight) == 1


def test_ebgan_and_pulling_away():
    loss = EBGANLoss(margin=3.0)
    energies = torch.tensor([0.5, 4.0])
    assert loss.critic(energies, energies).item() == pytest.approx(2.25 + 1.25)
    # at P = Q the best critic is any constant γ ∈ [0, m], and its value is m
    for constant in (0.0, 1.0, 3.0):
        same = torch.full((4,), constant)
        assert loss.critic(same, same).item() == pytest.approx(3.0)
    codes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    assert pulling_away(codes).item() == pytest.approx((0 + 0.5 + 0.5) * 2 / 6)
    assert pulling_away(torch.ones(4, 3)).item() == pytest.approx(1.0)
    zero = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    pulling_away(zero).backward()
    assert zero.grad.isfinite().all()
    assert torch.autograd.gradcheck(pulling_away, codes.requires_grad_())
    with pytest.raises(ValueError, match="codes has 1 point and at least 2 are needed"):
        pulling_away(torch.ones(1, 3))


def test_began_balance_has_its_fixed_point():
    loss = BEGANLoss(diversity=0.5, rate=0.1)
    x = torch.tensor([2.0])
    at_equilibrium = loss.update(x, torch.tensor([1.0]))
    assert (loss.balance.item(), at_equilibrium.item()) == (0.0, 2.0)
    for _ in range(100):
        loss.update(x, torch.tensor([0.2]))  # L(G) too small: k rises, up to 1
    assert loss.balance.item() == 1.0
    assert loss.critic(x, torch.tensor([0.2])).item() == pytest.approx(1.8)
    for _ in range(100):
        loss.update(x, torch.tensor([3.0]))
    assert loss.balance.item() == 0.0
    restored = BEGANLoss()
    loss.balance.fill_(0.3)
    restored.load_state_dict(loss.state_dict())
    assert restored.balance.item() == pytest.approx(0.3)


def test_information_bound_is_the_entropy_for_a_perfect_posterior():
    prior = Categorical(probs=torch.tensor([0.5, 0.25, 0.25]))
    codes = torch.tensor([0, 1, 2, 0])
    sure = Categorical(logits=200.0 * torch.eye(3)[codes])
    torch.testing.assert_close(information_bound(sure, codes, prior), prior.entropy())
    blind = Categorical(probs=prior.probs.expand(4, 3))
    value = information_bound(blind, codes, prior)  # no information, in expectation
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    uniform = Uniform(-torch.ones(2), torch.ones(2))
    points = torch.zeros(5, 2)
    bound = information_bound(Normal(points, 0.1), points, uniform)
    log_density = 2 * Normal(0.0, 0.1).log_prob(torch.tensor(0.0))
    torch.testing.assert_close(bound, log_density + 2 * LOG2)


def test_packing_and_labels():
    x = torch.arange(24.0).reshape(4, 2, 3, 1)
    packed = pack(x, 2)
    assert packed.shape == (2, 4, 3, 1)
    assert torch.equal(packed[1, 2:], x[3])
    with pytest.raises(ValueError, match="multiple of 3"):
        pack(x, 3)
    images = with_labels(torch.zeros(2, 1, 3, 3), torch.tensor([2, 0]), 3)
    assert images.shape == (2, 4, 3, 3)
    assert torch.equal(images[0, 3], torch.ones(3, 3))
    shares = torch.tensor([[0.3, 0.7]], requires_grad=True)
    with_labels(torch.zeros(1, 1), shares, 2).sum().backward()
    assert torch.equal(shares.grad, torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"labels must lie in 0 … 2, got 0 … 3"):
        with_labels(torch.zeros(2, 1), torch.tensor([0, 3]), 3)
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\)"):
        with_labels(torch.zeros(2, 1), torch.tensor([0]), 3)


@pytest.mark.parametrize("row", ROWS, ids=repr)
@pytest.mark.parametrize("saturating", [False, True])
def test_adversarial_value_is_the_bound_and_its_gradient_the_generators(row, saturating):
    if saturating and row in CRITICS.values():
        with pytest.raises(ValueError, match="saturating does not apply"):
            Adversarial(nn.Linear(2, 1), row, saturating=True)
        return
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))
    x, y = torch.randn(7, 2), torch.randn(5, 2, requires_grad=True)
    divergence = Adversarial(critic, row, saturating=saturating)
    loss = AdversarialLoss(row, saturating=saturating)
    value = divergence(x, y)
    torch.testing.assert_close(value, loss.bound(critic(x), critic(y)))
    (gradient,) = torch.autograd.grad(value, y)
    (expected,) = torch.autograd.grad(loss.generator(critic(y)), y)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(divergence.critic_loss(x, y), -value)


def test_adversarial_with_identity_features_is_the_sample_loss():
    x, y = torch.randn(7, 2), torch.randn(5, 2)
    plain = MMDLoss(Gaussian(1.0))
    divergence = Adversarial(nn.Identity(), plain, penalty=GradientPenalty(1.0))
    torch.testing.assert_close(divergence(x, y), plain(x, y))
    potential = divergence.potential(x, y)
    torch.testing.assert_close(potential(x), plain.witness(x, y, x))
    assert divergence.critic_loss(x, y, generator=0) > -plain(x, y)
    with pytest.raises(ValueError, match="a penalty needs a critic function"):
        Adversarial(nn.Identity(), EnergyLoss(), penalty=GradientPenalty())


def test_training_the_critic_raises_the_bound_to_the_divergence():
    torch.manual_seed(0)
    source = torch.Generator().manual_seed(1)
    x = torch.randn(4000, 1, generator=source)
    y = 1 + torch.randn(4000, 1, generator=source)
    divergence = Adversarial(nn.Linear(1, 1), PearsonChi2)
    js = Adversarial(nn.Linear(1, 1), JS)  # log p/q is linear here, so the family holds it
    optimiser = torch.optim.Adam(js.critic.parameters(), lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        js.critic_loss(x, y).backward()
        optimiser.step()
    assert js(x, y).item() == pytest.approx(2 * 0.11142148, abs=0.02)
    assert divergence(x, x).isfinite()


def test_bad_scores_are_named():
    scores = torch.tensor([0.0, float("nan")])
    with pytest.raises(ValueError, match="score_y holds nan at position 1"):
        AdversarialLoss("gan").critic(torch.zeros(3), scores)
    with pytest.raises(ValueError, match="unknown divergence 'gna'; known: kl"):
        AdversarialLoss("gna")
