"""
Five-minute start
=================

Two samples, a number with its interval, a test, and where the samples differ.
"""

import matplotlib.pyplot as plt
import numpy as np

import probmetrics as pm

rng = np.random.default_rng(0)
x = rng.normal(size=(300, 2))
y = np.where(
    rng.random((250, 1)) < 0.8, rng.normal(size=(250, 2)), rng.normal([2, 1], 0.4, (250, 2))
)

# %%
# A distance alone says little: two samples of one law are at a positive distance too. An interval
# says how far the laws may be apart, a permutation test whether they differ at all.
print(pm.estimate(pm.energy_distance, x, y, generator=0))
result = pm.energy_test(x, y, generator=0)
print(result)

# %%
# The null distribution of the test is what the statistic would be if labels meant nothing.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
left.hist(result.null_distribution, 40, color="#a0aec0")
left.axvline(result.statistic, color="#c05621")
left.set(title=f"energy test, p = {result.pvalue:.3g}", xlabel="statistic under exchanged labels")

# The witness function is positive where x has more mass, negative where y has.
grid = np.stack(np.meshgrid(np.linspace(-3, 4, 60), np.linspace(-3, 3, 50)), -1)
height = pm.witness(x, y, grid.reshape(-1, 2)).reshape(50, 60)
bound = abs(height).max()
right.contourf(grid[..., 0], grid[..., 1], height, 21, cmap="RdBu", vmin=-bound, vmax=bound)
right.plot(*y.T, ".", ms=3, color="#c05621")
right.set(title="red: more y than x")
plt.show()
