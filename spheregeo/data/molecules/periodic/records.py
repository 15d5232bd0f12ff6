"""Pickled records of the Open Catalyst sets, opened without running what is in them.

A pickle names functions that its reader calls, so that opening one may do anything. Here only the names of a short list count:
tensors, arrays, and PyTorch Geometric's data objects, whose attributes are kept and whose code is never loaded. Any other name is
an error. Opening stays a matter of trust (a record may still ask for much memory) and is asked for each time.
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


class Record:
    """Attributes of a data object of PyTorch Geometric, as they stood in a pickle."""

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})

    def values(self) -> dict[str, Any]:
        """What the object held, by name: of itself, or of its store in later versions."""
        store = self.__dict__.get("_store", self)
        held = store.__dict__.get("_mapping", store.__dict__)
        return {k: v for k, v in held.items() if not k.startswith("_") and v is not None}


def _storage(content: bytes) -> Any:
    """A tensor's numbers, read by torch's own restricted reader."""
    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")


_TORCH: dict[str, Any] = {
    "_rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "_rebuild_tensor": torch._utils._rebuild_tensor,
}
_NUMPY = {"ndarray": np.ndarray, "dtype": np.dtype}
_HOLDERS = ("torch_geometric.data.", "torch_geometric.data")


class RecordUnpickler(pickle.Unpickler):
    """An unpickler for which every name but those of tensors, arrays and data objects is an error."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in _TORCH:
            return _TORCH[name]
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _storage
        if module == "torch" and (name == "Size" or name.endswith("Storage")) and name.isalnum():
            return getattr(torch, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in (
            "_reconstruct",
            "scalar",
        ):
            return _numpy(name)
        if module == "numpy" and name in _NUMPY:
            return _NUMPY[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module.startswith(_HOLDERS) and name.isidentifier():
            return Record
        raise pickle.UnpicklingError(
            f"the record names {module}.{name}, which is no tensor, array or data object; it is not opened"
        )


def _numpy(name: str) -> Callable[..., Any]:
    """The function of that name by which numpy rebuilds its arrays; numpy 2 keeps it elsewhere than numpy 1."""
    home = "numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray"
    found: Callable[..., Any] = getattr(importlib.import_module(home), name)
    return found


def open_record(content: bytes) -> Any:
    """A number, or the values of a data object by name. Raises: pickle.UnpicklingError for anything else that a pickle may name.

    Args:
        content: the pickle.
    """
    found = RecordUnpickler(io.BytesIO(content)).load()
    return found.values() if isinstance(found, Record) else found
