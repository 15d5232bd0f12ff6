"""Jobs as YAML files, addressed by name: what data, what model, how to train."""

from __future__ import annotations

from pathlib import Path

from spheregeo.checks import nearest

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the recipes in the package, sorted."""
    return sorted(p.stem for p in _FOLDER.glob("*.yaml"))


def find(recipe: str) -> Path:
    """The YAML file of a recipe, given by name or by path.

    Raises: FileNotFoundError when it is neither a known name nor a file.
    """
    named = _FOLDER / f"{recipe}.yaml"
    if recipe in names():
        return named
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
