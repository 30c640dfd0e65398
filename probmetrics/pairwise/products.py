"""How float32 matrices are multiplied: as PyTorch's settings ask, or exactly where that matters.

‖x‖² + ‖y‖² − 2⟨x, y⟩ cancels: with products rounded to the ten bits of TF32 a squared distance is
wrong by a thousandth of ‖x‖², whatever its size. Tiles therefore multiply exactly, also where the
user's networks do not; the fused kernels round the points first, which is harmless.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

NAMES = {"highest": "ieee", "high": "tf32", "medium": "bf16"}


class _Blocks:
    """The blocks that are open, on all threads, and what the last one to be left has to undo."""

    lock = threading.Lock()
    count = 0
    undo: Callable[[], None] | None = None


def asked() -> str:
    """What PyTorch is told for products on a CUDA device: "ieee", "tf32" or "bf16".

    Torch has two sets of switches, and an error for reading the older one once the newer is used.
    """
    try:
        return NAMES[torch.get_float32_matmul_precision()]
    except RuntimeError:
        return _known(torch.backends.cuda.matmul)


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Multiply float32 matrices in float32 within the block, on any thread."""
    if torch.compiler.is_compiling():  # a graph keeps the settings it was traced under
        yield
        return
    with _Blocks.lock:
        if _Blocks.count == 0:
            _Blocks.undo = _forbid()
        _Blocks.count += 1
    try:
        yield
    finally:
        with _Blocks.lock:
            _Blocks.count -= 1
            if _Blocks.count == 0 and _Blocks.undo is not None:
                _Blocks.undo()


def _known(place: Any) -> str:
    found = str(getattr(place, "fp32_precision", "none"))
    return "ieee" if found == "none" else found


def _forbid() -> Callable[[], None] | None:
    """Ask for exact products; returns what takes that back, None where they were exact."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        places: list[Any] = [torch.backends.cuda.matmul]
        places.append(getattr(torch.backends.mkldnn, "matmul", None))
        coarse = [(place, place.fp32_precision) for place in places if _known(place) != "ieee"]
        for place, _ in coarse:
            place.fp32_precision = "ieee"
        return functools.partial(_set, coarse)
    if before == "highest":
        return None
    torch.set_float32_matmul_precision("highest")
    return functools.partial(torch.set_float32_matmul_precision, before)


def _set(values: list[tuple[Any, str]]) -> None:
    for place, value in values:
        place.fp32_precision = value
