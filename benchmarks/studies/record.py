"""Where a study writes what it found: one Markdown file with command, versions, date and table."""

import platform
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

import probmetrics

RESULTS = Path(__file__).parents[1] / "results"
CPU = "model name"


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = [line.split(":")[1].strip() for line in lines if line.startswith(CPU)]
    return f"{found[0]} × {len(found)}" if found else platform.processor()


class Study:
    """A table that grows row by row, printed as it grows and written at the end."""

    def __init__(self, name, title, columns, notes=""):
        self.name, self.title, self.columns, self.notes = name, title, columns, notes
        self.rows = []
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def add(self, *values):
        assert len(values) == len(self.columns)
        self.rows.append([f"{v:.4g}" if isinstance(v, float) else str(v) for v in values])
        print(" | ".join(self.rows[-1]), flush=True)

    def write(self, *pictures):
        RESULTS.mkdir(exist_ok=True)
        width = len(self.columns)
        table = [self.columns, ["---"] * width, *self.rows]
        lines = [
            f"# {self.title}",
            "",
            self.notes.strip(),
            "",
            *("| " + " | ".join(row) + " |" for row in table),
            "",
            *(f"![{Path(p).stem}]({Path(p).name})" for p in pictures),
            "",
            f"Command: `python {shlex.join([str(Path(sys.argv[0]).as_posix()), *sys.argv[1:]])}`",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {time.process_time() - self.cpu:.0f} s of CPU, "
            f"{time.perf_counter() - self.wall:.0f} s of wall clock on a shared machine "
            f"({processor()}, {torch.get_num_threads()} thread"
            f"{'s' * (torch.get_num_threads() != 1)}); Python {platform.python_version()}, torch "
            f"{torch.__version__}, probmetrics {getattr(probmetrics, '__version__', '0.1.0')}.",
        ]
        (RESULTS / f"{self.name}.md").write_text("\n".join(lines) + "\n")


def seeded(seed, build):
    """A model whose initial weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()
