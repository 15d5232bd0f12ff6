"""Triton's kernels without a GPU: equal to float64 twins in the interpreter, sound in machine code, chosen where they should."""

from __future__ import annotations

import copy
import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import spheregeo as sg
from spheregeo.grids import Equiangular, HEALPix
from spheregeo.sparse import registry

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = importlib.util.find_spec("triton") is not None


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """What the script of the interpreter found."""
    if not INSTALLED:
        pytest.skip("triton is not installed: pip install spheregeo[triton]")
    run = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(ROOT / "tests" / "sparse" / "triton_outputs.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def test_kernels_equal_their_float64_twins(interpreted: dict[str, Any]) -> None:
    for case, found in interpreted["errors"].items():
        assert found.pop("changed") == 0, f"{case}: two runs differ"
        assert len(found) >= 2
        bound = 0.01 if case.startswith("low") else 0.002 if case == "float16" else 1e-6
        for name, error in found.items():  # NaN fails
            assert error < bound, f"{case}: {name} is off by {error:.1e}"


def test_every_kernel_ran(interpreted: dict[str, Any]) -> None:
    names = {case.kernel.fn.__name__ for case in script("triton_kernels").cases()}
    assert set(interpreted["launched"]) == names


def script(name: str) -> ModuleType:
    """A file of the benchmarks as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_machine_code_is_sound() -> None:
    """The dearest case of each kernel; benchmarks/triton_kernels.py has the others, and for compute capability 8.0."""
    if not INSTALLED:
        pytest.skip("triton is not installed: pip install spheregeo[triton]")
    module = script("triton_kernels")
    for case in module.cases():
        if case.name.endswith(("tf32x3", "channel")):
            made = module.compiled(case, 90)
            assert made["registers"] <= 128 and made["spills"] == made["atomics"] == 0, made
            assert not case.aligned or made["loads_16_byte"] > 0, made


def test_the_table_on_file_is_sound() -> None:
    with (ROOT / "benchmarks" / "results" / "kernels" / "triton.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["architecture"] for row in rows} == {"sm_80", "sm_90"}
    for row in rows:
        assert int(row["registers"]) <= 128 and row["spills"] == row["atomics"] == "0", row


def test_who_takes_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    float32, half, float64 = torch.float32, torch.bfloat16, torch.float64
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(registry, "find_spec", lambda name: object())
    assert registry._hindrance("triton", "cuda", float32) is None
    assert registry._given("triton", half) is half
    assert "torch.float64, not" in (registry._hindrance("triton", "cuda", float64) or "")
    assert "on cpu, not cuda" in (registry._hindrance("triton", "cpu", float32) or "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert "is 7.5, not 8.0 or more" in (registry._hindrance("triton", "cuda", float32) or "")
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    assert "pip install spheregeo[triton]" in (registry._hindrance("triton", "cuda", float32) or "")


def test_the_benchmark_of_gpus_runs_dry(tmp_path: Path) -> None:
    path = tmp_path / "gpu.csv"
    assert script("gpu").main(["--dry", "--output", str(path)]) == 0
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["block"] for row in rows} == {"machine", "checks", "disco", "pairs", "others", "steps"}
    assert all(float(row["milliseconds"]) > 0 for row in rows if row["what"] in ("forward", "both", "step"))
    assert script("gpu").main(["--dry", "--output", str(path), "--seconds", "1"]) == 0
    assert path.read_text().count("skipped: out of time") == 6


# ---- on a device


def on_device(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """A layer for the engine "auto", and its inputs, on a CPU."""
    draw = torch.Generator().manual_seed(1)
    if name in ("disco", "rings", "gauge"):
        grid = Equiangular(16, 32) if name == "rings" else HEALPix(4)
        made = (
            sg.nn.GaugeConv("8x0 + 4x1", "8x0 + 4x1", grid)
            if name == "gauge"
            else sg.nn.DiscoConv(16, 16, grid)
        )
        return made, (torch.randn(2, 16, *grid.shape, generator=draw),)
    options = {"depthwise": {"edge_dim": 2, "depthwise": True, "method": "product"}}.get(
        name, {"method": name}
    )
    made = sg.nn.SteerableConv("8x0e + 8x1o", "8x0e + 8x1o", lmax=2, **options)
    edges = torch.randint(0, 50, (2, 400), generator=draw)
    rest = [torch.randn(400, 2, generator=draw)] if name == "depthwise" else []
    return made, (torch.randn(50, 32, generator=draw), torch.randn(50, 3, generator=draw), edges, *rest)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("name", ["disco", "rings", "gauge", "product", "so2", "depthwise"])
@pytest.mark.parametrize("low", [False, True], ids=["float32", "bfloat16"])
def test_layers_on_a_device(name: str, low: bool) -> None:
    """Equal to the CPU, twice the same."""
    layer, (x, *rest) = on_device(name)

    def outcome(layer: torch.nn.Module, device: str, low: bool) -> list[torch.Tensor]:
        own = layer.to(device)
        leaf = x.to(device).requires_grad_()
        with torch.autocast(device, torch.bfloat16, enabled=low):
            y = own(leaf.bfloat16() if low else leaf, *(t.to(device) for t in rest))
        g = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
        return [t.detach().cpu() for t in (y, *torch.autograd.grad(y, (leaf, *own.parameters()), g))]

    expected = outcome(copy.deepcopy(layer), "cpu", False)
    found, again = (outcome(layer, "cuda", low) for _ in range(2))
    for a, b, c in zip(found, expected, again, strict=True):
        assert torch.equal(a, c)
        assert float((a.double() - b).abs().max()) <= (0.05 if low else 1e-5) * float(b.abs().max())
