"""Intervals: agreement of the methods, coverage in small, degenerate cases, bad inputs."""

import functools
import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probmetrics.discrepancy import (
    block_mmd,
    energy_distance,
    linear_mmd,
    mmd,
    random_feature_mmd,
)
from probmetrics.gaussian.frechet import frechet_distance
from probmetrics.pairwise.kernels import Gaussian
from probmetrics.transport.cdf import cdf_distance, cramer_distance, kolmogorov_distance
from probmetrics.transport.exact import wasserstein
from probmetrics.transport.line import wasserstein_1d
from probmetrics.transport.sliced import sliced_wasserstein
from probmetrics.uncertainty import (
    Bootstrap,
    Influence,
    Interval,
    Jackknife,
    Subsampling,
    estimate,
)
from probmetrics.uncertainty.known import _second_order
from probmetrics.uncertainty.problem import Problem, Traits

DOUBLE = torch.float64


def normal(seed, n, d=2, mean=0.0, sd=1.0, dtype=DOUBLE):
    source = torch.Generator().manual_seed(seed)
    return (mean + sd * torch.randn(n, d, generator=source, dtype=DOUBLE)).to(dtype)


def on_line(function):
    @functools.wraps(function)
    def called(x, y, **options):
        return estimate(function, x[..., 0], y[..., 0], **options)

    return called


PLAIN = [
    functools.partial(estimate, mmd),
    functools.partial(estimate, mmd, unbiased=False, root=True),
    functools.partial(estimate, block_mmd),
    functools.partial(estimate, linear_mmd),
    functools.partial(estimate, random_feature_mmd, features=200),
    functools.partial(estimate, energy_distance),
    functools.partial(estimate, energy_distance, power=1.5, root=True),
    functools.partial(estimate, frechet_distance),
    functools.partial(estimate, frechet_distance, root=True),
    functools.partial(estimate, sliced_wasserstein, projections=20),
    functools.partial(estimate, sliced_wasserstein, p=1, projections=20),
    functools.partial(estimate, wasserstein),
    on_line(wasserstein_1d),
    functools.partial(on_line(wasserstein_1d), p=2),
    on_line(cdf_distance),
    on_line(cramer_distance),
    on_line(kolmogorov_distance),
]
SMOOTH = [
    (mmd, {}),
    (mmd, {"unbiased": False}),
    (energy_distance, {}),
    (frechet_distance, {}),
    (sliced_wasserstein, {"directions": torch.eye(2, dtype=DOUBLE)}),
]


@pytest.mark.parametrize("interval", PLAIN)
def test_every_known_estimator_gets_an_interval(interval):
    x, y = normal(0, 60), normal(1, 45, mean=0.7)
    found = interval(x, y, generator=0)
    assert float(found.low) <= float(found.value) <= float(found.high)
    assert float(found.standard_error) > 0
    again = interval(x.numpy(), y.numpy(), generator=0)
    assert isinstance(again.value, float)
    for name in ("value", "low", "high", "standard_error", "bias"):
        assert math.isclose(
            getattr(again, name), float(getattr(found, name)), rel_tol=1e-9, abs_tol=1e-12
        )


@pytest.mark.parametrize(("estimator", "options"), SMOOTH)
def test_influence_agrees_with_the_delete_one_jackknife(estimator, options):
    x, y = normal(2, 80), normal(3, 60, mean=0.8, sd=1.4)
    made = estimate(estimator, x, y, method="influence", **options)
    left = estimate(estimator, x, y, method=Jackknife(groups=80), **options)
    assert made.standard_error == pytest.approx(float(left.standard_error), rel=0.05)
    assert float(made.value) == pytest.approx(float(estimator(x, y, **options)), rel=1e-9)


@pytest.mark.parametrize("method", [Jackknife(30), Bootstrap(150), Subsampling(150)])
def test_resampling_agrees_with_influence(method):
    x, y = normal(4, 150), normal(5, 150, mean=1.0)
    exact = float(estimate(energy_distance, x, y).standard_error)
    found = estimate(energy_distance, x, y, method=method, generator=0)
    assert found.method == type(method).__name__.lower()
    assert float(found.standard_error) == pytest.approx(exact, rel=0.25)


def test_variance_of_the_u_statistic_is_hoeffding_projection():
    x, y = normal(6, 40), normal(7, 30, mean=1.0)
    kernel = Gaussian(1.3)
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    first = 2 * ((xx.sum(1) - 1) / 39 - xy.mean(1))
    second = 2 * ((yy.sum(1) - 1) / 29 - xy.mean(0))
    wanted = (first.var() / 40 + second.var() / 30).sqrt()
    found = estimate(mmd, x, y, kernel=kernel)
    torch.testing.assert_close(found.standard_error, wanted)


def test_variance_on_the_line_is_that_of_the_potential():
    # Disjoint samples: the potentials of W1 are x and −y, so the variance is that of means.
    x, y = normal(8, 50)[:, 0], 100 + normal(9, 70)[:, 0]
    found = estimate(wasserstein_1d, x, y)
    wanted = (x.var() / 50 + y.var() / 70).sqrt()
    torch.testing.assert_close(found.standard_error, wanted)
    assert float(found.bias) == pytest.approx(0, abs=0.05)


def test_degenerate_variance_is_that_at_equality():
    # Over draws with P = Q the U-statistic scatters as its second-order term says.
    kernel = Gaussian(1.0)
    values, told, made = [], [], []
    for seed in range(150):
        x, y = normal(seed, 40, 1), normal(seed + 1000, 60, 1)
        values.append(float(mmd(x, y, kernel=kernel)))
        problem = Problem.admit(mmd, x, y, {"kernel": kernel}, Traits(), 0)
        told.append(float(_second_order(problem, kernel)))
        made.append(estimate(mmd, x, y, kernel=kernel, generator=0))
    assert np.mean(told) == pytest.approx(np.var(values), rel=0.3)
    missed = sum(not float(i.low) <= 0 <= float(i.high) for i in made)
    assert missed <= 8


@pytest.mark.parametrize(
    ("estimator", "truth", "options"),
    [
        (mmd, 0.17726763, {"kernel": Gaussian(1.0)}),
        (energy_distance, 0.54180658, {}),
        (energy_distance, 0.54180658**0.5, {"root": True}),
        (wasserstein_1d, 1.0, {}),
        (frechet_distance, 1.0, {}),
    ],
)
def test_coverage_in_small(estimator, truth, options):
    held = 0
    for seed in range(60):
        x, y = normal(seed, 100, 1), normal(seed + 500, 80, 1, mean=1.0)
        if estimator is wasserstein_1d:
            x, y = x[:, 0], y[:, 0]
        found = estimate(estimator, x, y, generator=seed, **options)
        held += float(found.low) <= truth <= float(found.high)
    assert held >= 50  # below by chance once in 1000 if the coverage is 94%


def test_sliced_coverage_is_about_the_whole_sphere():
    held = [0, 0]
    for seed in range(40):
        x, y = normal(seed, 60, 3), normal(seed + 500, 60, 3, mean=0.5, sd=1.3)
        found = estimate(sliced_wasserstein, x, y, projections=10, generator=seed)
        held[0] += float(found.low) <= 0.34**0.5 <= float(found.high)
        near = estimate(sliced_wasserstein, x, y, directions=torch.eye(3).double(), generator=0)
        held[1] += float(near.low) <= 0.34**0.5 <= float(near.high)
    assert min(held) >= 33


def test_few_directions_widen_the_interval_and_given_ones_do_not():
    x, y = normal(0, 80, 2), normal(1, 80, 2)
    y[:, 0] += 5.0
    few = estimate(sliced_wasserstein, x, y, projections=4, root=False, generator=0)
    many = estimate(sliced_wasserstein, x, y, projections=400, root=False, generator=0)
    assert float(few.standard_error) > 3 * float(many.standard_error)
    theta = torch.eye(2, dtype=DOUBLE)[:1]
    fixed = estimate(sliced_wasserstein, x, y, directions=theta, root=False, generator=0)
    line = estimate(wasserstein_1d, x[:, 0], y[:, 0], p=2, root=False, generator=0)
    assert float(fixed.standard_error) == pytest.approx(float(line.standard_error), rel=1e-9)


def test_batched_is_looped():
    x, y = normal(0, 3 * 40).reshape(3, 40, 2), normal(1, 50, mean=0.5)
    for estimator, options in [(mmd, {}), (energy_distance, {"root": True}), (wasserstein, {})]:
        together = estimate(estimator, x, y, generator=0, **options)
        assert together.value.shape == (3,)
        for k in range(3):
            one = estimate(estimator, x[k], y, generator=0, **options)
            for name in ("value", "low", "high", "standard_error", "bias"):
                torch.testing.assert_close(getattr(together, name)[k], getattr(one, name))
    assert "3 95% intervals" in repr(together)
    assert len(json.loads(json.dumps(together.to_dict()))["low"]) == 3


def test_uniform_weights_change_nothing():
    x, y = normal(0, 40), normal(1, 50, mean=0.5)
    a = torch.full((40,), 1 / 40, dtype=DOUBLE)
    for method in (Influence(), Jackknife(5), Bootstrap(9), Subsampling(9)):
        plain = estimate(energy_distance, x, y, method=method, generator=0)
        weighted = estimate(energy_distance, x, y, a=a, method=method, generator=0)
        for name in ("value", "low", "high", "standard_error", "bias"):
            torch.testing.assert_close(getattr(plain, name), getattr(weighted, name))


def test_importance_weights_are_covered():
    # x drawn from N(0, 1), weighted to stand for N(1, 1); y from N(2, 1): W1 = 1.
    held = 0
    for seed in range(40):
        x, y = normal(seed, 150, 1)[:, 0], normal(seed + 500, 100, 1, mean=2.0)[:, 0]
        found = estimate(wasserstein_1d, x, y, a=torch.softmax(x, 0), generator=0)
        held += float(found.low) <= 1.0 <= float(found.high)
    assert held >= 33


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_lower_precision_and_offsets(dtype):
    x, y = normal(0, 200), normal(1, 150, mean=1.0)
    wanted = estimate(energy_distance, x, y)
    found = estimate(energy_distance, x.to(dtype), y.to(dtype))
    assert found.value.dtype == torch.float32
    assert float(found.standard_error) == pytest.approx(float(wanted.standard_error), rel=1e-2)
    far = estimate(energy_distance, (x + 2**14).float(), (y + 2**14).float())
    assert float(far.high) == pytest.approx(float(wanted.high), rel=1e-2)


def test_roots_of_equal_samples_are_finite():
    x = normal(0, 30)
    for estimator in (energy_distance, frechet_distance, sliced_wasserstein, wasserstein):
        found = estimate(estimator, x, x.clone(), root=True, generator=0)
        numbers = [v for k, v in found.to_dict().items() if k not in ("method", "level")]
        assert all(map(math.isfinite, numbers)), estimator
        assert found.low <= found.value <= found.high


def test_constant_samples_have_no_error():
    x, y = torch.zeros(5, 2, dtype=DOUBLE), torch.ones(4, 2, dtype=DOUBLE)
    found = estimate(energy_distance, x, y)
    assert float(found.standard_error) == pytest.approx(0, abs=1e-12)
    assert float(found.value) == pytest.approx(2 * 2**0.5)


def test_wider_level_and_printing():
    x, y = normal(0, 50), normal(1, 50, mean=1.0)
    narrow, wide = (estimate(mmd, x, y, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert "99% interval by influence" in repr(wide)
    assert float(wide) == float(wide.value)
    assert isinstance(wide, Interval)


def test_own_functions_are_bootstrapped_without_warnings():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=60), rng.normal(1.0, size=80)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate(lambda x, y: np.median(x) - np.median(y), x, y, generator=0)
        same = estimate(lambda x, y: np.median(x) - np.median(y), x, y, generator=0)
    assert found.method == "bootstrap"
    assert found == same
    assert found.low < -1 < found.high
    of_tensors = estimate(lambda x, y: x.mean() - y.mean(), torch.tensor(x), torch.tensor(y))
    wanted = math.sqrt(x.var() / 60 + y.var() / 80)
    assert float(of_tensors.standard_error) == pytest.approx(wanted, rel=0.15)


def test_own_function_with_weights_has_an_influence():
    def gap(x, y, *, a, b):
        return (a @ x - b @ y).square().sum()

    x, y = normal(0, 60), normal(1, 50, mean=1.0)
    found = estimate(gap, x, y, method="influence")
    mean = x.mean(0) - y.mean(0)
    wanted = 2 * ((x @ mean).var() / 60 + (y @ mean).var() / 50).sqrt()
    torch.testing.assert_close(found.standard_error, wanted)


def test_partials_are_unwrapped():
    x, y = normal(0, 50), normal(1, 50, mean=1.0)
    partial = functools.partial(energy_distance, power=0.5)
    assert estimate(partial, x, y) == estimate(energy_distance, x, y, power=0.5)


def test_the_global_random_state_is_left_alone():
    x, y = normal(0, 20), normal(1, 20)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    estimate(energy_distance, x, y, method=Bootstrap(replicates=3))
    estimate(sliced_wasserstein, x, y, projections=3)
    assert torch.equal(before, torch.get_rng_state())


def test_subsampling_rate_and_share():
    # The maximum of uniforms converges at rate 1; at that rate the interval has the right size.
    source = torch.Generator().manual_seed(0)
    x, y = torch.rand(400, 1, generator=source), torch.rand(400, 1, generator=source)

    def top(x, y):
        return x.max()

    right = estimate(top, x, y, method=Subsampling(rate=1.0, share=0.1), generator=0)
    assert 0.2 < float(right.standard_error) * 400 < 3
    usual = estimate(top, x, y, method=Subsampling(share=0.1), generator=0)
    assert float(usual.standard_error) > 2 * float(right.standard_error)


BAD = [
    (lambda x, y: estimate(None, x, y), TypeError, "estimator"),
    (lambda x, y: estimate(mmd, x, y, level=1.0), ValueError, "level must lie strictly"),
    (lambda x, y: estimate(mmd, x, y, level="a"), TypeError, "level"),
    (lambda x, y: estimate(mmd, x, y, method="magic"), ValueError, "known: auto, influence"),
    (lambda x, y: estimate(mmd, x[:1], y), ValueError, "x has 1 point and an interval needs"),
    (lambda x, y: estimate(mmd, x, y[:0]), ValueError, "y has 0 points"),
    (lambda x, y: estimate(mmd, x, y[:, :1]), ValueError, "x has 2 columns"),
    (lambda x, y: estimate(mmd, x, y * math.nan), ValueError, "y holds nan at row 0"),
    (lambda x, y: estimate(mmd, x, y / 0), ValueError, "y holds -?inf"),
    (lambda x, y: estimate(mmd, x, y.numpy()), TypeError, "torch tensors"),
    (lambda x, y: estimate(mmd, "x", y), TypeError, "all of one kind"),
    (lambda x, y: estimate(mmd, x, y, a=torch.eye(20)[0]), ValueError, "all its mass on one"),
    (lambda x, y: estimate(mmd, x, y, a=torch.ones(20)), ValueError, "a sums to 20"),
    (lambda x, y: estimate(mmd, x, y, generator="a"), TypeError, "generator"),
    (lambda x, y: estimate(mmd, x, y, root=True), ValueError, "has no root"),
    (lambda x, y: estimate(mmd, x, y, surprise=1), TypeError, "surprise"),
    (lambda x, y: estimate(sliced_wasserstein, x, y, p=math.inf), ValueError, "no interval"),
    (lambda x, y: estimate(lambda x, y: "no", x, y), TypeError, "must return a number"),
    (lambda x, y: estimate(lambda x, y: math.nan, x, y), ValueError, "answered nan"),
    (lambda x, y: estimate(lambda x, y: 1.0, x, y, method="influence"), ValueError, "no gradient"),
    (lambda x, y: estimate(block_mmd, x, y, method=Influence()), ValueError, "no gradient"),
    (lambda x, y: estimate(mmd, x, y, method=Jackknife(1)), ValueError, "groups must be at least"),
    (lambda x, y: estimate(mmd, x, y, method=Bootstrap(0)), ValueError, "replicates must be"),
    (lambda x, y: estimate(mmd, x, y, method=Subsampling(share=1.0)), ValueError, "share must"),
    (lambda x, y: estimate(mmd, x, y, method=Subsampling(rate=0)), ValueError, "rate must be"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_inputs_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(0, 20), normal(1, 20))


@given(
    n=st.integers(2, 12),
    m=st.integers(2, 12),
    d=st.integers(1, 3),
    seed=st.integers(0, 100),
    method=st.sampled_from(["influence", Jackknife(3), Bootstrap(5), Subsampling(5)]),
)
def test_any_small_samples_get_a_finite_interval(n, m, d, seed, method):
    # Few distinct values: ties within and between the samples.
    source = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 3, (n, d), generator=source).double()
    y = torch.randint(0, 3, (m, d), generator=source).double()
    for estimator in (energy_distance, sliced_wasserstein):
        found = estimate(estimator, x, y, method=method, generator=seed, root=True)
        assert math.isfinite(float(found.high))
        assert 0 <= float(found.low) <= float(found.value) <= float(found.high)
