"""Models and structures that a user names, found and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spheregeo.cli.checkpoints import best_checkpoint
from spheregeo.files import file_digest, reading


def open_models(models: Sequence[str], device: str | None, precision: str, trust: bool = False) -> Any:
    """Return the calculator of models that a user names.

    Args:
        models: runs, checkpoints, recipes, compiled force fields, or one of ASE's potentials.
        device: where to compute; a GPU where there is one if None.
        precision: "64" or "32".
        trust: whether compiled files may be opened, which are code.

    Raises: FileNotFoundError, ValueError for what is no model of forces.
    """
    import torch

    from spheregeo.tasks.molecules.dynamics.models import PROGRAM, open_calculator

    device = device or ("cuda" if torch.cuda.is_available() else None)
    files = model_files(models)
    compiled = [name for name in files if name.endswith(PROGRAM)]
    if compiled and not trust:
        raise ValueError(
            f"{compiled[0]} is compiled code for this machine, which runs when it is opened; "
            "if you know where it comes from, pass --trust"
        )
    return open_calculator(files, device, torch.float64 if precision == "64" else torch.float32)


def model_files(models: Sequence[str]) -> list[str]:
    """Return the files of models that a user names; names of ASE's potentials stay.

    Args:
        models: runs, checkpoints, recipes, compiled force fields, or one of ASE's potentials.

    Raises: FileNotFoundError for a run without a checkpoint.
    """
    from spheregeo.tasks.molecules.dynamics.models import PLAIN
    from spheregeo.tasks.molecules.dynamics.program import FORCES

    found = []
    for name in models:
        if name in PLAIN or Path(name).is_file():
            found.append(name)
        elif (Path(name) / FORCES).is_file():
            found.append(str(Path(name) / FORCES))
        else:
            folder = Path(name) if Path(name).is_dir() else Path("runs") / Path(name).stem
            try:
                found.append(str(best_checkpoint(folder)))
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f"{name} is no checkpoint, and {folder / 'checkpoints'} holds none; expected a trained run of fit-forces, "
                    f"fit-md or fit-slabs, a checkpoint, or one of {', '.join(PLAIN)}"
                ) from error
    return found


def read_structures(path: str, frames: str | None = None) -> list[Any]:
    """Return the structures of a file as ASE's Atoms.

    Args:
        path: extended XYZ, or another format that ASE reads.
        frames: which of them, as a number or a slice such as "0:10"; all if None.

    Raises: FileNotFoundError; ValueError for other content, or frames that are not there.
    """
    import ase.io

    from spheregeo.data.molecules.frames import read_frames

    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a file of structures")
    if source.suffix.lower() in (".xyz", ".extxyz"):
        found = read_frames(source)
    else:
        with reading(source, "structures"):
            found = list(ase.io.iread(source, ":"))
    found = [_clean(frame, f"{path}, frame {k}") for k, frame in enumerate(found)]
    if frames is None:
        return found
    try:
        parts = [int(word) if word else None for word in frames.split(":")]
        chosen = [found[parts[0]]] if len(parts) == 1 and parts[0] is not None else found[slice(*parts)]
    except (ValueError, TypeError) as error:
        raise ValueError(f"frames is {frames!r}; expected a number or a slice such as 0:10") from error
    except IndexError as error:
        raise ValueError(f"frames is {frames}, but {path} has {len(found)} structures") from error
    if not chosen:
        raise ValueError(f"frames is {frames!r}, which are none of the {len(found)} structures of {path}")
    return chosen


def _clean(frame: Any, place: str) -> Any:
    """A structure without what a file says of its energies: those of the model come in their place."""
    import numpy as np

    if not len(frame) or not np.isfinite(frame.positions).all() or not np.isfinite(frame.cell[:]).all():
        raise ValueError(f"{place} has no atoms, or positions that are not finite")
    if (frame.numbers <= 0).any():
        raise ValueError(f"{place} has atoms of no element")
    frame.calc = None
    for name in ("energy", "free_energy", "stress", "virial", "step", "time_fs"):
        frame.info.pop(name, None)
    for name in ("forces", "forces_deviation"):
        frame.arrays.pop(name, None)
    return frame


def digests(files: Sequence[str], source: str) -> dict[str, Any]:
    """Return what a folder remembers of models and input: digests, as places change.

    Args:
        files: the models.
        source: the file of structures.
    """
    return {
        "models": [file_digest(f)[:16] if Path(f).is_file() else f for f in files],
        "input": file_digest(source)[:16],
    }
