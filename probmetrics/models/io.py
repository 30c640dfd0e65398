"""Trained models as files: weights and plain options only, nothing that runs when it is read."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from probmetrics.models.base import AbstractModel
from probmetrics.models.catalog import create
from probmetrics.models.files import save_whole

FORMAT = "probmetrics model"
REVISION = 1


def save(model: AbstractModel, path: str | Path, *, notes: dict[str, Any] | None = None) -> None:
    """Write a model's weights, and how to build it, in one move.

    Args:
        model: From ``create`` (then ``load`` needs nothing else), or any other.
        path: File to write.
        notes: Numbers, text, lists and tensors to keep beside the weights.

    Example:
        >>> import tempfile
        >>> from probmetrics.models.catalog import create
        >>> path = Path(tempfile.mkdtemp()) / "model.pt"
        >>> save(create("gmmn", 2, latent=3), path)
        >>> load(path).sample(4, generator=0).shape
        torch.Size([4, 2])
    """
    content = {
        "format": FORMAT,
        "revision": REVISION,
        "version": _version(),
        "kind": type(model).__name__,
        "recipe": model.recipe,
        "state": model.state_dict(),
        "notes": notes or {},
    }
    save_whole(content, Path(path))


def load(
    path: str | Path,
    *,
    into: AbstractModel | None = None,
    device: str | torch.device = "cpu",
) -> AbstractModel:
    """Read a model written by ``save``, in evaluation mode.

    Args:
        path: The file.
        into: A model of the same build to fill, for models with networks of your own.
        device: Where to put it.

    Raises:
        ValueError: The file is something else, of another revision, or of another build; nothing
            in it is executed.
        FileNotFoundError: There is no such file.

    Notes:
        Read with ``weights_only=True``: tensors, numbers and text. ``model.notes`` holds what was
        noted when it was saved.
    """
    source = Path(path)
    content = _read(source, device)
    if into is None:
        recipe = content["recipe"]
        if recipe is None:
            raise ValueError(
                f"{source} holds a {content['kind']} with networks of its own; build the same "
                "model and pass it as into="
            )
        with torch.random.fork_rng():  # initial weights are drawn, and overwritten
            into = create(recipe["name"], tuple(recipe["shape"]), **recipe["options"])
    elif type(into).__name__ != content["kind"]:
        raise ValueError(f"{source} holds a {content['kind']}, not a {type(into).__name__}")
    try:
        into.load_state_dict(content["state"])
    except RuntimeError as error:
        raise ValueError(f"{source} does not fit this {content['kind']}: {error}") from error
    into.notes = content["notes"]
    return into.to(device).eval()


def _read(source: Path, device: str | torch.device) -> dict[str, Any]:
    """The content of a model file, or the reason why it is none."""
    if not source.is_file():
        raise FileNotFoundError(f"no such file: {source}")
    try:
        content = torch.load(source, map_location=device, weights_only=True)
    except Exception as error:
        reason = (
            "it holds objects, not weights" if "Unsupported global" in str(error) else "unreadable"
        )
        raise ValueError(f"{source} is no model file of probmetrics ({reason})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        training = isinstance(content, dict) and "optimizers" in content
        what = "a training checkpoint" if training else "of another kind"
        raise ValueError(f"{source} is no model file of probmetrics; it is {what}")
    if content.get("revision") != REVISION:
        raise ValueError(
            f"{source} has revision {content.get('revision')} (written by probmetrics "
            f"{content.get('version')}), this version reads {REVISION}; train it again or use "
            "the version that wrote it"
        )
    missing = {"kind", "recipe", "state", "notes"} - set(content)
    if missing:
        raise ValueError(f"{source} is damaged: it lacks {', '.join(sorted(missing))}")
    return content


def _version() -> str:
    try:
        return version("probmetrics")
    except PackageNotFoundError:
        return "unknown"
