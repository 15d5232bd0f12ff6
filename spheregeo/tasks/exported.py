"""Models in safetensors: weights, with the description of their task in the file's own header. No code can be in such a file."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from spheregeo.files import reading

MODEL = "model.safetensors"
HEADER = "spheregeo"  # entry of the header that holds the description


def is_exported(path: Path) -> bool:
    """Whether a path is a safetensors file, or a folder that holds the one of an exported model."""
    return path.suffix == ".safetensors" or (path / MODEL).is_file()


def read_description(path: Path) -> dict[str, Any]:
    """Return what an exported model says of itself: task, arguments, classes, data, scores, versions.

    Args:
        path: safetensors file, or the folder of an exported model.

    Raises: FileNotFoundError; ValueError for a foreign file.
    """
    return _read(path, None)[0]


def read_exported(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return an exported model as the dictionary that a checkpoint holds: task, hyper_parameters, state_dict.

    Args:
        path: safetensors file, or the folder of an exported model.
        map_location: device of the weights.

    Raises: FileNotFoundError; ValueError for a foreign file.
    """
    description, state = _read(path, "cpu" if map_location is None else str(map_location))
    return {"task": description["task"], "hyper_parameters": description["arguments"], "state_dict": state}


def _read(path: Path, device: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(errno.ENOENT, "there is no exported model", str(file))
    with reading(file, "a spheregeo model in safetensors"):
        from safetensors import safe_open

        with safe_open(str(file), framework="pt", device=device or "cpu") as content:
            header = (content.metadata() or {}).get(HEADER)
            if header is None:
                raise ValueError(
                    "the header has no description of a task; was it written by `spheregeo export`?"
                )
            description = json.loads(header)
            state = {} if device is None else {name: content.get_tensor(name) for name in content.keys()}
        if not isinstance(description, dict) or not isinstance(description.get("arguments"), dict):
            raise ValueError("the header's description has no arguments of a task")
    return description, state
