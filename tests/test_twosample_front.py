"""The front door, and the tests of transport, blocks, learned kernels and mixed tables by it."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from probmetrics.discrepancy import linear_mmd, mmd
from probmetrics.gaussian import frechet_distance
from probmetrics.pairwise.kernels import Distance, Gaussian, Laplacian
from probmetrics.transport.sinkhorn import sinkhorn_divergence
from probmetrics.twosample import (
    block_mmd_test,
    deep_kernel_test,
    frechet_test,
    linear_mmd_test,
    mixed_test,
    selected_kernel_test,
    sinkhorn_test,
    two_sample_test,
)
from probmetrics.twosample.blocks import BlockStatistic
from probmetrics.twosample.criterion import power_ratio
from probmetrics.twosample.family import KernelFamily
from probmetrics.twosample.front import METHODS, choose
from probmetrics.twosample.kernel_statistic import KernelStatistic


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


@pytest.mark.parametrize(("n", "m", "d"), [(20, 30, 3), (7, 9, 40), (40, 5, 8)])
def test_frechet_statistic_and_null_are_the_distance(n, m, d):
    x, y = draw(n, m, d, shift=0.3)
    result = frechet_test(x, y, permutations=20, generator=0)
    np.testing.assert_allclose(result.statistic, frechet_distance(x, y), rtol=1e-8)
    z = np.concatenate([x, y])
    low, high = [], []
    rng = np.random.default_rng(0)
    for _ in range(50):
        order = rng.permutation(n + m)
        value = frechet_distance(z[order[:n]], z[order[n:]])
        low.append(value)
        high.append(value)
    assert 0.5 * min(low) < result.null_distribution.min()
    assert result.null_distribution.max() < 2 * max(high)


def test_frechet_sees_correlation_and_survives_singular_data():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 80, 2))
    y[:, 1] = 0.8 * y[:, 0] + 0.6 * y[:, 1]
    assert frechet_test(x, y, generator=0).pvalue <= 0.01
    flat = np.concatenate([x, x[:, :1], np.ones((80, 1))], axis=1)
    tilted = np.concatenate([y, y[:, :1], np.ones((80, 1))], axis=1)
    assert frechet_test(flat, tilted, permutations=99, generator=0).pvalue == 0.01


@pytest.mark.parametrize("epsilon", [None, 0.05, 3.0])
def test_sinkhorn_statistic_is_the_divergence(epsilon):
    x, y = draw(25, 40, shift=0.5)
    result = sinkhorn_test(
        x, y, epsilon=epsilon, tolerance=1e-6, permutations=9, level=0.2, generator=0
    )
    reference = sinkhorn_divergence(x, y, epsilon=result.details["epsilon"], tolerance=1e-8)
    np.testing.assert_allclose(result.statistic, reference, rtol=1e-4, atol=1e-6)
    rough = sinkhorn_test(x, y, epsilon=epsilon, permutations=9, level=0.2, generator=0)
    np.testing.assert_allclose(
        rough.null_distribution, result.null_distribution, rtol=1e-2, atol=1e-4
    )


def test_sinkhorn_goes_deep_where_the_kernel_vanishes():
    x, y = draw(6, 7, shift=1.0)
    result = sinkhorn_test(x, y, epsilon=5e-3, permutations=2, level=0.5, generator=0)
    reference = sinkhorn_divergence(x, y, epsilon=5e-3, tolerance=1e-6)
    np.testing.assert_allclose(result.statistic, reference, rtol=1e-2)


def test_sinkhorn_bears_outliers():
    rng = np.random.default_rng(0)
    x, y = rng.standard_t(1.0, size=(2, 40, 2))
    x[0] = 1e6
    result = sinkhorn_test(x, y, permutations=99, generator=0)
    assert math.isfinite(result.statistic)
    assert result.pvalue > 0.05


def test_block_statistic_by_its_definition():
    rng = np.random.default_rng(0)
    x, y = torch.tensor(rng.normal(size=(2, 9, 2)))
    kernel = Gaussian(1.1)
    prepared = BlockStatistic(kernel, 3).prepare(torch.cat([x, y]), (9, 9))
    labels = torch.tensor(
        [[0] * 9 + [1] * 9, [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1]]
    )
    for row, found in zip(labels, prepared.block_values(labels.to(torch.uint8)), strict=True):
        u, v = x.clone(), y.clone()
        swap = row[:9] == 1
        u[swap], v[swap] = y[swap], x[swap]
        for block, value in enumerate(found):
            part = slice(3 * block, 3 * block + 3)
            a, b = u[part], v[part]
            h = kernel(a) + kernel(b) - kernel(a, b) - kernel(b, a)
            off = h.sum() - h.diagonal().sum()
            torch.testing.assert_close(value, off / 6)


def test_linear_statistic_is_that_of_the_estimator_in_expectation():
    x, y = draw(4000, 4000, shift=0.4)
    kernel = Gaussian(1.0)
    result = linear_mmd_test(x, y, kernel=kernel, calibration="normal", generator=0)
    error = result.details["standard_error"]
    assert abs(result.statistic - linear_mmd(x, y, kernel=kernel)) < 6 * error
    assert abs(result.statistic - mmd(x, y, kernel=kernel)) < 5 * error
    assert result.pvalue < 1e-3
    assert "normal limit" in result.warnings[0]
    assert result.n == (4000, 4000)


def test_normal_limit_of_blocks_keeps_its_level():
    rng = np.random.default_rng(0)
    pvalues = []
    for seed in range(100):
        x, y = rng.normal(size=(2, 400, 1))
        pvalues.append(block_mmd_test(x, y, block=4, calibration="normal", generator=seed).pvalue)
    assert scipy.stats.kstest(pvalues, "uniform").pvalue > 1e-3


def test_blocks_of_unequal_samples_and_their_bounds():
    x, y = draw(30, 101, shift=2.0)
    result = block_mmd_test(x, y, permutations=99, generator=0)
    assert (result.details["block"], result.details["blocks"]) == (5, 6)
    assert result.pvalue == 0.01
    with pytest.raises(ValueError, match="block must be"):
        block_mmd_test(x, y, block=31)
    with pytest.raises(ValueError, match="calibration"):
        block_mmd_test(x, y, calibration="chi2")


def test_power_ratio_by_its_definition():
    rng = np.random.default_rng(0)
    x, y = torch.tensor(rng.normal(size=(2, 12, 2))) * torch.tensor([[[1.0]], [[1.7]]])
    kernel = Gaussian(1.0)
    z = torch.cat([x, y])
    first = torch.arange(24) < 12
    ratio = power_ratio(kernel(z), first)
    value = float(mmd(x, y, kernel=kernel))
    witness = [
        (kernel(x).sum(-1) - 1) / 11 - kernel(x, y).mean(-1),
        kernel(y, x).mean(-1) - (kernel(y).sum(-1) - 1) / 11,
    ]
    variance = 4 * sum(float(w.var()) for w in witness)
    assert float(ratio) == pytest.approx(value / math.sqrt(variance), rel=1e-6)
    points = z.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: power_ratio(kernel(p), first), points)


def test_selection_prefers_the_scale_of_the_difference():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(600, 1))
    y = (rng.integers(0, 20, size=(600, 1)) + 0.5 * rng.uniform(size=(600, 1))) / 20  # fine stripes
    kernels = [Gaussian(0.01), Gaussian(0.5)]
    result = selected_kernel_test(x, y, kernels=kernels, generator=0)
    assert result.kernel.bandwidth == 0.01
    assert result.pvalue == 0.001
    assert result.details["ratios"][0] > result.details["ratios"][1]
    assert result.details["tested"] == (300, 300)
    with pytest.raises(ValueError, match="kernels is empty"):
        selected_kernel_test(x, y, kernels=[])


@pytest.mark.parametrize("test", [selected_kernel_test, deep_kernel_test])
def test_learning_costs_no_level(test):
    options = {"steps": 4, "hidden": 6} if test is deep_kernel_test else {"bandwidths": 3}
    pvalues = []
    for seed in range(40):
        x, y = draw(20, 24, seed=seed)
        pvalues.append(test(x, y, permutations=19, generator=seed, **options).pvalue)
    assert np.sum(np.array(pvalues) <= 0.1) <= scipy.stats.binom.ppf(0.999, 40, 0.1)


def test_learning_raises_the_criterion_and_leaves_the_network_alone():
    x, y = draw(100, 100, scale=1.5)
    network = torch.nn.Sequential(torch.nn.Linear(2, 10), torch.nn.Tanh(), torch.nn.Linear(10, 3))
    held = [p.clone() for p in network.parameters()]
    result = deep_kernel_test(x, y, network=network, steps=60, rate=0.01, generator=0)
    before, after = result.details["ratios"]
    assert after > before
    assert all(torch.equal(p, q) for p, q in zip(held, network.parameters(), strict=True))
    gram = result.kernel(torch.tensor(x[:5]), torch.tensor(y[:4]))
    assert gram.shape == (5, 4)
    own = result.kernel(torch.tensor(x), torch.tensor(x)).diagonal()
    torch.testing.assert_close(own, torch.ones_like(own))


def test_families_share_distances_without_changing_values():
    rng = np.random.default_rng(0)
    z = torch.tensor(rng.normal(size=(60, 3)) + 1e3)
    kernels = (Gaussian(0.7), Laplacian(1.1, norm=1), Distance(), Gaussian(1.0) + Laplacian(2.0))
    labels = torch.tensor(rng.permuted(np.repeat([[0, 1]], 30, axis=1).repeat(7, 0), axis=1))
    labels = labels.to(torch.uint8)
    family = KernelFamily(kernels).prepare(z, (30, 30)).evaluate(labels)
    for kernel, column in zip(kernels, family.mT, strict=True):
        alone = KernelStatistic(kernel).prepare(z, (30, 30)).evaluate(labels)
        torch.testing.assert_close(column, alone, rtol=1e-7, atol=1e-12)


def table(rows, dependence, seed):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    income = rng.normal(size=rows)
    follows = rng.random(rows) < 0.5 + dependence * np.sign(income) / 2
    return pd.DataFrame(
        {
            "income": 1000 * income + 5e4,
            "plan": pd.Categorical(np.where(follows, "paid", "free")),
            "member": rng.random(rows) < 0.3,
        }
    )


def test_product_kernel_sees_dependence_between_kinds_of_columns():
    x, y = table(150, 0.0, 0), table(170, 0.9, 1)
    result = two_sample_test(x, y, generator=0)
    assert result.method == "MMD, product kernel"
    assert result.details["categorical"] == ("plan", "member")
    assert result.columns == ("income", "plan", "member")
    assert result.pvalue <= 0.01
    same = mixed_test(table(150, 0.9, 2), y, generator=0)
    assert same.pvalue > 0.01


def test_product_kernel_by_its_definition():
    x = np.array([[0.0, 1], [1.0, 0], [2.5, 1], [0.5, 2]])
    y = np.array([[3.0, 1], [1.5, 0], [2.0, 2]])
    result = mixed_test(
        x, y, categorical=[1], bandwidth=0.8, mismatch=0.6, permutations=999, generator=0
    )
    z = np.concatenate([x, y])
    u = z[:, 0] / z[:, 0].std()
    gram = np.exp(-((u[:, None] - u) ** 2) / (2 * 0.8**2))
    gram = torch.tensor(gram * np.exp(-0.6 * (z[:, 1][:, None] != z[:, 1])))
    xx, yy, xy = gram[:4, :4], gram[4:, 4:], gram[:4, 4:]
    expected = (xx.sum() - 4) / 12 + (yy.sum() - 3) / 6 - 2 * xy.mean()
    assert result.statistic == pytest.approx(float(expected))
    assert result.exact


def test_mixed_tables_say_what_is_wrong():
    x, y = table(20, 0.0, 0), table(20, 0.0, 1)
    with pytest.raises(ValueError, match="unknown column 'plam'; known: income, plan"):
        mixed_test(x, y, categorical=["plam"])
    with pytest.raises(TypeError, match="'plan' holds"):
        mixed_test(x, y, categorical=["member"])
    broken = x.astype({"plan": object})
    broken.loc[3, "plan"] = None
    with pytest.raises(ValueError, match="'plan' misses 1 values, the first in row 3"):
        mixed_test(broken, y)
    broken = x.copy()
    broken.loc[2, "income"] = np.nan
    with pytest.raises(ValueError, match="column 'income'"):
        mixed_test(broken, y)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_answers_by_name(method):
    x, y = draw(16, 18)
    if method in {"chi2", "fisher", "g"}:
        x, y = (z > 0 for z in (x, y))
    options = {"steps": 2} if method == "deep" else {}
    result = two_sample_test(x, y, method=method, permutations=39, generator=0, **options)
    assert 0 < result.pvalue <= 1
    assert result.details["chosen"] == method


def test_unknown_methods_and_options_are_answered_with_the_known():
    x, y = draw(5, 6)
    with pytest.raises(ValueError, match=r"known: auto, ad, .*energy.*wasserstein"):
        two_sample_test(x, y, method="hotelling")
    with pytest.raises(TypeError, match="'energy' has no option kernel; its options are power"):
        two_sample_test(x, y, method="energy", kernel=Gaussian(1.0))
    with pytest.raises(ValueError, match="take no weights"):
        two_sample_test(x, y, a=np.full(5, 0.2))


def test_the_automatic_choice_goes_by_kind_and_size():
    many = torch.zeros(1500, 1)
    assert choose(many[:900], many[:900]) == "fused"
    assert choose(many, many) == "energy"
    assert choose(many.expand(1500, 3), torch.zeros(20_000, 3)) == "random-features"
    assert choose(["a", "b"], ["a", "a"]) == "chi2"
    assert choose(np.array([True, False]), np.array([True, True])) == "chi2"
    assert choose(table(5, 0, 0), table(5, 0, 0)) == "mixed"
    assert choose(table(5, 0, 0)[["income"]], table(5, 0, 0)[["income"]]) == "fused"


def test_named_columns_are_compared_in_units_of_their_own():
    pd = pytest.importorskip("pandas")
    x, y = draw(60, 60)
    y[:, 1] += 1.0
    big = np.array([1e5, 1.0])
    frames = [pd.DataFrame(z * big, columns=["salary", "age"]) for z in (x, y)]
    scaled = two_sample_test(*frames, method="energy", generator=0)
    assert scaled.reject()
    assert scaled.columns == ("salary", "age")
    plain = two_sample_test(*frames, method="energy", scale=False, generator=0)
    assert not plain.reject()
    arrays = two_sample_test(*(f.to_numpy() for f in frames), method="energy", generator=0)
    assert arrays.pvalue == plain.pvalue


def test_the_door_takes_lists_text_and_sparse_matrices():
    import scipy.sparse

    x, y = draw(12, 14, shift=1.5)
    reference = two_sample_test(x, y, generator=0)
    sparse = two_sample_test(scipy.sparse.csr_matrix(x), scipy.sparse.csr_matrix(y), generator=0)
    lists = two_sample_test(x.tolist(), y.tolist(), generator=0)
    assert reference.pvalue == sparse.pvalue == lists.pvalue
    rows = [[1.0, "a"], [2.0, "b"], [3.0, "a"], [2.5, "b"]]
    mixed = two_sample_test(rows, [[1.5, "b"], [2.5, "b"], [9.0, "b"]], generator=0)
    assert mixed.details["categorical"] == (1,)
    line = two_sample_test(x[:, 0], y[:, 0], method="ks", generator=0)
    assert line.statistic > 0
