"""A training step of SEGNN at its size for QM9, beside the same network on e3nn's layers with the same weights.

32 molecules of 18 atoms, four neighbours each: 576 atoms, 2304 edges. Everything is included: embedding, harmonics, frames, head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cases.configuration import PointConfiguration
from measure import Work
from spheregeo.models import SEGNN, MoleculeGraph, pooled

ELEMENTS, ATOMS, NEIGHBOURS = 5, 18, 4


def molecules(count: int) -> tuple[Tensor, Tensor, Tensor, MoleculeGraph]:
    """Positions, kinds, molecules and edges."""
    torch.manual_seed(0)
    atoms = count * ATOMS
    batch = torch.arange(atoms) // ATOMS
    target = torch.arange(atoms).repeat_interleave(NEIGHBOURS)
    step = torch.randint(1, ATOMS, (len(target),))
    source = target - target % ATOMS + (target % ATOMS + step) % ATOMS
    return (
        torch.randn(atoms, 3),
        torch.randint(ELEMENTS, (atoms,)),
        batch,
        MoleculeGraph(torch.stack([source, target])),
    )


def network(depth: int) -> SEGNN:
    torch.manual_seed(1)
    return SEGNN(ELEMENTS, 1, width=128, depth=depth)


def ours(count: int, depth: int) -> Callable[[], Work]:
    def build() -> Work:
        x, z, batch, graph = molecules(count)
        net = network(depth)
        return Work(lambda: net(x, z, batch, graph, count), tuple(net.parameters()))

    return build


class Product(nn.Module):
    """e3nn's product with the weights of one of ours, its bias, and e3nn's gate where the result is gated."""

    def __init__(self, own: Any, terms: Any, gate: Any = None) -> None:
        from e3nn.nn import Gate
        from e3nn.o3 import FullyConnectedTensorProduct, Irreps

        super().__init__()
        self.product = FullyConnectedTensorProduct(
            terms, Irreps.spherical_harmonics(own.lmax), own.irreps_out
        )
        with torch.no_grad():  # what ours has for each of theirs: weights of ones show the factors
            theirs, read = [], 0
            rows = {(p.source, p.degree, p.target): p.row for p in own.table.paths}
            given, out = Irreps(terms), own.irreps_out
            for ins in self.product.instructions:
                a, b = given[ins.i_in1].ir, out[ins.i_out].ir
                t = own.table.targets.index(b)
                first = rows[own.table.sources.index(a), ins.i_in2, t]
                first += sum(m for m, ir in given[: ins.i_in1] if ir == a)
                weight = own.weights[t][0, first : first + ins.path_shape[0]]
                theirs.append((weight * b.dim**0.5 / ins.path_weight).flatten())
                read += weight.numel()
            self.product.weight.copy_(torch.cat(theirs))
        self.bias = nn.Parameter(own.bias.detach().clone())
        self.gate = None
        if gate is not None:
            h = gate.irreps_out
            self.gate = Gate(h[:1], [torch.nn.functional.silu], f"{gate.gates}x0e", [torch.sigmoid], h[1:])

    def forward(self, x: Tensor, attributes: Tensor) -> Tensor:
        y = self.product(x, attributes)
        n = len(self.bias)
        y = torch.cat([y[:, :n] + self.bias, y[:, n:]], 1)
        return y if self.gate is None else self.gate(y)


class Twin(nn.Module):
    """SEGNN on e3nn's products, gates and harmonics, one message an edge; embedding, norms and head are ours."""

    def __init__(self, net: SEGNN) -> None:
        super().__init__()
        from e3nn.o3 import Irreps

        h = net.irreps
        self.net, trunk = [net], net.trunk
        self.layers = nn.ModuleList()
        for layer in trunk.layers:
            products = [
                Product(layer.message1, Irreps([*h, *h, (1, "0e")]), layer.gate),
                Product(layer.message2, h, layer.gate),
                Product(layer.update1, h + h, layer.gate),
                Product(layer.update2, h),
            ]
            self.layers.append(nn.ModuleList([*products, layer.norm]))
        self.last = nn.ModuleList([Product(trunk.last1, h, trunk.gate), Product(trunk.last2, h)])

    def forward(self, x: Tensor, z: Tensor, batch: Tensor, graph: MoleculeGraph, count: int) -> Tensor:
        from e3nn.o3 import Irreps, spherical_harmonics

        from spheregeo.nn.irreps import Stacks

        net = self.net[0]
        source, target = graph.edge_index
        r = graph.vectors(x)
        a = spherical_harmonics(
            Irreps.spherical_harmonics(net.trunk.lmax_attributes), r, True, normalization="component"
        )
        around = a.new_zeros(len(x), a.shape[1]).index_add(0, target, a) / NEIGHBOURS
        around = torch.cat([torch.ones_like(around[:, :1]), around[:, 1:]], 1)
        square = r.square().sum(1, keepdim=True)
        f = net.embedded(z, around).to_mul_ir()
        for message1, message2, update1, update2, norm in self.layers:
            m = message2(message1(torch.cat([f[target], f[source], square], 1), a), a)
            m = torch.zeros_like(f).index_add(0, target, m)
            f = f + update2(update1(torch.cat([f, m], 1), around), around)
            f = norm(Stacks.from_mul_ir(f, net.irreps), batch, count).to_mul_ir()
        f = self.last[1](self.last[0](f, around), around)
        return pooled(net.head(f), batch, count, "sum")


def peer(count: int, depth: int) -> Callable[[], Work]:
    def build() -> Work:
        x, z, batch, graph = molecules(count)
        net = network(depth)
        twin = Twin(net)
        leaves = (*twin.parameters(), *net.head.parameters(), *net.embedding.parameters())
        return Work(lambda: twin(x, z, batch, graph, count), leaves)

    return build


def agree(works: dict[str, Work]) -> None:
    """Raise unless both give the same values; e3nn knows the constants of its activations to 1e-3."""
    with torch.no_grad():
        a, b = works["spheregeo"].forward(), works["e3nn"].forward()
    assert float((a - b).norm() / b.norm()) < 3e-2, f"values differ: {a[:3, 0].tolist()}, {b[:3, 0].tolist()}"


def configuration(count: int, depth: int, small: PointConfiguration | None) -> PointConfiguration:
    builders = {"spheregeo": ours(count, depth), "e3nn": peer(count, depth)}
    size = f"{count} molecules, {count * ATOMS} atoms, {count * ATOMS * NEIGHBOURS} edges"
    return PointConfiguration(
        "segnn", size, f"H = 128, {depth} layers", count * ATOMS, 36, builders, small, agree
    )


def cases() -> list[PointConfiguration]:
    return [configuration(32, 7, configuration(2, 1, None))]
