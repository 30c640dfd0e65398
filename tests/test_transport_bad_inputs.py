"""Every public function of transport, fed everything a user might get wrong."""

import inspect
import math

import numpy as np
import pytest
import torch
from catalog import CENTRES, MEASURES, MIXTURES, MOVERS, SECOND

import probmetrics

REMEDY = (
    r"pass |need|use |lower |drop |must |give |make |move |normali[sz]e|at least|at most|"
    r"weights are masses|known:|want|one weight per point"
)
everyone = pytest.mark.parametrize("mover", MOVERS, ids=repr)
moved = [m for m in MOVERS if m.takes != "histograms"]
weighed = pytest.mark.parametrize("mover", moved, ids=repr)
histograms = [m for m in MOVERS if m.takes == "histograms"]
binned = pytest.mark.parametrize("mover", histograms, ids=repr)
kinds = pytest.mark.parametrize("kind", ["numpy", "double", "single"])


def as_kind(array, kind):
    if kind == "numpy":
        return array
    return torch.as_tensor(array, dtype=torch.float64 if kind == "double" else torch.float32)


def pair(mover, n=7, m=5):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2)) + 0.5
    return (x[:, 0], y[:, 0]) if mover.takes == "line" else (x, y)


def table(n=4, m=3):
    rng = np.random.default_rng(1)
    return rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m)), rng.uniform(size=(n, m))


def refuses(call, error, *said):
    """An error of the right kind that says what came, and what to do."""
    with pytest.raises(error) as caught:
        call()
    for word in (*said, REMEDY):
        assert caught.match(f"(?i){word}")


def finite(answer):
    value = getattr(answer, "value", answer)
    return bool(np.isfinite(np.asarray(value)).all())


def test_the_catalogue_holds_every_public_function():
    functions = {
        name
        for name in probmetrics.__all__
        if inspect.isfunction(value := getattr(probmetrics, name))
        and value.__module__.startswith("probmetrics.transport")
    }
    critics = {measure.name for measure in MEASURES}
    assert functions - critics == {mover.name for mover in MOVERS} | CENTRES | SECOND | MIXTURES


@weighed
@kinds
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_coordinates_that_are_no_numbers(mover, kind, bad, which):
    points = pair(mover)
    points[which][2] = bad
    refuses(lambda: mover(*(as_kind(z, kind) for z in points)), ValueError, "xy"[which], "nan|inf")


@weighed
@kinds
def test_samples_that_do_not_fit(mover, kind):
    x, y = (as_kind(z, kind) for z in pair(mover))
    refuses(lambda: mover(x[:0], y), ValueError, r"\bx\b")
    refuses(lambda: mover(x, y[:0]), ValueError, r"\by\b")
    if mover.takes == "samples":
        refuses(lambda: mover(x, y[:, :1]), ValueError, r"\b2\b", r"\b1\b")
        refuses(lambda: mover(x[:, :0], y[:, :0]), ValueError, "columns")
    batched = x[None].repeat(2, 0) if kind == "numpy" else x.expand(2, *x.shape)
    other = y[None].repeat(3, 0) if kind == "numpy" else y.expand(3, *y.shape)
    refuses(lambda: mover(batched, other), ValueError, "broadcast|batch")


@weighed
def test_other_kinds_of_things(mover):
    x, y = pair(mover)
    for first, second in [
        (torch.as_tensor(x), y),
        (x, torch.as_tensor(y)),
        (x + 1j, y),
        (x.astype(str), y),
        (None, y),
        (x, {"a": 1}),
    ]:
        with pytest.raises(TypeError, match=r"x|y"):
            mover(first, second)


@weighed
@kinds
@pytest.mark.parametrize("side", ["a", "b"])
def test_weights_that_are_no_masses(mover, kind, side):
    points = pair(mover)
    n = len(points["ab".index(side)])
    x, y = (as_kind(z, kind) for z in points)
    for weights, error, said in [
        (np.ones(n + 1) / (n + 1), ValueError, r"one weight per point"),
        (np.eye(n)[0] - 0.2 * np.eye(n)[1] + 0.2 * np.eye(n)[2], ValueError, "negative"),
        (np.full(n, math.nan), ValueError, "nan"),
        (np.zeros(n), ValueError, "sums to|zero"),
        *([(np.ones(n), ValueError, rf"sums to {n}, not to 1")] if mover.balanced else []),
    ]:
        refuses(lambda w=weights: mover(x, y, **{side: as_kind(w, kind)}), error, side, said)
    with pytest.raises(TypeError):
        mover(x, y, **{side: ["one"] * n})


@weighed
def test_masses_that_differ_are_welcome_where_mass_may_stay(mover):
    x, y = pair(mover)
    if not mover.balanced:
        assert finite(mover(x, y, a=np.full(len(x), 0.3), b=np.full(len(y), 0.2)))


@weighed
@kinds
def test_hard_but_good_samples(mover, kind):
    """One point, equal points, weights of zero: answers, not errors."""
    x, y = (as_kind(z, kind) for z in pair(mover))
    assert finite(mover(x[:1], y))
    assert finite(mover(x, y[:1]))
    assert finite(mover(x[:1], y[:1]))
    assert finite(mover(0.0 * x + 3.0, 0.0 * y + 3.0))
    weights = np.array([0.0, 0.5, 0.0, 0.0, 0.25, 0.25, 0.0])
    assert finite(mover(x, y, a=as_kind(weights, kind)))


@binned
@kinds
@pytest.mark.parametrize("which", [0, 1])
def test_bins_that_are_no_probabilities(mover, kind, which):
    name = "pq"[which]
    for place, said in ((math.nan, "nan"), (math.inf, "inf"), (-0.1, "negative")):
        given = list(table())
        given[which][1] = place
        refuses(lambda z=given: mover(*(as_kind(v, kind) for v in z)), ValueError, name, said)
    given = list(table())
    given[which] = 2.0 * given[which]
    refuses(lambda: mover(*(as_kind(v, kind) for v in given)), ValueError, name, "sums to 2")
    assert finite(mover(*(as_kind(v, kind) for v in given), normalize=True))


@binned
@kinds
def test_costs_that_do_not_fit(mover, kind):
    p, q, cost = (as_kind(z, kind) for z in table())
    refuses(lambda: mover(p, q, cost.T), ValueError, "cost")
    refuses(lambda: mover(p, q, cost[0]), ValueError, "cost")
    spoiled = np.array(table()[2])
    spoiled[1, 1] = math.nan
    refuses(lambda: mover(p, q, as_kind(spoiled, kind)), ValueError, "cost", "nan")
    with pytest.raises(TypeError):
        mover(p, q, [["dear"]])


CENTRE = {
    "sinkhorn_barycenter": (
        {"p": np.eye(3), "cost": 1.0 - np.eye(3), "epsilon": 0.5},
        [
            ({"p": np.eye(3) * math.nan}, "nan"),
            ({"p": 2 * np.eye(3)}, "sums to 2"),
            ({"p": -np.eye(3)}, "negative"),
            ({"p": np.ones(3) / 3}, "must have shape"),
            ({"p": np.eye(4)}, "cost must have shape"),
            ({"cost": np.triu(np.ones((3, 3)))}, "symmetric"),
            ({"cost": np.full((3, 3), math.nan)}, "nan"),
            ({"weights": np.ones(3)}, "sums to 3"),
            ({"weights": np.ones(2) / 2}, "one weight per point"),
            ({"epsilon": 0.0}, "epsilon must be above zero"),
            ({"epsilon": 1e-30}, "too small"),
            ({"tolerance": -1.0}, "tolerance must be above zero"),
            ({"max_steps": 0}, "max_steps must be at least 1"),
        ],
    ),
    "sinkhorn_barycenter_points": (
        {"x": np.arange(12.0).reshape(2, 3, 2), "generator": 0, "tolerance": 0.1},
        [
            ({"x": np.full((2, 3, 2), math.nan)}, "nan"),
            ({"x": np.ones((3, 2))}, "must have shape"),
            ({"x": np.ones((2, 0, 2))}, "0 points"),
            ({"a": np.ones((2, 3))}, "sums to 3"),
            ({"a": np.ones((2, 2)) / 2}, "one weight per point"),
            ({"weights": np.ones(2)}, "sums to 2"),
            ({"size": 0}, "size must be at least 1"),
            ({"start": np.ones((2, 2))}, "start must have shape"),
            ({"start": np.full((3, 2), math.inf)}, "inf"),
            ({"epsilon": -1.0}, "epsilon must be above zero"),
            ({"tolerance": math.nan}, "tolerance must be finite"),
        ],
    ),
    "wasserstein_1d_barycenter": (
        {"samples": ([0.0, 1.0], [2.0, 3.0, 4.0])},
        [
            ({"samples": ([0.0, math.nan], [2.0])}, "nan"),
            ({"samples": ()}, "sample"),
            ({"samples": ([], [2.0])}, "shape|point"),
            ({"weights": [1.0, 1.0]}, "sums to 2"),
            ({"weights": [1.5, -0.5]}, "negative"),
            ({"masses": [[0.5, 0.5]]}, "mass"),
            ({"masses": [[1.0, 1.0], None]}, "sums to 2"),
        ],
    ),
    "sinkhorn_hessian_product": (
        {"x": np.eye(2), "y": np.ones((3, 2)), "v": np.eye(2), "epsilon": 0.5},
        [
            ({"x": np.full((2, 2), math.nan)}, "nan"),
            ({"v": np.ones((3, 2))}, r"\bv\b"),
            ({"v": np.full((2, 2), math.inf)}, "inf"),
            ({"a": np.ones(2)}, "sums to 2"),
            ({"epsilon": 0.0}, "epsilon must be above zero"),
            ({"tolerance": 0.0}, "tolerance must be above zero"),
        ],
    ),
}


@pytest.mark.parametrize(
    ("name", "case"), [(name, k) for name in CENTRE for k in range(len(CENTRE[name][1]))]
)
def test_centres_and_second_derivatives(name, case):
    good, cases = CENTRE[name]
    change, said = cases[case]
    function = getattr(probmetrics, name)
    function(**good)
    with pytest.raises(ValueError, match=f"(?i){said}"):
        function(**{**good, **change})


def test_the_cases_cover_the_catalogue():
    assert set(CENTRE) == CENTRES | SECOND


def test_an_asymmetric_cost_has_no_debiased_divergence():
    """Costs of samples are symmetric by their type; a matrix of costs has to be."""

    x, y = torch.randn(4, 2), torch.randn(5, 2)
    with pytest.raises((TypeError, ValueError)):
        probmetrics.sinkhorn_divergence(x, y, cost=lambda u, v: (u[:, None] - v).relu().sum(-1))
    bins = np.triu(np.ones((3, 3)))
    with pytest.raises(ValueError, match="symmetric"):
        probmetrics.sinkhorn_barycenter(np.eye(3), bins)
