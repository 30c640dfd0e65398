"""Arrays from .npy, .npz and .pt files, read as data only: nothing in a file is ever executed."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probmetrics.data import dataset
from probmetrics.data.arrays import OBJECT_REASON, refuse_dtype, tensor_to_numpy
from probmetrics.data.dataset import DataError, listed, shown


def load_npy(path: Path, source: str) -> Any:
    """The array of a .npy file, memory-mapped; pickled objects are refused, never loaded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header raises almost anything
        raise _unreadable(source, error, ".npy") from error


def load_npz(path: Path, source: str, key: str | None) -> Any:
    """One array of a .npz archive: the only one, or the one called ``key``."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {
                info.filename.removesuffix(".npy"): info.file_size
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
            key = chosen_key(list(sizes), source, key)
            dataset.refuse_beyond_memory(2 * sizes[key], source, "save a smaller array")
            with archive.open(f"{key}.npy") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(source, error, ".npz") from error


def load_pt(path: Path, source: str, key: str | None) -> Any:
    """The tensor of a .pt file as an array: the only one, or the one called ``key``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{source} is damaged or holds Python objects other than tensors, which could run "
            "code when loaded; save the tensor itself with torch.save(tensor, path)"
        ) from error
    except Exception as error:
        raise _unreadable(source, error, ".pt") from error
    return tensor_to_numpy(_one_tensor(loaded, source, key), source)


def chosen_key(keys: Sequence[str], source: str, key: str | None) -> str:
    """``key`` if the file has it, the only key if none was asked for."""
    if not keys:
        raise DataError(f"{source} holds no arrays; save one with np.savez(path, x=array)")
    if key is None and len(keys) == 1:
        return keys[0]
    if key is None:
        hint = ""
        if {"mu", "sigma"} <= set(keys):
            hint = "; mu and sigma are statistics of a sample, see data.read_statistics"
        raise DataError(
            f"{source} holds {len(keys)} arrays, {listed(keys)}; "
            f"choose one with key={shown(keys[0])} (--key on the command line){hint}"
        )
    if key not in keys:
        raise DataError(f"{source} has no array called {shown(key)}; it holds {listed(keys)}")
    return key


def read_statistics(source: str | Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and covariance of features, computed beforehand, from a ``.npz`` with mu and sigma.

    Args:
        source: Path of the archive, as pytorch-fid and clean-fid write it.

    Returns:
        Mean, shape (d,), and symmetric covariance, shape (d, d), both ``float64``.

    Raises:
        DataError: The file cannot be read, or the shapes or values do not fit together.

    Example:
        >>> import numpy as np, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> np.savez(folder / "reference.npz", mu=np.zeros(3), sigma=np.eye(3))
        >>> mean, covariance = read_statistics(folder / "reference.npz")
        >>> mean.shape, covariance.shape
        ((3,), (3, 3))
    """
    path, name = Path(dataset.named_path(source)), str(source)
    if not path.is_file():
        raise DataError(f"{name}: no such file; wanted a .npz with the arrays mu and sigma")
    mean, covariance = (load_npz(path, name, key) for key in ("mu", "sigma"))
    for key, array in (("mu", mean), ("sigma", covariance)):
        refuse_dtype(array.dtype, f"{name}, array {key!r}")
    if mean.ndim != 1 or not mean.size or covariance.shape != (len(mean), len(mean)):
        raise DataError(
            f"{name}: mu has shape {mean.shape} and sigma {covariance.shape}; "
            "wanted (d,) and (d, d)"
        )
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"{name}: mu or sigma holds NaN or infinity; compute the statistics again")
    scale = np.abs(covariance).max()
    if np.abs(covariance - covariance.T).max() > 1e-6 * scale or covariance.diagonal().min() < 0:
        raise DataError(f"{name}: sigma is no covariance: not symmetric, or a negative variance")
    return mean, (covariance + covariance.T) / 2


def _one_tensor(loaded: Any, source: str, key: str | None) -> Tensor:
    if isinstance(loaded, Tensor):
        return loaded
    if isinstance(loaded, list | tuple):
        loaded = dict(enumerate(loaded))
    if not isinstance(loaded, Mapping):
        raise DataError(
            f"{source} holds a {type(loaded).__name__}; wanted a tensor or a dictionary of tensors"
        )
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise DataError(f"{source} holds no tensors; save one with torch.save(tensor, path)")
    return tensors[chosen_key(list(tensors), source, key)]


def _unreadable(source: str, error: Exception, kind: str) -> DataError:
    if "Python objects" in str(error) or "Object arrays" in str(error):
        return DataError(OBJECT_REASON.format(source=source))
    reason = str(error).split("\n")[0] or type(error).__name__
    return DataError(
        f"{source} is damaged or not a {kind} file ({shown(reason, 120)}); save it again"
    )
