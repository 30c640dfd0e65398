"""Classical tests by feature: SciPy's statistics for many labelings, calibration."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from probmetrics.twosample import adjust_pvalues, univariate_test
from probmetrics.twosample.labelings import Labelings
from probmetrics.twosample.univariate import STATISTICS, MarginalStatistic


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scipys(name, x, y):
    if name == "ks":
        return scipy.stats.ks_2samp(x, y).statistic
    if name == "cvm":
        return scipy.stats.cramervonmises_2samp(x, y).statistic
    if name == "es":
        return scipy.stats.epps_singleton_2samp(x, y).statistic
    # Scholz and Stephens (1987), eq. 7, by its definition
    z = np.sort(np.append(x, y))
    total, answer = len(z), 0.0
    for sample in (x, y):
        for value in np.unique(z):
            ties, below = (z == value).sum(), (z < value).sum() + (z == value).sum() / 2
            own = (sample < value).sum() + (sample == value).sum() / 2
            inner = below * (total - below) - total * ties / 4
            answer += ties / total * (total * own - below * len(sample)) ** 2 / inner / len(sample)
    return answer * (total - 1) / total


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("n", "m"), [(12, 9), (30, 40)])
def test_statistics_of_many_labelings_are_scipys(name, tied, n, m, generator):
    rng = np.random.default_rng(0)
    z = rng.normal(size=n + m) * 2
    z = z.round() if tied else z
    labels = torch.cat(
        list(Labelings((torch.arange(n + m) >= n).to(torch.uint8)).draw(generator, 8))
    )
    prepared = MarginalStatistic(name).prepare(torch.tensor(z)[:, None], (n, m))
    found = prepared.evaluate(labels)[:, 0]
    for row, value in zip(labels.numpy(), found.tolist(), strict=True):
        assert value == pytest.approx(scipys(name, z[row == 0], z[row == 1]), rel=1e-8)


def test_anderson_darling_orders_labelings_as_scipy_does(generator):
    rng = np.random.default_rng(0)
    z = rng.normal(size=25).round(1)
    labels = torch.cat(list(Labelings((torch.arange(25) >= 10).to(torch.uint8)).draw(generator, 9)))
    found = MarginalStatistic("ad").prepare(torch.tensor(z)[:, None], (10, 15)).evaluate(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [
            scipy.stats.anderson_ksamp([z[row == 0], z[row == 1]]).statistic
            for row in labels.numpy()
        ]
    slope, intercept = np.polyfit(theirs, found[:, 0].numpy(), 1)
    np.testing.assert_allclose(slope * np.array(theirs) + intercept, found[:, 0], rtol=1e-8)


@pytest.mark.parametrize("name", STATISTICS)
def test_scipy_pvalues_and_their_adjustment(name):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(35, 3)) + np.array([0.0, 0.0, 1.5])
    result = univariate_test(x, y, statistic=name, calibration="scipy", correction="bh")
    call = {
        "ks": scipy.stats.ks_2samp,
        "cvm": scipy.stats.cramervonmises_2samp,
        "ad": lambda u, v: scipy.stats.anderson_ksamp([u, v]),
        "es": scipy.stats.epps_singleton_2samp,
    }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [call(x[:, k], y[:, k]).pvalue for k in range(3)]
    np.testing.assert_allclose(result.details["pvalues"], expected)
    np.testing.assert_allclose(result.details["adjusted"], adjust_pvalues(expected, method="bh"))
    assert result.pvalue == min(result.details["adjusted"])
    assert result.pvalue_interval() == (result.pvalue, result.pvalue)
    assert "SciPy" in result.method


@pytest.mark.parametrize("name", STATISTICS)
def test_features_that_differ_are_named(name):
    rng = np.random.default_rng(1)
    x = pd.DataFrame(rng.normal(size=(60, 4)), columns=list("abcd"))
    y = pd.DataFrame(rng.normal(size=(50, 4)) + np.array([0, 1.5, 0, 0]), columns=list("abcd"))
    result = univariate_test(x, y, statistic=name, generator=0)
    assert result.columns == ("a", "b", "c", "d")
    assert (result.details["adjusted"] <= 0.05).tolist() == [False, True, False, False]
    assert 0.4 < result.effect_size < 1


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("kind", ["gaussian", "cauchy", "binary"])
def test_size_is_kept(name, kind):
    rng = np.random.default_rng(37)
    reps, pvalues = 120, []
    for rep in range(reps):
        z = {
            "gaussian": lambda: rng.normal(size=(24, 2)),
            "cauchy": lambda: rng.standard_cauchy((24, 2)),
            "binary": lambda: rng.integers(0, 2, (24, 2)) * 1.0,
        }[kind]()
        pvalues.append(
            univariate_test(z[:8], z[8:], statistic=name, permutations=39, generator=rep).pvalue
        )
    for level in (0.05, 0.25):
        rejected = (np.array(pvalues) <= level).sum()
        assert rejected <= scipy.stats.binom.ppf(0.999, reps, level)


@pytest.mark.parametrize("name", STATISTICS)
def test_same_pvalue_everywhere(name):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 2)) + 0.3
    options = {"statistic": name, "generator": 2, "permutations": 99}
    reference = univariate_test(x, y, **options).pvalue
    assert univariate_test(y, x, **options).pvalue == reference
    assert univariate_test(x, y, batch=7, **options).pvalue == reference
    assert univariate_test(torch.tensor(x), torch.tensor(y), **options).pvalue == reference


def test_odd_data_and_bad_input():
    flat = np.ones((6, 2))
    for name in STATISTICS:
        assert univariate_test(flat, flat, statistic=name).pvalue == 1.0
        assert univariate_test(flat, flat, statistic=name, calibration="scipy").pvalue == 1.0
    with pytest.raises(ValueError, match="ks, cvm, ad, es"):
        univariate_test(flat, flat, statistic="t")
    with pytest.raises(ValueError, match="permutation, scipy"):
        univariate_test(flat, flat, calibration="exact")
    with pytest.raises(ValueError, match="at least 5"):
        univariate_test(flat[:4], flat, statistic="es")
    with pytest.raises(ValueError, match="no strata"):
        univariate_test(flat, flat, calibration="scipy", paired=True)
