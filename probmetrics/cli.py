"""The command line: ``probmetrics compare A B`` and its siblings."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from probmetrics import cli_evaluation, cli_training
from probmetrics.cli_options import ImageSize, Key, Scale

if TYPE_CHECKING:
    from probmetrics.report import Comparison

# Everything heavy is imported inside the commands: help and usage errors answer at once.

app = typer.Typer(
    name="probmetrics",
    help="How far apart are two probability distributions, and how sure are we?",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# BadParameter → UsageError → ClickException, the base of all usage errors: older versions of typer
# stand on click, newer ones carry a copy of it, and only the subclass has one name in both.
UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; exit code 0: it ran, 2: bad input, 3: it diverged, 130: Ctrl-C."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """The exit code of one command; what went wrong is one line on standard error."""
    try:
        answer = app(args=arguments or ["--help"], prog_name="probmetrics", standalone_mode=False)
        if answer == INTERRUPTED:  # how newer versions of typer hand Ctrl-C on
            raise KeyboardInterrupt
        return answer if isinstance(answer, int) else 0
    except cli_training.StoppedError as stop:
        return _complain(str(stop), stop.code)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted; no file was left half-written", INTERRUPTED)
    except UsageProblem as error:
        return _complain(f"{_message(error)} (see probmetrics --help)")
    except (ValueError, TypeError, OSError, MemoryError) as error:
        return _complain(_message(error))


def _message(error: Exception) -> str:
    form = getattr(error, "format_message", None)
    return str(form() if form else error) or type(error).__name__


def _complain(message: str, code: int = BAD_INPUT) -> int:
    """One printable line on standard error."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(message.split()))
    print(f"probmetrics: {line}", file=sys.stderr)
    return code


def _show_version(wanted: bool | None) -> bool:
    if not wanted:
        return False
    from importlib.metadata import version

    print(f"probmetrics {version('probmetrics')}")
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """How far apart are two probability distributions, and how sure are we?"""


SOURCE = (
    ".npy, .npz, .pt, .csv, .tsv, .parquet, a folder or .zip of images, or an embedded set such as "
    "data:digits, data:wine, data:digits@1/2."
)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", show_default=False, help=SOURCE)],
    second: Annotated[str, typer.Argument(metavar="B", show_default=False, help="Likewise.")],
    columns: Annotated[
        str | None, typer.Option(help="Columns to compare: names or numbers, comma-separated.")
    ] = None,
    max_samples: Annotated[
        int, typer.Option(help="Most rows per side; of more, so many are drawn at random.")
    ] = 5000,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Distances, comma-separated, among mmd, energy, sliced_wasserstein, wasserstein, "
            "wasserstein_1d, frechet, frechet_infinity, kid, cmmd, precision, recall, density, "
            "coverage, vendi, sinkhorn, mauve, bins, one_nn, logistic, parzen, mifid; by default "
            "those that suit the data."
        ),
    ] = None,
    permutations: Annotated[int, typer.Option(help="Random labelings per test.")] = 999,
    level: Annotated[float, typer.Option(help="Confidence level; tests use one less it.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Same seed, same answer.")] = 0,
    scale: Scale = None,
    image_size: ImageSize = None,
    key: Key = None,
    skip_corrupt: Annotated[
        bool, typer.Option(help="Leave out images that cannot be decoded, and count them.")
    ] = False,
    train: Annotated[
        str | None,
        typer.Option(help="What the model behind B was trained on, to see whether it copies."),
    ] = None,
    encoder: Annotated[str | None, typer.Option(help=cli_evaluation.ENCODER)] = None,
    cache: Annotated[Path | None, typer.Option(help=cli_evaluation.CACHE)] = None,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Read .npy and Parquet in one pass and constant memory; by default from 1 GB on.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a self-contained page with pictures.")
    ] = None,
    json: Annotated[
        str | None, typer.Option(help="Write the numbers as JSON; '-' for standard output.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the verdict only, no progress bar.")
    ] = False,
) -> None:
    """Are two samples from the same distribution, and if not, where do they differ?"""
    from probmetrics.report import compare as compare_samples
    from probmetrics.report import is_reference
    from probmetrics.report.writing import refuse_unwritable

    for path in (html, None if json == "-" else json):
        if path is not None:  # a name that cannot be written fails before the work, not after it
            refuse_unwritable(path)
    if is_reference(first):
        _from_statistics(
            first,
            second,
            beyond={"--html": html, "--train": train, "--metrics": metrics, "--columns": columns},
            json=json,
            level=level,
            encoder=encoder,
            cache=cache,
            seed=seed,
            image_size=image_size,
            on_corrupt="skip" if skip_corrupt else "error",
            progress=False if quiet else None,
        )
        return
    result = compare_samples(
        first,
        second,
        columns=columns,
        metrics=metrics,
        permutations=permutations,
        level=level,
        seed=seed,
        max_samples=max_samples,
        stream=stream,
        scale=scale,
        image_size=image_size,
        key=key,
        on_corrupt="skip" if skip_corrupt else "error",
        train=train,
        encoder=encoder,
        cache=cache,
        progress=False if quiet else None,
        command=shlex.join(["probmetrics", *sys.argv[1:]]),
    )
    _deliver(result, html=html, json=json, quiet=quiet)


def _from_statistics(
    reference: str, fake: str, *, beyond: dict[str, object], json: str | None, **options: Any
) -> None:
    """The Fréchet distance, which is all that statistics in place of A allow."""
    from probmetrics.report import compare_with_reference

    asked = [name for name, value in beyond.items() if value is not None]
    if beyond["--metrics"] == "frechet":
        asked.remove("--metrics")
    if asked:
        raise ValueError(
            f"{reference} holds statistics and no samples, so {', '.join(asked)} cannot be "
            "had; pass the samples themselves"
        )
    cli_evaluation.deliver(compare_with_reference(reference, fake, **options), json)


app.command()(cli_evaluation.rank)
app.command()(cli_evaluation.stats)
app.command()(cli_training.train)
app.command()(cli_training.sample)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pages; made if need be.")] = Path(
        "demo"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print verdicts only.")] = False,
) -> None:
    """Real digits against other real digits, and against digits from a generator fitted to them."""
    from probmetrics.report.demo import demonstrate

    for title, page, result in demonstrate(out, progress=False if quiet else None):
        print(f"{title}\n")
        _deliver(result, html=None, json=None, quiet=quiet)
        print(f"\n  → {page}\n")


def _deliver(result: "Comparison", *, html: Path | None, json: str | None, quiet: bool) -> None:
    """Write the files that were asked for, then print the answer."""
    if html is not None:
        result.to_html(html)
    if json == "-":
        from probmetrics.report.serial import as_json

        print(as_json(result), end="")
        return
    if json is not None:
        result.to_json(json)
    if quiet:
        print(result.verdict)
        if result.copying is not None:
            print(result.copying.sentence)
        return
    from rich.console import Console

    from probmetrics.report.tables import WIDTH, as_rich, as_verdict, plain_text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    copied = [] if result.copying is None else [plain_text(result.copying.sentence)]
    console.print(as_verdict(result), *copied, "", as_rich(result), sep="\n")
    written = [str(path) for path in (html, json) if path is not None]
    if written:
        print(f"\nwritten: {', '.join(written)}")
