"""Nearest-neighbour divergences against closed forms, plain loops and bad inputs."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.special import gammaln

from probmetrics.divergences.neighbors import (
    bhattacharyya_neighbors,
    hellinger_neighbors,
    jeffrey_neighbors,
    kl_neighbors,
    renyi_neighbors,
    tsallis_neighbors,
)
from probmetrics.uncertainty import Subsampling, estimate
from probmetrics.uncertainty.known import known_estimators

DOUBLE = torch.float64
BHATTACHARYYA = 1 / 8  # between N(0, 1) and N(1, 1), whose KL is ½ and Rényi-α is α/2

EVERY = [
    kl_neighbors,
    jeffrey_neighbors,
    functools.partial(renyi_neighbors, alpha=0.5),
    functools.partial(renyi_neighbors, alpha=1.5),
    functools.partial(renyi_neighbors, alpha=1.0),
    functools.partial(tsallis_neighbors, alpha=0.7),
    functools.partial(tsallis_neighbors, alpha=1.0),
    hellinger_neighbors,
    bhattacharyya_neighbors,
]


def label(function):
    options = getattr(function, "keywords", {})
    return "-".join([getattr(function, "func", function).__name__, *map(str, options.values())])


def normal(seed, n, d=1, mean=0.0, sd=1.0, batch=()):
    source = torch.Generator().manual_seed(seed)
    return mean + sd * torch.randn(*batch, n, d, generator=source, dtype=DOUBLE)


def radii(x, y, k):
    own = cKDTree(x).query(x, k + 1)[0][:, -1]
    other = cKDTree(y).query(x, [k])[0][:, -1]
    return own, other


@pytest.mark.parametrize(
    ("function", "truth", "tolerance"),
    [
        (kl_neighbors, 0.5, 0.03),
        (jeffrey_neighbors, 1.0, 0.06),
        (functools.partial(renyi_neighbors, alpha=0.5), 0.25, 0.02),
        (functools.partial(renyi_neighbors, alpha=0.8), 0.4, 0.03),
        (functools.partial(tsallis_neighbors, alpha=0.5), 2 * (1 - math.exp(-1 / 8)), 0.02),
        (hellinger_neighbors, 1 - math.exp(-1 / 8), 0.01),
        (bhattacharyya_neighbors, BHATTACHARYYA, 0.01),
    ],
)
def test_mean_over_draws_is_the_closed_form(function, truth, tolerance):
    x, y = normal(0, 1000, batch=(24,)), normal(1, 1500, mean=1.0, batch=(24,))
    values = function(x, y)
    assert values.shape == (24,)
    noise = float(values.std()) / 24**0.5
    assert float(values.mean()) == pytest.approx(truth, abs=tolerance + 2 * noise)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_power_correction_holds_for_small_k(k):
    # At P = Q the mean power is one for every k: without the correction k = 1 misses by 21%.
    x, y = normal(0, 800, batch=(24,)), normal(1, 400, batch=(24,))
    affinity = 1 - hellinger_neighbors(x, y, k=k)
    assert float(affinity.mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (60, 25), (25, 60)])
def test_each_mean_has_its_own_count(n, m):
    x, y, k = normal(0, n, 3), normal(1, m, 3, mean=0.5), 4
    one, two = radii(x.numpy(), y.numpy(), k), radii(y.numpy(), x.numpy(), k)
    there = 3 * np.mean(np.log(one[1] / one[0])) + math.log(m / (n - 1))
    back = 3 * np.mean(np.log(two[1] / two[0])) + math.log(n / (m - 1))
    assert kl_neighbors(x.numpy(), y.numpy(), k=k) == pytest.approx(there, rel=1e-10)
    assert jeffrey_neighbors(x.numpy(), y.numpy(), k=k) == pytest.approx(there + back, rel=1e-10)
    alpha = 1.7
    ratio = (m * one[1] ** 3) / ((n - 1) * one[0] ** 3)
    factor = math.exp(2 * gammaln(k) - gammaln(k + 1 - alpha) - gammaln(k - 1 + alpha))
    mean = factor * np.mean(ratio ** (alpha - 1))
    found = renyi_neighbors(x.numpy(), y.numpy(), alpha=alpha, k=k)
    assert found == pytest.approx(math.log(mean) / (alpha - 1), rel=1e-10)
    found = tsallis_neighbors(x.numpy(), y.numpy(), alpha=alpha, k=k)
    assert found == pytest.approx((mean - 1) / (alpha - 1), rel=1e-10)


@pytest.mark.parametrize("function", EVERY, ids=label)
def test_invariances_batches_and_backends(function):
    x, y = normal(0, 70, 2, batch=(2, 1)), normal(1, 50, 2, mean=0.5, batch=(3,))
    values = function(x, y, backend="dense")
    assert values.shape == (2, 3)
    torch.testing.assert_close(values, function(x, y, backend="tiled"))
    torch.testing.assert_close(values[1, 2], function(x[1, 0], y[2]))
    torch.testing.assert_close(values, function(3 * x + 1e3, 3 * y + 1e3), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(values, function(x.flip(-2), y.flip(-2)))
    assert function(x[0, 0].numpy(), y[0].numpy()) == pytest.approx(float(values[0, 0]))
    single = function(x[0, 0].float(), y[0].float())
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(float(values[0, 0]), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("function", EVERY, ids=label)
def test_gradients(function):
    x, y = normal(0, 9, 2).requires_grad_(), normal(1, 8, 2, mean=0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: function(x, y, k=3), (x, y))


@pytest.mark.parametrize("function", EVERY, ids=label)
def test_duplicates_are_refused_or_jittered(function):
    x = normal(0, 60).round(decimals=1)
    y = normal(1, 80, mean=0.5).round(decimals=1)
    with pytest.raises(ValueError, match=r"row \d+ of x occurs .* pass jitter"):
        function(x, y, k=1)
    found = function(x, y, k=2, jitter=0.05, generator=0)
    assert torch.isfinite(found)
    assert torch.equal(found, function(x, y, k=2, jitter=0.05, generator=0))


def test_a_copy_in_the_other_sample_is_a_tie_too():
    x, y = normal(0, 20), normal(1, 20)
    y[3] = x[7]
    with pytest.raises(ValueError, match="row 7 of x occurs 1 times or more in y"):
        kl_neighbors(x, y, k=1)
    assert torch.isfinite(kl_neighbors(x, y, k=2))


def test_jitter_undoes_rounding():
    x = normal(0, 3000).round(decimals=1)
    y = normal(1, 3000, mean=1.0).round(decimals=1)
    assert float(kl_neighbors(x, y, k=5, jitter=0.05, generator=0)) == pytest.approx(0.5, abs=0.12)


def test_one_degree_of_freedom_less_is_refused():
    x, y = normal(0, 30, 2), normal(1, 30, 2)
    x[:, 1] = 4.0
    with pytest.raises(ValueError, match="column 1 of x is constant"):
        kl_neighbors(x, y)
    with pytest.raises(ValueError, match="column 1 of y is constant"):
        kl_neighbors(y, x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: kl_neighbors(x[:5], y, k=5), ValueError, "x has 5 points and k=5 .* need 6"),
        (lambda x, y: kl_neighbors(x, y[:4], k=5), ValueError, "y has 4 points and k=5 .* need 5"),
        (lambda x, y: jeffrey_neighbors(x, y[:5], k=5), ValueError, "y has 5 points .* need 6"),
        (lambda x, y: kl_neighbors(x, y, k=0), ValueError, "k must be at least 1"),
        (lambda x, y: kl_neighbors(x, y, k=1.5), TypeError, "k"),
        (lambda x, y: kl_neighbors(x, y, jitter=-1.0), ValueError, "jitter must be zero or more"),
        (lambda x, y: renyi_neighbors(x, y, alpha=0.0), ValueError, "alpha must be above zero"),
        (lambda x, y: renyi_neighbors(x, y, alpha=7.0), ValueError, "k must be larger than"),
        (lambda x, y: tsallis_neighbors(x, y, alpha=math.nan), ValueError, "alpha must be finite"),
        (lambda x, y: kl_neighbors(x, y[:, :1]), ValueError, "x has 2 columns .* and y has 1"),
        (lambda x, y: kl_neighbors(x * math.nan, y), ValueError, "x holds nan"),
        (lambda x, y: kl_neighbors(x, y / 0), ValueError, "y holds -?inf"),
        (lambda x, y: kl_neighbors(x[:0], y), ValueError, "x has 0 points"),
        (lambda x, y: kl_neighbors(x, y.numpy()), TypeError, "torch tensors"),
        (lambda x, y: kl_neighbors(x, y, backend="fast"), ValueError, "unknown backend"),
    ],
)
def test_bad_inputs_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(0, 20, 2), normal(1, 20, 2))


@given(seed=st.integers(0, 1000), n=st.integers(2, 12), m=st.integers(1, 12), k=st.integers(1, 4))
def test_any_small_sample_gives_a_finite_number_or_a_clear_error(seed, n, m, k):
    source = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 6, (n, 1), generator=source).double()
    y = torch.randint(0, 6, (m, 1), generator=source).double()
    for function in EVERY:
        try:
            value = function(x, y, k=k)
        except ValueError as error:
            said = str(error)
        else:
            said = "jitter" if torch.isfinite(value) else f"{value}"
        assert any(word in said for word in ("lower k", "jitter", "constant", "larger"))


@pytest.mark.parametrize("function", [kl_neighbors, hellinger_neighbors], ids=label)
def test_interval_by_subsampling_has_the_right_width(function):
    x, y = normal(0, 300, batch=(30,)), normal(1, 200, mean=0.5, batch=(30,))
    spread = float(function(x, y).std())
    found = estimate(function, x, y, method=Subsampling(25), generator=0)
    assert known_estimators()[function][0] == Subsampling()
    assert float(found.standard_error.mean()) == pytest.approx(spread, rel=0.35)
    assert bool((found.low < found.value).all() & (found.value < found.high).all())
