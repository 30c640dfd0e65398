"""Rows of times and peak memory, ours beside the peers', printed and written down."""

import json
from pathlib import Path

import numpy as np
import torch
from measure import measure, setting

RESULTS = Path(__file__).parent / "results"
HEAD = (
    "| problem | ours, s | MiB | error | best peer | its s | its MiB | its error | ratio |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def timed(rows, pattern, repeats):
    """Measure the rows whose name contains the pattern.

    Rows are (name, ours, peers by name, exact value): calls without arguments, or None for a
    row without an exact value.
    """
    table = []
    for name, ours, peers, exact in rows:
        if pattern not in name:
            continue
        reference = None if exact is None else exact()
        if reference is not None:
            reference = np.asarray(torch.as_tensor(reference)).reshape(-1)
        row = {"name": name, "peers": {}}
        row["ours"], answer = measure(ours, repeats=repeats)
        row["ours"]["error"] = relative(answer, reference)
        for peer, call in peers.items():
            try:
                found, answer = measure(call, repeats=repeats)
                found["error"] = relative(answer, reference)
            except Exception as error:
                found = {"failed": f"{type(error).__name__}: {error}"[:120]}
            row["peers"][peer] = found
        run = {k: v for k, v in row["peers"].items() if "seconds" in v}
        if run:
            best = min(run, key=lambda k: run[k]["seconds"])
            row["best_peer"] = best
            row["ratio"] = run[best]["seconds"] / row["ours"]["seconds"]
        table.append(row)
        print(line(row), flush=True)
    return table


def relative(answer, reference):
    """Largest error relative to the largest reference value, or None where there is none."""
    if reference is None or answer is None:
        return None
    found = np.asarray(torch.as_tensor(answer, dtype=torch.float64)).reshape(-1)
    if found.shape != reference.shape:
        return None
    return float(np.max(np.abs(found - reference)) / np.max(np.abs(reference)))


def line(row):
    """A row as Markdown."""

    def show(entry):
        error = entry.get("error")
        mark = "*" if entry.get("disturbed") else ""
        shown = "–" if error is None else f"{error:.1e}"
        return f"{entry['seconds']:.4g}{mark} | {entry['mib']:.0f} | {shown}"

    if "best_peer" not in row:
        return f"| {row['name']} | {show(row['ours'])} | – | – | – | – | – |"
    best = row["peers"][row["best_peer"]]
    peer = f"{row['best_peer']} | {show(best)} | {row['ratio']:.2f}"
    return f"| {row['name']} | {show(row['ours'])} | {peer} |"


def write(name, title, table, packages, command, notes=()):
    """Write results/NAME.json and NAME.md."""
    report = {**setting(packages), "command": command, "rows": table, "notes": list(notes)}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    facts = (
        f"Measured {report['date']} at commit {report['commit']} on {report['machine']}, two "
        f"threads, by `{report['command']}`. Ratio: seconds of the best peer over ours, in the "
        "same run. "
        "A star marks a time for which no undisturbed sample could be had. Errors are relative to "
        "float64; sinkhorn's are of the dual value at the marginal error reached.\n"
    )
    text = "\n".join([f"# {title}", "", facts, HEAD, *map(line, table), ""])
    failed = [
        f"- {r['name']}: {p}: {e['failed']}"
        for r in table
        for p, e in r["peers"].items()
        if "failed" in e
    ]
    if failed:
        text += "\nPeers that failed:\n\n" + "\n".join(failed) + "\n"
    if notes:
        text += "\n" + "\n".join(f"- {note}" for note in notes) + "\n"
    versions = ", ".join(f"{k} {v}" for k, v in report["versions"].items())
    (RESULTS / f"{name}.md").write_text(
        f"{text}\nVersions: {versions}; Python {report['python']}.\n"
    )
