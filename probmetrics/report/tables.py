"""A comparison as tables for a terminal."""

import io
import math
from typing import TYPE_CHECKING, Any

from probmetrics.report.measures import Measurement

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from probmetrics.report.comparison import Comparison

WIDTH = 96
FEATURES = 8  # shown in the terminal
ROWS = 5


def number(value: float | None) -> str:
    """A number to three digits; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3g}".replace("-", "−")


def share(pvalue: float, name: str = "") -> str:
    """A p-value to two digits, small ones bounded; with a name, as a relation: ``p = 0.02``."""
    shown, relation = (f"{pvalue:.2g}", "= ") if pvalue >= 1e-4 else ("0.0001", "< ")
    if name:
        return f"{name} {relation}{shown}"
    return shown if relation == "= " else relation + shown


def interval_text(measurement: Measurement) -> str:
    """``low … high`` of a measurement's interval; a dash where there is none."""
    interval = measurement.interval
    return "–" if interval is None else f"{number(interval.low)} … {number(interval.high)}"


def floor_text(measurement: Measurement) -> tuple[str, str, str]:
    """Mean and 95% quantile of the noise floor, and A against B at its size; dashes for none."""
    floor = measurement.floor
    if floor is None:
        return "–", "–", "–"
    return number(floor.mean), number(floor.upper), number(floor.matched_mean)


def as_text(comparison: "Comparison") -> str:
    """The tables as plain text."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, legacy_windows=False)
    console.print(as_rich(comparison))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def as_rich(comparison: "Comparison") -> "Group":
    """The tables as something rich prints. Foreign text goes in as ``Text``, never as markup."""
    from rich.console import Group

    parts: list[Any] = [_samples(comparison), "", _distances(comparison), "", _tests(comparison)]
    if len(comparison.features) > 1:
        parts += ["", _features(comparison)]
    parts += ["", _rows(comparison)]
    notes = [*comparison.notes]
    notes += [f"{m.metric.name}: {note}" for m in comparison.measurements for note in m.notes]
    if notes:
        parts += ["", *(_plain(f"• {note}") for note in notes)]
    return Group(*parts)


def as_verdict(comparison: "Comparison") -> Any:
    """The verdict, coloured by what was found."""
    text = _plain(comparison.verdict.sentence)
    text.stylize(
        {True: "bold red", False: "bold green", None: "bold yellow"}[comparison.verdict.different]
    )
    return text


def _plain(text: object) -> Any:
    from rich.text import Text

    return Text("".join(c if c.isprintable() else " " for c in str(text)))


def _table(title: str, *columns: str, left: int = 1) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        title=_plain(title),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for i, column in enumerate(columns):
        table.add_column(_plain(column), justify="left" if i < left else "right", overflow="fold")
    return table


def _samples(comparison: "Comparison") -> "Table":
    table = _table("Samples", "", "source", "rows", "compared", "columns", left=2)
    for side in comparison.pair.sides:
        data = side.data
        cells = (f"{side.total:,}", f"{len(data):,}", f"{len(data.columns):,}")
        table.add_row(_plain(side.name), _plain(data.source), *cells)
    return table


def _distances(comparison: "Comparison") -> "Table":
    level = f"{100 * comparison.provenance.level:.3g}% interval"
    first, second = comparison.names
    table = _table("Distances", "", "value", level, "floor", "up to", "matched")
    for m in comparison.measurements:
        table.add_row(m.metric.title, number(m.value), interval_text(m), *floor_text(m))
    table.caption = _plain(
        f"floor: the distance between random halves of {first}, its mean and 95% quantile; "
        f"matched: between half of {first} and as many rows of {second}. Compare these two."
        + (AT_THE_VALUE if any(_biased(m) for m in comparison.measurements) else "")
    )
    return table


AT_THE_VALUE = (
    " Intervals are about the distributions behind the rows: few rows read as too far apart, so an "
    "interval leaves out this excess, as far as it can be estimated, and may end at the value."
)


def _biased(measurement: Measurement) -> bool:
    return measurement.interval is not None and float(measurement.interval.bias) > 0


def _tests(comparison: "Comparison") -> "Table":
    table = _table("Permutation tests", "", "statistic", "p-value", "Holm-adjusted", "labelings")
    for name, test in comparison.tests.items():
        table.add_row(
            METHOD.get(name, name),
            number(test.statistic),
            share(test.pvalue),
            share(comparison.verdict.adjusted[name]),
            f"{test.permutations:,}{' (all)' if test.exact else ''}",
        )
    return table


METHOD = {"mmd": "MMD²", "energy": "energy distance"}


def _features(comparison: "Comparison") -> "Table":
    first, second = comparison.names
    shown = comparison.features[:FEATURES]
    table = _table(
        f"Features that differ most ({len(shown)} of {len(comparison.features)})",
        "",
        f"mean {first}",
        f"mean {second}",
        "W₁ / sd",
        "KS gap",
        "p, adjusted",
    )
    for f in shown:
        table.add_row(
            _plain(f.name),
            number(f.means[0]),
            number(f.means[1]),
            number(f.wasserstein),
            number(f.kolmogorov),
            share(f.adjusted_pvalue),
        )
    return table


def _rows(comparison: "Comparison") -> "Table":
    """The rows that differ most, both sides beside each other."""
    table = _table("Rows that differ most (counted from 0)", "", "rows", left=2)
    for side, (name, other) in enumerate((comparison.names, comparison.names[::-1])):
        rows = [row for row in comparison.rows if row.side == side][:ROWS]
        text = ", ".join(
            f"{row.row}" + (f" ({row.label})" if row.label is not None else "") for row in rows
        )
        table.add_row(_plain(f"of {name}, least like {other}"), _plain(text))
    return table
