"""The files of a simulation: frames in extended XYZ and in ASE's format, a table, and the state they belong to.

A simulation that is killed leaves more in its files than its last state knows; going on from that state cuts them to it.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from spheregeo.files import atomic_path, reading

STATE = "state.npz"
FRAMES, BINARY, TABLE, LABELS = "trajectory.xyz", "trajectory.traj", "energies.csv", "to_label.xyz"
TEXTS = (FRAMES, TABLE, LABELS)


class Recorder:
    """Appends frames and rows to the files of a simulation, and keeps its state beside them.

    Args:
        folder: folder of the files, which exists.
        state: the state to go on from, which :func:`read_state` returns; None to begin anew, where files are replaced.
        binary: whether to write ASE's format, too.

    Raises: ValueError where a file holds less than the state knows.

    Example:
        >>> import tempfile
        >>> recorder = Recorder(Path(tempfile.mkdtemp()), None)
        >>> recorder.row({"step": 0, "total_eV": -1.5})
        >>> recorder.row({"step": 1, "total_eV": -1.25})
        >>> recorder.close()
        >>> (recorder.folder / "energies.csv").read_text().split()
        ['step,total_eV', '0,-1.5', '1,-1.25']
    """

    def __init__(self, folder: Path, state: dict[str, np.ndarray] | None, binary: bool = True) -> None:
        self.folder = folder
        sizes = json.loads(str(state["sizes"])) if state is not None else {}
        self._frames = int(sizes.get(BINARY, 0))
        for name in TEXTS:
            _cut(folder / name, int(sizes.get(name, 0)))
        self._binary: Any = None
        if binary:
            from ase.io.trajectory import Trajectory

            _cut_binary(folder / BINARY, self._frames)
            self._binary = Trajectory(folder / BINARY, "a")
        self._texts: dict[str, io.BufferedWriter] = {}

    def _append(self, name: str, text: str) -> None:
        if name not in self._texts:
            self._texts[name] = open(self.folder / name, "ab")
        self._texts[name].write(text.encode())

    def row(self, values: dict[str, float]) -> None:
        """Append a row to the table, whose first row makes its head.

        Args:
            values: numbers by column.
        """
        path = self.folder / TABLE
        if TABLE not in self._texts and not (path.exists() and path.stat().st_size):
            self._append(TABLE, ",".join(values) + "\n")
        self._append(TABLE, ",".join(f"{value:.12g}" for value in values.values()) + "\n")

    def frame(self, atoms: Atoms, name: str = FRAMES) -> None:
        """Append a frame.

        Args:
            atoms: the system, with results.
            name: the file; ASE's format goes with ``trajectory.xyz``.
        """
        from ase.io.extxyz import write_xyz

        text = io.StringIO()
        write_xyz(text, [atoms])
        self._append(name, text.getvalue())
        if name == FRAMES and self._binary is not None:
            self._binary.write(atoms)
            self._frames += 1

    def flush(self) -> None:
        """Hand all that was appended to the operating system: a killed process loses nothing of it."""
        for file in self._texts.values():
            file.flush()
        if self._binary is not None and self._frames:
            self._binary.backend.fd.flush()

    def save(self, state: dict[str, np.ndarray]) -> None:
        """Write the state, with the sizes of the files at this time; atomically.

        Args:
            state: arrays by name.
        """
        self.flush()
        for file in self._texts.values():
            os.fsync(file.fileno())
        sizes = {name: (self.folder / name).stat().st_size for name in TEXTS if (self.folder / name).exists()}
        sizes[BINARY] = self._frames
        with atomic_path(self.folder / STATE) as temporary, open(temporary, "wb") as file:
            np.savez(file, **state, sizes=np.array(json.dumps(sizes)))  # type: ignore[arg-type]

    def close(self) -> None:
        """Close the files."""
        for file in self._texts.values():
            file.close()
        if self._binary is not None:
            self._binary.close()


def read_state(folder: Path) -> dict[str, np.ndarray] | None:
    """Return the state that a simulation has saved in a folder; None where it has saved none.

    Args:
        folder: the folder.

    Raises: ValueError for a file that is no such state.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    with reading(path, "the state of a simulation"), np.load(path, allow_pickle=False) as file:
        state = {name: file[name] for name in file.files}
        json.loads(str(state["sizes"])), state["positions"], state["momenta"], state["cell"], state["step"]
    return state


def read_table(folder: Path) -> dict[str, np.ndarray]:
    """Return the columns of a simulation's table by name.

    Args:
        folder: folder of the simulation.

    Raises: FileNotFoundError; ValueError for a file that is no such table.
    """
    path = folder / TABLE
    with reading(path, "the table of a simulation"):
        head, *lines = path.read_text(encoding="utf-8").split()
        rows = np.array([[float(word) for word in line.split(",")] for line in lines])
        return dict(zip(head.split(","), rows.T, strict=True))


def _cut(path: Path, size: int) -> None:
    """Cut a file to a size; what is to be empty is removed."""
    have = path.stat().st_size if path.exists() else 0
    if have < size:
        raise ValueError(f"{path} has {have} bytes, but the state beside it was saved when it had {size}")
    if size == 0:
        path.unlink(missing_ok=True)
    elif have > size:
        with open(path, "rb+") as file:
            file.truncate(size)


def _cut_binary(path: Path, frames: int) -> None:
    """Cut a file of ASE's format to a number of frames: the format keeps a table of them, so it is written anew."""
    from ase.io.trajectory import Trajectory

    if frames == 0:
        path.unlink(missing_ok=True)
        return
    with reading(path, "a trajectory of ASE"), Trajectory(path) as source:
        have = len(source)
        if have < frames:
            raise ValueError(
                f"{path} has {have} frames, but the state beside it was saved when it had {frames}"
            )
        if have > frames:
            with atomic_path(path) as temporary, Trajectory(temporary, "w") as target:
                for k in range(frames):
                    target.write(source[k])
