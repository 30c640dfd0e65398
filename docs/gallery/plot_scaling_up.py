"""
Scaling up: sketches that merge
===============================

Data that never is in one place is compared by states that are small and merge: each part of the
data is sketched where it lies, and the sketches are joined in any order. Here one sample is cut
into parts that nobody sees together; how far are the answers from those of all rows?
"""

# %%
# Sixteen machines, a hundred thousand rows each
# ----------------------------------------------
# Column 1 of B is moved by a twentieth of a standard deviation, which a sample of 2,000 rows hides.
import matplotlib.pyplot as plt
import numpy as np
import torch

from probmetrics import energy_test, wasserstein_1d
from probmetrics.sketches import MomentSketch, QuantileSketch, SampleSketch

torch.set_num_threads(2)
rng = np.random.default_rng(0)
parts_a = [rng.standard_normal((100_000, 3), dtype=np.float32) for _ in range(16)]
parts_b = [
    rng.standard_normal((100_000, 3), dtype=np.float32) + np.float32([0, 0.05, 0])
    for _ in range(16)
]


def sketched(make, parts):
    """Each part alone, then all of them merged two by two."""
    level = [make(stream).update(part) for stream, part in enumerate(parts)]
    while len(level) > 1:
        level = [a.merge(b) for a, b in zip(level[::2], level[1::2], strict=True)]
    return level[0]


# %%
# The error is known, and falls with the size of the sketch
# ---------------------------------------------------------
# ``error`` bounds the share of rows below a number with probability 95 %; what really happens
# stays below.
everything_a, everything_b = np.concatenate(parts_a), np.concatenate(parts_b)
points = torch.linspace(-2, 2, 41)
truth = np.stack([(everything_a[:, [0]] <= points.numpy()).mean(0)])
sizes, bounds, found = [64, 128, 256, 512, 1024, 2048], [], []
for k in sizes:
    sketch = sketched(lambda stream, k=k: QuantileSketch(3, k, stream=stream), parts_a)
    bounds.append(sketch.error())
    found.append(float(np.abs(sketch.below(points)[0].numpy() - truth).max()))

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
axes[0].loglog(sizes, bounds, "o-", label="bound (95 %)")
axes[0].loglog(sizes, found, "o-", label="largest error on 41 points")
axes[0].set(xlabel="k, values in the top level", ylabel="error of a share")
axes[0].legend()

# %%
# A small shift is seen by all rows, not by a sample
# --------------------------------------------------
a, b = (sketched(lambda s: QuantileSketch(3, 2048, stream=s), p) for p in (parts_a, parts_b))
exact = wasserstein_1d(everything_a.T.copy(), everything_b.T.copy())
columns = np.arange(3)
axes[1].bar(columns - 0.2, exact, 0.4, label="all rows")
axes[1].bar(columns + 0.2, a.wasserstein(b), 0.4, label="merged sketches")
axes[1].set(xlabel="column", ylabel="W₁", xticks=columns)
axes[1].legend()
plt.show()

rows_a, rows_b = (
    sketched(lambda s: SampleSketch(3, 2000, stream=s), p).compute() for p in (parts_a, parts_b)
)
test = energy_test(rows_a, rows_b, permutations=199, generator=0)
means = [sketched(lambda _: MomentSketch(3), p).compute().mean for p in (parts_a, parts_b)]
print(f"energy test on 2,000 + 2,000 sampled rows: p = {test.pvalue:.3f}")
print(f"difference of means, all rows: {np.round((means[1] - means[0]).numpy(), 4)}")

# %%
# ``compare("a/", "b/")`` does this for Parquet and ``.npy`` files and Dask collections; samples
# that live on
# the ranks of ``torch.distributed`` keep exact answers with ``backend=Sharded()``
# (docs/scaling.md).
