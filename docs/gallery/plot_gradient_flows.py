r"""
Gradient flows: what each distance pulls on
===========================================

A sample that follows the gradient of a distance to the data shows what that distance sees.
Every panel starts from the same points, a small blob, and takes the same number of steps
:math:`x_i \leftarrow x_i - \eta\, n\, \partial D / \partial x_i` towards a ring
with two eyes.
"""

import math

import matplotlib.pyplot as plt
import torch

import probmetrics as pm
from probmetrics.pairwise.kernels import Gaussian

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
n = 200


def face(n):
    angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    ring = torch.stack([angle.cos(), angle.sin()], -1)
    eyes = torch.tensor([[-0.35, 0.3], [0.35, 0.3]], dtype=torch.float64)
    which = torch.randint(2, (n,), generator=generator)
    blob = eyes[which] + 0.05 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    ring = ring + 0.03 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return torch.where((torch.arange(n) % 4 == 0).unsqueeze(-1), blob, ring)


data = face(n)
start = 0.1 * torch.randn(n, 2, generator=generator, dtype=torch.float64) + torch.tensor(
    [1.2, -1.2]
)

# %%
# The distances, each with the step that suits its scale: a transport cost pulls every point by
# twice its way, so that half of it is one Newton step; a kernel's pull is weaker.
#
# The Kullback-Leibler flow needs densities, which samples do not have. Here both are estimated
# with a Gaussian kernel, and their plug-in divergence is differentiated.


def kl(x):
    width = 0.15

    def log_density(at, points):
        squared = (at.unsqueeze(-2) - points).square().sum(-1)
        return torch.logsumexp(-squared / (2 * width**2), -1) - math.log(len(points))

    return (log_density(x, x) - log_density(x, data)).mean()


distances = {
    "MMD, Gaussian kernel": (
        lambda x: pm.mmd(x, data, kernel=Gaussian(0.5), unbiased=False),
        0.4,
    ),
    "energy distance": (lambda x: pm.energy_distance(x, data), 0.15),
    "Sinkhorn divergence": (lambda x: pm.sinkhorn_divergence(x, data, epsilon=0.05), 0.1),
    "sliced Wasserstein": (
        lambda x: pm.sliced_wasserstein(x, data, projections=32, root=False, generator=generator),
        0.3,
    ),
    "exact Wasserstein": (lambda x: pm.wasserstein(x, data, root=False), 0.1),
    "KL of kernel densities": (kl, 0.02),
}
moments = (5, 20, 60)


def flow(distance, step):
    """The points after so many steps."""
    x, kept = start.clone(), []
    for k in range(1, moments[-1] + 1):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(distance(x), x)
        x = x.detach() - step * n * slope
        if k in moments:
            kept.append(x.clone())
    return kept


# %%
# The exact and the debiased entropic transport carry every point straight to its place. Slices
# arrive there too, by detours. The energy distance, whose kernel has no length, comes close and
# slows down. A Gaussian kernel feels little far beyond its width: points without a neighbour in
# the data are left behind. The estimated KL fills the ring from its nearest part, and stops at
# the blur of its densities.

figure, axes = plt.subplots(len(distances), 3, figsize=(7, 13), sharex=True, sharey=True)
for row, (name, (distance, step)) in zip(axes, distances.items(), strict=True):
    for axis, moment, x in zip(row, moments, flow(distance, step), strict=True):
        axis.scatter(*data.T, s=3, color="0.75")
        axis.scatter(*x.T, s=4, color="C0")
        axis.set_title(f"{moment} steps", fontsize=8)
        axis.set(xlim=(-1.6, 1.8), ylim=(-1.8, 1.6), xticks=[], yticks=[], aspect="equal")
    row[0].set_ylabel(name, fontsize=8)
figure.tight_layout()
plt.show()
