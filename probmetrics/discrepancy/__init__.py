"""Distances between mean embeddings: MMD, energy distance, witness; exact and in linear time."""

from probmetrics.discrepancy.kernel import (
    default_kernel,
    energy_distance,
    mmd,
    mmd_from_blocks,
    witness,
)
from probmetrics.discrepancy.linear_time import block_mmd, linear_mmd, random_feature_mmd

__all__ = [
    "block_mmd",
    "default_kernel",
    "energy_distance",
    "linear_mmd",
    "mmd",
    "mmd_from_blocks",
    "random_feature_mmd",
    "witness",
]
