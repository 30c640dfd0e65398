"""DISCO: decomposition, agreement with ANOVA and the energy test, calibration."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from probmetrics.discrepancy import energy_distance, mmd
from probmetrics.pairwise.kernels import Gaussian
from probmetrics.twosample import disco_test, energy_test


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def three(seed=0, shift=0.0, sizes=(9, 12, 15), d=2):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, d)) + shift * k for k, n in enumerate(sizes)]


def test_components_by_their_definition():
    samples, power = three(shift=0.5), 1.3
    result = disco_test(*samples, power=power, generator=0)
    z = np.concatenate(samples)

    def spread(x):
        gaps = np.linalg.norm(x[:, None] - x[None], axis=-1) ** power
        return gaps.sum() / (2 * len(x))

    within = sum(spread(x) for x in samples)
    between = spread(z) - within
    assert result.details["within"] == pytest.approx(within)
    assert result.details["between"] == pytest.approx(between)
    assert result.statistic == pytest.approx(between / spread(z))
    assert result.details["F"] == pytest.approx((between / 2) / (within / (36 - 3)))
    # Rizzo and Székely (2010), eq. 2.5: the between component is a sum over pairs of samples.
    pairs = result.details["pairs"]
    for g, h in itertools.combinations(range(3), 2):
        expected = energy_distance(samples[g], samples[h], power=power)
        assert pairs[g, h] == pytest.approx(expected)
    sizes = np.array([9, 12, 15])
    total = sum(sizes[g] * sizes[h] / (2 * 36) * pairs[g, h] for g, h in [(0, 1), (0, 2), (1, 2)])
    assert between == pytest.approx(total)


def test_power_two_is_the_analysis_of_variance():
    samples = three(shift=0.4, d=1)
    result = disco_test(*samples, power=2, generator=0)
    assert result.details["F"] == pytest.approx(
        scipy.stats.f_oneway(*(x[:, 0] for x in samples)).statistic
    )
    assert result.kernel is None


def test_two_samples_are_the_energy_test():
    x, y = three()[:2]
    ours, energy = disco_test(x, y, generator=3), energy_test(x, y, generator=3)
    assert ours.pvalue == energy.pvalue
    assert ours.effect_size == pytest.approx(energy.effect_size)


def test_any_kernel():
    x, y, z = three()
    result = disco_test(x, y, z, kernel=Gaussian(1.0), generator=0)
    expected = mmd(x, z, kernel=Gaussian(1.0), unbiased=False)
    assert result.details["pairs"][0, 2] == pytest.approx(expected)


def test_exact_pvalue_by_enumeration():
    rng = np.random.default_rng(2)
    samples = [rng.normal(size=(2, 1)) + k for k in range(3)]
    result = disco_test(*samples)
    z = np.concatenate(samples)
    values = []
    for order in itertools.permutations(range(6)):
        parts = np.split(z[list(order)], 3)
        values.append(-sum(np.abs(p[0] - p[1]).item() / 2 for p in parts))
    observed = -sum(np.abs(x[0] - x[1]).item() / 2 for x in samples)
    assert result.exact
    assert result.permutations == 90
    assert result.pvalue == pytest.approx(np.mean(np.array(values) >= observed - 1e-12))


def test_order_kind_and_batch_do_not_matter():
    a, b, c = three(shift=0.3, sizes=(12, 12, 12))
    sa, sb, sc = (np.arange(12) % 2 + 0 * k for k in range(3))
    reference = disco_test(a, b, c, generator=1)
    for order in itertools.permutations((a, b, c)):
        assert disco_test(*order, generator=1).pvalue == reference.pvalue
    assert disco_test(a, b, c, generator=1, batch=7).pvalue == reference.pvalue
    tensors = disco_test(*map(torch.tensor, (a, b, c)), generator=1)
    assert tensors.pvalue == reference.pvalue
    assert isinstance(reference.null_distribution, np.ndarray)
    assert isinstance(tensors.null_distribution, torch.Tensor)
    one = disco_test(a, b, c, generator=1, strata=(sa, sb, sc))
    two = disco_test(c, a, b, generator=1, strata=(sc, sa, sb))
    assert one.pvalue == two.pvalue


@pytest.mark.parametrize("kind", ["continuous", "binary"])
def test_size_is_kept(kind):
    rng = np.random.default_rng(5)
    reps, pvalues = 150, []
    for rep in range(reps):
        z = rng.normal(size=(30, 2)) if kind == "continuous" else rng.integers(0, 2, (30, 1)) * 1.0
        parts = z[:5], z[5:15], z[15:]
        pvalues.append(disco_test(*parts, permutations=19, generator=rep).pvalue)
    for level in (0.05, 0.3):
        assert (np.array(pvalues) <= level).sum() <= scipy.stats.binom.ppf(0.999, reps, level)


def test_finds_one_deviating_sample():
    a, b, c = three(sizes=(20, 20, 20))
    assert disco_test(a, b, 2.5 * c, generator=0).pvalue < 0.01
    far = disco_test(a, b + 100, c, generator=0)
    assert far.pvalue == 0.001
    assert far.effect_size > 0.9


def test_constant_and_bad_input():
    flat = np.ones((4, 2))
    assert disco_test(flat, flat, flat).pvalue == 1.0
    with pytest.raises(ValueError, match="2 to 255 samples, got 1"):
        disco_test(flat)
    with pytest.raises(ValueError, match="sample 2 has 1 point"):
        disco_test(flat, flat, flat[:1])
    with pytest.raises(ValueError, match="columns"):
        disco_test(flat, flat, flat[:, :1])
    with pytest.raises(TypeError, match="of one kind"):
        disco_test(flat, torch.tensor(flat))
    with pytest.raises(ValueError, match=r"power must lie in \(0, 2\]"):
        disco_test(flat, flat, power=2.5)
    with pytest.raises(ValueError, match="sample 1 holds nan"):
        disco_test(flat, flat * np.nan)
