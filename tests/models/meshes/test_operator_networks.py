"""DiffusionNet and DeltaNet: frames, motions, sizes, orders of vertices, batches, parameters that act, arguments that matter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spheregeo.audit import randomise
from spheregeo.groups import random_rotations
from spheregeo.mesh import TriangleMesh
from spheregeo.models import DeltaNet, DiffusionNet, create
from spheregeo.nn.surface.inputs import surface_input_type, surface_inputs

FEATURES = ("matrix", "heat")
NETWORKS = {"diffusion": DiffusionNet, "delta": DeltaNet}


def shape(level: int = 2, seed: int = 0) -> TriangleMesh:
    """A bumpy closed surface of its own."""
    import trimesh

    ball = trimesh.creation.icosphere(level)
    p, draw = torch.tensor(ball.vertices), torch.Generator().manual_seed(seed)
    wave = 3 * torch.rand(3, generator=draw, dtype=torch.float64)
    return TriangleMesh(p * (1 + 0.3 * torch.sin(3 * p @ wave))[:, None], torch.tensor(ball.faces))


def network(name: str, output: str = "label", **options: Any) -> Any:
    torch.manual_seed(0)
    kind = surface_input_type(FEATURES)
    settings: dict[str, Any] = {"width": 4, "depth": 2, "act": "silu", **options}
    if name == "diffusion":
        settings = {"pairs": 10, **settings}
    net = NETWORKS[name](kind.dim, 4, None, output=output, in_type=str(kind), **settings).double().eval()
    return randomise(net, torch.Generator().manual_seed(1))


def run(net: Any, *meshes: TriangleMesh) -> Tensor:
    x = torch.cat([surface_inputs(mesh, FEATURES, 0.3) for mesh in meshes], 1)[None].double()
    result: Tensor = net(x, net.geometry_of(*meshes))
    return result


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("output", ["label", "field"])
def test_what_must_not_matter(name: str, output: str) -> None:
    """Frames, motions, size; and the order of the vertices, which orders the output."""
    mesh, net = shape(), network(name, output)
    turn = random_rotations(1, generator=torch.Generator().manual_seed(2))[0]
    order = torch.randperm(mesh.num_points, generator=torch.Generator().manual_seed(3))
    place = order.argsort()
    others = [
        mesh.with_frames("random", seed=3),
        TriangleMesh(3 * mesh.points @ turn.T + 1, mesh.faces),
        TriangleMesh(mesh.points[order], place[mesh.faces]),
    ]
    y = run(net, mesh)
    for k, other in enumerate(others):
        z = run(net, other)
        z = z[..., place] if k == 2 and output == "field" else z
        assert (z - y).abs().max() < 1e-8 * y.abs().max(), k


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("output", ["label", "field"])
def test_batch_does_not_matter(name: str, output: str) -> None:
    meshes = [shape(1), shape(2, seed=1)]
    net = network(name, output)
    both, apart = run(net, *meshes), [run(net, mesh) for mesh in meshes]
    joined = torch.cat(apart, 0 if output == "label" else 2)
    assert (both - joined).abs().max() < 1e-10 * both.abs().max()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("output", ["label", "field"])
def test_every_parameter_acts(name: str, output: str) -> None:
    net = network(name, output).train()
    loss = run(net, shape(1), shape(1, seed=1)).square().sum()
    names, weights = zip(*net.named_parameters(), strict=True)
    for which, gradient in zip(names, torch.autograd.grad(loss, weights), strict=True):
        assert float(gradient.norm()) > 0, which


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "diffusion",
            [
                {"width": 5}, {"depth": 1}, {"pairs": 6}, {"oriented": False}, {"gradients": False}, {"act": "relu"},
                {"method": "implicit"}, {"elements": "faces"}, {"elements": "edges"},
            ],
        ),
        ("delta", [{"width": 5}, {"depth": 1}, {"hops": 1}, {"hidden": 5}, {"act": "relu"}]),
    ],
)  # fmt: skip
def test_arguments_matter(name: str, changes: list[dict[str, Any]]) -> None:
    mesh = shape(1)
    seen = [run(network(name, "field"), mesh)]
    for change in changes:
        y = run(network(name, "field", **change), mesh)
        assert all(y.shape != o.shape or (y - o).norm() > 1e-6 * y.norm() for o in seen), change
        seen.append(y)
    net = network(name, dropout=0.5).train()
    assert (run(net, mesh, mesh) - run(net, mesh, mesh)).norm() > 0


def test_elements() -> None:
    mesh = shape(1)
    y, faces, edges = (
        run(network("diffusion", "field", elements=e), mesh) for e in ("vertices", "faces", "edges")
    )
    assert (faces - y[..., mesh.faces].mean(-1)).abs().max() < 1e-12
    assert (edges - y[..., mesh.edges].mean(-1)).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["diffusion-net", "delta-net"])
def test_on_a_grid(name: str) -> None:
    mesh = shape(1)
    net = create(name, 3, 2, mesh, width=2)
    assert net(torch.randn(2, 3, mesh.num_points)).shape == (2, 2, mesh.num_points)
    assert not any("operators" in key for key in net.state_dict())


def test_errors() -> None:
    with pytest.raises(ValueError, match="width is 0"):
        DiffusionNet(3, 2, width=0)
    with pytest.raises(ValueError, match="elements is 'corners'"):
        DiffusionNet(3, 2, elements="corners")
    for kind in (DiffusionNet, DeltaNet):
        with pytest.raises(ValueError, match="output is 'both'"):
            kind(3, 2, output="both")
        with pytest.raises(ValueError, match="in_type is '2x0'"):
            kind(3, 2, in_type="2x0")
        net: Any = kind(3, 2)
        with pytest.raises(ValueError, match="operators must be given"):
            net(torch.zeros(1, 3, 5))
        with pytest.raises(ValueError, match="x has shape"):
            net(torch.zeros(1, 3, 5), net.geometry_of(shape(1)))
