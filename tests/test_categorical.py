"""Categorical tests: SciPy's statistics and exact p-values, calibration."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from probmetrics.twosample import categorical_test, energy_test, mixed_test, two_sample_test
from probmetrics.twosample.categorical import STATISTICS


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def from_table(table):
    return [np.repeat(np.arange(len(row)), row) for row in table]


@pytest.mark.parametrize(
    "table", [[[3, 7, 5], [6, 2, 9]], [[0, 4], [5, 3]], [[2, 0, 5, 1], [1] * 4]]
)
def test_statistics_agree_with_scipy(table):
    x, y = from_table(table)
    chi2 = categorical_test(x, y, generator=0, permutations=99).details["values"][0]
    assert chi2 == pytest.approx(scipy.stats.chi2_contingency(table, correction=False).statistic)
    g = categorical_test(x, y, statistic="g", generator=0, permutations=99).details["values"][0]
    theirs = scipy.stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
    assert g == pytest.approx(theirs.statistic)
    fisher = categorical_test(x, y, statistic="fisher", generator=0, permutations=99)
    margins = np.sum(table, 0)
    law = scipy.stats.multivariate_hypergeom(margins, sum(table[0]))
    assert fisher.details["values"][0] == pytest.approx(-law.logpmf(table[0]))
    np.testing.assert_array_equal(fisher.details["tables"][0], table)


@pytest.mark.parametrize("table", [[[3, 1], [1, 4]], [[0, 4], [3, 2]], [[2, 2], [2, 2]]])
def test_fishers_exact_test_by_enumeration(table):
    x, y = from_table(table)
    result = categorical_test(x, y, statistic="fisher", level=0.9)
    assert result.exact
    assert result.pvalue == pytest.approx(scipy.stats.fisher_exact(table).pvalue)


def test_random_labelings_approach_the_exact_pvalue():
    table = [[13, 5], [6, 12]]
    result = categorical_test(*from_table(table), statistic="fisher", generator=0)
    low, high = result.pvalue_interval(0.999)
    assert low <= scipy.stats.fisher_exact(table).pvalue <= high


def test_tables_of_words_and_numbers():
    rng = np.random.default_rng(0)
    x = pd.DataFrame({"colour": rng.choice(["red", "blue"], 80), "size": rng.integers(0, 3, 80)})
    y = pd.DataFrame({"colour": rng.choice(["red", "green"], 90), "size": rng.integers(0, 3, 90)})
    result = categorical_test(x, y, generator=0, permutations=999)
    assert result.columns == ("colour", "size")
    assert result.details["categories"] == [["blue", "green", "red"], [0, 1, 2]]
    assert (result.details["adjusted"] <= 0.05).tolist() == [True, False]
    assert 0.5 < result.effect_size <= 1
    assert result.pvalue <= 0.002
    assert isinstance(result.null_distribution, np.ndarray)


def test_same_pvalue_everywhere():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 3, (30, 2)), rng.integers(0, 3, (30, 2))
    options = {"generator": 3, "permutations": 199}
    reference = categorical_test(x, y, **options).pvalue
    assert categorical_test(y, x, **options).pvalue == reference
    assert categorical_test(x, y, batch=7, **options).pvalue == reference
    assert categorical_test(torch.tensor(x), torch.tensor(y), **options).pvalue == reference
    assert categorical_test(x.astype(str), y.astype(str), **options).pvalue == reference


@pytest.mark.parametrize("statistic", STATISTICS)
def test_size_is_kept(statistic):
    rng = np.random.default_rng(41)
    reps, pvalues = 200, []
    for rep in range(reps):
        z = rng.choice(4, (30, 2), p=[0.7, 0.2, 0.07, 0.03])
        result = categorical_test(
            z[:10], z[10:], statistic=statistic, permutations=39, generator=rep
        )
        pvalues.append(result.pvalue)
    for level in (0.05, 0.25):
        rejected = (np.array(pvalues) <= level).sum()
        assert rejected <= scipy.stats.binom.ppf(0.999, reps, level)


def test_odd_data_and_bad_input():
    assert categorical_test(["a"] * 5, ["a"] * 6).pvalue == 1.0
    assert categorical_test(["a"] * 5, ["a"] * 6).effect_size == 0.0
    with pytest.raises(ValueError, match="chi2, g, fisher"):
        categorical_test(["a", "b"], ["a", "b"], statistic="t")
    with pytest.raises(ValueError, match="misses values in 1 rows, the first at row 1"):
        categorical_test(
            np.array(["a", None, "b"], dtype=object), np.array(["a"] * 3, dtype=object)
        )
    with pytest.raises(ValueError, match="n >= 2"):
        categorical_test(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="only in x: u"):
        categorical_test(pd.DataFrame({"u": [1, 2]}), pd.DataFrame({"v": [1, 2]}))


def test_complex_numbers_are_no_categories():
    values = np.arange(6) + 1j
    with pytest.raises(TypeError, match="x is complex"):
        mixed_test(values, values)


def test_times_are_numbers_and_masks_are_seen():
    start, later = (pd.date_range(year, periods=12) for year in ("2020", "2021"))
    tables = [pd.DataFrame({"t": days}) for days in (start, later)]
    for x, y in (tables, [days.to_series() for days in (start, later)], [start, later]):
        result = two_sample_test(x, y, generator=0, permutations=99)
        assert result.details["chosen"] == "mixed"
        assert result.details["categorical"] == ()
        assert result.reject()
    with pytest.raises(ValueError, match=r"misses|nan"):
        mixed_test(tables[0].replace(start[3], pd.NaT), tables[1])
    values = np.ma.masked_array(np.arange(12.0), mask=np.arange(12) > 9)
    for test in (two_sample_test, mixed_test, energy_test):
        with pytest.raises(ValueError, match="x has masked values"):
            test(values, np.arange(9.0))


def test_statistics_of_no_difference_are_zero():
    assert "=0," in repr(categorical_test(list("ab"), list("cd"), level=0.9))
