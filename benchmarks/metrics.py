"""Time and memory of the metrics, beside the libraries people use for them.

python benchmarks/metrics.py                     # every row
python benchmarks/metrics.py --only frechet,prdc
make bench BENCH=metrics                         # all of them, and nothing else

Writes benchmarks/results/metrics.json and .md. Every call runs in a process of its own, so that
its memory is its own; "goal" is the bound each row is held to, on two idle cores.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from measure import measure, setting
from stand_in import import_fidelity

warnings.filterwarnings("ignore")
RESULTS = Path(__file__).parent / "results"
PACKAGES = ["probmetrics", "torch", "numpy", "scipy", "scikit-learn", "torchmetrics", "prdc"]
CAPACITY = 1000  # rows that streaming metrics of neighbours and kernels keep
# Of freed blocks the C library keeps as many as the pattern of a run happens to leave in pieces.
# For the memory of a stream they go back at once; a run that is timed is left alone.
RETURNED = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}


def normal(n, d, seed, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) + shift


def statistics(n=5000, d=2048):
    """Means and full-rank covariances of two samples."""
    sides = [normal(n, d, seed) for seed in (0, 1)]
    return [part for x in sides for part in (x.mean(0), x.T.cov())]


def frechet():
    from probmetrics.gaussian import gaussian_frechet

    known = statistics()
    return lambda: float(gaussian_frechet(*known))


def frechet_scipy():
    from scipy.linalg import sqrtm

    mu1, s1, mu2, s2 = (part.numpy() for part in statistics())
    return lambda: float(
        (mu1 - mu2) @ (mu1 - mu2) + np.trace(s1 + s2) - 2 * np.trace(sqrtm(s1 @ s2).real)
    )


def frechet_torchmetrics():
    from torchmetrics.image.fid import _compute_fid

    known = statistics()
    return lambda: float(_compute_fid(*known))


def frechet_few():
    from probmetrics.gaussian import frechet_distance

    x, y = normal(1000, 2048, 0), normal(1000, 2048, 1)
    return lambda: float(frechet_distance(x, y))


def neighbours():
    from probmetrics.metrics import precision_recall

    x, y = normal(10_000, 64, 0), normal(10_000, 64, 1, 0.1)
    return lambda: [float(v) for v in vars(precision_recall(x, y)).values()]


def neighbours_prdc():
    from prdc import compute_prdc

    x, y = normal(10_000, 64, 0).numpy(), normal(10_000, 64, 1, 0.1).numpy()
    names = ("precision", "recall", "density", "coverage")

    def run():
        with contextlib.redirect_stdout(None):  # it prints the sizes
            found = compute_prdc(x, y, 5)
        return [float(found[name]) for name in names]

    return run


def streaming(n, d=256, batch=10_000):
    from probmetrics import metrics

    kept = {"capacity": CAPACITY}
    made = [
        metrics.FrechetDistance(),
        metrics.InceptionScore(logits=True),
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
        metrics.Memorisation(**kept),
    ]

    def run():
        generator = torch.Generator().manual_seed(0)
        for _ in range(n // batch):
            rows = torch.randn(2 * batch, d, generator=generator)
            sides = {"real": rows[:batch], "fake": rows[batch:] + 0.1, "train": rows[:batch]}
            for metric in made:
                metric.update(**{side: sides[side] for side in metric.sides})
        return [float(metric.compute()) for metric in made[:1]]

    return run


CALLS = {
    "frechet": frechet,
    "frechet_scipy": frechet_scipy,
    "frechet_torchmetrics": frechet_torchmetrics,
    "frechet_few": frechet_few,
    "neighbours": neighbours,
    "neighbours_prdc": neighbours_prdc,
    "streaming_few": lambda: streaming(200_000),
    "streaming": lambda: streaming(1_000_000),
}
ROWS = {  # name: our call, others by name, goal in words, whether it is met
    "Fréchet distance of statistics, d=2048, full rank": (
        "frechet",
        {"scipy.linalg.sqrtm": "frechet_scipy", "torchmetrics": "frechet_torchmetrics"},
        "1/8 of SciPy's time, less than torchmetrics'",
        lambda ours, peers: (
            ours["seconds"] <= peers["scipy.linalg.sqrtm"]["seconds"] / 8
            and ours["seconds"] < peers["torchmetrics"]["seconds"]
        ),
    ),
    "Fréchet distance of samples, n=m=1000, d=2048": (
        "frechet_few",
        {},
        "0.4 s",
        lambda ours, peers: ours["seconds"] <= 0.4,
    ),
    "precision, recall, density, coverage, n=m=10000, d=64": (
        "neighbours",
        {"prdc": "neighbours_prdc"},
        "1/10 of prdc's time, 0.3 GB",
        lambda ours, peers: (
            10 * ours["seconds"] <= peers["prdc"]["seconds"] and ours["mib"] <= 300e6 / 2**20
        ),
    ),
    f"sixteen metrics, streaming 1000000 × 256, {CAPACITY} rows kept": (
        "streaming",
        {"the same, 200000 × 256": "streaming_few"},
        "the memory of 200000",
        lambda ours, peers: ours["mib"] <= 1.05 * peers["the same, 200000 × 256"]["mib"],
    ),
}


def called(name, threads, **environment):
    """Time, memory and answer of one call in a process of its own."""
    command = [sys.executable, __file__, "--call", name, "--threads", str(threads)]
    around = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=around)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1][:120]}
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if "streaming" in name and not environment:  # the time of one run, the memory of another
        found["mib"] = called(name, threads, **RETURNED).get("mib", float("nan"))
    return found


def report(name, threads):
    """One row: our figures, the others', and whether the goal is met."""
    ours, others, goal, is_met = ROWS[name]
    row = {"name": name, "ours": called(ours, threads), "peers": {}, "goal": goal}
    row["peers"] = {peer: called(call, threads) for peer, call in others.items()}
    failed = [found for found in (row["ours"], *row["peers"].values()) if "error" in found]
    row["met"] = None if failed else bool(is_met(row["ours"], row["peers"]))
    return row


def figures(found):
    if "error" in found:
        return found["error"]
    mark = " (disturbed)" if found["disturbed"] else ""
    return f"{found['seconds']:.3g} s, {found['mib']:.0f} MiB{mark}"


def line(row):
    """A row of the table. Answers of others on the same data stand beside ours."""
    others = "; ".join(f"{name}: {figures(found)}" for name, found in row["peers"].items())
    gaps = [
        max(
            abs(a - b) / max(abs(a), 1e-300)
            for a, b in zip(row["ours"]["answer"], found["answer"], strict=True)
        )
        for name, found in row["peers"].items()
        if "answer" in found and "answer" in row["ours"] and not name.startswith("the same")
    ]
    apart = f"{max(gaps):.1g}" if gaps else ""
    verdict = {True: "met", False: "missed", None: ""}[row["met"]]
    cells = (row["name"], figures(row["ours"]), others, apart, row["goal"], verdict)
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| metric | probmetrics | others | relative difference | goal | |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


def write(path, found, threads):
    """The rows measured so far, as JSON and as a table."""
    made = {"setting": setting(PACKAGES), "threads": threads, "rows": found}
    path.write_text(json.dumps(made, indent=1) + "\n")
    versions = ", ".join(f"{k} {v}" for k, v in made["setting"]["versions"].items() if v)
    where = f"{made['setting']['machine']}, {threads} threads; {versions}; "
    where += f"{made['setting']['date']}; `python benchmarks/metrics.py`"
    about = (
        "Memory is what a call adds to its data and the libraries; for streams that of a run in "
    )
    about += "which freed blocks go back at once (MALLOC_MMAP_THRESHOLD_ of 1 MiB)."
    text = ["# Speed of the metrics", "", HEAD, *map(line, found), "", about, "", where, ""]
    path.with_suffix(".md").write_text("\n".join(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name contains one of these")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--call", choices=CALLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        import_fidelity()  # torchmetrics wants it where it finds it
        torch.set_num_threads(options.threads)
        made = CALLS[options.call]()
        budget = 0.0 if "streaming" in options.call else 20.0  # a stream is read once
        found, answer = measure(made, budget=budget)
        print(json.dumps({**found, "answer": np.atleast_1d(answer).tolist()}))
        return
    path = RESULTS / "metrics.json"
    held = json.loads(path.read_text())["rows"] if path.exists() else []
    known = {row["name"]: row for row in held if row["name"] in ROWS}
    print(HEAD)
    for name in ROWS:
        if any(part in f"metrics {name}" for part in options.only.split(",")):
            known[name] = report(name, options.threads)
            print(line(known[name]), flush=True)
            write(path, [known[n] for n in ROWS if n in known], options.threads)


if __name__ == "__main__":
    main()
