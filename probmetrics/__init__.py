"""How far apart are two probability distributions, and how sure are we?

Everything public is importable from here (``__init__.pyi`` lists it, and says where it lives);
costs and kernels are in ``probmetrics.pairwise.costs`` and ``probmetrics.pairwise.kernels``.
Each name is loaded when it is first used, so importing the package costs next to nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
