"""Two Parquet data sets larger than memory, compared in one pass: time, rows per second, memory.

    python benchmarks/scale.py                       # in a temporary folder, removed afterwards
    python benchmarks/scale.py --folder /tmp/scale   # the data sets stay there for the next run

generates both data sets in row groups (if they are not there), compares them in a process of its
own on two threads with a progress bar, and writes benchmarks/results/scale.{json,md}. 50 million
rows of 20 float32 columns take 4 GB of disk.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import CORES, _busy, setting

RESULTS = Path(__file__).parent / "results"
GROUP = 1_000_000
TENTHS = 10
CODE = """
import json, resource, sys, threading, time
import torch
torch.set_num_threads(2)
from probmetrics import compare

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**30

def watch():
    while not done.wait(0.05):
        seen.append(resident())

done, seen = threading.Event(), [resident()]
watcher = threading.Thread(target=watch)
watcher.start()
began = time.perf_counter()
found = compare(sys.argv[1], sys.argv[2], stream=True, max_samples=2000, permutations=199,
                metrics=["energy"], progress=True)
seconds = time.perf_counter() - began
done.set()
watcher.join()
used = resource.getrusage(resource.RUSAGE_SELF)
print(found.whole)
print(json.dumps({"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime,
                  "peak_gib": used.ru_maxrss / 2**20, "resident_gib": seen,
                  "whole": found.whole.as_dict(), "different": found.verdict.different}))
"""


def generate(path, rows, columns, seed, shift):
    import pyarrow
    import pyarrow.parquet

    rng = np.random.default_rng(seed)
    names = [f"c{j}" for j in range(columns)]
    schema = pyarrow.schema([(name, pyarrow.float32()) for name in names])
    began = time.perf_counter()
    with pyarrow.parquet.ParquetWriter(
        path, schema, compression="none", use_dictionary=False
    ) as out:
        for start in range(0, rows, GROUP):
            size = min(GROUP, rows - start)
            values = rng.standard_normal((size, columns), dtype=np.float32)
            values[:, 0] += shift
            out.write_table(pyarrow.table(dict(zip(names, values.T, strict=True)), schema))
    return time.perf_counter() - began


def compared(paths):
    """What a process of its own found, and how busy others kept the machine meanwhile."""
    before, began = _busy(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, paths)],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.returncode)
    *lines, last = done.stdout.splitlines()
    print("\n".join(lines))
    found = json.loads(last)
    others = _busy() - before - found["cpu_seconds"]
    found["others"] = max(0.0, others) / (CORES * (time.perf_counter() - began))
    seen = found.pop("resident_gib")
    edges = [round(k * len(seen) / TENTHS) for k in range(TENTHS + 1)]
    found["peak_gib_of_tenths"] = [
        round(max(seen[i : max(j, i + 1)]), 3) for i, j in itertools.pairwise(edges)
    ]
    return found


def run(options, folder):
    half = options.rows // 2
    paths = [folder / f"{name}{half}x{options.columns}.parquet" for name in "ab"]
    for seed, path in enumerate(paths):
        if not path.exists():
            part = path.with_suffix(".part")  # what was broken off is not taken for the whole
            generate(part, half, options.columns, seed, 0.02 * seed)
            part.rename(path)
    found = compared(paths)
    record = {
        **setting(["probmetrics", "torch", "numpy", "pyarrow"]),
        "command": f"python benchmarks/scale.py --rows {options.rows} --columns {options.columns}",
        "rows": 2 * half,
        "columns": options.columns,
        "bytes_on_disk": sum(path.stat().st_size for path in paths),
        "rows_per_second": 2 * half / found["seconds"],
        **found,
    }
    text = report(record)
    print(text)
    if not options.dry:
        (RESULTS / "scale.json").write_text(json.dumps(record, indent=2) + "\n")
        (RESULTS / "scale.md").write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000_000, help="of both data sets together")
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="keep the data sets here")
    parser.add_argument("--dry", action="store_true", help="print, write no results")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        run(options, options.folder)
        return
    with tempfile.TemporaryDirectory(prefix="scale") as folder:
        run(options, Path(folder))


def report(record):
    first = record["whole"]["columns"][0]
    tenths = ", ".join(f"{gib:.2f}" for gib in record["peak_gib_of_tenths"])
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    return f"""# Parquet larger than memory, in one pass

{record["rows"]:,} rows of {record["columns"]} float32 columns in two Parquet data sets
({record["bytes_on_disk"] / 2**30:.1f} GiB on disk), one of them moved by 0.02 in its first column:
sketches of all rows, and tests on 2,000 rows of each.

| | |
|---|---|
| time | {record["seconds"]:.0f} s |
| rows per second | {record["rows_per_second"]:,.0f} |
| peak memory of the process | {record["peak_gib"]:.2f} GiB |
| most memory in each tenth of the time | {tenths} GiB |
| most different column | {first["name"]}: means differ by {first["mean_difference"]:+.4f} |

Two threads; other processes took {record["others"]:.0%} of the machine's cores at the time.
`{record["command"]}`; {record["date"]} at commit {record["commit"]}; {record["machine"]};
{versions}.
"""


if __name__ == "__main__":
    main()
