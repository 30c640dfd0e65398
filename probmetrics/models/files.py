"""Files of tensors that appear whole or not at all."""

from pathlib import Path
from typing import Any

import torch


def save_whole(content: Any, path: Path) -> None:
    """Write beside ``path``, then replace it in one move; what interrupts this leaves the old."""
    part = path.with_name(path.name + ".part")
    try:
        torch.save(content, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
