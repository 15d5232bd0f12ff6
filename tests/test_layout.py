"""The house stays in order: imports go downward only, tests mirror the package, no machine's paths in the text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "spheregeo"

# The table of docs/design.md: what a room may import directly; what those may import comes with it.
MAY_IMPORT: dict[str, set[str]] = {
    "sparse": set(),
    "groups": set(),
    "harmonics": {"groups"},
    "grids": {"harmonics"},
    "mesh": {"grids", "sparse"},
    "sampling": {"grids", "mesh", "sparse"},
    "kernels": {"harmonics", "groups"},
    "nn": {"sparse", "groups", "harmonics", "grids", "mesh", "sampling", "kernels"},
    "models": {"nn"},
    "data": {"grids", "sampling"},
    "tasks": {"models", "data"},
    "audit": {"nn"},
    "recipes": set(),
}
ABOVE_ALL = {"__init__", "__main__", "cli"}
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted({file.relative_to(PACKAGE).parts[0] for file in FILES if file.parent != PACKAGE})


@cache
def allowed(room: str) -> frozenset[str]:
    """Return every room that ``room`` may import, itself included."""
    return frozenset({room}).union(*(allowed(below) for below in MAY_IMPORT[room]))


def imported_rooms(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, room) for every import of ours in ``source``, at any depth; the whole package is ``"*"``."""
    here = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            path = [*base, *(node.module or "").split(".")] if node.module else base
            if path == ["spheregeo"]:
                targets = [f"spheregeo.{alias.name}" for alias in node.names]
            else:
                targets = [".".join(path)]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                targets = [node.args[0].value]
        for target in targets:
            parts = target.split(".")
            if parts[0] != "spheregeo" or parts[1:] == ["__version__"]:
                continue
            yield node.lineno, parts[1] if len(parts) > 1 else "*"


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return a line for each import that does not point downward."""
    room = module.split(".")[1]
    return [
        f"{module}:{line} imports {target}"
        for line, target in imported_rooms(source, module, is_package)
        if target not in allowed(room)
    ]


def test_every_room_is_in_the_table() -> None:
    unknown = set(ROOMS) - set(MAY_IMPORT) - ABOVE_ALL
    assert not unknown, f"add {unknown} to the table here and in docs/design.md"
    loose = {file.stem for file in PACKAGE.glob("*.py")} - ABOVE_ALL
    assert not loose, f"{loose} lie in no room"


def test_the_design_page_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| `(\w+)/` \|.*\|\s*([^|]*?)\s*\|$", (ROOT / "docs" / "design.md").read_text(), re.M
    )
    named = {room: set(re.findall(r"\w+", may)) & set(MAY_IMPORT) for room, may in rows}
    named["nn"] = MAY_IMPORT["nn"]  # "all above"
    assert named == MAY_IMPORT


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_downward(file: Path) -> None:
    parts = file.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    if parts[1] in ABOVE_ALL:
        return
    found = violations(file.read_text(), module, is_package)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "from spheregeo.nn import DiscoConv",
        "from spheregeo import nn",
        "import spheregeo.tasks.segmentation",
        "import spheregeo as sg",
        "from ..nn import DiscoConv",
        "from .. import nn",
        "def late():\n    from spheregeo.data import rooms",
        "import importlib\nimportlib.import_module('spheregeo.audit')",
    ],
)
def test_the_check_sees_an_upward_import(source: str) -> None:
    assert violations(source, "spheregeo.grids.healpix")


def test_the_check_lets_downward_imports_pass() -> None:
    source = "from spheregeo.harmonics import fejer1\nfrom ..groups import cyclic\nfrom .grid import Grid\nimport torch"
    assert not violations(source, "spheregeo.grids.healpix")


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "recipes"])
def test_tests_mirror_the_package(room: str) -> None:
    tests = list((ROOT / "tests" / room).glob("**/test_*.py")) + list(
        (ROOT / "tests").glob(f"test_{room}*.py")
    )
    assert tests, f"spheregeo/{room} has code but tests/{room}/ has no test"


@pytest.mark.parametrize("name", ["datasets", "meshes"])
def test_fact_folders_are_no_packages(name: str) -> None:
    assert (ROOT / name / "README.md").is_file()
    assert not list((ROOT / name).rglob("__init__.py"))


def test_every_fact_folder_has_a_card() -> None:
    folders = [
        folder for name in ("datasets", "meshes") for folder in (ROOT / name).iterdir() if folder.is_dir()
    ]
    bare = [
        folder.name
        for folder in folders
        if folder.name != "__pycache__" and not (folder / "README.md").is_file()
    ]
    assert not bare, f"without a README.md: {bare}"


def test_no_paths_of_a_machine() -> None:
    pattern = re.compile(r"(?<![\w.~-])/(?:work|tmp|root|home|Users)/\w")
    suffixes = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".csv", ".json"}
    # CI tools' own folders are not ours
    mine = [
        ROOT / name for name in ("spheregeo", "tests", "benchmarks", "docs", "examples", "meshes", "datasets")
    ]
    files = [file for folder in mine for file in folder.rglob("*") if file.suffix in suffixes]
    files += [file for file in ROOT.iterdir() if file.is_file() and file.suffix in suffixes]
    found = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in files
        if "work" not in file.relative_to(ROOT).parts and file != Path(__file__).resolve()
        for match in pattern.finditer(file.read_text(errors="replace"))
    ]
    assert not found, "\n".join(found)
