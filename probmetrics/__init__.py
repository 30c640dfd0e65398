"""How far apart are two probability distributions, and how sure are we?

Everything public is importable from here; costs and kernels are in ``probmetrics.pairwise.costs``
and ``probmetrics.pairwise.kernels``. Modules that pull in more than torch and NumPy are loaded
when they are first touched.
"""

import importlib
from typing import TYPE_CHECKING, Any

from probmetrics.discrepancy import (
    block_mmd,
    energy_distance,
    linear_mmd,
    mmd,
    random_feature_mmd,
    witness,
)
from probmetrics.gaussian import frechet_distance, gaussian_frechet
from probmetrics.pairwise import median_bandwidth, quantile_bandwidth, reduce_pairs
from probmetrics.transport.exact import wasserstein
from probmetrics.transport.line import wasserstein_1d
from probmetrics.transport.sliced import sliced_wasserstein
from probmetrics.twosample import TestResult, energy_test, mmd_test
from probmetrics.uncertainty import Interval, estimate

if TYPE_CHECKING:
    from probmetrics import data as data
    from probmetrics.report import Comparison as Comparison
    from probmetrics.report import compare as compare

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Interval",
    "TestResult",
    "block_mmd",
    "compare",
    "data",
    "energy_distance",
    "energy_test",
    "estimate",
    "frechet_distance",
    "gaussian_frechet",
    "linear_mmd",
    "median_bandwidth",
    "mmd",
    "mmd_test",
    "quantile_bandwidth",
    "random_feature_mmd",
    "reduce_pairs",
    "sliced_wasserstein",
    "wasserstein",
    "wasserstein_1d",
    "witness",
]

_LAZY = {
    "Comparison": "probmetrics.report",
    "compare": "probmetrics.report",
}
_LAZY_MODULES = ("data",)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _LAZY_MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
