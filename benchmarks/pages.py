"""The benchmark pages of the documentation, from benchmarks/results.

    python benchmarks/pages.py        # writes docs/benchmarks; `make docs` does it by itself

The share reached is the time that the counted work takes at the measured ceilings, over the time
taken.
"""

import json
import re
import shutil
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SIZE = re.compile(r"n=([\d_]+)")
DIMENSION = re.compile(r"\bd=(\d+)")

SHARES = """# Shares of the machine's ceilings

The work each problem cannot do without, the time it would take at the [measured
ceilings](ceilings.md) one after the other, and the [time taken](speed.md). Work that depends on
convergence (Sinkhorn) or on pivots (the linear programme) is not counted.
"""


def floor(name, rate):
    """(seconds the counted work takes at the ceilings, the work in words); None if not counted."""
    dtype = "float64" if "float64" in name else "float32"
    n = int(found[1].replace("_", "")) if (found := SIZE.search(name)) else None
    d = int(found[1]) if (found := DIMENSION.search(name)) else 1

    def seconds(flops=0, exps=0, roots=0, sorted_=0, rows=0):
        return (
            flops / rate[f"product {dtype}"]
            + exps / rate[f"exp2 {dtype}"]
            + roots / rate[f"sqrt {dtype}"]
            + sorted_ / rate[f"sort {dtype}"]
            + rows / rate[f"sort rows {dtype}"]
        )

    if match := re.match(r"(mmd|energy) n=", name):
        pairs = 2 * n * n  # half of xx, half of yy, all of xy
        flops = 2 * (d + 2) * pairs + (4 * (d + 1) * n * n if "+gradient" in name else 0)
        kind = "exps" if match[1] == "mmd" else "roots"
        words = f"{flops / 1e9:.3g} GFLOP, {pairs / 1e9:.2g}·10⁹ {kind}"
        return seconds(flops=flops, **{kind: pairs}), words
    if match := re.match(r"mmd (\d+) problems (\d+)x\d+", name):
        k, n = int(match[1]), int(match[2])
        flops = k * (4 * (d + 2) * n * n + (4 * (d + 1) * n * n if "+gradient" in name else 0))
        return seconds(flops=flops, exps=k * 2 * n * n), f"{flops / 1e9:.2g} GFLOP"
    if match := re.match(r"wasserstein_1d (\d+) problems of (\d+)", name):
        count = 2 * int(match[1]) * int(match[2])
        return seconds(rows=count), f"{count / 1e6:.2g}·10⁶ values sorted in rows"
    if name.startswith("wasserstein_1d n="):
        return seconds(sorted_=2 * n), f"{2 * n / 1e6:.2g}·10⁶ values sorted"
    if match := re.match(r"sliced_wasserstein n=.* (\d+) directions", name):
        count = 2 * n * int(match[1])
        flops = 2 * d * count
        return seconds(
            flops=flops, rows=count
        ), f"{flops / 1e9:.2g} GFLOP, {count / 1e6:.2g}·10⁶ sorted"
    if match := re.match(r"(mmd|energy)_test n=.* B=(\d+)", name):
        total, kind = 2 * n, "exps" if match[1] == "mmd" else "roots"
        flops = (d + 2) * total**2 + total**2 * int(match[2])
        words = f"{flops / 1e9:.3g} GFLOP (half of K·U, by symmetry)"
        return seconds(flops=flops, **{kind: total**2 / 2}), words
    return None


def shares(speed, ceilings):
    """Lines of the table of work and shares."""
    rate = {key: row["rate"] for key, row in ceilings["rows"].items()}
    lines = [
        "| problem | counted work | at the ceilings, s | taken, s | share |",
        "|---|---|---|---|---|",
    ]
    for row in speed["rows"]:
        found = floor(row["name"], rate)
        taken = row.get("ours", {}).get("seconds")
        if found is None or taken is None:
            continue
        least, words = found
        lines.append(
            f"| {row['name']} | {words} | {least:.3g} | {taken:.3g} | {least / taken:.0%} |"
        )
    return lines


def load(name):
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def make(source):
    """All pages, into docs/benchmarks."""
    folder = Path(source) / "benchmarks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted(RESULTS.glob("*")):
        if path.suffix in (".md", ".png"):
            shutil.copy(path, folder / path.name)
    speed, ceilings = load("speed.json"), load("ceilings.json")
    found = shares(speed, ceilings) if speed and ceilings else ["Not measured yet."]
    (folder / "shares.md").write_text("\n".join([SHARES, *found, ""]), encoding="utf-8")
    for name in ("speed", "ceilings"):  # pages that others link to
        path = folder / f"{name}.md"
        if not path.exists():
            path.write_text(f"# {name.capitalize()}\n\nNot measured yet.\n", encoding="utf-8")
    names = sorted(path.stem for path in folder.glob("*.md"))
    first = ["speed", "ceilings", "shares"]
    listed = "\n".join([*first, *(name for name in names if name not in first)])
    (folder / "index.md").write_text(
        "# Benchmarks and studies\n\nEach page says machine, versions, date and command. "
        "`make bench` measures the speed beside\nthe peers; `python benchmarks/NAME.py` the rest.\n"
        "\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    make(Path(__file__).parents[1] / "docs")
