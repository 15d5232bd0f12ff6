"""``ImplicitConv`` with one evaluation of the kernel network for alike edges: beside kernels at the edges kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spheregeo.audit.randomise import randomise
from spheregeo.groups import octahedral, random_rotations
from spheregeo.harmonics import wigner_D
from spheregeo.nn import ImplicitConv
from spheregeo.nn.space import EdgeGeometry
from spheregeo.nn.space.implicit.gated_kernel import GatedNetwork

IN, OUT = "2x0e + 1x1o", "1x0e + 1x1o + 1x2e"
CASES = {
    "O3": {"group": "O3", "attributes": "2x0e"},
    "SO3": {"group": "SO3", "reduce": "sum", "num_neighbors": 5.0},
    "octahedral": {"group": "octahedral"},
    "D3": {"group": "D3", "attributes": "1x0e + 1x1o", "chunk": 11},
}


def build(case: dict, **more: object) -> ImplicitConv:
    conv = ImplicitConv(IN, OUT, **{"hidden": 3, "radius": 2.0, **case, **more})
    torch.manual_seed(0)
    conv.reset_parameters()
    return randomise(conv, torch.Generator().manual_seed(0)).double()


def cloud(conv: ImplicitConv, count: int = 12) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Random points, all pairs of the first of them, edges in no order; small attributes."""
    generator = torch.Generator().manual_seed(3)
    positions = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    edges = torch.cartesian_prod(torch.arange(count - 1), torch.arange(count - 1)).T
    edges = edges[:, torch.randperm(edges.shape[1], generator=generator)]
    x = torch.randn(count, conv.irreps_in.dim, dtype=torch.float64, generator=generator)
    if conv.attributes is None:
        return x, positions, edges, None
    a = torch.randn(edges.shape[1], conv.attributes.dim, dtype=torch.float64, generator=generator)
    return x, positions, edges, 0.1 * a


def crystal() -> tuple[Tensor, Tensor]:
    """Positions on a cubic lattice and edges up to the second neighbours."""
    axis = torch.arange(3.0, dtype=torch.float64)
    positions = torch.cartesian_prod(axis, axis, axis)
    distance = torch.cdist(positions, positions)
    return positions, ((distance > 0) & (distance < 1.5)).nonzero().T


def twin(conv: ImplicitConv, x: Tensor, geometry: EdgeGeometry, attributes: Tensor | None) -> Tensor:
    """Dense layer, edge by edge: kernels at the vectors of the edges that stand for others, lengths or sectors put right."""
    kept, which, element = conv.cover(geometry, attributes)
    stand = kept[which]
    vectors, others = geometry.vectors[stand], None if attributes is None else attributes[stand]
    if isinstance(conv.network, GatedNetwork):
        h, _ = conv.network(vectors, others)
        _, y = conv.network(geometry.vectors, others)
        kernel = conv.coupling.kernel(y[:, :, None] * h[:, None])
    else:
        assert conv.sectors is not None and element is not None
        matrices = conv.sectors.exact("matrices")
        turns = matrices[element] @ matrices[element[stand]].transpose(
            1, 2
        )  # from one's sector to the other's
        vectors = torch.einsum("eab,eb->ea", turns, vectors)
        if others is not None:
            others = torch.stack(
                [wigner_D(conv.attributes, g) @ a for g, a in zip(turns, others, strict=True)]
            )
        kernel = conv.kernel(vectors, others)
    messages = torch.einsum("eij,ej->ei", kernel, x[geometry.edges.source])
    y = geometry.scatter(messages)
    if conv.reduce == "mean":
        y = y / geometry.edges.pairs.indptr.diff().clamp(min=1)[:, None]
    else:
        y = y / conv.num_neighbors**0.5
    return y + conv.fixed()


@pytest.mark.parametrize("name", CASES)
def test_equals_the_kernels_of_the_edges_that_stand_for_others(name: str) -> None:
    conv = build(CASES[name], epsilon=0.5)
    x, positions, edges, attributes = cloud(conv)
    leaves = [t.requires_grad_() for t in (x, positions, attributes) if t is not None]
    found, inputs = [], [*leaves, *conv.parameters()]
    geometry = EdgeGeometry.of(positions, edges)
    if attributes is not None:
        order = torch.argsort(edges[1], stable=True)
        attributes = attributes[order]
    cover = conv.cover(geometry, attributes)
    assert 1 < len(cover.kept) < 0.9 * edges.shape[1]
    assert torch.equal(cover.which[cover.kept], torch.arange(len(cover.kept)))
    for y in (conv(x, geometry, attributes), twin(conv, x, geometry, attributes)):
        cotangent = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)
        found.append([y, *torch.autograd.grad((y * cotangent).sum(), inputs, retain_graph=True)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11 * max(1.0, float(b.detach().abs().max())))


@pytest.mark.parametrize("name", CASES)
def test_no_resolution_is_the_dense_layer(name: str) -> None:
    dense = build(CASES[name])
    x, positions, edges, attributes = cloud(dense)
    y = dense(x, positions, edges, attributes)
    assert torch.equal(build(CASES[name], epsilon=0.0)(x, positions, edges, attributes), y)
    # all other edges are their own: through the cells, with the same numbers
    fine = build(CASES[name], epsilon=1e-9)
    close = {"rtol": 0, "atol": 1e-10 * float(y.detach().abs().max())}
    torch.testing.assert_close(fine(x, positions, edges, attributes), y, **close)
    single = [None if t is None else t.float() for t in (x, positions, attributes)]
    a, b = (conv.float()(single[0], single[1], edges, single[2]) for conv in (dense, fine))
    torch.testing.assert_close(b, a, rtol=0, atol=1e-6 * float(a.detach().abs().max()))


@pytest.mark.parametrize("name", ["O3", "octahedral"])
def test_error_falls_with_the_resolution(name: str) -> None:
    conv = build(CASES[name], attributes=None)
    x, positions, edges, _ = cloud(conv)
    y = conv(x, positions, edges)
    errors, clusters = [], []
    for epsilon in (0.8, 0.2, 0.05, 0.0125):
        sampled = build(CASES[name], attributes=None, epsilon=epsilon)
        errors.append(float(((sampled(x, positions, edges) - y).norm() / y.norm()).detach()))
        clusters.append(len(sampled.cover(EdgeGeometry.of(positions, edges)).kept))
    assert errors == sorted(errors, reverse=True) and errors[0] > 10 * errors[-1] > 0
    assert clusters == sorted(clusters)


@pytest.mark.parametrize("name", CASES)
def test_equivariance(name: str) -> None:
    conv = build(CASES[name], epsilon=0.4)
    x, positions, edges, attributes = cloud(conv)
    # the self edges, which point nowhere, have no sector
    apart = edges[0] != edges[1]
    edges, attributes = edges[:, apart], None if attributes is None else attributes[apart]
    y = conv(x, positions, edges, attributes)
    turns = random_rotations(3) if conv.sectors is None else conv.sectors.exact("matrices")
    turns = torch.cat([turns, -turns]) if conv.group == "O3" else turns
    for g in turns:
        turned = None if attributes is None else attributes @ wigner_D(conv.attributes, g).T
        z = conv(x @ wigner_D(conv.irreps_in, g).T, positions @ g.T + 1, edges, turned)
        torch.testing.assert_close(
            z, y @ wigner_D(conv.irreps_out, g).T, rtol=0, atol=1e-11 * float(y.detach().abs().max())
        )


@pytest.mark.parametrize(("group", "clusters"), [("O3", 2), ("octahedral", 2), ("C4", 6)])
def test_a_crystal_has_few_edges(group: str, clusters: int) -> None:
    positions, edges = crystal()
    dense, conv = build({"group": group}), build({"group": group}, epsilon=0.01)
    geometry = EdgeGeometry.of(positions, edges)
    x = torch.randn(27, dense.irreps_in.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = conv(x, geometry)
    assert len(conv.cover(geometry).kept) == clusters
    assert conv.cover(geometry) is conv.cover(geometry)  # made once for a cloud
    torch.testing.assert_close(y, dense(x, geometry), rtol=0, atol=1e-12)
    if group == "octahedral":
        g = octahedral()[5]
        z = conv(x @ wigner_D(conv.irreps_in, g).T, positions @ g.T, edges)
        torch.testing.assert_close(z, y @ wigner_D(conv.irreps_out, g).T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["O3", "octahedral"])
def test_transforms_see_the_same_numbers(name: str) -> None:
    conv = build(CASES[name], attributes=None, epsilon=0.4)
    x, positions, edges, _ = cloud(conv)
    geometry = EdgeGeometry.of(positions, edges)
    plain = torch.autograd.grad(conv(x.requires_grad_(), geometry).square().sum(), x)[0]
    mapped = torch.func.grad(lambda given: conv(given, geometry).square().sum())(x.detach())
    torch.testing.assert_close(mapped, plain, rtol=0, atol=1e-10)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="epsilon is -1"):
        ImplicitConv(IN, OUT, epsilon=-1.0)
    with pytest.raises(ValueError, match=r"epsilon is 0\.1; expected 0 for nonlinearity 'product'"):
        ImplicitConv(IN, OUT, epsilon=0.1, attributes="1x1o")
    conv = ImplicitConv(IN, OUT, epsilon=0.1)
    none = torch.zeros(2, 0, dtype=torch.int64)
    assert torch.equal(conv(torch.ones(2, 5), torch.zeros(2, 3), none), conv.fixed().expand(2, -1))
