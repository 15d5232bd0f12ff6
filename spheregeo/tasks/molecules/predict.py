"""From molecules in extended XYZ or SDF files to properties, or energies and forces: a table, and the molecules annotated."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.molecules.files import from_frames, read_frames
from spheregeo.data.molecules.tables import read_sdf
from spheregeo.files import write_bytes
from spheregeo.tasks.pictures.parity import write_values
from spheregeo.tasks.predict import check_faults, find_files, predict_each

SUFFIXES = (".xyz", ".extxyz", ".sdf")
BATCH = 64
Answer = dict[str, Any]  # numbers by name, and arrays of atoms by name, such as "forces" (n, 3)
Ask = Callable[[dict[str, Tensor], list[int]], list[Answer]]


def frames_of(path: Path) -> list[Any]:
    """Return all molecules of a file as ASE's Atoms. Raises: ValueError for a broken file."""
    if path.suffix.lower() != ".sdf":
        return read_frames(path)
    from ase import Atoms

    return [Atoms(z, p, info={"name": title}) for z, p, title in zip(*read_sdf(path))]


def answers_for(frames: list[Any], ask: Ask, device: torch.device) -> list[Answer]:
    """Return the answer for each frame.

    Args:
        frames: molecules as ASE's Atoms.
        ask: function of a batch and the number of atoms of each of its molecules.
        device: where batches go.

    Raises: ValueError for molecules that cannot be answered.
    """
    molecules = from_frames(frames)
    found: list[Answer] = []
    for first in range(0, len(molecules), BATCH):
        chosen = list(range(first, min(first + BATCH, len(molecules))))
        batch = {k: v.to(device) for k, v in molecules.batch(chosen).items()}
        found += ask(batch, molecules.counts[chosen].tolist())
    return found


def annotate(frames: list[Any], answers: list[Answer], units: dict[str, str]) -> bytes:
    """Return frames as extended XYZ with the answers in them: ``predicted_NAME`` and ``unit_NAME``, or columns.

    Args:
        frames: molecules as ASE's Atoms.
        answers: the answer for each.
        units: unit of each number, by name.
    """
    from ase import Atoms
    from ase.io.extxyz import write_extxyz

    told = []
    for frame, answer in zip(frames, answers):
        plain = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        plain.info.update({k: v for k, v in frame.info.items() if np.ndim(v) == 0})
        for name, value in answer.items():
            if np.ndim(value):
                plain.arrays[f"predicted_{name}"] = value
            else:
                plain.info[f"predicted_{name}"] = value
                plain.info[f"unit_{name}"] = units[name]
        told.append(plain)
    text = io.StringIO()
    write_extxyz(text, told)
    return text.getvalue().encode()


def predict_molecules(
    ask: Ask, source: Path, output: Path, units: dict[str, str], device: torch.device
) -> None:
    """Predict the molecules of a file or a folder: NAME_predicted.xyz and predictions.csv.

    Args:
        ask: function of a batch and the number of atoms of each of its molecules.
        source: file or folder.
        output: folder of the answers.
        units: unit of each number, by name.
        device: where batches go.

    Raises: FileNotFoundError without molecules; ValueError for bad files, after the others are done.
    """

    def predict(path: Path) -> list[Answer]:
        frames = frames_of(path)
        answers = answers_for(frames, ask, device)
        written = write_bytes(output / f"{path.stem}_predicted.xyz", annotate(frames, answers, units))
        first = ", ".join(f"{name} {answers[0][name]:.6g} {unit}" for name, unit in units.items())
        more = f", and {len(frames) - 1} more" if len(frames) > 1 else ""
        print(f"{path.name}: {first}{more}; in {written}", flush=True)
        return answers

    paths = find_files(source, SUFFIXES, "file of molecules")
    answers, faults = predict_each(paths, predict)
    names = [f"{path.name}:{k}" for path, found in answers.items() for k in range(len(found))]
    if names:
        rows = [[answer[name] for name in units] for found in answers.values() for answer in found]
        values = torch.tensor(rows, dtype=torch.float64)
        print(write_values(output / "predictions.csv", names, list(units), list(units.values()), values))
    check_faults(faults, paths, "files")
