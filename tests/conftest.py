"""Run-time shape checking, thread limits, and profiles for the property tests."""

import functools
import importlib
import importlib.util
import os
import signal
import sys
import threading

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
if threading.current_thread() is threading.main_thread():
    # Shells start background jobs deaf to Ctrl-C, which some tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)
collect_ignore = ["fixtures"]  # the scripts there need the peers whose numbers they record

# Every annotated function of the package is checked against its jaxtyping annotations while the
# tests run. The hook has to stand before the first import of the package.
jaxtyping.install_import_hook("probmetrics", "typecheck.check")

# The door has to be replaced before any module uses it, so it is loaded before the package runs.
_package = importlib.util.module_from_spec(importlib.util.find_spec("probmetrics"))
sys.modules["probmetrics"] = _package
_arrays = importlib.import_module("probmetrics._arrays")
del sys.modules["probmetrics"]

_door = _arrays.array_function


def _door_with_honest_errors(function):
    """A shape the annotations refuse must also be refused by the checks users will meet."""
    unchecked = getattr(function, "__wrapped__", function)

    @functools.wraps(function)
    def checked(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except jaxtyping.TypeCheckError as error:
            unchecked(*args, **kwargs)  # raises the user's error, or else the annotation lies
            raise AssertionError(
                f"{function.__name__} accepts what it does not annotate"
            ) from error

    return _door(checked)


_arrays.array_function = _door_with_honest_errors

settings.register_profile(
    "suite",
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("suite")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
