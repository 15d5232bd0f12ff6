"""Fixtures shared by all tests."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

if "NUMBA_CACHE_DIR" not in os.environ:
    # numba looks at the time of a function's own file alone: code that calls a changed function of another file would stay old
    sources = [file.read_bytes() for file in sorted((ROOT / "spheregeo").rglob("*.py"))]
    compiled = b"".join(source for source in sources if b"numba" in source)
    os.environ["NUMBA_CACHE_DIR"] = str(ROOT / ".numba_cache" / hashlib.sha256(compiled).hexdigest()[:16])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real measurements; not part of the project. Tests that need it skip, and say so, without it."""
    folder = Path(os.environ.get("SPHEREGEO_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set SPHEREGEO_DATA to its folder")
    return folder
