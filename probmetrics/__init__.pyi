"""What ``probmetrics`` offers; ``__init__.py`` loads each name from here when it is first used."""

from . import data as data
from . import encoders as encoders
from . import losses as losses
from . import metrics as metrics
from . import models as models
from . import sketches as sketches
from ._training import (
    CriticTraining as CriticTraining,
)
from .discrepancy import (
    block_mmd as block_mmd,
)
from .discrepancy import (
    energy_distance as energy_distance,
)
from .discrepancy import (
    linear_mmd as linear_mmd,
)
from .discrepancy import (
    mmd as mmd,
)
from .discrepancy import (
    random_feature_mmd as random_feature_mmd,
)
from .discrepancy import (
    witness as witness,
)
from .divergences.critic import (
    CriticFit as CriticFit,
)
from .divergences.critic import (
    fit_critic as fit_critic,
)
from .divergences.family import (
    JS as JS,
)
from .divergences.family import (
    KL as KL,
)
from .divergences.family import (
    Alpha as Alpha,
)
from .divergences.family import (
    Jeffrey as Jeffrey,
)
from .divergences.family import (
    LeCam as LeCam,
)
from .divergences.family import (
    NeymanChi2 as NeymanChi2,
)
from .divergences.family import (
    PearsonChi2 as PearsonChi2,
)
from .divergences.family import (
    ReverseKL as ReverseKL,
)
from .divergences.family import (
    SquaredHellinger as SquaredHellinger,
)
from .divergences.family import (
    SymmetricChi2 as SymmetricChi2,
)
from .divergences.family import (
    TotalVariation as TotalVariation,
)
from .divergences.histogram import (
    f_divergence as f_divergence,
)
from .divergences.histogram import (
    jeffrey_divergence as jeffrey_divergence,
)
from .divergences.histogram import (
    jensen_shannon_distance as jensen_shannon_distance,
)
from .divergences.histogram import (
    js_divergence as js_divergence,
)
from .divergences.histogram import (
    kl_divergence as kl_divergence,
)
from .divergences.histogram import (
    le_cam as le_cam,
)
from .divergences.histogram import (
    reverse_kl_divergence as reverse_kl_divergence,
)
from .divergences.histogram import (
    total_variation as total_variation,
)
from .divergences.information import (
    mutual_information as mutual_information,
)
from .divergences.montecarlo import (
    MonteCarloEstimate as MonteCarloEstimate,
)
from .divergences.neighbors import (
    bhattacharyya_neighbors as bhattacharyya_neighbors,
)
from .divergences.neighbors import (
    hellinger_neighbors as hellinger_neighbors,
)
from .divergences.neighbors import (
    jeffrey_neighbors as jeffrey_neighbors,
)
from .divergences.neighbors import (
    kl_neighbors as kl_neighbors,
)
from .divergences.neighbors import (
    renyi_neighbors as renyi_neighbors,
)
from .divergences.neighbors import (
    tsallis_neighbors as tsallis_neighbors,
)
from .divergences.powers import (
    alpha_divergence as alpha_divergence,
)
from .divergences.powers import (
    bhattacharyya as bhattacharyya,
)
from .divergences.powers import (
    chi2 as chi2,
)
from .divergences.powers import (
    hellinger as hellinger,
)
from .divergences.powers import (
    renyi as renyi,
)
from .divergences.powers import (
    tsallis as tsallis,
)
from .divergences.ratio import (
    DensityRatio as DensityRatio,
)
from .divergences.ratio import (
    density_ratio as density_ratio,
)
from .divergences.ratio import (
    divergence_from_ratio as divergence_from_ratio,
)
from .divergences.row import (
    CriticRow as CriticRow,
)
from .divergences.row import (
    FDivergence as FDivergence,
)
from .divergences.row import (
    from_function as from_function,
)
from .divergences.rubner import (
    chi2_statistic as chi2_statistic,
)
from .divergences.rubner import (
    histogram_intersection as histogram_intersection,
)
from .divergences.rubner import (
    kolmogorov_smirnov as kolmogorov_smirnov,
)
from .divergences.rubner import (
    match_distance as match_distance,
)
from .divergences.rubner import (
    minkowski as minkowski,
)
from .divergences.rubner import (
    quadratic_form as quadratic_form,
)
from .divergences.variational import (
    donsker_varadhan as donsker_varadhan,
)
from .divergences.variational import (
    infonce as infonce,
)
from .divergences.variational import (
    mine as mine,
)
from .divergences.variational import (
    nwj as nwj,
)
from .divergences.variational import (
    smile as smile,
)
from .divergences.variational import (
    variational_bound as variational_bound,
)
from .gaussian import (
    AffineMap as AffineMap,
)
from .gaussian import (
    BuresBarycenter as BuresBarycenter,
)
from .gaussian import (
    Gaussian as Gaussian,
)
from .gaussian import (
    Moments as Moments,
)
from .gaussian import (
    bures_barycenter as bures_barycenter,
)
from .gaussian import (
    bures_distance as bures_distance,
)
from .gaussian import (
    frechet_distance as frechet_distance,
)
from .gaussian import (
    gaussian_bhattacharyya as gaussian_bhattacharyya,
)
from .gaussian import (
    gaussian_chi2 as gaussian_chi2,
)
from .gaussian import (
    gaussian_energy_distance as gaussian_energy_distance,
)
from .gaussian import (
    gaussian_frechet as gaussian_frechet,
)
from .gaussian import (
    gaussian_hellinger as gaussian_hellinger,
)
from .gaussian import (
    gaussian_kl as gaussian_kl,
)
from .gaussian import (
    gaussian_mmd as gaussian_mmd,
)
from .gaussian import (
    gaussian_renyi as gaussian_renyi,
)
from .gaussian import (
    gaussian_sinkhorn as gaussian_sinkhorn,
)
from .gaussian import (
    gaussian_sinkhorn_divergence as gaussian_sinkhorn_divergence,
)
from .gaussian import (
    gaussian_total_variation as gaussian_total_variation,
)
from .gaussian import (
    gaussian_transport_map as gaussian_transport_map,
)
from .gaussian import (
    gaussian_wasserstein as gaussian_wasserstein,
)
from .gaussian import (
    mixture_kl_product as mixture_kl_product,
)
from .gaussian import (
    mixture_kl_upper as mixture_kl_upper,
)
from .gaussian import (
    mixture_kl_variational as mixture_kl_variational,
)
from .pairwise import (
    Sharded as Sharded,
)
from .pairwise import (
    median_bandwidth as median_bandwidth,
)
from .pairwise import (
    quantile_bandwidth as quantile_bandwidth,
)
from .pairwise import (
    reduce_pairs as reduce_pairs,
)
from .report import (
    Comparison as Comparison,
)
from .report import (
    Ranking as Ranking,
)
from .report import (
    compare as compare,
)
from .report import (
    rank_models as rank_models,
)
from .transport.barycenter import (
    EntropicBarycenter as EntropicBarycenter,
)
from .transport.barycenter import (
    sinkhorn_barycenter as sinkhorn_barycenter,
)
from .transport.barycenter import (
    sinkhorn_barycenter_points as sinkhorn_barycenter_points,
)
from .transport.cdf import (
    cdf_distance as cdf_distance,
)
from .transport.cdf import (
    cramer_distance as cramer_distance,
)
from .transport.cdf import (
    kolmogorov_distance as kolmogorov_distance,
)
from .transport.circle import (
    circular_wasserstein as circular_wasserstein,
)
from .transport.dual import (
    DualBound as DualBound,
)
from .transport.dual import (
    kantorovich_rubinstein as kantorovich_rubinstein,
)
from .transport.exact import (
    earth_mover as earth_mover,
)
from .transport.exact import (
    exact_transport as exact_transport,
)
from .transport.exact import (
    histogram_transport as histogram_transport,
)
from .transport.exact import (
    wasserstein as wasserstein,
)
from .transport.hessian import (
    sinkhorn_hessian_product as sinkhorn_hessian_product,
)
from .transport.histogram import (
    entropic_earth_mover as entropic_earth_mover,
)
from .transport.line import (
    LineBarycenter as LineBarycenter,
)
from .transport.line import (
    wasserstein_1d as wasserstein_1d,
)
from .transport.line import (
    wasserstein_1d_barycenter as wasserstein_1d_barycenter,
)
from .transport.max_sliced import (
    max_sliced_direction as max_sliced_direction,
)
from .transport.max_sliced import (
    max_sliced_wasserstein as max_sliced_wasserstein,
)
from .transport.mixtures import (
    mixture_wasserstein as mixture_wasserstein,
)
from .transport.multiscale import (
    multiscale_transport as multiscale_transport,
)
from .transport.plan import (
    Transport as Transport,
)
from .transport.sinkhorn import (
    sinkhorn as sinkhorn,
)
from .transport.sinkhorn import (
    sinkhorn_divergence as sinkhorn_divergence,
)
from .transport.sliced import (
    SlicedEstimate as SlicedEstimate,
)
from .transport.sliced import (
    sliced_wasserstein as sliced_wasserstein,
)
from .transport.sliced import (
    sliced_wasserstein_estimate as sliced_wasserstein_estimate,
)
from .transport.subspaces import (
    projected_wasserstein as projected_wasserstein,
)
from .transport.unbalanced import (
    partial_transport as partial_transport,
)
from .transport.unbalanced import (
    partial_wasserstein as partial_wasserstein,
)
from .transport.unbalanced import (
    unbalanced_transport as unbalanced_transport,
)
from .transport.unbalanced import (
    unbalanced_wasserstein as unbalanced_wasserstein,
)
from .twosample import (
    Differences as Differences,
)
from .twosample import (
    EffectSizes as EffectSizes,
)
from .twosample import (
    Power as Power,
)
from .twosample import (
    RelativeResult as RelativeResult,
)
from .twosample import (
    SampleSize as SampleSize,
)
from .twosample import (
    SequentialResult as SequentialResult,
)
from .twosample import (
    SequentialTest as SequentialTest,
)
from .twosample import (
    TestResult as TestResult,
)
from .twosample import (
    adjust_pvalues as adjust_pvalues,
)
from .twosample import (
    block_mmd_test as block_mmd_test,
)
from .twosample import (
    categorical_test as categorical_test,
)
from .twosample import (
    characteristic_function_test as characteristic_function_test,
)
from .twosample import (
    classifier_test as classifier_test,
)
from .twosample import (
    combine_pvalues as combine_pvalues,
)
from .twosample import (
    deep_kernel_test as deep_kernel_test,
)
from .twosample import (
    disco_test as disco_test,
)
from .twosample import (
    edge_count_test as edge_count_test,
)
from .twosample import (
    effect_sizes as effect_sizes,
)
from .twosample import (
    energy_coefficient as energy_coefficient,
)
from .twosample import (
    energy_test as energy_test,
)
from .twosample import (
    frechet_test as frechet_test,
)
from .twosample import (
    friedman_rafsky_test as friedman_rafsky_test,
)
from .twosample import (
    fused_test as fused_test,
)
from .twosample import (
    incomplete_mmd_test as incomplete_mmd_test,
)
from .twosample import (
    linear_mmd_test as linear_mmd_test,
)
from .twosample import (
    mean_embedding_test as mean_embedding_test,
)
from .twosample import (
    mixed_test as mixed_test,
)
from .twosample import (
    mmd_aggregated_test as mmd_aggregated_test,
)
from .twosample import (
    mmd_coefficient as mmd_coefficient,
)
from .twosample import (
    mmd_fuse_test as mmd_fuse_test,
)
from .twosample import (
    mmd_test as mmd_test,
)
from .twosample import (
    mmd_test_from_gram as mmd_test_from_gram,
)
from .twosample import (
    nearest_neighbor_test as nearest_neighbor_test,
)
from .twosample import (
    permutation_test as permutation_test,
)
from .twosample import (
    power as power,
)
from .twosample import (
    random_feature_test as random_feature_test,
)
from .twosample import (
    relative_test as relative_test,
)
from .twosample import (
    sample_size as sample_size,
)
from .twosample import (
    selected_kernel_test as selected_kernel_test,
)
from .twosample import (
    sinkhorn_test as sinkhorn_test,
)
from .twosample import (
    sliced_wasserstein_test as sliced_wasserstein_test,
)
from .twosample import (
    two_sample_test as two_sample_test,
)
from .twosample import (
    univariate_test as univariate_test,
)
from .twosample import (
    wasserstein_test as wasserstein_test,
)
from .twosample import (
    where_they_differ as where_they_differ,
)
from .twosample import (
    witness_gradient as witness_gradient,
)
from .uncertainty import (
    Bootstrap as Bootstrap,
)
from .uncertainty import (
    Influence as Influence,
)
from .uncertainty import (
    Interval as Interval,
)
from .uncertainty import (
    Jackknife as Jackknife,
)
from .uncertainty import (
    Subsampling as Subsampling,
)
from .uncertainty import (
    estimate as estimate,
)

__version__: str

__all__ = [
    "JS",
    "KL",
    "AffineMap",
    "Alpha",
    "Bootstrap",
    "BuresBarycenter",
    "Comparison",
    "CriticFit",
    "CriticRow",
    "CriticTraining",
    "DensityRatio",
    "Differences",
    "DualBound",
    "EffectSizes",
    "EntropicBarycenter",
    "FDivergence",
    "Gaussian",
    "Influence",
    "Interval",
    "Jackknife",
    "Jeffrey",
    "LeCam",
    "LineBarycenter",
    "Moments",
    "MonteCarloEstimate",
    "NeymanChi2",
    "PearsonChi2",
    "Power",
    "Ranking",
    "RelativeResult",
    "ReverseKL",
    "SampleSize",
    "SequentialResult",
    "SequentialTest",
    "Sharded",
    "SlicedEstimate",
    "SquaredHellinger",
    "Subsampling",
    "SymmetricChi2",
    "TestResult",
    "TotalVariation",
    "Transport",
    "adjust_pvalues",
    "alpha_divergence",
    "bhattacharyya",
    "bhattacharyya_neighbors",
    "block_mmd",
    "block_mmd_test",
    "bures_barycenter",
    "bures_distance",
    "categorical_test",
    "cdf_distance",
    "characteristic_function_test",
    "chi2",
    "chi2_statistic",
    "circular_wasserstein",
    "classifier_test",
    "combine_pvalues",
    "compare",
    "cramer_distance",
    "data",
    "deep_kernel_test",
    "density_ratio",
    "disco_test",
    "divergence_from_ratio",
    "donsker_varadhan",
    "earth_mover",
    "edge_count_test",
    "effect_sizes",
    "encoders",
    "energy_coefficient",
    "energy_distance",
    "energy_test",
    "entropic_earth_mover",
    "estimate",
    "exact_transport",
    "f_divergence",
    "fit_critic",
    "frechet_distance",
    "frechet_test",
    "friedman_rafsky_test",
    "from_function",
    "fused_test",
    "gaussian_bhattacharyya",
    "gaussian_chi2",
    "gaussian_energy_distance",
    "gaussian_frechet",
    "gaussian_hellinger",
    "gaussian_kl",
    "gaussian_mmd",
    "gaussian_renyi",
    "gaussian_sinkhorn",
    "gaussian_sinkhorn_divergence",
    "gaussian_total_variation",
    "gaussian_transport_map",
    "gaussian_wasserstein",
    "hellinger",
    "hellinger_neighbors",
    "histogram_intersection",
    "histogram_transport",
    "incomplete_mmd_test",
    "infonce",
    "jeffrey_divergence",
    "jeffrey_neighbors",
    "jensen_shannon_distance",
    "js_divergence",
    "kantorovich_rubinstein",
    "kl_divergence",
    "kl_neighbors",
    "kolmogorov_distance",
    "kolmogorov_smirnov",
    "le_cam",
    "linear_mmd",
    "linear_mmd_test",
    "losses",
    "match_distance",
    "max_sliced_direction",
    "max_sliced_wasserstein",
    "mean_embedding_test",
    "median_bandwidth",
    "metrics",
    "mine",
    "minkowski",
    "mixed_test",
    "mixture_kl_product",
    "mixture_kl_upper",
    "mixture_kl_variational",
    "mixture_wasserstein",
    "mmd",
    "mmd_aggregated_test",
    "mmd_coefficient",
    "mmd_fuse_test",
    "mmd_test",
    "mmd_test_from_gram",
    "models",
    "multiscale_transport",
    "mutual_information",
    "nearest_neighbor_test",
    "nwj",
    "partial_transport",
    "partial_wasserstein",
    "permutation_test",
    "power",
    "projected_wasserstein",
    "quadratic_form",
    "quantile_bandwidth",
    "random_feature_mmd",
    "random_feature_test",
    "rank_models",
    "reduce_pairs",
    "relative_test",
    "renyi",
    "renyi_neighbors",
    "reverse_kl_divergence",
    "sample_size",
    "selected_kernel_test",
    "sinkhorn",
    "sinkhorn_barycenter",
    "sinkhorn_barycenter_points",
    "sinkhorn_divergence",
    "sinkhorn_hessian_product",
    "sinkhorn_test",
    "sketches",
    "sliced_wasserstein",
    "sliced_wasserstein_estimate",
    "sliced_wasserstein_test",
    "smile",
    "total_variation",
    "tsallis",
    "tsallis_neighbors",
    "two_sample_test",
    "unbalanced_transport",
    "unbalanced_wasserstein",
    "univariate_test",
    "variational_bound",
    "wasserstein",
    "wasserstein_1d",
    "wasserstein_1d_barycenter",
    "wasserstein_test",
    "where_they_differ",
    "witness",
    "witness_gradient",
]
