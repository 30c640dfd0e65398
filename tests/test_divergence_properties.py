"""What the table of properties says of each: metric, symmetric, finite, how fast it is learned."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import probmetrics as pm
from probmetrics.pairwise.kernels import Gaussian

few = settings(max_examples=10)
seeds = st.integers(0, 10**6)

HISTOGRAM_METRICS = {
    "total_variation": pm.total_variation,
    "hellinger, root": lambda p, q: pm.hellinger(p, q, root=True),
    "jensen_shannon_distance": pm.jensen_shannon_distance,
    "le_cam, root": lambda p, q: pm.le_cam(p, q) ** 0.5,
    "match_distance": pm.match_distance,
}
HISTOGRAM_DIVERGENCES = {
    "kl_divergence": pm.kl_divergence,
    "reverse_kl_divergence": pm.reverse_kl_divergence,
    "jeffrey_divergence": pm.jeffrey_divergence,
    "js_divergence": pm.js_divergence,
    "hellinger": pm.hellinger,
    "bhattacharyya": pm.bhattacharyya,
    "chi2": pm.chi2,
    "renyi": lambda p, q: pm.renyi(p, q, alpha=2.0),
    "le_cam": pm.le_cam,
}
ONE_SIDED = {"kl_divergence", "reverse_kl_divergence", "chi2", "renyi"}
SAMPLE_METRICS = {
    "mmd, root": lambda x, y: pm.mmd(x, y, kernel=Gaussian(1.0), unbiased=False, root=True),
    "energy_distance, root": lambda x, y: pm.energy_distance(x, y, root=True),
    "wasserstein": lambda x, y: pm.wasserstein(x, y, p=1),
    "wasserstein, p=2": pm.wasserstein,
    "sliced_wasserstein": lambda x, y: pm.sliced_wasserstein(x, y, projections=20, generator=0),
}
SAMPLE_DIVERGENCES = {
    "mmd": lambda x, y: pm.mmd(x, y, kernel=Gaussian(1.0), unbiased=False),
    "energy_distance": pm.energy_distance,
    "sinkhorn_divergence": lambda x, y: pm.sinkhorn_divergence(x, y, epsilon=0.1, tolerance=1e-8),
    "frechet_distance": pm.frechet_distance,
}


def named(table):
    return pytest.mark.parametrize("measure", table.values(), ids=list(table))


def histograms(seed, count):
    return np.random.default_rng(seed).dirichlet(np.full(5, 0.5), size=count)


def samples(seed, count, n=12, d=2):
    rng = np.random.default_rng(seed)
    return [rng.normal(rng.normal(size=d), 1, size=(n + k, d)) for k in range(count)]


# --- metric? ---


@named(HISTOGRAM_METRICS)
@few
@given(seed=seeds)
def test_metrics_of_histograms_obey_the_triangle(measure, seed):
    p, q, r = histograms(seed, 3)
    assert measure(p, r) <= measure(p, q) + measure(q, r) + 1e-12
    assert measure(p, p) == pytest.approx(0, abs=1e-7)
    assert measure(p, q) > 0


@named(HISTOGRAM_DIVERGENCES)
def test_divergences_of_histograms_do_not(measure):
    start, end = np.array([0.98, 0.02]), np.array([0.02, 0.98])
    shares = np.linspace(0, 1, 21)[1:-1]
    direct = measure(start, end)
    detours = [
        measure(start, m) + measure(m, end) for m in (start + s * (end - start) for s in shares)
    ]
    assert min(detours) < direct * 0.99


@named(SAMPLE_METRICS)
@few
@given(seed=seeds)
def test_metrics_of_samples_obey_the_triangle(measure, seed):
    x, y, z = samples(seed, 3)
    assert measure(x, z) <= measure(x, y) + measure(y, z) + 1e-9


@named(SAMPLE_DIVERGENCES)
def test_divergences_of_samples_do_not(measure):
    x = 0.1 * np.random.default_rng(0).normal(size=(20, 1))
    step = 0.2
    assert measure(x, x + 2 * step) > 1.2 * (measure(x, x + step) + measure(x + step, x + 2 * step))


def test_frechet_sees_means_and_covariances_only():
    x = np.array([[-1.0], [1.0]] * 50)
    y = np.array([[-(2.0**0.5)], [0.0], [0.0], [2.0**0.5]] * 25)
    assert pm.frechet_distance(x, y) == pytest.approx(0, abs=1e-6)
    assert pm.energy_distance(x, y) > 0.05


# --- symmetric? ---


@named(HISTOGRAM_METRICS | HISTOGRAM_DIVERGENCES)
def test_symmetry_of_histograms(measure):
    p, q = histograms(3, 2)
    name = [k for k, v in HISTOGRAM_DIVERGENCES.items() if v is measure]
    there, back = measure(p, q), measure(q, p)
    if name and name[0] in ONE_SIDED:
        assert abs(there - back) > 1e-3
    else:
        assert there == pytest.approx(back, rel=1e-12)


def test_renyi_is_symmetric_at_one_half_only():
    p, q = histograms(3, 2)
    assert pm.renyi(p, q, alpha=0.5) == pytest.approx(pm.renyi(q, p, alpha=0.5), rel=1e-12)
    assert abs(pm.renyi(p, q, alpha=0.6) - pm.renyi(q, p, alpha=0.6)) > 1e-3


@named(SAMPLE_METRICS | SAMPLE_DIVERGENCES)
def test_symmetry_of_samples(measure):
    x, y = samples(0, 2)
    assert measure(x, y) == pytest.approx(measure(y, x), rel=1e-6)


# --- finite on disjoint supports? does it tell how far apart they are? ---


def test_bounded_ones_stop_growing_and_unbounded_ones_are_infinite():
    left, right = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.5, 0.5])
    values = {
        name: f(left, right) for name, f in (HISTOGRAM_METRICS | HISTOGRAM_DIVERGENCES).items()
    }
    infinite = {name for name, value in values.items() if math.isinf(value)}
    assert infinite == {
        "kl_divergence",
        "reverse_kl_divergence",
        "jeffrey_divergence",
        "bhattacharyya",
        "chi2",
        "renyi",
    }
    assert values["js_divergence"] == pytest.approx(math.log(2))
    assert values["total_variation"] == values["hellinger"] == values["le_cam"] == 1
    assert pm.match_distance(left, right[[2, 0, 1, 3]]) < values["match_distance"] == 2


@named(SAMPLE_METRICS | SAMPLE_DIVERGENCES)
def test_samples_far_apart_have_finite_distances(measure):
    x, y = samples(1, 2)
    assert 0 < measure(x, y + 1e3) < math.inf


def test_only_transport_energy_and_frechet_keep_growing():
    x, y = samples(1, 2)
    growing = {**SAMPLE_METRICS, **SAMPLE_DIVERGENCES}
    flat = {"mmd, root", "mmd"}
    for name, measure in growing.items():
        ratio = measure(x, y + 200.0) / measure(x, y + 50.0)
        assert (ratio > 1.9) != (name in flat), name


# --- needs densities? ---


def test_estimates_from_samples_need_no_density():
    x, y = samples(5, 2, n=300, d=1)
    rough = pm.divergence_from_ratio(pm.density_ratio(x, y, generator=0), f="kl").value
    assert pm.kl_neighbors(x, y) == pytest.approx(rough, abs=0.3)


# --- how fast it is learned from n points ---


def scatter(measure, n, d, repetitions=3):
    """Mean distance between two samples of one law."""
    values = []
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        values.append(measure(rng.normal(size=(n, d)), rng.normal(size=(n, d))))
    return np.mean(values)


@pytest.mark.parametrize(
    ("name", "d", "rate"),
    [
        ("mmd, root", 6, 1 / 2),
        ("energy_distance, root", 6, 1 / 2),
        ("sliced_wasserstein", 6, 1 / 2),
        ("wasserstein", 1, 1 / 2),
        ("wasserstein", 6, 1 / 6),
    ],
)
def test_rates(name, d, rate):
    measure = SAMPLE_METRICS[name]
    small, large = scatter(measure, 40, d, 8), scatter(measure, 400, d)
    assert math.log10(small / large) == pytest.approx(rate, abs=0.12)


def test_the_ratio_of_a_right_model_beats_neighbours_in_ten_dimensions():
    source = torch.Generator().manual_seed(0)
    x = torch.randn(700, 10, generator=source, dtype=torch.float64)
    y = torch.randn(700, 10, generator=source, dtype=torch.float64) + 0.4
    truth = 10 * 0.16 / 2
    ratio = pm.density_ratio(x, y, classifier=LogisticRegression(), generator=0)
    error = abs(float(pm.divergence_from_ratio(ratio).value) - truth)
    assert error < 0.15 < abs(float(pm.kl_neighbors(x, y)) - truth)
