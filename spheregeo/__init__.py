"""spheregeo: spherical and 3D geometric deep learning on one sampling layer and one sparse backend.

Rooms are imported when first touched, so ``import spheregeo`` stays light:
``grids -> sampling -> kernels -> sparse -> nn -> models -> tasks -> cli``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = (
    "audit",
    "compat",
    "data",
    "grids",
    "groups",
    "harmonics",
    "jit",
    "kernels",
    "mesh",
    "models",
    "nn",
    "sampling",
    "sparse",
    "tasks",
    "testing",
)

if TYPE_CHECKING:
    from spheregeo import (
        audit,
        compat,
        data,
        grids,
        groups,
        harmonics,
        jit,
        kernels,
        mesh,
        models,
        nn,
        sampling,
        sparse,
        tasks,
        testing,
    )

__all__ = [*_ROOMS, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"spheregeo.{name}")
    raise AttributeError(f"module 'spheregeo' has no attribute {name!r}; its rooms are {', '.join(_ROOMS)}")


def __dir__() -> list[str]:
    return sorted(__all__)
