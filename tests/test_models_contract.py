"""Every divergence × every model that takes one: gradients, equality, unequal sizes, training."""

import math

import pytest
import torch
from torch import nn

from probmetrics.divergences.family import CRITICS, DIVERGENCES
from probmetrics.losses import (
    Adversarial,
    AggregatedPosterior,
    EnergyLoss,
    GradientPenalty,
    MMDLoss,
    SampleLoss,
    SlicedLoss,
)
from probmetrics.losses.samples import LOSSES, named_loss
from probmetrics.models import WAE, Autoencoder, Batch, CodeGMMN, fit
from probmetrics.models.implicit import ConditionalModel, ImplicitModel
from probmetrics.models.nets import MLP
from probmetrics.models.wae import slope_penalty
from probmetrics.pairwise.kernels import Gaussian, gaussian_mixture

OPTIONS = {
    "sinkhorn": {"epsilon": 0.5, "tolerance": 1e-3},
    "mmd": {"kernel": gaussian_mixture([0.5, 1.0, 2.0, 4.0])},
    "sliced": {"projections": 16},
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
        return Adversarial(critic, "wgan", penalty=GradientPenalty(10.0))
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
        chosen = divergence(name, 2)
        if name in ROWS:  # a game on codes settles with a penalty only
            chosen.penalty = slope_penalty(1.0)
        made = WAE.build(2, latent=2, hidden=(16,), divergence=chosen, weight=1.0)
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


def apart(made, batch):
    """Energy distance between what the model's divergence compares, at a fixed draw."""
    source, measure = torch.Generator().manual_seed(5), EnergyLoss()
    with torch.no_grad():
        if isinstance(made, WAE):
            return AggregatedPosterior(measure)(made.codes(batch.x), generator=source).item()
        return measure(*made.pair(batch, source)).item()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", [*NAMES, *GAMES])
def test_training_brings_the_samples_together(name, model):
    made, batch, _ = build(model, name)
    game = isinstance(getattr(made, "divergence", None) or made.penalty.divergence, Adversarial)
    steps, rate = (60, 1e-2) if game and "features" not in name else (30, 2e-2)
    if isinstance(made, WAE):
        made.weight = 10.0
        nn.init.constant_(made.encoder.layers[-1].bias, 3.0)  # codes begin away from the prior
        if name in ROWS or name == "wgan penalty":
            steps, rate = 100, 5e-3
    made.critic_steps = 2
    before = apart(made, batch)
    history = fit(
        made,
        (batch.x, batch.labels),
        steps=steps,
        batch_size=32,
        learning_rate=rate,
        progress=False,
    )
    assert apart(made, batch) < 0.5 * before
    if not game:
        losses = list(history.losses.values())[-1]
        assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
