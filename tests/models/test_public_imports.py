"""Every shipped model could be written outside the library: what models import from other rooms is public."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "spheregeo"
FILES = sorted((PACKAGE / "models").rglob("*.py"))
HOUSE = {
    "spheregeo.checks",
    "spheregeo.deprecation",
    "spheregeo.files",
}  # of no use outside: messages, former names of our own arguments, and the guard of all readers


def imports(source: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for every import of another room of ours; name is "" for a plain import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in found:
            path = module.split(".") + ([name] if module == "spheregeo" else [])
            if path[0] == "spheregeo" and path[1:2] != ["models"] and module not in HOUSE:
                yield module, name


def fault(module: str, name: str) -> str | None:
    """What is wrong with importing ``name`` from ``module``; None if anyone may."""
    room = importlib.import_module(module)
    if not hasattr(room, "__path__"):
        return f"{module} is a file inside a room; import {name} from the room"
    if not name or module == "spheregeo" or isinstance(getattr(room, name), ModuleType):
        inner = module if not name else f"{module}.{name}"
        return (
            None
            if hasattr(importlib.import_module(inner), "__path__")
            else f"{inner} is a file inside a room"
        )
    return None if name in room.__all__ else f"{name} is not in the __all__ of {module}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE / "models")))
def test_models_import_public_names_alone(file: Path) -> None:
    found = {f"{module}.{name}": fault(module, name) for module, name in imports(file.read_text())}
    assert not {name: text for name, text in found.items() if text}


@pytest.mark.parametrize(
    "line",
    [
        "from spheregeo.nn.irreps.linear import IrrepsLinear",
        "import spheregeo.nn.irreps.linear",
        "from spheregeo.nn.irreps import linear",
        "from spheregeo.nn.irreps import Irreps",
        "def late():\n    from spheregeo.sparse import coupling_form",
    ],
)
def test_the_check_sees_what_is_not_public(line: str) -> None:
    with pytest.raises((AssertionError, AttributeError)):
        for module, name in imports(line):
            assert fault(module, name) is None


def test_the_check_lets_public_names_pass() -> None:
    source = "import torch\nfrom spheregeo import nn\nfrom spheregeo.nn import irreps\nfrom spheregeo.nn import GDN"
    assert [fault(module, name) for module, name in imports(source)] == [None] * 3
