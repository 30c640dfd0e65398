"""The door: NumPy in gives NumPy or floats out, tensors pass through, shapes have names."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import torch
from jaxtyping import AbstractArray, Float, Int
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

# Public functions answer in the caller's kind (tensor or NumPy), which a static signature cannot
# say. Type checkers therefore see ``Any``; the tests check the shapes below at run time.
if TYPE_CHECKING:
    SamplesX = Any
    SamplesY = Any
    SamplesAt = Any
    WeightsX = Any
    WeightsY = Any
    LineX = Any
    LineY = Any
    Values = Any
    ValuesAt = Any
    Array = Any
    Labels = Any
else:
    SamplesX = Float[Tensor, "*#batch n d"]  # n points in d dimensions
    SamplesY = Float[Tensor, "*#batch m d"]
    SamplesAt = Float[Tensor, "*#batch l d"]  # points to evaluate something at
    WeightsX = Float[Tensor, "*#batch n"]  # non-negative, summing to one along the last axis
    WeightsY = Float[Tensor, "*#batch m"]
    LineX = Float[Tensor, "*#batch n"]  # n points on the real line
    LineY = Float[Tensor, "*#batch m"]
    Values = Float[Tensor, "*batch"]  # one number per batch entry
    ValuesAt = Float[Tensor, "*batch l"]  # one number per point to look at
    Array = Float[Tensor, "..."]
    Labels = Int[Tensor, "..."]


def array_function(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function written for tensors take any array and answer in kind.

    Parameters annotated with a jaxtyping array type are converted: NumPy arrays, lists and
    whatever speaks ``__array__`` (JAX, pandas, polars) become CPU tensors, and then tensors in
    the answer become floats (no dimensions) or NumPy arrays. Tensors pass through untouched, but
    for integers, which become floating point (``float64`` from NumPy, the default dtype from
    torch). Samples of shape ``(n,)`` become n points in one dimension.

    Raises:
        TypeError: Tensors and other arrays in one call; text, objects or complex numbers.
    """
    signature = inspect.signature(function)
    roles = {
        name: role
        for name, parameter in signature.parameters.items()
        if (role := _array_role(parameter.annotation)) is not None
    }

    wanted = [name for name in roles if _is_wanted(signature.parameters[name])]

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name in wanted:
            if not is_array(bound.arguments[name]):
                raise TypeError(
                    f"{name} must be an array, a tensor or a list of numbers, got "
                    f"{type(bound.arguments[name]).__name__}"
                )
        arrays = {
            name: bound.arguments[name]
            for name in roles
            if name in bound.arguments and is_array(bound.arguments[name])
        }
        as_numpy = answers_in_numpy(arrays)
        for name, value in arrays.items():
            bound.arguments[name] = _admit(name, value, roles[name])
        result = function(*bound.args, **bound.kwargs)
        return to_numpy(result) if as_numpy else result

    return wrapper


def _is_wanted(parameter: inspect.Parameter) -> bool:
    """Whether an array has to be given and nothing else will do."""
    alone = isinstance(parameter.annotation, type)  # not a union with other things
    return alone and parameter.default is inspect.Parameter.empty


def is_array(value: object) -> bool:
    """Whether the door would convert ``value``: arrays, tensors, lists and tuples of numbers."""
    if isinstance(value, np.ndarray | Tensor | list | tuple):
        return True
    return not isinstance(value, type) and (
        hasattr(value, "__array__") or hasattr(value, "__dlpack__")
    )


def answers_in_numpy(arrays: dict[str, object]) -> bool:
    """Whether the answer goes back as NumPy; refuses a mixture of kinds."""
    kinds = {name: _is_tensor_like(value) for name, value in arrays.items()}
    if len(set(kinds.values())) > 1:
        tensors = ", ".join(name for name, tensor in kinds.items() if tensor)
        others = ", ".join(
            f"{name} ({type(arrays[name]).__name__})" for name, t in kinds.items() if not t
        )
        raise TypeError(
            f"got torch tensors ({tensors}) together with other arrays ({others}); "
            "pass all of one kind, e.g. torch.as_tensor(...) on the latter"
        )
    return bool(kinds) and not next(iter(kinds.values()))


def to_tensor(value: Any, name: str = "x", *, floating: bool = True) -> Tensor:
    """Tensor with the values of any array; memory is shared where possible.

    Args:
        value: Tensor, NumPy array, list, or an object with ``__array__`` or ``__dlpack__``.
        name: What to call it in errors.
        floating: Convert integers and booleans to floating point.
    """
    if isinstance(value, Tensor):
        tensor = value
    elif _is_tensor_like(value):
        tensor = torch.utils.dlpack.from_dlpack(value)
    else:
        tensor = _from_numpy(value, name)
    if tensor.is_complex():
        raise TypeError(f"{name} is complex; pass real numbers, e.g. its real and imaginary parts")
    if floating and not tensor.is_floating_point():
        from_numpy = not isinstance(value, Tensor)
        tensor = tensor.to(torch.float64 if from_numpy else torch.get_default_dtype())
    return tensor


def to_numpy(result: Any) -> Any:
    """The same result with floats and NumPy arrays in place of tensors, also inside dataclasses."""
    if isinstance(result, Tensor):
        result = result.detach().cpu()
        if result.dtype == torch.bfloat16:
            result = result.float()
        return result.item() if result.ndim == 0 else result.numpy()
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        names = [field.name for field in dataclasses.fields(result) if field.init]
        return dataclasses.replace(
            result, **{name: to_numpy(getattr(result, name)) for name in names}
        )
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(to_numpy(part) for part in result))
    if isinstance(result, tuple | list):
        return type(result)(to_numpy(part) for part in result)
    if type(result) is dict:
        return {key: to_numpy(value) for key, value in result.items()}
    return result


def _from_numpy(value: Any, name: str) -> Tensor:
    if np.ma.is_masked(value):
        raise ValueError(f"{name} has masked values; drop or impute these before comparing")
    if type(value).__name__ == "DataFrame" and hasattr(value, "to_numpy"):
        array = value.to_numpy()
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} is not a rectangular array: {error}") from error
    if array.dtype.kind not in "fiub":
        if array.dtype.kind == "c":
            raise TypeError(
                f"{name} is complex; pass real numbers, e.g. its real and imaginary parts"
            )
        raise TypeError(
            f"{name} has dtype {array.dtype}, wanted numbers; "
            "convert text and categories to numbers first, e.g. with one-hot columns"
        )
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64 if array.dtype.itemsize < 8 else np.float64)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch cannot share read-only or reversed memory
    return torch.from_numpy(array)


def _is_tensor_like(value: object) -> bool:
    """Tensors, and device arrays (CuPy) that reach torch without passing through the host."""
    if isinstance(value, Tensor):
        return True
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack_device__"):
        return False
    cpu = 1
    return bool(value.__dlpack_device__()[0] != cpu)


def _array_role(annotation: Any) -> type[AbstractArray] | None:
    """The jaxtyping array type inside an annotation, if there is one."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        found = (_array_role(member) for member in typing.get_args(annotation))
        return next((role for role in found if role is not None), None)
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return annotation
    return None


def _admit(name: str, value: Any, role: type[AbstractArray]) -> Tensor:
    floating = any(dtype.startswith("float") for dtype in role.dtypes)
    tensor = to_tensor(value, name, floating=floating)
    if tensor.ndim == 1 and role in (SamplesX, SamplesY, SamplesAt):
        tensor = tensor.unsqueeze(-1)
    return tensor
