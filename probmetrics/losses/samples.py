"""The losses between samples by name: each holds the options of one estimator."""

from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.discrepancy import energy_distance, mmd, witness
from probmetrics.gaussian import frechet_distance
from probmetrics.losses.sample_loss import SampleLoss
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.sharded import Backend
from probmetrics.transport.exact import wasserstein
from probmetrics.transport.line import wasserstein_1d
from probmetrics.transport.max_sliced import max_sliced_wasserstein
from probmetrics.transport.sinkhorn import sinkhorn_divergence
from probmetrics.transport.sliced import sliced_wasserstein


class MMDLoss(SampleLoss):
    """Squared MMD between two samples, as a loss.

    Args:
        kernel: Kernel; None is the Gaussian at the median distance of each pooled batch. Several
            length scales: ``gaussian_mixture([...])``; a learned kernel: ``kernel.on(network)``.
        unbiased: U-statistic (may be negative); False for the V-statistic.
        root: √MMD² of the V-statistic.
        backend: As in ``mmd``.
        **options: Options of ``SampleLoss``.

    Example:
        >>> loss = MMDLoss(unbiased=False)
        >>> round(loss(torch.zeros(2, 2), torch.ones(2, 2)).item(), 5)
        0.78694

    References:
        Li, Swersky & Zemel (2015), "Generative moment matching networks"; Dziugaite, Roy &
        Ghahramani (2015).
    """

    def __init__(
        self,
        kernel: AbstractGround | None = None,
        *,
        unbiased: bool = True,
        root: bool = False,
        backend: Backend = "auto",
        **options: Any,
    ) -> None:
        super().__init__(
            mmd, kernel=kernel, unbiased=unbiased, root=root, backend=backend, **options
        )

    def witness(self, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
        """The witness function of the two samples at points, shape (*batch, l)."""
        if self.features is not None:
            x, y, at = self.features(x), self.features(y), self.features(at)
        points = (self._points(x, "x"), self._points(y, "y"), self._points(at, "at"))
        with torch.autocast(points[0].device.type, enabled=False):
            value: Tensor = witness(
                *points, kernel=self.options["kernel"], backend=self.options["backend"]
            )
        return value


class EnergyLoss(SampleLoss):
    """Squared energy distance between two samples, as a loss.

    Args:
        power: Exponent of the distance, strictly between 0 and 2.
        unbiased: U-statistic (may be negative).
        root: √ of the V-statistic.
        backend: As in ``energy_distance``.
        **options: Options of ``SampleLoss``.

    Example:
        >>> EnergyLoss()(torch.zeros(1, 1), torch.full((1, 1), 3.0)).item()
        6.0
    """

    def __init__(
        self,
        power: float = 1.0,
        *,
        unbiased: bool = False,
        root: bool = False,
        backend: Backend = "auto",
        **options: Any,
    ) -> None:
        super().__init__(
            energy_distance, power=power, unbiased=unbiased, root=root, backend=backend, **options
        )


class SinkhornLoss(SampleLoss):
    """Sinkhorn divergence between two samples, as a loss: zero at equality, unlike entropic OT.

    Args:
        epsilon: Regularisation, in the unit of the cost; None is 0.05 × the mean cost.
        cost: Ground cost; None is ‖x − y‖².
        reach: Unbalanced transport; None is balanced.
        tolerance: Marginal error at which the iteration stops.
        max_steps: Most iterations.
        backend: As in ``sinkhorn_divergence``.
        **options: Options of ``SampleLoss``.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> loss = SinkhornLoss(epsilon=0.1)
        >>> abs(loss(x, x).item()) < 1e-3
        True

    References:
        Genevay, Peyré & Cuturi (2018), "Learning generative models with Sinkhorn divergences".
    """

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        cost: Any = None,
        reach: float | None = None,
        tolerance: float = 1e-4,
        max_steps: int = 1000,
        backend: Backend = "auto",
        **options: Any,
    ) -> None:
        super().__init__(
            sinkhorn_divergence,
            epsilon=epsilon,
            cost=cost,
            reach=reach,
            tolerance=tolerance,
            max_steps=max_steps,
            backend=backend,
            **options,
        )


class SlicedLoss(SampleLoss):
    """Sliced Wasserstein distance to its p-th power, as a loss.

    Args:
        p: Order.
        projections: Directions per call, drawn afresh each time through ``generator``.
        directions: "random", "orthogonal", "qmc", or the directions themselves.
        root: The distance itself; its power, the default here, is unbiased and smoother.
        **options: Options of ``SampleLoss``, ``generator`` among them.

    Example:
        >>> loss = SlicedLoss(generator=0)
        >>> loss(torch.zeros(3, 2), torch.zeros(3, 2)).item()
        0.0
    """

    def __init__(
        self,
        p: float = 2.0,
        *,
        projections: int = 128,
        directions: Any = "random",
        root: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            sliced_wasserstein,
            p=p,
            projections=projections,
            directions=directions,
            root=root,
            **options,
        )


class MaxSlicedLoss(SampleLoss):
    """Max-sliced Wasserstein distance to its p-th power, as a loss.

    Args:
        p: Order.
        restarts: Random starts of the search for the direction.
        steps: Most steps of that search.
        root: The distance itself.
        **options: Options of ``SampleLoss``, ``generator`` among them.

    Example:
        >>> loss = MaxSlicedLoss(steps=20, generator=0)
        >>> round(loss(torch.zeros(3, 2), torch.ones(3, 2)).item(), 5)
        2.0
    """

    def __init__(
        self,
        p: float = 2.0,
        *,
        restarts: int = 8,
        steps: int = 100,
        root: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            max_sliced_wasserstein, p=p, restarts=restarts, steps=steps, root=root, **options
        )


class FrechetLoss(SampleLoss):
    """Squared Fréchet distance between the Gaussians of two samples, as a loss.

    Args:
        root: The distance itself.
        **options: Options of ``SampleLoss``; with ``features=encoder`` it is the FID of a batch
            (biased upwards: keep n well above the number of features).

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> round(FrechetLoss()(x, x + 3).item(), 4)
        9.0
    """

    def __init__(self, *, root: bool = False, **options: Any) -> None:
        super().__init__(frechet_distance, root=root, **options)


class WassersteinLoss(SampleLoss):
    """Exact Wasserstein distance to its p-th power, as a loss.

    Args:
        p: Order.
        cost: Ground distance; None is Euclidean.
        root: The distance itself.
        **options: Options of ``SampleLoss``.

    Example:
        >>> WassersteinLoss()(torch.zeros(2, 2), torch.tensor([[3.0, 4.0]])).item()
        25.0
    """

    def __init__(
        self, p: float = 2.0, *, cost: Any = None, root: bool = False, **options: Any
    ) -> None:
        super().__init__(wasserstein, p=p, cost=cost, root=root, **options)


class Wasserstein1dLoss(SampleLoss):
    """Wasserstein distance between samples on the line to its p-th power, as a loss.

    Samples are (*batch, n, 1), or (n,), as for all losses; ``event_ndim=0`` takes (*batch, n).

    Args:
        p: Order.
        root: The distance itself.
        **options: Options of ``SampleLoss``.

    Example:
        >>> loss = Wasserstein1dLoss(p=1, event_ndim=0)
        >>> loss(torch.tensor([0.0, 1.0, 3.0]), torch.tensor([5.0, 6.0, 8.0])).item()
        5.0
    """

    def __init__(self, p: float = 2.0, *, root: bool = False, **options: Any) -> None:
        super().__init__(wasserstein_1d, p=p, root=root, **options)

    def _points(self, x: Tensor, name: str) -> Tensor:
        x = super()._points(x, name)
        if x.shape[-1] != 1:
            raise ValueError(
                f"{name} has {x.shape[-1]} coordinates, wanted points on the line, "
                "(*batch, n, 1); pass event_ndim=0 for (*batch, n), or use SlicedLoss"
            )
        return x.squeeze(-1)


LOSSES: dict[str, type[SampleLoss]] = {
    "mmd": MMDLoss,
    "energy": EnergyLoss,
    "sinkhorn": SinkhornLoss,
    "sliced": SlicedLoss,
    "max_sliced": MaxSlicedLoss,
    "frechet": FrechetLoss,
    "wasserstein": WassersteinLoss,
    "wasserstein_1d": Wasserstein1dLoss,
}


def named_loss(name: str, **options: Any) -> SampleLoss:
    """The loss of that name: mmd, energy, sinkhorn, sliced, max_sliced, frechet, ….

    Example:
        >>> named_loss("energy", power=1.5)
        EnergyLoss(power=1.5, unbiased=False, root=False, backend='auto')
    """
    return LOSSES[checks.choice(name, "loss", LOSSES)](**options)
