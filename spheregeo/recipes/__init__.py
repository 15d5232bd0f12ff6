"""Jobs as YAML files, a folder for each domain, addressed by name: what data, what model, how to train."""

from __future__ import annotations

from pathlib import Path

from spheregeo.checks import nearest

_FOLDER = Path(__file__).parent


def _files() -> dict[str, Path]:
    """The files of the package's recipes by name."""
    return {path.stem: path for path in sorted(_FOLDER.rglob("*.yaml"), key=lambda path: path.stem)}


def names() -> list[str]:
    """Names of the recipes in the package, sorted."""
    return list(_files())


def find(recipe: str) -> Path:
    """The YAML file of a recipe, given by name or by path.

    Raises: FileNotFoundError when it is neither a known name nor a file.
    """
    known = _files()
    if recipe in known:
        return known[recipe]
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    raise FileNotFoundError(
        f"no recipe {recipe!r}{nearest(recipe, names())}: expected one of {', '.join(names())}, or the path of a YAML file"
    )


def summary(name: str) -> str:
    """The first comment line of a recipe: what it is for."""
    first = find(name).read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ").strip()
