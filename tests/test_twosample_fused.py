"""The fused test: its members, calibration, and staying close to the best single test."""

import numpy as np
import pytest
import scipy.stats
import torch

from probmetrics.discrepancy import energy_distance
from probmetrics.pairwise.kernels import Scaled
from probmetrics.twosample import energy_test, fused_test, mmd_aggregated_test, mmd_test


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(rng, n=30, m=30, d=5, shift=0.0, scale=1.0):
    return rng.normal(size=(n, d)), scale * rng.normal(size=(m, d)) + shift


def test_members_are_the_kernels_and_the_energy_distance():
    x, y = draw(np.random.default_rng(0), 20, 25, shift=0.3)
    result = fused_test(x, y, permutations=199, generator=0)
    assert len(result.details["kernels"]) == 21
    assert isinstance(result.details["kernels"][-1], Scaled)
    energy = energy_test(x, y, unbiased=True, permutations=199, generator=0)
    assert result.details["values"][-1] == pytest.approx(
        energy_distance(x, y, unbiased=True), rel=1e-9
    )
    assert result.details["pvalues"][-1] == energy.pvalue
    aggregated = mmd_aggregated_test(x, y, permutations=199, generator=0)
    kept = np.r_[0:10, 12:20]  # all Gaussians, and Laplacians but the two finest
    np.testing.assert_array_equal(
        result.details["pvalues"][:18], aggregated.details["pvalues"][kept]
    )
    assert min(result.details["adjusted"]) >= min(result.details["pvalues"])


def test_same_pvalue_everywhere():
    x, y = draw(np.random.default_rng(1), shift=0.2)
    options = {"generator": 2, "permutations": 199, "bandwidths": 3}
    reference = fused_test(x, y, **options).pvalue
    assert fused_test(y, x, **options).pvalue == reference
    assert fused_test(x, y, batch=7, **options).pvalue == reference
    assert fused_test(torch.tensor(x), torch.tensor(y), **options).pvalue == reference
    assert fused_test(x + 1e4, y + 1e4, **options).pvalue == reference


@pytest.mark.parametrize("kind", ["gaussian", "binary", "cauchy", "three points"])
def test_size_is_kept(kind):
    rng = np.random.default_rng(29)
    reps, pvalues = 60, []
    for rep in range(reps):
        z = {
            "binary": lambda: rng.integers(0, 2, (24, 1)) * 1.0,
            "cauchy": lambda: rng.standard_cauchy((24, 2)),
            "three points": lambda: rng.normal(size=(6, 2)),
        }.get(kind, lambda: rng.normal(size=(24, 2)))()
        n = 3 if kind == "three points" else 8
        result = fused_test(z[:n], z[n:], permutations=39, bandwidths=3, generator=rep)
        pvalues.append(result.pvalue)
    for level in (0.05, 0.25):
        rejected = (np.array(pvalues) <= level).sum()
        assert rejected <= scipy.stats.binom.ppf(0.999, reps, level)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"shift": 0.35}, {"scale": 1.45}])
def test_power_stays_close_to_the_best_single_test(change):
    rng = np.random.default_rng(3)
    tests = {
        "fused": lambda x, y, s: fused_test(x, y, permutations=199, bandwidths=5, generator=s),
        "energy": lambda x, y, s: energy_test(x, y, permutations=199, generator=s),
        "mmd": lambda x, y, s: mmd_test(x, y, permutations=199, generator=s),
    }
    found = dict.fromkeys(tests, 0)
    for seed in range(30):
        x, y = draw(rng, **change)
        for name, test in tests.items():
            found[name] += test(x, y, seed).pvalue <= 0.05
    assert found["fused"] >= 14
    assert found["fused"] >= max(found["energy"], found["mmd"]) - 6


def test_odd_data_and_bad_input():
    flat = np.ones((6, 2))
    assert fused_test(flat, flat).pvalue == 1.0
    with pytest.raises(ValueError, match="bandwidths"):
        fused_test(flat, flat, bandwidths=0)
    with pytest.raises(ValueError, match="auto"):
        fused_test(flat, flat + np.eye(6, 2), permutations="auto")
