"""The commands ``probmetrics train`` and ``probmetrics sample``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probmetrics.cli_options import ImageSize

if TYPE_CHECKING:
    from probmetrics.models.history import History

# Everything heavy is imported inside the commands, as in ``cli``.
DIVERGED = 3
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
MODELS = (
    "gan, cgan, infogan, ebgan, began, gmmn, sinkhorn, mmdgan, vae, iwae, ssvae, hvae, wae, aae, "
    "saae, ssaae, autoencoder, sparse, denoising, contractive, glo, flow, gaussian or mixture."
)


class StoppedError(Exception):
    """A command that stopped for a reason of its own, with its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False, help=MODELS)],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            show_default=False,
            help="data:ring, data:grid, data:moons, data:digits, data:mnist, an array file or a "
            "folder of images.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Model file to write, e.g. wae.pt.")],
    loss: Annotated[
        str | None,
        typer.Option(
            help="GANs: gan, js, kl, wgan, hinge, …; gmmn, mmdgan and wae: mmd, energy, sinkhorn, "
            "sliced, …; VAEs: gaussian, gaussian one, gaussian each, bernoulli."
        ),
    ] = None,
    latent: Annotated[int | None, typer.Option(help="Coordinates of a code.")] = None,
    hidden: Annotated[
        str | None, typer.Option(help="Widths of the hidden layers, e.g. 128,128.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Channels of convolutional networks; images only.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 2000,
    batch_size: Annotated[int, typer.Option(help="Points per batch.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 1e-3,
    ema: Annotated[
        float | None, typer.Option(help="Decay of an average of the weights, e.g. 0.999.")
    ] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of a gradient.")] = None,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option(help="Same seed, same model.")] = 0,
    image_size: ImageSize = None,
    max_samples: Annotated[int | None, typer.Option(help="Most rows to train on.")] = None,
    every: Annotated[int, typer.Option(help="Steps between pictures and checkpoints.")] = 200,
    grid: Annotated[
        Path | None,
        typer.Option(help="PNG of samples, written during training; by default beside --out."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="State of the training; by default beside --out, deleted at the end."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint.")] = False,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, ….")] = "cpu",
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A further option of the model, e.g. packed=4."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Train a generative model on a data set and write it to a file."""
    from probmetrics.models.history import TrainingDivergedError
    from probmetrics.report.training import train_model

    state = out.with_suffix(".training") if checkpoint is None else checkpoint
    try:
        history = train_model(
            model,
            data,
            out=out,
            loss=loss,
            latent=latent,
            hidden=None if hidden is None else widths(hidden),
            width=width,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            ema=ema,
            clip=clip,
            precision=precision,
            seed=seed,
            image_size=image_size,
            max_samples=max_samples,
            every=every,
            grid=grid,
            checkpoint=checkpoint,
            resume=resume,
            device=device,
            progress=False if quiet else None,
            **settings(more or []),
        )
    except TrainingDivergedError as error:
        raise StoppedError(str(error), DIVERGED) from error
    except KeyboardInterrupt as error:
        kept = f"{state} is kept: continue with --resume" if state.exists() else "nothing was kept"
        raise StoppedError(f"interrupted; {kept}", INTERRUPTED) from error
    if not quiet:
        print(summary(model, data, history, out))


def sample(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", show_default=False, help="File written by train.")
    ],
    number: Annotated[int, typer.Option("-n", "--number", help="How many to draw.")],
    out: Annotated[Path, typer.Option(help=".npy file, or .png for a picture.")],
    seed: Annotated[int | None, typer.Option(help="Same seed, same samples.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Class to draw, for models told the class.")
    ] = None,
    truncation: Annotated[
        float | None, typer.Option(help="Largest code coordinate, in standard deviations.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="Standard deviation of the codes.")] = 1.0,
    device: Annotated[str, typer.Option(help="Where to compute.")] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Draw samples from a trained model, in the unit of its data."""
    from probmetrics.report.training import sample_model

    drawn = sample_model(
        model,
        number,
        out=out,
        seed=seed,
        label=label,
        truncation=truncation,
        temperature=temperature,
        device=device,
    )
    if not quiet:
        print(f"{' × '.join(map(str, drawn.shape))} samples of {model} → {out}")


def widths(text: str) -> list[int]:
    """The whole numbers of ``128,64``; none for an empty text."""
    try:
        return [int(part) for part in text.split(",")] if text.strip() else []
    except ValueError as error:
        raise ValueError(f"--hidden takes whole numbers, as in 128,64; got {text!r}") from error


def settings(pairs: list[str]) -> dict[str, Any]:
    """Options from NAME=VALUE: whole numbers, numbers, true, false, none, text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, mark, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not mark or not name.isidentifier():
            raise ValueError(f"--set takes NAME=VALUE, as in packed=4; got {pair!r}")
        options[name] = _plain(text.strip())
    return options


def _plain(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def summary(model: str, data: str, history: "History", out: Path) -> str:
    """One line on what was trained."""
    losses = ", ".join(f"{name} {values[-1]:.4g}" for name, values in history.losses.items())
    done = f"{history.steps} steps, " if history.losses else ""
    last = f" ({losses})" if losses else ""
    return f"{model} on {data}: {done}{history.seconds:.1f} s{last} → {out}"
