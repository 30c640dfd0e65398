"""What every metric shares: feeding, merging, synchronising, intervals and provenance."""

import abc
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torchmetrics
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import is_array, to_tensor
from probmetrics._interval import Interval
from probmetrics.metrics.accumulators import AbstractAccumulator, State, rows_of

Encoder = Callable[[Any], Any]


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from: enough to compute it again.

    Attributes:
        metric: Name of the metric.
        options: Its options.
        encoder: Name, preprocessing and content hash of the encoder, as far as it has them.
        samples: How many rows each side has shown.
        features: Their number d.
        dtype: Of the features.
        versions: Of probmetrics and torch.
    """

    metric: str
    options: dict[str, Any]
    encoder: dict[str, Any]
    samples: dict[str, int]
    features: int | None
    dtype: str | None
    versions: dict[str, str] = field(default_factory=dict)


class AbstractMetric(torchmetrics.Metric, abc.ABC):
    """A number about samples that come in batches, on one machine or on many.

    ``update(real=…, fake=…)`` takes a batch of one side or of both, ``merge(other)`` joins the
    state of another stream, ``compute()`` gives the value, ``interval()`` the value with its
    uncertainty, ``provenance`` where it comes from, ``reset()`` starts over. It is a
    ``torchmetrics.Metric``: collections, Lightning's logging and synchronisation over
    ``torch.distributed`` work as with any other.

    Args:
        encoder: Turns a batch into features (n, d): an encoder of ``probmetrics.encoders``, any
            module or function; None takes the batch itself, flattened to (n, d).
        seed: Of whatever is random: subsamples, directions, splits.
        **options: For ``torchmetrics.Metric``, e.g. ``sync_on_compute=False``.
    """

    is_differentiable = False
    higher_is_better: bool | None = None
    full_state_update = False
    sides: tuple[str, ...] = ("real", "fake")
    minimum = 1  # fewest rows of each side

    def __init__(self, *, encoder: Encoder | None = None, seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        if encoder is not None and not callable(encoder):
            raise TypeError(f"encoder must be callable or None, got {type(encoder).__name__}")
        self.encoder = encoder
        self.seed = checks.count(seed, "seed", minimum=0)
        self._kept = self.accumulators()
        # Collections share the state of metrics whose states are equal after the first batch; those
        # that would treat later batches differently must not look equal.
        self.add_state("kept_as", _signature(self._kept, encoder), "max")
        for side in self.sides:
            self.add_state(f"{side}_count", torch.zeros((), dtype=torch.int64), "sum")
            for kind, keeper in self._kept.items():
                for name in keeper.fields:
                    self.add_state(f"{side}_{kind}_{name}", [], "cat")

    @abc.abstractmethod
    def accumulators(self) -> dict[str, AbstractAccumulator]:
        """What is kept of each side, by kind."""

    options: tuple[str, ...] = ()  # names of the attributes that decide the value

    def update(self, *, real: Any = None, fake: Any = None) -> None:
        """Take a batch of either side or both.

        Args:
            real: Data, shape (n, …), or whatever the encoder takes; None: none this time.
            fake: Samples of the model.

        Raises:
            ValueError: No side at all; rows with NaN; another number of features than before.
        """
        self._take({"real": real, "fake": fake})

    def _take(self, batches: dict[str, Any]) -> None:
        given = {side: batch for side, batch in batches.items() if batch is not None}
        if not given:
            raise ValueError(f"update() got no batch; pass {' or '.join(s + '=' for s in batches)}")
        for side, batch in given.items():
            self.accumulate(side, self.features(batch, side))

    def features(self, batch: Any, side: str) -> Tensor:
        """The features of a batch, shape (n, d), checked."""
        if self.encoder is not None:
            batch = self.encoder(batch)
        if not is_array(batch):
            raise TypeError(
                f"{side} must be an array or a tensor, got {type(batch).__name__}; "
                "pass encoder= to turn it into features"
            )
        rows = to_tensor(batch, side).detach()
        rows = rows.reshape(len(rows), -1) if rows.ndim else rows.reshape(1, 1)
        rows = checks.sample(rows, minimum=0, name=side)
        if rows.dtype in (torch.float16, torch.bfloat16):
            rows = rows.float()
        known = self._known_features()
        if known is not None and known != rows.shape[-1]:
            raise ValueError(
                f"{side} has {rows.shape[-1]} features and earlier batches had {known}; "
                "all batches of all sides need the same features"
            )
        return rows

    def accumulate(self, side: str, rows: Tensor) -> None:
        """Put rows of features into the state of a side."""
        seen = self.seen(side)
        for kind, keeper in self._kept.items():
            self._put(side, kind, keeper.add(self.state(side, kind), rows, seen, rank()))
        setattr(self, f"{side}_count", getattr(self, f"{side}_count") + len(rows))

    def seen(self, side: str) -> int:
        """How many rows a side has shown."""
        return int(getattr(self, f"{side}_count"))

    def state(self, side: str, kind: str) -> State:
        """What is kept of a side; lists of tensors, also after synchronisation."""
        state = {}
        for name in self._kept[kind].fields:
            held = getattr(self, f"{side}_{kind}_{name}")
            state[name] = [held] if isinstance(held, Tensor) else list(held)
        return state

    def _put(self, side: str, kind: str, state: State) -> None:
        for name, parts in state.items():
            setattr(self, f"{side}_{kind}_{name}", parts)

    def rows(self, side: str, kind: str = "rows") -> Tensor:
        """The rows kept of a side, at least ``minimum`` of them."""
        found = rows_of(self._kept[kind].compact(self.state(side, kind)))
        self.enough(side, 0 if found is None else len(found))
        return found  # type: ignore[no-any-return]

    def enough(self, side: str, n: int) -> None:
        """Refuse a side with too few rows."""
        if n < self.minimum:
            raise ValueError(
                f"{type(self).__name__} needs at least {self.minimum} {side} "
                f"sample{'s' * (self.minimum != 1)} and has seen {n}; call update({side}=...)"
            )

    def merge(self, other: "AbstractMetric") -> "AbstractMetric":
        """Take in what another metric has seen; returns this one.

        Raises:
            ValueError: Another class, other options or other features.
        """
        if type(other) is not type(self):
            raise ValueError(
                f"cannot merge {type(other).__name__} into {type(self).__name__}; "
                "merge metrics of one class"
            )
        for name in self.options:
            mine, theirs = getattr(self, name), getattr(other, name)
            if not _same(mine, theirs):
                raise ValueError(f"cannot merge: {name} is {mine!r} here and {theirs!r} there")
        mine, theirs = self._known_features(), other._known_features()
        if None not in (mine, theirs) and mine != theirs:
            raise ValueError(f"cannot merge {theirs} features into {mine}")
        for name in self._defaults:  # this one's rows first, so that streams join in order
            if name == "kept_as":
                continue
            held, new = getattr(self, name), getattr(other, name)
            if isinstance(held, Tensor):
                setattr(self, name, held + new.to(held.device))
            else:
                setattr(self, name, [*held, *(part.to(self.device) for part in new)])
        self._computed = None
        self._update_count += other._update_count
        return self

    def interval(
        self, *, level: float = 0.95, generator: torch.Generator | int | None = None
    ) -> Interval | dict[str, Interval]:
        """The value with a confidence interval; a dictionary where there are several values.

        Args:
            level: Nominal coverage.
            generator: Source of the resamples; None uses the metric's seed.
        """
        checks.between(level, "level", 0.0, 1.0)
        source = self.seed if generator is None else generator
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn,
            should_sync=self._to_sync,
            should_unsync=self._should_unsync,
        ):
            return self.estimate(level, source)

    @abc.abstractmethod
    def estimate(
        self, level: float, generator: torch.Generator | int
    ) -> Interval | dict[str, Interval]:
        """The value with its interval, from the state as it is."""

    @property
    def provenance(self) -> Provenance:
        """Where the value comes from."""
        from probmetrics import __version__

        first = self._first_rows()
        return Provenance(
            metric=type(self).__name__,
            options={name: _plain(getattr(self, name)) for name in (*self.options, "seed")},
            encoder=described(self.encoder),
            samples={side: self.seen(side) for side in self.sides},
            features=self._known_features(),
            dtype=None if first is None else str(first.dtype).removeprefix("torch."),
            versions={"probmetrics": __version__, "torch": torch.__version__},
        )

    def _first_rows(self) -> Tensor | None:
        for side in self.sides:
            for kind, keeper in self._kept.items():
                for name in keeper.fields:
                    if name in ("rows", "pending"):
                        for part in self.state(side, kind)[name]:
                            if part.ndim == 2:
                                return part
        return None

    def _known_features(self) -> int | None:
        first = self._first_rows()
        return None if first is None else first.shape[-1]

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        """Gather all states; a rank that has seen nothing contributes empty ones of the shape."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self._fill_empty(process_group or self.process_group)
        fn = torchmetrics.utilities.distributed.gather_all_tensors
        super()._sync_dist(dist_sync_fn or fn, process_group)

    def _fill_empty(self, group: Any) -> None:
        lists = [name for name, default in self._defaults.items() if isinstance(default, list)]
        mine = {
            name: (tuple(held[0].shape[1:]), held[0].dtype)
            for name in lists
            if (held := getattr(self, name))
        }
        shared: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(shared, mine, group=group)
        for name in lists:
            known = [found[name] for found in shared if name in found]
            if known and not getattr(self, name):
                shape, dtype = known[0]
                setattr(self, name, [torch.zeros((0, *shape), dtype=dtype, device=self.device)])


def rank() -> int:
    """This process's number among the distributed ones, 0 where there is only one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank())
    return 0


def described(encoder: Any) -> dict[str, Any]:
    """Name, preprocessing and hash of an encoder, as far as it has them."""
    if encoder is None:
        return {"name": "identity"}
    if hasattr(encoder, "provenance"):
        return dict(encoder.provenance)
    name = getattr(encoder, "__name__", None) or type(encoder).__name__
    return {"name": name}


def _signature(kept: dict[str, AbstractAccumulator], encoder: Any) -> Tensor:
    """Small numbers that differ where what is kept or what makes the features differs."""
    digest = hashlib.sha256(f"{kept} {id(encoder)}".encode()).digest()
    return torch.tensor(list(digest[:8]), dtype=torch.int64)


def _same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, Tensor) or isinstance(theirs, Tensor):
        return isinstance(mine, Tensor) and isinstance(theirs, Tensor) and torch.equal(mine, theirs)
    return bool(mine == theirs)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value
