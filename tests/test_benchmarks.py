"""The benchmark's cases can be listed, its measuring is right on known work, and its result files can be read."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.csv"))


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_results_parse(file: Path) -> None:
    from table import COLUMNS, NUMBERS

    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    assert reader.fieldnames == list(COLUMNS)
    assert rows
    for row in rows:
        assert None not in row and None not in row.values(), f"ragged row {row}"
        for column in NUMBERS:
            assert row[column] == "" or float(row[column]) >= 0, f"{column}={row[column]!r}"
        assert row["spheregeo"] and row["torch"] and row["machine"] and int(row["threads"]) > 0
    keys = [
        tuple(row[column] for column in ("case", "library", "grid", "kernel", "threads", "dtype"))
        for row in rows
    ]
    assert len(set(keys)) == len(keys), "one row for each configuration"


def test_rows_are_replaced_and_changes_reported(tmp_path: Path) -> None:
    from table import COLUMNS, merge

    base = dict.fromkeys(COLUMNS, "") | {"case": "a", "library": "spheregeo", "grid": "g", "threads": "2"}
    out = tmp_path / "machine.csv"
    assert merge(out, [base | {"both_ms": "10", "spheregeo": "0.1"}]) == []
    told = merge(out, [base | {"both_ms": "15", "spheregeo": "0.2"}, base | {"grid": "h", "both_ms": "1"}])
    assert len(told) == 1 and "10" in told[0] and "15" in told[0]
    with out.open(newline="") as stream:
        assert [(row["grid"], row["both_ms"]) for row in csv.DictReader(stream)] == [("g", "15"), ("h", "1")]


def test_interleaved_medians() -> None:
    from measure import Work, interleave

    def sleeping(seconds: float) -> Work:
        x = torch.ones(1, requires_grad=True)

        def forward() -> torch.Tensor:
            time.sleep(seconds)
            return x * 2

        return Work(forward, (x,))

    slow, fast = interleave([sleeping(0.02), sleeping(0.005)], repeats=3)
    assert 20 <= slow.forward_ms < 40 and 5 <= fast.forward_ms < 20
    assert 20 <= slow.both_ms < 40


PEAK = """
import torch
from measure import peak_mib

pieces = [torch.ones(2**18) for _ in range(200)]  # 200 MiB in the heap, which keeps freed pieces for later
last = torch.ones(2**18)
del pieces
print(peak_mib(lambda: torch.ones(64 * 2**20 // 4).sum()))
"""


def test_peak_memory_sees_a_temporary() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PEAK], cwd=BENCHMARKS, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    assert 60 < float(run.stdout) < 90


def test_cases_can_be_listed(programs: Any) -> None:
    run = programs.run([str(BENCHMARKS / "run.py"), "--list"])
    assert run.returncode == 0, run.stderr
    for name in ("disco_latlon", "disco_dense", "disco_grids", "scale"):
        assert name in run.stdout


def test_unknown_case_is_named(programs: Any) -> None:
    run = programs.run([str(BENCHMARKS / "run.py"), "--case", "sorting"])
    assert run.returncode != 0 and "sorting" in run.stderr and "disco_latlon" in run.stderr
