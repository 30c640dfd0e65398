"""Time and memory of the metrics, side by side with other libraries where they are installed.

    python benchmarks/metrics.py                     # all rows; writes benchmarks/results/
    python benchmarks/metrics.py --only frechet,prdc --no-write
    python benchmarks/metrics.py --peers PYTHON      # an interpreter with prdc and torchmetrics

Every row runs in a process of its own on two threads, so that peaks of memory are its own.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) + shift


def frechet_full(n: int = 5000, d: int = 2048) -> Callable[[], float]:
    from probmetrics.gaussian import Moments, gaussian_frechet

    a, b = (Moments.of(normal(n, d, seed)) for seed in (0, 1))
    cov_a, cov_b = a.covariance(), b.covariance()
    return lambda: float(gaussian_frechet(a.mean, cov_a, b.mean, cov_b))


def frechet_few(n: int = 1000, d: int = 2048) -> Callable[[], float]:
    from probmetrics.gaussian import frechet_distance

    x, y = normal(n, d, 0), normal(n, d, 1)
    return lambda: float(frechet_distance(x, y))


def frechet_scipy(n: int = 5000, d: int = 2048) -> Callable[[], float]:
    from scipy.linalg import sqrtm

    x, y = normal(n, d, 0).numpy(), normal(n, d, 1).numpy()
    a, b = np.cov(x.T), np.cov(y.T)
    gap = x.mean(0) - y.mean(0)
    return lambda: float(gap @ gap + np.trace(a + b - 2 * sqrtm(a @ b).real))


def frechet_torchmetrics(n: int = 5000, d: int = 2048) -> Callable[[], float]:
    from torchmetrics.image.fid import _compute_fid

    x, y = normal(n, d, 0), normal(n, d, 1)
    a, b = x.T.cov(), y.T.cov()
    return lambda: float(_compute_fid(x.mean(0), a, y.mean(0), b))


def prdc_ours(n: int = 10_000, d: int = 64) -> Callable[[], float]:
    from probmetrics.metrics import precision_recall

    x, y = normal(n, d, 0), normal(n, d, 1, 0.1)
    return lambda: float(precision_recall(x, y).density)


def prdc_theirs(n: int = 10_000, d: int = 64) -> Callable[[], float]:
    from prdc import compute_prdc

    x, y = normal(n, d, 0).numpy(), normal(n, d, 1, 0.1).numpy()
    return lambda: float(compute_prdc(x, y, 5)["density"])


def streaming(n: int = 1_000_000, d: int = 256, batch: int = 10_000) -> Callable[[], float]:
    from probmetrics import metrics

    kept = {"capacity": 1000}
    made = [
        metrics.FrechetDistance(),
        metrics.KernelDistance(**kept),
        metrics.CMMD(**kept),
        metrics.EnergyDistance(**kept),
        metrics.SlicedWasserstein(**kept),
        metrics.SinkhornDivergence(**kept),
        metrics.PrecisionRecallDensityCoverage(**kept),
        metrics.VendiScore(**kept),
        metrics.Mauve(**kept),
        metrics.DifferentBinsMetric(**kept),
        metrics.BirthdayParadox(**kept),
        metrics.ParzenLogLikelihood(**kept),
        metrics.ClassifierAccuracy(**kept),
        metrics.MIFID(**kept),
        metrics.InceptionScore(logits=True),
    ]

    def run() -> float:
        generator = torch.Generator().manual_seed(0)
        for _ in range(n // batch):
            real = torch.randn(batch, d, generator=generator)
            fake = real.roll(1, 0) + 0.1
            for metric in made:
                metric.update(**{s: {"real": real, "fake": fake}[s] for s in metric.sides})
        values = [metric.compute() for metric in made]
        return float(values[0])

    return run


ROWS: dict[str, tuple[Callable[[], Callable[[], float]], str]] = {
    "frechet d=2048": (frechet_full, "ours"),
    "frechet d=2048 scipy.linalg.sqrtm": (frechet_scipy, "scipy"),
    "frechet d=2048 torchmetrics": (frechet_torchmetrics, "torchmetrics"),
    "frechet n=1000 d=2048 from samples": (frechet_few, "ours"),
    "prdc n=10000 d=64": (prdc_ours, "ours"),
    "prdc n=10000 d=64 prdc": (prdc_theirs, "prdc"),
    "streaming 1e5 x 256": (lambda: streaming(100_000), "ours"),
    "streaming 1e6 x 256": (streaming, "ours"),
}


def measure(name: str) -> dict[str, float]:
    """Best of three (or one, if it takes long) and the peak of memory over what the inputs took."""
    torch.set_num_threads(2)
    call = ROWS[name][0]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, busy, value = [], [], 0.0
    while len(seconds) < 3 and sum(seconds) < 20 and not (seconds and "streaming" in name):
        start, cpu = time.perf_counter(), time.process_time()
        value = call()
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - cpu)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": min(seconds),
        "cpu_seconds": min(busy),
        "extra_megabytes": after - before,
        "peak_megabytes": after,
        "value": value,
    }


def main() -> None:
    """Run the rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="parts of names, separated by commas")
    parser.add_argument("--peers", default=sys.executable, help="interpreter for other libraries")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row)))
        return
    wanted = [part for part in options.only.split(",") if part]
    table = {}
    for name, (_, library) in ROWS.items():
        if wanted and not any(part in name for part in wanted):
            continue
        python = sys.executable if library in ("ours", "scipy") else options.peers
        done = subprocess.run(
            [python, __file__, "--row", name], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"{name:40s} not run: {done.stderr.strip().splitlines()[-1][:80]}")
            continue
        table[name] = json.loads(done.stdout.strip().splitlines()[-1])
        row = table[name]
        print(
            f"{name:40s} {row['seconds']:8.2f} s {row['cpu_seconds']:8.2f} cpu s "
            f"{row['extra_megabytes']:8.0f} MB more, value {row['value']:.10g}",
            flush=True,
        )
    if not options.no_write:
        RESULTS.mkdir(exist_ok=True)
        stamp = {
            "date": date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "rows": table,
        }
        (RESULTS / "metrics.json").write_text(json.dumps(stamp, indent=1) + "\n")


if __name__ == "__main__":
    main()
