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
    "jit": set(),
    "sparse": {"jit"},
    "groups": set(),
    "coding": set(),
    "harmonics": {"groups", "jit"},
    "grids": {"harmonics"},
    "mesh": {"grids", "sparse"},
    "spectral": {"grids", "harmonics", "sparse"},
    "sampling": {"grids", "mesh", "sparse", "spectral"},
    "kernels": {"harmonics", "groups"},
    "nn": {"coding", "sparse", "groups", "harmonics", "grids", "mesh", "sampling", "spectral", "kernels"},
    "distributed": {"nn"},
    "models": {"nn"},
    "data": {"grids", "sampling"},
    "tasks": {"models", "data", "audit"},
    "audit": {"nn"},
    "compat": {"sampling"},
    "testing": {"audit"},
    "recipes": set(),
    "weights": set(),
    "export": {"tasks", "recipes", "weights"},
}
ABOVE_ALL = {
    "__init__",
    "__main__",
    "cli",
    "operators",
}  # operators.py imports rooms when torch looks for theirs
BELOW_ALL = {
    "autograd",
    "checks",
    "constants",
    "deprecation",
    "files",
    "lazy",
    "plain_text",
}  # single files that every room may import
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted({file.relative_to(PACKAGE).parts[0] for file in FILES if file.parent != PACKAGE})


@cache
def allowed(room: str) -> frozenset[str]:
    """Return every room that ``room`` may import, itself included."""
    return frozenset({room, *BELOW_ALL}).union(*(allowed(below) for below in MAY_IMPORT[room]))


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
    loose = {file.stem for file in PACKAGE.glob("*.py")} - ABOVE_ALL - BELOW_ALL
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
    if parts[1] in ABOVE_ALL | BELOW_ALL:
        return
    found = violations(file.read_text(), module, is_package)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "from spheregeo.nn import DiscoConv",
        "from spheregeo import nn",
        "import spheregeo.tasks.sphere.segmentation",
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


MODULES = {
    ".".join((file.parent if file.stem == "__init__" else file.with_suffix("")).relative_to(ROOT).parts): file
    for file in FILES
}
FOLDERS = sorted({file.parent for file in FILES if any(p.is_dir() for p in file.parent.glob("[a-z]*"))})


def imported_modules(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, module, name) for every absolute import of ours in ``source``; name is "" for a plain import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name, "") for a in node.names if a.name.startswith("spheregeo"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spheregeo"):
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (node.lineno, inner, "") if inner in MODULES else (node.lineno, node.module, alias.name)


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """A closed walk along the arrows, empty if there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return []
        for following in sorted(arrows.get(node, ())):
            found = walk(following, [*path, node])
            if found:
                return found
        done.add(node)
        return []

    return next((found for node in sorted(arrows) if (found := walk(node, []))), [])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_files_and_folders_inside_a_room_import_one_way(folder: Path) -> None:
    """The files of a folder, and each of its sub-folders taken as one, have no circle of imports."""
    prefix = ".".join(folder.relative_to(ROOT).parts) + "."
    arrows: dict[str, set[str]] = {}
    for module, file in MODULES.items():
        if not module.startswith(prefix):
            continue
        here = module[len(prefix) :].split(".")[0]
        for _, target, _ in imported_modules(file.read_text()):
            there = target[len(prefix) :].split(".")[0]
            if target.startswith(prefix) and there != here:
                arrows.setdefault(here, set()).add(there)
    found = circle(arrows)
    assert not found, f"in {folder.relative_to(ROOT)}: {' -> '.join([*found, found[0]])}"


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_no_folder_is_crowded() -> None:
    folders = {file.parent for top in ("spheregeo", "tests") for file in (ROOT / top).rglob("*.py")}
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in folders
        if (count := sum(p.is_file() for p in folder.iterdir())) > 20
    }
    assert not crowded, f"more than 20 files: {crowded}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_private_names_stay_in_their_room(file: Path) -> None:
    room = file.relative_to(PACKAGE).parts[0]
    found = [
        f"line {line}: {module}{'.' + name if name else ''}"
        for line, module, name in imported_modules(file.read_text())
        if module.split(".")[1:2] != [room]
        and any(re.match(r"_(?!_)", part) for part in [*module.split("."), name])
    ]
    assert not found, "\n".join(found)


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
