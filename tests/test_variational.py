"""Bounds from scores: closed forms, tightness, gradients; critics that never overshoot."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from probmetrics._training import CriticTraining
from probmetrics.divergences.critic import fit_critic
from probmetrics.divergences.family import DIVERGENCES, JS, WGAN, TotalVariation
from probmetrics.divergences.information import BOUNDS, Pairs, _received, mutual_information
from probmetrics.divergences.variational import (
    donsker_varadhan,
    infonce,
    mine,
    nwj,
    smile,
    variational_bound,
)

DOUBLE = torch.float64
BRIEF = CriticTraining(steps=50, patience=1, learning_rate=1e-2)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny networks lose time on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def normal(seed, n, d=1, mean=0.0):
    source = torch.Generator().manual_seed(seed)
    return mean + torch.randn(n, d, generator=source, dtype=DOUBLE)


def quantiles(mean, n=20001):
    """Points of N(mean, 1) that stand for equal shares of it."""
    u = (torch.arange(n, dtype=DOUBLE) + 0.5) / n
    return mean + torch.special.ndtri(u)


@pytest.mark.parametrize(
    ("f", "truth"),
    [
        ("kl", 0.5),
        ("reverse kl", 0.5),
        ("js", 0.11142148),
        ("total variation", 0.38292492),
        ("squared hellinger", 0.11750310),
        ("jeffrey", 1.0),
    ],
)
def test_tight_at_the_log_ratio(f, truth):
    # P = N(0, 1), Q = N(1, 1): log p/q = ½ − t.
    x, y = quantiles(0.0), quantiles(1.0)
    assert float(variational_bound(0.5 - x, 0.5 - y, f=f)) == pytest.approx(truth, abs=2e-3)


def test_kl_bounds_are_tight_at_their_scores():
    x, y = 0.5 - quantiles(0.0), 0.5 - quantiles(1.0)
    assert float(donsker_varadhan(x + 7, y + 7)) == pytest.approx(0.5, abs=1e-3)
    assert float(nwj(x + 1, y + 1)) == pytest.approx(0.5, abs=1e-3)
    assert float(mine(x, y).value) == pytest.approx(0.5, abs=1e-3)
    assert float(smile(x, y, clip=20.0)) == pytest.approx(0.5, abs=1e-3)
    assert float(smile(x, y, clip=math.inf)) == float(donsker_varadhan(x, y))


@given(slope=st.floats(-3, 3), offset=st.floats(-3, 3), wave=st.floats(-2, 2))
def test_no_critic_passes_the_truth(slope, offset, wave):
    x, y = (slope * t + offset + wave * torch.sin(3 * t) for t in (quantiles(0.0), quantiles(1.0)))
    for f, truth in (("kl", 0.5), ("js", 0.11142148), ("total variation", 0.38292492)):
        assert float(variational_bound(x, y, f=f)) <= truth + 2e-3
    assert float(donsker_varadhan(x, y)) <= 0.5 + 2e-3
    assert float(nwj(x, y)) <= float(donsker_varadhan(x, y)) + 1e-9


def test_nwj_is_the_kl_row():
    x, y = normal(0, 30)[:, 0], normal(1, 40)[:, 0]
    wanted = x.mean() - (y - 1).exp().mean()
    torch.testing.assert_close(nwj(x, y), wanted)


def test_mine_divides_by_the_moving_average():
    x, y = normal(0, 10)[:, 0], normal(1, 12)[:, 0].requires_grad_()
    step = mine(x, y, log_average=torch.tensor(2.0).double().log(), decay=0.75)
    average = 0.75 * 2 + 0.25 * y.exp().mean()
    torch.testing.assert_close(step.log_average, average.log().detach())
    torch.testing.assert_close(step.value, donsker_varadhan(x, y))
    (gradient,) = torch.autograd.grad(step.value, y)
    torch.testing.assert_close(gradient, (-y.exp() / 12 / average).detach())
    (plain,) = torch.autograd.grad(mine(x, y).value, y)
    (wanted,) = torch.autograd.grad(donsker_varadhan(x, y), y)
    torch.testing.assert_close(plain, wanted)


def test_infonce_counts_the_candidates():
    scores = torch.full((4, 4), -50.0, dtype=DOUBLE).fill_diagonal_(50.0)
    assert float(infonce(scores)) == pytest.approx(math.log(4))
    random = torch.randn(3, 5, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    wanted = torch.log_softmax(random, -1).diagonal(dim1=-2, dim2=-1).mean(-1) + math.log(5)
    torch.testing.assert_close(infonce(random), wanted)


BOUNDED = [variational_bound, donsker_varadhan, nwj, smile, lambda x, y: mine(x, y).value]


@pytest.mark.parametrize("bound", BOUNDED)
def test_bounds_take_batches_numpy_and_gradients(bound):
    x, y = normal(0, 12).reshape(2, 6), normal(1, 10).reshape(2, 5)
    values = bound(x, y)
    torch.testing.assert_close(values, torch.stack([bound(x[k], y[k]) for k in range(2)]))
    assert bound(x[0].numpy(), y[0].numpy()) == pytest.approx(float(values[0]))
    leaves = x[0].clone().requires_grad_(), y[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(bound, leaves)


@pytest.mark.parametrize("bound", BOUNDED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_bounds_survive_far_scores(bound, dtype):
    x = torch.tensor([1000.0, -1000.0], dtype=dtype, requires_grad=True)
    y = torch.tensor([-1000.0, 1000.0], dtype=dtype, requires_grad=True)
    value = bound(x, y)
    assert torch.isfinite(value)
    value.backward()
    if dtype == torch.float32:
        assert torch.isfinite(x.grad).all()
        assert torch.isfinite(y.grad).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: variational_bound([], [1.0]), ValueError, "score_x must have shape"),
        (lambda: variational_bound([1.0], [math.nan]), ValueError, "score_y holds nan"),
        (lambda: donsker_varadhan([math.inf], [1.0]), ValueError, "score_x holds inf"),
        (lambda: variational_bound([1.0], [1.0], f="l2"), ValueError, "unknown divergence"),
        (lambda: variational_bound([1.0], [1.0], f=WGAN), TypeError, "f"),
        (lambda: variational_bound([1.0], torch.ones(2)), TypeError, "all of one kind"),
        (lambda: mine([1.0], [1.0], decay=1.0), ValueError, "decay must lie strictly"),
        (lambda: smile([1.0], [1.0], clip=0.0), ValueError, "clip must be above zero"),
        (lambda: infonce([[1.0, 2.0]]), ValueError, "scores must have shape"),
        (lambda: infonce([[math.nan]]), ValueError, "scores holds nan"),
    ],
)
def test_bad_scores_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(("f", "truth"), [("kl", 0.5), ("js", 0.11142148), ("pearson", 1.718)])
def test_trained_critics_are_close_and_below(f, truth):
    values = []
    for seed in range(3):
        x, y = normal(seed, 900), normal(seed + 50, 900, mean=1.0)
        values.append(float(fit_critic(x, y, f=f, folds=2, training=BRIEF, generator=seed)))
    assert 0.6 * truth < np.mean(values) < 1.15 * truth


def test_never_above_the_truth_on_average():
    # Small samples in four dimensions, where a critic overfits what it sees.
    for mean, truth in ((0.0, 0.0), (0.5, 0.5)):
        values = []
        for seed in range(7):
            x, y = normal(seed, 60, 4), normal(seed + 99, 60, 4, mean=mean)
            fitted = fit_critic(x, y, folds=2, training=BRIEF, generator=seed)
            values.append(float(fitted))
        noise = np.std(values, ddof=1) / len(values) ** 0.5
        assert np.mean(values) < truth + 2.5 * noise


def test_every_divergence_can_be_fitted():
    x, y = normal(0, 240), normal(1, 180, mean=1.0)
    for f in DIVERGENCES.values():
        fitted = fit_critic(x, y, f=f, folds=2, training=CriticTraining(steps=25), generator=0)
        assert math.isfinite(float(fitted)), f
    assert "from 2 critics" in repr(fitted)


def test_intervals_span_the_scatter():
    values, errors = [], []
    for seed in range(10):
        x, y = normal(seed, 300), normal(seed + 50, 200, mean=1.0)
        fitted = fit_critic(x, y, f=JS, folds=2, training=BRIEF, generator=seed)
        values.append(float(fitted))
        errors.append(float(fitted.interval.standard_error))
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.6)


def test_seeds_kinds_and_the_callers_network():
    x, y = normal(0, 60, 2), normal(1, 60, 2, mean=1.0)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    before = [p.clone() for p in network.parameters()]
    state = torch.get_rng_state()
    one = fit_critic(x, y, critic=network, folds=2, training=BRIEF, generator=3)
    two = fit_critic(x.numpy(), y.numpy(), critic=network, folds=2, training=BRIEF, generator=3)
    assert torch.equal(state, torch.get_rng_state())
    assert float(one) == pytest.approx(two.value)
    assert isinstance(two.value, float)
    for a, b in zip(before, network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert one.log_ratio(x).shape == (60,)
    assert float(one.log_ratio(x).mean()) > float(one.log_ratio(y).mean())
    assert float(fit_critic(x, y, f=TotalVariation, training=BRIEF, generator=0)) > 0.1


def test_offsets_cost_no_digits():
    x, y = normal(0, 200), normal(1, 200, mean=1.0)
    near = fit_critic(x, y, f=JS, folds=2, training=BRIEF, generator=0)
    far = fit_critic(x + 1e7, y + 1e7, f=JS, folds=2, training=BRIEF, generator=0)
    assert float(far) == pytest.approx(float(near), abs=2e-2)


X, Y = normal(0, 40, 2), normal(1, 40, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fit_critic(X[:11], Y), ValueError, "x has 11 points and at least 12"),
        (lambda: fit_critic(X, Y[:0]), ValueError, "y has 0 points"),
        (lambda: fit_critic(X, Y[:, :1]), ValueError, "points of x have shape"),
        (lambda: fit_critic(X * math.nan, Y), ValueError, "x holds nan"),
        (lambda: fit_critic(X, Y.numpy()), TypeError, "all of one kind"),
        (lambda: fit_critic(X, Y, f="l2"), ValueError, "unknown divergence"),
        (lambda: fit_critic(X, Y, objective="total variation"), ValueError, "no gradient"),
        (lambda: fit_critic(X, Y, critic=lambda x: x), TypeError, "critic"),
        (lambda: fit_critic(X, Y, critic=nn.Linear(2, 2)), ValueError, "one score per point"),
        (lambda: fit_critic(X, Y, folds=1), ValueError, "folds must be at least 2"),
        (lambda: fit_critic(X, Y, level=2.0), ValueError, "level must lie"),
        (lambda: fit_critic(X, Y, training=CriticTraining(steps=0)), ValueError, "steps must be"),
        (lambda: fit_critic(X, Y, training=100), TypeError, "training"),
        (lambda: fit_critic(X, Y, hidden=64), TypeError, "hidden"),
        (lambda: fit_critic(X, Y, critic=nn.Flatten()), ValueError, "no parameter to train"),
        (lambda: mutual_information(X, Y[:30]), ValueError, "must come in pairs"),
        (lambda: mutual_information(X[:9], Y[:9]), ValueError, "at least 24"),
        (lambda: mutual_information(X, Y, bound="l2"), ValueError, "known: nwj, donsker"),
        (lambda: mutual_information(X, Y, bound="smile", clip=-1.0), ValueError, "clip must be"),
        (lambda: mutual_information(X, Y * math.nan), ValueError, "y holds nan"),
    ],
)
def test_bad_inputs_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("bound", BOUNDS)
def test_information_of_correlated_normals(bound):
    x, noise = normal(0, 1500), normal(1, 1500)
    y = 0.9 * x + (1 - 0.81) ** 0.5 * noise
    truth = -math.log(1 - 0.81) / 2
    found = mutual_information(x, y, bound=bound, folds=2, training=BRIEF, generator=0)
    assert 0.6 * truth < float(found) < 1.2 * truth
    assert 0.01 < float(found.standard_error) < 0.2


def test_information_of_independent_halves_is_not_above_zero():
    for bound in BOUNDS:
        values = []
        for seed in range(2):
            x, y = normal(seed, 100, 2), normal(seed + 9, 100, 2)
            found = mutual_information(x, y, bound=bound, folds=2, training=BRIEF, generator=seed)
            values.append(float(found))
        assert np.mean(values) < 0.05, bound
    js = mutual_information(x, x, bound="js", folds=2, training=BRIEF, generator=0)
    assert 0.3 < float(js) < math.log(2) + 0.01


def test_what_a_partner_received():
    pairs = Pairs(torch.arange(5.0)[:, None], torch.arange(5.0)[:, None])
    other = pairs.others(3)
    assert other.shape == (5, 3, 2)
    wanted = torch.zeros(5)
    paid = torch.arange(15.0).reshape(5, 3)
    for i in range(5):
        for s in range(3):
            wanted[int(other[i, s, 1])] += paid[i, s]
    torch.testing.assert_close(_received(paid), wanted)


@settings(max_examples=8)
@given(seed=st.integers(0, 99), constant=st.booleans(), f=st.sampled_from(["kl", "js", "neyman"]))
def test_small_tied_samples_give_finite_bounds(seed, constant, f):
    source = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 3, (14, 2), generator=source).double()
    y = torch.randint(0, 3, (13, 2), generator=source).double()
    if constant:
        x[:, 1] = y[:, 1] = 1.0
    fitted = fit_critic(x, y, f=f, training=CriticTraining(steps=20), generator=seed)
    assert math.isfinite(float(fitted))
