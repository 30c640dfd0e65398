"""The block shapes of the fused kernels: a small table, and a file of measured entries."""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Blocks:
    """Rows and columns of a tile, coordinates per step of its product, warps, pipeline stages."""

    rows: int = 64
    columns: int = 64
    depth: int = 32
    warps: int = 4
    stages: int = 2


# What benchmarks/gpu.py --tune chooses from.
CANDIDATES = [
    Blocks(64, 64, 32, 4, 2),
    Blocks(64, 128, 32, 4, 2),
    Blocks(128, 64, 32, 4, 3),
    Blocks(128, 64, 64, 8, 2),
    Blocks(128, 128, 32, 8, 2),
    Blocks(32, 64, 32, 2, 2),
]
# (kernel, whether by matrix product) → blocks; what is not listed takes the default.
TABLE = {
    ("weighted_sum", True): Blocks(64, 64, 32, 4, 3),
    ("log_sum_exp", True): Blocks(64, 64, 32, 4, 3),
    # with four warps the compiler has to spill registers in these two
    ("pull", True): Blocks(64, 64, 32, 8, 2),
    ("pull", False): Blocks(64, 64, 32, 8, 1),
    ("k_smallest", True): Blocks(32, 64, 32, 4, 2),
    ("k_smallest", False): Blocks(32, 64, 32, 4, 1),
    # a tile folded both ways takes more registers than four warps have
    **{
        (f"mirrored_{name}", product): Blocks(64, 64, 32, 8, 2 if product else 1)
        for name in ("weighted_sum", "log_sum_exp", "count_within")
        for product in (True, False)
    },
}


def blocks_for(name: str, d: int, device: torch.device, *, product: bool) -> Blocks:
    """The blocks of a kernel: the measured entry for this device if there is one, else the table.

    Nothing is measured here: a choice by the clock would change the order of sums, and with it
    the last digits, from run to run.
    """
    if device.type == "cuda":
        measured = load().get(entry(name, d, torch.cuda.get_device_name(device), product=product))
        if measured is not None:
            return measured
    return TABLE.get((name, product), Blocks())


def entry(name: str, d: int, device: str, *, product: bool) -> str:
    """The name of an entry of the file; dimensions share one up to the next power of four."""
    size = next((4**k for k in range(1, 7) if d <= 4**k), 4**6)
    return f"{device}/{name}/{'product' if product else 'differences'}/{size}"


def path() -> Path:
    """Where measured entries are kept: PROBMETRICS_CACHE, else ~/.cache/probmetrics."""
    folder = os.environ.get("PROBMETRICS_CACHE")
    return (Path(folder) if folder else Path.home() / ".cache" / "probmetrics") / "blocks.json"


@functools.lru_cache(maxsize=1)
def load() -> dict[str, Blocks]:
    """The measured entries; none where there is no file. Read once per process."""
    try:
        found = json.loads(path().read_text(encoding="utf-8"))
        entries = {key: Blocks(**value) for key, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {key: blocks for key, blocks in entries.items() if _launchable(blocks)}


def _launchable(blocks: Blocks) -> bool:
    """Whether these are shapes a kernel takes: powers of two, 16 at least where it multiplies."""
    least = {"rows": 16, "columns": 16, "depth": 16, "warps": 1, "stages": 1}
    values = [(getattr(blocks, name), low) for name, low in least.items()]
    whole = all(isinstance(value, int) and value >= low for value, low in values)
    return whole and all(value & (value - 1) == 0 for value, _ in values[:-1])


def save(entries: dict[str, Blocks]) -> Path:
    """Add measured entries to the file; returns where it is."""
    target = path()
    kept = {**load(), **entries}
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({key: vars(value) for key, value in sorted(kept.items())}, indent=1)
    part = target.with_name(f"{target.name}.{os.getpid()}")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(target)  # at once: other processes may be reading
    load.cache_clear()
    return target
