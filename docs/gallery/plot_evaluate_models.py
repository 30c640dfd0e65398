"""
Three models and a copier
=========================

Real digits, three models of them trained in seconds, and a fourth "model" that returns its training
set. Which metrics tell them apart, and is the difference between two models real?
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import probmetrics as pm

torch.manual_seed(0)
train, real = (pm.data.read(f"data:digits@{i}/2").values / 16 for i in (1, 2))
n = 450

# %%
# The models: a Gaussian with twelve principal components, a mixture of twenty, and an autoencoder
# whose codes are matched to the prior (WAE). The copier draws from its training set.
models = {
    "Gaussian": pm.models.GaussianModel((64,), components=12),
    "mixture": pm.models.MixtureModel((64,), components=20),
    "WAE": pm.models.WAE.build((64,), latent=8, hidden=(128,)),
}
samples = {}
for name, model in models.items():
    steps = 400 if name == "WAE" else 30
    pm.models.fit(model, torch.from_numpy(train).float(), steps=steps, seed=0, progress=False)
    samples[name] = model.sample(n, generator=0).detach().double().clamp(0, 1).numpy()
samples["copier"] = train[np.random.default_rng(0).integers(0, len(train), n)]

figure, axes = plt.subplots(1, 5, figsize=(10, 2.3), constrained_layout=True)
for axis, (name, images) in zip(axes, {"real": real, **samples}.items(), strict=True):
    rows = [[*images[8 * i : 8 * i + 8].reshape(8, 8, 8)] for i in range(8)]
    axis.imshow(np.block(rows), "gray_r")
    axis.set(title=name, xticks=[], yticks=[])

# %%
# Distances, with intervals, next to sharpness, completeness, variety and copying. An authenticity
# of one half is what fresh points of the same law get; zero means that every sample stands on a
# training point.
columns = ("precision", "recall", "Vendi", "authentic")
print(f"{'model':10}{'energy distance':>26}" + "".join(f"{name:>11}" for name in columns))
for name, y in samples.items():
    interval = pm.estimate(pm.energy_distance, real, y, generator=0)
    found = pm.metrics.precision_recall(real, y)
    shown = f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    rates = [found.precision, found.recall, pm.metrics.vendi_score(y)]
    rates.append(pm.metrics.authenticity(y, train))
    print(f"{name:10}{shown:>26}" + "".join(f"{float(rate):>11.2f}" for rate in rates))

# %%
# The copier is the nearest of all, and the only one that the energy test cannot tell from fresh
# data. That is why a measure of copying belongs next to any distance: distances ask for the law of
# the data, and nothing resembles it like its own sample.
for name, y in samples.items():
    print(f"{name:10} {pm.energy_test(real, y, permutations=199, generator=0).pvalue:.3f}")
