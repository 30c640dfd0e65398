"""
How many samples a distance needs
=================================

Two samples of one distribution are at distance zero in truth, and what an estimate says instead
is its error. It falls like :math:`n^{-1/d}` for the Wasserstein distance in :math:`d > 2`
dimensions, and like :math:`n^{-1/2}` for the root of an energy distance or of a Sinkhorn
divergence, whatever the dimension.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import probmetrics as pm

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
sizes = [32, 64, 128, 256, 512]
dimensions = [1, 3, 6]

distances = {
    "Wasserstein, p = 1": lambda x, y: pm.wasserstein(x, y, p=1),
    "energy distance, root": lambda x, y: pm.energy_distance(x, y, root=True),
    "Sinkhorn divergence, root": lambda x, y: (
        pm.sinkhorn_divergence(x, y, epsilon=1.0, tolerance=1e-6).clamp_min(0).sqrt()
    ),
}

# %%
# Every mean is over the same pairs of uniform samples on the cube, fewer of them where n is large.


def errors(distance, d):
    means = []
    for n in sizes:
        pairs = [
            torch.rand(2, n, d, generator=generator, dtype=torch.float64)
            for _ in range(max(3, 512 // n))
        ]
        means.append(np.mean([float(distance(x, y)) for x, y in pairs]))
    return np.array(means)


found = {name: {d: errors(f, d) for d in dimensions} for name, f in distances.items()}

# %%
# The measured exponents, by least squares on a log-log scale, beside those of theory: for the
# Wasserstein distance ½ in one dimension and 1/d from three on, ½ for the others.

slopes = {}
for name, curves in found.items():
    for d, curve in curves.items():
        slopes[name, d] = -np.polyfit(np.log(sizes), np.log(curve), 1)[0]
        theory = 1 / max(d, 2) if "Wasserstein" in name else 0.5
        print(f"{name}, d = {d}: {slopes[name, d]:.2f} (theory {theory:.2f})")

# %%
# Lines show the measured errors, dashes the rates of theory through the last point. Constants
# hide in the offsets: those of a Sinkhorn divergence grow as its ε shrinks, until it pays the
# Wasserstein distance's price.

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True)
for axis, (name, curves) in zip(axes, found.items(), strict=True):
    for k, (d, curve) in enumerate(curves.items()):
        rate = 1 / max(d, 2) if "Wasserstein" in name else 0.5
        label = f"d = {d}: n^-{slopes[name, d]:.2f}"
        axis.loglog(sizes, curve, "o-", ms=3, color=f"C{k}", label=label)
        line = curve[-1] * (np.array(sizes) / sizes[-1]) ** -rate
        axis.loglog(sizes, line, "--", lw=0.8, color=f"C{k}")
    axis.set(title=name, xlabel="n")
    axis.legend(fontsize=7)
axes[0].set_ylabel("mean estimate at distance zero")
figure.tight_layout()
plt.show()
