"""Two-sample tests: calibrated by permutation, one engine for all of them."""

from probmetrics.twosample.aggregated import mmd_aggregated_test, mmd_fuse_test
from probmetrics.twosample.attribution import (
    Differences,
    where_they_differ,
    witness_gradient,
)
from probmetrics.twosample.betting import SequentialResult, SequentialTest
from probmetrics.twosample.blocks import block_mmd_test, linear_mmd_test
from probmetrics.twosample.categorical import categorical_test
from probmetrics.twosample.classifier import classifier_test
from probmetrics.twosample.coefficients import energy_coefficient, mmd_coefficient
from probmetrics.twosample.deep import deep_kernel_test
from probmetrics.twosample.effects import EffectSizes, effect_sizes
from probmetrics.twosample.frechet import frechet_test
from probmetrics.twosample.front import two_sample_test
from probmetrics.twosample.fused import fused_test
from probmetrics.twosample.graph import (
    edge_count_test,
    friedman_rafsky_test,
    nearest_neighbor_test,
)
from probmetrics.twosample.kernel import energy_test, mmd_test, mmd_test_from_gram
from probmetrics.twosample.ksample import disco_test
from probmetrics.twosample.large import incomplete_mmd_test, random_feature_test
from probmetrics.twosample.locations import characteristic_function_test, mean_embedding_test
from probmetrics.twosample.mixed import mixed_test
from probmetrics.twosample.multiplicity import adjust_pvalues, combine_pvalues
from probmetrics.twosample.permutation import permutation_test
from probmetrics.twosample.power import Power, SampleSize, power, sample_size
from probmetrics.twosample.relative import RelativeResult, relative_test
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.selected import selected_kernel_test
from probmetrics.twosample.sinkhorn import sinkhorn_test
from probmetrics.twosample.univariate import univariate_test
from probmetrics.twosample.wasserstein import sliced_wasserstein_test, wasserstein_test

__all__ = [
    "Differences",
    "EffectSizes",
    "Power",
    "RelativeResult",
    "SampleSize",
    "SequentialResult",
    "SequentialTest",
    "TestResult",
    "adjust_pvalues",
    "block_mmd_test",
    "categorical_test",
    "characteristic_function_test",
    "classifier_test",
    "combine_pvalues",
    "deep_kernel_test",
    "disco_test",
    "edge_count_test",
    "effect_sizes",
    "energy_coefficient",
    "energy_test",
    "frechet_test",
    "friedman_rafsky_test",
    "fused_test",
    "incomplete_mmd_test",
    "linear_mmd_test",
    "mean_embedding_test",
    "mixed_test",
    "mmd_aggregated_test",
    "mmd_coefficient",
    "mmd_fuse_test",
    "mmd_test",
    "mmd_test_from_gram",
    "nearest_neighbor_test",
    "permutation_test",
    "power",
    "random_feature_test",
    "relative_test",
    "sample_size",
    "selected_kernel_test",
    "sinkhorn_test",
    "sliced_wasserstein_test",
    "two_sample_test",
    "univariate_test",
    "wasserstein_test",
    "where_they_differ",
    "witness_gradient",
]
