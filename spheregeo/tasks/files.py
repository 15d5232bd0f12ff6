"""Files that are whole or absent: written beside their place, flushed, then moved there in one step.

A crash, a kill or a full disk while writing leaves the previous file as it was.
"""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write ``content`` to ``path`` atomically; the folder is made if need be.

    Raises: OSError when the disk is full or the place is not writable; an existing file is then untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One fixed name: what a killed process left behind is overwritten by the next write.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in NO_SPACE:
            kept = "the file written before it is intact" if path.exists() else "nothing was left behind"
            raise OSError(
                error.errno, f"no space left for {len(content)} bytes ({kept}); free some space", str(path)
            ) from error
        raise
    return path


def write_json(path: str | Path, content: Any) -> Path:
    """Write ``content`` as indented JSON, atomically."""
    return write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


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
