"""The suite of layers finds what is broken, names the check and gives the figure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.grids import HEALPix
from spheregeo.nn import DiscoConv
from spheregeo.testing import ComplianceError, check_layer, check_model
from spheregeo.testing.derivatives import reference_twin

GRID = HEALPix(2)


class Square(torch.autograd.Function):
    """x², whose gradient is off by ``slip``."""

    slip = 0.0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return (2 + Square.slip) * g * ctx.saved_tensors[0]


class Faulty(nn.Module):
    """Scale times x, with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.in_channels = fault, 2
        self.scale = nn.Parameter(torch.ones(2))
        self.table = torch.ones(48)
        self.key = (lambda: 0) if fault == "copies" else None

    def forward(self, x: Tensor) -> Tensor:
        if self.fault != "inputs":
            check_tensor(x)
        if self.fault == "empty" and not x.numel():
            raise IndexError("no samples")
        if self.fault == "func":
            x = x * float(x.detach().isfinite().all())
        if self.fault != "errors" and x.shape[1:] != (2, 48):
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, 2, 48)")
        y = x * (self.scale.to(x.dtype)[:, None] if x.shape[1] == 2 else 1)
        if self.fault == "equivariance":
            y = y + 0.1 * torch.arange(48).to(x.dtype)
        if self.fault == "first":
            y = Square.apply(y)
        if self.fault == "dtypes":
            y = y.float() * self.table
        if self.fault == "compile" and float(y.sum()) > 1e9:
            y = y + 1
        if self.fault == "autocast" and torch.is_autocast_enabled("cpu"):
            y = y * 3
        return y


def check(fault: str, **options: Any) -> dict[str, str]:
    arguments = {
        "twin": lambda layer, x: x * layer.scale[:, None],
        "where": GRID,
        "equivariance": {"grid": 1e-12},
    }
    return check_layer(Faulty(fault), torch.randn(2, 2, 48), **{**arguments, **options})


def test_a_sound_layer_passes_every_check() -> None:
    found = check("")
    assert set(found) == {
        "twin", "equivariance", "first", "second", "func", "compile", "export", "dtypes", "autocast", "meta", "cuda", "copies",
        "checkpoint", "errors", "inputs", "empty",
    }  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    ["equivariance", "first", "func", "compile", "dtypes", "autocast", "copies", "errors", "inputs", "empty"],
)
def test_each_fault_is_named(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Square, "slip", 0.1)
    with pytest.raises(ComplianceError, match=rf"Faulty: \d+ of 16 checks failed(.|\n)*  {fault}: "):
        check(fault)


def test_twins_differ_with_figures() -> None:
    with pytest.raises(
        ComplianceError, match=r"twin: output 0 differs by \d\.\d\de[-+]\d\d relative, at most 1e-10 allowed"
    ):
        check("", twin=lambda layer, x: 1.01 * x * layer.scale[:, None])
    with pytest.raises(ComplianceError, match="twin: gradient of scale"):
        check("", twin=lambda layer, x: x * layer.scale.detach()[:, None])


def test_the_reference_engine_is_another_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the fast engine is seen by the twin that is taken by default."""
    from spheregeo.sparse import registry

    conv = DiscoConv(2, 2, GRID).double()
    x = torch.randn(1, 2, 48, dtype=torch.float64)
    twin = reference_twin(conv)
    assert twin is not None and torch.allclose(twin(x), conv(x), rtol=1e-12)
    assert reference_twin(nn.Linear(2, 2)) is None
    assert conv.map.engine == "auto", "the layer itself stays as it is"
    called = []
    found = registry.get_engine

    def get_engine(name: str, device: torch.device, operator: str) -> Any:
        called.append(name)
        return found(name, device, operator)

    monkeypatch.setattr(registry, "get_engine", get_engine)
    with pytest.raises(
        ComplianceError, match="no sparse operator to run on the reference engine; pass twin="
    ):
        check("", twin=None)


def test_what_is_missing_is_asked_for() -> None:
    with pytest.raises(ComplianceError, match="pass where="):
        check("", where=None)
    with pytest.raises(ComplianceError, match="pass equivariance="):
        check("", equivariance=None)


class Network(nn.Module):
    """A mean over the sphere, with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.in_channels, self.grid = fault, 2, GRID
        self.share = GRID.areas / GRID.areas.sum()
        self.linear, self.spare = nn.Linear(2, 3), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (2, 48):
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, 2, 48)")
        mean = torch.tanh(x) @ self.share.to(x)
        if self.fault == "samples":
            mean = mean - mean.mean(0)
        if self.fault == "equivariance":
            mean = x[..., 0]
        y: Tensor = self.linear(mean)
        return y if self.fault == "trains" else y + self.spare(mean)


@pytest.mark.parametrize("fault", ["", "samples", "equivariance", "trains"])
def test_models(fault: str) -> None:
    def run() -> dict[str, str]:
        return check_model(
            Network(fault), GRID, out_shape=(2, 3), equivariance={"grid": 1e-11}, compile_backend="eager"
        )

    if not fault:
        assert "trains" in run()
        return
    with pytest.raises(ComplianceError, match=rf"Network: \d+ of 12 checks failed(.|\n)*  {fault}: "):
        run()
