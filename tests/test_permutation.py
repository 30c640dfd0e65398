"""The permutation engine: labelings, p-values, adaptive stopping, results."""

import itertools
import json
import pickle
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from probmetrics.twosample import TestResult, permutation_test
from probmetrics.twosample.adaptive import SequentialPlan
from probmetrics.twosample.design import labelings_of
from probmetrics.twosample.labelings import Labelings
from probmetrics.twosample.result import clopper_pearson

mpl.use("Agg")


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mean_gap(x, y):
    return abs(x.mean() - y.mean())


def signed_gap(x, y):
    return y.mean() - x.mean()


def bound(reps, level, risk=1e-3):
    """Largest number of rejections that a test of this level shows with probability 1 − risk."""
    return scipy.stats.binom.ppf(1 - risk, reps, level)


def ids(*counts):
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(torch.uint8)


# --- labelings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observed", "strata", "total"),
    [
        (ids(3, 3), None, 20),
        (ids(2, 5), None, 21),
        (ids(1, 2, 3), None, 60),
        (ids(2, 2, 1, 1), None, 180),
        (ids(3, 3), [0, 0, 1, 0, 1, 1], 9),
        (ids(2, 3), [0, 1, 0, 0, 2], 3),
    ],
)
def test_enumeration_lists_every_labeling_once(observed, strata, total):
    strata = None if strata is None else torch.tensor(strata)
    labelings = Labelings(observed, strata)
    rows = [tuple(row) for block in labelings.enumerate() for row in block.tolist()]
    stratum = [0] * len(observed) if strata is None else strata.tolist()

    def content(row):
        return sorted(zip(stratum, row, strict=True))

    every = set(itertools.permutations(observed.tolist()))
    allowed = {row for row in every if content(row) == content(observed.tolist())}
    assert labelings.total == total == len(rows)
    assert set(rows) == allowed


def test_pairs_enumerate_all_swaps():
    labelings = Labelings(ids(3, 3), paired=True)
    rows = torch.cat(list(labelings.enumerate()))
    assert labelings.total == 8 == len({tuple(row) for row in rows.tolist()})
    assert bool((rows[:, :3] + rows[:, 3:] == 1).all())


@pytest.mark.parametrize(
    ("observed", "strata"),
    [(ids(2, 3), None), (ids(1, 2, 2), None), (ids(3, 3), [0, 0, 1, 0, 1, 1])],
)
def test_draws_are_uniform_over_the_labelings(observed, strata, generator):
    strata = None if strata is None else torch.tensor(strata)
    labelings = Labelings(observed, strata)
    draws = torch.cat(list(labelings.draw(generator, 6000)))
    every = torch.cat(list(labelings.enumerate()))
    counts = (draws[:, None] == every).all(-1).sum(0)
    assert int(counts.sum()) == 6000
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_pair_swaps_are_independent_coins(generator):
    labelings = Labelings(ids(3, 3), paired=True)
    draws = torch.cat(list(labelings.draw(generator, 4000)))
    every = torch.cat(list(labelings.enumerate()))
    counts = (draws[:, None] == every).all(-1).sum(0)
    assert int(counts.sum()) == 4000
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("strata", [None, "two"])
def test_a_longer_run_begins_with_the_shorter_one(strata, monkeypatch):
    monkeypatch.setattr("probmetrics.twosample.labelings.BLOCK", 32)  # two labelings to a block
    stratum = None if strata is None else torch.arange(16) % 2
    labelings = Labelings(ids(8, 8), stratum)
    short = torch.cat(list(labelings.draw(torch.Generator().manual_seed(3), 3)))
    long = torch.cat(list(labelings.draw(torch.Generator().manual_seed(3), 10)))
    assert torch.equal(short, long[:3])


def test_large_totals_are_infinite_not_slow():
    assert Labelings(ids(500_000, 500_000)).total == np.inf
    assert Labelings(ids(500, 500), paired=True).total == np.inf


# --- p-values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 2), (2, 5)])
def test_exact_pvalue_by_enumeration(n, m):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(size=m) + 1
    result = permutation_test(x, y, signed_gap)
    z = np.concatenate([x, y])
    values = [
        signed_gap(z[list(chosen)], np.delete(z, chosen))
        for chosen in itertools.combinations(range(n + m), n)
    ]
    expected = np.mean(np.array(values) >= signed_gap(x, y) - 1e-12)
    assert result.exact
    assert result.permutations == len(values)
    assert result.pvalue == pytest.approx(expected, abs=1e-15)
    np.testing.assert_allclose(np.sort(result.null_distribution), np.sort(values), atol=1e-12)
    scipys = scipy.stats.permutation_test(
        (x, y), signed_gap, alternative="greater", n_resamples=np.inf
    )
    assert result.pvalue == pytest.approx(scipys.pvalue)


def test_exact_paired_pvalue_agrees_with_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=7)
    y = x + rng.normal(size=7) * 0.3 + 0.2
    ours = permutation_test(x, y, lambda x, y: (y - x).mean(), paired=True)
    scipys = scipy.stats.permutation_test(
        (x, y),
        lambda x, y: (y - x).mean(),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
    )
    assert ours.exact
    assert ours.permutations == 128
    assert ours.pvalue == pytest.approx(scipys.pvalue)


def test_paired_functions_see_pairs_at_matching_positions():
    x = np.arange(30.0)
    y = x + 0.5
    result = permutation_test(
        x, y, lambda x, y: float(np.abs(y - x).max()), paired=True, generator=0, permutations=50
    )
    np.testing.assert_array_equal(result.null_distribution, 0.5)
    assert result.pvalue == 1.0


def test_exact_pvalue_within_strata():
    x, y = np.array([1.0, 2.0, 10.0]), np.array([3.0, 11.0, 12.0])
    strata = (["a", "a", "b"], ["a", "b", "b"])
    result = permutation_test(x, y, signed_gap, strata=strata)
    a, b = np.array([1.0, 2.0, 3.0]), np.array([10.0, 11.0, 12.0])
    values = [
        (a[i] + b.sum() - b[j]) / 3 - (a.sum() - a[i] + b[j]) / 3
        for i in range(3)
        for j in range(3)
    ]
    assert result.permutations == 9
    np.testing.assert_allclose(np.sort(result.null_distribution), np.sort(values))
    assert result.pvalue == pytest.approx(1 / 9)


def test_strata_remove_what_they_explain():
    # The strata differ in mean and in their shares of x and y; within them nothing differs.
    rng = np.random.default_rng(1)
    sx, sy = np.repeat([0, 1], [80, 20]), np.repeat([0, 1], [20, 80])
    x, y = rng.normal(size=100) + 5 * sx, rng.normal(size=100) + 5 * sy
    assert permutation_test(x, y, mean_gap, generator=0, permutations=199).pvalue == 0.005
    assert (
        permutation_test(x, y, mean_gap, generator=0, permutations=199, strata=(sx, sy)).pvalue
        > 0.05
    )


def test_random_pvalue_counts_the_observed_labeling():
    x, y = np.arange(20.0), np.arange(20.0) + 100
    result = permutation_test(x, y, signed_gap, permutations=99, generator=0)
    assert not result.exact
    assert result.pvalue == 0.01
    assert len(result.null_distribution) == 99


def test_ties_count():
    # Strict > would call this the most extreme of all labelings.
    x, y = np.array([0.1] * 5 + [0.3]), np.array([0.1] * 5 + [0.3])
    assert permutation_test(x, y, mean_gap).pvalue == 1.0
    z = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])  # ties up to rounding only
    exact = permutation_test(z[:3], z[3:] + 1e-17, lambda x, y: abs(x.sum() / 3 - y.sum() / 3))
    assert exact.pvalue == 1.0


def binary_pvalue(x, y):
    """Exact p-value of |mean difference| by counting ones, in whole numbers."""
    n, m, ones = len(x), len(y), int(x.sum() + y.sum())

    def gap(k):
        return abs(k * m - (ones - k) * n)

    hypergeometric = scipy.stats.hypergeom(n + m, ones, n)
    return sum(hypergeometric.pmf(k) for k in range(n + 1) if gap(k) >= gap(int(x.sum())))


@pytest.mark.parametrize("seed", range(8))
def test_ties_up_to_rounding_count(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 2, 5), rng.integers(0, 2, 6)
    result = permutation_test(x * 0.7 + 0.1, y * 0.7 + 0.1, mean_gap, level=0.9)
    assert result.pvalue == pytest.approx(binary_pvalue(x, y))


@pytest.mark.parametrize("outlier", [1e14, 1e300])
def test_huge_null_values_do_not_blur_the_others(outlier):
    rare = np.array([99.0, 30.0, 31.0, 32.0])

    def statistic(x, y):
        return outlier if np.isin(rare, x).all() else float(y.mean() - x.mean())

    x, y = np.arange(10.0), np.append(np.arange(10.0) + 30, 99.0)
    result = permutation_test(x, y, statistic, permutations=199, generator=0)
    huge = int((result.null_distribution == outlier).sum())
    assert huge > 0
    assert result.exceedances == huge


@pytest.mark.parametrize("kind", ["binary", "continuous", "three points"])
@pytest.mark.parametrize("permutations", [19, 99])
def test_size_is_kept(kind, permutations):
    rng = np.random.default_rng(7)
    reps, rejected = 250, 0
    n = 3 if kind == "three points" else 12
    for rep in range(reps):
        z = rng.integers(0, 2, 2 * n) * 1.0 if kind == "binary" else rng.normal(size=2 * n)
        result = permutation_test(z[:n], z[n:], mean_gap, permutations=permutations, generator=rep)
        rejected += result.pvalue <= 0.10
    assert rejected <= bound(reps, 0.10)
    if kind == "continuous":
        assert rejected >= reps - bound(reps, 0.90)


def test_constant_data_gives_one():
    x, y = np.full((5, 2), 0.1), np.full((40, 2), 0.1)
    result = permutation_test(x, y, lambda x, y: float(x.mean() - y.mean()), generator=0)
    assert result.pvalue == 1.0
    assert "equal" in result.warnings[0]


def test_impossible_rejection_warns():
    x, y = np.arange(10.0), np.arange(10.0)
    with pytest.warns(UserWarning, match=r"below 0\.1.*impossible"):
        result = permutation_test(x, y, mean_gap, permutations=9, generator=0)
    assert result.warnings
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not permutation_test(x, y, mean_gap, permutations=19, generator=0).warnings
    with pytest.warns(UserWarning, match="all 20 labelings"):
        permutation_test(x[:3], y[:3] + 0.1, mean_gap)  # two of twenty labelings always tie


# --- same answer everywhere -----------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_and_threads_do_not_change_the_answer(batch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=15), rng.normal(size=18)
    reference = permutation_test(x, y, mean_gap, permutations=99, generator=5)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        other = permutation_test(x, y, mean_gap, permutations=99, generator=5, batch=batch)
    finally:
        torch.set_num_threads(threads)
    assert other.pvalue == reference.pvalue
    np.testing.assert_array_equal(other.null_distribution, reference.null_distribution)


@pytest.mark.parametrize(("n", "m"), [(15, 15), (15, 18)])
@pytest.mark.parametrize("design", ["free", "strata", "paired"])
def test_exchanging_the_samples_changes_nothing(n, m, design):
    if design == "paired" and n != m:
        return
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, n) * 1.0, rng.integers(1, 7, m) * 1.0
    one, two = {}, {}
    if design == "strata":
        sx, sy = rng.integers(0, 3, n), rng.integers(0, 3, m)
        one, two = {"strata": (sx, sy)}, {"strata": (sy, sx)}
    elif design == "paired":
        one = two = {"paired": True}
    first = permutation_test(x, y, signed_gap, generator=5, **one)
    second = permutation_test(y, x, lambda y, x: signed_gap(x, y), generator=5, **two)
    assert first.pvalue == second.pvalue
    np.testing.assert_array_equal(first.null_distribution, second.null_distribution)
    assert first.n == second.n[::-1]


def test_numpy_and_torch_agree_and_seeds_count():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(15, 2)), rng.normal(size=(18, 2))
    ours = permutation_test(x, y, mean_gap, generator=5)
    theirs = permutation_test(torch.tensor(x), torch.tensor(y), mean_gap, generator=5)
    assert ours.pvalue == theirs.pvalue
    assert isinstance(ours.null_distribution, np.ndarray)
    assert isinstance(theirs.null_distribution, torch.Tensor)
    other = permutation_test(x, y, mean_gap, generator=6)
    assert not np.array_equal(ours.null_distribution, other.null_distribution)
    given = permutation_test(x, y, mean_gap, generator=torch.Generator().manual_seed(5))
    np.testing.assert_array_equal(ours.null_distribution, given.null_distribution)


def test_global_random_state_is_untouched():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    permutation_test(np.arange(15.0), np.arange(15.0), mean_gap, permutations=29)
    assert torch.equal(torch_before, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


def test_any_kind_of_points():
    words = permutation_test(
        np.array(["a", "b", "a", "a"]),
        np.array(["b", "b", "c", "b"]),
        lambda x, y: np.mean(x == "a") - np.mean(y == "a"),
    )
    # x holds all three a's: choose one of the five other points, of 70 labelings
    assert words.pvalue == pytest.approx(5 / 70)
    images = permutation_test(
        torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2), lambda x, y: (y - x).mean()
    )
    assert images.pvalue == pytest.approx(1 / 70)
    frame = permutation_test(
        pd.DataFrame({"u": [1.0, 2.0, 3.0]}), pd.DataFrame({"u": [4.0, 5.0, 6.0]}), signed_gap
    )
    assert frame.pvalue == 0.05
    lists = permutation_test([1, 2, 3], [4, 5, 6], signed_gap)
    assert lists.pvalue == 0.05


def test_half_precision_is_widened():
    x = torch.arange(5.0, dtype=torch.float16)
    result = permutation_test(x, x + 10, lambda x, y: y.mean() - x.mean(), permutations=999)
    assert result.pvalue == pytest.approx(1 / 252)


# --- adaptive -------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.05, 0.01, 0.2])
def test_adaptive_pvalue_is_valid(level):
    # Without differences the rank of the observed value is uniform: its share p is uniform.
    plan = SequentialPlan(level)
    rng = np.random.default_rng(0)
    reps = 20_000
    counts, alive = np.zeros(reps, dtype=int), np.ones(reps, dtype=bool)
    share, ended = rng.random(reps), np.zeros(reps, dtype=int)
    before = 0
    for look, total in enumerate(plan.looks):
        counts[alive] += rng.binomial(total - before, share[alive])
        before = total
        ended[alive] = look
        low, high = plan.bounds(look)
        alive &= (counts > low) & (counts < high)
    outcomes = {
        outcome: plan.pvalue(*outcome)
        for outcome in set(zip(ended.tolist(), counts.tolist(), strict=True))
    }
    pvalues = np.array([outcomes[o] for o in zip(ended.tolist(), counts.tolist(), strict=True)])
    for alpha in (0.01, level / 2, level, 2 * level, 0.5, 0.9):
        assert (pvalues <= alpha).sum() <= bound(reps, alpha)
    # ... nor is it conservative beyond the coarseness of the first look.
    for alpha in (level, 2 * level, 0.5):
        assert (pvalues <= alpha + 1 / plan.looks[0]).sum() >= reps - bound(reps, 1 - alpha)
    # A stop decides: low ones reject, high ones do not, as the limit p would nearly always.
    low_stop = [look for look in range(8) if plan.bounds(look)[0] >= 0]
    assert all(plan.pvalue(k, plan.bounds(k)[0]) <= level for k in low_stop)
    assert all(plan.pvalue(k, plan.bounds(k)[1]) > level for k in range(8))
    assert ((pvalues <= level) != (share <= level)).mean() < 0.01


def test_adaptive_pvalue_orders_outcomes():
    plan = SequentialPlan(0.05)
    lows = [(k, s) for k in range(4) for s in range(plan.bounds(k)[0] + 1)]
    highs = [(k, s) for k in (3, 2, 1, 0) for s in range(plan.bounds(k)[1], plan.looks[k] + 1)]
    reachable = [
        (k, s)
        for k, s in lows + highs
        if k == 0 or plan.bounds(k - 1)[0] < s < plan.bounds(k - 1)[1] + plan.looks[k]
    ]
    values = [plan.pvalue(k, s) for k, s in reachable]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    assert plan.pvalue(0, 30) == pytest.approx(31 / 100)
    assert values[-1] == pytest.approx(1.0)


def test_adaptive_permutations_stop_when_clear():
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    same = permutation_test(x, np.sort(x) + 0.01, mean_gap, permutations="auto", generator=0)
    far = permutation_test(x, x + 5, mean_gap, permutations="auto", generator=0)
    assert same.permutations == 99
    assert same.pvalue == (1 + same.exceedances) / 100
    assert far.permutations == 199
    assert far.reject()
    assert permutation_test(x[:4], x[4:8], mean_gap, permutations="auto").exact


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: permutation_test(x, y, mean_gap, a=np.ones(4) / 4), ValueError, "weights"),
        (lambda x, y: permutation_test(x, y, mean_gap, permutations=0), ValueError, "at least 1"),
        (lambda x, y: permutation_test(x, y, mean_gap, permutations="all"), ValueError, "'auto'"),
        (lambda x, y: permutation_test(x, y, mean_gap, level=1.5), ValueError, "level"),
        (lambda x, y: permutation_test(x, y, mean_gap, paired=True), ValueError, "n=4 and m=5"),
        (lambda x, y: permutation_test(x, y[:, None], mean_gap), ValueError, "coordinates"),
        (lambda x, y: permutation_test(x * np.nan, y, mean_gap), ValueError, "x holds nan"),
        (lambda x, y: permutation_test(x[:0], y, mean_gap), ValueError, "no points"),
        (lambda x, y: permutation_test(x, torch.tensor(y), mean_gap), TypeError, "of one kind"),
        (lambda x, y: permutation_test(x, y, lambda x, y: np.nan), ValueError, "NaN"),
        (lambda x, y: permutation_test(x, y, lambda x, y: None), TypeError, "one number"),
        (
            lambda x, y: permutation_test(x, y, mean_gap, strata=(x, y), paired=True),
            ValueError,
            "strata",
        ),
        (
            lambda x, y: permutation_test(x, y, mean_gap, strata=([0] * 4, [0] * 4)),
            ValueError,
            r"strata of y .*\(5,\)",
        ),
        (
            lambda x, y: permutation_test(x, y, mean_gap, strata=([0] * 4, [1] * 5)),
            ValueError,
            "no stratum",
        ),
        (lambda x, y: permutation_test(x, y, mean_gap, generator="seed"), TypeError, "generator"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(np.arange(4.0), np.arange(5.0) + 0.5)


def test_strata_must_be_a_pair():
    with pytest.raises(TypeError, match="one vector of labels per sample"):
        labelings_of(ids(2, 3), strata=np.zeros(5))


# --- results --------------------------------------------------------------------------------------


def example(**more):
    options = {
        "statistic": 1.5,
        "pvalue": 0.04,
        "null_distribution": np.linspace(0, 1.6, 99),
        "method": "energy",
        "n": (5, 6),
        "permutations": 99,
        "exact": False,
        "exceedances": 3,
    }
    return TestResult(**{**options, **more})


def test_result_decides_and_bounds_its_pvalue():
    result = example()
    assert result.reject()
    assert not result.reject(level=0.01)
    expected = scipy.stats.binomtest(3, 99).proportion_ci(0.9, method="exact")
    assert result.pvalue_interval(0.9) == pytest.approx((expected.low, expected.high))
    assert example(exact=True).pvalue_interval() == (0.04, 0.04)
    assert clopper_pearson(99, 99)[1] == 1.0
    with pytest.raises(ValueError, match="level"):
        result.reject(level=1.5)


def test_result_travels():
    result = example(warnings=("careful",), details={"b": np.float64(2.0), "c": torch.ones(2)})
    written = json.loads(json.dumps(result.to_dict()))
    assert written["pvalue"] == 0.04
    assert written["details"] == {"b": 2.0, "c": [1.0, 1.0]}
    assert len(written["null_distribution"]) == 99
    assert "null_distribution" not in result.to_dict(null_distribution=False)
    assert json.loads(json.dumps(example(statistic=np.inf).to_dict()))["statistic"] is None
    assert pickle.loads(pickle.dumps(result)).pvalue == 0.04
    with pytest.raises(AttributeError):
        result.pvalue = 0.0


def test_result_shows_itself():
    text = repr(example(effect_size=0.25, kernel="precomputed", warnings=("careful",)))
    for part in ("energy", "0.04", "(5, 6)", "99", "0.25", "precomputed", "careful"):
        assert part in text
    assert "(all)" in repr(example(exact=True))
    ax = example().plot()
    assert ax.get_xlabel() == "energy statistic"
    assert any("p = 0.04" in text.get_text() for text in ax.get_legend().get_texts())
    assert example(null_distribution=torch.zeros(9)).plot(ax) is ax


def test_seeds_may_be_numpy_integers():
    x, y = np.arange(6.0), np.arange(8.0) + 1.5
    seeded = [
        permutation_test(x, y, mean_gap, permutations=99, generator=seed).pvalue
        for seed in (3, np.int64(3), np.uint8(3))
    ]
    assert len(set(seeded)) == 1
