"""Models by name, from plain options: what a file or a command line can say about a model."""

from collections.abc import Callable
from typing import Any

from probmetrics import _checks as checks
from probmetrics.losses import named_loss
from probmetrics.losses.adversarial import ROWS
from probmetrics.losses.samples import LOSSES
from probmetrics.models.aae import AAE, SemiSupervisedAAE, SupervisedAAE
from probmetrics.models.autoencoders import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
)
from probmetrics.models.base import AbstractModel, Shape, as_shape
from probmetrics.models.baselines import GaussianModel, MixtureModel
from probmetrics.models.energy_gan import BEGAN, EBGAN
from probmetrics.models.flows import CouplingFlow
from probmetrics.models.gan import GAN, ConditionalGAN
from probmetrics.models.glo import GLO
from probmetrics.models.gmmn import GMMN, MMDGAN, SinkhornGenerator
from probmetrics.models.infogan import InfoGAN
from probmetrics.models.vae import IWAE, VAE
from probmetrics.models.vae_labels import SemiSupervisedVAE
from probmetrics.models.vae_levels import HierarchicalVAE
from probmetrics.models.wae import WAE

Build = Callable[..., AbstractModel]


def _game(build: Build) -> Build:
    """--loss is a row; Wasserstein critics get their gradient penalty unless told otherwise."""

    def made(shape: Shape, *, loss: str | None = None, **options: Any) -> AbstractModel:
        row = checks.choice("gan" if loss is None else loss, "loss", ROWS)
        if row == "wgan" and "clip" not in options and not options.get("spectral"):
            options.setdefault("penalty", 10.0)
        return build(shape, objective=row, **options)

    return made


def _matching(build: Build) -> Build:
    """--loss is a divergence between samples."""

    def made(shape: Shape, *, loss: str | None = None, **options: Any) -> AbstractModel:
        return build(shape, divergence=None if loss is None else named_loss(loss), **options)

    return made


def _wae(shape: Shape, *, loss: str | None = None, **options: Any) -> AbstractModel:
    """--loss is a divergence between samples, or a row for WAE-GAN."""
    if loss in ROWS:
        return WAE.adversarial(shape, objective=loss, **options)
    if loss is None or loss == "mmd":  # with the kernel made for the prior
        return WAE.build(shape, **options)
    checks.choice(loss, "loss", [*LOSSES, *ROWS])
    return WAE.build(shape, divergence=named_loss(loss), **options)


def _likely(build: Build) -> Build:
    """--loss is the decoder's law: gaussian, gaussian one, gaussian each or bernoulli."""

    def made(shape: Shape, *, loss: str | None = None, **options: Any) -> AbstractModel:
        return build(shape, likelihood="gaussian one" if loss is None else loss, **options)

    return made


def _plain(build: Build) -> Build:
    """There is no --loss to choose."""

    def made(shape: Shape, *, loss: str | None = None, **options: Any) -> AbstractModel:
        if loss is not None:
            raise ValueError(f"this model has its own loss; leave out loss={loss!r}")
        return build(shape, **options)

    return made


MODELS: dict[str, Build] = {
    "gan": _game(GAN.build),
    "cgan": _game(ConditionalGAN.build),
    "infogan": _game(InfoGAN.build),
    "ebgan": _plain(EBGAN.build),
    "began": _plain(BEGAN.build),
    "gmmn": _matching(GMMN.build),
    "sinkhorn": _plain(SinkhornGenerator.build),
    "mmdgan": _matching(MMDGAN.build),
    "vae": _likely(VAE.build),
    "iwae": _likely(IWAE.build),
    "ssvae": _likely(SemiSupervisedVAE.build),
    "hvae": _likely(HierarchicalVAE.build),
    "wae": _wae,
    "aae": _game(AAE.build),
    "saae": _game(SupervisedAAE.build),
    "ssaae": _game(SemiSupervisedAAE.build),
    "autoencoder": _plain(Autoencoder.build),
    "sparse": _plain(SparseAutoencoder.build),
    "denoising": _plain(DenoisingAutoencoder.build),
    "contractive": _plain(ContractiveAutoencoder.build),
    "glo": _plain(GLO.build),
    "flow": _plain(CouplingFlow.build),
    "gaussian": _plain(GaussianModel.build),
    "mixture": _plain(MixtureModel.build),
}
LABELLED = ("cgan", "ssvae", "saae", "ssaae")  # need classes=, and labels with the data
INDEXED = ("glo",)  # need points=, the number of training points


def create(name: str, shape: Shape, **options: Any) -> AbstractModel:
    """A model by name, remembering how it was made so that ``save`` can say.

    Args:
        name: A key of ``MODELS``: gan, gmmn, vae, wae, ….
        shape: Shape of one point.
        **options: Of that model's ``build``, plain values only; and ``loss``: the row, divergence
            or likelihood by name.

    Raises:
        ValueError: Unknown names, or options of the wrong value.
        TypeError: Options this model does not have.

    Example:
        >>> create("wae", 8, loss="energy", latent=2).latent
        2
    """
    build = MODELS[checks.choice(name, "model", MODELS)]
    sizes = as_shape(shape)
    plain = {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()}
    for key, value in plain.items():
        if not _is_plain(value):
            raise TypeError(
                f"{key} must be a number, text or a list of numbers, got "
                f"{type(value).__name__}; build the model by its class to pass objects"
            )
    try:
        model = build(sizes if len(sizes) > 1 else sizes[0], **plain)
    except TypeError as error:
        if "argument" in str(error):
            raise TypeError(f"model {name}: {str(error).split('() ')[-1]}") from error
        raise
    model.recipe = {"name": name, "shape": list(sizes), "options": plain}
    return model


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, int | float) for item in value)
    return value is None or isinstance(value, int | float | str | bool)
