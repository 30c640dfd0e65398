"""Density ratios against known ratios, brute force and bad inputs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from probmetrics.divergences.family import DIVERGENCES, JS, KL, WGAN, TotalVariation
from probmetrics.divergences.ratio import DensityRatio, density_ratio, divergence_from_ratio
from probmetrics.divergences.ratio_models import _leave_one_out, _mixture, _solve
from probmetrics.pairwise.kernels import Gaussian

DOUBLE = torch.float64
METHODS = ["classifier", "ulsif", "rulsif", "kliep"]


def normal(seed, n, d=1, mean=0.0, sd=1.0):
    source = torch.Generator().manual_seed(seed)
    return mean + sd * torch.randn(n, d, generator=source, dtype=DOUBLE)


@pytest.mark.parametrize("method", METHODS)
def test_log_ratio_of_shifted_normals(method):
    # log p/q = t − ½.
    found = density_ratio(normal(0, 1500, mean=1.0), normal(1, 1000), method=method, generator=0)
    at = torch.linspace(-0.5, 1.5, 9, dtype=DOUBLE)
    error = found.log_ratio(at) - (at - 0.5)
    assert float(error.abs().mean()) < 0.15
    torch.testing.assert_close(found.ratio(at), found.log_ratio(at).exp())
    value = divergence_from_ratio(found)
    assert float(value.value) == pytest.approx(0.5, abs=0.13)
    assert float(divergence_from_ratio(found, f="js").value) == pytest.approx(0.1114, abs=0.03)


def test_quadratic_features_fit_unequal_covariances():
    found = density_ratio(normal(0, 3000, 2, sd=1.5), normal(1, 3000, 2), generator=0)
    at = normal(2, 50, 2)
    wanted = -2 * math.log(1.5) + at.square().sum(-1) / 2 * (1 - 1.5**-2)
    assert float((found.log_ratio(at) - wanted).abs().mean()) < 0.1


def test_unequal_counts_shift_the_odds():
    x, y = normal(0, 3000), normal(1, 300)
    for method in METHODS:
        found = density_ratio(x, y, method=method, generator=0)
        assert float(found.log_ratio(torch.zeros(1, 1))) == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("f", ["kl", "reverse kl", "js", "squared hellinger", "le cam"])
def test_divergences_cover_the_truth(f):
    truth = {
        "kl": 0.5,
        "reverse kl": 0.5,
        "js": 0.11142148,
        "squared hellinger": 0.11750310,
        "le cam": 0.19886,
    }[f]
    if f == "le cam":  # by quadrature
        t = torch.linspace(-12, 13, 200001, dtype=DOUBLE)
        p, q = ((-0.5 * (t - c) ** 2).exp() / math.sqrt(2 * math.pi) for c in (1.0, 0.0))
        truth = float(torch.trapezoid((p - q) ** 2 / (2 * (p + q)), t))
    held = 0
    for seed in range(12):
        ratio = density_ratio(normal(seed, 400, mean=1.0), normal(seed + 99, 300), generator=seed)
        found = divergence_from_ratio(ratio, f=f)
        held += float(found.low) <= truth <= float(found.high)
    assert held >= 9  # fewer by chance less than twice in 1000 at 95%


def test_the_gap_of_the_default_fit_is_told():
    # Fourteen coefficients for 600 points: the bound is low by about what is said.
    low, told = [], []
    for seed in range(12):
        ratio = density_ratio(normal(seed, 300, 4, 0.5), normal(seed + 99, 300, 4), generator=seed)
        found = divergence_from_ratio(ratio)
        low.append(float(found.value) - 0.5)
        told.append(float(found.bias))
        assert found.low <= found.value <= found.high + found.bias
    assert np.mean(told) < -0.02
    assert np.mean(low) == pytest.approx(np.mean(told), abs=0.1)
    own = density_ratio(normal(0, 50), normal(1, 50), classifier=LogisticRegression(), generator=0)
    assert float(divergence_from_ratio(own).bias) == 0


def test_held_out_values_do_not_overshoot():
    # Between equal distributions a forest that saw the points would call them far apart.
    forest = RandomForestClassifier(20, min_samples_leaf=10)
    values = []
    for seed in range(4):
        ratio = density_ratio(
            normal(seed, 200), normal(seed + 9, 200), classifier=forest, generator=seed
        )
        values.append(float(divergence_from_ratio(ratio, f=JS).value))
    assert np.mean(values) < 0.02


def test_trees_give_finite_ratios():
    forest = RandomForestClassifier(5)
    ratio = density_ratio(normal(0, 60, mean=9.0), normal(1, 50), classifier=forest, generator=0)
    for f in DIVERGENCES.values():
        found = divergence_from_ratio(ratio, f=f)
        assert math.isfinite(float(found.value)), f


def test_leave_one_out_is_the_brute_force():
    x, y = normal(0, 12, 2, mean=0.5), normal(1, 15, 2)
    of_x, of_y = (Gaussian(1.0)(z, x[:6]) for z in (x, y))
    total = 0.0
    for i in range(12):
        theta = _solve(of_x[torch.arange(12) != i], of_y[torch.arange(15) != i], 0.0, 0.1)
        total += float((of_y[i] @ theta) ** 2 / 2 - of_x[i] @ theta)
    assert _leave_one_out(of_x, of_y, 0.1) == pytest.approx(total / 12, rel=1e-9)


def test_kliep_is_normalised_and_optimal():
    x, y = normal(0, 80, mean=0.5), normal(1, 100)
    of_x, of_y = (Gaussian(0.7)(z, x[:10]) for z in (x, y))
    theta = _mixture(of_x, of_y)
    assert float((of_y @ theta).mean()) == pytest.approx(1.0, abs=1e-9)
    best = float((of_x @ theta).log().mean())
    source = torch.Generator().manual_seed(0)
    for _ in range(50):
        other = theta * torch.rand(10, generator=source, dtype=DOUBLE)
        other = other / (of_y @ other).mean()
        assert float((of_x @ other).log().mean()) < best + 1e-3


def test_importance_weights_move_the_sample():
    x, y = normal(0, 800, mean=1.0), normal(1, 1000)
    ratio = density_ratio(x, y, generator=0)
    w = ratio.weights()
    assert float(w.sum()) == pytest.approx(1.0)
    assert float(w @ y[:, 0]) == pytest.approx(1.0, abs=0.15)
    size = ratio.effective_sample_size()
    assert size == pytest.approx(float(w.sum() ** 2 / w.square().sum()))
    assert size == pytest.approx(1000 / math.e, rel=0.35)  # E_Q r² = e
    assert size < ratio.effective_sample_size(relative=0.5) < 1000
    assert "effective sample size" in repr(ratio)
    same = density_ratio(x, x + 0, generator=0)
    assert same.effective_sample_size() == pytest.approx(800, rel=0.05)


def test_seeds_kinds_and_the_global_state():
    x, y = normal(0, 60, 2), normal(1, 70, 2, mean=0.5)
    forest = RandomForestClassifier(5)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one = density_ratio(x, y, classifier=forest, generator=3)
    two = density_ratio(x.numpy(), y.numpy(), classifier=forest, generator=3)
    assert torch.equal(before, torch.get_rng_state())
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert torch.equal(one.at_x, two.at_x)
    assert isinstance(two.weights(), np.ndarray)
    assert isinstance(divergence_from_ratio(two).value, float)
    assert isinstance(divergence_from_ratio(one).value, torch.Tensor)
    assert isinstance(density_ratio(x.float(), y.float(), generator=0), DensityRatio)


def test_scaled_like_the_public_functions():
    ratio = density_ratio(normal(0, 300, mean=6.0), normal(1, 300, mean=-6.0), generator=0)
    assert float(divergence_from_ratio(ratio, f=JS).value) == pytest.approx(math.log(2), abs=0.02)
    assert float(divergence_from_ratio(ratio, f=TotalVariation).value) == pytest.approx(1, abs=0.01)


X, Y = normal(0, 40, 2), normal(1, 40, 2)
CONSTANT = torch.cat([X, torch.ones(40, 1, dtype=DOUBLE)], -1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: density_ratio(X, Y, method="magic"), ValueError, "known: classifier, ulsif"),
        (lambda: density_ratio(X[:9], Y), ValueError, "x has 9 points and at least 10"),
        (lambda: density_ratio(X, Y[:1]), ValueError, "y has 1 point"),
        (lambda: density_ratio(X, Y[:0]), ValueError, "y has 0 points"),
        (lambda: density_ratio(X, Y[:, :1]), ValueError, "x has 2 columns"),
        (lambda: density_ratio(X, Y * math.nan), ValueError, "y holds nan"),
        (lambda: density_ratio(X, Y / 0), ValueError, "y holds -?inf"),
        (lambda: density_ratio(X, Y.numpy()), TypeError, "torch tensors"),
        (lambda: density_ratio(X[None], Y), ValueError, "x must have shape \\(n, d\\)"),
        (lambda: density_ratio(CONSTANT, CONSTANT), ValueError, "column 2 is constant in both"),
        (lambda: density_ratio(X, Y, folds=1), ValueError, "folds must be at least 2"),
        (lambda: density_ratio(X, Y, basis=0), ValueError, "basis must be at least 1"),
        (lambda: density_ratio(X, Y, alpha=1.0), ValueError, "alpha must lie strictly"),
        (lambda: density_ratio(X, Y, classifier=LinearSVC()), TypeError, "no predict_proba"),
        (lambda: density_ratio(X, Y).log_ratio(X[:, :1]), ValueError, "at must have shape"),
        (lambda: density_ratio(X, Y).weights(relative=1.0), ValueError, "relative must lie"),
        (lambda: divergence_from_ratio(density_ratio(X, Y), f="l2"), ValueError, "unknown diverg"),
        (lambda: divergence_from_ratio(density_ratio(X, Y), f=WGAN), TypeError, "f"),
        (lambda: divergence_from_ratio(X, f=KL), TypeError, "ratio"),
    ],
)
def test_bad_inputs_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@settings(max_examples=10)
@given(seed=st.integers(0, 99), method=st.sampled_from(METHODS), gap=st.sampled_from([0, 3, 1e4]))
def test_small_samples_with_ties_give_finite_numbers(seed, method, gap):
    source = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 4, (12, 2), generator=source).double()
    y = torch.randint(0, 4, (10, 2), generator=source).double() + gap
    ratio = density_ratio(
        x, y, method=method, classifier=LogisticRegression(), basis=5, generator=seed
    )
    for f in (KL, JS):
        assert math.isfinite(float(divergence_from_ratio(ratio, f=f).value))
    assert math.isfinite(ratio.effective_sample_size())
