"""
Models that know the class
==========================

Told the class, a model separates what a digit is from how it is written; told a few labels, or
none, it finds the classes by itself.
"""

import matplotlib.pyplot as plt
import torch

import probmetrics as pm
from probmetrics.models.likelihoods import GaussianLikelihood

data = pm.data.read("data:digits")
digits = torch.from_numpy(data.values).float() / 16
labels = torch.as_tensor(data.labels)
size = {"latent": 4, "hidden": (128, 128)}

# %%
# Each column is one draw of the code, each row a class: the style stays, the digit changes. The
# supervised adversarial autoencoder and the conditional GAN are trained on pairs (x, labels).
told = {
    "conditional GAN": lambda: pm.models.ConditionalGAN.build(64, classes=10, **size),
    "supervised AAE": lambda: pm.models.SupervisedAAE.build(64, classes=10, penalty=0.1, **size),
    "semi-supervised VAE": lambda: pm.models.SemiSupervisedVAE.build(
        64, classes=10, likelihood=GaussianLikelihood(0.3), weight=10.0, **size
    ),
}
few = torch.full_like(labels, -1)
few[:200] = labels[:200]  # −1: not known
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), constrained_layout=True)
for axis, (name, make) in zip(axes, told.items(), strict=True):
    torch.manual_seed(0)
    model = make()
    known = few if name == "semi-supervised VAE" else labels
    steps = 250 if name == "semi-supervised VAE" else 700
    pm.models.fit(model, (digits, known), steps=steps, ema=0.99, seed=0, progress=False)
    rows = [model.sample(10, labels=k, generator=0) for k in range(10)]
    sheet = torch.stack(rows).reshape(10, 10, 8, 8).movedim(2, 1).reshape(80, 80)
    axis.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(name, fontsize=9)
    if known is few:
        with torch.no_grad():
            right = (model.classify(digits[200:]).argmax(-1) == labels[200:]).float().mean()
        print(f"200 labels of {len(labels)}: {float(right):.0%} of the others classified right")
plt.show()

# %%
# Walks between two codes stay within a class.
with torch.no_grad():
    start, end = model.encode(digits[:1]), model.encode(digits[10:11])
path = torch.cat([model.interpolate(start, end, 12, labels=k)[:, 0] for k in (0, 3, 8)])
sheet = path.reshape(3, 12, 8, 8).movedim(2, 1).reshape(24, 96)
figure, axis = plt.subplots(figsize=(7.5, 2), constrained_layout=True)
axis.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
axis.set(xticks=[], yticks=[])
plt.show()

# %%
# InfoGAN gets no labels: its generator is rewarded for codes that can be read off its points. On a
# ring of eight Gaussians the code tells which it drew from.
ring = pm.data.ring_of_gaussians(sd=0.05)
torch.manual_seed(0)
info = pm.models.InfoGAN.build(2, classes=8, noise=2, hidden=(64, 64))
pm.models.fit(
    info, ring.sample, steps=600, batch_size=128, ema=0.99, clip=1.0, seed=0, progress=False
)
figure, axis = plt.subplots(figsize=(3.2, 3.2), constrained_layout=True)
for k in range(8):
    axis.plot(*info.sample(100, labels=k, generator=k).T, ".", ms=3)
axis.plot(*ring.means.T, "+", ms=8, color="0.3")
axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[], aspect="equal")
axis.set_title("InfoGAN, coloured by its code", fontsize=9)
plt.show()
