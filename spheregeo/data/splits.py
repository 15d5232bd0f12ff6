"""Which files belong to which split: by groups that stay together, with a warning where splits share a file."""

from __future__ import annotations

import hashlib
import re
import warnings
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from spheregeo.data.common import SPLITS

HELD_OUT = 0.1  # share of the files for validation, and for the test
SHOWN = 3
BLOCK, BLOCKS = 1 << 13, 8


def groups_of(names: Sequence[str], rule: str) -> dict[str, str]:
    """The group of each name: its folder for the rule "folder", else what a regular expression, or its first bracket, finds.

    Raises: ValueError for an expression that is none, or that finds nothing in a name.
    """
    if rule == "folder":
        return {name: str(PurePosixPath(name).parent) for name in names}
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ValueError(
            f"group is {rule!r}; expected 'folder' or a regular expression ({error}), such as '^([^_]+)_' for what stands "
            "before the first underscore"
        ) from error
    found = {name: pattern.search(name) for name in names}
    without = [name for name, match in found.items() if match is None]
    if without:
        raise ValueError(
            f"group {rule!r} finds nothing in {without[0]!r} ({len(without)} of {len(names)} names); expected one for each"
        )
    return {name: match[1] if pattern.groups else match[0] for name, match in found.items() if match}


def split_by_group(group: Mapping[str, str]) -> dict[str, str]:
    """The split of each name: whole groups, drawn by their hash, until a tenth of the names is held out for val and for test.

    Raises: ValueError for fewer than three groups.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for name in sorted(group):
        members[group[name]].append(name)
    if len(members) < len(SPLITS):
        raise ValueError(
            f"there are {len(members)} groups ({', '.join(sorted(members)[:SHOWN])}); expected at least {len(SPLITS)}, one for "
            "each split: choose finer groups, or write train.txt, val.txt and test.txt"
        )
    drawn = sorted(members, key=lambda name: (zlib.crc32(name.encode()), name))
    result: dict[str, str] = {}
    for split in ("val", "test"):
        count = 0
        while count < max(1, round(HELD_OUT * len(group))) and len(drawn) > (2 if split == "val" else 1):
            names = members[drawn.pop(0)]
            count += len(names)
            result.update(dict.fromkeys(names, split))
    return result | {name: "train" for key in drawn for name in members[key]}


def warn_of_shared(
    root: Path, files: Mapping[str, Sequence[Path]], group: Mapping[Path, str] | None = None
) -> None:
    """Warn where two splits have a file, a copy of a file, or a group in common.

    Args:
        root: folder of the files, for the message.
        files: files of each split.
        group: group of each file.
    """
    held = [(split, path) for split in files for path in dict.fromkeys(files[split])]
    _warn(root, "image", [(split, str(path), path.name) for split, path in held])
    sizes: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for split, path in held:
        if path.is_file():
            sizes[path.stat().st_size].append((split, path))
    alike = [entry for same in sizes.values() if len({s for s, _ in same}) > 1 for entry in same]
    digests = {path: _sampled_digest(path) for path in {path for _, path in alike}}
    copies = [(split, digests[path], path.name) for split, path in alike]
    of_digest: dict[str, set[str]] = defaultdict(set)
    for _, digest, name in copies:
        of_digest[digest].add(name)
    _warn(root, "picture in several files", [entry for entry in copies if len(of_digest[entry[1]]) > 1])
    if group:
        _warn(root, "group", [(split, group[path], group[path]) for split, path in held])


def _sampled_digest(path: Path) -> str:
    """Digest of eight blocks spread over a file: uncompressed pictures all have one size, and are not read whole."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with open(path, "rb") as file:
        for k in range(BLOCKS):
            file.seek(max(0, size - BLOCK) * k // (BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _warn(root: Path, what: str, entries: Sequence[tuple[str, str, str]]) -> None:
    """Warn of keys that come in several splits: (split, key, name shown)."""
    splits: dict[str, list[str]] = defaultdict(list)
    shown: dict[str, str] = {}
    for split, key, name in entries:
        splits[key].append(split)
        shown.setdefault(key, name)
    shared = [key for key, found in splits.items() if len(set(found)) > 1]
    if shared:
        names = ", ".join(
            f"{shown[key]} ({' and '.join(dict.fromkeys(splits[key]))})" for key in shared[:SHOWN]
        )
        more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
        warnings.warn(
            f"splits of {root} share the same {what}: {names}{more}; scores on them say nothing about new data",
            stacklevel=4,
        )
