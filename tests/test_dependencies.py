"""No dependency without a user: what pyproject.toml asks for is imported by the package or its tests, or runs by name."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GROUPS = {"core": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
# where the module has another name than the distribution
MODULE = {"pillow": "PIL", "libigl": "igl", "myst-parser": "myst_parser"}
# used without an import: what a file of the project calls them by
BY_NAME = {
    "netCDF4": ("spheregeo/data/sphere/field.py", "NetCDF"),  # xarray's reader
    "pytest-xdist": ("pyproject.toml", "--dist loadfile"),
    "ruff": ("Makefile", "ruff"),
    "mypy": ("Makefile", "mypy"),
    "build": ("Makefile", "-m build"),
    "hatchling": ("pyproject.toml", "hatchling.build"),
    "ipykernel": ("tests/test_examples.py", 'kernel_name="python3"'),  # Jupyter's kernel for Python
    "hatch-fancy-pypi-readme": ("pyproject.toml", "hooks.fancy-pypi-readme"),
    "editables": ("tests/test_wheel.py", "editables"),  # hatchling's, for editable installs
    "sphinx": ("Makefile", "sphinx"),
    "furo": ("docs/conf.py", '"furo"'),
    "myst-parser": ("docs/conf.py", "myst_parser"),
    "sphinx-copybutton": ("docs/conf.py", "sphinx_copybutton"),
    "sphinx-design": ("docs/conf.py", "sphinx_design"),
}

AWAITED = {"torch_geometric"}  # data objects of PyG in and out


def distribution(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None, requirement
    return found[0]


@cache
def imports(folder: Path) -> set[str]:
    """Top names of all modules that the files of a folder import, also by ``importorskip`` and ``import_module``."""
    found: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in ("importorskip", "import_module", "find_spec") and isinstance(
                    node.args[0].value, str
                ):
                    found.add(node.args[0].value.split(".")[0])
    return found


@cache
def imported(group: str) -> frozenset[str]:
    """What the package imports; for what only tests and tools need, also what those do."""
    folders = (
        ["spheregeo"]
        if group == "core"
        else ["spheregeo", "tests", "benchmarks", "examples", "docs", "datasets"]
    )
    return frozenset().union(*(imports(ROOT / folder) for folder in folders))


@pytest.mark.parametrize(
    ("group", "name"), [(group, distribution(r)) for group, found in GROUPS.items() for r in found]
)
def test_every_dependency_has_a_user(group: str, name: str) -> None:
    if name in BY_NAME:
        file, text = BY_NAME[name]
        assert text in (ROOT / file).read_text(), (
            f"{name} is used by {file} no more; take it out of pyproject.toml"
        )
        return
    module = MODULE.get(name, name.replace("-", "_"))
    if name in AWAITED and module not in imported(group):
        pytest.skip("its user is on the way")
    assert module in imported(group), (
        f"nothing imports {module}; take {name} out of {group} in pyproject.toml"
    )


def test_the_package_imports_nothing_undeclared() -> None:
    declared = {
        MODULE.get(name, name.replace("-", "_"))
        for found in GROUPS.values()
        for name in map(distribution, found)
    }
    known = declared | {"spheregeo"} | set(__import__("sys").stdlib_module_names)
    others = {
        "astropy",  # healpy's own
        "ducc0",  # looked for, never required: its licence is GPL-2
        "llvmlite",  # numba's own
        "torch_harmonics",  # converters take its modules; installed apart
        "tensorboard",  # looked for, not needed
        "yaml",  # comes with jsonargparse
    }
    undeclared = imports(ROOT / "spheregeo") - known - others
    assert not undeclared, f"imported by the package but not declared: {sorted(undeclared)}"


def test_types_are_shipped() -> None:
    assert (ROOT / "spheregeo" / "py.typed").is_file()  # test_wheel.py finds it in the wheel
