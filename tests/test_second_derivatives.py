"""A second derivative is right or an error, never a term left out in silence."""

import pytest
import torch

import probmetrics as pm


def draw(n, m, d, seed=31):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(k, d, dtype=torch.float64, generator=generator) for k in (n, m))
    return x, y + 0.5


def curvature(function, x, along):
    """Hessian times a direction, by autograd and by differences of the gradient."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(x), x, create_graph=True)
    (product,) = torch.autograd.grad((slope * along).sum(), x)

    def gradient(point):
        point = point.detach().requires_grad_()
        return torch.autograd.grad(function(point), point)[0]

    step = 1e-6
    return product, (gradient(x + step * along) - gradient(x - step * along)) / (2 * step)


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("d", [1, 3, 40])
def test_frechet_distance_has_its_second_derivative(d, root):
    x, y = draw(3 * d + 5, 3 * d + 9, d)
    exact, differenced = curvature(lambda z: pm.frechet_distance(z, y, root=root), x, y[: len(x)])
    torch.testing.assert_close(exact, differenced, rtol=1e-5, atol=1e-7)


def test_gaussian_frechet_has_its_second_derivative_in_the_covariance():
    x, y = draw(12, 14, 3)
    zero, other = x.new_zeros(3), torch.cov(y.T)
    exact, differenced = curvature(
        lambda s: pm.gaussian_frechet(zero, (s + s.T) / 2, zero, other), torch.cov(x.T), x[:3]
    )
    torch.testing.assert_close(exact, differenced, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: pm.frechet_distance(x[:3], y),  # fewer points than coordinates
        lambda x, y: pm.frechet_distance(x * x.new_tensor([1.0, 1, 1, 0]), y),  # a flat direction
        lambda x, y: pm.wasserstein(x, y, a=torch.softmax(x.sum(-1), 0)),  # the plan moves too
    ],
)
def test_what_cannot_be_differentiated_twice_says_so(function):
    x, y = draw(9, 8, 4)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(function(x, y), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(slope.square().sum(), x)
