"""The files that a run has written, by name, so that nothing else in its folder is ever removed or replaced.

The names stand in a manifest, a hidden file of the folder. They are relative, so that a run may be moved or copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from spheregeo.cli.checkpoints import CHECKPOINTS, RECORD
from spheregeo.files import write_bytes, write_json

MANIFEST = ".spheregeo-run.json"
EARLIER = ".spheregeo-earlier"  # where a run waits until the one that replaces it has a checkpoint
# What the loggers write into a folder of their own, and what a run of a version without manifests wrote.
_LOGS = ("metrics.csv", "hparams.yaml", "events.out.tfevents.*")
_FORMER = (
    "metrics.json",
    "curves.png",
    *(f"{name}/version_*/{file}" for name in ("logs", "tensorboard") for file in _LOGS),
)
_RESULTS = ("metrics.json", "curves.png")  # what only a finished training, or a test, leaves
_OTHERS = ("predictions",)  # folders that other commands make beside a run


class RunFiles:
    """Names of the files that a run has written into its folder, kept in the folder itself.

    Args:
        folder: folder of the run, which need not exist.
        artifacts: names of pictures and tables that a run of a version without manifests may have written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> files = RunFiles(folder)
        >>> files.own("curves.png")
        >>> _ = [(folder / name).write_text("") for name in ("curves.png", "mine.txt")]
        >>> [path.name for path in RunFiles(folder).present()]
        ['curves.png']
    """

    def __init__(self, folder: Path, artifacts: Iterable[str] = ()) -> None:
        self.folder = folder
        self._names: set[str] = set()
        self._record = ""  # digest of the recipe as the run wrote it
        self._replaces = False  # whether an earlier run is set aside until this one has a checkpoint
        self.source = ""  # digest of the recipe that the run was given
        content = _json(folder / MANIFEST)
        if content is not None:
            self._names = {str(name) for name in content.get("files", ())}
            self._record, self.source = (str(content.get(key, "")) for key in ("recipe", "source"))
            self._replaces = bool(content.get("replaces"))
        elif _is_former_run(folder):
            self._names = {RECORD, *CHECKPOINTS, *_FORMER, *artifacts}

    # ---- what is there

    def known(self) -> bool:
        """Return whether the folder holds anything that a run is known to have written."""
        return bool(self._names)

    def owns(self, name: str) -> bool:
        """Return whether a file is the run's own.

        Args:
            name: the file's name, relative to the folder.
        """
        return name in self._names or self.folder / name in self.present()

    def present(self) -> list[Path]:
        """Return the run's own files that exist, sorted."""
        found: set[Path] = set()
        for name in self._names:
            if not _inside(name):
                continue  # a manifest from elsewhere names nothing outside its folder
            found.update(self.folder.glob(name) if "*" in name else [self.folder / name])
        return sorted(path for path in found if path.is_file() or path.is_symlink())

    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint of the run."""
        return any(path.suffix == ".ckpt" for path in self.present())

    def results(self) -> list[Path]:
        """Return the reports and curves of the run: more than a training leaves that was stopped as it began."""
        return [path for path in self.present() if path.name in _RESULTS]

    def foreign(self) -> list[str]:
        """Return what else lies in the folder: names of visible files and folders none of which is a run's."""
        if not self.folder.is_dir():
            return []
        mine = {path.relative_to(self.folder).parts[0] for path in self.present()}
        names = sorted(path.name for path in self.folder.iterdir())
        return [
            name for name in names if not name.startswith(".") and name not in mine and name not in _OTHERS
        ]

    # ---- writing

    def own(self, *names: str) -> None:
        """Write down files as the run's own, before they are written.

        Args:
            names: names relative to the folder; ``*`` stands for any characters of one part of a path.
        """
        if set(names) - self._names:
            self._names |= set(names)
            self._save()

    def own_log(self, folder: Path) -> None:
        """Write down a logger's folder: of the files in it, those that loggers write are the run's own."""
        with contextlib.suppress(ValueError):  # a logger may write elsewhere
            place = folder.resolve().relative_to(self.folder.resolve()).as_posix()
            self.own(*(f"{place}/{file}" for file in _LOGS))

    def own_path(self, path: Path) -> None:
        """Write down a file if it lies in the folder."""
        with contextlib.suppress(ValueError):
            self.own(path.resolve().relative_to(self.folder.resolve()).as_posix())

    def record(self, recipe: str, source: str | None) -> None:
        """Write the recipe into the folder, and remember its content, so that a later edit is seen.

        Args:
            recipe: the recipe with all that was given beside it.
            source: content of the recipe's own file; as it was if None.
        """
        write_bytes(self.folder / RECORD, recipe.encode())
        self._record = digest(recipe)
        self.source = self.source if source is None else digest(source)
        self._save()

    def check_free(self, *names: str) -> None:
        """Check that files which are to be written replace nothing but the run's own.

        Raises: ValueError with the name of the first file that is not the run's.
        """
        for name in names:
            path = self.folder / name
            if (path.exists() or path.is_symlink()) and not self.owns(name):
                raise ValueError(
                    f"{path} was not written by a run and would be replaced; move it, or choose another --output"
                )

    def keep_edited_recipe(self) -> Path | None:
        """Rename the recorded recipe where someone has edited it since; returns its new path, if so."""
        record = self.folder / RECORD
        if not self._record or not record.is_file():
            return None
        if digest(record.read_text(encoding="utf-8", errors="replace")) == self._record:
            return None
        number = 1
        while (kept := self.folder / f"recipe-edited-{number}.yaml").exists():
            number += 1
        os.replace(record, kept)
        return kept

    # ---- one run in the place of another

    def set_aside(self) -> None:
        """Move the run's own files into a hidden folder, from which :meth:`bring_back` returns them."""
        if (self.folder / EARLIER).is_symlink():
            raise ValueError(f"{self.folder / EARLIER} is a link; expected a folder of the run's own")
        write_json(self.folder / EARLIER / MANIFEST, self._content())
        _move(self.present(), self.folder, self.folder / EARLIER)
        self._names, self._record, self._replaces = set(), "", True
        self._save()

    def bring_back(self) -> bool:
        """Remove what the run has written and put the earlier run back in its place; returns whether there was one."""
        aside = self.folder / EARLIER
        if aside.is_symlink() or not (aside / MANIFEST).is_file():
            return False
        earlier = RunFiles(aside)
        if (
            self._replaces
        ):  # else a killed process was moving the earlier run's files, and all that is here is that run's
            _remove(self.present(), self.folder)
        self._names, self._record, self._replaces = set(earlier._names), earlier._record, False
        self._save()
        _move(earlier.present(), aside, self.folder)
        _drop(aside)
        return True

    def drop_earlier(self) -> None:
        """Remove the earlier run for good."""
        aside = self.folder / EARLIER
        if (aside / MANIFEST).is_file() and not aside.is_symlink():
            _remove(RunFiles(aside).present(), aside)
            _drop(aside)
        if self._replaces:
            self._replaces = False
            self._save()

    def clear(self) -> None:
        """Remove the run's own files."""
        _remove(self.present(), self.folder)
        self._names, self._record = set(), ""

    def settle(self) -> None:
        """Finish what a killed process began: an earlier run comes back if its successor has no checkpoint, else it goes."""
        # A checkpoint behind a linked folder is never moved, so it may be the earlier run's.
        if self._replaces and any(
            path.suffix == ".ckpt" and _lies_in(path, self.folder) for path in self.present()
        ):
            self.drop_earlier()
        else:
            self.bring_back()

    def _content(self) -> dict[str, Any]:
        return {
            "files": sorted(self._names),
            "recipe": self._record,
            "source": self.source,
            "replaces": self._replaces,
        }

    def _save(self) -> None:
        write_json(self.folder / MANIFEST, self._content())


def _inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _json(path: Path) -> dict[str, Any] | None:
    """Return the dictionary in a JSON file; None without the file or for anything else in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def digest(text: str) -> str:
    """Return a text's SHA-256 in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _drop(aside: Path) -> None:
    (aside / MANIFEST).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        aside.rmdir()


def _lies_in(path: Path, root: Path) -> bool:
    """Return whether a file lies below a folder with no linked folder between that leads elsewhere."""
    return path.parent.resolve().is_relative_to(root.resolve())


def _move(paths: list[Path], source: Path, target: Path) -> None:
    """Move files with their folders' names, then remove the folders that are left empty; none through a link to elsewhere."""
    places = {path: target / path.relative_to(source) for path in paths}
    paths = [path for path in paths if _lies_in(path, source) and _lies_in(places[path], target)]
    for path in paths:
        places[path].parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, places[path])
    _remove_empty(paths, source)


def _remove(paths: list[Path], root: Path) -> None:
    """Remove files and the folders that are left empty; none through a link to elsewhere."""
    paths = [path for path in paths if _lies_in(path, root)]
    for path in paths:
        path.unlink(missing_ok=True)
    _remove_empty(paths, root)


def _remove_empty(paths: list[Path], root: Path) -> None:
    folders = {parent for path in paths for parent in path.relative_to(root).parents}
    for folder in sorted(folders, key=lambda p: len(p.parts), reverse=True):
        if folder != Path():
            with contextlib.suppress(OSError):
                (root / folder).rmdir()


def _is_former_run(folder: Path) -> bool:
    """Return whether a version without manifests has written a run here: its record of the recipe beside its checkpoints."""
    record = folder / RECORD
    if not record.is_file() or not any((folder / name).is_file() for name in CHECKPOINTS):
        return False
    try:
        content = yaml.safe_load(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False
    # Whoever writes a recipe by hand leaves nearly all of the trainer's arguments out.
    wanted = {"seed_everything", "trainer", "model", "data", "ema", "patience"}
    if (
        not isinstance(content, dict)
        or not wanted <= set(content)
        or not isinstance(content["trainer"], dict)
    ):
        return False
    return {"default_root_dir", "num_sanity_val_steps", "detect_anomaly"} <= set(content["trainer"])
