"""From molecules in extended XYZ or SDF files to properties, or energies and forces: a table, and the molecules annotated."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.molecules.files import from_frames, read_frames
from spheregeo.data.molecules.periodic.databases import read_database
from spheregeo.data.molecules.tables import read_sdf
from spheregeo.files import write_bytes
from spheregeo.tasks.answers import ended
from spheregeo.tasks.molecules.stream import Stream
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files

SUFFIXES = (".xyz", ".extxyz", ".sdf", ".db")
BATCH = 64
LARGE = 2**20  # bytes; larger files go through in pieces
TRIED = 20  # frames of which one must be sound
IDS = ("id", "ID", "name", "title", "identifier", "label", "tag")  # keys of a frame that say which it is
Answer = dict[str, Any]  # numbers by name, and arrays of atoms by name, such as "forces" (n, 3)
Ask = Callable[[dict[str, Tensor], list[int]], list[Answer]]


def _read(path: Path) -> list[Any]:
    if path.suffix.lower() == ".db":
        return read_database(path)
    if path.suffix.lower() != ".sdf":
        return read_frames(path)
    from ase import Atoms

    return [Atoms(z, p, info={"name": title}) for z, p, title in zip(*read_sdf(path))]


def frames_of(path: Path) -> list[Any]:
    """Return all molecules of a file as ASE's Atoms; a frame that cannot be read is an Exception in its place.

    Args:
        path: extended XYZ or SDF file, or an ASE database.

    Raises: ValueError where no frame can be read.
    """
    try:
        return _read(path)
    except Exception as error:
        whole = error
    if path.suffix.lower() == ".db":
        raise whole
    frames: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        for k, text in enumerate(_texts(path)):
            alone = Path(folder) / f"frame{path.suffix}"
            alone.write_text(text, encoding="utf-8")
            try:
                (frame,) = _read(alone)
            except Exception as error:
                frame = ValueError(str(error).replace(str(alone), f"{path}, frame {k}"))
            frames.append(frame)
            if len(frames) == TRIED and all(isinstance(frame, Exception) for frame in frames):
                break  # no file of molecules
    if len(frames) < 2 or all(isinstance(frame, Exception) for frame in frames):
        raise whole
    return frames


def _texts(path: Path) -> list[str]:
    """Return the text of each frame of a file: SDF ends them by $$$$, XYZ begins each by its number of atoms alone on a line."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines(keepends=True)
    frames: list[list[str]] = [[]]
    if path.suffix.lower() == ".sdf":
        for line in lines:
            frames[-1].append(line)
            if line.startswith("$$$$"):
                frames.append([])
    else:
        for line in lines:
            # the line after a number of atoms is a comment, whatever it holds
            if line.strip().isdigit() and len(frames[-1]) != 1:
                frames.append([])
            frames[-1].append(line)
    return ["".join(frame) for frame in frames if any(line.strip() for line in frame)]


def answers_for(
    frames: list[Any], ask: Ask, device: torch.device, names: list[str] | None = None
) -> list[Answer]:
    """Return the answer for each frame, of all in one batch.

    Args:
        frames: molecules as ASE's Atoms.
        ask: function of a batch and the number of atoms of each of its molecules.
        device: where batches go.
        names: what the molecules are called in messages; numbers if None.

    Raises: ValueError for molecules that cannot be answered, and answers that are not finite.
    """
    molecules = from_frames(frames, names=names)
    batch = {k: v.to(device) for k, v in molecules.batch(range(len(molecules))).items()}
    found = ask(batch, molecules.counts.tolist())
    for answer in found:
        for name, value in answer.items():
            if not np.isfinite(value).all():
                raise ValueError(
                    f"the network's {name} is NaN or infinite, so there is no answer; is the molecule far from those of the "
                    "training, or are the weights broken?"
                )
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
    ask: Ask,
    source: Path,
    output: Path,
    units: dict[str, str],
    device: torch.device,
    options: PredictOptions | None = None,
) -> None:
    """Predict the molecules of a file or a folder: NAME_predicted.xyz and predictions.csv.

    A single file that is large goes through in pieces, and a prediction of it that was stopped goes on within the file.

    Args:
        ask: function of a batch and the number of atoms of each of its molecules.
        source: file or folder.
        output: folder of the answers.
        units: unit of each number, by name.
        device: where batches go.
        options: how files are predicted.

    Raises: FileNotFoundError without molecules; ValueError for bad files, after the others are done.
    """

    def answers(frames: list[Any], names: list[str]) -> list[Answer]:
        return answers_for(frames, ask, device, names)

    def write(path: Path, stem: Path, frames: dict[int, Any], found: list[Answer]) -> Written:
        text = annotate(list(frames.values()), found, units)
        written = write_bytes(ended(stem, "_predicted.xyz"), text)
        first = ", ".join(f"{name} {found[0][name]:.6g} {unit}" for name, unit in units.items())
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        rows = [
            row_of(path, k, frame, answer, units)
            for (k, frame), answer in zip(frames.items(), found, strict=True)
        ]
        return Written(f"{first}{more}; in {written}", rows)

    columns = ["sample", *(f"{name} [{unit}]" for name, unit in units.items()), "formula", "id"]
    job = Job(
        SUFFIXES, "file of molecules", "files", frames_of, answers, write,
        endings=("_predicted.xyz",), columns=columns, batch_size=BATCH,
    )  # fmt: skip
    if is_large(source):
        predict_large(job, source, output, options or PredictOptions(), units)
    else:
        predict_files(job, source, output, options)


def row_of(path: Path, k: int, frame: Any, answer: Answer, units: dict[str, str]) -> list[Any]:
    """Return the row of the table of a frame.

    Args:
        path: its file.
        k: its number there.
        frame: the molecule as ASE's Atoms.
        answer: the answer to it.
        units: unit of each number, by name.
    """
    numbers = (float(answer[name]) for name in units)
    return [f"{path.name}:{k}", *numbers, frame.get_chemical_formula(), identity(frame)]


def is_large(source: Path) -> bool:
    """Return whether a file is large, and can be read in pieces."""
    return (
        source.is_file()
        and source.suffix.lower() in (".xyz", ".extxyz", ".db")
        and source.stat().st_size > LARGE
    )


def predict_large(job: Job, path: Path, output: Path, options: PredictOptions, units: dict[str, str]) -> None:
    """Predict a large file in pieces, so that memory does not grow with it; the answers are those of a small file.

    Args:
        job: how molecules are predicted.
        path: the file.
        output: folder of the answers.
        options: how.
        units: unit of each number, by name.

    Raises: ValueError for frames without an answer, after the others are done, and as :func:`predict_files`.
    """
    if options.several_passes:
        raise ValueError("tiles and turns are for photos; expected 1 and 1")

    def made(frames: dict[int, Any], found: list[Answer]) -> tuple[bytes, list[list[Any]]]:
        rows = [
            row_of(path, k, frame, answer, units)
            for (k, frame), answer in zip(frames.items(), found, strict=True)
        ]
        return annotate(list(frames.values()), found, units), rows

    stream = Stream(job, path, output, options)
    stream.run(made)


def identity(frame: Any) -> str:
    """Return what a frame is called in its own file, by the first of the usual keys that it has; nothing without one."""
    return next((str(frame.info[key]) for key in IDS if np.ndim(frame.info.get(key, [])) == 0), "")
