"""
Autoencoders and codes without an encoder
=========================================

Plain, sparse, denoising and contractive autoencoders differ in one term of the loss. Generative
latent optimisation has no encoder at all: each point's code is learned with the decoder.
"""

import matplotlib.pyplot as plt
import torch

import probmetrics as pm

digits = torch.from_numpy(pm.data.read("data:digits").values).float() / 16
train, test = digits[:1500], digits[1500:]
size = {"latent": 8, "hidden": (128,)}
models = pm.models
build = {
    "plain": lambda: models.Autoencoder.build(64, **size),
    "sparse": lambda: models.SparseAutoencoder.build(64, weight=0.02, latent=32, hidden=(128,)),
    "denoising": lambda: models.DenoisingAutoencoder.build(64, noise=0.3, **size),
    "contractive": lambda: models.ContractiveAutoencoder.build(64, weight=0.01, **size),
}

# %%
# What each makes of clean and of noisy digits it has not seen; errors are ‖x − x̂‖².
noise = 0.3 * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))
rows, trained = {"noisy digits": (test + noise)[:16]}, {}
for name, make in build.items():
    torch.manual_seed(0)
    model = trained[name] = make()
    models.fit(model, train, steps=600, learning_rate=2e-3, seed=0, progress=False)
    with torch.no_grad():
        seen, clean = model.reconstruct(test + noise), model.reconstruct(test)
        active = float((model.encode(test).abs() > 0.05).float().mean())
    errors = [float((made - test).square().sum(-1).mean()) for made in (clean, seen)]
    rows[f"{name}, from noisy"] = seen[:16]
    print(
        f"{name:12} error {errors[0]:.2f} clean, {errors[1]:.2f} noisy; {active:.0%} codes active"
    )

# %%
# GLO draws from the Gaussian fitted to the codes it has learned; the codes of new digits are found
# by descent. Below it, a straight walk between two codes of the plain autoencoder.
torch.manual_seed(0)
glo = models.GLO.build(64, points=len(train), **size)
models.fit(glo, train, steps=800, learning_rate=2e-3, seed=0, progress=False)
rows["GLO, drawn"] = glo.sample(16, generator=0)
with torch.no_grad():
    rows["GLO, codes found"] = glo.decode(glo.encode(test[:16]))
    codes = trained["plain"].encode(test[:2])
rows["walk of codes"] = trained["plain"].interpolate(codes[:1], codes[1:], steps=16)[:, 0]
figure, axes = plt.subplots(len(rows), 1, figsize=(8, 0.8 * len(rows)), constrained_layout=True)
for axis, (name, images) in zip(axes, rows.items(), strict=True):
    sheet = images.reshape(16, 8, 8).movedim(0, 1).reshape(8, 128)
    axis.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(name, fontsize=9, loc="left", pad=2)
plt.show()
