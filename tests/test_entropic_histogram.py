"""Entropic transport between histograms against POT, sample problems, limits and gradients."""

import numpy as np
import ot
import pytest
import torch

from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.transport.exact import earth_mover
from probmetrics.transport.histogram import entropic_earth_mover
from probmetrics.transport.sinkhorn import sinkhorn


def masses(*shape, seed=0):
    w = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (w + 0.1) / (w + 0.1).sum(-1, keepdim=True)


def costs(*shape, seed=3):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("offset", [0.0, -3.0, 1e4])
def test_against_pot(epsilon, offset):
    p, q, c = masses(9), masses(7, seed=1), costs(9, 7)
    plan = ot.sinkhorn(
        p.numpy(), q.numpy(), c.numpy(), epsilon, "sinkhorn_log", stopThr=1e-13, numItermax=50_000
    )
    solved = entropic_earth_mover(p, q, c + offset, epsilon=epsilon, tolerance=1e-11)
    assert solved.converged
    np.testing.assert_allclose(solved.plan().numpy(), plan, atol=1e-8)
    kl = (plan * np.log(plan / np.outer(p, q))).sum()
    expected = (plan * c.numpy()).sum() + epsilon * kl + offset
    assert solved.value.item() == pytest.approx(expected, abs=1e-8)
    assert solved.entropic_value.item() == pytest.approx(expected, abs=1e-8)
    assert solved.cost.item() == pytest.approx((plan * c.numpy()).sum() + offset, abs=1e-6)


def test_a_matrix_of_distances_is_a_sample_problem():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(k, 2, generator=generator, dtype=torch.float64) for k in (600, 700))
    a, b = masses(600), masses(700, seed=1)
    matrix = SqEuclidean()(x, y)
    found = entropic_earth_mover(a, b, matrix, tolerance=1e-9)
    wanted = sinkhorn(x, y, a=a, b=b, tolerance=1e-9, epsilon=float(found.epsilon))
    torch.testing.assert_close(found.value, wanted.value, rtol=1e-9, atol=0)
    v = torch.ones(700, 2).double() * torch.tensor([1.0, 2.0]).double()
    torch.testing.assert_close(found.apply(v), wanted.apply(v), rtol=1e-6, atol=1e-12)
    u = costs(600, 3)
    torch.testing.assert_close(found.apply_transpose(u), found.plan().mT @ u)
    again = entropic_earth_mover(a, b, matrix, tolerance=1e-8, start=found)
    assert again.steps == 1


def test_gradients():
    p, q, c = (z.requires_grad_() for z in (masses(2, 5), masses(4, seed=1), costs(2, 5, 4)))

    def value(p, q, c):
        return entropic_earth_mover(
            p, q, c, epsilon=0.3, tolerance=1e-12, normalize=True, max_steps=5000
        ).value

    assert torch.autograd.gradcheck(value, (p, q, c))
    grad = torch.autograd.grad(value(p, q, c).sum(), c)[0]
    torch.testing.assert_close(grad.sum((-1, -2)), torch.ones(2).double())


def test_batches_equal_their_entries():
    p, q, c = masses(3, 1, 6), masses(2, 5, seed=1), costs(2, 6, 5)
    together = entropic_earth_mover(p, q, c, epsilon=0.1, tolerance=1e-11)
    assert together.value.shape == (3, 2)
    assert together.plan().shape == (3, 2, 6, 5)
    for i in range(3):
        for j in range(2):
            one = entropic_earth_mover(p[i, 0], q[j], c[j], epsilon=0.1, tolerance=1e-11)
            torch.testing.assert_close(together.value[i, j], one.value)
            torch.testing.assert_close(together.plan()[i, j], one.plan())


def test_small_epsilon_tends_to_the_linear_programme():
    p, q, c = masses(20), masses(25, seed=1), costs(20, 25)
    exact = earth_mover(p, q, c)
    gaps = [
        (entropic_earth_mover(p, q, c, epsilon=e, max_steps=5000).cost - exact).item()
        for e in (0.3, 0.03, 0.003)
    ]
    assert gaps[0] > gaps[1] > gaps[2] > -1e-6
    assert gaps[2] < 2e-3


def test_empty_bins_carry_nothing():
    p = torch.tensor([0.0, 0.4, 0.6]).double()
    q, c = masses(4, seed=1), costs(3, 4)
    full = entropic_earth_mover(p, q, c, epsilon=0.1, tolerance=1e-11)
    cut = entropic_earth_mover(p[1:], q, c[1:], epsilon=0.1, tolerance=1e-11)
    torch.testing.assert_close(full.value, cut.value)
    assert (full.plan()[0] == 0).all()
    assert full.f.isfinite().all()


def test_kinds_and_dtypes():
    p, q, c = masses(4), masses(3, seed=1), costs(4, 3)
    wanted = entropic_earth_mover(p, q, c, epsilon=0.1).value
    array = entropic_earth_mover(p.numpy(), q.numpy(), c.numpy(), epsilon=0.1)
    assert array.value == pytest.approx(wanted.item())
    assert isinstance(array.plan(), np.ndarray)
    single = entropic_earth_mover(p.float(), q.float(), c.float(), epsilon=0.1)
    assert single.value.dtype == torch.float32
    torch.testing.assert_close(single.value.double(), wanted, rtol=1e-5, atol=1e-6)
    counts = entropic_earth_mover([1, 3], [2, 2], [[0, 1], [1, 0]], normalize=True, epsilon=0.01)
    assert counts.cost == pytest.approx(0.25, abs=1e-6)
    one = entropic_earth_mover([1.0], [1.0], [[5.0]])
    assert one.value == pytest.approx(5.0)
    with pytest.raises(ValueError, match="no coordinates"):
        array.map()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": [0.5, 0.6]}, "p sums to 1.1"),
        ({"p": [1.5, -0.5]}, "negative entries"),
        ({"cost": [[0.0, 1.0]]}, "cost must have shape"),
        ({"cost": [[0.0, np.nan], [1.0, 0.0]]}, "cost holds nan"),
        ({"epsilon": 0.0}, "epsilon must be above zero"),
        ({"epsilon": 1e-30}, "smallest safe value"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"p": [0.5, 0.5], "q": [0.5, 0.5], "cost": [[0.0, 1.0], [1.0, 0.0]], **change}
    with pytest.raises(ValueError, match=message):
        entropic_earth_mover(**given)


def test_stopping_short_warns():
    with pytest.warns(RuntimeWarning, match="after 1 passes"):
        solved = entropic_earth_mover(
            masses(9), masses(7, seed=1), costs(9, 7), epsilon=0.02, tolerance=1e-12, max_steps=1
        )
    assert not solved.converged


@pytest.mark.parametrize("epsilon", [0.02, 0.011, 0.01, 0.009, 0.003])
def test_two_bins_far_apart_converge(epsilon):
    solved = entropic_earth_mover([0.5, 0.5], [0.25, 0.75], [[0, 1], [1, 0]], epsilon=epsilon)
    assert solved.converged
    np.testing.assert_allclose(solved.plan().sum(0), [0.25, 0.75], atol=1e-6)
    np.testing.assert_allclose(solved.plan().sum(1), [0.5, 0.5], atol=1e-6)
