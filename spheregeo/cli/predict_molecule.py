"""Properties, or energies and forces, of molecules in extended XYZ or SDF files: a table, and the molecules with the answers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spheregeo.data.molecules.files import from_frames, read_frames
from spheregeo.data.molecules.tables import read_sdf
from spheregeo.tasks import Forces, MoleculeRegression, MoleculeTask, write_bytes
from spheregeo.tasks.pictures.parity import write_values

SUFFIXES = (".xyz", ".extxyz", ".sdf")
BATCH = 64


def find_molecules(source: Path) -> list[Path]:
    """The file itself, or the molecule files of a folder by name. Raises: FileNotFoundError when there is none."""
    if source.is_dir():
        found = sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES)
        if not found:
            raise FileNotFoundError(
                f"{source} holds no {', '.join(SUFFIXES)} file; give a file or a folder of molecules"
            )
        return found
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; give a file or a folder of molecules")
    return [source]


def frames_of(path: Path) -> list[Any]:
    """All molecules of a file as ASE's Atoms. Raises: ValueError for a broken file."""
    if path.suffix.lower() != ".sdf":
        return read_frames(path)
    from ase import Atoms

    return [Atoms(z, p, info={"name": title}) for z, p, title in zip(*read_sdf(path))]


def predict(task: MoleculeTask, frames: list[Any]) -> list[dict[str, Any]]:
    """What the task says of each frame: numbers by name, and ``forces`` (n, 3) where it gives them."""
    molecules = from_frames(frames)
    device = next(task.network.parameters()).device
    found: list[dict[str, Any]] = []
    for first in range(0, len(molecules), BATCH):
        chosen = range(first, min(first + BATCH, len(molecules)))
        batch = {k: v.to(device) for k, v in molecules.batch(list(chosen)).items()}
        if isinstance(task, Forces):
            said = task(batch)
            sizes = molecules.counts[first : first + BATCH].tolist()
            forces = said["forces"].double().cpu().split(sizes)
            found += [
                {"energy": float(e), "forces": f.numpy()} for e, f in zip(said["energy"].tolist(), forces)
            ]
        else:
            values = task(batch).detach().double().cpu().tolist()
            assert isinstance(task, MoleculeRegression)
            found += [dict(zip(task.targets, row)) for row in values]
    return found


def annotate(frames: list[Any], answers: list[dict[str, Any]], units: dict[str, str]) -> bytes:
    """The frames as extended XYZ with the answers: ``predicted_NAME_UNIT`` a molecule, energy and forces as ASE has them."""
    from ase import Atoms
    from ase.io.extxyz import write_extxyz

    told = []
    for frame, answer in zip(frames, answers):
        plain = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        plain.info.update({k: v for k, v in frame.info.items() if np.ndim(v) == 0})
        for name, value in answer.items():
            if name == "forces":
                plain.arrays["predicted_forces"] = value
            else:
                plain.info[f"predicted_{name}"] = value
                plain.info[f"unit_{name}"] = units[name]
        told.append(plain)
    text = io.StringIO()
    write_extxyz(text, told)
    return text.getvalue().encode()


def run(task: MoleculeTask, source: str, output: Path) -> None:
    """Predict the molecules of a file or a folder; a bad file in a folder is reported and the others are done."""
    if isinstance(task, MoleculeRegression):
        units = dict(zip(task.targets, task.units))
    else:
        units = {"energy": "eV"}
    paths = find_molecules(Path(source))
    names: list[str] = []
    rows: list[list[float]] = []
    faults = []
    for path in paths:
        try:
            frames = frames_of(path)
            answers = predict(task, frames)
        except ValueError as error:
            if len(paths) == 1:
                raise
            faults.append(f"{path.name}: {error}")
            continue
        written = write_bytes(output / f"{path.stem}_predicted.xyz", annotate(frames, answers, units))
        names += [f"{path.name}:{k}" for k in range(len(frames))]
        rows += [[answer[name] for name in units] for answer in answers]
        first = ", ".join(f"{name} {answers[0][name]:.6g} {unit}" for name, unit in units.items())
        print(
            f"{path.name}: {first}{f', and {len(frames) - 1} more' if len(frames) > 1 else ''}; in {written}",
            flush=True,
        )
    if rows:
        values = torch.tensor(rows, dtype=torch.float64)
        print(write_values(output / "predictions.csv", names, list(units), list(units.values()), values))
    if faults:
        raise ValueError(f"{len(faults)} of {len(paths)} files failed: " + "; ".join(faults))
