"""Two Parquet data sets larger than memory, compared in one pass: time, rows per second, memory.

    python benchmarks/scale.py --rows 50000000 --folder /tmp/scale

generates both data sets in row groups (if they are not there), compares them in a process of its
own on two threads, and writes benchmarks/results/scale.{json,md}.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from measure import setting

RESULTS = Path(__file__).parent / "results"
GROUP = 1_000_000
CODE = """
import resource, sys, time
import torch
torch.set_num_threads(2)
from probmetrics import compare
began = time.perf_counter()
found = compare(sys.argv[1], sys.argv[2], stream=True, max_samples=2000, permutations=199,
                metrics=["energy"], progress=None)
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(found.whole)
import json
print(json.dumps({"seconds": seconds, "peak_gib": peak, "whole": found.whole.as_dict(),
                  "different": found.verdict.different}))
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000_000, help="of both data sets together")
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dry", action="store_true", help="print, write no results")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    half = options.rows // 2
    paths = [options.folder / f"{name}{half}x{options.columns}.parquet" for name in "ab"]
    for seed, path in enumerate(paths):
        if not path.exists():
            generate(path, half, options.columns, seed, 0.02 * seed)
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, paths)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    record = {
        **setting(["probmetrics", "torch", "numpy", "pyarrow"]),
        "command": " ".join(["python", "benchmarks/scale.py", *sys.argv[1:]]),
        "rows": 2 * half,
        "columns": options.columns,
        "bytes_on_disk": sum(path.stat().st_size for path in paths),
        "rows_per_second": 2 * half / found["seconds"],
        **found,
    }
    print(done.stdout)
    if options.dry:
        return
    (RESULTS / "scale.json").write_text(json.dumps(record, indent=2) + "\n")
    (RESULTS / "scale.md").write_text(report(record))


def report(record):
    first = record["whole"]["columns"][0]
    return f"""# Parquet larger than memory, in one pass

{record["rows"]:,} rows of {record["columns"]} float32 columns in two Parquet data sets
({record["bytes_on_disk"] / 2**30:.1f} GiB on disk), one of them moved by 0.02 in its first column:
sketches of all rows, and tests on 2,000 rows of each.

| | |
|---|---|
| time | {record["seconds"]:.0f} s |
| rows per second | {record["rows_per_second"]:,.0f} |
| peak memory of the process | {record["peak_gib"]:.2f} GiB |
| most different column | {first["name"]}: means differ by {first["mean_difference"]:+.4f} |

Two threads; {record.get("note", "the machine was shared with other work at the time")}.
`{record["command"]}`; {record.get("date", "")}; {record["machine"]}.
"""


if __name__ == "__main__":
    main()
