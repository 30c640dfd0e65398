"""Seconds that importing the package adds to importing torch, each in a fresh interpreter.

python benchmarks/imports.py
"""

import statistics
import subprocess
import sys

CODE = (
    "import time, torch; start = time.perf_counter(); import probmetrics; {use}"
    "print(time.perf_counter() - start)"
)
USES = {
    "import probmetrics": "",
    "… and its first estimator": "probmetrics.mmd; ",
    "… and every public name": "[getattr(probmetrics, name) for name in probmetrics.__all__]; ",
}


def seconds(use, repeats=7):
    """Median over fresh interpreters."""
    command = [sys.executable, "-c", CODE.format(use=use)]
    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(repeats)
    ]
    return statistics.median(float(run.stdout) for run in runs)


if __name__ == "__main__":
    for name, use in USES.items():
        print(f"{name:28} {seconds(use):.3f} s")
