"""Options that several commands share."""

from typing import Annotated

import typer

Scale = Annotated[
    bool | None,
    typer.Option(
        "--scale/--no-scale",
        help="Divide columns by their pooled standard deviation; by default for tables only.",
    ),
]
ImageSize = Annotated[int | None, typer.Option(help="Resize images to this many pixels a side.")]
Key = Annotated[str | None, typer.Option(help="Array to read from .npz and .pt files.")]
