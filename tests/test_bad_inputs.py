"""Every public function of divergences, fed everything a user might get wrong."""

import inspect
import math
import re

import numpy as np
import pytest
import torch
from catalog import HISTOGRAMS, LAWS, MAKERS, MEASURES, SAMPLES, SCORES
from hypothesis import given as drawn_from
from hypothesis import settings
from hypothesis import strategies as st
from torch.distributions import Distribution, MultivariateNormal, Normal, Uniform, constraints

import probmetrics

REMEDY = re.compile(
    r"pass |need|use |lower |drop |must |give |make |move |convert|normalize|fit |merge|"
    r"between|at least|at most|implement|add |remove|known:|wants|replace"
)
BAD_NUMBERS = [math.nan, math.inf, -math.inf]


def given(**strategies):
    """A few draws each: there are many functions, and many ways to spoil an input."""
    return lambda test: settings(max_examples=5)(drawn_from(**strategies)(test))


seeds = st.integers(0, 10**6)
kinds = st.sampled_from(["numpy", "double", "single"])


def as_kind(array, kind):
    if kind == "numpy":
        return array
    return torch.as_tensor(array, dtype=torch.float64 if kind == "double" else torch.float32)


def refused(error, names, *said):
    """Calls inside must raise an error that names an argument, what came and what to do."""

    class Refused:
        def __enter__(self):
            return self

        def __exit__(self, kind, value, trace):
            assert kind is not None, "accepted in silence"
            assert issubclass(kind, error), f"{kind.__name__}: {value}"
            message = str(value)
            found = re.search(rf"\b({names})\b", message)
            assert found, f"does not name {names}: {message}"
            for word in said:
                assert re.search(word, message), f"does not say {word}: {message}"
            assert REMEDY.search(message), f"has no remedy: {message}"
            return True

    return Refused()


def finite_numbers(answer):
    """Every number of an answer: of a float, a tensor, an interval, or a named tuple."""
    if hasattr(answer, "at_x"):
        answer = [answer.at_x, answer.at_y]
    answer = getattr(answer, "value", answer)
    parts = answer if isinstance(answer, list | tuple) else [answer]
    return all(math.isfinite(v) for part in parts for v in np.ravel(np.asarray(part)).tolist())


def test_the_catalogue_holds_every_public_function():
    here = "probmetrics.divergences", "probmetrics.transport.dual"
    functions = {
        name
        for name in probmetrics.__all__
        if inspect.isfunction(value := getattr(probmetrics, name))
        and value.__module__.startswith(here)
    }
    assert functions == {measure.name for measure in MEASURES} | MAKERS


# --- probability vectors ---


def histogram(seed, k=4, batch=()):
    return np.random.default_rng(seed).dirichlet(np.ones(k), size=batch)


def spoil(pair, which, value):
    return (value, pair[1]) if which == 0 else (pair[0], value)


@pytest.mark.parametrize("measure", [*LAWS, *HISTOGRAMS], ids=repr)
@given(
    seed=seeds,
    which=st.sampled_from([0, 1]),
    place=st.integers(0, 3),
    bad=st.sampled_from([*BAD_NUMBERS, -0.3, -1e-3]),
    batch=st.sampled_from([(), (3,), (2, 3)]),
    kind=kinds,
)
def test_entries_that_are_no_probabilities(measure, seed, which, place, bad, batch, kind):
    pair = histogram(seed, batch=batch), histogram(seed + 1, batch=batch)
    pair[which][..., place] = bad
    word = "negative" if math.isfinite(bad) else "nan|inf"
    with refused(ValueError, "pq"[which], word):
        measure(*(as_kind(z, kind) for z in pair))
    with refused(ValueError, "pq"[which], word):
        measure(*(as_kind(z, kind) for z in pair), normalize=True)


@pytest.mark.parametrize("measure", [*LAWS, *HISTOGRAMS], ids=repr)
@given(
    seed=seeds,
    which=st.sampled_from([0, 1]),
    factor=st.sampled_from([0.5, 0.98, 1.02, 100.0]),
    kind=kinds,
)
def test_masses_that_are_not_one(measure, seed, which, factor, kind):
    pair = [as_kind(histogram(seed + s), kind) for s in (0, 1)]
    good = measure(*pair)
    pair[which] = pair[which] * factor
    with refused(ValueError, "pq"[which], "sums to", "normalize=True"):
        measure(*pair)
    assert float(measure(*pair, normalize=True)) == pytest.approx(float(good), rel=1e-4, abs=1e-6)
    with refused(ValueError, "pq"[which], "sums to 0"):
        measure(*spoil(pair, which, pair[0] * 0), normalize=True)


@pytest.mark.parametrize("measure", [*LAWS, *HISTOGRAMS], ids=repr)
@given(seed=seeds, which=st.sampled_from([0, 1]), kind=kinds)
def test_shapes_that_do_not_fit(measure, seed, which, kind):
    pair = [as_kind(histogram(seed + s), kind) for s in (0, 1)]
    for other in (histogram(seed, k=3), histogram(seed, k=5), np.zeros(0), np.array(1.0)):
        with refused(ValueError, "p|q", r"\d"):
            measure(*spoil(pair, which, as_kind(other, kind)))
    batches = [as_kind(histogram(seed, batch=size), kind) for size in (2, 3)]
    with refused(ValueError, "p|q", r"\d"):
        measure(*batches)


@pytest.mark.parametrize("measure", [*LAWS, *HISTOGRAMS], ids=repr)
@given(seed=seeds, shared=st.integers(0, 1), kind=kinds)
def test_masses_where_the_other_has_none(measure, seed, shared, kind):
    """P not ≪ Q, down to disjoint supports: the documented value, never NaN."""
    p, q = (histogram(seed + s) for s in (0, 1))
    p[2 + shared :], q[:2] = 0, 0
    if shared == 0:
        p[2:], q[:2] = 0, 0
    p, q = p / p.sum(), q / q.sum()
    value = float(measure(as_kind(p, kind), as_kind(q, kind)))
    assert not math.isnan(value)
    unbounded = {"kl_divergence", "reverse_kl_divergence", "jeffrey_divergence", "chi2"}
    if measure.name in unbounded:  # mass of each lies where the other has none
        assert value == math.inf
    elif measure.name in ("renyi", "bhattacharyya"):
        assert (value == math.inf) == (shared == 0)
    else:
        assert math.isfinite(value)
    if shared == 0:
        whole = {
            "js_divergence": math.log(2),
            "jensen_shannon_distance": math.log(2) ** 0.5,
            "total_variation": 1.0,
            "hellinger": 1.0,
            "le_cam": 1.0,
            "chi2_statistic": 1.0,
            "f_divergence": 1.0,
            "tsallis": 1 / 0.6,
            "alpha_divergence": 1 / 0.24,
        }
        if measure.name in whole:
            assert value == pytest.approx(whole[measure.name], rel=1e-5)


# --- distributions ---


class NoDensity(Distribution):
    arg_constraints = {}  # noqa: RUF012 - as torch's own laws have it
    support = constraints.real

    def __init__(self):
        super().__init__(validate_args=False)

    def sample(self, sample_shape=()):
        return torch.randn(sample_shape)


@pytest.mark.parametrize("measure", LAWS, ids=repr)
@given(which=st.sampled_from([0, 1]), loc=st.floats(-5, 5), sd=st.floats(0.1, 5))
def test_laws_that_cannot_be_compared(measure, which, loc, sd):
    good = Normal(loc, sd)
    pair = good, good
    with refused(TypeError, "p|q", "log_prob"):
        measure(*spoil(pair, which, NoDensity()))
    with refused(TypeError, "p|q", "two probability vectors or two"):
        measure(*spoil(pair, which, torch.tensor([0.5, 0.5])))
    with refused(ValueError, "p|q", "events"):
        measure(*spoil(pair, which, MultivariateNormal(torch.zeros(2), torch.eye(2))))
    with refused(ValueError, "p|q", "broadcast"):
        measure(*spoil((Normal(torch.zeros(3), 1.0),) * 2, which, Normal(torch.zeros(2), 1.0)))


@pytest.mark.parametrize("measure", LAWS, ids=repr)
@pytest.mark.parametrize("bad", BAD_NUMBERS)
@pytest.mark.parametrize("which", [0, 1])
def test_laws_with_broken_parameters(measure, bad, which):
    good = Normal(torch.tensor(0.0).double(), 1.0)
    broken = Normal(torch.tensor(bad).double(), 1.0, validate_args=False)
    with refused(ValueError, "p|q", "(?i)nan|inf"):
        measure(*spoil((good, good), which, broken))


@pytest.mark.parametrize("measure", LAWS, ids=repr)
@given(low=st.floats(-3, 3), width=st.floats(0.5, 3), gap=st.floats(0.1, 5))
def test_laws_on_disjoint_intervals(measure, low, width, gap):
    p = Uniform(torch.tensor(low).double(), low + width)
    q = Uniform(torch.tensor(low + width + gap).double(), low + 2 * width + gap)
    value = float(measure(p, q))
    bounded = {
        "js_divergence": math.log(2),
        "jensen_shannon_distance": math.log(2) ** 0.5,
        "tsallis": 1 / 0.6,
        "alpha_divergence": 1 / 0.24,
    }
    bounded |= dict.fromkeys(("total_variation", "hellinger", "le_cam", "f_divergence"), 1.0)
    assert value == pytest.approx(bounded.get(measure.name, math.inf), rel=1e-6)


# --- samples ---


def sample(seed, n=24, d=2):
    return np.random.default_rng(seed).normal(size=(n, d))


def called(measure, x, y):
    """With a seed where randomness is involved."""
    seeded = "generator" in inspect.signature(getattr(probmetrics, measure.name)).parameters
    return measure(x, y, **({"generator": 0} if seeded else {}))


@pytest.mark.parametrize("measure", SAMPLES, ids=repr)
@given(
    seed=seeds,
    which=st.sampled_from([0, 1]),
    row=st.integers(0, 23),
    column=st.integers(0, 1),
    bad=st.sampled_from(BAD_NUMBERS),
    kind=kinds,
)
def test_coordinates_that_are_no_numbers(measure, seed, which, row, column, bad, kind):
    pair = sample(seed), sample(seed + 1)
    pair[which][row, column] = bad
    with refused(ValueError, "xy"[which], "nan|inf", rf"{row}"):
        called(measure, *(as_kind(z, kind) for z in pair))


@pytest.mark.parametrize("measure", SAMPLES, ids=repr)
@given(seed=seeds, which=st.sampled_from([0, 1]), data=st.data(), kind=kinds)
def test_too_few_points(measure, seed, which, data, kind):
    n = data.draw(st.integers(0, measure.minimum[which] - 1))
    pair = [as_kind(sample(seed + s), kind) for s in (0, 1)]
    if measure.name == "mutual_information":
        pair = [z[:n] for z in pair]
    with refused(ValueError, "x|y", rf"\b{n}\b"):
        called(measure, *spoil(pair, which, pair[which][:n]))


@pytest.mark.parametrize("measure", SAMPLES, ids=repr)
@given(seed=seeds, kind=kinds)
def test_points_of_other_shapes(measure, seed, kind):
    x, y = (as_kind(sample(seed + s), kind) for s in (0, 1))
    if measure.name == "mutual_information":
        with refused(ValueError, "x|y", "24", "20"):
            called(measure, x, y[:20])
        return
    with refused(ValueError, "x|y", r"\b1\b", r"\b2\b"):
        called(measure, x, y[:, :1])
    with refused(ValueError, "x|y", r"\d"):
        called(measure, x[:, :0], y[:, :0])


@pytest.mark.parametrize("measure", [*SAMPLES, *SCORES], ids=repr)
def test_other_kinds_of_things(measure):
    x, y = sample(0), sample(1)
    if measure.takes == "scores":
        x, y = x[:, 0], y[:, 0]
    for first, second in [
        (torch.as_tensor(x), y),
        (x, torch.as_tensor(y)),
        (x + 1j, y),
        (x.astype(str), y),
        (None, y),
        (x, {"a": 1}),
    ]:
        with pytest.raises(TypeError, match=r"x|y"):
            called(measure, first, second)


@pytest.mark.parametrize("measure", SAMPLES, ids=repr)
@given(seed=seeds, column=st.sampled_from([0, 1, None]), kind=kinds)
def test_constant_features(measure, seed, column, kind):
    x, y = sample(seed), sample(seed + 1)
    for z in (x, y):
        z[:, slice(None) if column is None else column] = 3.0
    x, y = as_kind(x, kind), as_kind(y, kind)
    if measure.constant:
        with refused(ValueError, "x|y|samples", f"{measure.constant}|jitter"):
            called(measure, x, y)
    else:
        assert finite_numbers(called(measure, x, y))


@pytest.mark.parametrize("measure", [m for m in SAMPLES if "k" in m.options], ids=repr)
@given(seed=seeds, k=st.integers(24, 100))
def test_more_neighbours_than_points(measure, seed, k):
    with refused(ValueError, "k", f"k={k}"):
        measure(sample(seed), sample(seed + 1, n=23), k=k)


# --- scores ---


@pytest.mark.parametrize("measure", SCORES, ids=repr)
@given(
    seed=seeds,
    which=st.sampled_from([0, 1]),
    place=st.integers(0, 5),
    bad=st.sampled_from(BAD_NUMBERS),
    kind=kinds,
)
def test_scores_that_are_no_numbers(measure, seed, which, place, bad, kind):
    pair = sample(seed, 6, 1)[:, 0], sample(seed + 1, 6, 1)[:, 0]
    pair[which][place] = bad
    name = ("score_x", "score_y")[which]
    with refused(ValueError, name, "nan|inf"):
        measure(*(as_kind(z, kind) for z in pair))
    with refused(ValueError, name, r"\d"):
        measure(*(as_kind(z, kind) for z in spoil(pair, which, pair[which][:0])))
    with refused(ValueError, "score_x|score_y", r"\d"):
        measure(*(as_kind(sample(seed, n, 4), kind) for n in (2, 3)))
