"""Where a study writes what it found, with command, versions and date: as Markdown and JSON."""

import json
import platform
import shlex
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

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
        self.rows.append(list(values))
        print(" | ".join(shown(values)), flush=True)

    def write(self, *pictures):
        RESULTS.mkdir(exist_ok=True)
        width = len(self.columns)
        table = [self.columns, ["---"] * width, *map(shown, self.rows)]
        command = f"python {shlex.join([Path(sys.argv[0]).as_posix(), *sys.argv[1:]])}"
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        setting = {
            "command": command,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "cpu": processor(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "probmetrics": version("probmetrics"),
            "cpu seconds": round(cpu, 1),
            "wall seconds": round(wall, 1),
        }
        lines = [
            f"# {self.title}",
            "",
            self.notes.strip(),
            "",
            *("| " + " | ".join(row) + " |" for row in table),
            "",
            *(f"![{Path(p).stem}]({Path(p).name})" for p in pictures),
            "",
            f"Command: `{command}`",
            "",
            f"{setting['date']}, {cpu:.0f} s of CPU, {wall:.0f} s of wall clock on a shared "
            f"machine ({setting['cpu']}, torch threads: {setting['threads']}); "
            f"Python {setting['python']}, torch {setting['torch']}, probmetrics "
            f"{setting['probmetrics']}.",
        ]
        (RESULTS / f"{self.name}.md").write_text("\n".join(lines) + "\n")
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        content = {"machine": setting, "notes": self.notes.strip(), "rows": rows}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (RESULTS / f"{self.name}.json").write_text(text + "\n")


def shown(values):
    return [f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]


def seeded(seed, build):
    """A model whose initial weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()
