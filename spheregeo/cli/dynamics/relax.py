"""Relaxations as the command line asks for them, with elastic constants, phonons and vibrations of what is at rest."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spheregeo.cli.dynamics.folder import work_folder
from spheregeo.cli.dynamics.inputs import digests, model_files, open_models, read_structures
from spheregeo.files import write_bytes, write_json

TABLE = "relaxations.csv"
OURS = (TABLE, "relaxed.xyz", "paths.xyz", "elastic.json", "phonons*.png", "phonons*.csv", "vibrations.csv")


def run(options: Any) -> None:
    """Relax as the command line asks.

    Args:
        options: those of ``spheregeo relax``.

    Raises: ValueError for what is missing or bad; of several structures, after the others are done.
    """
    from spheregeo.tasks.inputs import Progress, fault, is_full_disk
    from spheregeo.tasks.molecules.dynamics.structures import Relaxation, relax

    how = Relaxation(options.optimizer, options.fmax, options.steps, options.cell, options.pressure)
    frames = read_structures(options.input, options.frames)
    files = model_files(options.model)
    folder = Path(options.output)
    asked = {**vars(how), "frames": options.frames, **digests(files, options.input)}
    with work_folder(folder, "relaxation", "relaxation.json", asked, OURS, None, options.overwrite):
        calculator = open_models(files, options.device, options.precision, options.trust)
        rows: list[dict[str, Any]] = []
        faults, progress = [], Progress(len(frames), "structures")
        for k, atoms in enumerate(frames):
            progress(k)
            atoms.calc = calculator
            calculator.reset()
            try:
                row, path = relax(atoms, how)
                for frame in path:
                    frame.info["frame"] = k
                _append(folder / "paths.xyz", path)
                _append(folder / "relaxed.xyz", path[-1:])
                rows.append({"frame": k, **row})
                _table(folder / TABLE, rows)
                _tell(rows[-1])
                _more(folder, atoms, k, len(frames), options)
            except Exception as error:
                if len(frames) == 1 or is_full_disk(error):
                    raise
                faults.append(fault(f"frame {k}", error))
                print(f"failed: {faults[-1]}", flush=True)
        print(f"written to {folder}: relaxed.xyz, paths.xyz, {TABLE}")
    if faults:
        raise ValueError(f"{len(faults)} of {len(frames)} structures failed: {'; '.join(faults)}")
    if left := [str(row["frame"]) for row in rows if not row["converged"]]:
        print(
            f"{len(left)} of {len(rows)} structures are not at rest after {how.steps} steps: {', '.join(left)}"
        )


def _append(path: Path, frames: Sequence[Any]) -> None:
    from ase.io.extxyz import write_xyz

    with open(path, "a", encoding="utf-8") as file:
        write_xyz(file, frames)


def _tell(row: dict[str, Any]) -> None:
    state = "at rest" if row["converged"] else "not at rest"
    print(
        f"frame {row['frame']}, {row['formula']}: {state} after {row['steps']} steps, {row['energy_before_eV']:.4f} to "
        f"{row['energy_eV']:.4f} eV, largest force {row['largest_force']:.2g} eV/Å",
        flush=True,
    )


def _table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.10g}" if isinstance(v, float) else v for k, v in row.items()})
    write_bytes(path, text.getvalue().encode())


def _more(folder: Path, atoms: Any, frame: int, count: int, options: Any) -> None:
    """Elastic constants, phonons and vibrations of a structure at rest, where they are wanted."""
    from spheregeo.tasks.molecules.dynamics import elastic
    from spheregeo.tasks.pictures.dynamics import phonon_picture

    end = "" if count == 1 else f"-{frame}"
    if options.elastic:
        found = elastic.elastic_constants(atoms)
        write_json(
            folder / f"elastic{end}.json",
            {
                "constants_GPa": found.constants.tolist(), "bulk_GPa": found.bulk, "shear_GPa": found.shear,
                "stable": found.stable, "pressure_GPa": found.pressure,
            },
        )  # fmt: skip
        for line in found.constants:
            print("  ".join(f"{value:8.2f}" for value in line))
        print(
            f"elastic constants [GPa]: bulk modulus {found.bulk:.1f}, shear modulus {found.shear:.1f}, "
            f"{'stable' if found.stable else 'UNSTABLE'}, at a pressure of {found.pressure:.2g}",
            flush=True,
        )
    if options.phonons:
        bands = elastic.phonons(atoms, options.phonons)
        phonon_picture(folder / f"phonons{end}.png", *bands)
        lines = [",".join(["distance", *(f"band_{k}_THz" for k in range(bands.frequencies.shape[1]))])]
        lines += [
            ",".join(f"{v:.8g}" for v in (d, *row)) for d, row in zip(bands.distance, bands.frequencies)
        ]
        write_bytes(folder / f"phonons{end}.csv", ("\n".join(lines) + "\n").encode())
        print(
            f"phonons from {bands.frequencies.min():.3f} to {bands.frequencies.max():.3f} THz (imaginary below 0)",
            flush=True,
        )
    if options.vibrations:
        waves = elastic.vibrations(atoms)
        text = "mode,frequency_per_cm\n" + "".join(f"{k},{wave:.6g}\n" for k, wave in enumerate(waves))
        write_bytes(folder / f"vibrations{end}.csv", text.encode())
        print(
            "vibrations [1/cm], imaginary below 0: " + ", ".join(f"{wave:.0f}" for wave in waves), flush=True
        )
