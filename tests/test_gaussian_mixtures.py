"""Mixtures of Gaussians: shapes that broadcast, and transport between them at any scale."""

import pytest
import torch

import probmetrics as pm
from probmetrics.gaussian import Gaussian

NAMES = [
    "mixture_kl_variational",
    "mixture_kl_product",
    "mixture_kl_upper",
    "mixture_wasserstein",
]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def diagonal(k, seed, d=2, batch=()):
    mean = normal(*batch, k, d, seed=seed)
    return Gaussian(mean, diagonal=normal(*batch, k, d, seed=seed + 9).square() + 0.1)


def scaled(law, scale):
    powers = {"mean": 1, "covariance": 2, "diagonal": 2, "factor": 1}
    return Gaussian(**{n: v * scale ** powers[n] for n, v in law.arrays().items()})


@pytest.mark.parametrize("name", NAMES)
class TestShapes:
    def test_an_empty_batch_has_an_empty_answer(self, name):
        p, q = diagonal(4, 0, batch=(0,)), diagonal(5, 1, batch=(0,))
        assert getattr(pm, name)(p, q).shape == (0,)
        weights = torch.full((3, 0, 4), 0.25).double()
        assert getattr(pm, name)(p, q, a=weights).shape == (3, 0)

    def test_weights_bring_a_batch_of_their_own(self, name):
        p, q = diagonal(4, 0), diagonal(5, 1)
        a, b = normal(3, 4).softmax(-1), normal(2, 1, 5).softmax(-1)
        values = getattr(pm, name)(p, q, a=a, b=b)
        assert values.shape == (2, 3)
        for i in range(2):
            for j in range(3):
                one = getattr(pm, name)(p, q, a=a[j], b=b[i, 0])
                torch.testing.assert_close(values[i, j], one)
        with pytest.raises(ValueError, match="do not broadcast"):
            getattr(pm, name)(diagonal(4, 0, batch=(2,)), q, a=a)

    @pytest.mark.parametrize("rows", [None, slice(0, 1)])
    def test_components_may_share_a_mean_or_a_covariance(self, name, rows):
        p, q = diagonal(4, 0), diagonal(5, 1)
        mean = p.mean[0] if rows is None else p.mean[rows]
        variances = q.diagonal[0] if rows is None else q.diagonal[rows]
        for a in (None, normal(4).softmax(-1)):
            value = getattr(pm, name)(
                Gaussian(mean, diagonal=p.diagonal), Gaussian(q.mean, diagonal=variances), a=a
            )
            expected = getattr(pm, name)(
                Gaussian(mean.expand(4, 2), diagonal=p.diagonal),
                Gaussian(q.mean, diagonal=variances.expand(5, 2)),
                a=a,
            )
            torch.testing.assert_close(value, expected)

    def test_a_mixture_of_nothing(self, name):
        with pytest.raises(ValueError, match="q has no components"):
            getattr(pm, name)(diagonal(4, 0), diagonal(0, 1))


class TestScales:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("form", ["diagonal", "full", "low_rank"])
    def test_the_unit_does_not_matter(self, seed, form):
        laws = [diagonal(k, seed + 20 * k) for k in (4, 5)]
        if form == "full":
            laws = [Gaussian(p.mean, covariance=torch.diag_embed(p.diagonal) + 0.05) for p in laws]
        if form == "low_rank":
            laws = [Gaussian(p.mean, diagonal=p.diagonal, factor=p.mean[..., None]) for p in laws]
        expected = pm.mixture_wasserstein(*laws)
        for scale in (1e-150, 1e-20, 1e-10, 3e-8, 1e-7, 3e-7, 1e-6, 1e6, 1e150):
            value = pm.mixture_wasserstein(*(scaled(law, scale) for law in laws))
            torch.testing.assert_close(value / scale, expected, rtol=1e-9, atol=0)

    def test_squares_beyond_the_largest_number(self):
        p, q = diagonal(4, 0), diagonal(5, 1)
        far = [Gaussian(law.mean * 1e160, diagonal=law.diagonal) for law in (p, q)]
        near = [Gaussian(law.mean, diagonal=torch.zeros_like(law.diagonal)) for law in (p, q)]
        expected = pm.mixture_wasserstein(*near)
        torch.testing.assert_close(pm.mixture_wasserstein(*far) / 1e160, expected)
        assert pm.mixture_wasserstein(*far, root=False) == torch.inf

    def test_entries_of_a_batch_have_scales_of_their_own(self):
        p, q = diagonal(4, 0), diagonal(5, 1)
        scale = torch.tensor([1e-170, 1.0, 1e120], dtype=torch.float64)[:, None, None]
        values = pm.mixture_wasserstein(
            Gaussian(p.mean * scale, diagonal=p.diagonal * 0 * scale),
            Gaussian(q.mean * scale, diagonal=q.diagonal * 0 * scale),
        )
        expected = values[1].expand(3)
        torch.testing.assert_close(values / scale[:, 0, 0], expected, rtol=1e-12, atol=0)

    def test_gradients_at_a_small_scale(self):
        p, q = diagonal(4, 0), diagonal(5, 1)
        slopes = []
        for scale in (1.0, 1e-9):
            law = scaled(p, scale)
            arrays = {name: part.requires_grad_() for name, part in law.arrays().items()}
            value = pm.mixture_wasserstein(Gaussian(**arrays), scaled(q, scale))
            slopes.append(torch.autograd.grad(value, (arrays["mean"], arrays["diagonal"])))
        torch.testing.assert_close(slopes[1][0], slopes[0][0])
        torch.testing.assert_close(slopes[1][1] * 1e-9, slopes[0][1])


class TestWeightGradients:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("side", [0, 1])
    def test_one_sided_slope_at_a_weight_of_zero(self, seed, side):
        laws = [diagonal(4, seed), diagonal(4, seed + 30)]
        weights = [torch.tensor([0.59, 0.11, 0.17, 0.13]).double()] * 2
        weights[side] = torch.tensor([0.52, 0.0, 0.21, 0.27]).double().requires_grad_()
        weights = [w / w.detach().sum() for w in weights]

        def distance(moved):
            pair = [moved if k == side else weights[k].detach() for k in (0, 1)]
            return pm.mixture_wasserstein(*laws, a=pair[0], b=pair[1], root=False)

        start = weights[side]
        (slope,) = torch.autograd.grad(distance(start), start)
        move = torch.tensor([0.0, 1.0, 0.0, -1.0]).double()
        change = (distance(start.detach() + 1e-6 * move) - distance(start.detach())) / 1e-6
        torch.testing.assert_close(slope @ move, change, rtol=1e-6, atol=1e-7)

    def test_they_are_those_of_the_earth_mover(self):
        p, q = diagonal(4, 0), diagonal(5, 1)
        cost = pm.gaussian_wasserstein(p.with_axis(False), q.with_axis(True), root=False)
        a = torch.tensor([0.5, 0.0, 0.2, 0.3], dtype=torch.float64, requires_grad=True)
        b = torch.full((5,), 0.2, dtype=torch.float64)
        (ours,) = torch.autograd.grad(pm.mixture_wasserstein(p, q, a=a, b=b, root=False), a)
        (theirs,) = torch.autograd.grad(pm.earth_mover(a, b, cost), a)
        torch.testing.assert_close(ours, theirs)


def test_numpy_and_float32():
    p, q = diagonal(3, 0), diagonal(2, 1)
    expected = pm.mixture_wasserstein(p, q)
    laws = [Gaussian(law.mean.numpy(), diagonal=law.diagonal.numpy()) for law in (p, q)]
    assert pm.mixture_wasserstein(*laws) == pytest.approx(expected.item(), rel=1e-12)
    laws = [Gaussian(law.mean.float(), diagonal=law.diagonal.float()) for law in (p, q)]
    value = pm.mixture_wasserstein(*laws)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=0)
