"""Every divergence × every model that takes one: gradients, equality, unequal sizes, training."""

import math

import pytest
import torch
from torch import nn

from probmetrics.divergences.family import CRITICS, DIVERGENCES
from probmetrics.losses import Adversarial, GradientPenalty, MMDLoss, SampleLoss, SlicedLoss
from probmetrics.losses.samples import LOSSES, named_loss
from probmetrics.models import GMMN, WAE, Autoencoder, Batch, CodeGMMN, fit
from probmetrics.models.implicit import ConditionalModel, ImplicitModel
from probmetrics.models.nets import MLP
from probmetrics.pairwise.kernels import Gaussian, gaussian_mixture

OPTIONS = {
    "mmd": {"kernel": gaussian_mixture([0.5, 1.0, 2.0, 4.0])},
    "sliced": {"projections": 32},
    "max_sliced": {"restarts": 1, "steps": 5},
}
NAMES = [name for name in LOSSES if name != "wasserstein_1d"]
ROWS = {**DIVERGENCES, **CRITICS}
GAMES = [*ROWS, "mmd features", "sliced features", "wgan penalty"]
MODELS = ["implicit", "conditional", "codes", "wae"]
# A critic that scores everything alike sees f(1), up to the constant of the row's pair.
AT_EQUALITY = {"gan": -2 * math.log(2), "hinge": -2.0, "least squares": -0.25}


def divergence(name, width):
    if name in LOSSES:
        return named_loss(name, **OPTIONS.get(name, {}))
    if name == "mmd features":
        return Adversarial(MLP(width, 3, hidden=(16,)), MMDLoss(Gaussian(1.0)))
    if name == "sliced features":
        return Adversarial(MLP(width, 3, hidden=(16,)), SlicedLoss(projections=16))
    critic = MLP(width, 1, hidden=(16,), activation="tanh")
    if name == "wgan penalty":
        return Adversarial(critic, "wgan", penalty=GradientPenalty(1.0))
    return Adversarial(critic, name)


def build(model, name):
    """The model, data that fit it, and its decoder or encoder whose gradient is looked at."""
    torch.manual_seed(0)
    x = torch.randn(96, 2, generator=torch.Generator().manual_seed(1)) * 0.7 + 2.0
    labels = torch.arange(96) % 2
    if model == "implicit":
        network = MLP(3, 2, hidden=(16,))
        made = ImplicitModel(network, divergence(name, 2), shape=2, latent=3)
    elif model == "conditional":
        network = MLP(5, 2, hidden=(16,))
        made = ConditionalModel(network, divergence(name, 4), shape=2, latent=3, classes=2)
    elif model == "codes":
        autoencoder, network = Autoencoder.build(2, latent=2, hidden=()), MLP(3, 2, hidden=(16,))
        chosen = divergence(name, 2)
        made = CodeGMMN(autoencoder, network, latent=3)
        made.divergence = chosen
    else:
        made = WAE.build(2, latent=2, hidden=(16,), divergence=divergence(name, 2), weight=1.0)
        network = made.encoder
    return made, Batch(x, labels), network


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", [*NAMES, *GAMES])
def test_gradient_is_finite_and_not_zero(name, model):
    made, batch, network = build(model, name)
    for objective in made.objectives():
        parameters = list(objective.parameters)
        value = objective.loss(batch, torch.Generator().manual_seed(0))
        gradients = torch.autograd.grad(value, parameters, allow_unused=True)
        assert value.isfinite(), objective.name
        total = sum(g.abs().sum() for g in gradients if g is not None)
        assert total.isfinite(), objective.name
        assert total > 1e-6, objective.name
    assert next(network.parameters()).requires_grad


@pytest.mark.parametrize("name", [*NAMES, *GAMES])
def test_known_value_at_equality_with_unequal_sizes_and_no_bias(name):
    torch.manual_seed(0)
    loss = divergence(name, 2)
    if isinstance(loss, Adversarial) and not isinstance(loss.objective, SampleLoss):
        last = loss.critic.layers[-1]
        nn.init.zeros_(last.weight)
        # The best constant critic: the raw output at log p/q = 0.
        row = ROWS[loss.objective.row.name]
        score = row.output(torch.zeros(())).item() if name in DIVERGENCES else 0.0
        score = 0.5 if name == "least squares" else score
        nn.init.constant_(last.bias, score)
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    y = x.repeat(2, 1)  # the same distribution with twice as many points
    value = loss(x, y, generator=torch.Generator().manual_seed(0))
    expected = AT_EQUALITY.get(name, 0.0)
    tolerance = {"mmd": 0.05, "mmd features": 0.05, "frechet": 5e-3}.get(name, 2e-3)
    assert value.item() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_every_sample_divergence(name):
    torch.manual_seed(0)
    x = torch.randn(256, 2, generator=torch.Generator().manual_seed(1)) * 0.5 + 1.5
    model = GMMN(MLP(2, 2, hidden=(16,)), divergence(name, 2), shape=2, latent=2, samples=24)
    history = fit(model, x, steps=50, batch_size=32, learning_rate=0.02, progress=False)
    losses = history.losses["generator"]
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])


@pytest.mark.parametrize("name", GAMES)
def test_training_an_adversarial_divergence_moves_samples_to_the_data(name):
    torch.manual_seed(0)
    x = torch.randn(256, 2, generator=torch.Generator().manual_seed(1)) * 0.5 + 1.5
    game = divergence(name, 2)
    model = ImplicitModel(MLP(2, 2, hidden=(16,)), game, shape=2, latent=2, critic_steps=2)
    measure = named_loss("energy")
    before = measure(x, model.sample(256, generator=0)).item()
    fit(model, x, steps=80, batch_size=32, learning_rate=1e-2, progress=False)
    assert measure(x, model.sample(256, generator=0)).item() < 0.5 * before
