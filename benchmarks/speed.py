"""Side by side with the best peers, in one process: time, peak memory and error of each.

    make bench                 # everything
    make bench BENCH=mmd       # the rows whose name contains "mmd"

Writes benchmarks/results/speed.json and speed.md. Errors are relative to the same quantity in
float64. A peer that fails is reported with its error. Transport has rows of its own: transport.py.
"""

import argparse
import math
import sys
import warnings
from functools import partial

import numpy as np
import torch
from table import HEAD, timed, write

import probmetrics as pm
from probmetrics.pairwise.kernels import Gaussian

warnings.filterwarnings("ignore")
PACKAGES = ["probmetrics", "torch", "numpy", "POT", "geomloss", "pykeops", "pted", "scipy"]


def cloud(n, d, *, batch=()):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*batch, n, d))
    y = rng.standard_normal((*batch, n, d)) * 1.2 + 0.5 / math.sqrt(d)
    return torch.from_numpy(x), torch.from_numpy(y)


def gradient(function, x):
    """A call for the value and the gradient in x."""
    leaf = x.clone().requires_grad_()

    def call():
        value = function(leaf)
        torch.autograd.grad(value.sum(), leaf)
        return value.detach()

    return call


def squares(x, y):
    return ((x * x).sum(-1)[..., :, None] + (y * y).sum(-1)[..., None, :] - 2 * x @ y.mT).clamp_min(
        0
    )


def dense_mmd(x, y, sigma):
    def mean(u, v):
        return torch.exp(squares(u, v) * (-0.5 / sigma**2)).mean((-1, -2))

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


def cdist_energy(x, y):
    return 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()


def geomloss(loss, backend, **options):
    from geomloss import SamplesLoss

    made = SamplesLoss(loss, backend=backend, **options)
    return lambda x, y: 2 * made(x, y)  # GeomLoss halves its kernel norms


def rows():
    """(name, ours, peers by name, exact value): calls without arguments."""
    for n, d in ((10_000, 2), (10_000, 64), (10_000, 784), (50_000, 2)):
        x64, y64 = cloud(n, d)
        x, y, sigma = x64.float(), y64.float(), math.sqrt(d)
        kernel = Gaussian(sigma)

        def ours(x, y=y, kernel=kernel):
            return pm.mmd(x, y, kernel=kernel, unbiased=False)

        peers = {}
        if d <= 64:
            peers["GeomLoss+KeOps"] = lambda x, y=y, s=sigma: geomloss(
                "gaussian", "online", blur=s
            )(x, y)
        if n <= 10_000:
            peers["torch dense"] = lambda x, y=y, s=sigma: dense_mmd(x, y, s)
        exact = lambda a=x64, b=y64, k=kernel: pm.mmd(a, b, kernel=k, unbiased=False)  # noqa: E731
        name = f"mmd n={n} d={d} float32"
        yield name, partial(ours, x), {k: partial(f, x) for k, f in peers.items()}, exact
        if n <= 10_000:
            yield (
                f"{name} +gradient",
                gradient(ours, x),
                {k: gradient(f, x) for k, f in peers.items()},
                exact,
            )
    for d in (2, 64):
        x64, y64 = cloud(10_000, d)
        x, y = x64.float(), y64.float()
        peers = {
            "torch.cdist": lambda x, y=y: cdist_energy(x, y),
            "GeomLoss+KeOps": lambda x, y=y: geomloss("energy", "online")(x, y),
        }
        exact = lambda a=x64, b=y64: pm.energy_distance(a, b)  # noqa: E731
        name = f"energy n=10000 d={d} float32"
        yield (
            name,
            partial(pm.energy_distance, x, y),
            {k: partial(f, x) for k, f in peers.items()},
            exact,
        )
        yield (
            f"{name} +gradient",
            gradient(lambda x, y=y: pm.energy_distance(x, y), x),
            {k: gradient(f, x) for k, f in peers.items()},
            exact,
        )
    yield from batched_rows()
    yield from line_rows()
    yield from sliced_rows()
    yield from permutation_rows()


def batched_rows():
    x64, y64 = cloud(64, 8, batch=(256,))
    x, y, sigma = x64.float(), y64.float(), math.sqrt(8)
    kernel = Gaussian(sigma)
    peer = geomloss("gaussian", "tensorized", blur=sigma)

    def ours(x):
        return pm.mmd(x, y, kernel=kernel, unbiased=False)

    exact = lambda: pm.mmd(x64, y64, kernel=kernel, unbiased=False)  # noqa: E731
    name = "mmd 256 problems 64x64 d=8 float32"
    yield name, lambda: ours(x), {"GeomLoss": lambda: peer(x, y)}, exact
    peers = {"GeomLoss": gradient(lambda x: peer(x, y), x)}
    yield f"{name} +gradient", gradient(ours, x), peers, exact


def line_rows():
    import ot

    rng = np.random.default_rng(0)
    n = 10**6
    u64, v64 = rng.standard_normal(n), rng.standard_normal(n) * 1.3 + 0.2
    a64, b64 = (w / w.sum() for w in (rng.random(n) + 0.1, rng.random(n) + 0.1))
    u, v, a, b = (z.astype(np.float32) for z in (u64, v64, a64, b64))
    yield (
        "wasserstein_1d n=1000000 float32",
        lambda: pm.wasserstein_1d(u, v),
        {"POT emd2_1d": lambda: ot.emd2_1d(u, v, metric="cityblock")},
        lambda: pm.wasserstein_1d(u64, v64),
    )
    yield (
        "wasserstein_1d n=1000000 float32 weighted",
        lambda: pm.wasserstein_1d(u, v, a=a, b=b),
        {"POT emd2_1d": lambda: ot.emd2_1d(u, v, a, b, metric="cityblock")},
        lambda: pm.wasserstein_1d(u64, v64, a=a64, b=b64),
    )
    rows_u, rows_v = rng.standard_normal((2, 1000, 1000))
    rows_v = rows_v * 1.3 + 0.2
    ru, rv = rows_u.astype(np.float32), rows_v.astype(np.float32)
    columns_u, columns_v = np.ascontiguousarray(ru.T), np.ascontiguousarray(rv.T)
    yield (
        "wasserstein_1d 1000 problems of 1000 float32",
        lambda: pm.wasserstein_1d(ru, rv),
        {"POT wasserstein_1d": lambda: ot.wasserstein_1d(columns_u, columns_v, p=1)},
        lambda: pm.wasserstein_1d(rows_u, rows_v),
    )


def sliced_rows():
    import ot

    x64, y64 = cloud(10_000, 64)
    x, y = x64.float(), y64.float()
    directions = torch.from_numpy(ot.sliced.get_random_projections(64, 500, seed=0).T.copy())
    xn, yn, pn = x.numpy(), y.numpy(), directions.float().T.contiguous().numpy()
    yield (
        "sliced_wasserstein n=10000 d=64 500 directions float32",
        lambda: pm.sliced_wasserstein(x, y, directions=directions.float()),
        {"POT": lambda: ot.sliced_wasserstein_distance(xn, yn, projections=pn)},
        lambda: pm.sliced_wasserstein(x64, y64, directions=directions),
    )


def permutation_rows():
    x, y = cloud(1000, 10)
    peers = {}
    try:
        import pted

        peers["pted"] = lambda: pted.pted(x.numpy(), y.numpy(), permutations=1000)
    except ImportError:
        pass
    for name, test in (
        ("mmd_test", lambda: pm.mmd_test(x, y, permutations=1000, generator=0)),
        ("energy_test", lambda: pm.energy_test(x, y, permutations=1000, generator=0)),
    ):
        yield f"{name} n=1000 d=10 B=1000 float64", test, peers, None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(2)
    print(HEAD)
    table = timed(rows(), options.only, options.repeats)
    if not options.only:
        write("speed", "Speed, side by side", table, PACKAGES, "make bench")


if __name__ == "__main__":
    sys.exit(main())
