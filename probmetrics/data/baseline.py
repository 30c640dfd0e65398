"""The Gaussian (PCA) generator: the simplest model of a sample, and a baseline for all others."""

import torch

from probmetrics import _checks as checks
from probmetrics._arrays import Array, SamplesX, array_function


@array_function
def gaussian_sampler(
    x: SamplesX,
    n: int,
    *,
    components: int | None = None,
    generator: torch.Generator | int | None = None,
) -> Array:
    """New points of the Gaussian fitted to a sample, within its first principal components.

    With the sample's mean μ, its k leading principal directions V_k and variances λ_k (divided by
    N − 1), the points are μ + V_k diag(λ_k)^½ z, z ~ N(0, I_k). What the other directions hold is
    left out, not replaced by noise. So mean and covariance are those of the sample's PCA
    reconstruction; everything beyond second moments is lost, which a good test finds.

    Args:
        x: Sample to imitate, shape (*batch, N, d) with N ≥ 2.
        n: Number of new points.
        components: k, at most min(N − 1, d); None keeps all.
        generator: Draws the points.

    Returns:
        Shape (*batch, n, d), in the dtype and on the device of ``x``.

    Raises:
        ValueError: Fewer than two points, NaN, or more components than the sample has.

    Example:
        >>> import probmetrics as pm
        >>> digits = pm.data.read("data:digits").values
        >>> fake = gaussian_sampler(digits, 500, components=20, generator=0)
        >>> fake.shape
        (500, 64)

    Notes:
        One singular value decomposition in float64, O(N d min(N, d)). Differentiable in ``x``
        where the kept singular values are distinct; sums are taken in float64.

    References:
        Tipping and Bishop (1999), Probabilistic Principal Component Analysis, with zero noise.
    """
    x = checks.sample(x, minimum=2)
    n = checks.count(n, "n")
    size, d = x.shape[-2:]
    k = checks.count(
        min(size - 1, d) if components is None else components,
        "components",
        maximum=min(size - 1, d),
    )
    wide = x.double()
    mean = wide.mean(dim=-2, keepdim=True)
    _, scale, directions = torch.linalg.svd(wide - mean, full_matrices=False)
    source = checks.generator(generator, x.device)
    shape = (*x.shape[:-2], n, k)
    z = torch.randn(shape, generator=source, dtype=torch.float64, device=x.device)
    deviation = scale[..., None, :k] / (size - 1) ** 0.5
    return (mean + (z * deviation) @ directions[..., :k, :]).to(x.dtype)
