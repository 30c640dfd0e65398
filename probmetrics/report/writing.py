"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from os import PathLike
from pathlib import Path


def refuse_unwritable(path: str | PathLike[str]) -> Path:
    """The path, refused with the reason if no file could be written there."""
    target = Path(path).expanduser()
    if target.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it")
    if not target.parent.is_dir():
        raise ValueError(f"cannot write {path}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK) or (
        target.exists() and not os.access(target, os.W_OK)
    ):
        raise ValueError(f"cannot write {path}: permission denied")
    return target


def write_whole(path: str | PathLike[str], text: str) -> None:
    """Write text to a new file beside ``path``, then put it in its place in one step.

    Whatever interrupts this leaves the old file, or none.

    Raises:
        ValueError: The folder does not exist or may not be written to.
        OSError: The disk is full or fails.
    """
    target = refuse_unwritable(path)
    target = target.resolve()  # a link keeps pointing to the file it names
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
