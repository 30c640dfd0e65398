"""Time and memory of a call, taken when the machine is otherwise idle; the setting."""

import ctypes
import gc
import os
import platform
import statistics
import subprocess
import threading
import time
from importlib import metadata
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1
QUIET = 0.12  # share of the machine that others may use during a sample


def _busy():
    """CPU seconds the whole machine has spent so far."""
    fields = [int(v) for v in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


class Peak:
    """Growth of the resident memory during the block, in MiB, sampled every two milliseconds."""

    def __enter__(self):
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        self.base = self.top = _resident()
        self.running = True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self):
        while self.running:
            self.top = max(self.top, _resident())
            time.sleep(0.002)

    def __exit__(self, *_):
        self.running = False
        self.thread.join()
        self.mib = max(self.top, _resident()) - self.base


def measure(call, *, repeats=5, budget=20.0):
    """Median seconds of a call, its peak memory, its last answer, and whether others disturbed it.

    The first call warms up (and is the measurement where it takes over half the budget). Samples
    during which other processes used more than an eighth of the machine are taken again.
    """
    with Peak() as peak:
        before, own, start = _busy(), time.process_time(), time.perf_counter()
        answer = call()
        first = time.perf_counter() - start
        others = max(0.0, _busy() - before - (time.process_time() - own)) / (first * CORES)
    result = {"seconds": first, "mib": round(peak.mib, 1), "disturbed": others > QUIET}
    if first > budget / 2:
        return result, answer
    inner = max(1, round(0.05 / max(first, 1e-6)))
    clean, dirty, begin = [], [], time.perf_counter()
    while len(clean) < repeats and time.perf_counter() - begin < budget:
        before, own, start = _busy(), time.process_time(), time.perf_counter()
        for _ in range(inner):
            answer = call()
        took = time.perf_counter() - start
        others = max(0.0, _busy() - before - (time.process_time() - own)) / (took * CORES)
        # the tick of /proc/stat is ten milliseconds per core
        (clean if others <= QUIET + 0.02 / took else dirty).append(took / inner)
    result["seconds"] = statistics.median(clean) if clean else min(dirty)
    result["disturbed"] = not clean
    return result, answer


def setting(packages):
    """Machine, versions, date and command."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "machine": f"{model}, {CORES} cores",
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
    }
