"""Every estimator at several sizes, value and value with gradient, beside the peers that have it.

    make bench                        # with the other benchmarks
    make bench BENCH=neighbors        # the rows whose name contains "neighbors"

Writes benchmarks/results/estimators.json and .md. Errors are relative to the same quantity in
float64 by our own plain code, or of the peers where the answer is exact. A peer that fails is
reported with its error. The largest sizes, where memory decides, are in speed.py and curves.py.
"""

import argparse
import contextlib
import functools
import io
import math
import sys
import warnings

import numpy as np
import torch
from speed import cdist_energy, cloud, dense_mmd, geomloss, gradient, squares
from stand_in import import_fidelity
from table import HEAD, timed, write

import probmetrics as pm
from probmetrics.pairwise.kernels import Gaussian

import_fidelity()
warnings.filterwarnings("ignore")
PACKAGES = [
    *("probmetrics", "torch", "numpy", "scipy", "POT", "geomloss", "ott-jax", "jax", "dcor"),
    *("hyppo", "torchmetrics", "torch-fidelity", "prdc"),
]
SIZES = ((1000, 2), (1000, 64), (5000, 2), (5000, 64))


def both(name, function, x, peers, exact, differentiable=()):
    """A row for the value, and one for the gradient in x among those that have one.

    Functions take x; the peers named in ``differentiable`` are tensors' functions.
    """
    calls = {peer: functools.partial(call, x) for peer, call in peers.items()}
    yield name, functools.partial(function, x), calls, exact
    calls = {peer: gradient(peers[peer], x) for peer in differentiable}
    yield f"{name} +gradient", gradient(function, x), calls, exact


def kernel_rows():
    for n, d in SIZES:
        x64, y64 = cloud(n, d)
        x, y, sigma = x64.float(), y64.float(), math.sqrt(d)
        kernel, yn = Gaussian(sigma), y.numpy()
        peers = {
            "torch": lambda x, y=y, s=sigma: dense_mmd(x, y, s),
            "GeomLoss": lambda x, y=y, s=sigma: geomloss("gaussian", "tensorized", blur=s)(x, y),
        }
        if n == 1000:  # float64 of its own, another normalisation: its error is not ours to tell

            def hyppo(x, y=yn, s=sigma):
                from hyppo.ksample import MMD

                MMD(gamma=0.5 / s**2).statistic(x.numpy().astype(float), y.astype(float))

            peers["hyppo"] = hyppo
        yield from both(
            f"mmd n={n} d={d} float32",
            lambda x, y=y, k=kernel: pm.mmd(x, y, kernel=k, unbiased=False),
            x,
            peers,
            lambda x=x64, y=y64, k=kernel: pm.mmd(x, y, kernel=k, unbiased=False, backend="dense"),
            ("torch", "GeomLoss"),
        )

        def by_dcor(x, y=yn):
            import dcor

            return dcor.energy_distance(x.numpy(), y)

        peers = {"torch.cdist": lambda x, y=y: cdist_energy(x, y), "dcor": by_dcor}
        yield from both(
            f"energy_distance n={n} d={d} float32",
            lambda x, y=y: pm.energy_distance(x, y),
            x,
            peers,
            lambda x=x64, y=y64: pm.energy_distance(x, y, backend="dense"),
            ("torch.cdist",),
        )
        points = torch.cat([x, y])[: n // 2]

        def plain(x, y=y, t=points, s=sigma):
            return sum(
                w * torch.exp(squares(t, z) * (-0.5 / s**2)).mean(-1) for z, w in ((x, 1), (y, -1))
            )

        yield from both(
            f"witness n={n} d={d} float32",
            lambda x, y=y, t=points, k=kernel: pm.witness(x, y, t, kernel=k),
            x,
            {"torch": plain},
            lambda x=x64, y=y64, t=points, k=kernel: pm.witness(x, y, t.double(), kernel=k),
            ("torch",),
        )
    x64, y64 = cloud(100_000, 16)
    x, y, kernel = x64.float(), y64.float(), Gaussian(4.0)
    for name, function in (
        ("linear_mmd", pm.linear_mmd),
        ("block_mmd", functools.partial(pm.block_mmd, block=100)),
        ("random_feature_mmd", functools.partial(pm.random_feature_mmd, features=500, generator=0)),
    ):
        call = functools.partial(function, kernel=kernel)
        yield from both(f"{name} n=100000 d=16 float32", lambda x, f=call: f(x, y), x, {}, None)


def neighbor_rows():
    from scipy.spatial import cKDTree

    for n, d in SIZES:
        x, y = cloud(n, d)
        xn, yn = x.numpy(), y.numpy()

        def tree(x=xn, y=yn, n=n, d=d):
            within = cKDTree(x).query(x, k=6, workers=2)[0][:, -1]
            across = cKDTree(y).query(x, k=5, workers=2)[0][:, -1]
            return d * np.log(across / within).mean() + math.log(len(y) / (n - 1))

        name = f"kl_neighbors n={n} d={d} float64"
        yield name, lambda x=x, y=y: pm.kl_neighbors(x, y, k=5), {"SciPy cKDTree": tree}, tree


def line_rows():
    import ot
    from scipy import stats

    for n in (1000, 100_000):
        u, v = (z[:, 0].numpy().copy() for z in cloud(n, 1))
        for name, ours, peers in (
            (
                "wasserstein_1d",
                lambda u=u, v=v: pm.wasserstein_1d(u, v),
                {
                    "SciPy": lambda u=u, v=v: stats.wasserstein_distance(u, v),
                    "POT": lambda u=u, v=v: ot.wasserstein_1d(u, v, p=1),
                },
            ),
            (
                "cramer_distance",
                lambda u=u, v=v: pm.cramer_distance(u, v),
                {"SciPy": lambda u=u, v=v: stats.energy_distance(u, v) ** 2 / 2},
            ),
            (
                "kolmogorov_distance",
                lambda u=u, v=v: pm.kolmogorov_distance(u, v),
                {"SciPy": lambda u=u, v=v: stats.ks_2samp(u, v, method="asymp").statistic},
            ),
        ):
            yield f"{name} n={n} float64", ours, peers, peers["SciPy"]
        angles = [np.mod(z / 7, 1.0) for z in (u, v)]
        yield (
            f"circular_wasserstein n={n} float64",
            lambda t=angles: pm.circular_wasserstein(*t, period=1.0),
            {"POT": lambda t=angles: ot.wasserstein_circle(*t, p=1)},
            lambda t=angles: ot.wasserstein_circle(*t, p=1),
        )


def sliced_rows():
    import ot

    for n, d in ((1000, 64), (5000, 64)):
        x, y = cloud(n, d)
        along = torch.from_numpy(ot.sliced.get_random_projections(d, 200, seed=0).T.copy())

        def pot(x, y=y, along=along):
            return ot.sliced_wasserstein_distance(x, y, projections=along.T)

        yield from both(
            f"sliced_wasserstein n={n} d={d} 200 directions float64",
            lambda x, y=y, along=along: pm.sliced_wasserstein(x, y, directions=along),
            x,
            {"POT": pot},
            lambda x=x, y=y, along=along: pot(x, y, along),
            ("POT",),
        )
        yield (
            f"max_sliced_wasserstein n={n} d={d} float64",
            lambda x=x, y=y: pm.max_sliced_wasserstein(x, y, generator=0),
            {},
            None,
        )


@functools.cache
def ott_solver():
    """Compiled once for each shape, as its users do."""
    import jax
    from ott.geometry import pointcloud
    from ott.solvers.linear import solve

    @jax.jit
    def dual(x, y, epsilon):
        geometry = pointcloud.PointCloud(x, y, epsilon=epsilon)
        return solve(geometry, threshold=1e-3, max_iterations=5000).dual_cost

    return dual


def transport_rows():
    import ot

    for n, d in ((1000, 2), (1000, 64), (5000, 2)):
        x64, y64 = cloud(n, d)
        x, y = x64.float(), y64.float()
        epsilon = 0.05 * float(squares(x64, y64).mean())

        def ott(x, y=y, epsilon=epsilon):
            return float(ott_solver()(x.numpy(), y.numpy(), epsilon))

        def loss(x, y=y, epsilon=epsilon):
            from geomloss import SamplesLoss

            options = {"blur": math.sqrt(epsilon / 2), "scaling": 0.9, "debias": False}
            return 2 * SamplesLoss("sinkhorn", p=2, backend="tensorized", **options)(x, y)

        def pot(x, y=y, epsilon=epsilon, n=n):
            weights = torch.full((n,), 1 / n)
            _, log = ot.sinkhorn(
                weights, weights, ot.dist(x, y), epsilon, stopThr=1e-3 / math.sqrt(n), log=True
            )
            f, g = (epsilon * (log[k].double().log() + math.log(n)) for k in ("u", "v"))
            return f.mean() + g.mean()

        yield from both(
            f"sinkhorn to 1e-3 n={n} d={d} float32",
            lambda x, y=y, e=epsilon: pm.sinkhorn(x, y, epsilon=e, tolerance=1e-3).value,
            x,
            {"POT": pot, "OTT-JAX": ott, "GeomLoss": loss},
            lambda x=x64, y=y64, e=epsilon: pm.sinkhorn(x, y, epsilon=e, tolerance=1e-7).value,
            ("GeomLoss",),
        )
    for n, d in ((500, 2), (1000, 64)):
        x, y = cloud(n, d)

        def simplex(x, y=y):
            return ot.emd2([], [], ot.dist(x, y), numItermax=10_000_000)

        yield from both(
            f"wasserstein (exact) n={n} d={d} float64",
            lambda x, y=y: pm.wasserstein(x, y, root=False),
            x,
            {"POT": simplex},
            lambda x=x, y=y: simplex(x, y),
            ("POT",),
        )
    x, y = cloud(2000, 64)
    c1, c2 = torch.cov(x.T), torch.cov(y.T)
    yield (
        "gaussian_wasserstein d=64 float64",
        lambda: pm.bures_distance(c1, c2),
        {"POT": lambda: ot.gaussian.bures_distance(c1, c2)},
        lambda: ot.gaussian.bures_distance(c1, c2),
    )


def histogram_rows():
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import entropy

    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(100), (2, 10_000))
    yield (
        "kl_divergence 10000 histograms of 100 float64",
        lambda: pm.kl_divergence(p, q),
        {"SciPy": lambda: entropy(p, q, axis=-1)},
        lambda: entropy(p, q, axis=-1),
    )
    yield (
        "jensen_shannon_distance 10000 histograms of 100 float64",
        lambda: pm.jensen_shannon_distance(p, q),
        {"SciPy": lambda: jensenshannon(p, q, axis=-1)},
        lambda: jensenshannon(p, q, axis=-1),
    )


def feature_rows():
    for n, d in ((5000, 64), (5000, 512)):
        x, y = cloud(n, d)

        def fidelity(x=x, y=y):
            from torch_fidelity.metric_fid import fid_statistics_to_metric

            sides = (
                {"mu": z.mean(0).numpy(), "sigma": np.cov(z.numpy(), rowvar=False)} for z in (x, y)
            )
            return fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"]

        def torchmetrics(x, y=y):
            from torchmetrics.image.fid import _compute_fid

            (m1, c1), (m2, c2) = ((z.mean(0), torch.cov(z.T)) for z in (x, y))
            return _compute_fid(m1, c1, m2, c2)

        def scipy(x=x, y=y):
            from scipy.linalg import sqrtm

            (m1, c1), (m2, c2) = ((z.mean(0).numpy(), np.cov(z.numpy().T)) for z in (x, y))
            return ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)

        yield from both(
            f"frechet_distance n={n} d={d} float64",
            lambda x, y=y: pm.frechet_distance(x, y),
            x,
            {"torchmetrics": torchmetrics, "torch-fidelity": lambda x, f=fidelity: f()},
            scipy,
            ("torchmetrics",),
        )
    x, y = cloud(3000, 64)
    names = ("precision", "recall", "density", "coverage")

    def ours():
        found = pm.metrics.precision_recall(x, y, k=5)
        return [float(getattr(found, name)) for name in names]

    def prdc():
        from prdc import compute_prdc

        with contextlib.redirect_stdout(io.StringIO()):
            found = compute_prdc(x.numpy(), y.numpy(), nearest_k=5)
        return [found[name] for name in names]

    yield "prdc n=3000 d=64 float64", ours, {"prdc": prdc}, prdc


def rows():
    yield from kernel_rows()
    yield from neighbor_rows()
    yield from line_rows()
    yield from sliced_rows()
    yield from transport_rows()
    yield from histogram_rows()
    yield from feature_rows()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(2)
    print(HEAD)
    table = timed(rows(), options.only, options.repeats)
    if not options.only:
        write("estimators", "Every estimator, side by side", table, PACKAGES, "make bench")


if __name__ == "__main__":
    sys.exit(main())
