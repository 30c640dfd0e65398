import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from probmetrics.divergences import family
from probmetrics.divergences.family import (
    CRITICS,
    DIVERGENCES,
    GAN,
    JS,
    KL,
    WGAN,
    Alpha,
    Hinge,
    Jeffrey,
    LeastSquares,
    LeCam,
    NeymanChi2,
    PearsonChi2,
    ReverseKL,
    SquaredHellinger,
    SymmetricChi2,
    TotalVariation,
    least_squares,
    named,
    renyi_of_alpha,
    tsallis_of_alpha,
)
from probmetrics.divergences.row import from_function

ROWS = [*DIVERGENCES.values(), *map(Alpha, (-1.5, 0.0, 0.3, 1.0, 1.7, 3.0))]
SMOOTH = [row for row in ROWS if row is not TotalVariation]
LOGITS = torch.linspace(-6, 6, 49, dtype=torch.float64)

# f, T* and the stable composite, exactly as the f-GAN table prints them, and v*.
TABLE = {
    KL: (
        lambda u: u * u.log(),
        lambda r: 1 + r.log(),
        lambda v: (v - 1).exp(),
        lambda r: 1 + r.log(),
    ),
    ReverseKL: (lambda u: -u.log(), lambda r: -1 / r, lambda v: v - 1, torch.log),
    PearsonChi2: (
        lambda u: (u - 1) ** 2,
        lambda r: 2 * (r - 1),
        lambda v: v**2 / 4 + v,
        lambda r: 2 * (r - 1),
    ),
    NeymanChi2: (
        lambda u: (u - 1) ** 2 / u,
        lambda r: 1 - r**-2,
        lambda v: 2 - 2 * (-v / 2).exp(),
        lambda r: 2 * r.log(),
    ),
    SquaredHellinger: (
        lambda u: (u.sqrt() - 1) ** 2,
        lambda r: 1 - r**-0.5,
        lambda v: v.exp() - 1,
        lambda r: r.log() / 2,
    ),
    JS: (
        lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
        lambda r: (2 * r / (1 + r)).log(),
        lambda v: (1 + v.exp()).log() - math.log(2),
        torch.log,
    ),
    Jeffrey: (
        lambda u: (u - 1) * u.log(),
        lambda r: 1 + r.log() - 1 / r,
        lambda v: v.exp() - 1 + v,
        torch.log,
    ),
    TotalVariation: (
        lambda u: (u - 1).abs() / 2,
        lambda r: (r - 1).sign() / 2,
        lambda v: v.tanh() / 2,
        lambda r: torch.where(r == 1, 0, math.inf) * (r - 1).sign(),
    ),
    GAN: (
        lambda u: u * u.log() - (u + 1) * (u + 1).log(),
        lambda r: (r / (1 + r)).log(),
        lambda v: (1 + v.exp()).log(),
        torch.log,
    ),
    LeCam: (
        lambda u: (u - 1) ** 2 / (2 * (u + 1)),
        lambda r: (r - 1) * (r + 3) / (2 * (r + 1) ** 2),
        None,
        torch.log,
    ),
    SymmetricChi2: (
        lambda u: (u - 1) ** 2 * (u + 1) / u,
        lambda r: 2 * r - 1 - r**-2,
        None,
        torch.log,
    ),
}
SLOPES = {KL: 1.0, ReverseKL: -1.0, GAN: -math.log(2)}


def numeric_conjugate(f, t):
    """sup_u ut − f(u) over u > 0, by search in log u."""

    def lost(x):
        u = torch.tensor(math.exp(x), dtype=torch.float64)
        return float(f(u) - u * t)

    grid = np.linspace(-25, 25, 1001)
    best = grid[np.argmin([lost(x) for x in grid])]
    found = minimize_scalar(
        lost, bounds=(best - 0.1, best + 0.1), method="bounded", options={"xatol": 1e-9}
    )
    return -found.fun


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("row", TABLE, ids=repr)
def test_the_table(row):
    f, optimum, composite, output = TABLE[row]
    u = LOGITS.exp()
    close(row.f(u), f(u))
    close(row.critic(LOGITS), optimum(u))
    close(row.output(LOGITS), output(u))
    close(row.activation(row.output(LOGITS)), row.critic(LOGITS))
    if composite is not None:
        close(row.composite(LOGITS), composite(LOGITS))
    assert row.slope_at_one == pytest.approx(SLOPES.get(row, 0.0))


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_the_pair_is_the_derivative_and_its_conjugate(row):
    logit = LOGITS[LOGITS != 0].clone().requires_grad_()
    u = logit.exp()
    (slope,) = torch.autograd.grad(row.f(u).sum(), u, retain_graph=True)
    close(row.critic(logit), slope)
    close(row.penalty(logit) + row.anchor, u * slope - row.f(u))
    close(row.conjugate(row.critic(logit)), row.penalty(logit) + row.anchor, 1e-8)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_the_conjugate_is_the_supremum(row):
    raw = torch.tensor([-1.9, -0.6, 0.0, 0.4, 1.2], dtype=torch.float64)
    t = row.activation(raw)
    close(row.composite(raw), row.conjugate(t), 1e-9)
    expected = [numeric_conjugate(row.f, float(value)) for value in t]
    close(row.conjugate(t), torch.tensor(expected, dtype=torch.float64), 1e-6)


@pytest.mark.parametrize(
    ("row", "outside"),
    [
        (ReverseKL, 0.5),
        (NeymanChi2, 1.1),
        (SquaredHellinger, 1.0),
        (JS, 0.7),
        (GAN, 0.1),
        (TotalVariation, 0.6),
        (LeCam, 0.6),
        (Alpha(0.3), 1.5),
        (Alpha(-1.5), 0.5),
        (Alpha(0.0), 1.0),
    ],
    ids=repr,
)
def test_the_conjugate_is_infinite_outside_its_domain(row, outside):
    t = torch.tensor(outside, dtype=torch.float64, requires_grad=True)
    value = row.conjugate(t)
    assert value == math.inf
    (gradient,) = torch.autograd.grad(value, t)
    assert torch.isfinite(gradient)


@pytest.mark.parametrize("row", SMOOTH, ids=repr)
def test_the_conjugate_has_slope_u(row):
    logit = torch.linspace(-2, 2, 9, dtype=torch.float64)
    t = row.critic(logit).requires_grad_()
    (slope,) = torch.autograd.grad(row.conjugate(t).sum(), t)
    close(slope, logit.exp(), 1e-8)


# Pearson and Neyman between N(0,1) and N(1,σ²) and the others, from the published acceptance table.
NORMAL_1 = {
    KL: 0.5, ReverseKL: 0.5, JS: 0.11142148, TotalVariation: 0.38292492,
    PearsonChi2: 1.71828183, SquaredHellinger: 0.11750310, GAN: -1.16345140, Jeffrey: 1.0,
}  # fmt: skip
NORMAL_2 = {
    KL: 0.44314718, ReverseKL: 1.30685282, JS: 0.12817497, TotalVariation: 0.39006566,
    PearsonChi2: 0.74402634, SquaredHellinger: 0.14919454, GAN: -1.12994442,
    Jeffrey: 0.44314718 + 1.30685282,
}  # fmt: skip


def grid(sigma):
    x = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(x)
    log_q = torch.distributions.Normal(1.0, sigma).log_prob(x)
    return x, (x[1] - x[0]), log_p, log_q


@pytest.mark.parametrize(("sigma", "expected"), [(1.0, NORMAL_1), (2.0, NORMAL_2)])
@pytest.mark.parametrize("row", NORMAL_1, ids=repr)
def test_tight_at_the_optimum(row, sigma, expected):
    _, step, log_p, log_q = grid(sigma)
    logit = log_p - log_q
    p, q = log_p.exp() * step, log_q.exp() * step
    pair = (p * row.reward(logit) - q * row.penalty(logit)).sum()
    table = (p * row.critic(logit) - q * (row.penalty(logit) + row.anchor)).sum()
    raw = row.output(logit)
    trained = (p * row.activation(raw) - q * row.composite(raw)).nan_to_num().sum()
    inside = row.perspective(p, q, logit, log_p + step.log()).sum()
    for value in (pair, table, trained, inside):
        assert float(row.scale * value) == pytest.approx(expected[row], abs=2e-8)


@pytest.mark.parametrize("row", ROWS, ids=repr)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([0.1, 1.0, 5.0, 300.0]))
def test_random_critics_stay_below(row, seed, size):
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.rand(2, 12, generator=generator, dtype=torch.float64) + 1e-3
    p, q = p / p.sum(), q / q.sum()
    divergence = (q * row.f(p / q)).sum()
    critic = size * torch.randn(12, generator=generator, dtype=torch.float64)
    logit_bound = (p * row.reward(critic) - q * row.penalty(critic)).sum()
    raw_bound = (p * row.activation(critic) - q * row.composite(critic)).sum()
    assert logit_bound <= divergence + 1e-9
    assert raw_bound <= divergence + 1e-9


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("row", [*ROWS, *CRITICS.values(), Alpha(12.0), Alpha(-12.0)], ids=repr)
def test_extreme_logits_are_finite(row, dtype):
    logit = torch.linspace(-1000, 1000, 4001, dtype=dtype, requires_grad=True)
    for half in (row.reward, row.penalty, row.activation, row.composite, row.generator):
        value = half(logit)
        (gradient,) = torch.autograd.grad(value.mean(), logit)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.isfinite(value).all()
        assert torch.isfinite(value.mean())
        assert torch.isfinite(gradient).all() or dtype == torch.float16
        if half in (row.reward, row.penalty) and row is not LeastSquares:
            assert (value.diff() >= -1e-6).all()


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_the_halves_are_exact_up_to_the_knee(row):
    logit = torch.tensor([-60.0, -20.0, 20.0, 60.0], dtype=torch.float64)
    if row.name.startswith("alpha"):
        reward = torch.expm1((float(row.name[6:-1]) - 1) * logit)
        assert torch.isfinite(reward).all()
    u = logit.exp()
    v = u.clone().requires_grad_()
    (slope,) = torch.autograd.grad(row.f(v).sum(), v)
    torch.testing.assert_close(row.critic(logit), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("row", [KL, Alpha(2.0), NeymanChi2, ReverseKL, Jeffrey], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_saturation_is_smooth(row, dtype):
    """Beyond the knee both halves keep rising, without a jump in value or slope."""
    knee = 0.75 * math.log(torch.finfo(dtype).max)
    for sign in (1, -1):
        logit = sign * knee * torch.tensor([0.999999, 1.000001], dtype=dtype)
        logit = logit.requires_grad_()
        for half in (row.reward, row.penalty):
            value = half(logit)
            (slope,) = torch.autograd.grad(value.sum(), logit)
            assert (slope >= 0).all()
            torch.testing.assert_close(value[0], value[1], rtol=1e-2, atol=1e-6)
            torch.testing.assert_close(slope[0], slope[1], rtol=1e-2, atol=1e-6)


def test_a_known_log_ratio_is_rewarded_exactly():
    assert KL.reward(torch.tensor(1000.0)) == 1000.0
    assert ReverseKL.penalty(torch.tensor(-1000.0)) == -1000.0


@pytest.mark.parametrize("row", SMOOTH, ids=repr)
def test_the_halves_pass_gradcheck(row):
    logit = torch.tensor([-3.0, -0.2, 0.0, 1e-3, 2.0], dtype=torch.float64, requires_grad=True)
    for half in (row.reward, row.penalty, row.activation, row.composite):
        assert torch.autograd.gradcheck(half, logit)
        assert torch.autograd.gradgradcheck(half, logit)


@pytest.mark.parametrize("row", [row for row in ROWS if row is not GAN], ids=repr)
@given(logit=st.floats(-4, 4), size=st.integers(-14, 0))
def test_the_perspective_is_accurate_as_the_ratio_nears_one(row, logit, size):
    mpmath = pytest.importorskip("mpmath")
    small = torch.tensor(logit * 10.0**size, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    p = one * torch.exp(small)
    value = row.perspective(p, one, small, small)
    assert value >= 0
    with mpmath.workdps(60):
        u = mpmath.exp(mpmath.mpf(float(small)))
        expected = float(EXACT(row, u, mpmath))
    if expected > 1e-300 and row not in (TotalVariation, LeCam, Jeffrey):
        assert float(value) == pytest.approx(expected, rel=1e-12)
    elif expected > 1e-300:  # through p − q, whose rounding is that of p
        assert float(value) == pytest.approx(
            expected, rel=1e-15 / max(abs(float(small)), 1e-15) + 1e-12
        )


def EXACT(row, u, m):  # noqa: N802
    if row is KL:
        return u * m.log(u) - u + 1
    if row is ReverseKL:
        return -m.log(u) + u - 1
    if row is JS:
        return u * m.log(u) - (u + 1) * m.log((u + 1) / 2)
    if row is SquaredHellinger:
        return (m.sqrt(u) - 1) ** 2
    if row is PearsonChi2:
        return (u - 1) ** 2
    if row is NeymanChi2:
        return (u - 1) ** 2 / u
    if row is SymmetricChi2:
        return (u - 1) ** 2 * (u + 1) / u
    if row is TotalVariation:
        return abs(u - 1) / 2
    if row is Jeffrey:
        return (u - 1) * m.log(u)
    if row is LeCam:
        return (u - 1) ** 2 / (2 * (u + 1))
    alpha = m.mpf(float(row.name[6:-1]))
    if alpha == 1:
        return u * m.log(u) - u + 1
    if alpha == 0:
        return -m.log(u) + u - 1
    return (u**alpha - 1 - alpha * (u - 1)) / (alpha * (alpha - 1))


def test_alpha_members():
    halves = {
        1.0: (KL, 1.0),
        0.0: (ReverseKL, 1.0),
        2.0: (PearsonChi2, 0.5),
        -1.0: (NeymanChi2, 0.5),
    }
    halves[0.5] = (SquaredHellinger, 2.0)
    for alpha, (row, factor) in halves.items():
        close(Alpha(alpha).reward(LOGITS), factor * row.reward(LOGITS))
        close(Alpha(alpha).penalty(LOGITS), factor * row.penalty(LOGITS))
    for alpha in (1 - 1e-9, 1 + 1e-9):
        close(Alpha(alpha).reward(LOGITS), KL.reward(LOGITS), 1e-6)
    with pytest.raises(ValueError, match="alpha must be finite"):
        Alpha(math.nan)


def test_alpha_gives_renyi_and_tsallis():
    _, step, log_p, log_q = grid(2.0)
    p, q = log_p.exp() * step, log_q.exp() * step
    for alpha, expected in [(0.5, 0.32314355), (2.0, 0.55619643), (1.0, 0.44314718)]:
        row = Alpha(alpha)
        value = row.perspective(p, q, log_p - log_q, log_p + step.log()).sum()
        assert float(renyi_of_alpha(value, alpha)) == pytest.approx(expected, abs=1e-8)
        if alpha != 1:
            affinity = ((alpha * log_p + (1 - alpha) * log_q).exp() * step).sum()
            assert float(tsallis_of_alpha(value, alpha)) == pytest.approx(
                float((affinity - 1) / (alpha - 1)), abs=1e-8
            )


def test_js_and_hellinger_carry_their_scale():
    assert {row: row.scale for row in DIVERGENCES.values() if row.scale != 1} == {
        JS: 0.5,
        SquaredHellinger: 0.5,
    }


def best_score(row):
    """The value at the optimal scores between Bernoulli(.3) and Bernoulli(.6), by search."""
    total = 0.0
    for p, q in [(0.3, 0.6), (0.7, 0.4)]:

        def lost(s, p=p, q=q):
            s = torch.tensor(s, dtype=torch.float64)
            return -float(p * row.reward(s) - q * row.penalty(s))

        total -= minimize_scalar(lost, bounds=(-5, 5), method="bounded").fun
    return total


def test_hinge_and_least_squares_at_their_optimum():
    total_variation = 0.3
    le_cam = 0.5 * (0.09 / 0.9 + 0.09 / 1.1)
    assert best_score(Hinge) == pytest.approx(2 * total_variation - 2, abs=1e-4)
    assert best_score(LeastSquares) == pytest.approx(-(1 - le_cam) / 4, abs=1e-8)


def test_least_squares_labels_of_the_paper():
    """b − c = 1 and b − a = 2: the generator's loss on both samples is ½ χ²(P + Q ‖ 2Q)."""
    row = least_squares(fake=-1.0, real=1.0, target=0.0)
    p, q = torch.tensor([[0.3, 0.7], [0.6, 0.4]], dtype=torch.float64)
    score = (p - q) / (p + q)
    loss = ((p + q) * row.generator(score)).sum()
    chi2 = ((p + q - 2 * q) ** 2 / (p + q)).sum()
    close(loss, chi2 / 2)
    assert named(row.name).name == row.name


def test_critic_rows():
    score = torch.tensor([-2.0, 0.5, 3.0])
    close(WGAN.reward(score) - WGAN.penalty(score), torch.zeros(3))
    close(Hinge.reward(score), torch.tensor([-3.0, -0.5, 0.0]))
    close(Hinge.penalty(score), torch.tensor([0.0, 1.5, 4.0]))
    close(LeastSquares.penalty(score), torch.tensor([2.0, 0.125, 4.5]))
    for row in (WGAN, Hinge):
        close(row.generator(score), -score)
    close(GAN.generator(score), torch.log(1 - torch.sigmoid(score)), 1e-5)


@pytest.mark.parametrize("row", [*ROWS, *CRITICS.values(), least_squares(-1, 1, 0)], ids=repr)
def test_rows_travel(row):
    score = torch.tensor([-0.5, 2.0])
    for other in (pickle.loads(pickle.dumps(row)), copy.deepcopy(row), named(row.name)):
        assert other.name == row.name
        close(other.penalty(score), row.penalty(score))


@pytest.mark.parametrize(
    "name", ["", "kll", "alpha(x)", "alpha()", "alpha", "least squares(1)x", "alpha(inf)"]
)
def test_unknown_names(name):
    with pytest.raises(ValueError, match=r"unknown divergence|could not convert|finite"):
        named(name)


@pytest.mark.parametrize("row", [KL, JS, PearsonChi2, SquaredHellinger, TotalVariation], ids=repr)
def test_a_bare_function_becomes_a_row(row):
    own = from_function(TABLE[row][0])
    away = LOGITS[LOGITS != 0]
    close(own.reward(away), row.critic(away), 1e-8)
    close(own.penalty(away), row.penalty(away) + row.anchor, 1e-8)
    infinite = math.isinf(row.at_infinity[0])
    assert math.isinf(own.at_infinity[0]) == infinite
    if not infinite:
        assert own.at_infinity[0] == pytest.approx(row.at_infinity[0], abs=1e-9)
    with pytest.raises(NotImplementedError, match="penalty"):
        own.conjugate(away)


def test_every_row_is_in_the_table_of_names():
    rows = {
        v for v in vars(family).values() if isinstance(v, family.FDivergence | family.CriticRow)
    }
    assert rows == {*DIVERGENCES.values(), *CRITICS.values()}
