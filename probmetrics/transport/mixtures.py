"""Transport between mixtures of Gaussians, when plans have to be mixtures of Gaussians too."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from probmetrics._arrays import Values
from probmetrics.gaussian.distances import gaussian_wasserstein
from probmetrics.gaussian.law import Gaussian, gaussian_function
from probmetrics.gaussian.mixtures import mixed
from probmetrics.gaussian.roots import safe_root
from probmetrics.transport.solving import solve_histograms

if TYPE_CHECKING:
    WeightsP = Any
    WeightsQ = Any
else:
    WeightsP = Float[Tensor, "*#batch k"]
    WeightsQ = Float[Tensor, "*#batch l"]


@gaussian_function
def mixture_wasserstein(
    p: Gaussian,
    q: Gaussian,
    *,
    a: WeightsP | None = None,
    b: WeightsQ | None = None,
    root: bool = True,
) -> Values:
    """Mixture Wasserstein distance MW₂: transport between mixtures through Gaussian couplings.

    MW₂² = min over w ∈ Π(a, b) of Σ wᵢⱼ W₂²(pᵢ, qⱼ), a small linear programme. It bounds W₂ of
    the mixtures from above, and is the transport cost when plans must be mixtures of Gaussians.

    Args:
        p: Components of the first mixture, mean of shape (*batch, k, d); covariances may be
            singular.
        q: Components of the second, mean of shape (*batch, l, d).
        a: Weights of p, shape (*batch, k), summing to one; None for uniform.
        b: Weights of q, shape (*batch, l).
        root: False returns MW₂².

    Returns:
        Shape (*batch). A metric on finite Gaussian mixtures.

    Raises:
        TypeError: Components that are not a ``Gaussian``.
        ValueError: No component dimension, different d, weights that do not sum to one, or a
            covariance that is not positive semi-definite.

    Example:
        >>> p = Gaussian([[0.0], [4.0]], diagonal=[[1.0], [1.0]])
        >>> q = Gaussian([[5.0], [0.0]], diagonal=[[1.0], [4.0]])
        >>> round(mixture_wasserstein(p, q, root=False), 6)
        1.0

    Notes:
        kl Gaussian distances, and one network simplex per batch entry, on the CPU. Gradients as in
        ``earth_mover``: in the components through the costs of the optimal plan, in the weights
        as potentials, centred.

    References:
        Delon, Desolneux (2020), A Wasserstein-type distance in the space of Gaussian mixture
        models, proposition 4.
    """
    a, b = mixed(p, q, a, b)
    length = torch.maximum(_length(p), _length(q))
    pairs = (p.in_units(length).with_axis(False), q.in_units(length).with_axis(True))
    cost = gaussian_wasserstein(*pairs, root=False)
    if 0 in (*cost.shape, *a.shape, *b.shape):  # nothing to solve: the answer of an empty batch
        return (a.unsqueeze(-1) * b.unsqueeze(-2) * cost).sum((-2, -1))
    square: Tensor = solve_histograms(a, b, cost, normalize=False).value
    return safe_root(square) * length if root else square * length * length


def _length(law: Gaussian) -> Tensor:
    """A power of two no shorter than half of any mean or spread, shape (*batch).

    In this unit squares neither overflow nor vanish, and no digit changes.
    """
    sizes = []
    for name, part in law.arrays().items():
        variances = part.diagonal(dim1=-2, dim2=-1) if name == "covariance" else part
        size = variances.detach().abs()
        size = size if name in ("mean", "factor") else size.sqrt()
        sizes.append(size.flatten(-2).amax(-1) if name == "factor" else size.amax(-1))
    longest = torch.stack(torch.broadcast_tensors(*sizes)).amax(0).amax(-1)
    longest = torch.where(longest > 0, longest, 1.0)
    return longest / (2 * longest.frexp().mantissa)
