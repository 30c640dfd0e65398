"""Toys have the moments and densities they promise; two-sample families are what papers sample."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from probmetrics import data as pmd
from probmetrics.data import families

MIXTURES = {
    "ring": pmd.ring_of_gaussians(),
    "grid": pmd.grid_of_gaussians(),
    "two": pmd.two_gaussians(3, separation=5, sd=2),
    "fgan": pmd.fgan_mixture(),
    "uneven": pmd.GaussianMixture(
        torch.tensor([0.2, 0.8]).double(),
        torch.tensor([[0.0, 1.0], [3.0, -1.0]]).double(),
        torch.tensor([0.5, 2.0]).double(),
    ),
}
N = 40_000


def assert_moments(points, mean, covariance):
    """Sample mean and covariance within five standard errors of the exact ones."""
    n, scale = len(points), covariance.diagonal().sqrt()
    got = np.atleast_2d(np.cov(points.numpy().T))
    assert ((points.mean(0) - mean).abs() < 5 * scale / n**0.5).all()
    error = np.abs(got - covariance.numpy()) / np.outer(scale, scale)
    assert (error < 8 / n**0.5).all()


@pytest.mark.parametrize("name", MIXTURES)
def test_mixture_moments_and_density(name):
    mixture = MIXTURES[name]
    points = mixture.sample(N, generator=0, dtype=torch.float64)
    assert_moments(points, mixture.mean, mixture.covariance)
    expected = sum(
        w * stats.multivariate_normal(m, s**2 * np.eye(mixture.dimension)).pdf(points[:50].numpy())
        for w, m, s in zip(
            mixture.weights.numpy(), mixture.means.numpy(), mixture.sd.numpy(), strict=True
        )
    )
    np.testing.assert_allclose(mixture.log_density(points[:50]).exp(), expected, rtol=1e-9)


def test_mixture_density_far_away_is_finite():
    assert torch.isfinite(MIXTURES["ring"].log_density(torch.full((1, 2), 1e6))).all()


def test_geometry():
    ring, grid = MIXTURES["ring"], MIXTURES["grid"]
    torch.testing.assert_close(ring.means.norm(dim=-1), torch.ones(8, dtype=torch.float64))
    assert set(map(tuple, grid.means.tolist())) == {
        (x, y) for x in (-4.0, -2.0, 0.0, 2.0, 4.0) for y in (-4.0, -2.0, 0.0, 2.0, 4.0)
    }
    assert (ring.sd == 0.01).all()
    assert (grid.sd == 0.05).all()


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_quality_has_its_known_ceiling(name):
    mixture = MIXTURES[name]
    points = mixture.sample(N, generator=1)
    assert mixture.modes_covered(points) == len(mixture.means)
    ceiling = 1 - math.exp(-4.5)
    assert abs(float(mixture.high_quality_share(points)) - ceiling) < 5 * (0.011 / N) ** 0.5


def test_modes_count_from_three_standard_deviations():
    means, sd = torch.tensor([[0.0, 0.0], [10.0, 0.0]]), torch.tensor([1.0, 2.0])
    points = torch.tensor([[2.99, 0.0], [3.01, 0.0], [10.0, 5.99], [10.0, 6.01]])
    assert pmd.modes_covered(points, means, sd) == 2
    assert pmd.modes_covered(points[1:2], means, sd) == 0
    assert pmd.modes_covered(points[1:2], means, 2.0) == 1
    assert pmd.high_quality_share(points, means, sd) == 0.5
    batch = torch.stack([points, points + 100])
    assert pmd.modes_covered(batch, means, sd).tolist() == [2, 0]
    assert pmd.high_quality_share(batch, means, sd).tolist() == [0.5, 0]
    assert pmd.modes_covered(points.numpy(), means.numpy(), 1.0) == 1.0
    assert pmd.high_quality_share(points.half(), means, sd).dtype == torch.float16
    shifted = pmd.modes_covered(points.double() + 1e4, means.double() + 1e4, sd)
    assert shifted == 2


def test_bad_modes():
    means, points = torch.zeros(2, 2), torch.zeros(3, 2)
    with pytest.raises(ValueError, match="to fit the samples"):
        pmd.modes_covered(points, torch.zeros(2, 3), 1.0)
    with pytest.raises(ValueError, match="one per mode"):
        pmd.modes_covered(points, means, torch.ones(3))
    with pytest.raises(ValueError, match="above zero"):
        pmd.high_quality_share(points, means, 0.0)
    with pytest.raises(ValueError, match="samples holds nan"):
        pmd.high_quality_share(points * float("nan"), means, 1.0)
    with pytest.raises(ValueError, match=r"means \(k, d\)"):
        pmd.GaussianMixture(torch.ones(3), means, torch.ones(2))
    with pytest.raises(ValueError, match="sums to 3"):
        pmd.GaussianMixture(torch.full((2,), 1.5), means, torch.ones(2))
    with pytest.raises(ValueError, match="above zero"):
        pmd.GaussianMixture(torch.full((2,), 0.5), means, torch.zeros(2))
    with pytest.raises(ValueError, match="noise"):
        pmd.Moons(-1.0)
    with pytest.raises(ValueError, match="n must be at least 1"):
        pmd.Moons().sample(0)


@pytest.mark.parametrize("noise", [0, 0.05, 0.5])
def test_moons(noise):
    moons = pmd.Moons(noise)
    points = moons.sample(N, generator=0, dtype=torch.float64)
    assert_moments(points, moons.mean, moons.covariance)
    if noise == 0:
        upper = (points.norm(dim=-1) - 1).abs() < 1e-12
        lower = ((points - torch.tensor([1, 0.5])).norm(dim=-1) - 1).abs() < 1e-12
        assert (upper | lower).all()


@pytest.mark.parametrize("name", pmd.TOYS)
def test_sampling_goes_through_the_generator(name):
    toy = pmd.TOYS[name]()
    before = torch.get_rng_state()
    first = toy.sample(10, generator=5)
    assert torch.equal(first, toy.sample(10, generator=5))
    assert not torch.equal(first, toy.sample(10, generator=6))
    assert not torch.equal(toy.sample(10), toy.sample(10))
    source = torch.Generator().manual_seed(5)
    assert torch.equal(first, toy.sample(10, generator=source))
    assert not torch.equal(first, toy.sample(10, generator=source))
    assert torch.equal(before, torch.get_rng_state())
    assert first.shape == (10, toy.dimension)
    assert first.dtype == torch.float32


def fgan_divergence(name, mu, sigma):
    """Divergence from the f-GAN mixture to N(mu, sigma²) by quadrature, f of the density ratio."""
    rows = {
        "KL": lambda u: u * np.log(u),
        "reverse KL": lambda u: -np.log(u),
        "2 JS": lambda u: u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
        "Jeffrey": lambda u: (u - 1) * np.log(u),
        "Pearson": lambda u: (u - 1) ** 2,
    }
    x = np.linspace(-12, 14, 200_001)
    p = MIXTURES["fgan"].log_density(torch.as_tensor(x)[:, None]).numpy()
    q = stats.norm(mu, sigma).logpdf(x)
    return integrate.simpson(np.exp(q) * rows[name](np.exp(p - q)), x=x)


@pytest.mark.parametrize(
    ("name", "value", "mu", "sigma"),
    [
        ("KL", 0.28297, 1.0100, 1.8311),
        ("reverse KL", 0.24811, 1.5779, 1.6318),
        ("2 JS", 0.12804, 1.3068, 1.7545),
        ("Jeffrey", 0.57057, 1.3215, 1.7035),
        ("Pearson", 0.64565, 0.5736, 1.9277),
    ],
)
def test_fgan_optima(name, value, mu, sigma):
    assert fgan_divergence(name, mu, sigma) == pytest.approx(value, abs=2e-5)
    for step in (-0.01, 0.01):
        assert fgan_divergence(name, mu + step, sigma) > value
        assert fgan_divergence(name, mu, sigma + step) > value


@pytest.mark.parametrize("name", pmd.FAMILIES)
def test_families_are_seeded_and_independent(name):
    family = pmd.FAMILIES[name]()
    x, y = family.sample(30, 21, generator=3)
    again = family.sample(30, 21, generator=3)
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])
    assert x.shape[0] == 30
    assert y.shape[0] == 21
    assert x.shape[1] == y.shape[1]
    assert x.dtype == y.dtype == torch.float64
    assert family.sample(1)[1].shape[0] == 1
    with pytest.raises(ValueError, match="n must be"):
        family.sample_y(0)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("perturbations", [1, 2, 3])
def test_perturbed_uniform(d, perturbations):
    family = pmd.PerturbedUniform(d, perturbations)
    signs = family.draw_signs(generator=0)
    assert set(signs.flatten().tolist()) <= {-1.0, 1.0}
    grid = (torch.arange(600, dtype=torch.float64) + 0.5) / 600
    points = grid[:, None] if d == 1 else torch.cartesian_prod(grid, grid)
    density = family.density(points, signs)
    assert density.min() > 0
    assert float(density.mean()) == pytest.approx(1, abs=1e-6)
    amplitude = {1: 2.7, 2: 7.3}[d] / perturbations * math.exp(-d)
    assert float((density - 1).abs().max()) == pytest.approx(amplitude, rel=1e-2)
    # The share of points in cells of a grid is the integral of the density over them.
    y = family.sample_y(N, generator=1, signs=signs)
    bins, cells = 8 * perturbations if d == 1 else 6 * perturbations, (slice(None),) * d
    edges = [np.linspace(0, 1, bins + 1)] * d
    counts = np.histogramdd(y.numpy(), edges)[0][cells]
    share = np.histogramdd(points.numpy(), edges, weights=density.numpy())[0] / len(points)
    assert stats.chisquare(counts.ravel(), (N * share / share.sum()).ravel()).pvalue > 1e-3
    x = family.sample_x(N, generator=2)
    assert stats.kstest(x[:, 0].numpy(), "uniform").pvalue > 1e-3


def test_perturbed_uniform_by_hand():
    family = pmd.PerturbedUniform(1, 2)
    signs = torch.tensor([1.0, -1.0])
    x = torch.tensor([[0.0], [0.125], [0.25], [0.375], [0.5], [0.625], [0.875], [1.0]])
    bump = 2.7 / 2 * math.exp(-1)
    expected = torch.tensor([0, bump, 0, -bump, 0, -bump, bump, 0], dtype=torch.float64)
    torch.testing.assert_close(family.density(x, signs), 1 + expected)
    with pytest.raises(ValueError, match="signs must have shape"):
        family.density(x, torch.ones(3))
    with pytest.raises(ValueError, match="unknown d"):
        pmd.PerturbedUniform(3)


@pytest.mark.parametrize("sigma", [0.6, 2])
def test_four_modes(sigma):
    x, y = pmd.FourModes(sigma).sample(N, generator=0)
    for points, spread in ((x, 1.0), (y, sigma)):
        side = points.sign()
        counts = [
            int(((side == torch.tensor(s)).all(-1)).sum()) for s in ((1, 1), (-1, 1), (1, -1))
        ]
        assert stats.chisquare([*counts, N - sum(counts)]).pvalue > 1e-3
        corner = (side == -1).all(-1)
        noise = (points.abs() - 20) * side
        assert float(noise[corner].std()) == pytest.approx(spread, rel=0.03)
        assert float(noise[~corner].std()) == pytest.approx(1, rel=0.03)


def test_blob():
    x, y = pmd.Blob().sample(9 * N, generator=0)
    centres = [(i // 3, i % 3) for i in range(9)]
    deltas = np.array([-0.02, -0.022, -0.024, -0.026, 0.0, 0.02, 0.022, 0.024, 0.026])
    assert tuple(deltas) == families.BLOB_COVARIANCE

    def log_likelihood(points, slants):
        modes = [
            stats.multivariate_normal(centre, [[0.03, slant], [slant, 0.03]]).pdf(points)
            for centre, slant in zip(centres, slants, strict=True)
        ]
        return np.log(np.mean(modes, axis=0)).mean()

    for points, slants in ((x, 0 * deltas), (y, deltas)):
        between = np.eye(2) * (2 / 3 + 0.03) + np.mean(slants) * np.array([[0, 1], [1, 0]])
        assert_moments(points, torch.ones(2).double(), torch.as_tensor(between))
        best = log_likelihood(points[:5000].numpy(), slants)
        for wrong in (slants + 0.003, slants - 0.003, -deltas, slants[::-1] + 0.001):
            assert log_likelihood(points[:5000].numpy(), wrong) < best
    counts = np.histogramdd(x.numpy(), [[-9, 0.5, 1.5, 9]] * 2)[0]
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("n", [N, 5])
def test_high_dimensional_mixture(n):
    family = pmd.HighDimensionalMixture(d=200)
    for sample, slant in ((family.sample_x, 0.0), (family.sample_y, 0.5)):
        points = sample(min(n, 4000), generator=0)
        second = points.mean(-1) > 0.25
        if n == 5:
            assert int(second.sum()) == 2
            continue
        assert int(second.sum()) == len(points) // 2
        assert 0.4 < float(second[:2000].double().mean()) < 0.6  # in random order
        for mode, sign, centre in ((~second, 1, 0), (second, -1, 0.5)):
            got = np.cov(points[mode, :3].numpy().T)
            np.testing.assert_allclose(
                got, [[1, sign * slant, 0], [sign * slant, 1, 0], [0, 0, 1]], atol=0.12
            )
            assert float(points[mode].mean()) == pytest.approx(centre, abs=0.01)
    with pytest.raises(ValueError, match="d must be at least 2"):
        pmd.HighDimensionalMixture(d=1)


def test_gaussian_alternatives():
    eye = torch.eye(3, dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    for family, mean, covariance in [
        (pmd.MeanShift(3, shift=1), zero + 1, eye),
        (pmd.Scale(3, factor=2), zero, 4 * eye),
        (pmd.Correlation(3, correlation=0.5), zero, eye.clone().index_put_(
            (torch.tensor([0, 1]), torch.tensor([1, 0])), torch.tensor(0.5).double())),
        (pmd.EqualMomentBimodal(3), zero, eye),
    ]:  # fmt: skip
        x, y = family.sample(N, generator=0)
        assert_moments(x, zero, eye)
        assert_moments(y, mean, covariance)
    y = pmd.EqualMomentBimodal(2, mu=0.9).sample_y(N, generator=0).numpy()
    assert stats.kurtosis(y).max() < -1  # two modes
    for bad in (
        lambda: pmd.Correlation(2, 1.0),
        lambda: pmd.EqualMomentBimodal(1, 1.0),
        lambda: pmd.Scale(2, 0.0),
        lambda: pmd.FourModes(-1.0),
        lambda: pmd.MeanShift(0),
    ):
        with pytest.raises(ValueError, match="must"):
            bad()


def test_published_power():
    assert pmd.PerturbedUniform(1, 3).published[0] == ("MMDAgg", 500, 0.602)
    assert pmd.PerturbedUniform(1, 3).published[1][2] == 0.082
    assert pmd.PerturbedUniform(2, 1).published == ()
    assert pmd.PerturbedUniform(1, 5).published == ()
    assert pmd.FourModes(0.7).published == (("MMD-FUSE", 500, 0.51), ("MMDAgg", 500, 0.46))
    assert pmd.FourModes(3.0).published == ()
    assert pmd.Scale().published[1] == ("MMDAgg", 50, 0.99)
    assert pmd.Scale(3).published == ()
    assert pmd.MeanShift().published[0] == ("energy", 50, 0.76)
    assert pmd.MeanShift(3).published == ()
    assert pmd.Blob().published == ()
