"""Ways to keep a critic smooth: gradient penalties, weight clipping, spectral normalisation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from probmetrics import _checks as checks
from probmetrics.losses.precision import wide
from probmetrics.pairwise.ground import safe_sqrt

Seed = torch.Generator | int | None
PLACES = ("between", "real", "fake", "both")


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    *,
    at: str = "between",
    target: float = 1.0,
    one_sided: bool = False,
    generator: Seed = None,
) -> Tensor:
    """Mean over points of (‖∇ critic(t)‖ − target)², the norm taken point by point.

    Args:
        critic: Scores points (n, …) one by one; several scores per point are added up.
        real: Data, shape (n, …).
        fake: Generated points, shape (m, …).
        at: "between": on segments from real to fake points, uniformly (the first min(n, m) of
            each are paired); "real", "fake" or "both": on the points themselves.
        target: The norm wanted. With 0 at "real" it is the R₁ penalty E‖∇‖².
        one_sided: Penalise only norms above the target.
        generator: Draws the places on the segments.

    Returns:
        The penalty, not weighted, with a graph that reaches the critic's parameters.

    Raises:
        ValueError: Samples of different point shapes; a critic that does not depend on its input.

    Example:
        >>> critic = nn.Linear(2, 1)
        >>> _ = nn.init.constant_(critic.weight, 3.0)  # ‖∇‖ = √18 everywhere
        >>> x, y = torch.zeros(4, 2), torch.ones(4, 2)
        >>> round(gradient_penalty(critic, x, y, target=0.0).item(), 4)
        18.0

    Notes:
        One extra forward and a double backward pass. A critic that mixes the points of a batch
        (batch normalisation) has no gradient per point: use layer or instance normalisation.
        Where the gradient vanishes, the norm's derivative counts as zero.

    References:
        Gulrajani et al. (2017), "Improved training of Wasserstein GANs", eq. 3; Petzka et al.
        (2018) for the one-sided form; Mescheder, Geiger & Nowozin (2018), eq. 9, for R₁.
    """
    points = _places(real.detach(), fake.detach(), at, generator)
    target = checks.real(target, "target")
    if target < 0:
        raise ValueError(f"target must be zero or more, got {target}")
    with torch.enable_grad():
        points.requires_grad_()
        total = critic(points).sum()
        slope = (
            torch.autograd.grad(total, points, create_graph=True, allow_unused=True)[0]
            if (total.requires_grad)
            else None
        )
        if slope is None:
            raise ValueError("the critic's scores do not depend on its input; nothing to penalise")
        squared = wide(slope).flatten(1).square().sum(-1)
        if target == 0:
            return squared.mean()
        excess = safe_sqrt(squared) - target
        return (excess.relu() if one_sided else excess).square().mean()


class GradientPenalty:
    """``gradient_penalty`` with its weight and options held, for ``Adversarial(penalty=)``.

    Args:
        weight: λ in front of the penalty.
        at: Where the gradient is taken, as in ``gradient_penalty``.
        target: The norm wanted.
        one_sided: Penalise only norms above the target.

    Example:
        >>> penalty = GradientPenalty(10.0)
        >>> x = torch.zeros(3, 2)
        >>> penalty(lambda t: t[:, 0], x, x + 1, generator=0).item()
        0.0
    """

    def __init__(
        self,
        weight: float = 10.0,
        *,
        at: str = "between",
        target: float = 1.0,
        one_sided: bool = False,
    ) -> None:
        self.weight = checks.positive(weight, "weight")
        self.at = checks.choice(at, "at", PLACES)
        self.target = target
        self.one_sided = one_sided

    def __call__(
        self,
        critic: Callable[[Tensor], Tensor],
        x: Tensor,
        y: Tensor,
        *,
        generator: Seed = None,
    ) -> Tensor:
        """The weighted penalty of a critic on data x and generated y."""
        return self.weight * gradient_penalty(
            critic,
            x,
            y,
            at=self.at,
            target=self.target,
            one_sided=self.one_sided,
            generator=generator,
        )


def clip_weights(module: nn.Module, bound: float = 0.01) -> None:
    """Clamp all learnable parameters to [−bound, bound], in place.

    Example:
        >>> critic = nn.Linear(2, 1)
        >>> clip_weights(critic, 0.01)
        >>> bool(critic.weight.abs().max() <= 0.01)
        True

    References:
        Arjovsky, Chintala & Bottou (2017), "Wasserstein GAN", algorithm 1.
    """
    bound = checks.positive(bound, "bound")
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.clamp_(-bound, bound)


def spectral_normalise(module: nn.Module, *, power_iterations: int = 1) -> nn.Module:
    """Divide every linear and convolutional weight by its largest singular value, from now on.

    The estimate is torch's power iteration, one step per forward pass in training mode.

    Returns:
        The module itself, changed in place; layers already normalised are left as they are.

    Example:
        >>> critic = spectral_normalise(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)))
        >>> "weight" in critic[0].parametrizations
        True

    References:
        Miyato et al. (2018), "Spectral normalization for generative adversarial networks".
    """
    steps = checks.count(power_iterations, "power_iterations")
    layers = (
        nn.Linear,
        nn.Conv1d,
        nn.Conv2d,
        nn.Conv3d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.ConvTranspose3d,
    )
    for layer in module.modules():
        if isinstance(layer, layers) and not hasattr(layer, "parametrizations"):
            parametrizations.spectral_norm(layer, n_power_iterations=steps)
    return module


def _places(real: Tensor, fake: Tensor, at: str, generator: Seed) -> Tensor:
    """The points at which the gradient is taken."""
    checks.choice(at, "at", PLACES)
    if real.ndim < 2 or real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            f"real and fake must be points of one shape, (n, …) and (m, …); "
            f"got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    common = torch.promote_types(real.dtype, fake.dtype)  # half, where autocast made one of them
    real, fake = real.to(common), fake.to(common)
    if len(real) == 0 or len(fake) == 0:
        raise ValueError("real and fake must hold at least one point each")
    if at in ("real", "fake"):
        return (real if at == "real" else fake).clone()
    if at == "both":
        return torch.cat([real, fake])
    pairs = min(len(real), len(fake))
    source = checks.generator(generator, real.device)
    shape = (pairs, *[1] * (real.ndim - 1))
    share = torch.rand(shape, generator=source, device=real.device, dtype=real.dtype)
    return torch.lerp(real[:pairs], fake[:pairs], share)
