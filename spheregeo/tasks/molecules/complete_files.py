"""Files of molecules that lack an atom, in; the same with the atom, a table of places and confidences, and a picture, out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from spheregeo.data.molecules.files import from_frames
from spheregeo.data.molecules.molecules import symbol
from spheregeo.files import write_bytes
from spheregeo.tasks.answers import ended
from spheregeo.tasks.molecules.predict import SUFFIXES, frames_of, identity
from spheregeo.tasks.pictures.completion import Completed, completions_picture
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files

SHOWN = 8
BATCH = 16
PICTURE = "predictions.png"
LISTED = 3  # elements whose probability a table tells


def write_completions(path: Path, names: Sequence[str], rows: Tensor, removed: Tensor) -> Path:
    """Write a line for each molecule of a test: the missing and the predicted atom, distance and confidences.

    Args:
        path: the CSV file.
        names: what the molecules are called.
        rows: predicted element, distance, number of symmetries, predicted place (3), true place (3), probability, share; (n, 11).
        removed: atomic numbers of the missing atoms, (n,).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["sample", "truth", "prediction", "distance [Å]", "x [Å]", "y [Å]", "z [Å]", "true x [Å]", "true y [Å]", "true z [Å]",
         "p(prediction)", "share of place", "symmetries of the rest"]
    )  # fmt: skip
    for name, truth, row in zip(names, removed.tolist(), rows.tolist()):
        said, distance, group, *places, probability, share = row
        numbers = [f"{distance:.6f}", *(f"{v:.6f}" for v in places), f"{probability:.6f}", f"{share:.6f}"]
        writer.writerow([name, symbol(truth), symbol(int(said)), *numbers, int(group) or "infinite"])
    return write_bytes(path, text.getvalue().encode())


def completed_xyz(frames: Sequence[Any], answers: Sequence[Any]) -> bytes:
    """Return frames as extended XYZ with the missing atom as the last one, and ``predicted_p`` and ``predicted_share`` of it.

    Args:
        frames: molecules as ASE's Atoms.
        answers: place, atomic number, probability and share of the missing atom of each.
    """
    from ase import Atoms
    from ase.io.extxyz import write_extxyz

    told = []
    for frame, (place, number, probability, share, _) in zip(frames, answers):
        whole = Atoms([*frame.numbers, number], np.concatenate([frame.positions, place[None]]))
        whole.info.update({k: v for k, v in frame.info.items() if np.ndim(v) == 0})
        whole.info |= {"predicted_p": probability, "predicted_share": share}
        whole.arrays["predicted"] = np.arange(len(whole)) == len(whole) - 1
        told.append(whole)
    text = io.StringIO()
    write_extxyz(text, told)
    return text.getvalue().encode()


def complete_files(task: Any, source: Path, output: Path, options: PredictOptions | None = None) -> None:
    """Complete the molecules of a file or a folder: NAME_completed.xyz, predictions.csv and predictions.png.

    Args:
        task: the task of completion.
        source: file or folder of molecules, each of which lacks an atom.
        output: folder of the answers.
        options: how files are predicted.

    Raises: FileNotFoundError without molecules; ValueError for bad files, after the others are done.
    """
    shown: list[tuple[Completed, str]] = []
    kinds = task.kinds.tolist()

    def ask(frames: list[Any], names: list[str]) -> list[Any]:
        for frame, name in zip(frames, names, strict=True):
            if bool(np.any(frame.pbc)):
                raise ValueError(f"{name} is periodic; expected molecules in open space")
        molecules = from_frames(frames, names=names)
        batch = {k: v.to(task.device) for k, v in molecules.batch(range(len(molecules))).items()}
        found = task.answers(batch)
        said = found.probability.argmax(1).tolist()
        tables = [dict(zip(kinds, row)) for row in found.probability.tolist()]
        places, shares = found.positions.cpu().numpy(), found.share.tolist()
        if not (np.isfinite(places).all() and np.isfinite(shares).all()):
            raise ValueError("the predicted place is NaN or infinite; are the weights broken?")
        return [
            (place, kinds[k], table[kinds[k]], share, table)
            for place, k, table, share in zip(places, said, tables, shares)
        ]

    def write(path: Path, stem: Path, frames: dict[int, Any], answers: list[Any]) -> Written:
        written = write_bytes(ended(stem, "_completed.xyz"), completed_xyz(list(frames.values()), answers))
        rows = []
        for (k, frame), (place, number, probability, share, table) in zip(
            frames.items(), answers, strict=True
        ):
            best = sorted(table.items(), key=lambda item: -item[1])[:LISTED]
            listed = " ".join(f"{symbol(z)}:{p:.4f}" for z, p in best)
            rows.append(
                [f"{path.name}:{k}", symbol(number), *place.tolist(), probability, share, listed,
                 frame.get_chemical_formula(), identity(frame)]
            )  # fmt: skip
            if len(shown) < SHOWN:
                shown.append(
                    (
                        Completed(frame.numbers, frame.positions, place, number, probability),
                        f"{path.name}:{k}",
                    )
                )
        place, number, probability, *_ = answers[0]
        at = ", ".join(f"{v:.3f}" for v in place)
        more = f", and {len(answers) - 1} more" if len(answers) > 1 else ""
        return Written(f"{symbol(number)} ({probability:.0%}) at ({at}) Å{more}; in {written}", rows)

    def finish() -> list[Path]:
        made = [(task.with_density(example), name) for example, name in shown]
        return [completions_picture(output / PICTURE, [e for e, _ in made], [name for _, name in made])]

    columns = [
        "sample",
        "element",
        "x [Å]",
        "y [Å]",
        "z [Å]",
        "p(element)",
        "share of place",
        "likeliest",
        "formula",
        "id",
    ]
    job = Job(
        SUFFIXES, "file of molecules", "files", frames_of, ask, write, endings=("_completed.xyz",), columns=columns,
        batch_size=BATCH, shared=[PICTURE], finish=finish,
    )  # fmt: skip
    predict_files(job, source, output, options)
