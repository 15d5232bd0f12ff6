"""Every example and every notebook runs on a CPU in seconds, is short, and says something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

book = nbformat.read(sys.argv[1], 4)
NotebookClient(book, timeout=500, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
nbformat.write(book, "executed.ipynb")
"""


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_runs(script: Path, tmp_path: Path, programs: Any) -> None:
    run = programs.run([str(script)], tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() or list(tmp_path.iterdir()), "an example prints a number or draws a picture"


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_is_short_and_listed(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 100
    assert script.name in (ROOT / "examples" / "README.md").read_text()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_notebook_runs_and_draws(notebook: Path, tmp_path: Path) -> None:
    """In a process of its own; an error in a cell ends it. Runs and files go to a folder that the notebook makes in TMPDIR."""
    pytest.importorskip("nbclient")
    pytest.importorskip("xarray")
    apart = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "TMPDIR")  # no settings of the user
    for name in apart:
        (tmp_path / name).mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    environment |= {name: str(tmp_path / name) for name in apart} | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(notebook)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    cells = json.loads((tmp_path / "executed.ipynb").read_text())["cells"]
    pictures = [
        out for cell in cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})
    ]
    assert pictures, "a notebook draws a picture"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_notebook_is_explained_listed_and_stored_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    kinds = [cell["cell_type"] for cell in cells]
    assert kinds[0] == "markdown" and all(
        before == "markdown" for before, kind in pairwise(kinds) if kind == "code"
    ), "a sentence stands before each step"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert f"({notebook.name})" in (notebook.parent / "index.md").read_text()


def test_there_are_examples() -> None:
    assert EXAMPLES and len(NOTEBOOKS) >= 3
