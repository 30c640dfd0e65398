import math
from functools import partial

import numpy as np
import pytest
import scipy.spatial.distance as sd
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from probmetrics.divergences.family import (
    DIVERGENCES,
    GAN,
    JS,
    KL,
    WGAN,
    Alpha,
    PearsonChi2,
    SquaredHellinger,
    TotalVariation,
)
from probmetrics.divergences.histogram import (
    f_divergence,
    jeffrey_divergence,
    jensen_shannon_distance,
    js_divergence,
    kl_divergence,
    le_cam,
    reverse_kl_divergence,
    total_variation,
)
from probmetrics.divergences.powers import (
    alpha_divergence,
    bhattacharyya,
    chi2,
    hellinger,
    renyi,
    tsallis,
)
from probmetrics.divergences.rubner import (
    chi2_statistic,
    histogram_intersection,
    kolmogorov_smirnov,
    match_distance,
    minkowski,
    quadratic_form,
)


def named(name, function, **options):
    bound = partial(function, **options)
    bound.__name__ = name
    return bound


# Every measure of the family: the function, and its value on disjoint supports.
FAMILY = {
    named("kl", kl_divergence): math.inf,
    named("reverse kl", reverse_kl_divergence): math.inf,
    named("jeffrey", jeffrey_divergence): math.inf,
    named("js", js_divergence): math.log(2),
    named("js distance", jensen_shannon_distance): math.sqrt(math.log(2)),
    named("tv", total_variation): 1.0,
    named("le cam", le_cam): 1.0,
    named("hellinger", hellinger): 1.0,
    named("hellinger root", hellinger, root=True): 1.0,
    named("pearson", chi2): math.inf,
    named("neyman", chi2, kind="neyman"): math.inf,
    named("symmetric", chi2, kind="symmetric"): math.inf,
    named("renyi 0", renyi, alpha=0): math.inf,
    named("renyi .3", renyi, alpha=0.3): math.inf,
    named("renyi 1", renyi, alpha=1): math.inf,
    named("renyi 2", renyi, alpha=2): math.inf,
    named("renyi inf", renyi, alpha=math.inf): math.inf,
    named("tsallis .4", tsallis, alpha=0.4): 1 / 0.6,
    named("tsallis 2", tsallis, alpha=2): math.inf,
    named("alpha .3", alpha_divergence, alpha=0.3): 1 / 0.21,
    named("alpha -2", alpha_divergence, alpha=-2): math.inf,
    named("alpha 3", alpha_divergence, alpha=3): math.inf,
    named("bhattacharyya", bhattacharyya): math.inf,
    named("gan", f_divergence, f="gan"): 0.0,
    named("row", f_divergence, f=Alpha(0.7)): 1 / 0.21,
    named("bare", f_divergence, f=lambda u: (u - 1).abs() / 2): 1.0,
}
A = [[1.0, 0.5, 0.1], [0.5, 1.0, 0.5], [0.1, 0.5, 1.0]]
RUBNER = [
    named("L1", minkowski, r=1),
    named("L2", minkowski),
    named("L3", minkowski, r=3),
    named("Linf", minkowski, r=math.inf),
    named("intersection", histogram_intersection),
    named("chi2 statistic", chi2_statistic),
    named("quadratic", quadratic_form, A=np.array(A)),
    named("ks", kolmogorov_smirnov),
    named("match", match_distance),
]
SMOOTH = [m for m in FAMILY if m.__name__ not in ("tv", "renyi inf", "renyi 0", "bare")]
ALL = [*FAMILY, *RUBNER]
ids = [m.__name__ for m in ALL]
every = pytest.mark.parametrize("measure", ALL, ids=lambda m: m.__name__)
family = pytest.mark.parametrize("measure", FAMILY, ids=lambda m: m.__name__)


def in_torch(measure):
    """The same measure with its own options as tensors."""
    if "A" not in measure.keywords:
        return measure
    return named(measure.__name__, quadratic_form, A=torch.tensor(A))


def simplex(seed, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.rand(*shape, generator=generator, dtype=torch.float64) + 0.02
    return (raw / raw.sum(-1, keepdim=True)).to(dtype)


# --- closed forms ----------------------------------------------------------------------------


def test_acceptance_values():
    forward, backward = [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]
    assert kl_divergence(forward, backward) == pytest.approx(0.45643482, abs=5e-9)
    assert kl_divergence([0.3, 0.7], [0.6, 0.4]) == pytest.approx(0.18378690, abs=5e-9)
    assert chi2([0.3, 0.7], [0.6, 0.4]) == pytest.approx(0.375, abs=1e-14)


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(2, 40))
def test_against_the_plain_formulas(seed, k):
    p, q = simplex(seed, 2, k).numpy()
    affinity = lambda a: (p**a * q ** (1 - a)).sum()  # noqa: E731
    same = partial(pytest.approx, rel=1e-9, abs=1e-13)
    assert kl_divergence(p, q) == same(scipy.special.rel_entr(p, q).sum())
    assert reverse_kl_divergence(p, q) == same(scipy.stats.entropy(q, p))
    assert jeffrey_divergence(p, q) == same(((p - q) * np.log(p / q)).sum())
    assert jensen_shannon_distance(p, q) == same(sd.jensenshannon(p, q))
    assert js_divergence(p, q) == same(sd.jensenshannon(p, q) ** 2)
    assert total_variation(p, q) == same(sd.cityblock(p, q) / 2)
    assert le_cam(p, q) == same(((p - q) ** 2 / (p + q)).sum() / 2)
    assert hellinger(p, q) == same(1 - np.sqrt(p * q).sum())
    assert hellinger(p, q, root=True) == same(sd.euclidean(np.sqrt(p), np.sqrt(q)) / math.sqrt(2))
    assert chi2(p, q) == same(((p - q) ** 2 / q).sum())
    assert chi2(p, q, kind="neyman") == same(((p - q) ** 2 / p).sum())
    assert chi2(p, q, kind="symmetric") == same(chi2(p, q) + chi2(q, p))
    for a in (0.01, 0.3, 0.999, 1.5, 2, 7):
        assert renyi(p, q, alpha=a) == same(math.log(affinity(a)) / (a - 1), rel=1e-7)
        assert tsallis(p, q, alpha=a) == same((affinity(a) - 1) / (a - 1), rel=1e-7)
        assert alpha_divergence(p, q, alpha=a) == same((affinity(a) - 1) / (a * (a - 1)), rel=1e-7)
    assert renyi(p, q, alpha=1) == same(kl_divergence(p, q))
    assert renyi(p, q, alpha=math.inf) == same(np.log(p / q).max())
    assert renyi(p, q, alpha=0) == same(0.0)
    assert alpha_divergence(p, q, alpha=1) == same(kl_divergence(p, q))
    assert alpha_divergence(p, q, alpha=0) == same(kl_divergence(q, p))
    assert alpha_divergence(p, q, alpha=-2) == same((affinity(-2) - 1) / 6)
    assert bhattacharyya(p, q) == same(-math.log(affinity(0.5)))
    assert f_divergence(p, q, GAN) == same(2 * js_divergence(p, q) - 2 * math.log(2))
    assert minkowski(p, q, r=3) == same(sd.minkowski(p, q, 3))
    assert minkowski(p, q, r=math.inf) == same(sd.chebyshev(p, q))
    assert histogram_intersection(p, q) == same(1 - np.minimum(p, q).sum())
    assert chi2_statistic(p, q) == same(le_cam(p, q))
    assert kolmogorov_smirnov(p, q) == same(np.abs(np.cumsum(p - q)).max())
    bins = np.arange(k)
    assert match_distance(p, q) == same(scipy.stats.wasserstein_distance(bins, bins, p, q))
    places = np.random.default_rng(seed).normal(size=k) * 10
    expected = scipy.stats.wasserstein_distance(places, places, p, q)
    assert match_distance(p, q, positions=places) == same(expected)
    root = np.random.default_rng(seed).normal(size=(k, k))
    assert quadratic_form(p, q, root @ root.T) == same(np.linalg.norm((p - q) @ root))
    assert quadratic_form(p, q, np.eye(k), root=False) == same(sd.sqeuclidean(p, q))


def test_the_rows_by_object_name_and_function():
    p, q = simplex(3, 2, 5)
    for row, function in [(KL, kl_divergence), (JS, js_divergence), (SquaredHellinger, hellinger)]:
        expected = function(p, q)
        torch.testing.assert_close(f_divergence(p, q, row), expected)
        torch.testing.assert_close(f_divergence(p, q, row.name), expected)
        torch.testing.assert_close(row.scale * f_divergence(p, q, row.f), expected)
    torch.testing.assert_close(f_divergence(p, q, "alpha(2)"), chi2(p, q) / 2)


# --- zeros and infinities ----------------------------------------------------------------------


@family
def test_disjoint_supports(measure):
    p, q = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.3, 0.7]], dtype=torch.float64)
    assert float(measure(p, q)) == pytest.approx(FAMILY[measure], abs=1e-12)
    logs = {} if measure.__name__ == "bare" else {"log": True}
    if logs:
        assert float(measure(p.log(), q.log(), **logs)) == pytest.approx(FAMILY[measure], abs=1e-12)


@pytest.mark.parametrize(
    ("measure", "missing_in_q", "missing_in_p"),
    [
        (kl_divergence, math.inf, math.log(2)),
        (reverse_kl_divergence, math.log(2), math.inf),
        (jeffrey_divergence, math.inf, math.inf),
        (chi2, math.inf, 1.0),
        (partial(chi2, kind="neyman"), 1.0, math.inf),
        (total_variation, 0.5, 0.5),
        (hellinger, 1 - math.sqrt(0.5), 1 - math.sqrt(0.5)),
        (partial(renyi, alpha=0.5), math.log(2), math.log(2)),
        (partial(renyi, alpha=2), math.inf, math.log(2)),
        (partial(renyi, alpha=0), 0.0, math.log(2)),
        (partial(renyi, alpha=math.inf), math.inf, math.log(2)),
        (partial(tsallis, alpha=3), math.inf, 1.5),
        (partial(alpha_divergence, alpha=-1), 0.5, math.inf),
    ],
)
def test_half_the_support(measure, missing_in_q, missing_in_p):
    both, one = [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]
    assert measure(both, one) == pytest.approx(missing_in_q)
    assert measure(one, both) == pytest.approx(missing_in_p)


@every
def test_empty_bins_do_not_count(measure):
    p, q = simplex(5, 2, 3)
    if "A" in measure.keywords:
        return
    pad = torch.zeros(2, 1, dtype=p.dtype)
    wide = torch.cat([torch.stack([p, q]), pad], -1)
    torch.testing.assert_close(measure(wide[0], wide[1]), measure(p, q))


@every
@pytest.mark.parametrize("zero", ["p", "q", "both", "none", "equal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_are_finite_at_zeros_and_ties(measure, zero, dtype):
    p, q = torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], dtype=dtype)
    if zero in ("p", "both"):
        p = torch.tensor([0.0, 0.5, 0.5], dtype=dtype)
    if zero in ("q", "both"):
        q = torch.tensor([0.0, 0.6, 0.4], dtype=dtype)
    if zero == "equal":
        q = p.clone()
    p.requires_grad_()
    q.requires_grad_()
    value = in_torch(measure)(p, q)
    gradients = torch.autograd.grad(value, (p, q))
    assert not torch.isnan(value)
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("measure", SMOOTH, ids=lambda m: m.__name__)
def test_gradients_are_finite_at_zeros_in_logs(measure):
    p = torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64).log().requires_grad_()
    q = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log().requires_grad_()
    value = measure(p, q, log=True)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value, (p, q)))


def test_one_sided_gradients_at_an_empty_bin_are_exact_where_they_are_finite():
    """Pearson, Le Cam: d/dp at p = 0 is f′(0), −2 and −3/2."""
    p = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.4, 0.6], dtype=torch.float64)
    for measure, slope in [(chi2, -2.0), (le_cam, -1.5), (total_variation, -0.5)]:
        (gradient,) = torch.autograd.grad(measure(p, q), p)
        assert float(gradient[0]) == pytest.approx(slope)


# --- numerics ----------------------------------------------------------------------------------

EXACT = {
    "kl": lambda p, q, m: sum(a * m.log(a / b) for a, b in zip(p, q, strict=True)),
    "js": lambda p, q, m: (
        sum(
            a * m.log(2 * a / (a + b)) + b * m.log(2 * b / (a + b))
            for a, b in zip(p, q, strict=True)
        )
        / 2
    ),
    "hellinger": lambda p, q, m: (
        sum((m.sqrt(a) - m.sqrt(b)) ** 2 for a, b in zip(p, q, strict=True)) / 2
    ),
    "pearson": lambda p, q, m: sum((a - b) ** 2 / b for a, b in zip(p, q, strict=True)),
    "alpha .3": lambda p, q, m: sum(
        (a ** m.mpf(0.3) * b ** (1 - m.mpf(0.3)) - m.mpf(0.3) * a - (1 - m.mpf(0.3)) * b)
        / (m.mpf(0.3) * (m.mpf(0.3) - 1))
        for a, b in zip(p, q, strict=True)
    ),
}


@pytest.mark.parametrize("size", [1e-15, 1e-12, 1e-8, 1e-3, 0.3])
@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_near_equal_histograms_keep_their_digits(name, size, seed):
    """Against 60 digits; in the mass-corrected form, as rounded vectors do not sum to one."""
    mpmath = pytest.importorskip("mpmath")
    measure = next(m for m in FAMILY if m.__name__ == name)
    p = simplex(seed, 6)
    step = size * torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q = (p * (1 + step.clamp(-0.9, 0.9))).double()
    q = q / q.sum()
    value = float(measure(p, q))
    with mpmath.workdps(60):
        exact_p, exact_q = ([mpmath.mpf(float(v)) for v in side] for side in (p, q))
        expected = EXACT[name](exact_p, exact_q, mpmath)
        if name == "kl":
            expected += sum(exact_q) - sum(exact_p)
        expected = float(expected)
    assert value >= 0
    assert value == pytest.approx(expected, rel=1e-12, abs=0)


@family
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-320, 0))
def test_near_equal_and_subnormal_histograms(measure, dtype, seed, exponent):
    """Finite and never negative, where a well-known library answers NaN."""
    if measure.__name__ == "gan":
        return
    p = simplex(seed, 8, dtype=dtype)
    p[:4] *= 10.0**exponent
    p = (p.double() / p.double().sum()).to(dtype)
    neighbour = (
        torch.nextafter(p.float(), torch.ones(8)).to(dtype)
        if dtype != torch.float64
        else (torch.nextafter(p, torch.ones(8, dtype=dtype)))
    )
    q = torch.where(p > 0, neighbour, p)
    for first, second in ((p, q), (q, p), (p, p)):
        value = measure(first, second)
        assert torch.isfinite(value)
        floor = (
            -1e-2
            if dtype != torch.float64
            else -1e-5
            if measure.__name__ in ("bare", "renyi inf")
            else 0.0
        )
        assert value >= floor
        assert value.dtype == dtype


def test_one_subnormal_bin():
    tiny = 5e-324
    for measure, expected in [
        (js_divergence, 0.0),
        (kl_divergence, tiny * math.log(tiny / 0.5)),
        (total_variation, 0.0),
    ]:
        value = measure([tiny, 1.0], [tiny, 1.0])
        assert value == 0.0
        value = measure([tiny, 1.0], [2 * tiny, 1.0])
        assert 0 <= value <= abs(expected) + 1e-300
    assert js_divergence([tiny, 1.0], [0.5, 0.5]) == pytest.approx(
        js_divergence([0, 1.0], [0.5, 0.5])
    )
    assert kl_divergence([0.5, 0.5], [tiny, 1.0]) == pytest.approx(
        0.5 * (math.log(0.5) - math.log(tiny)) + 0.5 * math.log(0.5)
    )


@family
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_classic_failure(measure, seed):
    """Long float32 histograms that differ by rounding only."""
    p = simplex(seed, 1000, dtype=torch.float32)
    q = (p.double() * 1.0000003).float()
    value = measure(p, q)
    if measure.__name__ != "gan":
        assert torch.isfinite(value)
        assert value >= (-1e-5 if measure.__name__ in ("bare", "renyi inf") else 0)


def test_renyi_of_far_apart_histograms_stays_in_logs():
    p = torch.tensor([1.0, 1e-300, 1e-300], dtype=torch.float64)
    q = torch.tensor([1e-300, 1.0, 1e-300], dtype=torch.float64)
    p.requires_grad_()
    assert float(renyi(p.detach(), q, alpha=50)) == pytest.approx(300 * math.log(10))
    assert float(bhattacharyya(p.detach(), q)) == pytest.approx(
        150 * math.log(10) - math.log(2), rel=1e-9
    )
    for alpha in (0.5, 2, 50):
        (gradient,) = torch.autograd.grad(renyi(p, q, alpha=alpha), p)
        assert torch.isfinite(gradient[0])


def test_logs_below_the_range_of_the_dtype():
    """Masses that underflow still have a ratio: Pearson's χ² of a bin e^−800 against e^−1700."""
    p = torch.tensor([-800.0, 0.0], dtype=torch.float64)
    q = torch.tensor([-1700.0, 0.0], dtype=torch.float64)
    assert float(chi2(p, q, log=True)) == pytest.approx(math.exp(100), rel=1e-10)
    assert float(renyi(p, q, alpha=3, log=True)) == pytest.approx(500.0)
    assert float(kl_divergence(p, q, log=True)) == 0.0


# --- arrays, shapes, dtypes ----------------------------------------------------------------------


@family
def test_log_input(measure):
    p, q = simplex(7, 2, 3, 6)
    if measure.__name__ != "bare":
        torch.testing.assert_close(measure(p.log(), q.log(), log=True), measure(p, q))
        shifted = measure(p.log() + 5, q.log() - 700, log=True, normalize=True)
        torch.testing.assert_close(shifted, measure(p, q), rtol=1e-7, atol=1e-10)


@every
def test_normalize(measure):
    p, q = simplex(11, 2, 3)
    measure = in_torch(measure)
    if "A" not in measure.keywords:
        torch.testing.assert_close(measure(5 * p, 0.1 * q, normalize=True), measure(p, q))
    with pytest.raises(ValueError, match="normalize=True"):
        measure(5 * p, q)
    counts = np.array([3, 0, 2]), np.array([1, 1, 8])
    assert not math.isnan(
        measure.func(
            *counts,
            **{**measure.keywords, **({"A": np.array(A)} if "A" in measure.keywords else {})},
            normalize=True,
        )
    )


@every
def test_batched_is_looped_and_broadcasts(measure):
    p, q = simplex(13, 4, 1, 3), simplex(17, 1, 5, 3)
    measure = in_torch(measure)
    values = measure(p, q)
    assert values.shape == (4, 5)
    looped = [[measure(p[i, 0], q[0, j]) for j in range(5)] for i in range(4)]
    torch.testing.assert_close(values, torch.tensor(looped, dtype=values.dtype))
    assert measure(p[:0], q).shape == (0, 5)


@every
def test_numpy_is_torch(measure):
    p, q = simplex(19, 2, 2, 3)
    values = measure(p.numpy(), q.numpy())
    assert isinstance(values, np.ndarray)
    np.testing.assert_allclose(values, in_torch(measure)(p, q).numpy(), rtol=1e-6)
    assert isinstance(measure(p[0].numpy(), q[0].numpy()), float)
    assert isinstance(measure([0.2, 0.3, 0.5], [0.1, 0.6, 0.3]), float)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_lower_precision(measure, dtype):
    p, q = simplex(23, 2, 3)
    measure = in_torch(measure)
    value = measure(p.to(dtype), q.to(dtype))
    assert value.dtype == dtype
    tolerance = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 0.15}[dtype]
    torch.testing.assert_close(
        value.double(), measure(p, q).double(), rtol=tolerance, atol=tolerance
    )


@every
def test_permutation_of_bins(measure):
    p, q = simplex(29, 2, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    if "A" in measure.keywords or measure.__name__ in ("ks", "match"):
        return
    torch.testing.assert_close(measure(p[order], q[order]), measure(p, q))


def test_match_distance_follows_its_positions():
    p, q = simplex(31, 2, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    places = torch.arange(7, dtype=torch.float64)
    torch.testing.assert_close(
        match_distance(p[order], q[order], positions=places[order]), match_distance(p, q)
    )


@family
def test_coarser_bins_are_no_farther_apart(measure):
    """The data processing inequality."""
    p, q = simplex(37, 2, 20, 6)
    fine, coarse = (
        measure(p, q),
        measure(p.unflatten(-1, (3, 2)).sum(-1), q.unflatten(-1, (3, 2)).sum(-1)),
    )
    assert (coarse <= fine + 1e-12).all()


@pytest.mark.parametrize(
    "measure", [*SMOOTH, *RUBNER[1:3], RUBNER[5], RUBNER[6]], ids=lambda m: m.__name__
)
def test_gradcheck_on_the_simplex(measure):
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits.requires_grad_()
    measure = in_torch(measure)

    def value(z):
        return measure(*z.softmax(-1))

    assert torch.autograd.gradcheck(value, logits)
    assert torch.autograd.gradgradcheck(value, logits)


@pytest.mark.parametrize(
    "name", ["kl", "js", "hellinger", "pearson", "jeffrey", "alpha .3", "renyi 2"]
)
def test_gradcheck_at_equality(name):
    """At P = Q every smooth divergence is flat, with the curvature of f there."""
    measure = next(m for m in FAMILY if m.__name__ == name)
    logits = torch.zeros(3, dtype=torch.float64).requires_grad_()
    uniform = torch.full((3,), 1 / 3, dtype=torch.float64)

    def value(z):
        return measure(z.softmax(-1), uniform)

    assert torch.autograd.gradcheck(value, logits)
    (gradient,) = torch.autograd.grad(value(logits), logits)
    assert gradient.abs().max() < 1e-15
    hessian = torch.autograd.functional.hessian(value, logits)
    curvature = {"kl": 1, "js": 0.25, "hellinger": 0.25, "pearson": 2, "jeffrey": 2}.get(name, 1)
    curvature = 2 if name == "renyi 2" else curvature
    expected = curvature * (torch.eye(3, dtype=torch.float64) / 3 - 1 / 9)
    torch.testing.assert_close(hessian, expected, rtol=1e-8, atol=1e-10)


def test_autograd_agrees_with_the_plain_formula_up_to_the_gauge():
    logits = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    logits.requires_grad_()
    p, q = logits.softmax(-1)
    (ours,) = torch.autograd.grad(kl_divergence(p, q), logits, retain_graph=True)
    (plain,) = torch.autograd.grad((p * (p / q).log()).sum(), logits)
    torch.testing.assert_close(ours, plain)


def test_long_vectors_in_single_precision():
    k = 1_000_000
    p = torch.full((k,), 1 / k)
    q = torch.cat([torch.full((k // 2,), 1.5 / k), torch.full((k // 2,), 0.5 / k)])
    expected = -(math.log(1.5) + math.log(0.5)) / 2
    assert float(kl_divergence(p, q)) == pytest.approx(expected, rel=1e-5)


# --- bad input -----------------------------------------------------------------------------------

GOOD = [0.2, 0.3, 0.5]
BAD = {
    "nan": ([math.nan, 0.5, 0.5], ValueError, r"(p|q) holds nan at position 0"),
    "infinite": ([math.inf, 0.5, 0.5], ValueError, r"(p|q) holds inf"),
    "negative": ([-0.2, 0.7, 0.5], ValueError, r"(p|q) has negative entries.*zero or more"),
    "unnormalised": ([0.2, 0.3, 0.6], ValueError, r"(p|q) sums to 1.1.*normalize=True"),
    "zeros": ([0.0, 0.0, 0.0], ValueError, r"(p|q) sums to 0"),
    "empty": ([], ValueError, r"(p|q) must have shape \(\*batch, k\)"),
    "scalar": (np.array(1.0), ValueError, r"(p|q) must have shape \(\*batch, k\)"),
    "other bins": ([0.5, 0.5], ValueError, "same bins"),
    "batch": (np.full((2, 3, 3), 1 / 3), ValueError, "broadcast"),
    "text": (["a", "b", "c"], TypeError, "convert text"),
    "complex": ([0.5j, 0.5, 0.5], TypeError, "complex"),
    "tensor": (torch.tensor(GOOD), TypeError, "together with other arrays"),
    "none": (None, TypeError, "pass two probability vectors|got NoneType"),
    "distribution": (Normal(0.0, 1.0), TypeError, "two probability vectors or two"),
}


@every
@pytest.mark.parametrize("case", BAD)
@given(first=st.booleans())
def test_bad_input(measure, case, first):
    value, error, message = BAD[case]
    good = np.full((4, 3), 1 / 3) if case == "batch" else GOOD
    arguments = (value, good) if first else (good, value)
    rubner = measure in RUBNER and case in ("none", "distribution")
    with pytest.raises(Exception if rubner else error, match=None if rubner else message):
        measure(*arguments)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([math.nan, 0.0], "holds nan"),
        ([math.inf, 0.0], "holds inf"),
        ([-1.0, -1.0], "sums to 0.735"),
        ([-math.inf, -math.inf], "only empty bins"),
        ([], "shape"),
    ],
)
def test_bad_logs(value, message):
    with pytest.raises(ValueError, match=message):
        kl_divergence(value, [math.log(0.5)] * 2, log=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (partial(renyi, alpha=-1), ValueError, "alpha must be zero or more"),
        (partial(renyi, alpha=math.nan), ValueError, "alpha must be finite"),
        (partial(tsallis, alpha=0), ValueError, "alpha must be above zero"),
        (partial(alpha_divergence, alpha=math.inf), ValueError, "alpha must be finite"),
        (partial(chi2, kind="fisher"), ValueError, "unknown kind 'fisher'; known: pearson"),
        (partial(f_divergence, f="nope"), ValueError, "unknown divergence 'nope'; known: kl"),
        (partial(f_divergence, f=WGAN), TypeError, "f must be an f-divergence"),
        (partial(minkowski, r=0.5), ValueError, "r must be at least 1"),
        (partial(quadratic_form, A=np.eye(2)), ValueError, r"A must have shape \(3, 3\)"),
        (partial(quadratic_form, A=-np.eye(3)), ValueError, "positive semidefinite"),
        (partial(quadratic_form, A=np.eye(3) * np.nan), ValueError, "A holds nan"),
        (partial(match_distance, positions=[1.0, 2.0]), ValueError, "positions has 2 bins"),
        (
            partial(match_distance, positions=[1.0, 2.0, math.nan]),
            ValueError,
            "positions holds nan",
        ),
    ],
)
def test_bad_options(call, error, message):
    with pytest.raises(error, match=message):
        call(GOOD, [0.3, 0.3, 0.4])


def test_every_row_reaches_the_histograms():
    p, q = simplex(41, 2, 5)
    for row in DIVERGENCES.values():
        expected = row.scale * (q * row.f(p / q)).sum()
        torch.testing.assert_close(f_divergence(p, q, row), expected)
    assert f_divergence(p, q, TotalVariation) == total_variation(p, q)
    assert f_divergence(p, q, PearsonChi2) == chi2(p, q)
