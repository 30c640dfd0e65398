"""ME and SCF tests: Hotelling's statistic, learned locations, calibration."""

import numpy as np
import pytest
import scipy.stats
import torch

from probmetrics.twosample import characteristic_function_test, mean_embedding_test
from probmetrics.twosample.locations import WhitenedStatistic

TESTS = {"me": mean_embedding_test, "scf": characteristic_function_test}


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(n, m, d=2, shift=0.0, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), scale * rng.normal(size=(m, d)) + shift


def test_statistic_is_an_increasing_function_of_hotellings(generator):
    rng = np.random.default_rng(0)
    z = torch.tensor(rng.normal(size=(30, 3)) @ rng.normal(size=(3, 3)))
    prepared = WhitenedStatistic().prepare(z, (12, 18))
    labels = (torch.rand(20, 30, generator=generator).argsort(1) >= 12).to(torch.uint8)
    found = prepared.evaluate(labels).numpy()
    for row, value in zip(labels.numpy(), found, strict=True):
        x, y = z.numpy()[row == 0], z.numpy()[row == 1]
        gap = x.mean(0) - y.mean(0)
        within = (np.cov(x.T, ddof=0) * 12 + np.cov(y.T, ddof=0) * 18) / 30
        squared = 12 * 18 / 30 * gap @ np.linalg.solve(within, gap)
        assert value == pytest.approx(squared / (1 + squared / 30), rel=1e-3)  # up to the ridge
    assert np.ptp(found) > 0


@pytest.mark.parametrize("name", TESTS)
def test_given_locations_are_used(name):
    x, y = draw(40, 50, shift=0.8)
    spots = np.array([[0.0, 0.0], [1.0, 0.5]])
    keyword = {"me": "locations", "scf": "frequencies"}[name]
    result = TESTS[name](x, y, learn=False, generator=0, **{keyword: spots})
    np.testing.assert_allclose(result.details["locations"], spots)
    assert result.details["tested"] == (40, 50)


@pytest.mark.parametrize("name", TESTS)
def test_learning_helps(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    bump = rng.normal(size=(60, 2)) * 0.2 + np.array([1.5, 1.5])
    y = np.concatenate([rng.normal(size=(340, 2)), bump])
    keyword = {"me": "locations", "scf": "frequencies"}[name]
    learned = TESTS[name](x, y, generator=0, **{keyword: 2})
    drawn = TESTS[name](x, y, generator=0, learn=False, **{keyword: 2})
    assert learned.pvalue == 0.001
    assert learned.effect_size > drawn.effect_size
    assert learned.details["tested"] == (200, 200)
    assert learned.n == (400, 400)


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("learn", [True, False])
def test_differences_are_found(name, learn):
    shifted = draw(150, 180, shift=0.8)
    spread = draw(150, 180, scale=2.5)
    assert TESTS[name](*shifted, learn=learn, generator=0).pvalue <= 0.01
    assert TESTS[name](*spread, learn=learn, generator=0).pvalue <= 0.01


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("learn", [True, False])
def test_same_pvalue_everywhere(name, learn):
    x, y = draw(24, 24, shift=0.4)
    options = {"generator": 2, "permutations": 99, "learn": learn}
    reference = TESTS[name](x, y, **options)
    others = [
        TESTS[name](y, x, **options),
        TESTS[name](x, y, batch=7, **options),
        TESTS[name](torch.tensor(x), torch.tensor(y), **options),
    ]
    assert [r.pvalue for r in others] == [reference.pvalue] * 3


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("learn", [True, False])
def test_size_is_kept_where_the_chi_square_limit_is_not(name, learn, monkeypatch):
    monkeypatch.setattr("probmetrics.twosample.locations.STEPS", 10)
    rng = np.random.default_rng(43)
    reps, pvalues = 100, []
    for rep in range(reps):
        z = rng.normal(size=(60, 2))
        result = TESTS[name](z[:25], z[25:], permutations=39, generator=rep, learn=learn)
        pvalues.append(result.pvalue)
    for level in (0.05, 0.25):
        rejected = (np.array(pvalues) <= level).sum()
        assert rejected <= scipy.stats.binom.ppf(0.999, reps, level)


@pytest.mark.parametrize("name", TESTS)
def test_odd_data_and_bad_input(name):
    flat = np.ones((8, 2))
    assert TESTS[name](flat, flat, generator=0).pvalue == 1.0
    keyword = {"me": "locations", "scf": "frequencies"}[name]
    x, y = draw(8, 8)
    with pytest.raises(ValueError, match=r"\(J, 2\)"):
        TESTS[name](x, y, **{keyword: np.zeros((3, 4))})
    with pytest.raises(ValueError, match="at least 1"):
        TESTS[name](x, y, **{keyword: 0})
    with pytest.raises(ValueError, match="at least 4"):
        TESTS[name](x[:3], y)
    half = np.column_stack([np.ones(20), np.arange(20.0)])
    assert 0 < TESTS[name](half, half + np.array([0.0, 5.0]), generator=0).pvalue <= 1


@pytest.mark.parametrize("test", [mean_embedding_test, characteristic_function_test])
def test_exchanged_samples_give_the_same_bits_where_learning_is_unstable(test):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(9, 60)), rng.normal(size=(8, 60))
    one, two = (test(*pair, generator=5, permutations=99) for pair in ((x, y), (y, x)))
    assert one.statistic == pytest.approx(two.statistic, rel=1e-9)
    assert one.pvalue == two.pvalue
