"""MMD and energy tests: the statistic, its null distribution, calibration, sameness."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from probmetrics.discrepancy import energy_distance, mmd
from probmetrics.pairwise.bandwidth import median_bandwidth
from probmetrics.pairwise.kernels import Distance, Gaussian, Laplacian, Polynomial, deep, mixture
from probmetrics.twosample import energy_test, mmd_test, mmd_test_from_gram
from probmetrics.twosample import kernel_statistic as statistics
from probmetrics.twosample.kernel_statistic import KernelStatistic
from probmetrics.twosample.labelings import Labelings

TESTS = {"mmd": mmd_test, "energy": energy_test}
KERNELS = [
    Gaussian(0.8),
    Laplacian(1.5, norm=1),
    Polynomial(),
    Distance(1.3),
    mixture([Gaussian(0.3), Gaussian(3.0)]),
    Gaussian(1.0) * Laplacian(2.0),
    Distance() + Polynomial(2),
]


def draw(n, m, d=2, shift=0.3, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    y = torch.randn(m, d, generator=g, dtype=torch.float64) + shift
    return x.to(dtype), y.to(dtype)


def bound(reps, level, risk=1e-3):
    return scipy.stats.binom.ppf(1 - risk, reps, level)


# --- the statistic and its null distribution ----------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("unbiased", [True, False])
def test_many_labelings_at_once_equal_one_mmd_each(kernel, unbiased, generator, monkeypatch):
    monkeypatch.setattr(statistics, "ROWS", 5)  # several tiles, the last of them ragged
    monkeypatch.setattr(statistics, "COLUMNS", 7)
    x, y = draw(9, 14)
    z = torch.cat([x, y])
    observed = torch.cat([torch.zeros(9), torch.ones(14)]).to(torch.uint8)
    labels = torch.cat(list(Labelings(observed).draw(generator, 20)))
    expected = torch.stack(
        [mmd(z[row == 0], z[row == 1], kernel=kernel, unbiased=unbiased) for row in labels]
    )
    for budget in (0, 2**20):
        prepared = KernelStatistic(kernel, unbiased, budget).prepare(z, (9, 14))
        torch.testing.assert_close(prepared.evaluate(labels), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("unbiased", [True, False])
def test_swaps_of_pairs_take_a_quarter_of_the_work(kernel, unbiased, generator, monkeypatch):
    monkeypatch.setattr(statistics, "ROWS", 5)
    z = torch.cat(draw(13, 13))
    observed = (torch.arange(26) > 12).to(torch.uint8)
    labels = torch.cat(list(Labelings(observed, paired=True).draw(generator, 20)))
    whole = KernelStatistic(kernel, unbiased).prepare(z, (13, 13))
    quarter = KernelStatistic(kernel, unbiased, paired=True).prepare(z, (13, 13))
    assert isinstance(quarter, statistics.PreparedPairs)
    torch.testing.assert_close(
        quarter.evaluate(labels), whole.evaluate(labels), rtol=1e-9, atol=1e-12
    )
    assert quarter.effect(labels[0]) == pytest.approx(whole.effect(labels[0]))


@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize(("n", "m"), [(30, 30), (12, 300)])
def test_statistics_are_those_of_the_estimators(n, m, shift):
    x, y = draw(n, m)
    x, y = x + shift, y + shift
    ours = mmd_test(x, y, permutations=19, generator=0)
    assert ours.statistic == pytest.approx(float(mmd(x, y)), rel=1e-8)
    assert ours.bandwidth == pytest.approx(float(median_bandwidth(x, y)))
    ours = energy_test(x, y, power=1.5, permutations=19, generator=0)
    assert ours.statistic == pytest.approx(float(energy_distance(x, y, power=1.5)), rel=1e-8)
    assert ours.kernel == Distance(1.5)


def test_energy_is_not_rooted():
    # SciPy's value is the root of ours.
    x, y = np.array([0.0, 1.0, 3.0]), np.array([2.0, 5.0, 7.0, 7.5])
    expected = scipy.stats.energy_distance(x, y) ** 2
    assert energy_test(x, y).statistic == pytest.approx(expected)


def test_unbiased_leaves_out_the_diagonal():
    # Off-diagonal pairs of x and of y are all at distance far beyond the bandwidth.
    points = np.arange(6.0)[:, None] * 100
    result = mmd_test(points[:3], points[3:], kernel=Gaussian(1.0))
    assert result.statistic == pytest.approx(0.0, abs=1e-12)
    biased = mmd_test(points[:3], points[3:], kernel=Gaussian(1.0), unbiased=False)
    assert biased.statistic == pytest.approx(2 / 3)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (2, 5), (4, 3)])
@pytest.mark.parametrize("name", TESTS)
def test_exact_pvalues_by_enumeration(name, n, m):
    x, y = draw(n, m, shift=1.0)
    z = torch.cat([x, y])
    kernel = Gaussian(float(median_bandwidth(z)))

    def statistic(x, y):
        return float(mmd(x, y, kernel=kernel) if name == "mmd" else energy_distance(x, y))

    values = []
    for chosen in itertools.combinations(range(n + m), n):
        rest = [i for i in range(n + m) if i not in chosen]
        values.append(statistic(z[list(chosen)], z[rest]))
    values = np.array(values)
    result = TESTS[name](x, y, level=0.2)
    assert result.exact
    assert result.permutations == len(values)
    np.testing.assert_allclose(np.sort(result.null_distribution), np.sort(values), atol=1e-12)
    assert result.pvalue == pytest.approx(np.mean(values >= statistic(x, y) - 1e-10))
    if n == m:
        assert result.pvalue * len(values) >= 2  # the mirrored labeling ties


def test_effect_size_has_mean_zero_under_exchange():
    x, y = draw(3, 4)
    z = torch.cat([x, y])
    labels = torch.cat(list(Labelings((torch.arange(7) > 2).to(torch.uint8)).enumerate()))
    for kernel in KERNELS:
        blocks = KernelStatistic(kernel).prepare(z, (3, 4)).blocks(labels)
        assert float(blocks.explained().mean()) == pytest.approx(0.0, abs=1e-9)
        assert float(blocks.explained().max()) <= 1 + 1e-9
    far = energy_test(x, y + 1e6, level=0.1)
    assert far.effect_size == pytest.approx(1.0, abs=1e-4)


def test_effect_size_of_a_linear_kernel_is_adjusted_r_squared():
    x, y = draw(12, 20, d=1)
    z, group = np.concatenate([x, y])[:, 0], np.repeat([0.0, 1.0], [12, 20])
    r2 = scipy.stats.pearsonr(z, group).statistic ** 2
    result = mmd_test(x, y, kernel=Polynomial(1), permutations=19, generator=0)
    assert result.effect_size == pytest.approx(1 - (1 - r2) * 31 / 30)


# --- same answer everywhere ---------------------------------------------------------------------


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize(("n", "m"), [(40, 40), (25, 60)])
def test_same_pvalue_everywhere(name, n, m):
    test = TESTS[name]
    x, y = draw(n, m)
    reference = test(x, y, generator=3, permutations=199)
    assert 0.005 < reference.pvalue < 0.9
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one_thread = test(x, y, generator=3, permutations=199)
    finally:
        torch.set_num_threads(threads)
    others = {
        "one thread": one_thread,
        "again": test(x, y, generator=3, permutations=199),
        "swapped": test(y, x, generator=3, permutations=199),
        "numpy": test(x.numpy(), y.numpy(), generator=3, permutations=199),
        "batch": test(x, y, generator=3, permutations=199, batch=17),
        "tiled": test(x, y, generator=3, permutations=199, backend="tiled"),
        "generator": test(x, y, generator=torch.Generator().manual_seed(3), permutations=199),
    }
    assert {key: r.pvalue for key, r in others.items()} == dict.fromkeys(others, reference.pvalue)
    assert isinstance(others["numpy"].null_distribution, np.ndarray)
    assert isinstance(others["numpy"].statistic, float)
    assert isinstance(reference.null_distribution, torch.Tensor)
    assert others["swapped"].n == (m, n)


@pytest.mark.parametrize("name", TESTS)
def test_shifting_float32_data_changes_nothing(name):
    x, y = draw(40, 50, dtype=torch.float32)
    x, y = (x * 256).round() / 256, (y * 256).round() / 256  # exact at 1e4 too
    near = TESTS[name](x, y, generator=3, permutations=199)
    far = TESTS[name](x + 1e4, y + 1e4, generator=3, permutations=199)
    assert far.pvalue == near.pvalue
    assert far.statistic == pytest.approx(near.statistic, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_other_dtypes_are_widened(dtype):
    x, y = ((v * 4).round().to(dtype) for v in draw(20, 20))
    narrow, wide = mmd_test(x, y, generator=0), mmd_test(x.double(), y.double(), generator=0)
    assert narrow.pvalue == wide.pvalue


@pytest.mark.parametrize(("n", "m"), [(20, 33), (20, 20)])
def test_given_kernel_matrix_gives_the_same(n, m):
    x, y = draw(n, m)
    z = torch.cat([x, y])
    kernel = Gaussian(0.9)
    direct = mmd_test(x, y, kernel=kernel, generator=0)
    given = mmd_test_from_gram(kernel(z), n, generator=0)
    assert given.statistic == pytest.approx(direct.statistic)
    assert given.effect_size == pytest.approx(direct.effect_size)
    mirrored = mmd_test_from_gram(kernel(z).roll((-n, -n), (0, 1)), m, generator=0)
    assert mirrored.pvalue == given.pvalue
    if n != m:
        assert given.pvalue == direct.pvalue
    distances = torch.cdist(z, z)
    energy = mmd_test_from_gram(-distances.numpy(), n, unbiased=False, generator=0)
    assert energy.statistic == pytest.approx(float(energy_distance(x, y)))


def test_kernels_may_be_functions_or_networks():
    x, y = draw(15, 18, dtype=torch.float32)
    function = mmd_test(x, y, kernel=lambda x, y: x @ y.mT, generator=0)
    linear = mmd_test(x, y, kernel=Polynomial(1, gamma=1.0, constant=0.0), generator=0)
    assert function.pvalue == linear.pvalue
    network = torch.nn.Linear(2, 3, bias=False)
    network.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    plain = mmd_test(x, y, kernel=Gaussian(1.0), generator=0)
    embedded = mmd_test(x, y, kernel=deep(network, Gaussian(1.0)), generator=0)
    assert embedded.statistic == pytest.approx(plain.statistic, rel=1e-6)
    mixed = deep(network, Gaussian(1.0)) + Polynomial(1)
    assert 0 < mmd_test(x, y, kernel=mixed, generator=0).pvalue <= 1


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("seed", range(6))
def test_ties_up_to_rounding_count(name, seed):
    # On binary data both statistics are functions of the number of ones in x alone.
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 2, (5, 1)), rng.integers(0, 2, (6, 1))
    ones = int(x.sum() + y.sum())
    share = scipy.stats.hypergeom(11, ones, 5).pmf(np.arange(6))
    gaps = np.abs(np.arange(6) * 6 - (ones - np.arange(6)) * 5)
    expected = share[gaps >= gaps[int(x.sum())]].sum()
    for dtype in (np.float64, np.float32):
        columns = [(v.repeat(3, 1) * 0.7 + 0.1).astype(dtype) for v in (x, y)]
        options = {} if name == "energy" else {"unbiased": False}
        result = TESTS[name](*columns, level=0.9, **options)
        assert result.exact
        assert result.pvalue == pytest.approx(expected)


@pytest.mark.parametrize("name", TESTS)
def test_strata_and_pairs_reach_the_engine(name):
    rng = np.random.default_rng(1)
    sx, sy = np.repeat([0, 1], [40, 10]), np.repeat([0, 1], [10, 40])
    x, y = rng.normal(size=50) + 5 * sx, rng.normal(size=50) + 5 * sy
    assert TESTS[name](x, y, generator=0, permutations=199).pvalue == 0.005
    within = TESTS[name](x, y, generator=0, permutations=199, strata=(sx, sy))
    assert within.pvalue > 0.05
    swapped = TESTS[name](y, x, generator=0, permutations=199, strata=(sy, sx))
    assert swapped.pvalue == within.pvalue
    x = rng.normal(size=(60, 1)) * 10
    y = x + 1 + rng.normal(size=(60, 1)) * 0.1
    # a small shift of every pair, invisible between unpaired samples
    assert TESTS[name](x, y, generator=0, permutations=199).pvalue > 0.2
    assert TESTS[name](x, y, generator=0, permutations=199, paired=True).pvalue == 0.005


def test_adaptive_permutations():
    x, y = draw(30, 30, shift=2.0)
    result = mmd_test(x, y, permutations="auto", generator=0)
    assert result.permutations == 199
    assert result.reject()


# --- calibration and power ----------------------------------------------------------------------


@pytest.fixture
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


NULLS = {
    "gaussian": lambda rng: rng.normal(size=(40, 3)),
    "heavy tails": lambda rng: rng.standard_cauchy(size=(40, 2)),
    "binary": lambda rng: rng.integers(0, 2, (40, 1)) * 1.0,
    "wide": lambda rng: rng.normal(size=(40, 200)),
}


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("n", [20, 7])
@pytest.mark.usefixtures("one_thread")
def test_size_is_kept(name, null, n):
    rng = np.random.default_rng(11)
    reps, pvalues = 150, []
    for rep in range(reps):
        z = NULLS[null](rng)
        result = TESTS[name](z[:n], z[n:], permutations=19, generator=rep)
        pvalues.append(result.pvalue)
    pvalues = np.array(pvalues)
    for level in (0.05, 0.2, 0.5):
        assert (pvalues <= level).sum() <= bound(reps, level)
        if null != "binary":
            assert (pvalues <= level).sum() >= reps - bound(reps, 1 - level)


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.usefixtures("one_thread")
def test_size_is_kept_with_three_points(name):
    rng = np.random.default_rng(11)
    pvalues = np.array([TESTS[name](*rng.normal(size=(2, 3, 2))).pvalue for _ in range(200)])
    assert (pvalues <= 0.1).sum() <= bound(200, 0.1)
    assert (pvalues <= 0.1).sum() >= 200 - bound(200, 0.9)


@pytest.mark.parametrize("name", TESTS)
def test_far_samples_are_told_apart(name):
    x, y = draw(20, 30, shift=5.0)
    assert TESTS[name](x, y, generator=0).pvalue == 0.001
    assert TESTS[name](x, y, generator=0).effect_size > 0.3


# --- bad input and odd data ---------------------------------------------------------------------


@pytest.mark.parametrize("name", TESTS)
def test_constant_data_gives_one(name):
    x, y = np.full((5, 2), 0.1, dtype=np.float32), np.full((40, 2), 0.1, dtype=np.float32)
    result = TESTS[name](x, y, generator=0)
    assert result.pvalue == 1.0
    assert result.effect_size is None
    assert "equal" in result.warnings[0]
    nearly = TESTS[name](np.append(x, x), np.append(y, y))  # one column, flat
    assert nearly.pvalue == 1.0


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.zeros((1, 2)), np.zeros((5, 2)), {}, "x has 1 point"),
        (np.zeros((5, 2)), np.zeros((5, 3)), {}, "2 columns"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), {}, "nan"),
        (np.zeros((2, 5, 2)), np.zeros((2, 5, 2)), {}, "one pair of samples"),
        (np.zeros((5, 2)), np.zeros((5, 2)), {"a": np.full(5, 0.2)}, "weights"),
        (np.zeros((5, 2)), np.zeros((5, 2)), {"permutations": 0}, "permutations"),
        (np.zeros((5, 2)), np.zeros((5, 2)), {"level": 0.0}, "level"),
        (np.zeros((5, 2)), np.zeros((5, 2)), {"batch": 0}, "batch"),
        (np.zeros((5, 2)), np.zeros((5, 2)), {"backend": "quick"}, "auto, dense, tiled"),
    ],
)
def test_bad_input_is_refused(name, x, y, options, message):
    with pytest.raises(ValueError, match=message):
        TESTS[name](x, y, **options)


def test_power_of_energy_is_checked():
    with pytest.raises(ValueError, match="power"):
        energy_test(np.zeros((5, 2)), np.ones((5, 2)), power=2.0)


def test_tables_must_name_the_same_columns():
    x = pd.DataFrame({"u": [1.0, 2, 3, 4], "v": [0.0, 1, 0, 1]})
    assert energy_test(x, x + 1, level=0.1).columns == ("u", "v")
    assert energy_test(x, x.to_numpy(), level=0.1).columns is None
    with pytest.raises(ValueError, match=r"different orders.*x\.columns"):
        energy_test(x, x[["v", "u"]])
    with pytest.raises(ValueError, match=r"only in x: v; only in y: w"):
        energy_test(x, x.rename(columns={"v": "w"}))


def test_bad_kernel_matrices_are_refused():
    gram = np.eye(6)
    with pytest.raises(ValueError, match="square"):
        mmd_test_from_gram(gram[:4], 2)
    with pytest.raises(ValueError, match="symmetric"):
        mmd_test_from_gram(gram + np.triu(np.ones((6, 6))), 2)
    with pytest.raises(ValueError, match="at most 4"):
        mmd_test_from_gram(gram, 5)


def test_too_few_permutations_warn():
    x, y = draw(20, 20)
    with pytest.warns(UserWarning, match="impossible"):
        mmd_test(x, y, permutations=18, generator=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_gives_the_same_pvalue():
    x, y = draw(300, 400, d=5, shift=0.05)
    here = mmd_test(x, y, generator=0)
    there = mmd_test(x.cuda(), y.cuda(), generator=0)
    assert there.pvalue == here.pvalue
    assert there.statistic == pytest.approx(here.statistic, rel=1e-9)
