"""Tests for large samples: random features in blocks, incomplete sums."""

import numpy as np
import pytest
import scipy.stats
import torch

from probmetrics.discrepancy import random_feature_mmd
from probmetrics.pairwise.kernels import Gaussian, Laplacian, Polynomial
from probmetrics.twosample import incomplete_mmd_test, mmd_test, random_feature_test

TESTS = {"features": random_feature_test, "incomplete": incomplete_mmd_test}


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(n, m, d=3, shift=0.0, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), scale * rng.normal(size=(m, d)) + shift


@pytest.mark.parametrize(("n", "m", "blocks"), [(60, 60, 2000), (503, 407, 40), (12, 3000, 30)])
def test_feature_statistic_is_the_estimator(n, m, blocks):
    x, y = draw(n, m, shift=0.2)
    kernel = Laplacian(1.5)
    result = random_feature_test(
        x, y, kernel=kernel, features=30, blocks=blocks, permutations=19, generator=5
    )
    expected = random_feature_mmd(x, y, kernel=kernel, features=30, unbiased=False, generator=5)
    assert result.statistic == pytest.approx(expected)
    assert result.n == (n, m)
    assert result.kernel == kernel


def test_blocks_and_points_have_the_same_null_distribution():
    # Of mean zero up to the bias tr Σ (1/n + 1/m), whichever units exchange labels.
    x, y = draw(2000, 3000)
    options = {"kernel": Gaussian(2.0), "features": 50, "permutations": 999, "generator": 0}
    points = random_feature_test(x, y, blocks=10_000, **options)
    blocks = random_feature_test(x, y, blocks=500, **options)
    assert (points.details["points_per_block"], blocks.details["points_per_block"]) == (1, 10)
    assert points.statistic == pytest.approx(blocks.statistic)
    same = scipy.stats.ks_2samp(points.null_distribution, blocks.null_distribution)
    assert same.pvalue > 0.01


def test_incomplete_statistic_by_its_definition():
    x, y = draw(9, 9, shift=0.3)
    kernel = Gaussian(1.1)
    result = incomplete_mmd_test(x, y, kernel=kernel, offsets=8, permutations=19, generator=0)
    # with all offsets every ordered pair i ≠ j is there: the statistic misses k(x_i, y_i) only
    z = torch.tensor(np.concatenate([x, y]))
    gram = kernel(z).numpy()
    within = gram[:9, :9].sum() + gram[9:, 9:].sum() - 18
    # the pairing is random, so compare with the mean over all pairings
    across = gram[:9, 9:].sum() * 2
    lowest = (within - across) / 72 + 2 * 9 * gram[:9, 9:].min() / 72
    highest = (within - across) / 72 + 2 * 9 * gram[:9, 9:].max() / 72
    assert lowest <= result.statistic <= highest


def test_incomplete_statistic_is_unbiased():
    kernel = Gaussian(1.0)
    values = [
        incomplete_mmd_test(
            *draw(40, 40, shift=1.0, seed=s), kernel=kernel, offsets=3, permutations=19, generator=s
        ).statistic
        for s in range(60)
    ]
    complete = [
        mmd_test(
            *draw(40, 40, shift=1.0, seed=s), kernel=kernel, permutations=19, generator=s
        ).statistic
        for s in range(60)
    ]
    gap = np.array(values) - np.array(complete)
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(60)


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize(("n", "m"), [(300, 300), (210, 350)])
def test_same_pvalue_everywhere(name, n, m):
    x, y = draw(n, m, shift=0.05)
    options = {"generator": 3, "permutations": 99}
    if name == "features":
        options.update(blocks=100, features=40)
    reference = TESTS[name](x, y, **options)
    others = [
        TESTS[name](y, x, **options),
        TESTS[name](x, y, batch=7, **options),
        TESTS[name](torch.tensor(x), torch.tensor(y), **options),
        TESTS[name](x + 1e4, y + 1e4, **options),
    ]
    assert [r.pvalue for r in others] == [reference.pvalue] * 4


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("kind", ["gaussian", "binary", "uneven"])
def test_size_is_kept(name, kind):
    rng = np.random.default_rng(31)
    reps, pvalues = 150, []
    for rep in range(reps):
        z = rng.integers(0, 2, (63, 2)) * 1.0 if kind == "binary" else rng.normal(size=(63, 2))
        n = 13 if kind == "uneven" else 31
        more = {"features": 20, "blocks": 24} if name == "features" else {"offsets": 3}
        result = TESTS[name](z[:n], z[n:], permutations=39, generator=rep, **more)
        pvalues.append(result.pvalue)
    for level in (0.05, 0.25):
        rejected = (np.array(pvalues) <= level).sum()
        assert rejected <= scipy.stats.binom.ppf(0.999, reps, level)


@pytest.mark.parametrize("name", TESTS)
def test_power_grows_with_the_sample(name):
    x, y = draw(3000, 4000, scale=1.3)
    assert TESTS[name](x, y, generator=0).pvalue == 0.001
    assert TESTS[name](x[:20], y[:25], generator=0).pvalue > 0.02


@pytest.mark.parametrize("name", TESTS)
def test_odd_data_and_bad_input(name):
    flat = np.ones((7, 2))
    assert TESTS[name](flat, np.ones((5, 2)), generator=0).pvalue == 1.0
    x, y = draw(6, 6)
    assert TESTS[name](x[:2], y[:2], generator=0, level=0.6).pvalue > 0
    with pytest.raises(ValueError, match="random features"):
        random_feature_test(x, y, kernel=Polynomial())
    with pytest.raises(ValueError, match="offsets"):
        incomplete_mmd_test(x, y, offsets=6)
    with pytest.raises(ValueError, match="blocks"):
        random_feature_test(x, y, blocks=1)
