"""The steerable convolution: three methods and e3nn agree; equivariance, gradients, periodic images, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from e3nn import o3
from e3nn.util.test import assert_equivariant
from torch import Tensor

from spheregeo.audit import randomise
from spheregeo.harmonics import wigner_D
from spheregeo.nn.space import EdgeGeometry, EdgeList, SO2Linear, SteerableConv
from spheregeo.nn.space.geometry import curve_order
from spheregeo.nn.space.steerable.so2 import rotate

IN = "3x0e + 2x0o + 4x1o + 2x1e + 3x2e + 2x2o + 1x3o + 1x3e + 1x4e + 1x4o"
OUT = "2x0e + 1x0o + 3x1o + 2x1e + 2x2e + 3x2o + 2x3o + 1x3e + 1x4e + 1x4o"
POINTS, EDGES, HEADS = 9, 50, 3
KINDS: dict[str, dict[str, Any]] = {
    "shared": {},
    "edge weights": {"edge_dim": HEADS},
    "depthwise": {"edge_dim": HEADS, "depthwise": True},
}


class Cloud:
    """Random points and edges: loops, edges along ±ŷ, and a point without edges among them."""

    def __init__(self, dtype: torch.dtype = torch.float64, kind: str = "shared", seed: int = 1) -> None:
        draw = torch.Generator().manual_seed(seed)
        positions = torch.randn(POINTS, 3, generator=draw, dtype=torch.float64)
        positions[1] = positions[0] + torch.tensor([0.0, 1.5, 0.0])
        edge_index = torch.randint(0, POINTS - 1, (2, EDGES), generator=draw)
        edge_index[:, :3] = torch.tensor([[0, 1, 2], [1, 0, 2]])
        self.edge_index = edge_index[:, torch.argsort(edge_index[1], stable=True)]
        self.positions = positions.to(dtype).requires_grad_()
        dim = o3.Irreps(IN).dim
        self.x = torch.randn(POINTS, dim, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
        features = torch.randn(EDGES, HEADS, generator=draw, dtype=torch.float64).to(dtype)
        self.features = None if kind == "shared" else features.requires_grad_()

    def run(self, conv: SteerableConv) -> Tensor:
        y: Tensor = conv(self.x, self.positions, self.edge_index, edge_features=self.features)
        return y

    def leaves(self, conv: SteerableConv) -> list[Tensor]:
        own = [self.x, self.positions, *([] if self.features is None else [self.features])]
        return [*own, *conv.parameters()]


def conv_of(method: str | None, kind: str, lmax: int = 4, **options: Any) -> SteerableConv:
    torch.manual_seed(0)
    conv = SteerableConv(IN, OUT, lmax=lmax, method=method, num_neighbors=5.0, **KINDS[kind], **options)
    return conv.double()


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    assert float((a - b).detach().abs().max()) <= tolerance * float(b.detach().abs().max())


@pytest.mark.parametrize("kind", list(KINDS))
def test_methods_agree_to_second_derivatives(kind: str) -> None:
    """Output, gradients of features, positions, edge features and weights, and the derivatives of them all."""
    cloud = Cloud(kind=kind)
    found = []
    for method in ("tensor", "product", "so2", "unrolled"):
        if (method, kind) in (("so2", "depthwise"), ("unrolled", "edge weights")):
            continue
        conv = conv_of(method, kind)
        y = cloud.run(conv)
        draw = torch.Generator().manual_seed(7)

        def normal(t: Tensor, draw: torch.Generator = draw) -> Tensor:
            return torch.randn(t.shape, generator=draw, dtype=torch.float64)

        first = torch.autograd.grad(y, cloud.leaves(conv), normal(y), create_graph=True)
        second = torch.autograd.grad(sum((g * normal(g)).sum() for g in first), cloud.leaves(conv))
        found.append([y, *first, *second])
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            close(a, b, 1e-12)


@pytest.mark.parametrize("lmax", [0, 2, 4])
def test_weights_go_to_e3nn_and_back(lmax: int) -> None:
    irreps = " + ".join(
        f"2x{l}{'e' if (l % 2 == 0) == even else 'o'}" for l in range(4) for even in (True, False)
    )
    x = torch.randn(POINTS, o3.Irreps(irreps).dim, dtype=torch.float64)
    cloud = Cloud()
    geometry = EdgeGeometry.of(cloud.positions.detach(), cloud.edge_index)
    conv = SteerableConv(irreps, irreps, lmax=lmax, num_neighbors=7.0).double()
    product = conv.to_e3nn()
    harmonics = o3.Irreps.spherical_harmonics(lmax)
    y = o3.spherical_harmonics(harmonics, geometry.vectors, True, "component")
    # e3nn's harmonics of a loop are those of no direction, too: degree 0 alone
    expected = geometry.scatter(product(x[geometry.edges.source], y))
    for method in ("product", "so2"):
        other = SteerableConv(irreps, irreps, lmax=lmax, num_neighbors=7.0, method=method).double()
        close(other.load_e3nn(product)(x, geometry), expected, 1e-12)


@pytest.mark.parametrize(
    ("kind", "method"), [*((kind, "product") for kind in KINDS), ("shared", "so2"), ("edge weights", "so2")]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_equivariant(kind: str, method: str, dtype: torch.dtype, tolerance: float) -> None:
    cloud = Cloud(dtype, kind)
    conv = conv_of(method, kind).to(dtype)

    def run(x: Tensor, positions: Tensor) -> Tensor:
        y: Tensor = conv(x, positions, cloud.edge_index, edge_features=cloud.features)
        return y

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # e3nn draws rotations in it
    try:
        assert_equivariant(
            run, [cloud.x.detach(), cloud.positions.detach()], [conv.irreps_in, "cartesian_points"],
            [conv.irreps_out], ntrials=3, do_parity=True, do_translation=True, tolerance=tolerance,
        )  # fmt: skip
    finally:
        torch.set_default_dtype(before)


def test_orders_beyond_mmax_are_left_out_equivariantly() -> None:
    cloud = Cloud()
    full, less = conv_of("so2", "shared"), conv_of("so2", "shared", mmax=1)
    y, z = cloud.run(full), cloud.run(less)
    assert float((y - z).detach().norm()) > 0.1 * float(y.detach().norm())
    rotation = -o3.rand_matrix(dtype=torch.float64)
    turned = less(
        cloud.x @ wigner_D(full.irreps_in, rotation).T, cloud.positions @ rotation.T, cloud.edge_index
    )
    close(turned, z @ wigner_D(full.irreps_out, rotation).T, 1e-11)


@pytest.mark.parametrize("kind", list(KINDS))
def test_permuting_points_and_edges(kind: str) -> None:
    cloud, conv = Cloud(kind=kind), conv_of("product", kind)
    order = torch.randperm(POINTS)
    where = torch.argsort(order)
    shuffle = torch.randperm(EDGES)
    features = None if cloud.features is None else cloud.features[shuffle]
    y = conv(
        cloud.x[order], cloud.positions[order], where[cloud.edge_index][:, shuffle], edge_features=features
    )
    close(y, cloud.run(conv)[order], 1e-13)


@pytest.mark.parametrize("kind", list(KINDS))
def test_chunks_change_nothing(kind: str) -> None:
    cloud = Cloud(kind=kind)
    found = []
    for chunk in (None, 7):
        conv = conv_of("product", kind, chunk=chunk)
        y = cloud.run(conv)
        found.append([y, *torch.autograd.grad(y.square().sum(), cloud.leaves(conv))])
    for a, b in zip(*found, strict=True):
        close(a, b, 1e-12)


@pytest.mark.parametrize("chunk", [None, 7])
def test_order_of_work_changes_nothing(chunk: int | None) -> None:
    cloud = Cloud(kind="depthwise")
    found = []
    for order in (None, torch.randperm(POINTS)):
        conv = conv_of("product", "depthwise", chunk=chunk)
        edges = EdgeList.of(cloud.edge_index, POINTS)
        edges = edges._replace(pairs=edges.pairs._replace(order=order))
        y = conv(cloud.x, cloud.positions, edges, edge_features=cloud.features)
        found.append([y, *torch.autograd.grad(y.square().sum(), cloud.leaves(conv))])
    for a, b in zip(*found, strict=True):
        close(a, b, 1e-12)


def test_curve_order_keeps_neighbours_together() -> None:
    points = torch.rand(4096, 3, dtype=torch.float64)
    order = curve_order(points)
    assert torch.equal(order.sort().values, torch.arange(4096))
    step = (points[order][1:] - points[order][:-1]).norm(dim=1).median()
    assert float(step) < 0.2 * float((points[1:] - points[:-1]).norm(dim=1).median())
    assert torch.equal(curve_order(torch.ones(3, 3)).sort().values, torch.arange(3))  # all in one place


def test_sources_and_targets_may_differ() -> None:
    conv = SteerableConv("4x0e + 3x1o", "5x1o", lmax=2).double()
    sources, targets = torch.randn(8, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    edge_index = torch.tensor([[0, 7, 3, 3, 5], [2, 0, 0, 1, 2]])
    x = torch.randn(8, 13, dtype=torch.float64)
    y = conv(x, (sources, targets), edge_index)
    every = torch.cat([sources, targets])
    padded = torch.cat([x, x.new_zeros(3, 13)])
    expected = conv(padded, every, edge_index + torch.tensor([[0], [8]]))[8:]
    close(y, expected, 1e-14)


def test_periodic_shift_moves_the_source() -> None:
    conv = SteerableConv("4x0e + 3x1o", "5x1o", lmax=2).double()
    positions, x = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 13, dtype=torch.float64)
    shift = torch.tensor([[3.0, -1.0, 2.0]], dtype=torch.float64)
    geometry = EdgeGeometry.of(positions, torch.tensor([[0], [1]]), shift=shift)
    moved = positions + torch.cat([shift, torch.zeros_like(shift)])
    close(conv(x, geometry), conv(x, moved, torch.tensor([[0], [1]])), 1e-14)
    with pytest.raises(ValueError, match=r"shift is torch\.int64; expected lengths"):
        EdgeGeometry.of(positions, torch.tensor([[0], [1]]), shift=shift.long())


def test_output_components_have_unit_variance() -> None:
    conv = SteerableConv("16x0e + 16x1o + 16x2e", "16x0e + 16x1o + 16x2e + 8x3o", lmax=3, num_neighbors=8.0)
    targets = torch.arange(400).repeat_interleave(8)
    edges = EdgeList.of(torch.stack([torch.randint(0, 400, (3200,)), targets]), 400)
    y = conv(torch.randn(400, conv.irreps_in.dim), EdgeGeometry(torch.randn(3200, 3), edges))
    for part in conv.irreps_out.slices():
        assert 0.8 < float(y[:, part].detach().square().mean()) < 1.2


def test_gradients_check() -> None:
    conv = SteerableConv("2x0e + 2x1o", "1x0e + 2x1o", lmax=2, edge_dim=2, depthwise=True).double()
    positions = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    edge_index = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 2, 0, 0]])
    x = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    features = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    far = positions.detach() + torch.arange(4.0)[:, None]
    run = lambda x, p, f: conv(x, p + far, edge_index[:, :4], edge_features=f[:4])  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, positions, features), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, positions, features), fast_mode=True)


@pytest.mark.parametrize("method", ["product", "so2"])
def test_no_edges_and_one_point(method: str) -> None:
    conv = SteerableConv("2x0e + 2x1o", "1x0e + 2x1o", lmax=2, method=method)
    x = torch.randn(1, 8, requires_grad=True)
    y = conv(x, torch.zeros(1, 3), torch.zeros(2, 0, dtype=torch.int64))
    assert y.shape == (1, 7) and not y.any()
    assert not torch.autograd.grad(y.sum(), x)[0].any()


@pytest.mark.parametrize("chunk", [2, 3, 4, 8])
def test_chunks_reach_targets_behind_the_last_edge(chunk: int) -> None:
    """Points 4 to 6 have no edges, and the number of edges is a multiple of most chunks."""
    conv = SteerableConv("2x0e + 2x1o", "1x0e + 2x1o", lmax=1, chunk=chunk).double()
    edge_index = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0], [0, 0, 1, 1, 2, 2, 3, 3]])
    x, positions = torch.randn(7, 8, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    y = conv(x, positions, edge_index)
    conv.chunk = None
    assert y.shape == (7, 7) and not y[4:].any()
    close(y, conv(x, positions, edge_index), 1e-14)


@pytest.mark.parametrize("method", ["product", "so2"])
def test_geometry_first_used_without_gradients(method: str) -> None:
    cloud = Cloud()
    conv = conv_of(method, "shared", lmax=2)
    geometry = EdgeGeometry.of(cloud.positions, cloud.edge_index)
    with torch.no_grad():
        conv(cloud.x, geometry)
        assert not geometry.lengths.requires_grad
    (found,) = torch.autograd.grad(conv(cloud.x, geometry).sum() + geometry.lengths.sum(), cloud.positions)
    fresh = EdgeGeometry.of(cloud.positions, cloud.edge_index)
    expected = torch.autograd.grad(conv(cloud.x, fresh).sum() + fresh.lengths.sum(), cloud.positions)[0]
    close(found, expected, 1e-14)


def test_layers_are_unrolled_where_they_can_be() -> None:
    assert [conv_of(None, kind, lmax=1).unroll() for kind in KINDS] == [True, False, True]
    asked = conv_of("product", "shared", lmax=1)
    assert not asked.unroll() and asked.method == "product"
    with pytest.raises(ValueError, match="'unrolled' mixes no channels on edges"):
        conv_of("unrolled", "edge weights")


@pytest.mark.parametrize("method", ["product", "so2", "tensor", "unrolled"])
def test_no_points(method: str) -> None:
    conv = SteerableConv("2x0e + 2x1o", "1x0e + 2x1o", lmax=2, method=method)
    assert conv(torch.zeros(0, 8), torch.zeros(0, 3), torch.zeros(2, 0, dtype=torch.int64)).shape == (0, 7)


def test_single_and_double_precision_do_not_mix() -> None:
    conv = SteerableConv("2x0e + 2x1o", "1x0e + 2x1o", lmax=2)
    edges = torch.tensor([[0, 1], [1, 2]])
    with pytest.raises(ValueError, match=r"x is torch.float32 but positions are torch.float64"):
        conv(torch.randn(3, 8), torch.randn(3, 3, dtype=torch.float64), edges)


def test_two_layers_in_one_frame_are_equivariant() -> None:
    first, second = (
        SO2Linear(IN, "4x0e + 3x1o + 2x1e + 2x2e").double(),
        SO2Linear("4x0e + 3x1o + 2x1e + 2x2e", OUT).double(),
    )
    randomise(first)
    randomise(second)
    irreps = [o3.Irreps(IN), o3.Irreps(OUT)]
    vectors = torch.randn(6, 3, dtype=torch.float64)
    stacks = [torch.randn(6, ir.dim, mul, dtype=torch.float64) for mul, ir in irreps[0]]

    def run(vectors: Tensor, stacks: list[Tensor]) -> list[Tensor]:
        edges = EdgeList.of(torch.stack([torch.arange(6)] * 2), 6)
        frames = EdgeGeometry(vectors, edges).frames(4)
        inside = second(first(rotate(stacks, frames, [ir.l for _, ir in irreps[0]])))
        return rotate(inside, frames, [ir.l for _, ir in irreps[1]], back=True)

    rotation = -o3.rand_matrix(dtype=torch.float64)
    turned = run(
        vectors @ rotation.T,
        [wigner_D(str(ir), rotation) @ s for s, (_, ir) in zip(stacks, irreps[0], strict=True)],
    )
    for a, b, (_, ir) in zip(turned, run(vectors, stacks), irreps[1], strict=True):
        close(a, wigner_D(str(ir), rotation) @ b, 1e-11)


def test_bad_input_is_named() -> None:
    conv = SteerableConv("2x0e + 2x1o", "1x0e", lmax=1, edge_dim=2)
    positions, edges = torch.randn(3, 3), torch.tensor([[0, 1], [1, 2]])
    with pytest.raises(ValueError, match=r"x has shape \(3, 7\)"):
        conv(torch.randn(3, 7), positions, edges, edge_features=torch.randn(2, 2))
    with pytest.raises(ValueError, match="edge_features has shape None"):
        conv(torch.randn(3, 8), positions, edges)
    with pytest.raises(ValueError, match=r"edge_features has shape \(3, 2\)"):
        conv(torch.randn(3, 8), positions, edges, edge_features=torch.randn(3, 2))
    with pytest.raises(ValueError, match="edge_index runs from 0 to 5"):
        conv(torch.randn(3, 8), positions, torch.tensor([[0, 5], [1, 2]]), edge_features=torch.randn(2, 2))
    with pytest.raises(ValueError, match="positions has shape"):
        conv(torch.randn(3, 8), positions[:, :2], edges, edge_features=torch.randn(2, 2))
    with pytest.raises(ValueError, match="check parities"):
        SteerableConv("2x0e", "1x1e", lmax=2)
    with pytest.raises(ValueError, match="give edge_dim"):
        SteerableConv("2x0e", "1x1o", lmax=2, depthwise=True)
    with pytest.raises(ValueError, match="method is 'fast'"):
        SteerableConv("2x0e", "1x1o", lmax=2, method="fast")
    with pytest.raises(ValueError, match="mmax is 1"):
        SteerableConv("2x0e", "1x1o", lmax=2, mmax=1)
    with pytest.raises(ValueError, match="num_neighbors is 0"):
        SteerableConv("2x0e", "1x1o", lmax=2, num_neighbors=0)
    with pytest.raises(ValueError, match="only a layer with shared weights"):
        conv.to_e3nn()
