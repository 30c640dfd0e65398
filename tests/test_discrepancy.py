"""MMD, energy distance and witness against closed forms, SciPy, and loops over all pairs."""

import itertools

import numpy as np
import pytest
import torch
from catalog import KERNELS
from scipy import stats

from probmetrics.discrepancy import (
    block_mmd,
    energy_distance,
    linear_mmd,
    mmd,
    random_feature_mmd,
    witness,
)
from probmetrics.pairwise.kernels import (
    Distance,
    Gaussian,
    InverseMultiquadric,
    Laplacian,
    Linear,
    Matern,
    RationalQuadratic,
    gaussian_mixture,
)
from probmetrics.pairwise.spectral import frequencies


def normal_quantiles(mean, sd, n=6001):
    """n points that stand for N(mean, sd²) with an error far below 1e-4."""
    return stats.norm(mean, sd).ppf((np.arange(n) + 0.5) / n)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("sd", "energy", "squared"), [(1, 0.54180658, 0.17726763), (2, 0.53410532, 0.15947048)]
)
def test_normals_against_their_closed_forms(sd, energy, squared):
    x, y = normal_quantiles(0, 1), normal_quantiles(1, sd)
    assert energy_distance(x, y) == pytest.approx(energy, rel=2e-4)
    assert mmd(x, y, kernel=Gaussian(1.0), unbiased=False) == pytest.approx(squared, rel=2e-4)


def test_energy_distance_against_scipy():
    rng = np.random.default_rng(0)
    for n, m in [(7, 7), (30, 11), (200, 333)]:
        x, y = rng.normal(size=n), rng.normal(0.3, 2, size=m)
        a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
        expected = stats.energy_distance(x, y, a, b)
        assert energy_distance(x, y, a=a, b=b, root=True) == pytest.approx(expected, rel=1e-9)
        assert energy_distance(x, y, a=a, b=b) == pytest.approx(expected**2, rel=1e-9)


def pairs_mean(kernel, x, y, *, without_self):
    values = [
        kernel(x[i : i + 1], y[j : j + 1]).item()
        for i, j in itertools.product(range(len(x)), range(len(y)))
        if not (without_self and i == j)
    ]
    return sum(values) / len(values)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_mmd_is_the_mean_over_pairs(kernel):
    x, y = draw(5, 2), draw(4, 2, seed=1)
    xy = pairs_mean(kernel, x, y, without_self=False)
    for unbiased in (True, False):
        xx = pairs_mean(kernel, x, x, without_self=unbiased)
        yy = pairs_mean(kernel, y, y, without_self=unbiased)
        found = mmd(x, y, kernel=kernel, unbiased=unbiased)
        assert found.item() == pytest.approx(xx + yy - 2 * xy, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("origin", [0.0, -3.0])
def test_energy_is_twice_the_mmd_of_the_distance_kernel(unbiased, origin):
    x, y = draw(9, 3), draw(7, 3, seed=1)
    for power in (0.5, 1.0, 1.7):
        kernel = Distance(power, origin=origin)
        energy = energy_distance(x, y, power=power, unbiased=unbiased)
        torch.testing.assert_close(energy, 2 * mmd(x, y, kernel=kernel, unbiased=unbiased))


def test_the_linear_kernel_compares_means():
    x, y = draw(50, 3), draw(40, 3, seed=1) + 1
    gap = (x.mean(0) - y.mean(0)).square().sum()
    torch.testing.assert_close(mmd(x, y, kernel=Linear(), unbiased=False), gap)


def test_the_unbiased_estimate_is_unbiased():
    exact = 0.17726763  # N(0, 1) against N(1, 1), bandwidth 1
    x, y = draw(4000, 5, 1), draw(4000, 6, 1, seed=1) + 1
    found = mmd(x, y, kernel=Gaussian(1.0))
    error = found.std() / 4000**0.5
    assert abs(found.mean() - exact) < 4 * error
    biased = mmd(x, y, kernel=Gaussian(1.0), unbiased=False)
    assert biased.mean() - exact > 10 * error


@pytest.mark.parametrize("n", [90, 1300])
def test_weighted_unbiased_leaves_out_each_points_own_mass(n):
    x, y = draw(n, 2), draw(n - 20, 2, seed=1)
    a = torch.rand(n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    a = a / a.sum()
    kernel = Gaussian(1.0)
    kxx, kyy, kxy = kernel(x), kernel(y), kernel(x, y)
    off = (a[:, None] * a * kxx).sum() - (a * a).sum()
    xx = off / (1 - (a * a).sum())
    m = len(y)
    yy = (kyy.sum() - m) / (m * (m - 1))
    expected = xx + yy - 2 * (a @ kxy).mean()
    torch.testing.assert_close(mmd(x, y, kernel=kernel, a=a), expected)


def test_large_and_small_problems_agree_with_float64_loops():
    x, y = draw(700, 3).float(), (draw(900, 3, seed=1) * 1.2 + 0.3).float()
    for kernel in (Gaussian(1.0), Laplacian(1.0), Distance(), gaussian_mixture([0.5, 2.0])):
        exact = mmd(x.double(), y.double(), kernel=kernel, backend="dense")
        found = mmd(x, y, kernel=kernel)
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-7)


def test_witness_is_the_difference_of_mean_kernels_and_its_mean_gap_is_the_mmd():
    x, y, at = draw(30, 2), draw(20, 2, seed=1) + 1, draw(8, 2, seed=2)
    kernel = Gaussian(0.9)
    expected = kernel(at, x).mean(-1) - kernel(at, y).mean(-1)
    torch.testing.assert_close(witness(x, y, at, kernel=kernel), expected)
    gap = witness(x, y, x, kernel=kernel).mean() - witness(x, y, y, kernel=kernel).mean()
    torch.testing.assert_close(gap, mmd(x, y, kernel=kernel, unbiased=False))
    at.requires_grad_()
    assert torch.autograd.gradcheck(lambda at: witness(x, y, at, kernel=kernel), at)


def test_root_needs_the_biased_estimate():
    x, y = draw(5, 2), draw(5, 2, seed=1)
    for function in (mmd, energy_distance):
        with pytest.raises(ValueError, match="unbiased=False together with root=True"):
            function(x, y, unbiased=True, root=True)


@pytest.mark.parametrize("power", [0.0, 2.0, -1.0, float("nan")])
def test_powers_outside_the_open_interval_are_refused(power):
    with pytest.raises(ValueError, match="power"):
        energy_distance([[0.0]], [[1.0]], power=power)


def test_linear_and_block_estimates_are_unbiased():
    exact = 0.17726763
    x, y = draw(400, 64, 1), draw(400, 64, 1, seed=1) + 1
    for found in (
        linear_mmd(x, y, kernel=Gaussian(1.0)),
        block_mmd(x, y, kernel=Gaussian(1.0)),
        block_mmd(x, y, kernel=Gaussian(1.0), block=2),
    ):
        assert found.shape == (400,)
        assert abs(found.mean() - exact) < 4 * found.std() / 20
    whole = mmd(x, y, kernel=Gaussian(1.0)).std()
    blocks = block_mmd(x, y, kernel=Gaussian(1.0)).std()
    assert whole < blocks < linear_mmd(x, y, kernel=Gaussian(1.0)).std()


def test_one_block_is_the_whole_sample():
    x, y = draw(20, 3), draw(20, 3, seed=1)
    torch.testing.assert_close(
        block_mmd(x, y, block=20, kernel=Laplacian(1.0)), mmd(x, y, kernel=Laplacian(1.0))
    )
    with pytest.raises(ValueError, match="block=21 is larger"):
        block_mmd(x, y, block=21)


SPECTRAL = [
    Gaussian(0.8),
    Laplacian(0.8),
    Laplacian(0.8, norm=1),
    Matern(0.5, 1.2),
    Matern(1.5, 1.2),
    Matern(2.5, 1.2),
    RationalQuadratic(0.7, 1.1),
    InverseMultiquadric(1.3),
    InverseMultiquadric(1.3, beta=1.0),
    gaussian_mixture([0.5, 2.0]),
    2.0 * Gaussian(1.0) + Laplacian(1.0),
]


@pytest.mark.parametrize("kernel", SPECTRAL, ids=repr)
def test_frequencies_have_the_kernel_as_their_mean(kernel):
    generator = torch.Generator().manual_seed(0)
    omega, weights = frequencies(kernel, 3, 40_000, generator)
    x = draw(6, 3)
    waves = torch.cos((x[:, None] - x[None]) @ omega.mT)
    torch.testing.assert_close((waves * weights).sum(-1), kernel(x), rtol=0, atol=0.04)


def test_random_features_approximate_the_mmd():
    x, y = draw(300, 2), draw(200, 2, seed=1) + 0.7
    for unbiased in (True, False):
        exact = mmd(x, y, kernel=Gaussian(1.0), unbiased=unbiased)
        found = random_feature_mmd(
            x, y, kernel=Gaussian(1.0), features=20_000, unbiased=unbiased, generator=0
        )
        assert abs(found - exact) < 0.01
    assert random_feature_mmd(x, y, generator=1) == random_feature_mmd(x, y, generator=1)
    with pytest.raises(ValueError, match="shift-invariant"):
        random_feature_mmd(x, y, kernel=Linear())


def test_offset_data_gives_the_same_random_feature_mmd_in_float32():
    x, y = draw(300, 2).float(), (draw(200, 2, seed=1) + 0.7).float()
    near = random_feature_mmd((x + 1e4) - 1e4, (y + 1e4) - 1e4, kernel=Gaussian(1.0), generator=0)
    far = random_feature_mmd(x + 1e4, y + 1e4, kernel=Gaussian(1.0), generator=0)
    torch.testing.assert_close(far, near, rtol=1e-3, atol=1e-5)
