"""One way in for trained models: from a run, a checkpoint, an exported folder, a shipped name, a URL or the hub."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from spheregeo import weights
from spheregeo.files import atomic_path
from spheregeo.tasks import Task
from spheregeo.tasks import load as load_task
from spheregeo.tasks.exported import MODEL
from spheregeo.tasks.files import model_file

_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?$")


def load(source: str | Path, *, grid: Any = None, sha256: str | None = None) -> Task:
    """Return a trained task in evaluation mode, on the CPU. Nothing is unpickled and no code of the source runs.

    Args:
        source: a shipped model's name (``sg.weights.names()``), the folder of a run, a checkpoint, a safetensors file or the
            folder of an exported model, an https address of such a file, or ``hf://user/name`` with an optional ``@revision``.
        grid: another grid, or its repr, to which the task is moved; the stored one if None.
        sha256: what a file from the web must have; without it the file is taken as it comes.

    Raises: FileNotFoundError where there is nothing; ValueError for foreign or damaged files, another SHA-256, or an address
        that is not https; ImportError where the hub's client is missing.

    Example:
        >>> import spheregeo as sg, torch
        >>> model = sg.load("primitives")
        >>> model(torch.randn(64, 3), torch.zeros(64).long()).shape
        torch.Size([1, 10])
    """
    return load_task(locate(source, sha256), grid=grid)


def locate(source: str | Path, sha256: str | None = None) -> Path:
    """Return the file behind a source that :func:`load` takes, fetched where it is remote; arguments and errors as there."""
    text = str(source)
    if "://" in text:
        return _hub(text) if text.startswith("hf://") else _web(text, sha256)
    if sha256 is not None:
        raise ValueError(f"sha256 is given for {text}, which is no address of the web; leave it out")
    path = Path(source)
    if path.is_file():
        return path
    found = model_file(path)
    if found is not None:
        return found
    if isinstance(source, str) and text in weights.names():  # a folder of that name with a model goes before
        return weights.find(text) / MODEL
    if (path / "checkpoints").is_dir():
        raise FileNotFoundError(f"{path / 'checkpoints'} holds no checkpoint; run `spheregeo fit` first")
    what = "holds neither checkpoints nor an exported model" if path.is_dir() else "does not exist"
    raise FileNotFoundError(
        f"{path} {what}; expected a run's folder, a checkpoint, an exported model, https://…, hf://user/name, or one of "
        f"the shipped {', '.join(weights.names())}"
    )


def _web(address: str, sha256: str | None) -> Path:
    import pooch

    if not address.startswith("https://"):
        raise ValueError(
            f"{address} is no address that can be trusted to arrive unchanged; expected https:// or hf://"
        )
    name = address.split("?")[0].rpartition("/")[2] or MODEL
    place = Path(pooch.os_cache("spheregeo"))
    known = None if sha256 is None else f"sha256:{sha256.removeprefix('sha256:')}"
    mark = sha256 or hashlib.sha256(address.encode()).hexdigest()
    target = place / f"{mark[-12:]}-{name}"
    if known is not None:
        return Path(pooch.retrieve(address, known, fname=target.name, path=place))
    # What was fetched earlier may be out of date, and nothing would tell; it stays until the new file is whole.
    with atomic_path(target) as fresh:
        fresh.unlink()
        pooch.retrieve(address, None, fname=fresh.name, path=place)
    digest = pooch.file_hash(target)
    print(f"{address} has SHA-256 {digest}; pass it as sha256= to be given this file alone", flush=True)
    return target


def _hub(address: str) -> Path:
    match = _HUB.match(address)
    if match is None:
        raise ValueError(
            f"{address} is no model of the hub; expected hf://user/name or hf://user/name@revision"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(f"{address} needs the hub's client: pip install 'spheregeo[hub]'") from error
    found = snapshot_download(match[1], revision=match[2], allow_patterns=[MODEL, "config.json", "README.md"])
    return Path(found) / MODEL
