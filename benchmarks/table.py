"""Rows of the result files: columns, versions, reading, merging, printing."""

from __future__ import annotations

import csv
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NUMBERS = (
    "pixels",
    "nnz",
    "build_s",
    "build_mib",
    "forward_ms",
    "both_ms",
    "peak_mib",
    "ns_per_pixel",
    "ns_per_nonzero",
    "bytes_per_pixel",
    "time_ratio",
    "memory_ratio",
)
KEY = ("case", "library", "grid", "kernel", "channels", "batch", "dtype", "threads")
COLUMNS = (
    "date",
    "spheregeo",
    "torch",
    "torch_harmonics",
    "numba",
    "machine",
    "cpu",
    "threads",
    "case",
    "library",
    "grid",
    "kernel",
    "channels",
    "batch",
    "dtype",
    *NUMBERS,
)
CHANGE = 0.2  # relative change of a time or memory that is worth telling
Row = dict[str, str]


def versions() -> Row:
    """Return the versions a row depends on; empty where a package is missing."""
    import spheregeo

    found = {"spheregeo": spheregeo.__version__}
    for column, package in (("torch", "torch"), ("torch_harmonics", "torch-harmonics"), ("numba", "numba")):
        try:
            found[column] = version(package)
        except PackageNotFoundError:
            found[column] = ""
    return found


def cpu() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def machine() -> str:
    """Return a name for this kind of machine, which names the result file."""
    return f"{platform.system()}-{platform.machine()}-{os.cpu_count()}cpu".lower()


def read(file: Path) -> list[Row]:
    """Return the rows of a result file, none if it is missing."""
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def merge(file: Path, rows: list[Row]) -> list[str]:
    """Write `rows` over those of the same configuration; return a line for each time or memory that changed much."""
    kept = {tuple(row[column] for column in KEY): row for row in read(file)}
    told = []
    for row in rows:
        key = tuple(row[column] for column in KEY)
        old = kept.get(key)
        for column in ("both_ms", "peak_mib"):
            if old and old[column] and row[column] and float(old[column]):
                change = float(row[column]) / float(old[column]) - 1
                if abs(change) > CHANGE:
                    name = f"{row['case']} {row['library']} {row['grid']} {row['kernel']}"
                    told.append(
                        f"{name}: {column} {old[column]} -> {row[column]} ({change:+.0%}),"
                        f" {old['spheregeo']} -> {row['spheregeo']}"
                    )
        kept[key] = row
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept[key] for key in sorted(kept, key=lambda key: (key[0], key[3])))
    partial.replace(file)
    return told


def show(rows: list[Row]) -> str:
    """Return the rows as a table for the terminal."""
    columns = ("library", "grid", "kernel", *NUMBERS[2:])
    cells = [columns, *[tuple(row[column] for column in columns) for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < 3 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )
