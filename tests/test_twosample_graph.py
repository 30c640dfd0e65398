"""Graph tests: trees and neighbours, moments of edge counts, calibration, the right tail."""

import itertools

import numpy as np
import pytest
import scipy.sparse.csgraph
import scipy.stats
import torch
from sklearn.neighbors import NearestNeighbors

from probmetrics.pairwise.costs import Euclidean, PNorm
from probmetrics.twosample import edge_count_test, friedman_rafsky_test, nearest_neighbor_test
from probmetrics.twosample.edges import neighbor_edges, spanning_edges
from probmetrics.twosample.graph import FORMS, EdgeStatistic, edge_moments
from probmetrics.twosample.labelings import Labelings

TESTS = {
    "mst": friedman_rafsky_test,
    "knn": nearest_neighbor_test,
    **{
        f"{form}-{graph}": lambda x, y, f=form, g=graph, **o: edge_count_test(
            x, y, form=f, graph=g, **{"k": 3, **o}
        )
        for form in FORMS
        for graph in ("mst", "knn")
    },
}


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(n, m, d=3, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + shift


def test_spanning_trees_are_minimal_and_share_no_edge():
    z = torch.tensor(draw(20, 20)[0])
    distances = Euclidean()(z).numpy()
    edges = spanning_edges(z, 3, Euclidean())
    assert edges.shape == (57, 2)
    assert len({tuple(sorted(e)) for e in edges.tolist()}) == 57
    left = distances.copy()
    for tree in edges.split(19):
        i, j = tree.T.numpy()
        expected = scipy.sparse.csgraph.minimum_spanning_tree(left).sum()
        assert distances[i, j].sum() == pytest.approx(expected)
        left[i, j] = left[j, i] = 0  # absent from now on


def test_spanning_tree_of_duplicates_and_forests():
    z = torch.zeros(5, 2)
    assert spanning_edges(z, 1, Euclidean()).shape == (4, 2)
    few = spanning_edges(torch.arange(4.0)[:, None], 3, Euclidean())  # six edges, not nine
    assert len({tuple(sorted(e)) for e in few.tolist()}) == len(few) == 6


def test_neighbours_agree_with_scikit_learn():
    z = torch.tensor(draw(20, 20)[0])
    for cost, options in ((Euclidean(), {}), (PNorm(1), {"p": 1})):
        edges = neighbor_edges(z, 4, cost)
        model = NearestNeighbors(n_neighbors=4, **options).fit(z.numpy())
        expected = model.kneighbors(return_distance=False)
        assert np.array_equal(np.sort(edges[:, 1].reshape(20, 4)), np.sort(expected))


@pytest.mark.parametrize("graph", ["tree", "neighbours"])
@pytest.mark.parametrize(("n", "m"), [(3, 4), (2, 5)])
def test_moments_are_those_over_all_labelings(graph, n, m):
    z = torch.tensor(draw(n + m, 2)[0])
    if graph == "tree":
        edges = spanning_edges(z, 2, Euclidean())
    else:
        edges = neighbor_edges(z, 2, Euclidean())  # mutual neighbours are listed twice
    labels = torch.cat(list(Labelings((torch.arange(n + m) >= n).to(torch.uint8)).enumerate()))
    counts = EdgeStatistic(edges).prepare(None, (n, m)).counts(labels)
    mean, covariance = edge_moments(edges, n, m)
    torch.testing.assert_close(mean, counts.mean(0))
    torch.testing.assert_close(covariance, torch.cov(counts.T, correction=0), atol=1e-10, rtol=0)


def test_generalized_form_by_its_definition():
    x, y = draw(12, 15)
    z = torch.tensor(np.concatenate([x, y]))
    edges = spanning_edges(z, 3, Euclidean())
    mean, covariance = edge_moments(edges, 12, 15)
    result = edge_count_test(x, y, k=3, generator=0)
    counts = np.array([result.details["within_x"], result.details["within_y"]])
    gap = counts - mean.numpy()
    assert result.statistic == pytest.approx(gap @ np.linalg.inv(covariance.numpy()) @ gap)
    weighted = edge_count_test(x, y, k=3, form="weighted", generator=0).statistic
    w = np.array([14.0, 11.0])
    assert weighted == pytest.approx(gap @ w / np.sqrt(w @ covariance.numpy() @ w))
    contrast = np.array([1.0, -1.0])
    other = abs(gap @ contrast) / np.sqrt(contrast @ covariance.numpy() @ contrast)
    largest = edge_count_test(x, y, k=3, form="max", generator=0).statistic
    assert largest == pytest.approx(max(weighted, other))


def test_exact_pvalue_by_enumeration():
    x, y = draw(3, 4, shift=1.0)
    result = friedman_rafsky_test(x, y, level=0.5, generator=0)
    edges = spanning_edges(torch.tensor(np.concatenate([x, y])), 1, Euclidean()).tolist()

    def within(chosen):
        return sum((i in chosen) == (j in chosen) for i, j in edges)

    values = np.array([within(set(c)) for c in itertools.combinations(range(7), 3)])
    assert result.statistic == within({0, 1, 2})
    assert result.pvalue == pytest.approx((values >= result.statistic).mean())


@pytest.mark.parametrize("name", TESTS)
def test_separate_clusters_are_told_apart(name):
    # Counting the wrong tail gives p = 1 here.
    x, y = draw(20, 25, shift=5.0)
    result = TESTS[name](x, y, permutations=199, generator=0)
    assert result.pvalue == 0.005
    assert result.effect_size > 0.8


def test_generalized_form_sees_scale_in_high_dimension():
    x, y = draw(50, 50, d=100)
    original = edge_count_test(x, 1.3 * y, form="original", generator=0)
    generalized = edge_count_test(x, 1.3 * y, generator=0)
    assert generalized.pvalue <= 0.01 < original.pvalue


@pytest.mark.parametrize("name", TESTS)
def test_same_pvalue_everywhere(name):
    test, (x, y) = TESTS[name], draw(20, 20, shift=0.3)
    reference = test(x, y, generator=2, permutations=99)
    others = [
        test(y, x, generator=2, permutations=99),
        test(x, y, generator=2, permutations=99, batch=7),
        test(torch.tensor(x), torch.tensor(y), generator=2, permutations=99),
    ]
    assert [r.pvalue for r in others] == [reference.pvalue] * 3


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("kind", ["gaussian", "binary"])
def test_size_is_kept(name, kind):
    # On binary data nearly all distances tie: ties resolved by position would reject nearly always.
    rng = np.random.default_rng(13)
    reps, pvalues = 100, []
    for rep in range(reps):
        z = rng.normal(size=(16, 2)) if kind == "gaussian" else rng.integers(0, 2, (16, 1)) * 1.0
        pvalues.append(TESTS[name](z[:7], z[7:], permutations=39, generator=rep).pvalue)
    for level in (0.05, 0.25):
        rejected = (np.array(pvalues) <= level).sum()
        assert rejected <= scipy.stats.binom.ppf(0.999, reps, level)


def test_bad_input_is_refused():
    x, y = draw(4, 5)
    with pytest.raises(ValueError, match="mst, knn"):
        edge_count_test(x, y, graph="delaunay")
    with pytest.raises(ValueError, match="original, generalized"):
        edge_count_test(x, y, form="new")
    with pytest.raises(ValueError, match="at most 8"):
        nearest_neighbor_test(x, y, k=9)
    with pytest.raises(ValueError, match="at most 4"):
        edge_count_test(x, y, k=5)
    assert friedman_rafsky_test(np.ones((4, 2)), np.ones((5, 2)), generator=0).pvalue == 1.0


def test_default_neighbours_fit_few_points():
    x, y = np.array([[0.0], [0.1]]), np.array([[5.0], [5.2]])
    for test in (nearest_neighbor_test, edge_count_test):
        with pytest.warns(UserWarning, match="impossible"):
            assert test(x, y).exact
    assert nearest_neighbor_test(x, y, level=0.9).method == "3 nearest neighbours"
    assert edge_count_test(x, y, level=0.9).method == "generalized edge count (1-mst)"
    assert nearest_neighbor_test(np.repeat(x, 9, 0), np.repeat(y, 9, 0)).method.startswith("5 ")
    with pytest.raises(ValueError, match="k must be at most 3"):
        nearest_neighbor_test(x, y, k=5)
