"""What a checkpoint records of the data it was trained on, so that other data are noticed when a run goes on."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LIMIT = 200_000  # files of a folder that are looked at; no label set or archive has more
_RUN = ".spheregeo-run.json"  # what marks the folder of a run
_NOT_DATA = (
    "self",
    "num_workers",
    "eval_batch_size",
    "cache_dir",
)  # arguments that change no training sample


def describe_data(data: Any, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return kind, settings, counts and files of a data module, as plain types.

    Args:
        data: a data module.
        settings: its arguments; attributes named as the arguments are, if None. Plain values are taken as they are; paths are
            described by number and bytes of their files and a digest of the files' names and sizes.

    Example:
        >>> from spheregeo.data import PrimitiveCloudsData
        >>> describe_data(PrimitiveCloudsData(train=8, val=2, test=2, batch_size=4))["settings"]["batch_size"]
        4
    """
    kind = type(data)
    if settings is None:
        names = {name for base in kind.__mro__ for name in inspect.signature(base).parameters}
        settings = {name: getattr(data, name, None) for name in names}
    plain: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for name, value in sorted(settings.items()):
        if name in _NOT_DATA:
            continue
        if isinstance(value, (str, Path)) and str(value) and os.path.exists(value):
            files[name] = _describe_files(Path(value))
        elif isinstance(value, (bool, int, float, str)):
            plain[name] = value
        elif isinstance(value, (tuple, list)) and all(isinstance(v, (bool, int, float, str)) for v in value):
            plain[name] = list(value)
    counts = {
        split: len(found)
        for split, found in getattr(data, "_datasets", {}).items()
        if hasattr(found, "__len__")
    }
    return {"kind": kind.__name__, "settings": plain, "counts": counts, "files": files}


def data_differences(recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return what differs between two descriptions, a phrase each; what only one of them has is not compared.

    Args:
        recorded: an earlier answer of :func:`describe_data`.
        found: a later one.
    """
    phrases = []
    if recorded.get("kind") != found["kind"]:
        phrases.append(f"kind {recorded.get('kind')} then, {found['kind']} now")
    for part, label in (("settings", "{}"), ("counts", "{} samples")):
        then, now = recorded.get(part) or {}, found[part]
        phrases += [
            f"{label.format(name)} {then[name]} then, {now[name]} now"
            for name in then
            if name in now
            and then[name] != now[name]
            and not (part == "counts" and name in found["settings"])
        ]
    then, now = recorded.get("files") or {}, found["files"]
    for name in then:
        if name in now and then[name]["digest"] != now[name]["digest"]:
            sizes = [f"{d['files']} files of {d['bytes']} bytes" for d in (then[name], now[name])]
            phrases.append(
                f"{name} {sizes[0]} then, {sizes[1]} now"
                if sizes[0] != sizes[1]
                else f"names of files in {name}"
            )
    return phrases


def _describe_files(path: Path) -> dict[str, Any]:
    """Return number, bytes and a digest of names and sizes of visible files below a path, which may be a file."""
    found = []
    if path.is_file():
        found.append((path.name, path.stat().st_size))
    for folder, folders, names in os.walk(path):
        if _RUN in names:  # a run beside its own data changes with every epoch
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if (
                not name.startswith(".")
                and len(found) < _LIMIT
                and os.path.isfile(file := os.path.join(folder, name))
            ):
                found.append((os.path.relpath(file, path), os.path.getsize(file)))
    text = "\n".join(f"{name}\t{size}" for name, size in found)
    return {
        "files": len(found), "bytes": sum(size for _, size in found), "digest": hashlib.sha256(text.encode()).hexdigest()
    }  # fmt: skip
