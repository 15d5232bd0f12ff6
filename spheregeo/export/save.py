"""Writes a task as a folder: model.safetensors, config.json, README.md; each file is whole or absent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spheregeo.export.card import model_card
from spheregeo.files import write_bytes, write_json
from spheregeo.tasks import Task
from spheregeo.tasks.exported import HEADER, MODEL

CONFIG, CARD = "config.json", "README.md"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def save(
    task: Task,
    folder: str | Path,
    description: Mapping[str, Any],
    *,
    dtype: str | None = None,
    place: str | None = None,
) -> Path:
    """Write a task to a folder as safetensors, with its description and a model card, and return the folder.

    Args:
        task: trained task.
        folder: new or empty, or one that an earlier export wrote and nobody changed since.
        description: as :func:`~spheregeo.export.describe` returns it.
        dtype: "float32", "float16" or "bfloat16" for the weights; as they are if None. Constants in float64 stay.
        place: what the card's snippet gives to ``sg.load``; the folder's name if None.

    Raises: ValueError for another dtype, or a folder that holds other files of the same names.

    Example:
        >>> import tempfile
        >>> from spheregeo import export, tasks
        >>> task = tasks.PointClassification(2, network="vnn-pointnet", width=4)
        >>> folder = export.save(task, tempfile.mkdtemp(), export.describe(task))
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'config.json', 'model.safetensors']
    """
    from safetensors.torch import save as as_bytes

    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    folder = Path(folder)
    check_place(folder, (MODEL, CONFIG, CARD))
    state = {name: _at_rest(value, dtype) for name, value in task.state_dict().items()}
    header = {"format": "pt", HEADER: json.dumps(description)}
    write_bytes(folder / MODEL, as_bytes(state, metadata=header))
    return write_beside(folder, description, (MODEL,), place)


def write_beside(
    folder: Path, description: Mapping[str, Any], models: Iterable[str], place: str | None = None
) -> Path:
    """Write the card and ``config.json`` beside files that hold a model, with their SHA-256; returns the folder."""
    digests = {name: _sha256(folder / name) for name in models}
    text = model_card(description, place or folder.name, digests).encode()
    write_bytes(folder / CARD, text)
    files = {**digests, CARD: hashlib.sha256(text).hexdigest()}
    write_json(folder / CONFIG, {**description, "files": files})
    return folder


def check_place(folder: Path, names: Iterable[str]) -> None:
    """Raises: ValueError where a file would be replaced that no export wrote, or that was changed since."""
    present = [name for name in names if (folder / name).exists()]
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder for the exported model")
    if not present:
        return
    try:
        written = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        owned = written["files"] if written.get("library_name") == "spheregeo" else {}
    except (OSError, ValueError, KeyError, AttributeError):
        owned = {}
    for name in present:
        if name == CONFIG and owned:
            continue
        if not isinstance(owned, dict) or owned.get(name) != _sha256(folder / name):
            raise ValueError(
                f"{folder / name} was not written by an export, or was changed since; move it away or choose another folder"
            )


def _at_rest(value: Tensor, dtype: str | None) -> Tensor:
    value = value.detach().cpu()
    if dtype is not None and value.is_floating_point() and value.dtype != torch.float64:
        value = value.to(DTYPES[dtype])
    return value.clone().contiguous()  # no two entries share memory


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
