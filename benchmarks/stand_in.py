"""torch-fidelity where torchvision is missing, which has no build beside some builds of torch."""

import importlib.util
import sys
from unittest.mock import MagicMock


def import_fidelity():
    """Import torch-fidelity, with a stand-in for torchvision while it is imported.

    It wants torchvision for data sets and image transforms, none of which is timed here; the
    formulas of its metrics are its own. torchmetrics imports it too, so this has to come first.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        return
    names = [f"torchvision{name}" for name in ("", ".datasets", ".transforms")]
    names.append("torchvision.transforms.functional")
    missing = importlib.util.find_spec("torchvision") is None
    if missing:
        sys.modules.update({name: MagicMock() for name in names})
    try:
        importlib.import_module("torch_fidelity")
    finally:
        for name in names if missing else ():
            del sys.modules[name]
