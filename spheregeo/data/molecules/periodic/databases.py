"""Atoms from ASE's databases: SQLite files that ``ase.db`` writes, without pickles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spheregeo.data.files import need_file
from spheregeo.data.molecules.files import from_frames
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.files import reading

__all__ = ["read_ase_db"]

SUFFIX = ".db"
_MAGIC = b"SQLite format 3\x00"


def database_files(source: str | Path) -> list[Path]:
    """The database itself, or the .db files of a folder by name; empty where a folder has none. Raises: FileNotFoundError."""
    path = Path(source)
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix.lower() == SUFFIX and p.is_file())
    return [need_file(path, "an ASE database")]


def has_databases(source: str | Path) -> bool:
    """Whether a file is an ASE database by its name, or a folder has such files and none of extended XYZ."""
    path = Path(source)
    if not path.is_dir():
        return path.suffix.lower() == SUFFIX
    return bool(database_files(path)) and not any(
        p.suffix.lower() in (".xyz", ".extxyz") for p in path.iterdir()
    )


def read_database(path: str | Path) -> list[Any]:
    """All rows of an ASE database as ASE's Atoms, with constraints, tags, results, and key-value pairs among their ``info``.

    Raises: FileNotFoundError; ValueError for other content, or a database without rows.
    """
    frames = list(database_rows(path))
    if not frames:
        raise ValueError(f"{path} holds no row")
    return frames


def database_rows(path: str | Path, after: int = 0) -> Iterator[Any]:
    """Rows of an ASE database one after another, as :func:`read_database` has them.

    Args:
        path: the database.
        after: only rows whose id is larger.

    Raises: FileNotFoundError; ValueError for other content.
    """
    from ase.db import connect

    path = need_file(path, "an ASE database")
    with reading(path, "an ASE database"):
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError(f"{path} is no SQLite file; expected a database that ase.db has written")
        for row in connect(path, type="db", use_lock_file=False).select(f"id>{after}"):
            frame = row.toatoms()
            frame.info |= {**row.key_value_pairs, "id": row.id}
            yield frame


def read_ase_db(source: str | Path | Sequence[str | Path], **options: Any) -> Molecules:
    """Molecules of one or more ASE databases, or of those in a folder; named by their ids.

    Args:
        source: a database, a folder of them, or a list of either.
        **options: as :func:`~spheregeo.data.molecules.files.from_frames`; key-value pairs of rows are found by their keys.

    Units: those of the file, eV and eV/Å unless options tell others.
    Raises: FileNotFoundError; ValueError as :func:`read_database` and :func:`~spheregeo.data.molecules.files.from_frames`, with
        the file's name.
    """
    parts = source if isinstance(source, (list, tuple)) else [source]
    files = [path for part in parts for path in database_files(part)]  # type: ignore[arg-type]
    if not files:
        raise FileNotFoundError(
            f"{source} holds no {SUFFIX} file; expected an ASE database or a folder of them"
        )
    frames, names = [], []
    for path in dict.fromkeys(files):
        found = read_database(path)
        frames += found
        names += [f"{path.stem}:{f.info['id']}" if len(files) > 1 else str(f.info["id"]) for f in found]
    where = files[0] if len(files) == 1 else files[0].parent
    try:
        return from_frames(frames, names=names, **options)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
