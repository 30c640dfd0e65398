"""
GMMN: moment matching on codes
==============================

No game and no critic: the generator minimises the MMD between its samples and the data. On images
it is matched where distances mean more, in the codes of an autoencoder.
"""

import matplotlib.pyplot as plt
import torch

import probmetrics as pm

digits = torch.from_numpy(pm.data.read("data:digits").values).float() / 16
size = {"hidden": (128, 128)}

# %%
# The autoencoder first, then a generator of its codes; any sample loss will do.
torch.manual_seed(0)
autoencoder = pm.models.Autoencoder.build(64, latent=8, **size)
pm.models.fit(autoencoder, digits, steps=800, seed=0, progress=False)
models = {
    "MMD of codes": pm.models.CodeGMMN.build(autoencoder, latent=8, **size),
    "energy of codes": pm.models.CodeGMMN.build(
        autoencoder, divergence=pm.losses.EnergyLoss(), latent=8, **size
    ),
    "MMD of pixels": pm.models.GMMN.build(64, latent=8, **size),
}
drawn = {"digits": digits[:16]}
for name, model in models.items():
    pm.models.fit(model, digits, steps=600, batch_size=256, ema=0.99, seed=0, progress=False)
    y = model.sample(1000, generator=1)
    drawn[name] = y[:16]
    print(f"{name:16} Fréchet distance {float(pm.frechet_distance(digits, y)):.3f}")

# %%
figure, axes = plt.subplots(len(drawn), 1, figsize=(8, 0.85 * len(drawn)), constrained_layout=True)
for axis, (name, images) in zip(axes, drawn.items(), strict=True):
    axis.imshow(
        images.reshape(16, 8, 8).movedim(0, 1).reshape(8, 128), cmap="gray_r", vmin=0, vmax=1
    )
    axis.set(xticks=[], yticks=[])
    axis.set_title(name, fontsize=9, loc="left", pad=2)
plt.show()
