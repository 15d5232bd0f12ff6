"""QM7: 7,165 molecules of up to 23 atoms (H, C, N, O, S) with atomisation energies, and its five folds.

Reference: Rupp, Tkatchenko, Müller & von Lilienfeld 2012, doi:10.1103/PhysRevLett.108.058301.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.files import need_file
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.data.molecules.tables import read_npz, unpad
from spheregeo.data.molecules.units import factor
from spheregeo.files import reading

FOLDS = 5
# The median distance of nearest neighbours in organic molecules lies in this range, Å (C-H 1.09).
_BOND = (0.8, 1.6)


def _bond_length(numbers: list[np.ndarray], positions: list[np.ndarray]) -> float:
    """Median distance of each atom's nearest neighbour over the first molecules."""
    lengths = []
    for p in positions[:50]:
        if len(p) > 1:
            distance = np.linalg.norm(p[:, None] - p, axis=-1) + np.diag(np.full(len(p), np.inf))
            lengths.append(distance.min(1))
    nearest = np.concatenate(lengths) if lengths else np.ones(1)
    return float(np.median(nearest[np.isfinite(nearest)]))


# scipy's reader of MATLAB files can crash on a damaged one, and would take the process along: it runs in one of its own.
_LOAD = """
import sys, numpy
from scipy.io import loadmat
names = sys.argv[2:]
found = loadmat(sys.argv[1], variable_names=names)
numpy.savez(sys.stdout.buffer, **{name: found[name] for name in names if name in found})
"""
_PATIENCE = 120.0  # seconds


def load_mat(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays of a MATLAB file, read in a process of its own: a damaged file may crash the reader.

    Args:
        path: the file.
        names: names of the arrays; those that the file lacks are left out.

    Raises: FileNotFoundError; ValueError for a file that cannot be read, or that crashes the reader.
    """
    path = need_file(path, "a MATLAB file")
    with reading(path, "a MATLAB file"):
        command = [sys.executable, "-I", "-c", _LOAD, str(path.resolve()), *names]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"the reader did not end within {_PATIENCE:.0f} s") from error
        if done.returncode < 0:
            raise ValueError(f"the reader crashed (signal {-done.returncode}); is the file complete?")
        if done.returncode:
            raise ValueError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
        return dict(np.load(io.BytesIO(done.stdout), allow_pickle=False))


def read_mat(path: Path) -> tuple[Molecules, list[Tensor]]:
    """The original ``qm7.mat``: R in bohr, Z, T in kcal/mol and the folds P (5, 1433).

    Raises: FileNotFoundError; ValueError for another content, or bond lengths that are none when R is read in bohr.
    """
    with reading(path, "the file qm7.mat"):
        content = load_mat(path, ("R", "Z", "T", "P"))
        missing = [name for name in ("R", "Z", "T", "P") if name not in content]
        if missing:
            raise ValueError(
                f"it lacks {', '.join(missing)}; expected R, Z, T and P as in the original qm7.mat"
            )
        numbers, positions = unpad(content["Z"], np.asarray(content["R"], np.float64) * factor("a0", "Å"))
        bond = _bond_length(numbers, positions)
        if not _BOND[0] <= bond <= _BOND[1]:
            raise ValueError(
                f"read in bohr, atoms are {bond:.2f} Å from their nearest neighbours; expected about 1.1 Å: "
                "R is in another unit"
            )
        energy = np.asarray(content["T"], np.float64).ravel()
        folds = [torch.as_tensor(np.asarray(fold, np.int64).ravel()) for fold in content["P"]]
        together = torch.cat(folds).sort().values
        if not torch.equal(together, torch.arange(len(numbers))):
            raise ValueError(f"the folds P do not hold each of the {len(numbers)} molecules once")
        found = Molecules.of(numbers, positions, {"energy_pbe0": energy}, {"energy_pbe0": "kcal/mol"})
    return found, folds


def read_qm7(root: str | Path) -> tuple[Molecules, list[Tensor] | None]:
    """QM7 from ``qm7.mat``, with its folds, or from an .npz archive (Z, R in Å, energies whose names say their units).

    Args: ``root``, the file, or a folder with one of them.
    Raises: FileNotFoundError when there is neither.
    """
    root = Path(root)
    if root.is_dir():
        found = [*root.glob("qm7.mat"), *sorted(root.glob("*.npz"))]
        if not found:
            raise FileNotFoundError(
                f"{root} holds neither qm7.mat nor an .npz archive; see datasets/qm7/README.md"
            )
        root = found[0]
    elif not root.is_file():
        raise FileNotFoundError(f"{root} is neither a folder nor a file; see datasets/qm7/README.md")
    if root.suffix == ".mat":
        return read_mat(root)
    return read_npz(root), None
