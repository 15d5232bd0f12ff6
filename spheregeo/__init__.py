"""spheregeo: spherical and 3D geometric deep learning on one sampling layer and one sparse backend.

Rooms are imported when first touched, so ``import spheregeo`` stays light:
``grids -> sampling -> kernels -> sparse -> nn -> models -> tasks -> cli``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = (
    "audit",
    "compat",
    "data",
    "distributed",
    "export",
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
    "spectral",
    "tasks",
    "testing",
    "weights",
)

if TYPE_CHECKING:
    from spheregeo import (
        audit,
        compat,
        data,
        distributed,
        export,
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
        spectral,
        tasks,
        testing,
        weights,
    )
    from spheregeo.export import load

__all__ = [*_ROOMS, "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"spheregeo.{name}")
    if name == "load":
        return importlib.import_module("spheregeo.export").load
    raise AttributeError(f"module 'spheregeo' has no attribute {name!r}; its rooms are {', '.join(_ROOMS)}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _offer_operators() -> None:
    importlib.import_module("spheregeo.operators").offer()


class _AfterTorch:
    """Finder that has torch offered this library's operators once torch is imported, and then leaves."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "torch":
            return None
        sys.meta_path.remove(cls)  # type: ignore[arg-type]
        spec = importlib.util.find_spec(name)
        run = getattr(spec and spec.loader, "exec_module", None)
        if spec is None or run is None:
            return spec

        def run_and_offer(module: Any) -> None:
            vars(spec.loader).pop("exec_module")
            run(module)
            _offer_operators()

        spec.loader.exec_module = run_and_offer  # type: ignore[union-attr, method-assign]
        return spec


# Files of torch.export name operators; they are found after `import spheregeo` alone, which imports neither torch nor a room.
if "torch" in sys.modules:
    _offer_operators()
else:
    sys.meta_path.insert(0, _AfterTorch)  # type: ignore[arg-type]
