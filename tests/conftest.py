"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import importlib.util
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

# compiled code is kept by content: among the user's other caches every checkout finds it, new clones too
if "NUMBA_CACHE_DIR" not in os.environ:
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    with suppress(OSError):
        home.mkdir(exist_ok=True)
    kept = home / "spheregeo" / "tests" if os.access(home, os.W_OK) else ROOT / ".numba_cache"
    os.environ["NUMBA_CACHE_DIR"] = str(kept)


# Files that take longest, the longest first: a worker that began one last would leave the others idle.
LONG = (
    "test_docs", "test_inner", "test_every_layer", "test_examples", "test_operators", "test_docstrings", "test_cli", "test_study",
    "test_precision", "test_disco", "test_imports", "test_cache", "test_every_model", "test_demo", "test_readme", "test_ddp",
    "test_save_and_load", "test_extend", "test_task_guide",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files, which workers take as a whole, by how long they take."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish() -> None:
    """Leave the modules and tests, which stay to the end, out of what each collection of garbage walks through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts Python programs without seconds of imports: ``tests/testing/fork_server.py``."""
    spec = importlib.util.spec_from_file_location(
        "fork_server", ROOT / "tests" / "testing" / "fork_server.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.ForkServer(tmp_path_factory.mktemp("programs"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real measurements; not part of the project. Tests that need it skip, and say so, without it."""
    folder = Path(os.environ.get("SPHEREGEO_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set SPHEREGEO_DATA to its folder")
    return folder
