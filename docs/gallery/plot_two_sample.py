"""
Are these two samples from the same distribution?
=================================================

Three questions from practice, each answered with a p-value that can be trusted at any sample size,
and with a picture of where the difference lies: scanned digits of which a few were damaged, wines
of different cultivars, and a stream of measurements that drifts.
"""

# sphinx_gallery_thumbnail_number = 2

# %%
# Digits with a subtle corruption
# -------------------------------
#
# scikit-learn ships 1,797 digits of 8×8 pixels. We take 300 of them as reference and 300 others as
# the new batch, in which a fifth of the images lost half of their ink along one column: a scanner
# with a weak spot. No single image looks wrong.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine

from probmetrics.discrepancy import witness
from probmetrics.twosample import two_sample_test, univariate_test

rng = np.random.default_rng(0)
digits = load_digits().data
order = rng.permutation(len(digits))
reference, batch = digits[order[:300]], digits[order[300:600]].copy()
clean = digits[order[600:900]]
damaged = rng.random(300) < 0.2
batch.reshape(-1, 8, 8)[damaged, :, 4] *= 0.5

print("clean batch:  ", two_sample_test(reference, clean, generator=0).pvalue)
print("damaged batch:", two_sample_test(reference, batch, generator=0).pvalue)

# %%
# A test that looks at pixels one by one is told by its adjusted p-values which of them differ. All
# 64 are compared over the same labelings, so the correction for their number costs little.

by_pixel = univariate_test(reference, batch, statistic="ad", permutations=1999, generator=0)
print("pixel by pixel:", by_pixel.pvalue)
guilty = by_pixel.details["adjusted"].reshape(8, 8)

figure, axes = plt.subplots(1, 3, figsize=(9, 3))
axes[0].imshow(batch[damaged][0].reshape(8, 8), cmap="gray_r")
axes[0].set_title("a damaged digit")
axes[1].imshow((batch.mean(0) - reference.mean(0)).reshape(8, 8), cmap="RdBu", vmin=-2, vmax=2)
axes[1].set_title("difference of the means")
shown = axes[2].imshow(-np.log10(guilty), cmap="magma")
axes[2].set_title("−log10 adjusted p")
figure.colorbar(shown, ax=axes[2])
for ax in axes:
    ax.set_axis_off()
figure.tight_layout()

# %%
# Wine by cultivar
# ----------------
#
# Thirteen chemical measurements of 178 wines from three cultivars, in thirteen different units.
# Given tables with named columns, the front door brings each column to its own standard deviation
# in the pooled sample, and the answer carries the names.

wine = load_wine(as_frame=True)
cultivars = [wine.data[wine.target == k] for k in range(3)]
for i, j in ((0, 1), (0, 2), (1, 2)):
    result = two_sample_test(cultivars[i], cultivars[j], generator=0)
    print(f"cultivars {i} and {j}: p = {result.pvalue:.4f}")

# %%
# The null hypothesis should hold within a cultivar. Split at random, its halves do not differ:

halves = cultivars[1].sample(frac=1.0, random_state=0)
same = two_sample_test(halves.iloc[:35], halves.iloc[35:], generator=0)
print(f"halves of one cultivar: p = {same.pvalue:.3f}")

# %%
# Which measurements tell the second cultivar from the third? Wasserstein distances per column, in
# units of its standard deviation, with p-values adjusted for thirteen looks.

columns = two_sample_test(
    cultivars[1], cultivars[2], method="wasserstein", permutations=1999, generator=0
)
distance, adjusted = columns.details["values"], columns.details["adjusted"]
ranked = np.argsort(distance)
figure, ax = plt.subplots(figsize=(7, 4))
colours = ["C3" if adjusted[k] <= 0.05 else "0.7" for k in ranked]
ax.barh([columns.columns[k] for k in ranked], distance[ranked], color=colours)
ax.set_xlabel("Wasserstein distance in pooled standard deviations")
ax.set_title("cultivar 1 against 2; red: adjusted p ≤ 0.05")
figure.tight_layout()

# %%
# A drifting stream
# -----------------
#
# A sensor reports two values, 200 a day. From day 8 on, they become correlated; neither of them
# alone changes at all, so charts of means and variances stay silent. Each day is compared with a
# reference period.

days, drift = 16, np.clip((np.arange(16) - 7) / 8, 0, 0.75)


def day(correlation):
    points = rng.normal(size=(200, 2))
    points[:, 1] = correlation * points[:, 0] + np.sqrt(1 - correlation**2) * points[:, 1]
    return points


past = np.concatenate([day(0.0) for _ in range(2)])
stream = [day(value) for value in drift]
joint = [two_sample_test(past, new, permutations=999, generator=0).pvalue for new in stream]
single = [univariate_test(past, new, permutations=999, generator=0).pvalue for new in stream]

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
axes[0].semilogy(joint, "o-", label="fused test")
axes[0].semilogy(single, "s--", color="0.6", label="column by column (KS)")
axes[0].axhline(0.05 / days, color="C3", label="0.05 / 16 days")
axes[0].set(xlabel="day", ylabel="p-value")
axes[0].legend()

# The witness function of the last day: where it has more points than the reference (blue), where
# fewer (red).
side = np.linspace(-3, 3, 60)
grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
height = witness(stream[-1], past, grid).reshape(60, 60)
bound = np.abs(height).max()
axes[1].contourf(side, side, height, levels=20, cmap="RdBu", vmin=-bound, vmax=bound)
axes[1].plot(*stream[-1].T, "k.", markersize=2)
axes[1].set_title("witness function, day 15")
figure.tight_layout()

# %%
# The joint test raises the alarm from day 12 on, at a level corrected for sixteen days
# (Bonferroni); the columns one by one never do. The result itself can be drawn and printed, too.

last = two_sample_test(past, stream[-1], generator=0)
print(last)
last.plot()
plt.show()
