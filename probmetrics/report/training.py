"""Training and sampling from named models and data, as the command line offers them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.data import Dataset, read
from probmetrics.data.embedded import PREFIX, names
from probmetrics.models.base import AbstractGenerativeModel, AbstractModel
from probmetrics.models.catalog import INDEXED, LABELLED, MODELS, create
from probmetrics.models.fitting import fit
from probmetrics.models.history import History
from probmetrics.models.io import load, save
from probmetrics.report.writing import refuse_unwritable

AT_ONCE = 4096  # points drawn by one pass through the networks


def train_model(
    model: str,
    data: Any,
    *,
    out: str | Path,
    loss: str | None = None,
    latent: int | None = None,
    hidden: list[int] | None = None,
    width: int | None = None,
    steps: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    ema: float | None = None,
    clip: float | None = None,
    precision: str = "float32",
    seed: int = 0,
    image_size: int | None = None,
    max_samples: int | None = None,
    every: int = 200,
    grid: str | Path | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    progress: bool | None = None,
    **options: Any,
) -> History:
    """Train a model by name on named data and write it to a file.

    Args:
        model: gan, cgan, infogan, ebgan, began, gmmn, sinkhorn, mmdgan, vae, iwae, ssvae, hvae,
            wae, aae, saae, ssaae, autoencoder, sparse, denoising, contractive, glo, flow, gaussian
            or mixture.
        data: Anything ``probmetrics.data.read`` takes: data:ring, data:digits, an array file, a
            folder of images. Embedded sets may go without ``data:`` where no file has their name.
        out: Model file to write.
        loss: A row for games (gan, js, wgan, …), a divergence for moment matching and WAE (mmd,
            energy, sinkhorn, …), a law for VAEs (gaussian, gaussian one, gaussian each,
            bernoulli).
        latent: Coordinates of a code.
        hidden: Widths of the fully connected networks.
        width: Channels of convolutional networks; images only.
        steps: As in ``fit``.
        batch_size: As in ``fit``.
        learning_rate: As in ``fit``.
        ema: As in ``fit``.
        clip: As in ``fit``.
        precision: As in ``fit``.
        seed: Of initial weights, batches and noise.
        image_size: As in ``read``.
        max_samples: As in ``read``.
        every: Steps between pictures and checkpoints.
        grid: PNG to write samples to during training, for images and points in the plane; by
            default beside ``out``, where samples can be drawn as a picture.
        checkpoint: Where the state of the training is kept; beside ``out`` by default.
        resume: Continue from there.
        device: Where to train.
        progress: Show a progress bar; None shows it on a terminal.
        **options: Further plain options of the model's ``build``.

    Returns:
        The history. Images are scaled to [0, 1], other data to mean 0 and variance 1 (but not for
        a Bernoulli decoder, which takes [0, 1] as it is); the file remembers the scale, and samples
        come back in the unit of the data.

    Raises:
        ValueError: Data, options or files that cannot be used; said before training begins.
        TrainingDivergedError: As in ``fit``; the checkpoint stays.
        KeyboardInterrupt: Of Ctrl-C; the checkpoint stays.
    """
    checks.choice(model, "model", MODELS)
    target, place = _writable(out, grid, checkpoint), _device(device)
    found = read(_source(data), max_samples=max_samples, image_size=image_size)
    x, notes = _scaled(found, keep=loss == "bernoulli")
    more: dict[str, Any] = dict(options)
    more |= {"loss": loss} if loss is not None else {}
    given = {"latent": latent, "hidden": hidden, "width": width}
    more |= {name: value for name, value in given.items() if value is not None}
    source: Any = x
    if model in LABELLED:
        labels, names = _classes(found, model)
        more["classes"], notes["classes"], source = len(names), names, (x, labels)
    if model in INDEXED:
        more["points"] = len(x)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = create(model, tuple(x.shape[1:]), **more).to(place)
    state = target.with_suffix(".training") if checkpoint is None else Path(checkpoint)
    solved = hasattr(made, "solve")  # in one go: there is no training to keep or to watch
    paint = _painter(target, grid, notes, found)
    try:
        history = fit(
            made,
            source,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            ema=ema,
            clip=clip,
            precision=precision,
            seed=seed,
            every=every,
            callback=paint,
            checkpoint=None if solved else state,
            resume=resume and not solved,
            progress=progress,
        )
    except (ValueError, TypeError):
        if checkpoint is None and state.exists() and _untrained(state):
            state.unlink()
        raise
    if solved and paint is not None:
        paint(0, made)
    save(made, target, notes={**notes, "model": model, "data": found.source, "seed": seed})
    if checkpoint is None:
        state.unlink(missing_ok=True)
    return history


def sample_model(
    path: str | Path,
    n: int,
    *,
    out: str | Path | None = None,
    seed: int | None = None,
    label: int | str | None = None,
    truncation: float | None = None,
    temperature: float = 1.0,
    device: str = "cpu",
) -> NDArray[np.floating[Any]]:
    """Draw samples from a trained file, in the unit and shape of its data.

    Args:
        path: File written by ``train_model``.
        n: How many.
        out: ``.npy`` file to write them to, or ``.png`` for a grid of images.
        seed: Same seed, same samples; None draws afresh.
        label: Class to draw, for models told the class: one of the labels of its data.
        truncation: Largest code coordinate, in deviations, where the model has codes.
        temperature: Standard deviation of the codes.
        device: Where to compute.

    Returns:
        Shape (n, *shape): images as (height, width) or (height, width, channels), pixel values
        as in the data, not clipped.
    """
    if out is not None and refuse_unwritable(out).suffix not in (".png", ".npy"):
        raise ValueError(f"out must end in .npy or .png, got {Path(out).name}")
    model = load(path, device=_device(device))
    if not isinstance(model, AbstractGenerativeModel):
        raise ValueError(f"{path} holds a {type(model).__name__}, which has nothing to sample from")
    notes = model.notes or {}
    options: dict[str, Any] = {} if label is None else {"labels": _class(label, notes)}
    options |= {} if truncation is None else {"truncation": truncation}
    options |= {} if temperature == 1.0 else {"temperature": temperature}
    source, n = checks.generator(seed, model.device), checks.count(n, "n")
    try:
        parts = [min(AT_ONCE, n - done) for done in range(0, n, AT_ONCE)]
        drawn = torch.cat([model.sample(k, generator=source, **options).cpu() for k in parts])
    except TypeError as error:
        raise ValueError(
            f"a {type(model).__name__} cannot be sampled with {', '.join(options)}"
        ) from error
    values = _unscaled(drawn, notes)
    if out is not None:
        target = Path(out).expanduser()
        if target.suffix == ".png":
            write_grid(values, target, top=notes.get("top"))
        else:
            part = target.with_name(target.name + ".part")
            with part.open("wb") as file:
                np.save(file, values)
            part.replace(target)
    return values


def write_grid(values: NDArray[np.floating[Any]], path: Path, *, top: float | None = None) -> None:
    """A PNG of up to 64 images in a square, or of points in the plane.

    Args:
        values: Images (n, height, width) or (n, height, width, channels), or points (n, 2).
        path: File to write.
        top: Pixel value shown as white.
    """
    from PIL import Image

    if values.ndim == 2 and values.shape[1] != 2:
        raise ValueError(
            f"a picture needs images or points in the plane, got {values.shape[1]} columns; "
            "write them to a .npy file"
        )
    if values.ndim == 2:
        pixels = _scatter(values)
    else:
        shown = values[:64] / (top or 1.0)
        side = int(np.ceil(len(shown) ** 0.5))
        height, width, *channels = shown.shape[1:]
        sheet = np.zeros((side * height, side * width, *channels))
        for k, image in enumerate(shown):
            row, column = divmod(k, side)
            sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
        pixels = (np.clip(sheet, 0, 1) * 255).round().astype(np.uint8)
        zoom = max(1, 512 // pixels.shape[0])
        pixels = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    part = path.with_name(path.name + ".part")
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(part, "PNG")
    part.replace(path)


def _scatter(points: NDArray[np.floating[Any]], side: int = 512) -> NDArray[np.uint8]:
    """Points in the plane as dark dots on white, within their own range."""
    low, high = points.min(0), points.max(0)
    span = max(float((high - low).max()), 1e-12)
    middle = (low + high) / 2
    place = ((points - middle) / (1.1 * span) + 0.5) * (side - 1)
    columns, rows = place.round().astype(int).T
    pixels = np.full((side, side), 255, dtype=np.uint8)
    for down in (0, 1):
        for right in (0, 1):
            pixels[
                np.clip(side - 1 - rows + down, 0, side - 1), np.clip(columns + right, 0, side - 1)
            ] = 30
    return pixels


def _scaled(found: Dataset, *, keep: bool) -> tuple[Tensor, dict[str, Any]]:
    """Training data as float32, with what it takes to come back."""
    exact = torch.from_numpy(np.ascontiguousarray(found.values)).double()
    if found.image_shape is None:
        mean, spread = exact.mean(0), exact.std(0, correction=0)
        spread = torch.where(spread > 0, spread, 1.0)
        if keep:
            mean, spread = torch.zeros_like(mean), torch.ones_like(spread)
        return ((exact - mean) / spread).float(), {"offset": mean, "factor": spread, "top": None}
    values = exact.float()
    height, width, *channels = found.image_shape
    top = 255.0 if float(values.max()) > 16 else max(float(values.max()), 1e-12)
    images = values.reshape(-1, height, width, *(channels or [1])).movedim(-1, 1) / top
    notes = {"offset": torch.tensor(0.0), "factor": torch.tensor(top), "top": top}
    return images.contiguous(), {**notes, "grey": not channels}


def _unscaled(drawn: Tensor, notes: dict[str, Any]) -> NDArray[np.floating[Any]]:
    values = drawn * notes["factor"] + notes["offset"] if "factor" in notes else drawn
    if notes.get("top") is not None:
        images = values.movedim(1, -1)
        values = images.squeeze(-1) if notes["grey"] else images
    array: NDArray[np.floating[Any]] = values.numpy()
    return array


def _writable(*paths: Any) -> Path:
    """The model file; it, its picture and its checkpoint are refused where they cannot be."""
    target = Path(paths[0]).expanduser()
    if target.suffix in (".png", ".training"):
        raise ValueError(f"out is the model file, e.g. {target.stem}.pt; got {target.name}")
    for path in paths:
        if path is not None:
            refuse_unwritable(path)
    return target


def _untrained(state: Path) -> bool:
    """Whether a checkpoint is that of step 0, which is not worth keeping."""
    history = torch.load(state, map_location="cpu", weights_only=True)["history"]
    return not history["steps"]


def _device(name: str) -> torch.device:
    """A device on which a tensor can be made."""
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from error


def _source(data: Any) -> Any:
    """``ring`` is data:ring, unless there is a file of that name."""
    if isinstance(data, str) and not Path(data).exists() and PREFIX + data in names():
        return PREFIX + data
    return data


def _class(label: int | str, notes: dict[str, Any]) -> int:
    """The number of the class with this label."""
    known: list[str] | None = notes.get("classes")
    if known is None:
        return int(label)
    checks.choice(str(label), "label", known)
    return known.index(str(label))


def _classes(found: Dataset, model: str) -> tuple[Tensor, list[str]]:
    if found.labels is None:
        raise ValueError(f"{model} needs labels, and {found.source} has none")
    names, index = np.unique(np.asarray(found.labels).astype(str), return_inverse=True)
    return torch.from_numpy(index), [str(name) for name in names]


def _painter(
    target: Path, grid: str | Path | None, notes: dict[str, Any], found: Dataset
) -> Callable[[int, AbstractModel], None] | None:
    """Writes samples as a picture, for data that are pictures or lie in the plane."""
    if found.image_shape is None and found.values.shape[1] != 2:
        if grid is not None:
            raise ValueError(
                f"a picture needs images or points in the plane; {found.source} has "
                f"{found.values.shape[1]} columns"
            )
        return None
    path = target.with_suffix(".png") if grid is None else Path(grid).expanduser()

    def paint(step: int, model: AbstractModel) -> None:
        if isinstance(model, AbstractGenerativeModel):
            drawn = model.sample(64 if notes["top"] else 1000, generator=0)
            write_grid(_unscaled(drawn.cpu(), notes), path, top=notes["top"])

    return paint
