"""
GAN: a game, its collapse, and a cure
=====================================

A generator against a critic. Under plain gradient descent the game of the first GAN finds the modes
of a ring, gives them up for a few, and jumps between those; a penalty on the slope of the critic
keeps them.
"""

import matplotlib.pyplot as plt
import torch

import probmetrics as pm

ring = pm.data.ring_of_gaussians(sd=0.05)
size = {"latent": 8, "hidden": (64, 64)}
games = {
    "non-saturating": {},
    "with a gradient penalty": {"penalty": 1.0},
    "Wasserstein": {"objective": "wgan", "penalty": 1.0, "critic_steps": 2},
}
steps, every = 900, 300

# %%
# The objective is a row: any f-divergence, or "wgan", "hinge", "least squares". ``callback`` sees
# the model while it trains. Wasserstein critics want the optimiser that ``fit`` brings, Adam with
# little momentum.
figure, axes = plt.subplots(3, 3, figsize=(6.6, 7), constrained_layout=True)
for row, (name, options) in zip(axes, games.items(), strict=True):
    torch.manual_seed(1)
    model, shots = pm.models.GAN.build(2, **size, **options), []
    descent = None if name == "Wasserstein" else lambda weights: torch.optim.SGD(weights, lr=0.1)
    pm.models.fit(
        model,
        ring.sample,
        steps=steps,
        batch_size=128,
        optimizer=descent,
        seed=1,
        every=every,
        callback=lambda step, model, shots=shots: shots.append(model.sample(1000, generator=0)),
        progress=False,
    )
    for axis, shot, step in zip(row, shots, range(every, steps + 1, every), strict=True):
        axis.plot(*shot.T, ".", ms=1.5, color="#2b6cb0")
        axis.plot(*ring.means.T, "+", ms=6, color="#c53030")
        axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[], aspect="equal")
        axis.set_title(f"step {step}: {int(ring.modes_covered(shot))} modes", fontsize=9)
    row[0].set_ylabel(name)
plt.show()

# %%
# Three seeds, more steps and more cures are under :doc:`/benchmarks/index`. The loss alone, for a
# loop of your own, is ``pm.losses.AdversarialLoss("gan")``, with ``critic`` and ``generator``.
