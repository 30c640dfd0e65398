"""MMDAgg and MMD-FUSE: their definitions, calibration, adaptivity."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from probmetrics.discrepancy import mmd
from probmetrics.pairwise.kernels import Gaussian, Laplacian
from probmetrics.twosample import mmd_aggregated_test, mmd_fuse_test, mmd_test
from probmetrics.twosample.aggregate import min_p
from probmetrics.twosample.family import bandwidth_grid
from probmetrics.twosample.fused import fused_collection

TESTS = {"aggregated": mmd_aggregated_test, "fuse": mmd_fuse_test}


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


def test_smallest_pvalue_is_calibrated_by_ranks():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    found = min_p(values[0], values[1:], exact=False)
    ranks = (values[None] >= values[:, None]).double().mean(1)
    smallest = ranks.min(1).values
    np.testing.assert_allclose(found.each, ranks[0])
    np.testing.assert_allclose(
        found.adjusted, [(smallest <= r + 1e-12).double().mean() for r in ranks[0]]
    )
    strictly = int((smallest[1:] < smallest[0] - 1e-12).sum())
    ties = int(((smallest[1:] - smallest[0]).abs() < 1e-12).sum())
    assert strictly <= found.exceedances <= strictly + ties
    assert found.pvalue == (1 + found.exceedances) / 40


def test_smallest_pvalue_is_valid_whatever_the_dependence():
    generator = torch.Generator().manual_seed(1)
    reps, pvalues = 2000, []
    for _ in range(reps):
        common = torch.randn(20, 1, generator=generator, dtype=torch.float64)
        values = (common + 0.5 * torch.randn(20, 4, generator=generator)).exp()
        values = (values * torch.tensor([1.0, 1.0, 5.0, 0.2])).round()  # many ties
        pvalues.append(min_p(values[0], values[1:], exact=False).pvalue)
    for level in (0.05, 0.1, 0.5):
        assert (np.array(pvalues) <= level).sum() <= scipy.stats.binom.ppf(0.999, reps, level)


def test_weights_favour_their_kernel():
    x, y = draw(20, 25, shift=0.5)
    kernels = [Gaussian(0.01), Gaussian(1.0)]
    even = mmd_aggregated_test(x, y, kernels=kernels, generator=0)
    favoured = mmd_aggregated_test(x, y, kernels=kernels, weights=[0.001, 0.999], generator=0)
    alone = mmd_test(x, y, kernel=Gaussian(1.0), permutations=1999, generator=0)
    np.testing.assert_array_equal(even.details["pvalues"], favoured.details["pvalues"])
    assert even.details["pvalues"][1] == alone.pvalue
    assert alone.pvalue <= favoured.pvalue + 0.002 <= even.pvalue + 0.004
    with pytest.raises(ValueError, match="2 positive numbers"):
        mmd_aggregated_test(x, y, kernels=kernels, weights=[1.0])


def test_fused_statistic_by_its_definition():
    x, y = draw(12, 17, shift=0.5)
    kernels = [Gaussian(0.7), Laplacian(1.1, norm=1)]
    result = mmd_fuse_test(x, y, kernels=kernels, permutations=19, generator=0)
    z = torch.tensor(np.concatenate([x, y]))
    exponents = []
    for kernel in kernels:
        gram = kernel(z).numpy()
        size = (np.sum(gram**2) - np.sum(gram.diagonal() ** 2)) / (12 * 11)
        exponents.append(12 * 11 * mmd(x, y, kernel=kernel) / np.sqrt(size))
    expected = (scipy.special.logsumexp(exponents) - np.log(2)) / (12 * 11)
    assert result.statistic == pytest.approx(expected)
    np.testing.assert_allclose(result.details["shares"], scipy.special.softmax(exponents))


def test_bandwidths_span_the_pooled_distances_and_see_no_labels():
    z = torch.tensor(np.concatenate(draw(30, 40, shift=3.0)))
    for shape, p in (("gaussian", 2.0), ("laplacian", 1.0)):
        grid = bandwidth_grid(z, shape, 5)
        low, high = np.quantile(torch.pdist(z, p=p).numpy(), [0.05, 0.95])
        np.testing.assert_allclose(grid, np.geomspace(low / 2, high * 2, 5))
        shuffled = z[torch.randperm(70, generator=torch.Generator().manual_seed(3))]
        np.testing.assert_allclose(bandwidth_grid(shuffled, shape, 5), grid)
        even = bandwidth_grid(z, shape, 5, spacing="linear")
        np.testing.assert_allclose(np.diff(even, 2), 0, atol=1e-10)
    assert bandwidth_grid(torch.zeros(5, 2), "gaussian", 3) == [1.0] * 3


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("paired", [False, True])
def test_same_pvalue_everywhere(name, paired):
    x, y = draw(20, 20, shift=0.3)
    options = {"generator": 2, "permutations": 199, "bandwidths": 3, "paired": paired}
    reference = TESTS[name](x, y, **options)
    others = [
        TESTS[name](y, x, **options),
        TESTS[name](x, y, batch=7, **options),
        TESTS[name](torch.tensor(x), torch.tensor(y), **options),
    ]
    assert [r.pvalue for r in others] == [reference.pvalue] * 3
    shifted = TESTS[name](x + 1e4, y + 1e4, **options)
    assert shifted.pvalue == reference.pvalue


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("kind", ["gaussian", "binary", "cauchy", "paired"])
def test_size_is_kept(name, kind):
    rng = np.random.default_rng(23)
    reps, pvalues = 80, []
    for rep in range(reps):
        z = {
            "binary": lambda: rng.integers(0, 2, (24, 1)) * 1.0,
            "cauchy": lambda: rng.standard_cauchy((24, 2)),
        }.get(kind, lambda: rng.normal(size=(24, 2)))()
        n = 12 if kind == "paired" else 8
        result = TESTS[name](
            z[:n],
            z[n:],
            permutations=39,
            bandwidths=3,
            generator=rep,
            paired=kind == "paired",
        )
        pvalues.append(result.pvalue)
    for level in (0.05, 0.25):
        rejected = (np.array(pvalues) <= level).sum()
        assert rejected <= scipy.stats.binom.ppf(0.999, reps, level)


@pytest.mark.parametrize("name", TESTS)
def test_differences_of_scale_are_found_where_one_bandwidth_fails(name):
    x, y = draw(50, 50, d=10, scale=1.4)
    result = TESTS[name](x, y, generator=0)
    assert result.pvalue <= 0.01
    assert result.kernel in result.details["kernels"]
    fine = np.random.default_rng(0)
    x = fine.uniform(size=(150, 1))
    y = (fine.integers(0, 8, (150, 1)) + fine.uniform(0, 0.5, (150, 1))) / 8
    assert TESTS[name](x, y, generator=0).pvalue <= 0.01
    assert mmd_test(x, y, generator=0).pvalue > 0.05


@pytest.mark.parametrize("name", TESTS)
def test_odd_data_and_bad_input(name):
    flat = np.ones((6, 2))
    assert TESTS[name](flat, flat).pvalue == 1.0
    with pytest.raises(ValueError, match="empty"):
        TESTS[name](flat, flat, kernels=[])
    with pytest.raises(ValueError, match="bandwidths"):
        TESTS[name](flat, flat, bandwidths=0)


def test_fused_collection_reaches_the_shape_of_clusters():
    """Finer kernels where points have neighbours for them, none where all points are lonely."""
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 3, (600, 2)) + 0.17 * rng.normal(size=(600, 2))
    finest = {}
    for name, z in (("clusters", clusters), ("lonely", rng.normal(size=(100, 10)))):
        z = torch.tensor(z)
        kernels = fused_collection(z, 10)
        for kind in (Gaussian, Laplacian):
            widths = sorted(k.bandwidth for k in kernels if isinstance(k, kind))
            finest[name, kind] = widths[0] / min(bandwidth_grid(z, kind.__name__.lower(), 10))
            assert len(widths) == (8 if kind is Laplacian else 13 - (name == "lonely"))
    assert finest["clusters", Gaussian] == pytest.approx(0.5)
    assert finest["lonely", Gaussian] == pytest.approx(1.0)
    assert finest["lonely", Laplacian] == pytest.approx(
        bandwidth_grid(z, "laplacian", 10)[2] / bandwidth_grid(z, "laplacian", 10)[0]
    )
