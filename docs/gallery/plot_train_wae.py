"""
WAE: codes that look like the prior
===================================

A Wasserstein autoencoder reconstructs, and keeps the codes of all data together close to the prior:
by an MMD, or by a critic of the codes (WAE-GAN, the adversarial autoencoder).
"""

import matplotlib.pyplot as plt
import torch

import probmetrics as pm

digits = torch.from_numpy(pm.data.read("data:digits").values).float() / 16
size = {"latent": 2, "hidden": (128, 128)}
build = {
    "no penalty to speak of": lambda: pm.models.WAE.build(64, weight=1e-6, **size),
    "WAE-MMD": lambda: pm.models.WAE.build(64, weight=10.0, **size),
    "WAE-GAN": lambda: pm.models.WAE.adversarial(64, **size),
}

# %%
# The codes of all digits, coloured by class, and the prior's circle of two deviations; below, what
# draws of the prior decode to.
figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), constrained_layout=True)
for (top, bottom), (name, make) in zip(axes.T, build.items(), strict=True):
    torch.manual_seed(0)
    model = make()
    pm.models.fit(model, digits, steps=700, learning_rate=2e-3, seed=0, progress=False)
    with torch.no_grad():
        codes = model.encode(digits)
    labels = pm.data.read("data:digits").labels
    top.scatter(*codes.T, c=labels, s=3, cmap="tab10")
    top.add_patch(plt.Circle((0, 0), 2, fill=False, color="0.3"))
    spread = max(2.5, float(codes.abs().quantile(0.99)))
    top.set(title=name, xlim=(-spread, spread), ylim=(-spread, spread), aspect="equal")
    y = model.sample(100, generator=0)
    sheet = y.reshape(10, 10, 8, 8).movedim(2, 1).reshape(80, 80)
    bottom.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
    bottom.set(xticks=[], yticks=[])
    prior = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
    gap = float(pm.energy_distance(prior, codes))
    bottom.set_xlabel(f"energy distance of codes {gap:.3f}")
plt.show()
