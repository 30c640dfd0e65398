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
CLASSES = 12


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
    """Mean and far end of the noise floor, and A against B at its size; dashes for none.

    The far end is the 95% quantile of a distance, the 5% quantile of a score.
    """
    floor = measurement.floor
    if floor is None:
        return "–", "–", "–"
    far = floor.upper if measurement.metric.better == "lower" else floor.lower
    return number(floor.mean), number(far), number(floor.matched_mean)


def as_text(comparison: "Comparison") -> str:
    """The tables as plain text."""
    return text_of(as_rich(comparison))


def text_of(*parts: Any) -> str:
    """What rich would print, as plain text."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, legacy_windows=False)
    console.print(*parts, sep="\n", highlight=False, markup=False)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def as_rich(comparison: "Comparison") -> "Group":
    """The tables as something rich prints. Foreign text goes in as ``Text``, never as markup."""
    from rich.console import Group

    parts: list[Any] = [_samples(comparison), "", _distances(comparison), "", _tests(comparison)]
    if len(comparison.features) > 1:
        parts += ["", _features(comparison)]
    if comparison.classes:
        parts += ["", _classes(comparison)]
    if comparison.copying is not None:
        parts += ["", _copying(comparison), plain_text(comparison.copying.sentence)]
    parts += ["", _rows(comparison)]
    notes = [*comparison.notes]
    notes += [f"{m.metric.name}: {note}" for m in comparison.measurements for note in m.notes]
    if notes:
        parts += ["", *(plain_text(f"• {note}") for note in notes)]
    return Group(*parts)


def as_verdict(comparison: "Comparison") -> Any:
    """The verdict, coloured by what was found."""
    text = plain_text(comparison.verdict.sentence)
    text.stylize(
        {True: "bold red", False: "bold green", None: "bold yellow"}[comparison.verdict.different]
    )
    return text


def plain_text(text: object) -> Any:
    """Foreign text for rich: printable, and never markup."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else " " for c in str(text)))


def table_of(title: str, *columns: str, left: int = 1) -> "Table":
    """An empty table; the first ``left`` columns hold text, the others numbers."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=plain_text(title),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for i, column in enumerate(columns):
        table.add_column(
            plain_text(column), justify="left" if i < left else "right", overflow="fold"
        )
    return table


def _samples(comparison: "Comparison") -> "Table":
    table = table_of("Samples", "", "source", "rows", "compared", "columns", left=2)
    training = comparison.pair.training
    for side in (*comparison.pair.sides, *([] if training is None else [training])):
        data = side.data
        cells = (f"{side.total:,}", f"{len(data):,}", f"{len(data.columns):,}")
        table.add_row(plain_text(side.name), plain_text(data.source), *cells)
    return table


def _distances(comparison: "Comparison") -> "Table":
    level = f"{100 * comparison.provenance.level:.3g}% interval"
    first, second = comparison.names
    table = table_of("Distances", "", "value", level, "floor", "up to", "matched")
    for m in comparison.measurements:
        table.add_row(m.metric.title, number(m.value), interval_text(m), *floor_text(m))
    table.caption = plain_text(
        f"floor: the distance between random halves of {first}, its mean and 95% quantile "
        f"(5% where more is better); "
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
    table = table_of("Permutation tests", "", "statistic", "p-value", "Holm-adjusted", "labelings")
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
    table = table_of(
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
            plain_text(f.name),
            number(f.means[0]),
            number(f.means[1]),
            number(f.wasserstein),
            number(f.kolmogorov),
            share(f.adjusted_pvalue),
        )
    return table


def _copying(comparison: "Comparison") -> "Table":
    copying = comparison.copying
    assert copying is not None
    second = comparison.names[1]
    level = f"{100 * comparison.provenance.level:.3g}% interval"
    table = table_of("Memorisation", "", second, level, "unseen data")
    for score in copying.scores:
        table.add_row(
            score.title,
            number(score.value),
            range_text(score.low, score.high),
            number(score.unseen),
        )
    return table


def _classes(comparison: "Comparison") -> "Table":
    first, second = comparison.names
    level = f"{100 * comparison.provenance.level:.3g}% interval"
    shown = comparison.classes[:CLASSES]
    title = f"Classes, the farthest first ({len(shown)} of {len(comparison.classes)})"
    table = table_of(title, "", f"share {first}", f"share {second}", "Fréchet d²", level)
    for c in shown:
        cells = (number(c.shares[0]), number(c.shares[1]), number(c.value))
        table.add_row(plain_text(c.label), *cells, range_text(c.low, c.high))
    return table


def range_text(low: float | None, high: float | None) -> str:
    """``low … high``; a dash for none."""
    return "–" if low is None or high is None else f"{number(low)} … {number(high)}"


def _rows(comparison: "Comparison") -> "Table":
    """The rows that differ most, both sides beside each other."""
    table = table_of("Rows that differ most (counted from 0)", "", "rows", left=2)
    for side, (name, other) in enumerate((comparison.names, comparison.names[::-1])):
        rows = [row for row in comparison.rows if row.side == side][:ROWS]
        text = ", ".join(
            f"{row.row}" + (f" ({row.label})" if row.label is not None else "") for row in rows
        )
        table.add_row(plain_text(f"of {name}, least like {other}"), plain_text(text))
    return table
