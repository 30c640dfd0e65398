"""
Where two samples differ
========================

A test says *that* two samples differ. The next question is where: in which features, at which
points, in which regions. The witness function of the maximum mean discrepancy answers all three.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits, load_wine

import probmetrics as pm

# %%
# Wine by cultivar
# ----------------
# Thirteen chemical measurements of wines of two cultivars. The energy test leaves no doubt, and
# the effect sizes come with intervals that hold jointly for all features.

wine = load_wine(as_frame=True)
first, second = (wine.data[wine.target == k] for k in (0, 1))
unit = wine.data.std()
test = pm.energy_test(first / unit, second / unit, generator=0)
print(test)

# %%

sizes = pm.effect_sizes(first, second)
print(sizes)
sizes.plot(measure="hedges_g")
plt.tight_layout()

# %%
# ``where_they_differ`` shows the share of each feature in the slope of the witness function, the
# witness over the two most important features, and how many wines of each cultivar lie in
# clusters of the pooled wines. A star marks clusters whose shares differ.

found = pm.where_they_differ(first, second)
print(found)
found.plot()

# %%
# A difference that no feature shows alone
# ----------------------------------------
# Each feature has the same distribution in both samples; only the dependence of two of them
# differs. Tests of single features see nothing. The slope of the witness does.

rng = np.random.default_rng(0)
names = ["temperature", "pressure", "flow", "noise"]
before = pd.DataFrame(rng.normal(size=(400, 4)), columns=names)
after = pd.DataFrame(rng.normal(size=(400, 4)), columns=names)
after["flow"] = 0.9 * after["pressure"] + np.sqrt(1 - 0.9**2) * after["flow"]

print("by feature:", pm.univariate_test(before, after, generator=0).details["adjusted"])
print("jointly:   ", pm.mmd_test(before, after, generator=0).pvalue)
found = pm.where_they_differ(before, after)
print(found)
found.plot()

# %%
# Digits with a subtle corruption
# -------------------------------
# One handwritten digit in five has its lower right corner dimmed. The gradient of the witness,
# averaged over the images, draws the place; the rows least like the others are corrupted ones.

images = load_digits().data
clean, dirty = images[:800], images[800:1600].copy()
touched = rng.random(len(dirty)) < 0.2
corner = np.zeros((8, 8), dtype=bool)
corner[5:, 4:] = True
dirty[np.ix_(touched, corner.ravel())] *= 0.2

print(pm.mmd_test(clean, dirty, generator=0))
found = pm.where_they_differ(clean, dirty, scale=False)
print(f"{touched[list(found.rows_y)].mean():.0%} of the rows least like clean ones are corrupted")

figure, axes = plt.subplots(1, 5, figsize=(10, 2.3), layout="constrained")
picture = axes[0].imshow(found.importance.reshape(8, 8), cmap="magma")
axes[0].set_title("importance")
for ax, row in zip(axes[1:], found.rows_y, strict=False):
    ax.imshow(dirty[row].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"row {row}" + (", dimmed" if touched[row] else ""), fontsize=9)
for ax in axes:
    ax.set_axis_off()

# %%
# A drifting stream
# -----------------
# Batches arrive one by one. The sequential test may be looked at after each of them and stopped
# at any time: the e-value of an unchanged stream exceeds 20 with probability at most 1/20.

drifting, steady = pm.SequentialTest(), pm.SequentialTest()
for step in range(60):
    reference = rng.normal(size=(10, 2))
    drifting.update(reference, rng.normal(size=(10, 2)) + 0.02 * step)
    steady.update(reference, rng.normal(size=(10, 2)))
print("drift rejected after", drifting.result.rejected_at, "points")
print("no drift:", steady.result)

ax = drifting.plot(label="drift")
steady.plot(ax, label="no drift")
ax.set_ylim(-5, 15)

# %%
# Which of two models is closer?
# ------------------------------
# Both models are wrong; the relative test says whether one is less so.

data = rng.normal(size=(300, 2))
result = pm.relative_test(
    data, rng.normal(size=(300, 2)) + 0.2, 1.7 * rng.normal(size=(300, 2)), generator=0
)
print(result)
result.plot()
plt.tight_layout()
