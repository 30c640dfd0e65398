"""The engine of all pairwise estimators: grounds, reductions, and the backends that join them."""

from probmetrics.pairwise.bandwidth import median_bandwidth, quantile_bandwidth
from probmetrics.pairwise.ranks import Sharded
from probmetrics.pairwise.reduce import choose_backend, reduce_pairs
from probmetrics.pairwise.reductions import (
    CountWithin,
    KSmallest,
    LogSumExp,
    Total,
    WeightedSum,
)

__all__ = [
    "CountWithin",
    "KSmallest",
    "LogSumExp",
    "Sharded",
    "Total",
    "WeightedSum",
    "choose_backend",
    "median_bandwidth",
    "quantile_bandwidth",
    "reduce_pairs",
]
