"""
VAE: a bound on the likelihood, and walks between codes
=======================================================

A variational autoencoder of the digits: samples, reconstructions, interpolation along the arc
between two codes, and bounds that tighten with the number of importance samples.
"""

import matplotlib.pyplot as plt
import torch

import probmetrics as pm

digits = torch.from_numpy(pm.data.read("data:digits").values).float() / 16
train, test = digits[:1500], digits[1500:]

# %%
# A Bernoulli decoder reads grey levels as shares of ink. ``IWAE`` trains on the tighter bound.
models = {}
for name, family in {"VAE": pm.models.VAE, "IWAE": pm.models.IWAE}.items():
    torch.manual_seed(0)
    model = family.build(64, latent=8, hidden=(128,), likelihood="bernoulli")
    pm.models.fit(model, train, steps=600, learning_rate=2e-3, seed=0, progress=False)
    models[name] = model
    bounds = [model.log_likelihood(test, samples=k, generator=0).mean() for k in (1, 10, 100)]
    print(f"{name:5} bounds with 1, 10 and 100 samples: {', '.join(f'{b:.2f}' for b in bounds)}")

# %%
model = models["VAE"]
with torch.no_grad():
    codes = model.encode(test[:2])
    rows = {
        "held out": test[:12],
        "reconstructed": model.reconstruct(test[:12]),
        "drawn": model.sample(12, generator=0),
        "drawn, temperature 0.6": model.sample(12, generator=0, temperature=0.6),
        "between two codes": model.interpolate(codes[:1], codes[1:], steps=12)[:, 0],
    }
figure, axes = plt.subplots(len(rows), 1, figsize=(7.5, 0.95 * len(rows)), constrained_layout=True)
for axis, (name, images) in zip(axes, rows.items(), strict=True):
    sheet = images.reshape(12, 8, 8).movedim(0, 1).reshape(8, 96)
    axis.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(name, fontsize=9, loc="left", pad=2)
plt.show()
