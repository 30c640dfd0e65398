"""Entropic barycentres against POT, normal laws in closed form, and invariances."""

import numpy as np
import ot
import pytest
import torch

from probmetrics.gaussian import bures_barycenter
from probmetrics.transport.barycenter import sinkhorn_barycenter, sinkhorn_barycenter_points

GRID = torch.linspace(-6, 6, 121, dtype=torch.float64)
COST = (GRID[:, None] - GRID).square()


def bump(mean, sd):
    density = (-0.5 * ((GRID - mean) / sd) ** 2).exp()
    return density / density.sum()


def moments(q):
    mean = (q * GRID).sum(-1)
    return mean, ((q * GRID.square()).sum(-1) - mean.square()).sqrt()


P = torch.stack([bump(-2.0, 0.5), bump(1.5, 1.1)])


@pytest.mark.parametrize("repeats", [1, 2])
def test_plain_against_pot(repeats):
    # Weights are repetition. POT's own weights start from an unweighted mean and end elsewhere.
    many = torch.cat([P[:1], P[1:].expand(repeats, -1)])
    theirs = ot.bregman.barycenter(
        many.T.numpy(), COST.numpy(), 0.5, stopThr=1e-12, numItermax=5000
    )
    w = torch.tensor([1.0, repeats]).double() / (1 + repeats)
    ours = sinkhorn_barycenter(P, COST, weights=w, epsilon=0.5, debiased=False, tolerance=1e-10)
    assert ours.converged
    np.testing.assert_allclose(ours.weights.numpy(), theirs, atol=1e-7)


def test_debiased_against_pot():
    theirs = ot.bregman.barycenter_debiased(
        P.T.numpy(), COST.numpy(), 0.5, stopThr=1e-6, numItermax=2000
    )
    ours = sinkhorn_barycenter(P, COST, epsilon=0.5, tolerance=1e-6)
    np.testing.assert_allclose(ours.weights.numpy(), theirs, atol=1e-4)


def test_normal_laws_in_closed_form():
    w = torch.tensor([0.25, 0.75]).double()
    found = sinkhorn_barycenter(P, COST, weights=w, epsilon=0.2, max_steps=5000)
    laws = bures_barycenter(
        torch.tensor([[-2.0], [1.5]]).double(), torch.tensor([[[0.25]], [[1.21]]]).double(),
        weights=w,
    )  # fmt: skip
    mean, sd = moments(found.weights)
    assert mean.item() == pytest.approx(laws.mean.item(), abs=1e-3)
    assert sd.item() == pytest.approx(laws.covariance.sqrt().item(), abs=0.01)
    blurred = sinkhorn_barycenter(P, COST, weights=w, epsilon=0.2, debiased=False)
    assert moments(blurred.weights)[1] > sd + 0.05


def test_one_histogram_is_its_own_debiased_barycentre():
    p = P[:1]
    found = sinkhorn_barycenter(p, COST, epsilon=0.3, tolerance=1e-8, max_steps=5000)
    np.testing.assert_allclose(found.weights.numpy(), p[0].numpy(), atol=1e-4)


def test_batches_kinds_and_dtypes():
    w = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).double()
    both = sinkhorn_barycenter(P, COST, weights=w, epsilon=0.5)
    assert both.weights.shape == (2, 121)
    for k in range(2):
        one = sinkhorn_barycenter(P, COST, weights=w[k], epsilon=0.5)
        torch.testing.assert_close(both.weights[k], one.weights, rtol=1e-2, atol=1e-6)
    array = sinkhorn_barycenter(P.numpy(), COST.numpy(), epsilon=0.5)
    assert isinstance(array.weights, np.ndarray)
    single = sinkhorn_barycenter(P.float(), COST.float(), epsilon=0.5)
    assert single.weights.dtype == torch.float32
    np.testing.assert_allclose(single.weights.numpy(), array.weights, atol=1e-5)
    few = sinkhorn_barycenter(P, COST[:, ::4], epsilon=0.5, debiased=False)
    assert few.weights.shape == (31,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": P[0]}, "p must have shape"),
        ({"p": 2 * P}, "sums to 2"),
        ({"cost": COST[:7]}, "cost must have shape"),
        ({"cost": COST[:, :7]}, "square and symmetric"),
        ({"weights": torch.tensor([1.0, 1.0]).double()}, "weights sums to 2"),
        ({"epsilon": 0.0}, "epsilon must be above zero"),
        ({"epsilon": 1e-30}, "too small"),
        ({"tolerance": -1.0}, "tolerance"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn_barycenter(**{"p": P, "cost": COST, **change})


def test_stopping_short_warns():
    with pytest.warns(RuntimeWarning, match="after 2 steps"):
        found = sinkhorn_barycenter(P, COST, epsilon=0.1, max_steps=2)
    assert not found.converged


def clouds(n=150):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    mix = torch.tensor([[[1.0, 0.3], [0.0, 0.5]], [[0.4, 0.0], [-0.2, 1.3]]]).double()
    return z @ mix.mT + torch.tensor([[[0.0, 3.0]], [[2.0, -1.0]]]).double()


def test_free_points_of_normal_laws():
    x = clouds()
    w = torch.tensor([0.4, 0.6]).double()
    found = sinkhorn_barycenter_points(x, weights=w, epsilon=0.1, tolerance=1e-2, generator=0)
    means, spreads = x.mean(-2), torch.stack([torch.cov(z.T, correction=0) for z in x])
    law = bures_barycenter(means, spreads, weights=w)
    torch.testing.assert_close(found.points.mean(0), law.mean, rtol=0, atol=1e-3)
    torch.testing.assert_close(
        torch.cov(found.points.T, correction=0), law.covariance, rtol=0, atol=0.08
    )
    shrunk = sinkhorn_barycenter_points(
        x, weights=w, epsilon=1.0, debiased=False, tolerance=1e-2, generator=0
    )
    assert torch.cov(shrunk.points.T).trace() < law.covariance.trace() - 0.1


def test_free_points_on_the_line_average_quantiles():
    x = torch.tensor([[[0.0], [1.0], [5.0]], [[4.0], [7.0], [9.0]]]).double()
    options = {"epsilon": 0.2, "tolerance": 1e-3, "generator": 1}
    found = sinkhorn_barycenter_points(x, **options)
    np.testing.assert_allclose(np.sort(found.points.numpy(), 0)[:, 0], [2, 4, 7], atol=0.05)
    moved = sinkhorn_barycenter_points(x + 100, **options)
    torch.testing.assert_close(moved.points, found.points + 100, rtol=0, atol=1e-3)


def test_free_points_of_padded_and_batched_samples():
    x = clouds(20)
    a = torch.ones(2, 20).double()
    a[1, 15:] = 0.0
    a = a / a.sum(-1, keepdim=True)
    other = x.clone()
    other[1, 15:] = 50.0
    start = x[0] + 1.0
    options = {"start": start, "epsilon": 0.3, "tolerance": 1e-2}
    one, two = (sinkhorn_barycenter_points(z, a=a, **options) for z in (x, other))
    torch.testing.assert_close(one.points, two.points, rtol=1e-4, atol=1e-4)
    both = sinkhorn_barycenter_points(torch.stack([x, x + 1]), a=a, **options)
    assert both.points.shape == (2, 20, 2)
    torch.testing.assert_close(both.points[0], one.points, rtol=0, atol=0.1)
    array = sinkhorn_barycenter_points(x.numpy(), size=7, epsilon=0.3, tolerance=0.05, generator=0)
    assert array.points.shape == (7, 2)
    with pytest.raises(ValueError, match="start must have shape"):
        sinkhorn_barycenter_points(x, start=start[:3])


def test_moving_points_take_each_problem_at_its_own_scale():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, 2, generator=generator, dtype=torch.float64)
    start = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    both = sinkhorn_barycenter_points(
        torch.stack([x, 10 * x]), start=torch.stack([start, 10 * start])
    )
    torch.testing.assert_close(both.epsilon[1], 100.0 * both.epsilon[0])
    alone = [sinkhorn_barycenter_points(k * x, start=k * start).points for k in (1, 10)]
    torch.testing.assert_close(both.points, torch.stack(alone), rtol=1e-6, atol=1e-6)


def test_a_small_cost_that_is_not_symmetric_is_refused():
    cost = 1e-7 * torch.tensor([[0.0, 1.0, 2.0], [5.0, 0.0, 1.0], [9.0, 5.0, 0.0]]).double()
    with pytest.raises(ValueError, match="symmetric"):
        sinkhorn_barycenter(torch.full((2, 3), 1 / 3).double(), cost, epsilon=1e-8)
