"""Folders with a sub-folder for each class: which files there are, and which split each belongs to.

::

    root/CLASS/NAME.off             of each class's sorted names every 9th is for validation, every 10th for the test, unless
    root/train.txt, val.txt, test.txt   list paths below the root, one a line (all three or none), or
    root/CLASS/train/NAME.off, root/CLASS/test/NAME.off (and val/) say so by their folders
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from spheregeo.data.common import SPLITS
from spheregeo.data.files import read_lines

Entry = tuple[Path, int]


def files_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of a folder that end in one of the suffixes, in the order of their names."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.is_file())


def numbered_files(root: Path, suffixes: Sequence[str], pattern: str) -> dict[int, Path]:
    """The files anywhere below a folder whose stems fit a pattern, by the number in its first group.

    Raises: ValueError when two files have one number: which of them is meant cannot be known.
    """
    found: dict[int, Path] = {}
    for path in sorted(root.rglob("*")):
        match = re.search(pattern, path.stem) if path.suffix.lower() in suffixes else None
        if match and path.is_file():
            number = int(match[1])
            if number in found:
                raise ValueError(f"{path} and {found[number]} are both number {number}; keep one of them")
            found[number] = path
    return found


def listed(root: Path, split: str, names: tuple[str, ...]) -> list[str] | None:
    """Lines of the split's list, None where there are no lists. Raises: FileNotFoundError when some are missing."""
    present = [(root / f"{name}.txt").is_file() for name in names]
    if not any(present):
        return None
    if not all(present):
        missing = ", ".join(f"{name}.txt" for name, here in zip(names, present, strict=True) if not here)
        raise FileNotFoundError(f"{root} has some split lists but not {missing}; give all or none")
    return [line for line in read_lines(root / f"{split}.txt") if line]


def files_by_split(folder: Path, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """The files of a class, by split: those of its sub-folders, else by the place of their names."""
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        found = {name: files_in(folder / name, suffixes) for name in ("train", "test")}
        if (folder / "val").is_dir():
            return {**found, "val": files_in(folder / "val", suffixes)}
        held = [p for k, p in enumerate(found["train"]) if k % 10 == 8]
        return {**found, "val": held, "train": [p for p in found["train"] if p not in held]}
    at: dict[str, list[Path]] = {name: [] for name in SPLITS}
    for k, path in enumerate(files_in(folder, suffixes)):
        at[SPLITS[(k % 10 == 8) + 2 * (k % 10 == 9)]].append(path)
    return at


def warn_of_twins(paths: Sequence[Path]) -> None:
    """Warn of files that differ in their suffix alone: one thing in two formats would count twice, and in two splits."""
    first: dict[Path, Path] = {}
    twins = [
        (path, first[path.with_suffix("")])
        for path in paths
        if first.setdefault(path.with_suffix(""), path) != path
    ]
    if twins:
        more = f", and {len(twins) - 1} more pairs do" if len(twins) > 1 else ""
        warnings.warn(
            f"{twins[0][1]} and {twins[0][0].name} differ in their suffix alone{more}: each is a sample; keep one of each pair "
            "if they are the same thing",
            stacklevel=3,
        )


def class_entries(root: Path, split: str, suffixes: Sequence[str]) -> tuple[tuple[str, ...], list[Entry]]:
    """Names of the classes, which are the sub-folders' sorted names, and (file, class) of one split.

    Raises: FileNotFoundError when there are no classes, or a list names what is not there.
    """
    folders = [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    of_class = {p.name: files_by_split(p, suffixes) for p in folders}
    of_class = {name: found for name, found in of_class.items() if any(found.values())}
    if not of_class:
        raise FileNotFoundError(
            f"{root} has no sub-folder with {', '.join(suffixes)} files; expected one for each class"
        )
    names = tuple(of_class)
    lines = listed(root, split, SPLITS)
    if lines is None:
        warn_of_twins([path for found in of_class.values() for paths in found.values() for path in paths])
        return names, [(p, k) for k, found in enumerate(of_class.values()) for p in found[split]]
    entries = []
    for line in lines:
        path, name = root / line, Path(line).parts[0]
        if not path.is_file() or name not in names:
            raise FileNotFoundError(
                f"{root / f'{split}.txt'} names {line!r}; expected a path CLASS/NAME{suffixes[0]} below {root}"
            )
        entries.append((path, names.index(name)))
    return names, entries
