"""GEM-CNN: any frames, any pose, any batch, parameters that act, arguments that matter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spheregeo.audit import randomise
from spheregeo.groups import random_rotations
from spheregeo.mesh import TriangleMesh
from spheregeo.models import create
from spheregeo.models.meshes.gem_cnn import GemCNN
from spheregeo.nn.surface.inputs import surface_input_type, surface_inputs

FEATURES = ("matrix", "whole", "position")


def shape(level: int = 2, seed: int = 0) -> TriangleMesh:
    """A bumpy closed surface of its own."""
    import trimesh

    sphere = trimesh.creation.icosphere(level)
    p, draw = torch.tensor(sphere.vertices), torch.Generator().manual_seed(seed)
    wave = 3 * torch.rand(3, generator=draw, dtype=torch.float64)
    size = 1 + 0.3 * torch.sin(3 * p @ wave)
    return TriangleMesh(p * size[:, None], torch.tensor(sphere.faces))


def network(output: str = "label", **options: Any) -> GemCNN:
    """A small random network; so many samples that its activations are exact but for rounding, unless fewer are asked for."""
    torch.manual_seed(0)
    kind = surface_input_type(FEATURES)
    settings: dict[str, Any] = {
        "width": 3,
        "blocks": 1,
        "max_order": 2,
        "samples": 101,
        **options,
    }
    net = GemCNN(kind.dim, 4, None, output=output, in_type=str(kind), **settings).double().eval()
    return randomise(net, torch.Generator().manual_seed(1))  # type: ignore[return-value]


def run(net: GemCNN, *meshes: TriangleMesh) -> torch.Tensor:
    x = torch.cat([surface_inputs(mesh, FEATURES, 0.3) for mesh in meshes], 1)[None].double()
    return net(x, net.levels_of(*meshes))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("output", "depth"), [("label", 1), ("label", 2), ("field", 1), ("field", 2)])
def test_any_frames(output: str, depth: int) -> None:
    """Frames at random: exact with many samples, and of the size of the activation's error at its default."""
    mesh = shape()
    turned = mesh.with_frames("random", seed=3)
    for options, bar in (({}, 1e-8), ({"samples": None}, 1e-2)):
        net = network(output, depth=depth, **options)
        y, other = run(net, mesh), run(net, turned)
        assert (y - other).norm() < bar * y.norm()


def test_motions_change_nothing() -> None:
    mesh, net = shape(), network(samples=None)
    turn = random_rotations(1, generator=torch.Generator().manual_seed(2))[0]
    moved = TriangleMesh(3 * mesh.points @ turn.T + 1, mesh.faces)
    y, other = run(net, mesh), run(net, moved)
    assert (y - other).norm() < 1e-2 * y.norm()


@pytest.mark.parametrize("output", ["label", "field"])
def test_batch_does_not_matter(output: str) -> None:
    meshes = [shape(1), shape(2, seed=1)]
    net = network(output, depth=1)
    both, apart = run(net, *meshes), [run(net, mesh) for mesh in meshes]
    joined = torch.cat(apart, 0 if output == "label" else 2)
    assert (both - joined).abs().max() < 1e-10 * both.abs().max()


@pytest.mark.parametrize("output", ["label", "field"])
def test_every_parameter_acts(output: str) -> None:
    """Self-interactions too: a published pipeline lacked the loops that carry them."""
    net = network(output, depth=2, samples=None).train()
    loss = run(net, shape(2), shape(2, seed=1)).square().sum()
    for name, gradient in zip(
        dict(net.named_parameters()), torch.autograd.grad(loss, list(net.parameters())), strict=True
    ):
        assert float(gradient.norm()) > 0, name


def test_arguments_matter() -> None:
    base = run(network(), shape())
    changes: list[dict[str, Any]] = [
        {"width": 4}, {"depth": 2}, {"blocks": 2}, {"max_order": 1}, {"num_rings": 3}, {"samples": 9}, {"act": "relu"},
        {"spacings": 3.0}, {"radius": 0.3}, {"norm": "layer"}, {"norm": "none"}, {"bias": "edge"}, {"hidden": 8},
        {"depth": 2, "ratio": 0.5}, {"depth": 2, "growth": 1.0}, {"depth": 2, "max_width": 4},
    ]  # fmt: skip
    seen = [base]
    for change in changes:
        y = run(network(**change), shape())
        assert all((y - other).norm() > 1e-6 * y.norm() for other in seen), change
        seen.append(y)


def test_on_a_grid() -> None:
    mesh = shape()
    net = create("gem-cnn", 3, 2, mesh, width=2, blocks=1)
    assert net(torch.randn(2, 3, mesh.num_points)).shape == (2, 2, mesh.num_points)
    assert set(net.state_dict()) == set(net.double().state_dict())


def test_errors() -> None:
    mesh = shape(1)
    with pytest.raises(ValueError, match="width is 0"):
        GemCNN(3, 2, width=0)
    with pytest.raises(ValueError, match="output is 'both'"):
        GemCNN(3, 2, output="both")
    with pytest.raises(ValueError, match="in_type is '2x0'"):
        GemCNN(3, 2, in_type="2x0")
    with pytest.raises(ValueError, match="levels must be given"):
        GemCNN(3, 2)(torch.zeros(1, 3, 5))
    net = GemCNN(3, 2, width=2, blocks=0, max_order=1)
    with pytest.raises(ValueError, match="x has shape"):
        net(torch.zeros(1, 3, 5), net.levels_of(mesh))
