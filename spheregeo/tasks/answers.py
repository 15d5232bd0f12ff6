"""The folder of a prediction's answers: names that meet nothing else, a record of what was written, tables that grow.

A folder of answers holds the hidden file ``.predictions.jsonl``: what made the answers, then a line for each input that is done.
By it a later prediction knows which files it may replace, which files are no inputs, and what need not be done again.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from spheregeo.files import write_bytes

RECORD = ".predictions.jsonl"


def stems(paths: Sequence[Path]) -> dict[Path, str]:
    """Return what each file's answers are called: its stem, or its whole name where that would be no name of its own.

    Args:
        paths: files of one folder.

    Example:
        >>> list(stems([Path("a.png"), Path("b.png"), Path("b.jpg")]).values())
        ['a', 'b.png', 'b.jpg']
    """
    names = {path: path.stem for path in paths}
    while True:
        count = Counter(name.casefold() for name in names.values())
        shared = [p for p, name in names.items() if count[name.casefold()] > 1 and name != p.name]
        if not shared:
            return names
        names |= {path: path.name for path in shared}


def ended(stem: Path, ending: str) -> Path:
    """Return the path of an answer: the file's stem, dots included, and what the kind of answer adds."""
    return stem.with_name(stem.name + ending)


def table_text(value: Any) -> str:
    """Return a cell of a table: numbers with ten digits, other things as text.

    Args:
        value: a number, a text, or None for an empty cell.

    Raises: ValueError for NaN and infinity, which no table of answers may hold.

    Example:
        >>> table_text(0.25), table_text("a, b"), table_text(None)
        ('0.25', 'a, b', '')
    """
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        raise ValueError(f"a table of answers was given {value}; expected finite numbers")
    return f"{value:.10g}"


class GrowingTable:
    """CSV table that is on the disk up to its last row at any time, and takes its own name when it is complete.

    Until then it is called ``NAME.part.csv``, and an earlier table of the name stays as it was.

    Args:
        path: the CSV file.
        columns: head of the table.
        rows: rows to begin with, as text.

    Raises: OSError from the disk.

    Example:
        >>> import tempfile
        >>> table = GrowingTable(Path(tempfile.mkdtemp()) / "t.csv", ["sample", "energy"])
        >>> table.add([["a, b", 0.5]])
        >>> table.close().read_text().splitlines()
        ['sample,energy', '"a, b",0.5']
    """

    def __init__(self, path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]] = ()) -> None:
        self.path, self.columns = path, list(columns)
        self.part = part_of(path)
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.part, "w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self.add([self.columns, *rows])

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows and hand them to the disk.

        Args:
            rows: as many cells each as the table has columns.

        Raises: ValueError for rows of another length and numbers that are not finite, before anything is written.
        """
        for row in rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells but the table has {len(self.columns)} columns")
        self._writer.writerows([[table_text(cell) for cell in row] for row in rows])
        self._file.flush()

    def close(self, complete: bool = True) -> Path:
        """Close the table and return its file; a complete table takes its own name, any other keeps that of a part."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        if complete:
            os.replace(self.part, self.path)
        return self.path if complete else self.part


def part_of(path: Path) -> Path:
    """Return what a table is called while it grows."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def read_rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Return the rows of a table that grew, complete or not; none where there is no table.

    Args:
        path: name of the complete table.
        columns: its head.

    Raises: ValueError for a table with other columns.
    """
    source = part_of(path) if part_of(path).is_file() else path
    if not source.is_file():
        return []
    with open(source, newline="", encoding="utf-8") as file:
        head, *rows = [row for row in csv.reader(file) if row] or [list(columns)]
    if head != list(columns):
        raise ValueError(
            f"{source} has columns {', '.join(head)} but this prediction has {', '.join(columns)}; leave --resume out"
        )
    return rows


def read_record(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a folder's record, without one that a kill has cut; none where there is no record."""
    path = folder / RECORD
    lines: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        lines += [found] if isinstance(found, dict) else []
    return lines


def recorded_outputs(folder: Path) -> set[str]:
    """Return the names of all files in a folder that predictions have written there."""
    return {
        str(name)
        for line in read_record(folder)
        for key in ("outputs", "earlier", "shared")
        for name in line.get(key, ())
    }


class Answers:
    """The folder of the answers to some files: names, checks that nothing of the user is replaced, the record.

    Args:
        folder: folder of the answers.
        paths: the files that are predicted.
        endings: what the name of an answer adds to a file's :func:`stems`.
        shared: names of the files that belong to all answers, such as a table.
        model: what makes the answers, for the record.
        resume: whether to keep what an interrupted prediction has done.
        overwrite: whether files that no prediction has recorded may be replaced; inputs never are.

    Raises: ValueError where an answer would replace an input or a foreign file, or where another model has made the answers
        that are to be kept; OSError from the disk.
    """

    def __init__(
        self, folder: Path, paths: Sequence[Path], endings: Sequence[str], shared: Sequence[str], *,
        model: str = "", resume: bool = False, overwrite: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self.paths, self.endings = folder, list(paths), tuple(endings)
        self.stems = stems(self.paths)
        shared = [*shared, *(str(part_of(Path(name))) for name in shared if name.endswith(".csv"))]
        known = recorded_outputs(folder)
        self._check(shared, known, overwrite)
        lines = read_record(folder) if resume else []
        start = max((k for k, line in enumerate(lines) if "model" in line), default=None)
        self.entries: list[dict[str, Any]] = []
        if start is not None:
            if lines[start]["model"] != model:
                by = lines[start]["model"] or "another model"
                raise ValueError(
                    f"the answers in {folder} were made by {by}, not by {model or 'this one'}; leave --resume out to predict "
                    "all files anew, or choose another --output"
                )
            self.entries = [line for line in lines[start + 1 :] if "input" in line]
        earlier = sorted(name for name in known if (folder / name).is_file() and name not in shared)
        head = {"model": model, "shared": shared, "earlier": earlier}
        text = "".join(json.dumps(line) + "\n" for line in [head, *self.entries])
        write_bytes(folder / RECORD, text.encode())

    def _check(self, shared: Sequence[str], known: set[str], overwrite: bool) -> None:
        inputs = {}
        for path in self.paths:
            if path.exists():
                status = path.stat()
                inputs[status.st_dev, status.st_ino] = path
        foreign = []
        for name in [*(n for p in self.paths for n in self.outputs(p)), *shared]:
            target = self.folder / name
            if not os.path.lexists(target):
                continue
            if target.exists():
                status = target.stat()
                replaced = inputs.get((status.st_dev, status.st_ino))
                if replaced is not None:
                    raise ValueError(
                        f"an answer would be written to {target}, which replaces the input {replaced}; choose another --output"
                    )
            if name not in known:
                foreign.append(target)
        if foreign and not overwrite:
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise ValueError(
                f"an answer would replace {foreign[0]}{more}, which no recorded prediction has written; choose another "
                "--output, or pass --overwrite"
            )

    def outputs(self, path: Path) -> list[str]:
        """Return the names of the files that belong to the answer to one input."""
        return [f"{self.stems[path]}{ending}" for ending in self.endings]

    def rows_before(self, rows: Sequence[Sequence[str]]) -> tuple[set[Path], list[Sequence[str]]]:
        """Return the inputs that are done already, and the rows of their table that are to be kept.

        An input is done when the record has its name, size and time and no fault, when all files of its answer are in the
        record and there, and so are its rows.

        Args:
            rows: rows of the earlier table.
        """
        by_name = {path.name: path for path in self.paths}
        done: dict[Path, tuple[int, int]] = {}
        at = 0
        for entry in self.entries:
            path, count = by_name.get(entry["input"]), int(entry.get("rows", 0))
            place, at = (at, at + count), at + count
            if path is None or entry.get("faulty") or at > len(rows) or entry["stamp"] != _stamp(path):
                continue
            wanted = self.outputs(path)
            if set(wanted) <= set(entry["outputs"]) and all((self.folder / n).is_file() for n in wanted):
                done[path] = place
        kept = [row for first, last in done.values() for row in rows[first:last]]
        self.entries = [self._entry(path, last - first) for path, (first, last) in done.items()]
        head = json.dumps(read_record(self.folder)[0])
        text = "\n".join([head, *map(json.dumps, self.entries), ""])
        write_bytes(self.folder / RECORD, text.encode())
        return set(done), kept

    def _entry(self, path: Path, rows: int) -> dict[str, Any]:
        return {"input": path.name, "stamp": _stamp(path), "outputs": self.outputs(path), "rows": rows}

    def begin(self, path: Path) -> None:
        """Record that the files of an input's answer are going to be written, so that a kill leaves no file unknown."""
        if self.endings:
            self._append({"outputs": self.outputs(path)})

    def done(self, path: Path, rows: int, faulty: bool = False) -> None:
        """Record an input as done, after its files and rows were written.

        Args:
            path: the input.
            rows: rows of the table that belong to the input.
            faulty: whether a part of the input had no answer; such an input is tried again.
        """
        self._append(self._entry(path, rows) | ({"faulty": True} if faulty else {}))

    def _append(self, line: dict[str, Any]) -> None:
        with open(self.folder / RECORD, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _stamp(path: Path) -> list[int] | None:
    """Return size and time of a file, by which a changed file is told; None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
