"""Checkpoint files: written whole or not at all, read without running code that a file may hold."""

from __future__ import annotations

import errno
import importlib.metadata
import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from spheregeo import __version__
from spheregeo.files import reading, write_bytes, write_json
from spheregeo.tasks.exported import is_exported, read_exported

__all__ = ["AtomicCheckpointIO", "check_weights", "read_checkpoint", "versions", "write_bytes", "write_json"]


def versions() -> dict[str, str]:
    """Return the versions of this package, of torch and of lightning, by name."""
    return {
        "spheregeo": __version__,
        "torch": str(torch.__version__),
        "lightning": importlib.metadata.version("lightning"),
    }


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

    Args:
        path: checkpoint, or a model that was exported: its safetensors file or its folder.
        map_location: device of the tensors.

    Raises: FileNotFoundError without the file; ValueError when it is not a checkpoint.
    """
    path = Path(path)
    if is_exported(path):
        return read_exported(path, map_location)
    if not path.is_file():
        raise FileNotFoundError(
            errno.ENOENT, "there is no checkpoint; train first with `spheregeo fit`", str(path)
        )
    with reading(path, "a checkpoint (is the file complete?)"):
        try:
            content = torch.load(path, map_location=map_location, weights_only=True)
        except Exception as error:
            # torch's own texts run to a page and advise to switch the safety off
            raise ValueError(
                f"{path} is no readable checkpoint ({_reason(error)}); is the file complete?"
            ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise ValueError(f"{path} holds no 'state_dict'; is it a checkpoint written by `spheregeo fit`?")
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__


def check_weights(
    weights: dict[str, Tensor], path: str | Path, fresh: dict[str, Tensor] | None = None
) -> None:
    """Check that weights are finite, so that nothing is answered with a network that has diverged or a damaged file.

    Args:
        weights: tensors by name.
        path: the checkpoint, for the message.
        fresh: tensors of a network as it was made: where one of them is not finite itself, nothing is asked.

    Raises: ValueError that names the first tensor with NaN or infinite values, or the first entry that is no tensor.
    """
    for name, values in weights.items():
        if not isinstance(values, Tensor):
            raise ValueError(f"{path} holds a {type(values).__name__} where weights belong: {name}")
        if not values.is_floating_point() or bool(torch.isfinite(values).all()):
            continue
        if fresh is not None and name in fresh and not bool(torch.isfinite(fresh[name]).all()):
            continue
        count = int((~torch.isfinite(values)).sum())
        raise ValueError(
            f"{path} holds weights that are not finite: {name} has {count} of {values.numel()} values NaN or infinite; "
            "use an earlier checkpoint"
        )


CHECKPOINTS = ("checkpoints/best.ckpt", "checkpoints/last.ckpt")
EXPORTED = "model.safetensors"  # in the folder of an exported model


def model_file(folder: Path) -> Path | None:
    """Return the model of a folder: a run's best checkpoint, else its last, else an exported model; None where there is none.

    Args:
        folder: folder of a run or of an exported model.
    """
    return next((folder / name for name in (*CHECKPOINTS, EXPORTED) if (folder / name).is_file()), None)
