"""Any estimator of a divergence between two samples as a module with a state."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.losses.precision import wide
from probmetrics.pairwise.ground import AbstractGround

Divergence = Callable[..., Any]
Features = Callable[[Tensor], Tensor]
Seed = torch.Generator | int | None
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "none": lambda value: value,
}
# Distances to nearest neighbours have a gradient on paper: that of one pair per point, which
# jumps with every swap of neighbours and is unbounded at a tie.
WITHOUT_GRADIENT = ("probmetrics.divergences.neighbors",)


class SampleLoss(nn.Module):
    """Any divergence between two samples as a loss, ``loss(x, y).backward()``.

    Args:
        divergence: An estimator, called as ``divergence(x, y, **options)`` with x, y of shape
            (*batch, n, d) and (*batch, m, d), giving a tensor of the batch shape.
        features: Φ, applied to both samples first: compares Φ(x) with Φ(y). A module's parameters
            are the loss's, so that they move and are saved with it.
        reduction: "mean" or "sum" over the batch dimensions, or "none".
        event_ndim: How many trailing dimensions make one point (after ``features``); they are
            flattened. 1 takes points as rows; 3 takes images (n, C, H, W); 0 takes numbers
            (*batch, n) on the line.
        generator: Source of the draws of a random divergence. An integer seeds a stream that
            advances from call to call and is part of ``state_dict()``; None draws afresh.
        **options: Options of the divergence.

    Shape:
        x (*batch, n, d) and y (*batch, m, d) to a scalar, or (*batch) without reduction. A tensor
        of shape (n,) is n points on the line.

    Raises:
        TypeError: The divergence has no such option, or answers with something else than a tensor.
        ValueError: The divergence has no gradient in its samples.

    Example:
        >>> from probmetrics.discrepancy import energy_distance
        >>> x = torch.zeros(4, 2)
        >>> y = torch.ones(3, 2, requires_grad=True)
        >>> loss = SampleLoss(energy_distance, power=1.5)
        >>> value = loss(x, y)
        >>> value.backward()
        >>> round(value.item(), 4), tuple(y.grad.shape)
        (3.3636, (3, 2))

    Notes:
        Half precision is compared, and answered, in float32, also under ``torch.autocast``, of
        which only ``features`` take part. ``torch.compile`` steps around the divergence, whose
        kernels are written by hand, and compiles what stands before and after it. There are no
        buffers and (but for features) no parameters, so nothing has to be synchronised under
        ``DistributedDataParallel``: each rank compares its own shards, with the same draws
        if all ranks seed alike. For the distance of the global batch, and its gradient, pass
        ``backend=Sharded()`` or, where a loss has no ``backend``, gathered rows (``Sharded.rows``).
    """

    def __init__(
        self,
        divergence: Divergence,
        *,
        features: Features | None = None,
        reduction: str = "mean",
        event_ndim: int = 1,
        generator: Seed = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.divergence = divergence
        self.name = getattr(divergence, "__name__", type(divergence).__name__)
        self.reduction = checks.choice(reduction, "reduction", REDUCTIONS)
        self.event_ndim = checks.count(event_ndim, "event_ndim", minimum=0)
        self.options = options
        self.features = features
        self._takes = _keywords(divergence)
        if getattr(divergence, "__module__", "").startswith(WITHOUT_GRADIENT):
            raise ValueError(_no_gradient(self.name))
        if self._takes is not None and (unknown := sorted(set(options) - self._takes)):
            raise TypeError(
                f"{self.name} has no option {', '.join(unknown)}; "
                f"it takes {', '.join(sorted(self._takes))}"
            )
        self._register_grounds()
        checks.generator(generator if isinstance(generator, int) else None)
        self._source = generator
        self._restored: Tensor | int | None = None

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        a: Tensor | None = None,
        b: Tensor | None = None,
        generator: Seed = None,
    ) -> Tensor:
        """The divergence between x (data) and y (model), reduced over the batch.

        Args:
            x: Sample, shape (*batch, n, d).
            y: Sample, shape (*batch, m, d).
            a: Weights of x, shape (*batch, n), summing to one; None is uniform.
            b: Weights of y, shape (*batch, m).
            generator: Draws through this one instead of the loss's own.
        """
        if self.features is not None:
            x, y = self.features(x), self.features(y)
        return REDUCTIONS[self.reduction](self._compare(x, y, a, b, generator))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _compare(
        self, x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, generator: Seed
    ) -> Tensor:
        x, y = self._points(x, "x"), self._points(y, "y")
        given = {name: wide(w) for name, w in (("a", a), ("b", b)) if w is not None}
        more: dict[str, Any] = dict(given)
        source = self._stream(x.device) if generator is None else generator
        # A signature that says nothing gets a generator only if there is one.
        if "generator" in self._takes if self._takes is not None else source is not None:
            more["generator"] = source
        with torch.autocast(x.device.type, enabled=False):
            value = self.divergence(x, y, **self.options, **more)
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{self.name} answers with {type(value).__name__}, not with a tensor; "
                "wrap it in a function that returns the number to minimise"
            )
        learnable = any(t.requires_grad for t in (x, y, *given.values()))
        if torch.is_grad_enabled() and learnable and not value.requires_grad:
            raise ValueError(_no_gradient(self.name))
        return value

    def _points(self, x: Tensor, name: str) -> Tensor:
        """One row per point, in float32 if it came in half precision."""
        if not isinstance(x, Tensor):
            raise TypeError(
                f"{name} is {type(x).__name__}, wanted a tensor; the function {self.name} "
                "takes other arrays"
            )
        x = wide(x)
        if x.ndim == 1 or self.event_ndim == 0:
            return x.unsqueeze(-1)
        if x.ndim <= self.event_ndim:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}, wanted (*batch, n, …) with "
                f"{self.event_ndim} dimensions per point (event_ndim)"
            )
        return x.flatten(-self.event_ndim) if self.event_ndim > 1 else x

    def _stream(self, device: torch.device) -> Seed:
        """The loss's own source of draws, on the device of the data."""
        if isinstance(self._source, int):
            self._source = checks.generator(self._source, device)
        if isinstance(self._source, torch.Generator) and self._restored is not None:
            _continue(self._source, self._restored)
            self._restored = None
        return self._source

    def _register_grounds(self) -> None:
        """Feature networks and learnable scales inside kernels and costs belong to the loss."""
        whole = [g for g in self.options.values() if isinstance(g, AbstractGround)]
        grounds = [part for ground in whole for part in _parts(ground)]
        maps = {id(g.features): g.features for g in grounds if isinstance(g.features, nn.Module)}
        if maps:
            self.ground_features = nn.ModuleList(maps.values())
        scales = [tensor for ground in whole for tensor in ground.tensors()]
        if learned := [tensor for tensor in scales if isinstance(tensor, nn.Parameter)]:
            self.ground_scales = nn.ParameterList(learned)

    def get_extra_state(self) -> dict[str, Any]:
        """The state of the random stream, for ``state_dict``."""
        if self._restored is not None:
            return {"generator": self._restored}
        own = self._source  # a whole number where nothing was drawn from it yet
        return {"generator": own.get_state() if isinstance(own, torch.Generator) else own}

    def set_extra_state(self, state: Any) -> None:
        """Continue the random stream where the saved loss stood."""
        found = state["generator"]
        self._restored = found.cpu() if isinstance(found, Tensor) else found

    def extra_repr(self) -> str:
        shown = {**self.options}
        if self.reduction != "mean":
            shown["reduction"] = self.reduction
        if self.event_ndim != 1:
            shown["event_ndim"] = self.event_ndim
        text = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return text if type(self) is not SampleLoss else ", ".join(filter(None, [self.name, text]))


def _continue(source: torch.Generator, state: Tensor | int) -> None:
    """Set a stream of draws to where another one stood."""
    if isinstance(state, int):
        source.manual_seed(state)
        return
    try:
        source.set_state(state)
    except RuntimeError as error:
        raise ValueError(
            f"the saved draws are those of another kind of device, not of {source.device}; "
            "continue where they were saved, or build the loss with a new seed"
        ) from error


def _parts(ground: AbstractGround) -> Iterator[AbstractGround]:
    """A ground and the grounds it is combined from."""
    yield ground
    inner = [*getattr(ground, "parts", ()), getattr(ground, "ground", None)]
    for part in inner:
        if isinstance(part, AbstractGround):
            yield from _parts(part)


def _keywords(divergence: Divergence) -> set[str] | None:
    """The options a divergence takes; None where it takes any, or does not say."""
    if not callable(divergence):
        raise TypeError(
            f"divergence must be a function of two samples, got {divergence!r}; "
            "e.g. SampleLoss(probmetrics.mmd)"
        )
    try:
        parameters = inspect.signature(divergence).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in list(parameters)[2:] if p.kind is not p.VAR_POSITIONAL}


def _no_gradient(name: str) -> str:
    return (
        f"{name} has no useful gradient in its samples (it counts or looks at nearest "
        "neighbours), so it cannot be a loss; train with MMDLoss, EnergyLoss or SinkhornLoss "
        "and report it as a metric"
    )
