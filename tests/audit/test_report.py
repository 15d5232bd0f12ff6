"""Costs against what is known of them; the table, the JSON file and the picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spheregeo import audit
from spheregeo.grids import Equiangular, Fibonacci
from spheregeo.kernels import Rings
from spheregeo.nn import DiscoConv


class Scratch(nn.Module):
    """Needs 64 MiB beyond its output while it runs."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(1 << 24, dtype=torch.float32).sum()


def test_flops_of_known_layers() -> None:
    grid = Equiangular(8, 16)
    layer = DiscoConv(2, 3, grid, kernel=Rings(3))
    x = torch.randn(2, 2, 8, 16)
    assert audit.count_flops(layer, x) == 2 * layer.flops()
    net = nn.Sequential(layer, nn.GELU(), nn.Conv2d(3, 5, 1, bias=False), layer.__class__(5, 2, grid))
    mixing = 2 * (2 * 3 * 5 * 128)  # two samples, a multiplication and an addition
    assert audit.count_flops(net, x) == 2 * layer.flops() + mixing + 2 * net[3].flops()
    assert not layer._forward_pre_hooks
    assert audit.count_parameters(net) == sum(p.numel() for p in net.parameters())


@pytest.mark.skipif(sys.platform != "linux", reason="resident peaks can be reset on Linux only")
def test_memory_of_a_known_module() -> None:
    x = torch.randn(1, 1, 8)
    for _ in range(2):  # again, with what the first left behind
        forward, _ = audit.measure_memory(Scratch(), x)
        assert forward is not None
        assert 60 < forward / 2**20 < 72  # 64 MiB, and what Python moves meanwhile
    small, _ = audit.measure_memory(nn.Identity(), x)
    assert small is not None and small < 2**22


def test_time_is_a_median_of_real_passes() -> None:
    calls: list[bool] = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(torch.is_grad_enabled())
            return 2 * x

    forward, both = audit.measure_time(Counting(), torch.ones(1, 1, 4), repeats=4)
    assert forward > 0 and both > 0
    assert calls == [False] * 5 + [True] * 5


def test_report_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = Equiangular(8, 16)
    layer = DiscoConv(2, 3, grid, kernel=Rings(3))
    found = audit.report(layer, grid, batch=2, repeats=3, num_rotations=1, num_signals=1)
    assert set(found["equivariance"]) == {
        "SO(3), weights as they are",
        "SO(3)",
        "azimuthal",
        "permutations of the grid",
    }
    assert found["equivariance"]["permutations of the grid"]["error"] < 1e-12
    assert found["parameters"] == 3 * 2 * 2 + 3
    assert found["per_point"]["nanoseconds_forward"] == pytest.approx(1e9 * found["seconds_forward"] / 256)
    assert layer.training and layer.weight.grad is None

    path = audit.save_json(found, tmp_path / "deep" / "audit.json")
    assert json.loads(path.read_text()) == found
    assert [file.name for file in path.parent.iterdir()] == ["audit.json"]

    audit.print_table(found)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("error, SO(3)") and "l < " in line for line in lines)
    assert any(line.startswith("time, forward") and "ns a point" in line for line in lines)
    found["peak_bytes_forward"] = found["per_point"]["bytes_forward"] = None
    audit.print_table(found)
    assert "not measured" in capsys.readouterr().out


def test_report_on_a_grid_without_symmetries() -> None:
    grid = Fibonacci(100)
    found = audit.report(nn.Conv1d(3, 2, 1), grid, num_rotations=1, num_signals=1, repeats=3)
    assert "permutations of the grid" not in found["equivariance"]
    assert found["channels"] == 3 and found["flops_forward"] == 2 * 3 * 2 * 100
    with pytest.raises(ValueError, match="batch is 0"):
        audit.report(nn.Identity(), grid, batch=0)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = audit.save_json({"error": 1.0}, tmp_path / "a.json")
    with pytest.raises(TypeError):
        audit.save_json({"error": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        audit.save_json({"error": float("nan")}, path)
    assert json.loads(path.read_text()) == {"error": 1.0}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_plot(tmp_path: Path) -> None:
    path = tmp_path / "errors.png"
    figure = audit.plot_equivariance(
        {"HEALPix": [(0.1, 1e-2), (0.05, 2e-3)], "exact": [(0.1, 0.0)]}, path=path
    )
    axes = figure.axes[0]
    assert path.stat().st_size > 5000
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.lines[0].get_xdata().tolist() == [0.05, 0.1]
    with pytest.raises(ValueError, match="series 'empty'"):
        audit.plot_equivariance({"empty": []})
