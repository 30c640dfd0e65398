"""Which grounds and reductions have a fused form, told in plain numbers."""

import dataclasses
import enum
from dataclasses import dataclass

from torch import Tensor

from probmetrics.pairwise.algebra import Scaled, Sum
from probmetrics.pairwise.costs import Euclidean, PNorm, SqEuclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.kernels import (
    LOG2E,
    Distance,
    Gaussian,
    InverseMultiquadric,
    Laplacian,
    Matern,
    RationalQuadratic,
)
from probmetrics.pairwise.reductions import AbstractReduction, KSmallest, Total, WeightedSum

MOST_NEIGHBORS = 64


class Kind(enum.IntEnum):
    """The profiles of fused_kernels.py, as functions of s ≥ 0."""

    IDENTITY = 0  # s
    POWER_OF = 1  # s^power
    EXPONENTIAL = 2  # 2^−s
    ROOT_EXPONENTIAL = 3  # 2^−√s
    MATERN = 4  # (1 + √s) e^−√s, with s/3 more in the bracket for power = 2.5
    INVERSE_POWER = 5  # (1 + s)^−power


@dataclass(frozen=True)
class Form:
    """A ground as factor · profile(s), s = ‖length · (x − y)‖² or its ℓ1 norm.

    Terms in one point alone, as a ``Distance`` has them, are not part of it.
    """

    kind: Kind
    length: float = 1.0
    power: float = 1.0
    factor: float = 1.0
    l1: bool = False
    kinked: bool = False


def fused_forms(ground: AbstractGround, d: int) -> tuple[Form, ...]:
    """The forms whose sum a ground is, in d dimensions; none if it has no such form.

    Products, p-norms other than 1 and 2, inner products, grounds of one's own and learnable
    factors have none.
    """
    if isinstance(ground, Scaled):
        if isinstance(ground.factor, Tensor):
            return ()
        return _times(fused_forms(ground.ground, d), float(ground.factor))
    if isinstance(ground, Sum):
        parts = [fused_forms(part, d) for part in ground.parts] if ground.aligned else [()]
        return tuple(form for forms in parts for form in forms) if all(parts) else ()
    if isinstance(ground, Distance):
        return _times(fused_forms(ground.distance, d), -0.5)
    if any(True for _ in ground.tensors()):
        return ()
    if isinstance(ground, SqEuclidean):
        return (Form(Kind.IDENTITY),)
    if isinstance(ground, Euclidean | PNorm):
        return _distance_form(ground)
    if isinstance(ground, Gaussian | Laplacian | Matern | RationalQuadratic | InverseMultiquadric):
        return (_kernel_form(ground, abs(float(ground.rate(d)))),)
    return ()


def _times(forms: tuple[Form, ...], factor: float) -> tuple[Form, ...]:
    return tuple(dataclasses.replace(form, factor=form.factor * factor) for form in forms)


def _distance_form(ground: Euclidean | PNorm) -> tuple[Form, ...]:
    p = ground.p if isinstance(ground, PNorm) else 2.0
    if p not in (1.0, 2.0):
        return ()
    power = float(ground.power if p == 1.0 else ground.power / 2)
    kind = Kind.IDENTITY if power == 1.0 else Kind.POWER_OF
    return (Form(kind, power=power, l1=p == 1.0, kinked=power < 1.0),)


def _kernel_form(
    ground: Gaussian | Laplacian | Matern | RationalQuadratic | InverseMultiquadric, rate: float
) -> Form:
    if isinstance(ground, Gaussian):
        return Form(Kind.EXPONENTIAL, rate**0.5)
    if isinstance(ground, Laplacian):
        if ground.norm == 1:
            return Form(Kind.EXPONENTIAL, rate, l1=True)
        return Form(Kind.ROOT_EXPONENTIAL, rate**0.5, kinked=True)
    if isinstance(ground, Matern):
        if ground.nu == 0.5:
            return Form(Kind.ROOT_EXPONENTIAL, LOG2E * rate**0.5, kinked=True)
        return Form(Kind.MATERN, rate**0.5, float(ground.nu), kinked=True)
    power = ground.alpha if isinstance(ground, RationalQuadratic) else ground.beta
    return Form(Kind.INVERSE_POWER, rate**0.5, float(power))


def without_form(ground: AbstractGround, reduction: AbstractReduction, d: int) -> str | None:
    """Why a pair of ground and reduction has no fused form; None if it has one."""
    forms = fused_forms(ground, d)
    if not forms:
        return (
            f"{ground!r} has no fused form (squared Euclidean, Euclidean, Gaussian, Laplacian, "
            "Matérn, rational quadratic, inverse multiquadric and Distance have one, their "
            "multiples and, under WeightedSum and Total, their sums too)"
        )
    if len(forms) > 1 and not isinstance(reduction, WeightedSum | Total):
        return f"a sum of grounds has no fused form under {type(reduction).__name__}"
    if isinstance(reduction, KSmallest) and reduction.k > MOST_NEIGHBORS:
        return f"more than {MOST_NEIGHBORS} neighbours have no fused form, got k={reduction.k}"
    return None
