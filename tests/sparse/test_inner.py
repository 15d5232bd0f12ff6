"""Tiles, plain loops and uncompiled Python give the same results in every kernel; tiles that do not build are replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "sparse" / "kernel_outputs.py"


def python(*command: str, **environment: str) -> tuple[str, str]:
    """Run Python with an environment; return what it printed and its warnings."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)} | environment
    run = subprocess.run(
        [sys.executable, *command],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    told = [line for line in run.stderr.splitlines(True) if not line.startswith("spheregeo: compiling")]
    return run.stdout.strip(), "".join(told)


@pytest.fixture(scope="module")
def with_tiles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return outputs(tmp_path_factory.mktemp("tiles") / "out.npz", "tiles", SPHEREGEO_TILES="1")


def outputs(path: Path, kind: str, **environment: str) -> dict[str, np.ndarray]:
    """Results of the script, whose inner loops must have been of one kind, and which must have called all kernels."""
    told, warned = python(str(SCRIPT), str(path), "8", **environment)
    assert told == f"{kind} []" and not warned
    with np.load(path) as found:
        return dict(found)


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"SPHEREGEO_TILES": "0"}, {"NUMBA_DISABLE_JIT": "1"}], ids=str)
def test_plain_loops_give_what_tiles_give(
    with_tiles: dict[str, np.ndarray], environment: dict[str, str], tmp_path: Path
) -> None:
    # unoptimised code compiles in two thirds of the time, and the sums are written in the loops
    found = outputs(tmp_path / "out.npz", "loops", NUMBA_OPT="0", **environment)
    assert sorted(found) == sorted(with_tiles) and len(found) > 30
    for name, expected in with_tiles.items():
        assert np.abs(expected).max() > 0, name
        assert np.abs(found[name] - expected).max() <= 1e-13 * np.abs(expected).max(), name


def test_tiles_that_do_not_build_cost_one_warning(tmp_path: Path) -> None:
    code = """
import numba, numpy as np
from llvmlite import ir
del ir.VectorType  # as if a later llvmlite had another name for it
from spheregeo.sparse.engines.kernels import inner, product
out = np.zeros((1, 2))
product.accumulate(np.ones((1, 3)), np.arange(4.0), np.arange(3), out, 2)
print(inner.chosen.__name__.rpartition(".")[2], out.tolist())
"""
    told, warned = python("-c", code, NUMBA_CACHE_DIR=str(tmp_path))
    assert told == "loops [[3.0, 6.0]]"
    assert warned.count("RuntimeWarning") == 1 and "LLVM tiles do not build" in warned


def test_other_values_of_the_switch_are_refused() -> None:
    code = """
try:
    import spheregeo.sparse.engines.kernels
except ValueError as error:
    print(error)
"""
    told, _ = python("-c", code, SPHEREGEO_TILES="no")
    assert told == "SPHEREGEO_TILES is 'no'; expected 0 (plain loops) or 1 (LLVM tiles)"
