"""The training loop: seeds, exact resume, averages, early stopping, refusals, precision."""

from functools import partial

import numpy as np
import pandas
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from probmetrics.divergences.family import JS
from probmetrics.losses import EnergyLoss, SlicedLoss
from probmetrics.models import (
    GAN,
    GMMN,
    MMDGAN,
    VAE,
    Autoencoder,
    Batch,
    ConditionalGAN,
    GaussianModel,
    MixtureModel,
    SemiSupervisedAAE,
    SemiSupervisedVAE,
    SupervisedAAE,
    TrainingDivergedError,
    fit,
)
from probmetrics.models.base import AbstractLatentModel, Objective, arc
from probmetrics.models.nets import MLP, ConvDecoder, decoder, encoder
from probmetrics.models.stream import Stream

QUIET = {"progress": False}


def data(n=200, d=2, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 1.0


def made(build, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def gan():
    return made(lambda: GAN.build(2, latent=3, hidden=(8,), penalty=1.0, objective="wgan"))


def gmmn():
    return made(lambda: GMMN.build(2, latent=3, hidden=(8,), divergence=SlicedLoss(generator=1)))


def dropping():
    def build():
        network = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        return GMMN(network, EnergyLoss(), shape=2, latent=3)

    return made(build)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("build", [gan, gmmn, dropping])
def test_same_seed_same_weights_and_the_global_state_is_put_back(build):
    before = torch.get_rng_state()
    first, second, third = build(), build(), build()
    before = torch.get_rng_state()
    fit(first, data(), steps=6, batch_size=32, **QUIET)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(1)  # another global state changes nothing
    fit(second, data(), steps=6, batch_size=32, **QUIET)
    fit(third, data(), steps=6, batch_size=32, seed=1, **QUIET)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(third))


def sampler(n, *, generator):
    return torch.randn(n, 2, generator=generator)


def loader():
    return DataLoader(TensorDataset(data(100)), batch_size=32, shuffle=True)


@pytest.mark.parametrize(
    "source", [data, lambda: sampler, loader], ids=["tensor", "sampler", "loader"]
)
@pytest.mark.parametrize("build", [gan, gmmn, dropping])
def test_a_killed_run_resumes_to_the_same_weights(build, source, tmp_path):
    options = {"batch_size": 48, "ema": 0.9, "every": 3, "metric": weight_norm, **QUIET}
    whole = build()
    history = fit(whole, source(), steps=9, **options)

    def kill(step, model):
        if step == 9:
            raise KeyboardInterrupt

    path = tmp_path / "run.pt"
    broken = build()
    with pytest.raises(KeyboardInterrupt):
        fit(broken, source(), steps=9, checkpoint=path, callback=kill, **options)
    resumed = build()
    later = fit(resumed, source(), steps=9, checkpoint=path, resume=True, **options)
    assert torch.equal(weights(whole), weights(resumed))
    assert history.losses == later.losses
    assert history.metrics == later.metrics
    again = fit(build(), source(), steps=9, checkpoint=path, resume=True, **options)
    assert again.steps == 9  # nothing left to do


def weight_norm(model):
    return float(weights(model).norm())


def test_checkpoints_of_others_are_refused(tmp_path):
    path = tmp_path / "run.pt"
    fit(gmmn(), data(), steps=2, checkpoint=path, **QUIET)
    with pytest.raises(ValueError, match="holds a GMMN, not a GAN"):
        fit(gan(), data(), steps=3, checkpoint=path, resume=True, **QUIET)
    wider = GMMN.build(2, latent=3, hidden=(9,), divergence=SlicedLoss(generator=1))
    with pytest.raises(ValueError, match="does not fit this model"):
        fit(wider, data(), steps=3, checkpoint=path, resume=True, **QUIET)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is no training checkpoint"):
        fit(gmmn(), data(), steps=3, checkpoint=path, resume=True, **QUIET)
    torch.save({"format": "probmetrics training 0"}, path)
    with pytest.raises(ValueError, match="no checkpoint of this version"):
        fit(gmmn(), data(), steps=3, checkpoint=path, resume=True, **QUIET)
    with pytest.raises(ValueError, match="needs checkpoint="):
        fit(gmmn(), data(), steps=3, resume=True, **QUIET)


class Exploding(AbstractLatentModel):
    """A loss that becomes infinite at a given step."""

    shape, latent = (1,), 1

    def __init__(self, at, how):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.at, self.how = at, how

    def decode(self, z):
        return self.weight * z

    def loss(self, batch, generator):
        if batch.step < self.at:
            return self.weight.square().sum()
        return (
            self.weight.sum() * float("inf")
            if self.how == "loss"
            else (self.weight - self.weight.detach()).abs().sqrt().sum()
        )

    def objectives(self):
        return [Objective("bomb", list(self.parameters()), self.loss)]


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_with_everything_said(how, tmp_path):
    model, path = Exploding(5, how), tmp_path / "run.pt"
    with pytest.raises(TrainingDivergedError) as caught:
        fit(model, data(d=1), steps=20, every=2, checkpoint=path, **QUIET)
    error = caught.value
    assert (error.step, error.objective, error.checkpoint) == (5, "bomb", path)
    assert "step 5: the bomb" in str(error)
    assert str(path) in str(error)
    assert model.weight.isfinite().all()  # the bad step was not taken
    kept = torch.load(path, weights_only=True)
    assert kept["history"]["steps"] == 4
    assert kept["model"]["weight"].isfinite().all()


def test_nan_in_the_data_is_named_by_row():
    x = data()
    x[17, 1] = float("nan")
    with pytest.raises(ValueError, match="data holds nan at row 17, column 1"):
        fit(gmmn(), x, steps=2, **QUIET)

    def bad(n, *, generator):
        return torch.full((n, 2), float("inf"))

    with pytest.raises(ValueError, match="data holds inf at row 0"):
        fit(gmmn(), bad, steps=2, **QUIET)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"data must have shape \(n, 2\)"):
        fit(gmmn(), data(d=3), steps=1, **QUIET)
    with pytest.raises(TypeError, match="data must be a tensor, a pair"):
        fit(gmmn(), 3.0, steps=1, **QUIET)
    with pytest.raises(ValueError, match=r"labels must have shape \(200,\)"):
        fit(gmmn(), (data(), torch.zeros(3)), steps=1, **QUIET)
    with pytest.raises(ValueError, match="gave no batches"):
        fit(gmmn(), [], steps=1, **QUIET)
    with pytest.raises(ValueError, match="x has 1 point and at least 2 are needed"):
        fit(GMMN.build(2, latent=1), data(1), steps=1, **QUIET)
    with pytest.raises(ValueError, match="latent must be at least 1"):
        GMMN.build(2, latent=0)
    with pytest.raises(ValueError, match="unknown precision"):
        fit(gmmn(), data(), steps=1, precision="float8", **QUIET)


def test_batches_pass_over_all_rows_before_any_comes_again():
    model = gmmn()
    stream, source = Stream(data(10), model, 3), torch.Generator().manual_seed(0)
    index = torch.cat([stream.draw(source).index for _ in range(3)])
    assert len(index.unique()) == 9
    assert Stream(data(10), model, 64).draw(source).x.shape == (10, 2)


def test_average_of_the_weights_is_what_it_says():
    model, seen = made(lambda: Autoencoder.build(2, latent=1, hidden=())), []
    start = weights(model)
    own = model.loss

    def loss(batch, generator):
        seen.append(weights(model))
        return own(batch, generator)

    model.loss = loss
    fit(model, data(), steps=4, ema=0.25, learning_rate=0.1, **QUIET)
    plain = made(lambda: Autoencoder.build(2, latent=1, hidden=()))
    fit(plain, data(), steps=4, learning_rate=0.1, **QUIET)
    average = start
    for step, value in enumerate([*seen[1:], weights(plain)], start=1):
        decay = min(0.25, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * value
    torch.testing.assert_close(weights(model), average)


def test_early_stopping_keeps_the_best_weights():
    values = iter([float("nan"), 3.0, 1.0, 2.0, 2.5, 0.1])
    states = []

    def metric(model):
        states.append(weights(model))
        return next(values)

    model = gmmn()
    history = fit(model, data(), steps=50, every=2, metric=metric, patience=2, **QUIET)
    assert history.stopped == "no improvement"
    assert (history.steps, history.best_step) == (10, 6)
    assert torch.equal(weights(model), states[2])


def test_clipping_bounds_the_step():
    model = Exploding(10**9, "loss")
    model.weight.data.fill_(100.0)
    fit(
        model, data(d=1), steps=1, clip=1.0, optimizer=lambda p: torch.optim.SGD(p, lr=1.0), **QUIET
    )
    assert model.weight.item() == pytest.approx(99.0, abs=1e-4)


def test_bfloat16_trains_on_autocast():
    seen = []

    class Watching(nn.Module):
        def forward(self, x):
            seen.append(x.dtype)
            return x

    network = nn.Sequential(nn.Linear(3, 8), Watching(), nn.Linear(8, 2))
    model = GMMN(network, EnergyLoss(), shape=2, latent=3)
    history = fit(model, data(), steps=30, precision="bfloat16", learning_rate=0.02, **QUIET)
    assert torch.bfloat16 in seen
    assert network[0].weight.dtype == torch.float32
    losses = history.losses["generator"]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize("at", ["wgan", "mmd"])
def test_bfloat16_trains_games_with_a_penalty(at):
    build = MMDGAN.build if at == "mmd" else partial(GAN.build, objective="wgan")
    model = made(lambda: build(2, latent=3, hidden=(8,), penalty=1.0))
    history = fit(model, data(), steps=3, precision="bfloat16", **QUIET)
    assert all(value == value for values in history.losses.values() for value in values)


def test_frozen_parameters_stay_and_networks_without_any_are_refused():
    model = made(lambda: VAE.build(2, latent=2, hidden=(8,)))
    frozen = model.encoder.layers[0].weight.requires_grad_(False)
    before, others = frozen.clone(), model.decoder.layers[0].weight.clone()
    fit(model, data(), steps=2, **QUIET)
    assert torch.equal(frozen, before)
    assert not torch.equal(model.decoder.layers[0].weight, others)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="bound objective has nothing to train"):
        fit(model, data(), steps=1, **QUIET)


def test_arrays_tables_and_batches_of_arrays_are_data():
    rows, labels = data().numpy(), np.arange(200) % 2
    fitted = []
    for given in (data(), rows, pandas.DataFrame(rows)):
        fitted.append(gmmn())
        fit(fitted[-1], given, steps=3, **QUIET)
    assert torch.equal(weights(fitted[0]), weights(fitted[1]))
    assert torch.equal(weights(fitted[0]), weights(fitted[2]))
    told = ConditionalGAN.build(2, classes=2, latent=2, hidden=(8,))
    for given in ((rows, labels), (rows, labels.astype(float)), [(rows, labels.tolist())] * 3):
        fit(told, given, steps=2, **QUIET)
    exact = GaussianModel(2)
    fit(exact, rows)
    torch.testing.assert_close(exact.mean, data().mean(0))
    with pytest.raises(TypeError, match="GaussianModel is solved on all data at once"):
        fit(exact, sampler)
    with pytest.raises(TypeError, match="points must be a tensor or an array"):
        fit(gmmn(), rows.tolist(), steps=1, **QUIET)
    with pytest.raises(ValueError, match="the data are empty"):
        fit(gmmn(), rows[:0], steps=1, **QUIET)
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        fit(told, (rows, labels + 0.5), steps=1, **QUIET)


@pytest.mark.parametrize("family", [SemiSupervisedVAE, SemiSupervisedAAE, SupervisedAAE])
def test_labels_of_any_kind_are_classes_and_others_are_refused(family):
    model = family.build(2, classes=2, latent=2, hidden=(8,))
    labels = torch.arange(200) % 2
    for kind in (torch.int32, torch.uint8, torch.bool, torch.float32):
        fit(model, (data(), labels.to(kind)), steps=1, **QUIET)
        batch = Batch(data(), labels.to(kind))
        assert model.loss(batch, torch.Generator().manual_seed(0)).isfinite()
    with pytest.raises(ValueError, match=r"labels must lie in 0 … 1 .* got 0 … 2"):
        fit(model, (data(), torch.arange(200) % 3), steps=1, **QUIET)


def test_a_resumed_run_takes_the_learning_rate_of_its_call(tmp_path):
    path, rates = tmp_path / "run.pt", []

    class Watched(torch.optim.Adam):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    for steps, rate in ((2, 1e-2), (4, 1e-4)):
        fit(
            gmmn(),
            data(),
            steps=steps,
            checkpoint=path,
            resume=True,
            optimizer=lambda p, rate=rate: Watched(p, lr=rate),
            **QUIET,
        )
    assert rates == [1e-2, 1e-2, 1e-4, 1e-4]


def test_only_the_named_parameters_receive_gradients():
    model = gan()
    critic, _ = model.objectives()
    source = torch.Generator().manual_seed(0)
    critic.loss(Batch(data(16)), source).backward(inputs=list(critic.parameters))
    assert all(p.grad is None for p in model.generator.parameters())


def test_solved_models_go_through_fit_too():
    model = GaussianModel(2)
    assert fit(model, data()).steps == 0
    torch.testing.assert_close(model.mean, data().mean(0))


def test_sampling_is_seeded_truncated_and_tempered():
    model = gmmn()
    assert torch.equal(model.sample(5, generator=3), model.sample(5, generator=3))
    z = model.noise(4000, generator=0, truncation=0.7)
    assert z.abs().max() <= 0.7
    assert z.abs().max() > 0.69
    inside = model.noise(40000, generator=0)
    inside = inside[inside.abs() < 0.7]
    torch.testing.assert_close(z.var(), inside.var(), atol=0.01, rtol=0)
    assert model.noise(4000, generator=0, temperature=0.5).std().item() == pytest.approx(0.5, 0.05)
    with pytest.raises(ValueError, match="n must be at least 1"):
        model.sample(0)
    assert gmmn().double().sample(3, generator=0).dtype == torch.float64


def test_interpolation_follows_the_arc():
    start, end = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    middle = arc(start, end, 0.5)
    torch.testing.assert_close(middle, torch.tensor([[2.0, 2.0]]) / 2**0.5)
    opposite = arc(start, -start, 0.5)
    torch.testing.assert_close(opposite, torch.zeros(1, 2), atol=1e-6, rtol=0)
    assert arc(torch.zeros(1, 2), end, 0.25).tolist() == [[0.0, 0.25]]
    model = gmmn()
    z = model.noise(4, generator=0)
    path = model.interpolate(z, model.noise(4, generator=1), steps=5)
    assert path.shape == (5, 4, 2)
    torch.testing.assert_close(path[0], model.decode(z).detach())
    with pytest.raises(ValueError, match=r"codes of shape \(n, 3\)"):
        model.interpolate(z[:, :2], z[:, :2])


def test_networks_for_images_and_their_refusals():
    image = (3, 8, 12)
    assert encoder(image, 5, width=4)(torch.zeros(2, *image)).shape == (2, 5)
    assert decoder(5, image, width=4)(torch.zeros(2, 5)).shape == (2, *image)
    assert MLP(2, 3, hidden=())(torch.zeros(4, 2)).shape == (4, 3)
    with pytest.raises(ValueError, match="multiples of four"):
        ConvDecoder(4, (1, 9, 8))
    with pytest.raises(ValueError, match=r"need a shape \(channels, height, width\)"):
        decoder(4, 8, width=8)
    with pytest.raises(ValueError, match="unknown activation"):
        MLP(2, 2, activation="gelo")
    vae = VAE.build(image, latent=2, hidden=(8,))
    assert vae.sample(2, generator=0).shape == (2, *image)
    with pytest.raises(ValueError, match=r"x must have shape \(n, 3, 8, 12\)"):
        vae.log_likelihood(torch.zeros(2, 8, 12))


def test_mixture_is_scikit_learns():
    from sklearn.mixture import GaussianMixture

    x = torch.cat([data(150), 3 * data(150, seed=1)])
    model = MixtureModel(2, components=2)
    fit(model, x)
    other = GaussianMixture(2, random_state=0, max_iter=500).fit(x.double().numpy())
    torch.testing.assert_close(
        model.log_likelihood(x).double(),
        torch.from_numpy(other.score_samples(x.double().numpy())),
        atol=1e-4,
        rtol=1e-4,
    )
    drawn = model.sample(20000, generator=0)
    torch.testing.assert_close(drawn.mean(0), x.mean(0), atol=0.1, rtol=0)


def test_em_is_monotone():
    from sklearn.mixture import GaussianMixture

    x = torch.cat([data(100), 3 * data(100, seed=1)]).double().numpy()
    bounds = []
    for steps in (1, 2, 4, 8, 16):
        found = GaussianMixture(3, random_state=0, max_iter=steps, tol=0.0)
        with pytest.warns():  # it says that it has not converged
            bounds.append(found.fit(x).lower_bound_)
    assert bounds == sorted(bounds)


def test_sizes_are_read_off_networks_of_ones_own():
    model = GAN(MLP(3, (1, 4, 4)), MLP((1, 4, 4), 1), objective=JS)
    assert (model.shape, model.latent) == ((1, 4, 4), 3)
    vae = VAE(nn.Linear(5, 4), nn.Linear(2, 5))
    assert (vae.shape, vae.latent) == ((5,), 2)
    with pytest.raises(ValueError, match="pass latent="):
        GMMN(nn.Identity())
    assert GMMN(nn.Identity(), latent=2).shape == (2,)
