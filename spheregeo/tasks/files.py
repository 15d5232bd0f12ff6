"""Checkpoint files: written whole or not at all, read without running code that a file may hold."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from spheregeo.files import write_bytes, write_json

__all__ = ["AtomicCheckpointIO", "read_checkpoint", "write_bytes", "write_json"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written atomically and read with ``weights_only=True``."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        # torch's zip writer hides an OSError of its file behind a RuntimeError; a buffer has no disk to fill.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(path, buffer.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_checkpoint(path, map_location=map_location)


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint's dictionary; nothing but tensors and plain types is unpickled.

    Raises: FileNotFoundError without the file; ValueError when it is not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            errno.ENOENT, "there is no checkpoint; train first with `spheregeo fit`", str(path)
        )
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except OSError:
        raise
    except (
        Exception
    ) as error:  # torch raises RuntimeError, UnpicklingError, EOFError, KeyError ... for broken files
        raise ValueError(
            f"{path} is no readable checkpoint ({type(error).__name__}); is the file complete?"
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ValueError(f"{path} holds no 'state_dict'; is it a checkpoint written by `spheregeo fit`?")
    return content
