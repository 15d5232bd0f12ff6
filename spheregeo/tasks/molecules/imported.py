"""Force fields of other libraries as tasks: a checkpoint, and so a calculator, and a start for training."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.files import reading, write_bytes
from spheregeo.models.molecules.mace_import import from_mace, mace_options
from spheregeo.tasks.files import versions
from spheregeo.tasks.molecules.forces import Forces

__all__ = ["import_mace", "mace_task"]


def mace_task(model: nn.Module, head: str | int = 0) -> Forces:
    """Return the task of energies and forces whose network is a model of mace-torch, in float64.

    Energies of free atoms are those of the model, whatever it gives for an atom alone.

    Args:
        model: the model, see :func:`~spheregeo.models.molecules.mace_import.from_mace`.
        head: name or number of one of several heads.

    Raises: ValueError for a model with parts that are not known.
    """
    network = from_mace(model, head).double()
    options: dict[str, Any] = mace_options(model)
    width, depth = options.pop("width"), options.pop("depth")
    task = Forces("mace", width=width, depth=depth, options=options, references="none").double()
    task.network.load_state_dict(network.state_dict())
    known = (network.rows >= 0).nonzero()[:, 0]
    with torch.no_grad():
        places = torch.zeros(len(known), 3, dtype=torch.float64)
        each = torch.arange(len(known))
        alone = network(places, known, each, network.neighbors(places, each), len(known))[:, 0]
    task.atom_energy[known] = network.atomic_energies[known, 0].double() + alone.double()
    task.elements[known] = True
    return task.eval()


def import_mace(file: str | Path, output: str | Path, head: str | None = None, *, trust: bool = False) -> str:
    """Write a checkpoint of a model of mace-torch, and return what was done, in a line. Weights of a checkpoint are float32.

    Args:
        file: the model, as ``torch.save`` wrote it.
        output: the checkpoint.
        head: name of one of several heads; the first if None.
        trust: whether the file may be unpickled, which can run any code; it is then opened beside an installed mace-torch.

    Raises: FileNotFoundError without the file; ValueError for a file that is not trusted, that holds no known model, or where
        mace-torch is missing.
    """
    path = Path(file)
    if path.is_file() and not trust:
        raise ValueError(
            f"{path} is a pickled model, and to open a pickle is to run whatever it says; if you know where the file is from, "
            "pass --trust"
        )
    task = mace_task(_unpickled(path), 0 if head is None else head).float()
    weights: dict[str, Tensor] = task.state_dict()
    content = {
        "state_dict": weights,
        "hyper_parameters": dict(task.hparams),
        "task": type(task).__name__,
        "versions": versions(),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(Path(output), buffer.getvalue())
    count = sum(p.numel() for p in task.network.parameters())
    return f"{output}: mace, {count} weights, elements {', '.join(map(str, task.elements.nonzero()[:, 0].tolist()))}"


def _unpickled(path: Path) -> nn.Module:
    with reading(path, "a model of mace-torch"):
        content = path.read_bytes()
    try:
        model = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path} holds classes of {error.name}, which is not installed; install what it was saved with "
            "(`pip install mace-torch`) and import again: the checkpoint will not need it"
        ) from error
    except Exception as error:
        raise ValueError(f"{path} is no model that torch can open ({type(error).__name__})") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{path} holds a {type(model).__name__}; expected a model of mace-torch")
    return model
