"""Tests by transport on the line: values, localisation, calibration."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from probmetrics.transport.line import wasserstein_1d
from probmetrics.transport.sliced import sliced_wasserstein
from probmetrics.twosample import sliced_wasserstein_test, wasserstein_test
from probmetrics.twosample.labelings import Labelings
from probmetrics.twosample.wasserstein import LineStatistic

TESTS = {"features": wasserstein_test, "sliced": sliced_wasserstein_test}


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(n, m, d=3, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + shift


def bound(reps, level):
    return scipy.stats.binom.ppf(0.999, reps, level)


@pytest.mark.parametrize("p", [1, 2, 1.5, np.inf])
@pytest.mark.parametrize(("n", "m"), [(8, 8), (5, 11)])
@pytest.mark.parametrize("tied", [False, True])
def test_many_labelings_at_once_equal_one_distance_each(p, n, m, tied, generator):
    z = torch.tensor(np.concatenate(draw(n, m)))
    z = z.round() if tied else z
    observed = (torch.arange(n + m) >= n).to(torch.uint8)
    labels = torch.cat(list(Labelings(observed).draw(generator, 12)))
    values = LineStatistic(p).prepare(z, (n, m)).evaluate(labels)
    for row, found in zip(labels, values, strict=True):
        expected = wasserstein_1d(z[row == 0].mT, z[row == 1].mT, p=p)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2])
def test_statistics_are_those_of_the_estimators(p):
    x, y = draw(20, 25, shift=0.4)
    theta = np.eye(3)
    sliced = sliced_wasserstein_test(x, y, p=p, directions=theta, generator=0)
    assert sliced.statistic == pytest.approx(sliced_wasserstein(x, y, p=p, directions=theta))
    features = wasserstein_test(x, y, p=p, generator=0)
    np.testing.assert_allclose(features.details["values"], wasserstein_1d(x.T, y.T, p=p))
    scale = np.concatenate([x, y]).std(0, ddof=1)
    assert features.effect_size == pytest.approx((features.details["values"] / scale).max())
    assert wasserstein_test(x, y, generator=0).details["values"][0] == pytest.approx(
        scipy.stats.wasserstein_distance(x[:, 0], y[:, 0])
    )


def test_exact_min_p_by_enumeration():
    x, y = draw(3, 4, shift=0.8, seed=3)
    z = np.concatenate([x, y])
    labelings = list(itertools.combinations(range(7), 3))
    values = np.array([wasserstein_1d(z[list(c)].T, np.delete(z, c, axis=0).T) for c in labelings])
    ranks = (values[None] >= values[:, None] - 1e-12).mean(1)
    smallest = ranks.min(1)
    mine = labelings.index((0, 1, 2))
    result = wasserstein_test(x, y, level=0.5)
    assert result.exact
    np.testing.assert_allclose(result.details["pvalues"], ranks[mine])
    np.testing.assert_allclose(
        result.details["adjusted"], [(smallest <= r + 1e-12).mean() for r in ranks[mine]]
    )
    # among labelings with equal smallest p-value the other features decide
    assert (smallest < smallest[mine] - 1e-12).mean() < result.pvalue
    assert result.pvalue <= (smallest <= smallest[mine] + 1e-12).mean() + 1e-12


def test_one_feature_is_the_plain_permutation_test():
    x, y = draw(12, 15, d=1, shift=0.5)
    features = wasserstein_test(x, y, generator=4)
    sliced = sliced_wasserstein_test(x, y, generator=4)
    assert features.pvalue == sliced.pvalue == features.details["pvalues"][0]


def test_features_that_differ_are_named():
    x, y = draw(60, 80, d=6)
    y[:, 1] *= 2.5
    y[:, 4] += 1
    adjusted = wasserstein_test(x, y, generator=0).details["adjusted"]
    assert [int(i) for i in np.flatnonzero(adjusted <= 0.05)] == [1, 4]
    assert np.all(adjusted >= wasserstein_test(x, y, generator=0).details["pvalues"])


@pytest.mark.parametrize("name", TESTS)
def test_same_pvalue_everywhere(name):
    test, (x, y) = TESTS[name], draw(20, 20, shift=0.2)
    reference = test(x, y, generator=2, permutations=99)
    others = [
        test(y, x, generator=2, permutations=99),
        test(x, y, generator=2, permutations=99, batch=7),
        test(torch.tensor(x), torch.tensor(y), generator=2, permutations=99),
        test(x + 1e4, y + 1e4, generator=2, permutations=99),
    ]
    assert [r.pvalue for r in others] == [reference.pvalue] * 4
    assert isinstance(others[2].null_distribution, torch.Tensor)


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("kind", ["gaussian", "cauchy", "binary"])
def test_size_is_kept(name, kind):
    rng = np.random.default_rng(9)
    draws = {
        "gaussian": lambda: rng.normal(size=(24, 3)),
        "cauchy": lambda: rng.standard_cauchy(size=(24, 2)),
        "binary": lambda: rng.integers(0, 2, (24, 3)) * 1.0,
    }
    reps, pvalues = 200, []
    for rep in range(reps):
        z = draws[kind]()
        more = {"projections": 12} if name == "sliced" else {}
        result = TESTS[name](z[:8], z[8:], permutations=39, generator=rep, **more)
        pvalues.append(result.pvalue)
    for level in (0.05, 0.25):
        rejected = (np.array(pvalues) <= level).sum()
        assert rejected <= bound(reps, level)
        if kind != "binary":
            assert rejected >= reps - bound(reps, 1 - level)


@pytest.mark.parametrize("name", TESTS)
def test_odd_data_and_bad_input(name):
    flat = np.ones((5, 2))
    assert TESTS[name](flat, flat).pvalue == 1.0
    half = np.column_stack([np.ones(8), np.arange(8.0)])
    assert TESTS[name](half, half + np.array([0, 100]), generator=0).pvalue <= 0.002
    with pytest.raises(ValueError, match="p must"):
        TESTS[name](flat, flat, p=0.5)
    with pytest.raises(ValueError, match="at least 2"):
        TESTS[name](flat[:1], flat)


def test_families_do_not_grow_adaptively():
    x, y = draw(10, 10)
    with pytest.raises(ValueError, match="auto"):
        wasserstein_test(x, y, permutations="auto")
    assert sliced_wasserstein_test(x, y, permutations="auto", generator=0).permutations >= 99
