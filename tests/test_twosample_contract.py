"""What every two-sample test promises, over a table of all of them."""

import dataclasses
import json
import math
from functools import partial

import matplotlib
import numpy as np
import pytest
import torch
from catalog import TWO_SAMPLE_TESTS as TESTS

from probmetrics import twosample
from probmetrics.pairwise.kernels import Gaussian
from probmetrics.twosample import TestResult, categorical_test, mmd_test
from probmetrics.twosample.front import METHODS

matplotlib.use("Agg")


SPLITS = {"characteristic learned", "deep", "mean embedding learned", "selected"}
PAIRS_ONLY = {"block", "incomplete", "linear"}  # labels are exchanged within random pairs
LEARNED = {"deep"}
GENERATORS_ONLY = {"any function"}
tests = pytest.mark.parametrize("name", TESTS)


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(n=24, m=30, d=2, shift=0.4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + shift


def run(name, x, y, **options):
    return TESTS[name](x, y, **{"permutations": 99, "generator": 0, **options})


def same(one, other, rtol=1e-6):
    assert one.pvalue == other.pvalue
    assert one.exceedances == other.exceedances
    np.testing.assert_allclose(one.statistic, other.statistic, rtol=rtol, atol=1e-9)


@tests
def test_result_is_complete(name):
    x, y = draw()
    result = run(name, x, y)
    assert isinstance(result, TestResult)
    assert isinstance(result.null_distribution, np.ndarray)
    assert result.null_distribution.shape == (99,)
    assert (result.n, result.permutations, result.exact) == ((24, 30), 99, False)
    null = result.null_distribution
    assert result.exceedances == pytest.approx(np.sum(null >= result.statistic), abs=2)
    assert result.pvalue == (1 + result.exceedances) / 100
    low, high = result.pvalue_interval()
    assert low <= result.exceedances / 99 <= high
    assert result.pvalue_interval(0.5)[1] < high
    assert result.reject(1 - 1e-9)
    assert result.reject(0.05) == (result.pvalue <= 0.05)
    assert result.effect_size is None or math.isfinite(result.effect_size)
    assert f"pvalue={result.pvalue:.4g}" in repr(result)
    assert len(repr(result)) < 2000
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["pvalue"] == result.pvalue
    assert len(plain["null_distribution"]) == 99
    assert "null_distribution" not in result.to_dict(null_distribution=False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.pvalue = 0.5


@tests
def test_result_can_be_drawn(name):
    import matplotlib.pyplot as plt

    axes = run(name, *draw(8, 9)).plot()
    assert axes.get_xlabel()
    plt.close("all")


@tests
def test_same_answer_however_it_is_computed(name):
    x, y = draw()
    first = run(name, x, y)
    same(run(name, x, y), first, rtol=0)
    same(run(name, x, y, generator=torch.Generator().manual_seed(0)), first, rtol=0)
    if name not in GENERATORS_ONLY:
        same(run(name, x, y, batch=7), first)
    torch.set_num_threads(2)
    same(run(name, x, y), first)
    tensors = run(name, torch.tensor(x), torch.tensor(y))
    assert isinstance(tensors.null_distribution, torch.Tensor)
    same(tensors, first)


@tests
def test_swapping_the_samples_changes_nothing(name):
    for n, m in ((16, 21), (18, 18)):
        x, y = draw(n, m)
        same(run(name, y, x), run(name, x, y))


@tests
def test_offsets_cost_single_precision_nothing(name):
    x, y = (np.round(z * 64).astype(np.float32) / 64 for z in draw())
    near, far = run(name, x, y), run(name, x + np.float32(1e4), y + np.float32(1e4))
    if name in LEARNED:
        assert abs(near.pvalue - far.pvalue) <= 0.05
    else:
        same(far, near, rtol=1e-3)


@tests
def test_global_random_state_is_left_alone(name):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    result = run(name, *draw())
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    torch.manual_seed(4)
    same(run(name, *draw()), result)


@tests
def test_constant_data_give_one(name):
    x, y = np.full((20, 2), 3.0), np.full((24, 2), 3.0)
    assert run(name, x, y).pvalue == 1.0


@tests
def test_ties_keep_the_level_of_binary_data(name):
    rng = np.random.default_rng(5)
    repeats = 20 if name in SPLITS else 40
    pvalues = []
    for seed in range(repeats):
        x, y = rng.integers(0, 2, (16, 1)), rng.integers(0, 2, (16, 1))
        result = run(name, x, y, permutations=19, generator=seed)
        pvalues.append(result.pvalue)
        close = 1e-10 * np.abs(result.null_distribution).max()
        assert result.exceedances >= np.sum(result.null_distribution >= result.statistic - close)
    import scipy.stats

    assert np.sum(np.array(pvalues) <= 0.1) <= scipy.stats.binom.ppf(0.999, repeats, 0.1)


@tests
def test_tiny_data_are_enumerated(name):
    if name in SPLITS or name in {"es", "random features"}:
        pytest.skip("needs more points, or keeps some aside")
    x, y = draw(5, 5)
    result = run(name, x, y, permutations=999)
    total = 2**5 if name in PAIRS_ONLY else math.comb(10, 5)
    if name == "block":
        total = 2**3  # whole blocks only
    if name == "linear":
        total = 2**4
    assert result.exact
    assert result.permutations == total
    assert result.pvalue * total == pytest.approx(round(result.pvalue * total))
    assert result.pvalue_interval() == (result.pvalue, result.pvalue)
    same(run(name, x, y, permutations=999, generator=7), result) if name not in {
        "block",
        "characteristic",
        "mean embedding",
        "classifier",
        "incomplete",
        "linear",
        "sliced",
    } else None


@tests
def test_too_few_labelings_are_said(name):
    x, y = draw()
    with pytest.warns(UserWarning, match="rejection at level 0.01 is impossible"):
        result = run(name, x, y, permutations=19, level=0.01)
    assert any("impossible" in warning for warning in result.warnings)


@tests
def test_bad_input_is_refused(name):
    x, y = draw()
    broken = x.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN|finite|nan|misses"):
        run(name, broken, y)
    with pytest.raises(ValueError, match=r"coordinates|columns|shape"):
        run(name, x, y[:, :1])
    if name != "any function":  # which may be content with one point
        with pytest.raises(ValueError, match=r"point|row"):
            run(name, x[:1], y)
    with pytest.raises((ValueError, TypeError)):
        run(name, x, torch.tensor(y))
    with pytest.raises(ValueError, match="permutations"):
        run(name, x, y, permutations=0)
    with pytest.raises(ValueError, match="level"):
        run(name, x, y, level=1.5)
    if name not in {"any function", "mixed", "front"}:
        with pytest.raises(ValueError, match=r"pair of samples|shape|batch"):
            run(name, np.stack([x, x]), np.stack([y, y]))


@tests
def test_weights_are_refused(name):
    x, y = draw()
    with pytest.raises(ValueError, match="take no weights"):
        run(name, x, y, a=np.full(24, 1 / 24))


@tests
def test_tables_must_name_the_same_columns(name):
    pd = pytest.importorskip("pandas")
    x, y = draw()
    table = partial(pd.DataFrame, columns=["age", "height"])
    result = run(name, table(x), table(y))
    if name != "any function":
        assert result.columns == ("age", "height")
        with pytest.raises(ValueError, match="different orders"):
            run(name, table(x), table(y)[["height", "age"]])
        with pytest.raises(ValueError, match="only in y: weight"):
            run(name, table(x), table(y).rename(columns={"height": "weight"}))


def test_the_table_is_complete():
    offered = {name for name in twosample.__all__ if name.endswith("_test")}
    held = {getattr(test, "func", test).__name__ for test in TESTS.values()}
    # Called within the table by another name; of categories, below; of three samples, elsewhere.
    elsewhere = {"permutation_test", "categorical_test", "relative_test"}
    assert offered == (held - {"<lambda>"}) | elsewhere
    named = {getattr(method, "func", method).__name__ for method in METHODS.values()}
    assert named <= offered


def test_kernel_values_within_rounding_are_ties():
    """The tolerance of kernel tests: values of equal labelings differ by rounding alone."""
    x = np.repeat([[0.1], [0.7], [1.3]], 4, axis=0) + 1e3
    y = np.repeat([[0.1], [0.7], [1.3]], 4, axis=0) + 1e3
    result = mmd_test(x, y, kernel=Gaussian(0.3), permutations=499, generator=0)
    assert result.pvalue == 1.0  # no labeling is nearer to equality than the observed one
    # Many labelings have the same counts in every place, hence the same value: as they are rounded
    # in different orders, a strict comparison would split them.
    null = np.sort(result.null_distribution)
    apart = np.diff(null)[np.diff(null) > 1e-9 * np.abs(null).max()]
    scale = np.quantile(np.abs(null), 0.9)
    assert apart.min() > 1e-6 * scale  # distinct values are far beyond the tolerance
    steps = np.diff(null)[np.diff(null) <= 1e-9 * np.abs(null).max()]
    assert len(steps) > 300
    assert steps.max() < 1e-6 * scale


def test_the_tolerance_of_kernel_tests_is_far_below_what_data_resolve():
    prepared = twosample.kernel.KernelStatistic(Gaussian(1.0)).prepare(torch.randn(20, 2), (10, 10))
    assert prepared.tolerance == 1e-6
    assert prepared.floor < 1e-14
    x, y = draw(12, 12, shift=0.0)
    result = mmd_test(x, y, permutations=1999, generator=0)
    assert result.exceedances == int((result.null_distribution >= result.statistic).sum())


def test_categories_share_the_promises():
    x, y = list("aabbbcaabb"), list("abcccccbcc")
    first = categorical_test(x, y, permutations=99, generator=0)
    same(categorical_test(y, x, permutations=99, generator=0), first)
    same(categorical_test(x, y, permutations=99, generator=0, batch=7), first)
    assert categorical_test(["a"] * 5, ["a"] * 7).pvalue == 1.0
    with pytest.raises(ValueError, match="take no weights"):
        categorical_test(x, y, a=np.full(10, 0.1))
