"""What an encoder is: anything that turns a batch into features, with a name and a content hash."""

import abc
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probmetrics._arrays import is_array, to_tensor


class AbstractEncoder(abc.ABC):
    """Turns a batch into features (n, d), and says exactly which encoder it is.

    Attributes:
        name: What it is called in reports.
        preprocessing: What happens to a batch before the network sees it; part of the number.
    """

    name: str
    preprocessing: str = "none"

    @abc.abstractmethod
    def __call__(self, batch: Any) -> Tensor:
        """Features of a batch, shape (n, d)."""

    @property
    @abc.abstractmethod
    def content_hash(self) -> str:
        """Hash of everything that decides the features."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Name, preprocessing and hash."""
        return {
            "name": self.name,
            "preprocessing": self.preprocessing,
            "hash": self.content_hash,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, preprocessing={self.preprocessing!r})"


class Identity(AbstractEncoder):
    """The batch itself, flattened to (n, d).

    Example:
        >>> import numpy as np
        >>> Identity()(np.zeros((2, 3, 4))).shape
        torch.Size([2, 12])
    """

    name = "identity"

    def __call__(self, batch: Any) -> Tensor:
        rows = to_tensor(batch, "batch")
        return rows.reshape(len(rows), -1)

    @property
    def content_hash(self) -> str:
        return "identity"


class FunctionEncoder(AbstractEncoder):
    """Any module or function as an encoder.

    Modules run in evaluation mode and without gradient, in the mode they were in afterwards.

    Args:
        function: Takes a batch as a tensor (or whatever is passed), returns features (n, …),
            which are flattened to (n, d). Of a tuple, list or dictionary the first entry counts.
        name: None is the function's own.
        content_hash: What identifies it in caches; None hashes the parameters of a module and
            leaves functions without a hash, so that their features cannot be cached.
        preprocessing: What to record about it.

    Example:
        >>> import torch
        >>> FunctionEncoder(lambda x: x.mean(-1, keepdim=True))(torch.ones(2, 5))
        tensor([[1.], [1.]])
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        name: str | None = None,
        content_hash: str | None = None,
        preprocessing: str = "none",
    ) -> None:
        if not callable(function):
            raise TypeError(f"an encoder must be callable, got {type(function).__name__}")
        self.function = function
        self.name = name or getattr(function, "__name__", None) or type(function).__name__
        self.preprocessing = preprocessing
        self._hash = content_hash

    def __call__(self, batch: Any) -> Tensor:
        if is_array(batch):
            batch = to_tensor(batch, "batch", floating=False)
        if isinstance(self.function, nn.Module):
            return flattened(evaluated(self.function, batch), self.name)
        with torch.no_grad():
            return flattened(self.function(batch), self.name)

    @property
    def content_hash(self) -> str:
        if self._hash is not None:
            return self._hash
        if isinstance(self.function, nn.Module):
            return hash_of_module(self.function)
        raise ValueError(
            f"the function {self.name} cannot be hashed, so its features cannot be cached; "
            "pass FunctionEncoder(function, content_hash='a name of your own')"
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """Name, preprocessing, and hash where there is one."""
        known = self._hash is not None or isinstance(self.function, nn.Module)
        found = {"name": self.name, "preprocessing": self.preprocessing}
        return {**found, "hash": self.content_hash} if known else found


class SentenceEncoder(AbstractEncoder):
    """Text to features by a sentence encoder the user has, e.g. of sentence-transformers.

    Args:
        model: Has ``encode(list of str) -> array (n, d)``.
        name: What to call it.

    Example:
        >>> import numpy as np
        >>> class Lengths:
        ...     def encode(self, texts):
        ...         return np.array([[float(len(text))] for text in texts])
        >>> SentenceEncoder(Lengths(), name="lengths")(["a", "abc"])
        tensor([[1.], [3.]], dtype=torch.float64)
    """

    preprocessing = "as the model does"

    def __init__(self, model: Any, *, name: str) -> None:
        if not hasattr(model, "encode"):
            raise TypeError(
                f"a sentence encoder needs a method encode(texts), {type(model).__name__} has none"
            )
        self.model, self.name = model, name

    def __call__(self, batch: Any) -> Tensor:
        if isinstance(batch, str) or not all(isinstance(text, str) for text in batch):
            raise TypeError("a sentence encoder takes a list of texts")
        return flattened(self.model.encode(list(batch)), self.name)

    @property
    def content_hash(self) -> str:
        if isinstance(self.model, nn.Module):
            return hash_of_module(self.model)
        return self.name


def evaluated(module: nn.Module, batch: Any) -> Any:
    """What a module answers in evaluation mode without gradient; modes are left as they were."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            held = next(module.parameters(), None)
            if held is not None and isinstance(batch, Tensor):
                batch = batch.to(held.device)
                if batch.is_floating_point():
                    batch = batch.to(held.dtype)
            return module(batch)
    finally:
        for part, training in modes:
            part.training = training


def flattened(answer: Any, name: str) -> Tensor:
    """An encoder's answer as features (n, d)."""
    if isinstance(answer, dict):
        answer = next(iter(answer.values()))
    if isinstance(answer, tuple):
        answer = answer[0]
    if not is_array(answer):
        raise TypeError(f"encoder {name} must return an array, got {type(answer).__name__}")
    features = to_tensor(answer, "features")
    if features.ndim == 0:
        raise ValueError(f"encoder {name} returned one number for a batch; wanted shape (n, d)")
    return features.reshape(len(features), -1)


def hash_of_module(module: nn.Module) -> str:
    """SHA-256 of a module's structure, parameters and buffers."""
    digest = hashlib.sha256(repr(module).encode())
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(hash_of_array(value).encode())
    return digest.hexdigest()


def hash_of_array(value: Any) -> str:
    """SHA-256 of an array's shape, dtype and values."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
    array = np.ascontiguousarray(value)
    digest = hashlib.sha256(f"{array.shape}{array.dtype.str}".encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
