"""Whole networks are one graph to ``torch.compile``, and Inductor's code gives their outputs and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_every_model import BANDS, CLOUD, CODECS, GRID, MOLECULE, SMALL, family
from torch import Tensor, nn

from spheregeo import models

# Networks that find neighbours of features or of places on the way: how many there are is in the data.
SEARCHING = {"vnn-dgcnn-base", "molecule-field", "molecule-field-schnet"}
CASES = [
    (domain, name)
    for domain in ("grid", "images", "points", "molecule")
    for name in models.names(domain=domain)
]
CASES = [
    (domain, name)
    for domain, name in CASES
    if name not in {*SEARCHING, *CODECS} and not name.endswith("-base")
]


def case(domain: str, name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """A small network in evaluation, and what it is called with."""
    torch.manual_seed(0)
    if domain in ("grid", "images"):
        size, table = (GRID.shape, BANDS) if domain == "grid" else ((9, 9), SMALL)
        options = {"width": 4, "depth": 2, **family(name, table, {})}
        return models.create(name, 2, 3, GRID if domain == "grid" else None, **options).eval(), (
            torch.randn(2, 2, *size),
        )
    molecule = domain == "molecule"
    options = family(name, SMALL, MOLECULE if molecule else CLOUD)
    model = models.create(name, 20 if molecule else 0, 3, None, **options).eval()
    corners = torch.stack(torch.meshgrid(*[torch.arange(2.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = torch.cat([corners, corners]) + 0.15 * torch.randn(16, 3)
    positions *= 1.3 if molecule else 0.5
    batch = torch.arange(2).repeat_interleave(8)
    kinds = torch.tensor([1, 6, 8, 1, 1, 6, 7, 1]).repeat(2) if molecule else None
    network: Any = model
    return model, (positions, kinds, batch, network.neighbors(positions, batch), 2)


@pytest.fixture(autouse=True)
def forget_compiled_code() -> None:
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch's tracer
@pytest.mark.parametrize(("domain", "name"), CASES, ids=[name for _, name in CASES])
def test_network_is_one_graph(domain: str, name: str) -> None:
    model, given = case(domain, name)
    with torch.no_grad():
        wanted = model(*given)  # first: networks of images find the geometry of a size when they first see it
        found = torch.compile(model, fullgraph=True, backend="eager")(*given)
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


@pytest.mark.parametrize(
    ("domain", "name"),
    [("grid", "sphere-unet-small"), ("points", "pointnet"), ("images", "group-cnn")],
)
def test_inductor_gives_outputs_and_gradients(domain: str, name: str) -> None:
    model, given = case(domain, name)
    leaf = given[0].clone().requires_grad_()
    weights = [w for w in model.parameters() if w.requires_grad]

    def answer(network: Any) -> list[Tensor]:
        y = network(leaf, *given[1:])
        slopes = torch.autograd.grad(y.square().sum(), [leaf, *weights], allow_unused=True)
        return [y.detach(), *(s for s in slopes if s is not None)]

    for wanted, found in zip(answer(model), answer(torch.compile(model, fullgraph=True)), strict=True):
        scale = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=2e-5 * scale)
