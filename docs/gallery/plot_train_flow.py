"""
Flows: exact likelihoods, and posteriors that bend
==================================================

A coupling flow is a network that can be run backwards: it gives every point a density, exactly, and
draws new points by running its layers in reverse. Planar and inverse autoregressive layers bend the
Gaussian posterior of a VAE instead.
"""

import matplotlib.pyplot as plt
import torch

import probmetrics as pm

x = torch.from_numpy(pm.data.read("data:moons").values).float()
x = (x - x.mean(0)) / x.std(0)
train, test = x[::2], x[1::2]

# %%
# The density of two moons, beside those of two baselines, and what each scores on held-out points.
torch.manual_seed(0)
models = {
    "Gaussian": pm.models.GaussianModel(2),
    "mixture of 8": pm.models.MixtureModel(2, components=8),
    "coupling flow": pm.models.CouplingFlow(2, layers=6, hidden=(32,)),
}
side = torch.linspace(-2.4, 2.4, 120)
grid = torch.cartesian_prod(side, side)
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), constrained_layout=True)
for axis, (name, model) in zip(axes, models.items(), strict=True):
    pm.models.fit(model, train, steps=500, learning_rate=3e-3, ema=0.99, seed=0, progress=False)
    density = model.log_likelihood(grid).exp().reshape(120, 120)
    axis.imshow(density.T, origin="lower", extent=(-2.4, 2.4, -2.4, 2.4), cmap="Blues")
    axis.plot(*model.sample(300, generator=0).T, ".", ms=2, color="#c53030")
    score = float(model.log_likelihood(test).mean())
    axis.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[])
    axis.set_title(f"{name}: {score:.2f} nats", fontsize=9)
plt.show()

# %%
# Nothing is lost on the way: decoding the codes gives the points back.
flow = models["coupling flow"]
with torch.no_grad():
    print(
        f"largest error of the way back: {float((flow.reconstruct(test) - test).abs().max()):.1e}"
    )

# %%
# With a posterior that can bend, the bound of a VAE comes closer to the likelihood.
flows = {
    "Gaussian posterior": lambda: None,
    "planar": lambda: pm.models.PlanarFlow(2, layers=4),
    "inverse autoregressive": lambda: pm.models.InverseAutoregressiveFlow(2),
}
for name, make in flows.items():
    torch.manual_seed(0)
    vae = pm.models.VAE.build(2, latent=2, hidden=(64,), likelihood="gaussian one", flow=make())
    pm.models.fit(vae, train, steps=600, learning_rate=3e-3, seed=0, progress=False)
    one, many = (vae.log_likelihood(test, samples=k, generator=0).mean() for k in (1, 200))
    print(f"{name:23} bound {float(one):.2f}, with 200 samples {float(many):.2f} nats")
