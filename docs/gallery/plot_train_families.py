"""
One model of each family on a ring
==================================

Eight narrow modes on a circle, and what each family of models makes of them in a few hundred steps:
a game, a matched kernel, transport, autoencoders, a flow, and two baselines.
"""

import time

import matplotlib.pyplot as plt
import torch

import probmetrics as pm

ring = pm.data.ring_of_gaussians(sd=0.05)
x = ring.sample(4000, generator=0)
hidden = (64, 64)
build = {
    "GAN": lambda: pm.models.GAN.build(2, latent=4, hidden=hidden),
    "WGAN-GP": lambda: pm.models.GAN.build(
        2, latent=4, hidden=hidden, objective="wgan", penalty=1.0
    ),
    "GMMN": lambda: pm.models.GMMN.build(2, latent=4, hidden=hidden),
    "Sinkhorn": lambda: pm.models.SinkhornGenerator.build(2, latent=4, hidden=hidden),
    "VAE": lambda: pm.models.VAE.build(2, latent=2, hidden=hidden),
    "WAE": lambda: pm.models.WAE.build(2, latent=2, hidden=hidden),
    "flow": lambda: pm.models.CouplingFlow.build(2),
    "mixture": lambda: pm.models.MixtureModel(2, components=8),
}
steps = {"GAN": 1000, "WGAN-GP": 600, "VAE": 600, "WAE": 150, "Sinkhorn": 120, "mixture": 30}

# %%
# Each has ``objectives()``, and one loop trains them all. Modes are counted within three standard
# deviations.
figure, axes = plt.subplots(2, 4, figsize=(10, 5.2), constrained_layout=True)
for axis, (name, make) in zip(axes.flat, build.items(), strict=True):
    torch.manual_seed(0)
    model, start = make(), time.perf_counter()
    pm.models.fit(
        model,
        x,
        steps=steps.get(name, 250),
        batch_size=256,
        learning_rate=2e-3,
        seed=0,
        progress=False,
    )
    y = model.sample(1000, generator=1).detach()
    covered, share = ring.modes_covered(y), ring.high_quality_share(y)
    axis.plot(*y.T, ".", ms=2, color="#2b6cb0")
    axis.set(title=name, xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[], aspect="equal")
    print(
        f"{name:9} {int(covered)} modes, {float(share):4.0%} near one, energy distance "
        f"{float(pm.energy_distance(x[:1000], y)):.3f}, {time.perf_counter() - start:.1f} s"
    )
plt.show()

# %%
# A few hundred steps are a glimpse, not a ranking: the studies with seeds are under
# :doc:`/benchmarks/index`.
