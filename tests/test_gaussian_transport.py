"""Transport maps, barycentres and entropic transport between Gaussians."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch.autograd import gradcheck

from probmetrics.gaussian import (
    bures_barycenter,
    gaussian_frechet,
    gaussian_sinkhorn,
    gaussian_sinkhorn_divergence,
    gaussian_transport_map,
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def covariance(*shape, seed=0):
    root = normal(*shape, seed=seed)
    return root @ root.mT


class TestTransportMap:
    @pytest.mark.parametrize("d", [1, 2, 6])
    def test_pushes_forward_and_is_a_gradient_of_a_convex_function(self, d):
        mean_x, cov_x = normal(d), covariance(3, d, d)
        mean_y, cov_y = normal(d, seed=1), covariance(d, d, seed=1)
        matrix, offset = gaussian_transport_map(mean_x, cov_x, mean_y, cov_y)
        torch.testing.assert_close(matrix @ cov_x @ matrix.mT, cov_y.expand(3, d, d))
        torch.testing.assert_close(matrix, matrix.mT)
        assert (torch.linalg.eigvalsh(matrix) > 0).all()
        moved = (matrix @ mean_x[:, None])[..., 0] + offset
        torch.testing.assert_close(moved, mean_y.expand(3, d))

    def test_its_cost_is_the_frechet_distance(self):
        mean_x, cov_x, mean_y, cov_y = (
            normal(3),
            covariance(3, 3),
            normal(3, seed=1),
            covariance(3, 3, seed=1),
        )
        matrix, _ = gaussian_transport_map(mean_x, cov_x, mean_y, cov_y)
        still = torch.eye(3).double() - matrix
        cost = (mean_x - mean_y).square().sum() + (still @ cov_x @ still.mT).trace()
        torch.testing.assert_close(cost, gaussian_frechet(mean_x, cov_x, mean_y, cov_y))

    def test_ill_conditioned(self):
        rotation = torch.linalg.qr(normal(6, 6))[0]
        spread = torch.logspace(0, -9, 6, dtype=torch.float64)
        cov_x, cov_y = (rotation * spread) @ rotation.mT, covariance(6, 6, seed=1)
        mean = torch.zeros(6).double()
        matrix, _ = gaussian_transport_map(mean, cov_x, mean, cov_y)
        torch.testing.assert_close(matrix @ cov_x @ matrix.mT, cov_y, rtol=1e-5, atol=1e-6)

    def test_called_on_points(self):
        x = normal(2000, 2)
        args = (np.zeros(2), np.eye(2), np.ones(2), np.array([[2.0, 1.0], [1.0, 3.0]]))
        matrix, offset = push = gaussian_transport_map(*args)
        assert isinstance(matrix, np.ndarray)
        np.testing.assert_allclose(push(x.numpy()), x.numpy() @ matrix.T + offset)
        tensors = gaussian_transport_map(*(torch.from_numpy(part) for part in args))
        torch.testing.assert_close(tensors(x), torch.from_numpy(push(x.numpy())))

    def test_gradcheck(self):
        def affine(mean_x, root_x, mean_y, root_y):
            return tuple(
                gaussian_transport_map(mean_x, root_x @ root_x.mT, mean_y, root_y @ root_y.mT)
            )

        inputs = (normal(3), normal(2, 3, 3), normal(3, seed=1), normal(3, 3, seed=1))
        assert gradcheck(affine, [t.requires_grad_() for t in inputs])
        eye = torch.eye(3, dtype=torch.float64)  # all singular values equal
        assert gradcheck(
            lambda root: gaussian_transport_map(
                inputs[0][:0].new_zeros(3), root @ root.mT, eye[0], eye
            ),
            [eye.clone().requires_grad_()],
        )

    def test_singular(self):
        mean = torch.zeros(3).double()
        flat = torch.diag(torch.tensor([1.0, 4.0, 0.0]).double())
        tilted = normal(3, 2)
        matrix, _ = gaussian_transport_map(mean, flat, mean, tilted @ tilted.mT)
        torch.testing.assert_close(matrix @ flat @ matrix.mT, tilted @ tilted.mT)
        with pytest.raises(ValueError, match="cov_x is singular"):
            gaussian_transport_map(mean, flat.requires_grad_(), mean, torch.eye(3).double())

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(
        ("d", "rank_x", "rank_y"), [(5, 2, 2), (5, 3, 1), (6, 5, 5), (4, 4, 2)]
    )
    def test_pushes_forward_where_no_rank_is_missing(self, d, rank_x, rank_y, seed):
        mean, roots = torch.zeros(d).double(), normal(3, 1, d, rank_x, seed=seed)
        if rank_x < d:
            roots[0, 0, :, -1] = 0.0  # ranks may differ within a batch
            rank_y = min(rank_y, rank_x - 1)
        tilted = normal(2, d, rank_y, seed=seed + 9)
        cov_x, cov_y = roots @ roots.mT, tilted @ tilted.mT
        matrix, _ = gaussian_transport_map(mean, cov_x, mean, cov_y)
        torch.testing.assert_close(matrix @ cov_x @ matrix.mT, cov_y.expand(3, 2, d, d))
        cost = (cov_x + cov_y - 2 * matrix @ cov_x).diagonal(dim1=-2, dim2=-1).sum(-1)
        torch.testing.assert_close(cost, gaussian_frechet(mean, cov_x, mean, cov_y))
        range_x = roots @ torch.linalg.pinv(roots)
        within = range_x @ matrix @ range_x
        torch.testing.assert_close(within, within.mT)
        assert (torch.linalg.eigvalsh(within) > -1e-9).all()
        torch.testing.assert_close(matrix @ range_x, matrix)

    def test_orthogonal_ranges(self):
        mean, left, right = np.zeros(3), np.diag([1.0, 4.0, 0.0]), np.diag([0.0, 0.0, 9.0])
        matrix, _ = gaussian_transport_map(mean, left, mean, right)
        np.testing.assert_allclose(matrix @ left @ matrix.T, right, atol=1e-12)

    def test_a_spread_that_is_tiny_is_no_spread_that_is_missing(self):
        mean, flat = np.zeros(2), np.diag([1.0, 1e-40])
        matrix, _ = gaussian_transport_map(mean, flat, mean, np.eye(2))
        np.testing.assert_allclose(matrix @ flat @ matrix.T, np.eye(2), rtol=1e-12)

    def test_warns_where_a_rank_is_missing(self):
        mean, flat = np.zeros((2, 3)), np.stack([np.diag([1.0, 4.0, 0.0]), np.eye(3)])
        with pytest.warns(UserWarning, match="cov_y has a higher rank than cov_x"):
            matrix, _ = gaussian_transport_map(mean, flat, mean, np.eye(3))
        np.testing.assert_allclose(matrix, [np.diag([1.0, 0.5, 0.0]), np.eye(3)], atol=1e-12)


class TestBarycenter:
    def test_on_the_line_and_for_commuting_covariances(self):
        spreads = normal(4, 3).exp()
        weights = normal(4, seed=1).softmax(-1)
        means = normal(4, 3, seed=2)
        result = bures_barycenter(means, torch.diag_embed(spreads**2), weights)
        assert result.converged
        torch.testing.assert_close(result.mean, weights @ means)
        torch.testing.assert_close(result.covariance, torch.diag((weights @ spreads) ** 2))

    def test_between_two_it_lies_on_the_geodesic(self):
        covs, mean, eye = covariance(2, 3, 3), torch.zeros(2, 3).double(), torch.eye(3).double()
        matrix, _ = gaussian_transport_map(mean[0], covs[0], mean[1], covs[1])
        half_way = 0.3 * matrix + 0.7 * eye
        result = bures_barycenter(mean, covs, torch.tensor([0.7, 0.3]).double())
        torch.testing.assert_close(result.covariance, half_way @ covs[0] @ half_way)

    def test_is_least(self):
        means, covs = normal(2, 5, 3), covariance(2, 5, 3, 3)
        result = bures_barycenter(means, covs)
        assert result.converged
        assert result.residual <= 1e-10

        def objective(mean, cov):
            return gaussian_frechet(mean[:, None], cov[:, None], means, covs).mean(-1)

        least = objective(result.mean, result.covariance)
        for seed in range(4):
            nudge = 1e-3 * normal(2, 3, 3, seed=seed)
            assert (objective(result.mean, result.covariance + nudge @ nudge.mT) > least).all()
            assert (objective(result.mean + nudge[:, 0], result.covariance) > least).all()
        one = bures_barycenter(means[1], covs[1])
        torch.testing.assert_close(one.covariance, result.covariance[1], rtol=1e-8, atol=1e-9)

    def test_gradcheck(self):
        def barycenter(means, roots, logits):
            result = bures_barycenter(means, roots @ roots.mT, logits.softmax(-1), tolerance=1e-13)
            return result.mean, result.covariance

        inputs = (normal(3, 2), normal(3, 2, 2, seed=1), normal(3, seed=2))
        assert gradcheck(
            barycenter, [t.requires_grad_() for t in inputs], check_undefined_grad=False
        )

    def test_singular_numpy_and_float32(self):
        flat = np.stack([np.diag([1.0, 4.0, 0.0]), np.diag([9.0, 0.0, 0.0])])
        result = bures_barycenter(np.zeros((2, 3)), flat)
        np.testing.assert_allclose(result.covariance, np.diag([4.0, 1.0, 0.0]), atol=1e-7)
        single = bures_barycenter(torch.zeros(2, 3), torch.from_numpy(flat).float() + torch.eye(3))
        assert single.covariance.dtype == torch.float32
        assert single.converged

    def test_says_when_it_did_not_converge(self):
        with pytest.warns(UserWarning, match="stopped after 1 steps"):
            result = bures_barycenter(normal(3, 2), covariance(3, 2, 2), max_steps=1)
        assert not result.converged
        assert result.residual > 1e-10

    def test_bad_input(self):
        with pytest.raises(ValueError, match="means must have shape"):
            bures_barycenter(normal(3), covariance(3, 3))
        with pytest.raises(ValueError, match="both numbers must agree"):
            bures_barycenter(normal(2, 3), covariance(4, 3, 3))
        with pytest.raises(ValueError, match="weights sums to"):
            bures_barycenter(normal(2, 3), covariance(2, 3, 3), torch.ones(2))
        with pytest.raises(ValueError, match="covs is not positive semi-definite"):
            bures_barycenter(normal(2, 2), -covariance(2, 2, 2))
        with pytest.raises(ValueError, match="covs is singular"):
            bures_barycenter(normal(2, 2), torch.zeros(2, 2, 2).requires_grad_())
        with pytest.raises(ValueError, match="at least one law"):
            bures_barycenter(normal(0, 2), covariance(0, 2, 2))

    @pytest.mark.parametrize("gradient", [False, True])
    def test_an_empty_batch_has_an_empty_answer(self, gradient):
        covs = covariance(0, 2, 3, 3).requires_grad_(gradient)
        result = bures_barycenter(normal(0, 2, 3), covs)
        assert result.mean.shape == (0, 3)
        assert result.covariance.shape == (0, 3, 3)
        assert result.converged
        if gradient:
            result.covariance.sum().backward()
            assert covs.grad.shape == covs.shape


def discretised(mean, sd, epsilon):
    """Entropic transport from N(0, 1) to N(mean, sd²) on a fine grid, by the dual."""
    grid = np.linspace(-16, 18, 500)
    log_a, log_b = -(grid**2) / 2, -((grid - mean) ** 2) / (2 * sd**2)
    log_a, log_b = log_a - logsumexp(log_a), log_b - logsumexp(log_b)
    kernel = -((grid[:, None] - grid) ** 2) / epsilon
    f = g = np.zeros_like(grid)
    for _ in range(1000):
        before, f = f, -epsilon * logsumexp(kernel + g / epsilon + log_b, axis=1)
        g = -epsilon * logsumexp(kernel.T + f / epsilon + log_a, axis=1)
        if np.abs(f - before).max() < 1e-10:
            break
    return np.exp(log_a) @ f + np.exp(log_b) @ g


class TestEntropic:
    @pytest.mark.parametrize(("mean", "sd", "epsilon"), [(1.0, 2.0, 2.0), (-0.5, 0.5, 8.0)])
    def test_agrees_with_sinkhorn_on_a_grid(self, mean, sd, epsilon):
        one = np.eye(1)
        args = (np.zeros(1), one, np.array([mean]), sd**2 * one)
        expected = discretised(mean, sd, epsilon)
        assert gaussian_sinkhorn(*args, epsilon=epsilon) == pytest.approx(expected, rel=1e-8)

    def test_agrees_with_pot(self):
        import ot

        grid = np.linspace(-6, 8, 400)
        a, b = np.exp(-(grid**2) / 2), np.exp(-((grid - 1) ** 2) / 2)
        a, b = a / a.sum(), b / b.sum()
        cost, epsilon = (grid[:, None] - grid) ** 2, 3.0
        plan = ot.sinkhorn(a, b, cost, epsilon, stopThr=1e-12)
        kl = np.sum(plan * np.log(np.maximum(plan, 1e-300) / np.outer(a, b)))
        one = np.eye(1)
        value = gaussian_sinkhorn(np.zeros(1), one, np.ones(1), one, epsilon=epsilon)
        assert value == pytest.approx(np.sum(plan * cost) + epsilon * kl, rel=1e-6)

    def test_debiased_from_its_parts(self):
        x, y = (normal(3), covariance(3, 3)), (normal(3, seed=1), covariance(3, 3, seed=1))
        expected = gaussian_sinkhorn(*x, *y, epsilon=0.7) - 0.5 * (
            gaussian_sinkhorn(*x, *x, epsilon=0.7) + gaussian_sinkhorn(*y, *y, epsilon=0.7)
        )
        torch.testing.assert_close(gaussian_sinkhorn_divergence(*x, *y, epsilon=0.7), expected)
        assert gaussian_sinkhorn_divergence(*x, *x, epsilon=0.7).abs() < 1e-13

    def test_limits(self):
        mean_x, cov_x, mean_y, cov_y = (
            normal(3),
            covariance(3, 3),
            normal(3, seed=1),
            covariance(3, 3, seed=1),
        )
        args = (mean_x, cov_x, mean_y, cov_y)
        frechet, gap = gaussian_frechet(*args), (mean_x - mean_y).square().sum()
        for function in (gaussian_sinkhorn, gaussian_sinkhorn_divergence):
            small = function(*args, epsilon=1e-9)
            torch.testing.assert_close(small, frechet, rtol=1e-6, atol=0)
        independent = gap + cov_x.trace() + cov_y.trace()
        torch.testing.assert_close(gaussian_sinkhorn(*args, epsilon=1e12), independent)
        torch.testing.assert_close(gaussian_sinkhorn_divergence(*args, epsilon=1e12), gap)

    @pytest.mark.parametrize("function", [gaussian_sinkhorn, gaussian_sinkhorn_divergence])
    @pytest.mark.parametrize("rank", [2, 3])
    def test_gradcheck_batches_and_numpy(self, function, rank):
        def value(mean_x, root_x, mean_y, root_y):
            return function(mean_x, root_x @ root_x.mT, mean_y, root_y @ root_y.mT, epsilon=0.8)

        inputs = (normal(3), normal(2, 3, rank), normal(2, 3, seed=1), normal(3, rank, seed=1))
        assert gradcheck(
            value, [t.requires_grad_() for t in inputs], eps=1e-5 if rank == 2 else 1e-6, atol=1e-5
        )
        mean_x, root_x, mean_y, root_y = (t.detach() for t in inputs)
        batched = value(mean_x, root_x, mean_y, root_y)
        for i in range(2):
            one = value(mean_x, root_x[i], mean_y[i], root_y)
            torch.testing.assert_close(batched[i], one)
        cov_x, cov_y = root_x[0] @ root_x[0].mT, root_y @ root_y.mT
        as_numpy = [t.numpy() for t in (mean_x, cov_x, mean_y[0], cov_y)]
        assert function(*as_numpy, epsilon=0.8) == pytest.approx(batched[0].item())

    def test_bad_input(self):
        mean, eye = np.zeros(1), np.eye(1)
        with pytest.raises(ValueError, match="epsilon must be above zero"):
            gaussian_sinkhorn(mean, eye, mean, eye, epsilon=0.0)
        with pytest.raises(ValueError, match="cov_y is not positive semi-definite"):
            gaussian_sinkhorn_divergence(mean, eye, mean, -eye, epsilon=1.0)
