"""Moments that merge, and the Fréchet distance on samples and from statistics."""

import numpy as np
import pytest
import scipy.linalg
import torch
from catalog import ESTIMATORS
from torch.autograd import gradcheck

from probmetrics.gaussian import (
    Moments,
    bures_distance,
    frechet,
    frechet_distance,
    gaussian_frechet,
    spectrum,
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_sqrtm(x, y):
    """The textbook formula."""
    x, y = np.asarray(x), np.asarray(y)
    cov_x, cov_y = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = scipy.linalg.sqrtm(cov_x @ cov_y)
    gap = x.mean(0) - y.mean(0)
    return gap @ gap + np.trace(cov_x) + np.trace(cov_y) - 2 * np.trace(root).real


def by_svd(x, y):
    """The nuclear norm of the rows' overlap: right where the matrix root loses its digits."""
    x, y = np.asarray(x), np.asarray(y)
    gap = x.mean(0) - y.mean(0)
    x = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    y = (y - y.mean(0)) / np.sqrt(len(y) - 1)
    overlap = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return gap @ gap + (x**2).sum() + (y**2).sum() - 2 * overlap


SMALL = [(5, 6, 2), (3, 4, 5), (3, 6, 4), (4, 4, 4), (5, 5, 4), (2, 2, 1)]
SHAPES = [(40, 30, 5), (6, 9, 20), (6, 40, 8), (8, 8, 8), (9, 9, 8), (2, 2, 1), (3, 25, 2)]


class TestMoments:
    def test_agree_with_numpy(self):
        x = normal(50, 4).numpy()
        state = Moments.of(x)
        np.testing.assert_allclose(state.mean, x.mean(0), rtol=1e-13)
        np.testing.assert_allclose(state.covariance(), np.cov(x.T), rtol=1e-12)
        np.testing.assert_allclose(state.covariance(ddof=0), np.cov(x.T, ddof=0), rtol=1e-12)
        assert isinstance(state.covariance(), np.ndarray)
        assert state.weight == 50 == state.effective_size

    @pytest.mark.parametrize("offset", [0.0, 1e7])
    def test_merged_is_one_shot(self, offset):
        x = normal(300, 3) + offset
        whole, state = Moments.of(x), Moments.zero(3)
        for batch in x.split([1, 99, 7, 193]):
            state = state.merge(Moments.of(batch))
        assert state.weight == 300
        torch.testing.assert_close(state.mean, whole.mean, rtol=1e-15, atol=1e-13 * (1 + offset))
        truth = torch.from_numpy(np.cov((x - offset).T.numpy()))
        tolerance = 1e-13 + 1e-15 * offset
        torch.testing.assert_close(state.covariance(), truth, rtol=0, atol=tolerance)
        torch.testing.assert_close(whole.covariance(), truth, rtol=0, atol=tolerance)

    def test_merging_commutes_associates_and_has_a_zero(self):
        parts = [Moments.of(normal(n, 2, seed=n)) for n in (3, 5, 8)]
        first, second, third = parts
        pairs = [
            (first.merge(second), second.merge(first)),
            (first.merge(second).merge(third), first.merge(second.merge(third))),
            (first.merge(Moments.zero(2)), first),
            (Moments.zero(2).merge(first), first),
            (Moments.zero(2).merge(Moments.zero(2)), Moments.zero(2)),
        ]
        for left, right in pairs:
            for name in ("weight", "squares", "mean", "scatter"):
                torch.testing.assert_close(
                    getattr(left, name), getattr(right, name), rtol=1e-13, atol=1e-14
                )

    def test_weights(self):
        x, a = normal(6, 2), torch.tensor([1.0, 2, 0, 3, 1, 1], dtype=torch.float64)
        state, repeated = Moments.of(x, a), Moments.of(x.repeat_interleave(a.long(), 0))
        torch.testing.assert_close(state.mean, repeated.mean)
        torch.testing.assert_close(state.scatter, repeated.scatter)
        reliability = np.cov(x.T.numpy(), aweights=a.numpy())
        np.testing.assert_allclose(state.covariance().numpy(), reliability, rtol=1e-12)
        scaled = Moments.of(x, a / a.sum())
        torch.testing.assert_close(scaled.covariance(), state.covariance())
        split = Moments.of(x[:2], a[:2]).merge(Moments.of(x[2:], a[2:]))
        torch.testing.assert_close(split.covariance(), state.covariance())
        assert state.effective_size == pytest.approx(64 / 16)

    def test_batched_is_looped_and_float32_is_summed_in_float64(self):
        x = normal(3, 10, 2, dtype=torch.float32) + 1e4
        state = Moments.of(x).merge(Moments.of(x[:, :4]))
        assert state.scatter.dtype == torch.float64
        assert state.weight.shape == (3,)
        for i in range(3):
            one = Moments.of(x[i]).merge(Moments.of(x[i, :4]))
            torch.testing.assert_close(state.covariance()[i], one.covariance())

    @pytest.mark.parametrize("value", [0.1, 1e7 + 0.1, 1 / 3])
    def test_a_constant_coordinate_has_no_variance_at_all(self, value):
        for n in (3, 7, 1000):
            a = normal(n, seed=1).softmax(-1)
            x = torch.cat([normal(n, 1), torch.full((n, 1), value).double()], -1)
            assert (Moments.of(x, a).scatter[1] == 0).all()
            assert (Moments.of(x).scatter[1] == 0).all()

    def test_numpy_state_keeps_merging(self):
        x = normal(20, 3).numpy()
        state = Moments.of(x[:5]).merge(Moments.of(x[5:]))
        np.testing.assert_allclose(state.covariance(), np.cov(x.T))
        batched = Moments.of(x[None, :5]).merge(Moments.of(x[None, 5:]))
        np.testing.assert_allclose(batched.covariance()[0], np.cov(x.T))
        assert batched.effective_size.shape == (1,)

    def test_gradcheck(self):
        def merged(x, y, a):
            state = Moments.of(x, a.exp()).merge(Moments.of(y))
            return state.mean, state.covariance()

        inputs = [t.requires_grad_() for t in (normal(4, 2), normal(3, 2, seed=1), normal(4))]
        assert gradcheck(merged, inputs)

    def test_bad_input(self):
        x = normal(4, 2)
        with pytest.raises(ValueError, match="one mass per row"):
            Moments.of(x, torch.ones(3))
        with pytest.raises(ValueError, match="negative masses"):
            Moments.of(x, torch.tensor([1.0, -1, 1, 1]))
        with pytest.raises(ValueError, match="at least one mass"):
            Moments.of(x, torch.zeros(4))
        with pytest.raises(ValueError, match="row 1, column 0"):
            Moments.of(torch.tensor([[1.0], [float("nan")]]))
        with pytest.raises(ValueError, match="ddof=1 needs more than 1"):
            Moments.of(x[:1]).covariance()
        with pytest.raises(ValueError, match="cannot merge"):
            Moments.of(x).merge(Moments.zero(3))
        assert "d=2" in repr(Moments.of(x))


class TestFrechetDistance:
    @pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 5), (12, 9, 8), (500, 400, 30)])
    def test_agrees_with_scipy_full_rank(self, n, m, d):
        x, y = normal(n, d), 1 + 2 * normal(m, d, seed=1)
        assert frechet_distance(x, y).item() == pytest.approx(by_sqrtm(x, y), rel=1e-10)

    @pytest.mark.parametrize(("n", "m", "d"), SHAPES)
    def test_agrees_with_the_overlap_of_rows(self, n, m, d):
        x, y = normal(n, d), 1 + 2 * normal(m, d, seed=1)
        assert frechet_distance(x, y).item() == pytest.approx(by_svd(x, y), rel=1e-12)

    def test_on_the_line(self):
        x, y = normal(20), 3 + 2 * normal(30, seed=1)
        gap = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
        torch.testing.assert_close(frechet_distance(x[:, None], y[:, None]), gap)
        assert frechet_distance(x.numpy(), y.numpy()) == pytest.approx(gap.item())
        assert frechet_distance(x[:, None], y[:, None], root=True) == pytest.approx(gap**0.5)

    @pytest.mark.parametrize("offset", [0.0, 1e7])
    def test_singular_covariances(self, offset):
        x, y = normal(40, 6), 2 * normal(30, 6, seed=1)
        x[:, 1], y[:, 1] = 3.0, 5.0  # constant in both
        x[:, 2] = -1.0  # constant in one
        x[:, 4] = x[:, 3]  # a copy in one
        x[:, 5] = y[:, 5].mean()
        assert frechet_distance(x + offset, y + offset).item() == pytest.approx(
            by_svd(x, y), rel=1e-7
        )

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_scales_may_differ_between_features(self, scale):
        x, y = normal(40, 3), normal(30, 3, seed=1) * 2
        x[:, 0], y[:, 0] = x[:, 0] * scale, y[:, 0] * scale
        assert frechet_distance(x, y).item() == pytest.approx(by_svd(x, y), rel=1e-10)

    @pytest.mark.parametrize(("n", "d"), [(30, 4), (5, 12), (5, 5)])
    def test_offset_costs_no_digits(self, n, d):
        x, y = normal(n, d), normal(n + 1, d, seed=1)
        grid = 2.0**-20  # so that adding the offset is exact
        x, y = (x / grid).round() * grid, (y / grid).round() * grid
        here, there = frechet_distance(x, y), frechet_distance(x + 2.0**24, y + 2.0**24)
        torch.testing.assert_close(there, here, rtol=1e-12, atol=0)

    @pytest.mark.parametrize(("n", "m", "d"), SHAPES)
    def test_zero_with_zero_gradient_at_equality(self, n, m, d):
        x = normal(n, d).requires_grad_()
        value = frechet_distance(x, x.detach().clone())
        (gradient,) = torch.autograd.grad(value, x)
        assert abs(value.item()) < 1e-13 * (1 + x.square().sum().item())
        assert gradient.abs().max() < 1e-12
        root = frechet_distance(x, x.detach(), root=True)
        (gradient,) = torch.autograd.grad(root, x)
        assert root >= 0
        assert gradient.isfinite().all()

    @pytest.mark.parametrize(("n", "d"), [(40, 5), (6, 20), (6, 5)])
    def test_nearly_equal_samples_keep_their_digits(self, n, d):
        x = normal(n, d)
        still = x - x.mean(0)
        for share in (1e-3, 1e-6, 1e-8):
            value = frechet_distance(x, x + share * still, root=True)
            exact = share * (still.square().sum() / (n - 1)).sqrt()
            assert value.item() == pytest.approx(exact.item(), rel=2e-14 / share)
        assert frechet_distance(x, x.clone()) == 0

    @pytest.mark.parametrize("root", [False, True])
    @pytest.mark.parametrize(("n", "m", "d"), SMALL)
    def test_gradcheck(self, n, m, d, root):
        x = normal(n, d).requires_grad_()
        y = (1 + normal(m, d, seed=1)).requires_grad_()
        assert gradcheck(lambda x, y: frechet_distance(x, y, root=root), (x, y))

    @pytest.mark.parametrize(("n", "m", "d"), [(7, 6, 3), (4, 5, 6)])
    def test_gradcheck_in_weights(self, n, m, d):
        x, y = normal(n, d), normal(m, d, seed=1)
        a, b = normal(n, seed=2).requires_grad_(), normal(m, seed=3).requires_grad_()

        def of_weights(a, b):
            return frechet_distance(x, y, a=a.softmax(-1), b=b.softmax(-1))

        assert gradcheck(of_weights, (a, b))

    def test_gradcheck_at_a_zero_weight(self):
        x, y = normal(7, 2).requires_grad_(), normal(6, 2, seed=1)
        a = torch.tensor([0.2, 0, 0.2, 0.1, 0.1, 0.2, 0.2], dtype=torch.float64)
        value = frechet_distance(x, y, a=a)
        kept = a > 0
        torch.testing.assert_close(value, frechet_distance(x[kept], y, a=a[kept]))
        (gradient,) = torch.autograd.grad(value, x)
        torch.testing.assert_close(gradient[1], torch.zeros(2, dtype=torch.float64))
        wide = normal(4, 6).requires_grad_()
        weights = torch.tensor([0.5, 0.0, 0.25, 0.25], dtype=torch.float64, requires_grad=True)
        value = frechet_distance(wide, normal(5, 6, seed=1), a=weights)
        assert all(g.isfinite().all() for g in torch.autograd.grad(value, (wide, weights)))

    def test_gradcheck_at_singular_covariances(self):
        x, y = normal(9, 4), 1 + normal(8, 4, seed=1)
        x[:, 1], y[:, 1] = 1.0, 2.0
        x[:, 3] = x[:, 0]
        # Finite differences are taken far enough out that their own square roots have digits.
        inputs = (x.requires_grad_(), y.requires_grad_())
        assert gradcheck(frechet_distance, inputs, eps=1e-4, atol=1e-5)

    @pytest.mark.parametrize("d", [2, 9])
    def test_a_far_point_without_weight_costs_no_digits(self, d):
        x, y = normal(7, d), normal(6, d, seed=1)
        a = torch.tensor([0.0, 0.2, 0.2, 0.1, 0.1, 0.2, 0.2], dtype=torch.float64)
        expected = frechet_distance(x[1:], y, a=a[1:])
        x[0] = 1e12
        torch.testing.assert_close(frechet_distance(x, y, a=a), expected, rtol=1e-12, atol=0)

    def test_rows_are_rotated_into_the_dimensions_they_span(self):
        a = normal(5, seed=2).softmax(-1)
        rows = normal(5, 8)
        rows = rows - a @ rows
        rotated = frechet._rotated_rows(rows, a)
        assert rotated.shape == (4, 8)
        torch.testing.assert_close(rotated.T @ rotated, (rows * a[:, None]).T @ rows)

    def test_weights_are_reliability_weights(self):
        x, y = normal(8, 2), normal(9, 2, seed=1)
        a = normal(8, seed=2).softmax(-1)
        expected = gaussian_frechet(
            a @ x,
            torch.from_numpy(np.cov(x.T.numpy(), aweights=a.numpy())),
            y.mean(0),
            torch.from_numpy(np.cov(y.T.numpy())),
        )
        torch.testing.assert_close(frechet_distance(x, y, a=a), expected)
        uniform = torch.full((8,), 1 / 8, dtype=torch.float64)
        torch.testing.assert_close(frechet_distance(x, y, a=uniform), frechet_distance(x, y))

    @pytest.mark.parametrize(("n", "d"), [(9, 3), (4, 7)])
    def test_batched_is_looped(self, n, d):
        x, y = normal(2, 1, n, d), normal(3, n + 1, d, seed=1)
        x[0, 0, :, 0] = 2.0  # one entry singular, the others not
        values = frechet_distance(x, y)
        assert values.shape == (2, 3)
        for i in range(2):
            for j in range(3):
                torch.testing.assert_close(values[i, j], frechet_distance(x[i, 0], y[j]))

    def test_invariances(self):
        x, y = normal(12, 5), normal(9, 5, seed=1) + 1
        value = frechet_distance(x, y)
        torch.testing.assert_close(frechet_distance(y, x), value)
        torch.testing.assert_close(frechet_distance(x.flip(0), y), value)
        torch.testing.assert_close(frechet_distance(3 * x, 3 * y), 9 * value)
        rotation = torch.linalg.qr(normal(5, 5, seed=2))[0]
        torch.testing.assert_close(frechet_distance(x @ rotation, y @ rotation), value)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_keeps_the_dtype(self, dtype):
        x, y = normal(30, 3).to(dtype), (2 * normal(20, 3, seed=1)).to(dtype)
        value = frechet_distance(x, y)
        assert value.dtype == dtype
        expected = frechet_distance(x.double(), y.double())
        torch.testing.assert_close(value, expected.to(dtype))

    @pytest.mark.parametrize("decay", [1.0, 6.0])
    @pytest.mark.parametrize("n", [700, 260])
    def test_large_path_agrees_with_the_small_one(self, n, decay, monkeypatch):
        d = 280
        spread = torch.logspace(0, -decay, d, dtype=torch.float64)
        x = (normal(n, d) * spread).requires_grad_()
        y = ((1 + normal(n, d, seed=1)) * spread).requires_grad_()
        with torch.no_grad():
            value_alone = frechet_distance(x, y)
        value = frechet_distance(x, y)
        gradients = torch.autograd.grad(value, (x, y))
        monkeypatch.setattr(spectrum, "_SMALL", 10**6)
        expected = frechet_distance(x, y)
        scale = x.detach().var(0).sum().item()
        assert value.item() == pytest.approx(expected.item(), abs=1e-13 * n * scale)
        assert value_alone.item() == pytest.approx(expected.item(), abs=1e-9 * scale)
        for ours, theirs in zip(gradients, torch.autograd.grad(expected, (x, y)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8 * theirs.abs().max().item())

    def test_large_singular_path(self):
        x, y = normal(400, 300), normal(380, 300, seed=1)
        x[:, 250:] = x[:, :50]
        y[:, 100:200] = 0.0
        assert frechet_distance(x, y).item() == pytest.approx(by_svd(x, y), rel=1e-7)
        assert abs(frechet_distance(x, x).item()) < 1e-9 * x.square().sum()

    def test_bad_input(self):
        x = normal(4, 2)
        with pytest.raises(ValueError, match="at least 2"):
            frechet_distance(x[:1], x)
        with pytest.raises(ValueError, match="same coordinates"):
            frechet_distance(x, normal(4, 3))
        with pytest.raises(ValueError, match="a puts all its mass on one point"):
            frechet_distance(x, x, a=torch.tensor([1.0, 0, 0, 0]))
        with pytest.raises(ValueError, match="sums to"):
            frechet_distance(x, x, b=torch.ones(4))
        with pytest.raises(ValueError, match="nan"):
            frechet_distance(x, x * float("nan"))
        with pytest.raises(TypeError, match="one kind"):
            frechet_distance(x, x.numpy())

    def test_is_in_the_catalogue(self):
        assert any(entry.function is frechet_distance for entry in ESTIMATORS)


class TestFromStatistics:
    def test_closed_forms(self):
        one = np.eye(1)
        assert gaussian_frechet(np.zeros(1), one, np.ones(1), one) == pytest.approx(1)
        assert gaussian_frechet(np.zeros(1), one, np.ones(1), 4 * one) == pytest.approx(2)
        assert gaussian_frechet(np.zeros(1), one, np.ones(1), 4 * one, root=True) == pytest.approx(
            2**0.5
        )
        left, right = np.diag([1.0, 0.0]), np.diag([0.0, 4.0])
        assert bures_distance(left, right, root=False) == pytest.approx(5)
        assert bures_distance(left, right) == pytest.approx(5**0.5)

    def test_from_two_moments(self):
        x, y = normal(40, 5), 2 * normal(30, 5, seed=1) + 1
        u, v = Moments.of(x[:7]).merge(Moments.of(x[7:])), Moments.of(y)
        value = gaussian_frechet(u.mean, u.covariance(), v.mean, v.covariance())
        torch.testing.assert_close(value, frechet_distance(x, y))
        wide = gaussian_frechet(
            *(
                part
                for s in (x[:4], y[:3])
                for part in (Moments.of(s).mean, Moments.of(s).covariance())
            )
        )
        torch.testing.assert_close(wide, frechet_distance(x[:4], y[:3]), rtol=1e-6, atol=0)

    @pytest.mark.parametrize("root", [False, True])
    def test_gradcheck(self, root):
        def distance(mean_x, factor_x, mean_y, factor_y):
            return gaussian_frechet(
                mean_x, factor_x @ factor_x.mT, mean_y, factor_y @ factor_y.mT, root=root
            )

        inputs = (normal(3), normal(2, 3, 3, seed=1), normal(2, 3, seed=2), normal(3, 3, seed=3))
        assert gradcheck(distance, [t.requires_grad_() for t in inputs])
        low = (normal(3), normal(3, 2, seed=1), normal(3, seed=2), normal(3, 3, seed=3))
        low = [t.requires_grad_() for t in low]
        assert gradcheck(distance, low, eps=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("d", "n"), [(1, 9), (3, 20), (20, 30), (20, 8), (300, 320)])
    def test_nearly_equal_covariances_keep_their_digits(self, d, n):
        cov, mean = torch.atleast_2d(normal(n, d, seed=d).T.cov()), torch.zeros(d).double()
        for share in (1e-1, 1e-2, 1e-4, 1e-6, 1e-8):
            other = (cov * (1 + share) ** 2).requires_grad_()
            value = gaussian_frechet(mean, cov, mean, other, root=True)
            exact = share * cov.trace().sqrt()
            assert value.item() == pytest.approx(exact.item(), rel=1e-14 / share + 1e-7 * (d > 99))
            if share < 1e-2 and n > d:  # along S, where d = (√(1 + t) − 1) √tr S
                (slope,) = torch.autograd.grad(value, other)
                along = (slope * cov).sum() * 2 * (1 + share)
                torch.testing.assert_close(along, cov.trace().sqrt(), rtol=1e-5, atol=0)

    @pytest.mark.parametrize("rank", [1, 2, 5])
    def test_nearly_equal_factors(self, rank):
        root = normal(2, 1, 5, rank)
        for step in (1e-3, 1e-5, 1e-7):
            near = root[0, 0] + step * normal(3, 5, rank, seed=1)
            left, _, right = torch.linalg.svd(root.mT @ near)
            exact = (root @ (left @ right) - near).norm(dim=(-2, -1))
            value = bures_distance(root @ root.mT, near @ near.mT)
            assert value.shape == (2, 3)
            torch.testing.assert_close(value, exact, rtol=1e-12 / step, atol=0)

    def test_ranks_that_differ_by_a_little(self):
        root, extra = normal(6, 2), 1e-5 * torch.linalg.qr(normal(6, 6))[0][:, :1]
        cov = root @ root.mT
        across = torch.cat([root, extra - root @ torch.linalg.pinv(root) @ extra], -1)
        exact = across[:, 2].norm()
        torch.testing.assert_close(
            bures_distance(cov, across @ across.mT), exact, rtol=1e-5, atol=0
        )
        torch.testing.assert_close(
            bures_distance(across @ across.mT, cov), exact, rtol=1e-5, atol=0
        )

    @pytest.mark.parametrize("d", [1, 4, 300])
    def test_equal_statistics_are_at_zero_with_gradient_zero(self, d):
        cov, mean = torch.atleast_2d(normal(2 * d + 1, d).T.cov()), torch.zeros(d).double()
        moving = cov.clone().requires_grad_()
        value = gaussian_frechet(mean, moving, mean, cov, root=True)
        assert value == 0
        (slope,) = torch.autograd.grad(value, moving)
        assert (slope == 0).all()

    def test_gradient_is_identity_minus_the_transport_map(self):
        cov_x = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64)).requires_grad_()
        mean = torch.zeros(2, dtype=torch.float64)
        value = gaussian_frechet(mean, cov_x, mean, torch.eye(2, dtype=torch.float64))
        (gradient,) = torch.autograd.grad(value, cov_x)
        torch.testing.assert_close(gradient, torch.diag(gradient.new_tensor([0.0, 0.5])))

    def test_bures_gradcheck_and_metric(self):
        L, M, N = normal(3, 3, 3).unbind(0)
        inputs = (L.requires_grad_(), M.requires_grad_())
        assert gradcheck(lambda L, M: bures_distance(L @ L.mT, M @ M.mT), inputs)
        a, b, c = (t.detach() @ t.detach().mT for t in (L, M, N))
        assert bures_distance(a, c) <= bures_distance(a, b) + bures_distance(b, c)

    def test_float32_statistics_with_rounding_in_them(self):
        x, y = normal(5, 12, dtype=torch.float32), normal(6, 12, seed=1, dtype=torch.float32)
        value = gaussian_frechet(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(by_svd(x.double(), y.double()), rel=1e-2)

    def test_bad_input(self):
        mean, eye = np.zeros(2), np.eye(2)
        with pytest.raises(ValueError, match="cov_y is not positive semi-definite"):
            gaussian_frechet(mean, eye, mean, np.diag([1.0, -1.0]))
        with pytest.raises(ValueError, match="cov_x is not positive semi-definite"):
            bures_distance(np.array([[1.0, 2.0], [2.0, 1.0]]), eye)
        with pytest.raises(ValueError, match="cov_x is not symmetric"):
            gaussian_frechet(mean, np.array([[1.0, 0.5], [0.0, 1.0]]), mean, eye)
        with pytest.raises(ValueError, match=r"cov_x must have shape \(\*batch, d, d\)"):
            gaussian_frechet(mean, np.ones((2, 3)), mean, eye)
        with pytest.raises(ValueError, match="mean_y has 3 coordinates"):
            gaussian_frechet(mean, eye, np.zeros(3), np.eye(3))
        with pytest.raises(ValueError, match="do not broadcast"):
            gaussian_frechet(np.zeros((2, 2)), eye, np.zeros((3, 2)), eye)
        with pytest.raises(ValueError, match="nan"):
            gaussian_frechet(mean, eye, mean * np.nan, eye)
