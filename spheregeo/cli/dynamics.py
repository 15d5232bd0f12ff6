"""Simulations and relaxations: models and input are found, a folder is held, the engine is asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spheregeo.cli.checkpoints import best_checkpoint
from spheregeo.cli.runs.lock import LOCK, locked
from spheregeo.cli.runs.stop import Stopped
from spheregeo.files import file_digest, reading, write_json


def open_models(models: Sequence[str], device: str | None, precision: str) -> Any:
    """Return the calculator of models that a user names.

    Args:
        models: runs, checkpoints, recipes, or one of ASE's potentials.
        device: where to compute; a GPU where there is one if None.
        precision: "64" or "32".

    Raises: FileNotFoundError, ValueError for what is no model of forces.
    """
    import torch

    from spheregeo.tasks.molecules.dynamics.models import open_calculator

    device = device or ("cuda" if torch.cuda.is_available() else None)
    return open_calculator(model_files(models), device, torch.float64 if precision == "64" else torch.float32)


def model_files(models: Sequence[str]) -> list[str]:
    """Return the files of models that a user names; names of ASE's potentials stay.

    Args:
        models: runs, checkpoints, recipes, or one of ASE's potentials.

    Raises: FileNotFoundError for a run without a checkpoint.
    """
    from spheregeo.tasks.molecules.dynamics.models import PLAIN

    found = []
    for name in models:
        if name in PLAIN or Path(name).is_file():
            found.append(name)
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


@contextlib.contextmanager
def work_folder(
    folder: Path, command: str, record: str, asked: Mapping[str, Any], ours: Sequence[str], resume: bool, overwrite: bool
) -> Iterator[None]:  # fmt: skip
    """Hold a folder while a command writes there, and record there what was asked.

    Args:
        folder: the folder.
        command: the command, for messages.
        record: name of the file of what was asked.
        asked: entries that must be the same to go on.
        ours: patterns of the names of the command's files; without the first, which the command writes when it has begun, a fault
            leaves nothing behind.
        resume: whether the command goes on in the folder.
        overwrite: whether it may replace the files of an earlier call.

    Raises: FileNotFoundError, ValueError for a folder with nothing to go on with, with other settings, or somebody else's files.
    """
    made = not folder.exists()
    begun = False
    try:
        with locked(folder, command):
            _admit(folder, command, record, asked, ours, resume, overwrite)
            try:
                yield
            except (Stopped, KeyboardInterrupt) as error:
                error.add_note(f"{folder} holds what is done; go on with --resume")
                raise
            finally:
                begun = any(folder.glob(ours[0]))
                if not begun:
                    for name in (record, *ours):
                        for path in folder.glob(name):
                            path.unlink()
    finally:
        if made and not begun:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _admit(
    folder: Path, command: str, record: str, asked: Mapping[str, Any], ours: Sequence[str], resume: bool, overwrite: bool
) -> None:  # fmt: skip
    known = folder / record
    if resume:
        if not known.is_file():
            raise FileNotFoundError(
                f"{known} does not exist, so there is nothing to resume; leave --resume out to start"
            )
        with reading(known, f"settings of {command}"):
            earlier = json.loads(known.read_text(encoding="utf-8"))
            differ = [name for name in asked if earlier.get(name) != asked[name]]
        if differ:
            told = ", ".join(f"{name} was {earlier.get(name)!r} and is {asked[name]!r}" for name in differ)
            raise ValueError(
                f"{folder} cannot be gone on with: {told}; give the same options, or another --output"
            )
        return
    own = {path for pattern in ours for path in folder.glob(pattern)}
    others = sorted(
        p.name for p in folder.iterdir() if p not in own and p.name not in (record, LOCK) and p.name[0] != "."
    )
    if known.is_file() and not overwrite:
        raise ValueError(
            f"{folder} already holds a {command}; pass --resume to go on with it, --overwrite to replace it, or --output DIR to "
            "leave it alone"
        )
    if (others or own) and not known.is_file() and not overwrite:
        names = ", ".join([*others, *sorted(p.name for p in own)][:3])
        raise ValueError(
            f"{folder} holds other files ({names}); choose a new folder with --output, or pass --overwrite to write beside them"
        )
    for path in own:
        path.unlink()
    write_json(known, dict(asked))


def simulate(options: Any) -> None:
    """Simulate as the command line asks. Raises: as the engine."""
    from spheregeo.tasks.molecules.dynamics.ensembles import Ensemble
    from spheregeo.tasks.molecules.dynamics.simulation import Plan
    from spheregeo.tasks.molecules.dynamics.simulation import simulate as run

    ensemble = Ensemble(
        options.ensemble, options.timestep, options.temperature, options.pressure, options.friction, options.thermostat_time,
        options.barostat_time, options.cell, options.seed,
    )  # fmt: skip
    plan = Plan(
        options.steps, options.every, options.save_every, options.max_temperature, options.stop_deviation,
        options.label_deviation,
    )  # fmt: skip
    (atoms,) = read_structures(options.input, str(options.frame))
    files = model_files(options.model)
    folder = Path(options.output)
    asked = {
        **vars(ensemble), "every": plan.every, "save_every": plan.save_every, "frame": options.frame,
        "precision": options.precision, "label_deviation": plan.label_deviation, **_digests(files, options.input),
    }  # fmt: skip
    ours = (
        "state.npz",
        "trajectory.xyz",
        "trajectory.traj",
        "energies.csv",
        "energies.png",
        "to_label.xyz",
        "summary.json",
    )
    with work_folder(folder, "simulation", "simulation.json", asked, ours, options.resume, options.overwrite):
        atoms.calc = open_models(files, options.device, options.precision)
        found = run(atoms, ensemble, plan, folder, resume=options.resume)
        write_json(folder / "summary.json", found)
        print(", ".join(f"{name} {value:.6g}" for name, value in found.items()))
        print(f"written to {folder}: trajectory.xyz, trajectory.traj, energies.csv, energies.png")


def _digests(files: Sequence[str], source: str) -> dict[str, Any]:
    """What a folder remembers of models and input: digests, as places change."""
    return {
        "models": [file_digest(f)[:16] if Path(f).is_file() else f for f in files],
        "input": file_digest(source)[:16],
    }
