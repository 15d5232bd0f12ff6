"""NequIP beside one built of e3nn's parts with the weights copied; irreps that are reached, heads, smoothness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor, nn

from spheregeo.audit import randomise
from spheregeo.models import NequIP, create
from spheregeo.models.molecules.nequip import InteractionBlock, reached_irreps
from spheregeo.nn.irreps import Stacks
from spheregeo.nn.space import EdgeGeometry, EdgeList, SelfConnection
from spheregeo.sampling import random_rotations

KINDS = 9


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def net(**options: Any) -> NequIP:
    sizes: dict[str, Any] = {"width": 3, "depth": 3, "lmax": 2, "cutoff": 3.0, "basis": 4, "hidden": (5, 4)}
    made = create("nequip", KINDS, 2, None, **{**sizes, **options})
    assert isinstance(made, NequIP)
    randomise(made, torch.Generator().manual_seed(1))
    return made.eval()


def water_and_more() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.tensor(
        [[0.0, 0.1, 0.2], [0.8, -0.5, 0.1], [-0.7, -0.6, 0.2], [0.3, 1.4, -0.6], [5, 5, 5], [5.9, 5.2, 5.3]]
    )
    return x, torch.tensor([8, 1, 1, 6, 6, 1]), torch.tensor([0, 0, 0, 0, 1, 1])


def selfconnection_twin(layer: SelfConnection, x: Tensor, kinds: Tensor) -> Tensor:
    """e3nn's product with the kind as a one-hot vector."""
    product = o3.FullyConnectedTensorProduct(layer.irreps_in, o3.Irreps(f"{KINDS}x0e"), layer.irreps_out)
    blocks = layer.weight.split(layer._sizes, 1)
    places = [ir for _, ir in layer.irreps_out if ir in layer.irreps_in]
    pieces = []
    for ins in product.instructions:
        ir = product.irreps_out[ins.i_out].ir
        mul_in, _, mul_out = ins.path_shape
        matrices = blocks[places.index(ir)].view(KINDS, mul_in, mul_out)
        pieces.append(matrices.transpose(0, 1).flatten() * ir.dim**0.5 / ins.path_weight)
    result: Tensor = product(x, nn.functional.one_hot(kinds, KINDS).to(x), torch.cat(pieces))
    return result


def interaction_twin(
    block: InteractionBlock, x: Tensor, vectors: Tensor, radial: Tensor, edges: Tensor, kinds: Tensor
) -> Tensor:
    """e3nn's uvu product of each edge, its linear maps, summed over edges one by one, and a gate."""
    conv, table = block.conv, block.conv.table
    assert conv.edge_weights is not None
    harmonics = o3.Irreps.spherical_harmonics(conv.lmax)
    y = o3.spherical_harmonics(harmonics, vectors, True, normalization="component")
    width = block.before.irreps_in[0].mul
    linear = o3.Linear(block.before.irreps_in, block.before.irreps_in)
    weight = [m.flatten() * m.shape[0] ** 0.5 for m in block.before.matrices.values()]
    x_in = linear(x, torch.cat(weight))
    edge_weights = radial @ conv.edge_weights / radial.shape[1] ** 0.5
    out: list[Tensor] = []
    reached = {t: k for k, t in enumerate(table.reached)}
    for t, target in enumerate(table.targets):
        rows = []
        for path in table.paths:
            if path.target != t:
                continue
            source = table.sources[path.source]
            product = o3.TensorProduct(
                [(width, source)], [(1, (path.degree, (-1) ** path.degree))], [(width, target)],
                [(0, 0, 0, "uvu", True)], shared_weights=False, internal_weights=False,
            )  # fmt: skip
            at = conv.irreps_in.slices()[path.source]
            first = sum(p.copies for p in table.paths[: table.paths.index(path)])
            w = edge_weights[:, first : first + width]
            rows.append(product(x_in[edges[0]][:, at], y[:, harmonics.slices()[path.degree]], w))
        stacked = torch.cat([row.unflatten(1, (width, target.dim)) for row in rows], 1)
        summed = torch.zeros(len(x), *stacked.shape[1:])
        for e, i in enumerate(edges[1].tolist()):
            summed = summed + torch.zeros_like(summed).index_put((torch.tensor([i]),), stacked[e : e + 1])
        matrix = conv.weights[reached[t]][0] / (stacked.shape[1] * conv.num_neighbors) ** 0.5
        out.append(torch.einsum("nud,uv->nvd", summed, matrix).flatten(1))
    total = torch.cat(out, 1) + selfconnection_twin(block.own, x, kinds)
    # the gate, copy by copy
    parts = {
        ir: total[:, at]
        for (_, ir), at in zip(block.gate.irreps_in, block.gate.irreps_in.slices(), strict=True)
    }
    even = block.gate.act(parts[o3.Irrep("0e")])
    gates, done = block.gate.gate(parts[o3.Irrep("0e")][:, width:]), [even[:, :width]]
    for k, (_, ir) in enumerate(term for term in block.gate.irreps_out if term.ir.l):
        copies = parts[ir].unflatten(1, (width, ir.dim))
        done.append((copies * gates[:, k * width : (k + 1) * width, None]).flatten(1))
    return torch.cat(done, 1)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_interactions_equal_those_of_e3nn(layer: int) -> None:
    model = net()
    block: Any = model.blocks[layer]
    x, z, batch = water_and_more()
    edges = model.neighbors(x, batch).edge_index
    vectors = (x[edges[0]] - x[edges[1]]).requires_grad_()
    radial = torch.randn(edges.shape[1], 4, requires_grad=True)
    features = torch.randn(6, block.before.irreps_in.dim, requires_grad=True)
    geometry = EdgeGeometry(vectors, EdgeList.of(edges, 6))
    ours = block(Stacks.from_mul_ir(features, block.before.irreps_in), geometry, radial, z).to_mul_ir(
        block.gate.irreps_out
    )
    theirs = interaction_twin(block, features, vectors, radial, edges, z)
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-11)
    wanted = [features, vectors, radial, *block.parameters()]
    slopes = [torch.autograd.grad(y.sin().sum(), wanted) for y in (ours, theirs)]
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-10) for a, b in zip(*slopes, strict=True))


@pytest.mark.parametrize("many", [False, True])
def test_self_connection_equals_that_of_e3nn(many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With weights gathered for each point, and element after element."""
    if many:
        monkeypatch.setattr("spheregeo.nn.space.self_connection.MANY_WEIGHTS", 0)
    layer = SelfConnection("3x0e + 2x1o + 1x1e", "4x0e + 3x1o + 2x2e", KINDS)
    x, kinds = torch.randn(7, layer.irreps_in.dim, requires_grad=True), torch.tensor([1, 6, 8, 1, 6, 1, 1])
    ours, theirs = layer(x, kinds), selfconnection_twin(layer, x, kinds)
    assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-12)
    assert float(ours[:, -10:].detach().abs().max()) == 0
    slopes = [torch.autograd.grad(y.sin().sum(), [x, layer.weight]) for y in (ours, theirs)]
    assert all(torch.allclose(a, b, rtol=1e-11, atol=1e-12) for a, b in zip(*slopes, strict=True))
    assert torch.equal(layer(Stacks.from_mul_ir(x, layer.irreps_in), kinds).to_mul_ir(), ours)
    with pytest.raises(ValueError, match=r"expected \(7,\)"):
        layer(x, kinds[:3])
    with pytest.raises(ValueError, match="the map would be zero"):
        SelfConnection("2x0e", "2x1o", 3)


def test_irreps_that_products_reach() -> None:
    model = net()
    blocks: Any = model.blocks
    assert [str(b.gate.irreps_out) for b in blocks] == [
        "3x0e+3x1o+3x2e", "3x0e+3x1o+3x1e+3x2e+3x2o", "3x0e"
    ]  # fmt: skip
    assert str(net(parity=False, out_vectors=1).irreps) == "3x0e+3x1o"
    wanted = o3.Irreps("1x0e + 1x0o + 1x1o + 1x1e")
    assert str(reached_irreps(o3.Irreps("1x1e"), wanted, 1)) == "1x0o+1x1o+1x1e"


def test_outputs_turn_and_vanish_smoothly() -> None:
    model = net(out_vectors=1, out_atoms=2)
    x, z, batch = water_and_more()
    found = model.outputs(x, z, batch, model.neighbors(x, batch), 2)
    turn = -random_rotations(1, generator=torch.Generator().manual_seed(0))[0].double()
    moved = x @ turn.T + 7.0
    again = model.outputs(moved, z, batch, model.neighbors(moved, batch), 2)
    assert torch.allclose(again.vectors, found.vectors @ turn.T, rtol=1e-9, atol=1e-11)
    assert torch.allclose(again.atoms, found.atoms, rtol=1e-9, atol=1e-11)
    assert float(found.vectors.detach().norm(dim=2).min()) > 1e-3
    numbers = torch.tensor([6, 8, 1])

    def at(r: float) -> tuple[float, float]:
        places = torch.tensor([[0.0, 0, 0], [1.1, 0, 0], [0, r, 0]], requires_grad=True)
        y = model(places, numbers, torch.zeros(3, dtype=torch.int64), model.neighbors(places.detach()), 1)[
            0, 0
        ]
        (g,) = torch.autograd.grad(y, places, create_graph=True)
        (second,) = torch.autograd.grad(g[2, 1], places)
        return float(g[2, 1].detach()), float(second[2, 1])

    inside, outside = at(3.0 - 1e-7), at(3.0 + 1e-7)
    assert abs(inside[0] - outside[0]) < 1e-9 and abs(inside[1] - outside[1]) < 1e-3


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected lmax of at least 1"):
        net(lmax=0, out_vectors=1)
    with pytest.raises(ValueError, match="hidden is"):
        net(hidden=())
