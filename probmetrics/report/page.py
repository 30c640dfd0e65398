"""A comparison as one self-contained HTML page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probmetrics.report import tables
from probmetrics.report.captions import caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from probmetrics.report.comparison import Comparison

TEMPLATE = "page.html.jinja"
DPI = 144
FEATURES, ROWS, COLUMNS = 25, 10, 12


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it."""

    name: str
    source: str
    width: int
    height: int
    title: str
    alt: str
    caption: str


def as_html(comparison: "Comparison") -> str:
    """The page. Whatever comes from files (names of columns, paths, labels) is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # for every template, whatever it is called
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": tables.number, "share": tables.share}
    pictures = {
        name: _picture(comparison, name, figure) for name, figure in comparison.figures.items()
    }
    return environment.get_template(TEMPLATE).render(
        c=comparison,
        a=comparison.names[0],
        b=comparison.names[1],
        pictures=pictures,
        marginals=[p for name, p in pictures.items() if name.startswith("feature_")],
        features=comparison.features[:FEATURES],
        rows=_rows(comparison),
        row_columns=_row_columns(comparison),
        interval_text=tables.interval_text,
        floor_text=tables.floor_text,
        range_text=tables.range_text,
        methods=tables.METHOD,
    )


def _picture(comparison: "Comparison", name: str, figure: "Figure") -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    width, height = (round(float(size) * 96) for size in figure.get_size_inches())  # CSS pixels
    title, alt, text = caption(comparison, name)
    return Picture(name, f"data:image/png;base64,{data}", width, height, title, alt, text)


def _row_columns(comparison: "Comparison") -> list[str]:
    """The columns whose values the page lists for a row: the most different ones."""
    if comparison.pair.image_shape is not None:
        return []
    return [feature.name for feature in comparison.features[:COLUMNS]]


def _rows(comparison: "Comparison") -> list[dict[str, Any]]:
    """The most telling rows of both sides, with their values in those columns."""
    indices = [feature.index for feature in comparison.features[: len(_row_columns(comparison))]]
    listed = []
    for side in (0, 1):
        data = comparison.pair.sides[side].data
        for row in [row for row in comparison.rows if row.side == side][:ROWS]:
            values = [float(data.values[row.position, j]) for j in indices]
            listed.append(
                {
                    "side": side,
                    "name": comparison.names[side],
                    "row": row.row,
                    "label": row.label,
                    "witness": row.witness,
                    "values": values,
                }
            )
    return listed
