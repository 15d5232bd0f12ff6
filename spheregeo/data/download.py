"""Gets what a licence lets a program get, with its hash, and says what to do by hand for the rest.

``registry.json`` is generated from the cards of the repository's ``datasets/`` folder. An entry's ``kind`` is
"generated" (nothing to get), "download" (files with URL and SHA-256) or "manual" (a form or an agreement stands before it).
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

__all__ = ["ManualDownloadError", "fetch", "registry", "verify"]


class ManualDownloadError(RuntimeError):
    """Error for a dataset that a person has to ask for; the message holds the steps."""


@cache
def registry() -> dict[str, dict[str, Any]]:
    """Every dataset's entry, by name."""
    text = resources.files("spheregeo.data").joinpath("registry.json").read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = json.loads(text)
    return entries


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify(name: str, root: str | Path) -> dict[str, str]:
    """Compare the files that are there with the hashes on record.

    Args:
        name: name of the dataset's card.
        root: folder of the dataset.

    Returns: "ok", "missing" or "differs" for each file whose hash is on record.
    Raises: ValueError for an unknown name.

    Example:
        >>> from spheregeo.data import verify
        >>> verify("rooms", "anywhere")  # generated: no files
        {}
    """
    state = {}
    for file, digest in entry(name).get("sha256", {}).items():
        path = Path(root) / file
        state[file] = "missing" if not path.is_file() else "ok" if sha256(path) == digest else "differs"
    return state


def entry(name: str) -> dict[str, Any]:
    """One dataset's entry. Raises: ValueError for an unknown name."""
    if name not in registry():
        raise ValueError(f"name is {name!r}; expected one of {', '.join(sorted(registry()))}")
    return registry()[name]


def fetch(name: str, root: str | Path) -> Path:
    """Make sure that a dataset lies under ``root``, and return that path; a file arrives whole or not at all.

    Args:
        name: name of the dataset's card, such as "qm9".
        root: folder of the dataset.

    Raises: ValueError for an unknown name, a hash that does not fit; ManualDownloadError with the steps, where a person has
        to agree to a licence first; OSError when the server cannot be reached.

    Example:
        >>> from spheregeo.data import fetch
        >>> fetch("rooms", "anywhere").name  # generated: nothing to get
        'anywhere'
    """
    root, card = Path(root), entry(name)
    if card["kind"] == "generated":
        return root
    if all((root / file).exists() for file in card.get("layout", [])):
        return root
    if card["kind"] == "manual":
        steps = "\n".join(f"  {k}. {step}" for k, step in enumerate(card["steps"], 1))
        absent = [file for file in card["layout"] if not (root / file).exists()]
        raise ManualDownloadError(
            f"{name} has to be fetched by hand (licence: {card['licence']}):\n{steps}\n"
            f"Not found under {root}: {', '.join(absent)}"
        )
    import pooch

    for file in card["files"]:
        # pooch downloads to a temporary file, compares the hash, and only then moves the file to its place.
        pooch.retrieve(
            file["url"], f"sha256:{file['sha256']}", fname=file["path"], path=root, progressbar=False
        )
    return root
