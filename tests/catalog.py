"""Everything the laws range over: put a new object here and the laws find it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import probmetrics
from probmetrics import discrepancy, twosample
from probmetrics.gaussian import frechet_distance
from probmetrics.pairwise.costs import Cosine, Euclidean, PNorm, SqEuclidean
from probmetrics.pairwise.kernels import (
    Distance,
    Gaussian,
    InverseMultiquadric,
    Laplacian,
    Linear,
    Matern,
    Polynomial,
    RationalQuadratic,
    gaussian_mixture,
)
from probmetrics.transport.exact import wasserstein
from probmetrics.transport.max_sliced import max_sliced_wasserstein
from probmetrics.transport.sinkhorn import sinkhorn_divergence
from probmetrics.transport.sliced import sliced_wasserstein
from probmetrics.transport.subspaces import projected_wasserstein


@dataclass(frozen=True)
class Estimator:
    """A distance between samples, and what it promises; the laws read the promises."""

    name: str
    function: Callable[..., Any]  # (x, y, **options) -> values of the batch shape
    options: dict[str, Any] = field(default_factory=dict)
    weighted: bool = True  # takes a= and b=
    batched: bool = True  # leading dimensions broadcast
    differentiable: bool = True  # in x and y, away from ties
    symmetric: bool = True
    translation: bool = True  # unchanged when both samples move together
    degree: float | None = None  # scaling both samples by c multiplies the value by c**degree
    zero_at_equality: bool = True  # exactly zero between a sample and itself
    minimum: int = 1  # fewest points per sample
    seeded: bool = False  # takes generator=

    def __call__(self, x, y, **more):
        return self.function(x, y, **{**self.options, **more})

    def __repr__(self):
        return self.name


ESTIMATORS: list[Estimator] = [
    # Takes weights, but as reliability weights: they are not repeated rows.
    Estimator("frechet_distance", frechet_distance, weighted=False, degree=2.0, minimum=2),
]


KERNELS = [
    Gaussian(0.8),
    Laplacian(0.9),
    Laplacian(0.9, norm=1),
    Matern(0.5, 1.1),
    Matern(1.5, 1.1),
    Matern(2.5, 1.1),
    RationalQuadratic(0.7, 1.3),
    RationalQuadratic(2.0, 1.3),
    InverseMultiquadric(1.4),
    InverseMultiquadric(1.4, beta=1.0),
    Polynomial(),
    Linear(),
    Distance(),
    Distance(1.4, origin=2.0),
    Distance(0.7, norm=1),
    gaussian_mixture([0.5, 1.0, 2.0]),
    Gaussian(1.0) + Polynomial(),
    Gaussian(1.0) * Linear(),
    Gaussian(2.0) * Laplacian(1.0),
    2.5 * Matern(1.5),
]
COSTS = [
    SqEuclidean(),
    Euclidean(),
    Euclidean(1.5),
    Euclidean(3.0),
    PNorm(1.0),
    PNorm(3.0, power=2.0),
    Cosine(),
]

ESTIMATORS += [
    Estimator("mmd", discrepancy.mmd, {"kernel": Gaussian(1.0)}, zero_at_equality=False, minimum=2),
    Estimator("mmd biased", discrepancy.mmd, {"kernel": Gaussian(1.0), "unbiased": False}),
    Estimator("mmd median", discrepancy.mmd, {"unbiased": False}, degree=0.0, differentiable=False),
    Estimator(
        "mmd root", discrepancy.mmd, {"kernel": Laplacian(1.0), "unbiased": False, "root": True}
    ),
    Estimator("energy", discrepancy.energy_distance, degree=1.0),
    Estimator("energy power", discrepancy.energy_distance, {"power": 1.5}, degree=1.5),
    Estimator(
        "energy unbiased",
        discrepancy.energy_distance,
        {"unbiased": True},
        degree=1.0,
        zero_at_equality=False,
        minimum=2,
    ),
    Estimator(
        "energy coefficient",
        probmetrics.energy_coefficient,
        degree=0.0,
        zero_at_equality=False,
        minimum=2,
    ),
    Estimator(
        "energy coefficient biased",
        probmetrics.energy_coefficient,
        {"unbiased": False},
        degree=0.0,
    ),
    Estimator(
        "mmd coefficient",
        probmetrics.mmd_coefficient,
        {"kernel": Gaussian(1.0), "unbiased": False},
    ),
    Estimator("energy root", discrepancy.energy_distance, {"root": True}, degree=0.5),
    Estimator("wasserstein", wasserstein, degree=1.0),
    Estimator("wasserstein_cubed", wasserstein, {"p": 3.0, "root": False}, degree=3.0),
]


@functools.wraps(projected_wasserstein)
def projected_on_planes(x, y, **options):
    """Two dimensions where there are two."""
    d = x.shape[-1] if getattr(x, "ndim", 1) > 1 else 1
    return projected_wasserstein(x, y, k=min(2, d) or 1, projections=2, **options)


ESTIMATORS += [
    Estimator("sliced", sliced_wasserstein, {"projections": 20}, degree=1.0, seeded=True),
    Estimator(
        "sliced cubed",
        sliced_wasserstein,
        {"p": 3, "root": False, "directions": "qmc", "projections": 9},
        degree=3.0,
        seeded=True,
    ),
    Estimator(
        "sliced p=1",
        sliced_wasserstein,
        {"p": 1, "directions": "orthogonal", "projections": 10},
        degree=1.0,
        seeded=True,
    ),
    # Whatever the seed, it finds the same direction; in few points that may sit at a kink.
    Estimator(
        "max sliced",
        max_sliced_wasserstein,
        {"restarts": 0, "steps": 12, "generator": 7},
        degree=1.0,
        differentiable=False,
    ),
    Estimator("projected", projected_on_planes, degree=1.0, seeded=True),
]


def tight_sinkhorn_divergence(x, y, *, a=None, b=None, **options):
    """The divergence as exact as the dtype of the samples allows."""
    coarse = any(name in str(getattr(x, "dtype", "")) for name in ("float32", "float16"))
    options = {"tolerance": 1e-4 if coarse else 1e-10, "max_steps": 5000, **options}
    return sinkhorn_divergence(x, y, a=a, b=b, **options)


ESTIMATORS += [
    # The default ε follows the data and is a constant to gradients.
    Estimator("sinkhorn_divergence", tight_sinkhorn_divergence, degree=2.0, differentiable=False),
    Estimator(
        "sinkhorn_divergence of distances",
        tight_sinkhorn_divergence,
        {"cost": Euclidean(), "epsilon": 0.5},
    ),
]


@dataclass(frozen=True)
class Measure:
    """A public function of ``probmetrics.divergences``, and what it compares."""

    name: str
    takes: str  # "histograms", "laws" (histograms or distributions), "samples", "scores"
    options: dict[str, Any] = field(default_factory=dict)
    minimum: tuple[int, int] = (1, 1)  # fewest points of x and of y
    constant: str | None = None  # what it says to a column that is constant in both samples

    def __call__(self, first, second, **more):
        options = {**self.options, **more}
        if isinstance(first, torch.Tensor) and "A" in options:
            options["A"] = torch.as_tensor(options["A"], dtype=first.dtype)
        return getattr(probmetrics, self.name)(first, second, **options)

    def __repr__(self):
        return " ".join([self.name, *(f"{v}" for v in self.options.values() if type(v) is str)])


LAWS = [
    *(
        Measure(name, "laws")
        for name in (
            "kl_divergence",
            "reverse_kl_divergence",
            "jeffrey_divergence",
            "js_divergence",
            "jensen_shannon_distance",
            "total_variation",
            "le_cam",
            "hellinger",
            "bhattacharyya",
        )
    ),
    *(Measure("chi2", "laws", {"kind": kind}) for kind in ("pearson", "neyman", "symmetric")),
    *(Measure(name, "laws", {"alpha": 0.4}) for name in ("renyi", "tsallis", "alpha_divergence")),
    Measure("f_divergence", "laws", {"f": "squared hellinger"}),
]
HISTOGRAMS = [
    *(
        Measure(name, "histograms")
        for name in (
            "minkowski",
            "histogram_intersection",
            "chi2_statistic",
            "kolmogorov_smirnov",
            "match_distance",
        )
    ),
    Measure("quadratic_form", "histograms", {"A": np.eye(4)}),
]
_K = {"k": 3}
_BRIEF = probmetrics.CriticTraining(steps=5)
SAMPLES = [
    Measure("kl_neighbors", "samples", _K, (4, 3), "constant"),
    Measure("jeffrey_neighbors", "samples", _K, (4, 4), "constant"),
    Measure("renyi_neighbors", "samples", {"alpha": 0.5, **_K}, (4, 3), "constant"),
    Measure("tsallis_neighbors", "samples", {"alpha": 0.5, **_K}, (4, 3), "constant"),
    Measure("hellinger_neighbors", "samples", _K, (4, 3), "constant"),
    Measure("bhattacharyya_neighbors", "samples", _K, (4, 3), "constant"),
    *(
        Measure("density_ratio", "samples", {"method": method, "folds": 2}, (4, 4), "constant")
        for method in ("classifier", "ulsif", "rulsif", "kliep")
    ),
    Measure("fit_critic", "samples", {"folds": 2, "training": _BRIEF}, (8, 8)),
    Measure("kantorovich_rubinstein", "samples", {"folds": 2, "training": _BRIEF}, (8, 8)),
    Measure("mutual_information", "samples", {"folds": 2, "training": _BRIEF}, (16, 16)),
]
SCORES = [
    *(
        Measure(name, "scores")
        for name in ("variational_bound", "donsker_varadhan", "mine", "nwj", "smile")
    ),
]
MEASURES = [*LAWS, *HISTOGRAMS, *SAMPLES, *SCORES]
# Public functions of ``divergences`` that compare nothing themselves, with tests of their own.
MAKERS = {"Alpha", "divergence_from_ratio", "from_function", "infonce"}


def mean_gap(x, y):
    return abs(float(x.mean()) - float(y.mean()))


# Every test of two samples of numbers; the promises all of them make: test_twosample_contract.py.
TWO_SAMPLE_TESTS: dict[str, Callable[..., Any]] = {
    "block": functools.partial(twosample.block_mmd_test, block=3),
    "characteristic": functools.partial(twosample.characteristic_function_test, learn=False),
    "characteristic learned": twosample.characteristic_function_test,
    "classifier": twosample.classifier_test,
    "deep": functools.partial(twosample.deep_kernel_test, steps=3, hidden=4),
    "disco": twosample.disco_test,
    "edges": functools.partial(twosample.edge_count_test, k=3),
    "energy": twosample.energy_test,
    "frechet": twosample.frechet_test,
    "friedman-rafsky": twosample.friedman_rafsky_test,
    "front": twosample.two_sample_test,
    "fused": functools.partial(twosample.fused_test, bandwidths=3),
    "incomplete": twosample.incomplete_mmd_test,
    "linear": twosample.linear_mmd_test,
    "mean embedding": functools.partial(twosample.mean_embedding_test, learn=False),
    "mean embedding learned": twosample.mean_embedding_test,
    "mixed": twosample.mixed_test,
    "mmd": twosample.mmd_test,
    "mmd aggregated": functools.partial(twosample.mmd_aggregated_test, bandwidths=3),
    "mmd fuse": functools.partial(twosample.mmd_fuse_test, bandwidths=3),
    "neighbors": twosample.nearest_neighbor_test,
    "any function": lambda x, y, **k: twosample.permutation_test(x, y, mean_gap, **k),
    "random features": functools.partial(twosample.random_feature_test, features=40),
    "selected": functools.partial(twosample.selected_kernel_test, bandwidths=3),
    "sinkhorn": twosample.sinkhorn_test,
    "sliced": functools.partial(twosample.sliced_wasserstein_test, projections=5),
    "ks": twosample.univariate_test,
    "ad": functools.partial(twosample.univariate_test, statistic="ad"),
    "cvm": functools.partial(twosample.univariate_test, statistic="cvm"),
    "es": functools.partial(twosample.univariate_test, statistic="es"),
    "wasserstein": twosample.wasserstein_test,
}


@dataclass(frozen=True)
class Mover:
    """A public function of ``probmetrics.transport``, and what it moves onto what."""

    name: str
    takes: str  # "samples", "line", "histograms" (p, q, cost)
    options: dict[str, Any] = field(default_factory=dict)
    balanced: bool = True  # wants weights that sum to one

    def __call__(self, first, second, *rest, **more):
        options = {**self.options, **more}
        return getattr(probmetrics, self.name)(first, second, *rest, **options)

    def __repr__(self):
        return " ".join([self.name, *(f"{v}" for v in self.options.values() if type(v) is str)])


_LOOSE = {"tolerance": 1e-3}
_SEED = {"generator": 0}
MOVERS = [
    Mover("wasserstein", "samples"),
    Mover("exact_transport", "samples"),
    Mover("partial_wasserstein", "samples", {"mass": 0.5}, balanced=False),
    Mover("partial_transport", "samples", {"mass": 0.5}, balanced=False),
    *(
        Mover(name, "samples", {"penalty": 1.0, "divergence": kind}, balanced=False)
        for name in ("unbalanced_wasserstein", "unbalanced_transport")
        for kind in ("kl", "tv")
    ),
    Mover("sinkhorn", "samples", _LOOSE),
    Mover("sinkhorn", "samples", {"reach": 1.0, "penalty": "kl", **_LOOSE}, balanced=False),
    Mover("sinkhorn", "samples", {"reach": 1.0, "penalty": "tv", **_LOOSE}, balanced=False),
    Mover("sinkhorn_divergence", "samples", _LOOSE),
    Mover("multiscale_transport", "samples", {"tolerance": 1.0}),
    Mover("sliced_wasserstein", "samples", {"projections": 4, **_SEED}),
    Mover("sliced_wasserstein_estimate", "samples", {"projections": 4, **_SEED}),
    Mover("max_sliced_wasserstein", "samples", {"restarts": 0, "steps": 2, **_SEED}),
    Mover("max_sliced_direction", "samples", {"restarts": 0, "steps": 2, **_SEED}),
    Mover("projected_wasserstein", "samples", {"k": 1, "projections": 2, **_SEED}),
    *(
        Mover(name, "line")
        for name in (
            "wasserstein_1d",
            "circular_wasserstein",
            "cdf_distance",
            "cramer_distance",
            "kolmogorov_distance",
        )
    ),
    Mover("earth_mover", "histograms"),
    Mover("histogram_transport", "histograms"),
    Mover("entropic_earth_mover", "histograms", _LOOSE),
]
# Public functions of ``transport`` that take other things, with tests of bad input of their own.
CENTRES = {"sinkhorn_barycenter", "sinkhorn_barycenter_points", "wasserstein_1d_barycenter"}
SECOND = {"sinkhorn_hessian_product"}
MIXTURES = {"mixture_wasserstein"}  # between laws, not samples
