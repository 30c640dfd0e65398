"""One training loop for all models: steps through their objectives, and survives a kill."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.models.base import AbstractModel, Batch, Objective
from probmetrics.models.files import save_whole
from probmetrics.models.history import History, TrainingDivergedError
from probmetrics.models.stream import Stream, as_pair

FORMAT = "probmetrics training 1"
State = dict[str, Any]


def fit(
    model: AbstractModel,
    data: Any,
    *,
    steps: int = 1000,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    clip: float | None = None,
    ema: float | None = None,
    precision: str = "float32",
    seed: int = 0,
    metric: Callable[[Any], float] | None = None,
    every: int = 100,
    patience: int | None = None,
    callback: Callable[[int, Any], None] | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> History:
    """Train a model in place on its own objectives.

    Args:
        model: Any model of this package; it is trained where it is (``model.to("cuda")`` first).
        data: A tensor or array (n, *shape), a pair (x, labels), a sampler
            ``f(n, generator=...)``, or an iterable of batches; see ``Stream``.
        steps: Steps in all; each runs every objective as often as that objective says.
        batch_size: Points per batch.
        learning_rate: Of Adam, times the objective's own rate.
        optimizer: Makes the optimiser of each objective from its parameters, instead of Adam.
        clip: Largest norm of each objective's gradient; None does not clip.
        ema: Decay of an exponential average of the weights, e.g. 0.999. Metrics, callbacks and the
            trained model use the average (its decay at step t is min(ema, (1 + t)/(10 + t))).
        precision: "float32", or "bfloat16" for autocast around the losses.
        seed: Of batches, noise and dropout. The global generators are put back afterwards.
        metric: model → number, lower is better; evaluated every ``every`` steps. The weights of
            the best evaluation are kept in the end.
        every: Steps between evaluations, callbacks and checkpoints.
        patience: Stop after so many evaluations without improvement.
        callback: Called as ``callback(step, model)``, e.g. to write pictures.
        checkpoint: File to write every ``every`` steps, replaced in one move.
        resume: Continue from ``checkpoint`` if it exists: the result is that of an unbroken run.
        progress: Show a progress bar; None shows it on a terminal.

    Returns:
        The history of losses and metrics; the model is left in evaluation mode.

    Raises:
        TrainingDivergedError: A loss or gradient is not finite. The step is not taken.
        ValueError: Data of the wrong shape or with NaN, a checkpoint of another model.

    Example:
        >>> from probmetrics.models.gmmn import GMMN
        >>> model = GMMN.build(1, latent=1, hidden=())
        >>> history = fit(model, torch.randn(512, 1), steps=5, progress=False)
        >>> history.steps, model.sample(3, generator=0).shape
        (5, torch.Size([3, 1]))

    Notes:
        A model with a ``solve(x)`` of its own (principal components, EM) is solved instead.
    """
    solve = getattr(model, "solve", None)
    if solve is not None:
        began = time.perf_counter()
        whole, _ = as_pair(data)
        if not isinstance(whole, Tensor):
            raise TypeError(
                f"a {type(model).__name__} is solved on all data at once: pass a tensor or an "
                f"array, got {type(data).__name__}"
            )
        solve(whole)
        return History(seconds=time.perf_counter() - began)
    checks.choice(precision, "precision", ["float32", "bfloat16"])
    path = None if checkpoint is None else Path(checkpoint)
    if resume and path is None:
        raise ValueError("resume=True needs checkpoint=, the file to continue from")
    with _own_randomness(model, seed):
        run = _Run(model, data, seed, batch_size, learning_rate, optimizer, ema, path)
        if resume and path is not None and path.exists():
            run.load()
        elif path is not None:
            run.save()
        run.go(
            checks.count(steps, "steps"),
            clip=clip,
            precision=precision,
            metric=metric,
            every=checks.count(every, "every"),
            patience=patience,
            callback=callback,
            progress=progress,
        )
    return run.history


class _Run:
    """The state of one training: everything a checkpoint holds."""

    def __init__(
        self,
        model: AbstractModel,
        data: Any,
        seed: int,
        batch_size: int,
        learning_rate: float,
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None,
        ema: float | None,
        path: Path | None,
    ) -> None:
        self.model = model.train()
        self.source = torch.Generator(model.device).manual_seed(seed)
        self.stream = Stream(data, model, batch_size)
        self.objectives = model.objectives()
        self.parameters = [_learnable(objective) for objective in self.objectives]
        rate = checks.positive(learning_rate, "learning_rate")
        self.optimizers = [
            optimizer(parameters)
            if optimizer is not None
            else torch.optim.Adam(parameters, lr=rate * objective.rate, betas=objective.betas)
            for objective, parameters in zip(self.objectives, self.parameters, strict=True)
        ]
        self.decay = None if ema is None else checks.between(ema, "ema", 0.0, 1.0)
        self.average = _tensors(model) if ema is not None else {}
        self.best: State = {}
        self.history = History(losses={objective.name: [] for objective in self.objectives})
        self.path = path
        self.written: Path | None = None

    def go(
        self,
        steps: int,
        *,
        clip: float | None,
        precision: str,
        metric: Callable[[Any], float] | None,
        every: int,
        patience: int | None,
        callback: Callable[[int, Any], None] | None,
        progress: bool | None,
    ) -> None:
        """Train up to ``steps``, then leave the best or averaged weights in the model."""
        began = time.perf_counter()
        with _bar(steps, self.history.steps, progress) as bar:
            while self.history.steps < steps and self.history.stopped == "steps":
                self._step(clip, precision)
                self.history.steps += 1
                if self.history.steps % every == 0 or self.history.steps == steps:
                    self._evaluate(metric, patience, callback)
                    self.save()
                bar(self.history)
        final = self.best or self.average
        if final:
            _put(self.model, final)
        self.model.eval()
        self.history.seconds = time.perf_counter() - began

    def _step(self, clip: float | None, precision: str) -> None:
        device = self.model.device.type
        for objective, parameters, optimizer in zip(
            self.objectives, self.parameters, self.optimizers, strict=True
        ):
            for _ in range(objective.steps):
                batch = self.stream.draw(self.source, self.history.steps)
                half = precision == "bfloat16"
                with torch.autocast(device, torch.bfloat16) if half else nullcontext():
                    loss = self._loss(objective, batch)
                self._descend(objective, parameters, optimizer, loss, clip)
                if objective.after is not None:
                    objective.after(batch)
            self.history.losses[objective.name].append(float(loss.detach()))
        if self.decay is not None:
            self._average(self.decay)

    def _loss(self, objective: Objective, batch: Batch) -> Tensor:
        try:
            return objective.loss(batch, self.source)
        except checks.NotFiniteError as error:  # the batch was checked: the network gave it
            step, name = self.history.steps, objective.name
            raise TrainingDivergedError(step, name, float("nan"), self.written) from error

    def _descend(
        self,
        objective: Objective,
        parameters: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        loss: Tensor,
        clip: float | None,
    ) -> None:
        """One optimiser step, refused where loss or gradient are not finite."""
        number = float(loss.detach())
        if number - number == 0:
            optimizer.zero_grad(set_to_none=True)
            loss.backward(inputs=parameters)
            bound = float("inf") if clip is None else checks.positive(clip, "clip")
            norm = nn.utils.clip_grad_norm_(parameters, bound)
            if bool(torch.isfinite(norm)):
                optimizer.step()
                return
        optimizer.zero_grad(set_to_none=True)
        raise TrainingDivergedError(self.history.steps, objective.name, number, self.written)

    def _average(self, decay: float) -> None:
        step = self.history.steps + 1
        share = 1 - min(decay, (1 + step) / (10 + step))
        for name, value in _tensors(self.model, copy=False).items():
            if value.is_floating_point():
                self.average[name].lerp_(value, share)
            else:
                self.average[name].copy_(value)

    def _evaluate(
        self,
        metric: Callable[[Any], float] | None,
        patience: int | None,
        callback: Callable[[int, Any], None] | None,
    ) -> None:
        if metric is None and callback is None:
            return
        history = self.history
        with self._averaged():
            if metric is not None:
                value = float(metric(self.model))
                if value < min((v for _, v in history.metrics if v == v), default=float("inf")):
                    history.best_step, self.best = history.steps, _tensors(self.model)
                history.metrics.append((history.steps, value))
            if callback is not None:
                callback(history.steps, self.model)
        if metric is not None and patience is not None:
            waited = sum(step > (history.best_step or 0) for step, _ in history.metrics)
            if waited >= checks.count(patience, "patience"):
                history.stopped = "no improvement"

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model as its user will get it: averaged weights, evaluation mode."""
        own = _tensors(self.model) if self.average else {}
        _put(self.model, self.average)
        self.model.eval()
        try:
            with torch.random.fork_rng(_cuda(self.model)):
                yield
        finally:
            self.model.train()
            _put(self.model, own)

    def save(self) -> None:
        """Write everything, then replace the old file in one move."""
        if self.path is None:
            return
        state = {
            "format": FORMAT,
            "model": self.model.state_dict(),
            "kind": type(self.model).__name__,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": self.average,
            "best": self.best,
            "generator": self.source.get_state(),
            "stream": self.stream.state(),
            "global": torch.get_rng_state(),
            "history": dict(vars(self.history)),
        }
        save_whole(state, self.path)
        self.written = self.path

    def load(self) -> None:
        """Continue where the checkpoint stands."""
        assert self.path is not None
        try:
            state = torch.load(self.path, map_location=self.model.device, weights_only=True)
        except Exception as error:
            raise ValueError(f"{self.path} is no training checkpoint: {error}") from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError(f"{self.path} is no checkpoint of this version ({FORMAT})")
        if state["kind"] != type(self.model).__name__:
            raise ValueError(
                f"{self.path} holds a {state['kind']}, not a {type(self.model).__name__}"
            )
        try:
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                rates = [group["lr"] for group in optimizer.param_groups]
                optimizer.load_state_dict(saved)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate  # that of this call, which may be another
            self.source.set_state(state["generator"].cpu())
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{self.path} does not fit this model: {error}") from error
        self.average, self.best = state["average"], state["best"]
        self.stream.restore(state["stream"])
        torch.set_rng_state(state["global"].cpu())
        self.history = History(**state["history"])
        self.written = self.path


def _learnable(objective: Objective) -> list[nn.Parameter]:
    """What an objective moves; frozen parameters stay as they are."""
    found = [p for p in objective.parameters if p.requires_grad]
    if not found:
        raise ValueError(
            f"the {objective.name} objective has nothing to train: its networks have no "
            "parameters, or all of them are frozen (requires_grad=False)"
        )
    return found


def _tensors(model: nn.Module, *, copy: bool = True) -> dict[str, Tensor]:
    state = {k: v.detach() for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    return {name: value.clone() for name, value in state.items()} if copy else state


@torch.no_grad()
def _put(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, value in _tensors(model, copy=False).items():
        if name in tensors:
            value.copy_(tensors[name])


def _cuda(model: AbstractModel) -> list[torch.device]:
    return [model.device] if model.device.type == "cuda" else []


@contextmanager
def _own_randomness(model: AbstractModel, seed: int) -> Iterator[None]:
    """Dropout and loaders draw from the global generators: seeded here, put back afterwards."""
    checks.generator(seed)
    with torch.random.fork_rng(_cuda(model)):
        torch.manual_seed(seed)
        yield


@contextmanager
def _bar(steps: int, done: int, progress: bool | None) -> Iterator[Callable[[History], None]]:
    from tqdm import tqdm

    with tqdm(total=steps, initial=done, disable=None if progress is None else not progress) as bar:

        def show(history: History) -> None:
            bar.update()
            if not bar.disable and history.steps % 10 == 0:
                bar.set_postfix({name: f"{v[-1]:.3g}" for name, v in history.losses.items()})

        yield show
