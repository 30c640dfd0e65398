"""The critic's bound stays below the distance, and comes near it where it is easy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from probmetrics._training import CriticTraining
from probmetrics.transport.dual import MaxMin, _orthogonalise, kantorovich_rubinstein

BRIEF = CriticTraining(steps=50, patience=1, learning_rate=1e-2)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny networks lose time on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def bound_of(x, y, **options):
    options = {"training": BRIEF, "folds": 2, "generator": 0, **options}
    return kantorovich_rubinstein(x, y, **options)


@pytest.mark.parametrize("constraint", ["spectral", "penalty"])
def test_a_shift_is_approached_from_below(constraint):
    shift = torch.tensor([2.0, -1.0, 2.0]).double()
    x, y = draw(600, 3), draw(500, 3, seed=1) + shift
    bound = bound_of(x, y, constraint=constraint)
    assert 2.6 < float(bound) < 3.0 + 3 * float(bound.interval.standard_error)
    assert 0.02 < bound.interval.standard_error < 0.2


def test_a_change_of_scale_is_found():
    # W1 between N(0, 1) and N(0, 4) is √(2/π): the critic is |t|.
    x, y = draw(900, 1), 2 * draw(900, 1, seed=1)
    assert float(bound_of(y, x)) == pytest.approx(math.sqrt(2 / math.pi), abs=0.15)


@pytest.mark.parametrize("constraint", ["spectral", "penalty"])
def test_never_above_the_truth_on_average(constraint):
    # Few points in six dimensions, where W₁ between the samples is far above the truth.
    for mean, truth in ((0.0, 0.0), (0.5, math.sqrt(1.5))):
        values = [
            float(
                bound_of(
                    draw(40, 6, seed=s) + mean,
                    draw(40, 6, seed=s + 99),
                    constraint=constraint,
                    generator=s,
                )
            )
            for s in range(5)
        ]
        noise = np.std(values, ddof=1) / len(values) ** 0.5
        assert np.mean(values) < truth + 2.5 * noise


def test_critics_are_lipschitz_everywhere():
    x, y = draw(200, 2), 2 * draw(200, 2, seed=1)
    bound = bound_of(x, y, lipschitz=2.5)
    z = 20 * draw(300, 2, seed=5)
    for critic in bound.critics:
        rise = (critic(z)[:, None] - critic(z)).abs().detach()
        slopes = rise / torch.cdist(z, z).clamp_min(1e-9)
        assert slopes.max() <= 2.5 * (1 + 1e-9)
        assert slopes.max() > 2.2  # MaxMin keeps slopes long
    assert bound.certified == "everywhere"
    assert "2.5 W1 >=" in repr(bound)


def test_the_constant_scales_and_offsets_cost_no_digits():
    x, y = draw(300, 3), draw(300, 3, seed=1) + 1
    bound = bound_of(y, x)
    assert float(bound_of(y, x, lipschitz=2.0)) == pytest.approx(2 * float(bound), rel=1e-9)
    moved = bound_of(100 * y + 1e6, 100 * x + 1e6)
    assert float(moved) == pytest.approx(100 * float(bound), rel=1e-3)
    single = bound_of((y + 1e4).float(), (x + 1e4).float())
    assert float(single) == pytest.approx(float(bound), rel=0.05)


def test_the_interval_spans_the_scatter():
    values, errors = [], []
    for s in range(8):
        bound = bound_of(draw(120, 2, seed=s), draw(100, 2, seed=s + 50) + 1, generator=s)
        values.append(float(bound))
        errors.append(float(bound.interval.standard_error))
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.6)


def test_own_critics():
    x, y = draw(100, 2), draw(100, 2, seed=1) + 2
    net = nn.Sequential(nn.Linear(2, 16), MaxMin(), nn.Linear(16, 1))
    before = net[0].weight.detach().clone()
    bound = bound_of(y, x, critic=net)
    assert 2.2 < float(bound) < 3.3
    assert torch.equal(net[0].weight, before)
    with pytest.raises(ValueError, match="GELU, whose Lipschitz constant is not known"):
        bound_of(x, y, critic=nn.Sequential(nn.Linear(2, 1), nn.GELU()))
    free = nn.Sequential(nn.Linear(2, 16), nn.GELU(), nn.Linear(16, 1))
    bound = bound_of(y, x, critic=free, constraint="penalty")
    assert 1.0 < float(bound) < 3.3
    assert bound.certified == "held-out"


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (30, 50), (512, 512)])
def test_weights_become_orthogonal_without_ever_expanding(shape):
    linear = nn.Linear(shape[1], shape[0], bias=False, dtype=torch.float64)
    square = torch.linalg.qr(draw(max(shape), max(shape)))[0]
    with torch.no_grad():
        linear.weight.copy_(square[: shape[0], : shape[1]])
        linear.weight.add_(draw(*shape, seed=1) * 0.3 / max(shape) ** 0.5)
    _orthogonalise(linear, steps=8)
    values = torch.linalg.svdvals(linear.weight)
    assert values.max() <= 1 + 1e-9
    assert values.min() > 0.95


def test_seeds_and_kinds():
    x, y = draw(40, 2), draw(30, 2, seed=1)
    state = torch.random.get_rng_state()
    first, again = (bound_of(x, y, generator=3) for _ in range(2))
    assert float(first) == float(again)
    assert torch.equal(state, torch.random.get_rng_state())
    array = bound_of(x.numpy(), y.numpy(), generator=3)
    assert array.value == pytest.approx(float(first))
    assert isinstance(array.value, float)
    assert first.score(x).shape == (40,)
    assert isinstance(first.score(x.numpy()), np.ndarray)
    constant = bound_of(np.ones((8, 2)), np.ones((9, 2)))
    assert constant.value == pytest.approx(0.0, abs=1e-12)
    with torch.no_grad():
        assert float(bound_of(x, y, generator=3)) == float(first)
    line = bound_of(np.arange(20.0), np.arange(20.0) + 5)
    assert 4.0 < line.value < 6.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"constraint": "clip"}, "unknown constraint"),
        ({"lipschitz": 0.0}, "lipschitz must be above zero"),
        ({"level": 1.0}, "level must lie"),
        ({"folds": 1}, "folds must be at least 2"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bound_of(draw(40, 2), draw(30, 2), **options)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (draw(7, 2), draw(9, 2), "x has 7 points and at least 8"),
        (draw(9, 2), draw(9, 3), "points of x have shape"),
        (draw(9, 2) * math.nan, draw(9, 2), "x holds nan"),
    ],
)
def test_bad_samples_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        bound_of(x, y)
