"""Icosahedral layers against a gather on the triangulated sphere, in any frames; the 60 rotations; corners; gradients."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from spheregeo.audit import randomise
from spheregeo.grids import HEALPix, Icosahedral
from spheregeo.nn.sphere.icosahedral import (
    FromCharts,
    IcosahedralBatchNorm,
    IcosahedralConv,
    IcosahedralPool,
    IcosahedralUpsample,
    OrientationPool,
    ToCharts,
)

F64 = torch.float64
TOLERANCE = 1e-12
SIZE = {"scalar": 1, "regular": 6}


@dataclass
class Lattice:
    """Neighbours and transport found from the triangles alone: nothing of charts but where each point's direction 0 points.

    ``near`` (N, 6) neighbours counter-clockwise, ``turn`` (N, 6) steps s with f_{q→p}[ρ] = f_q[ρ + s]; −1 at corners.
    """

    grid: Icosahedral
    near: Tensor
    turn: Tensor
    corners: Tensor
    around: Tensor

    @classmethod
    def of(cls, level: int, frames: Tensor | None = None) -> Lattice:
        """With ``frames`` (N,), point p counts its directions from its chart's direction frames[p]."""
        grid = Icosahedral(level)
        n, count = grid.side, grid.num_points
        after = torch.full((count, count), -1)
        for a, b, c in grid.faces.tolist():
            after[a, b], after[b, c], after[c, a] = c, a, b
        degree = (after >= 0).sum(1)
        corners = (degree == 5).nonzero()[:, 0]
        around = torch.stack([(after[p] >= 0).nonzero()[:, 0] for p in corners])
        near = torch.full((count, 6), -1)
        closed = grid.closed_chart_index
        near[closed[:, 1:, :-1].flatten(), 0] = closed[:, 1:, 1:].flatten()
        plain = degree == 6
        for d in range(5):
            near[plain, d + 1] = after[plain, near[plain, d]]
        near[~plain] = -1
        if frames is not None:
            near = near.gather(1, (torch.arange(6) + frames[:, None]) % 6)
        turn = torch.full((count, 6), -1)
        for p in plain.nonzero()[:, 0].tolist():
            for d, q in enumerate(near[p].tolist()):
                if plain[q]:
                    turn[p, d] = (int((near[q] == p).nonzero()) - d - 3) % 6
        assert len(corners) == 12 and n == 2**level
        return cls(grid, near, turn, corners, around)

    def corner_rule(self, x: Tensor, regular: bool) -> Tensor:
        """x (B, C, N) with zeros or means of five at the corners."""
        y = x.clone()
        y[:, :, self.corners] = 0 if regular else x[:, :, self.around].mean(3)
        return y

    def gather(self, x: Tensor, size: int) -> Tensor:
        """x (B, C · size, N) -> (B, C, size, N, 7): centre and neighbours, in the frame of the point; 0 at corners."""
        x = self.corner_rule(x, size > 1).unflatten(1, (-1, size))
        taps = [x]
        for d in range(6):
            values = x[..., self.near[:, d].clamp(0)]  # (B, C, size, N)
            if size > 1:
                order = (torch.arange(6)[:, None] + self.turn[:, d]) % 6  # (6, N)
                values = values.gather(2, order.expand_as(values))
                values = torch.where(self.turn[:, d] < 0, 0.0, values)  # from a corner
            taps.append(values)
        out = torch.stack(taps, -1)
        out[..., self.corners, :] = 0  # the rule follows
        return out

    def conv(self, x: Tensor, layer: IcosahedralConv) -> Tensor:
        """The docstring's sum, weight by weight."""
        size_in, size_out = SIZE[layer.in_type], SIZE[layer.out_type]
        values, weight = self.gather(x, size_in), layer.weight
        rows = []
        for rho in range(size_out):
            total: Tensor | float = 0.0
            for r in range(size_in):
                for tap in range(7 if layer.kernel_size == 3 else 1):
                    ring = (tap - 1 - (rho if size_out > 1 else r)) % 6
                    index = 0 if tap == 0 else 1 + ring
                    if size_in == size_out == 1:
                        index = min(index, 1)
                    if size_in == size_out == 6:
                        index = 6 * index + (r - rho) % 6
                    total = total + torch.einsum("oc,bcp->bop", weight[:, :, index], values[:, :, r, :, tap])
            rows.append(total)
        y = torch.stack(rows, 2)  # (B, O, size_out, N)
        if layer.bias is not None:
            y = y + layer.bias[:, None, None]
        return y.flatten(1, 2)


def halve(level: int) -> Tensor:
    """Points of the grid that are points of the coarser one, in its order."""
    fine, coarse = Icosahedral(level), Icosahedral(level - 1)
    distance = (fine.points[None] - coarse.points[:, None]).norm(dim=-1)
    assert distance.amin(1).max() < 1e-12
    return distance.argmin(1)


def expected_conv(lattice: Lattice, x: Tensor, layer: IcosahedralConv) -> Tensor:
    y = lattice.conv(x, layer)
    if layer.stride == 2:
        level = lattice.grid.level
        y, lattice = y[..., halve(level)], Lattice.of(level - 1)
    return lattice.corner_rule(y, layer.out_type == "regular")


def fields(level: int, channels: int, kind: str, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels * SIZE[kind], Icosahedral(level).num_points, dtype=F64)


def close(a: Tensor, b: Tensor) -> bool:
    return float(((a - b).norm() / b.norm()).detach()) < TOLERANCE


def moved(x: Tensor, grid: Icosahedral, lattice: Lattice, g: int, regular: bool) -> Tensor:
    """The field turned by the g-th rotation of the grid: (R f)(Rp) = f(p), orientations along."""
    assert grid.symmetry is not None
    go = grid.symmetry.permutations[g]
    y = torch.empty_like(x).index_copy_(2, go, x)
    if not regular:
        return y
    image = go[lattice.near[:, 0].clamp(0)]  # where direction 0 went
    step = torch.zeros(grid.num_points, dtype=torch.int64)
    found = lattice.near[go] == image[:, None]
    step[go] = torch.where(found.any(1), found.int().argmax(1), 0)
    order = (torch.arange(6)[:, None] - step) % 6
    y = y.unflatten(1, (-1, 6))
    return y.gather(2, order.expand_as(y)).flatten(1, 2)


TYPES = [("scalar", "scalar"), ("scalar", "regular"), ("regular", "regular"), ("regular", "scalar")]


@pytest.mark.parametrize(("in_type", "out_type"), TYPES)
@pytest.mark.parametrize(
    ("level", "stride", "kernel_size"), [(1, 1, 3), (3, 1, 3), (3, 2, 3), (2, 2, 1), (2, 1, 1)]
)
def test_conv2d_is_the_gather(in_type: str, out_type: str, level: int, stride: int, kernel_size: int) -> None:
    layer = IcosahedralConv(
        2, 3, level, in_type=in_type, out_type=out_type, stride=stride, kernel_size=kernel_size
    ).double()
    nn.init.normal_(layer.bias)
    x = fields(level, 2, in_type).requires_grad_()
    leaves = (x, layer.weight, layer.bias)
    y, expected = layer(x), expected_conv(Lattice.of(level), x, layer)
    assert y.shape == expected.shape and close(y, expected)
    g = torch.randn_like(y)
    for ours, theirs in zip(
        torch.autograd.grad(y, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True
    ):
        assert torch.isfinite(ours).all() and close(ours, theirs)


@pytest.mark.parametrize(("in_type", "out_type"), TYPES)
def test_frames_do_not_matter(in_type: str, out_type: str) -> None:
    level = 2
    layer = IcosahedralConv(2, 2, level, in_type=in_type, out_type=out_type).double()
    nn.init.normal_(layer.bias)
    frames = torch.randint(6, (Icosahedral(level).num_points,))
    order = (torch.arange(6)[:, None] + frames) % 6

    def reframe(f: Tensor, kind: str) -> Tensor:
        if kind == "scalar":
            return f
        f = f.unflatten(1, (-1, 6))
        return f.gather(2, order.expand_as(f)).flatten(1, 2)

    x = fields(level, 2, in_type)
    other = expected_conv(Lattice.of(level, frames), reframe(x, in_type), layer)
    assert close(other, reframe(layer(x), out_type))


@pytest.mark.parametrize("kind", ["scalar", "regular"])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_pooling_is_the_gather(kind: str, reduce: str) -> None:
    layer = IcosahedralPool(2, 3, in_type=kind, reduce=reduce)
    x = fields(3, 2, kind).requires_grad_()
    taps = Lattice.of(3).gather(x, SIZE[kind]).flatten(1, 2)
    pooled = taps.mean(-1) if reduce == "mean" else taps.amax(-1)
    expected = Lattice.of(2).corner_rule(pooled[..., halve(3)], kind == "regular")
    y = layer(x)
    assert close(y, expected)
    g = torch.randn_like(y)
    assert close(*(torch.autograd.grad(out, x, g)[0] for out in (y, expected)))


@pytest.mark.parametrize("kind", ["scalar", "regular"])
def test_interpolation_is_the_mean_of_both_ends(kind: str) -> None:
    coarse, fine = Lattice.of(2), Lattice.of(3)
    x = fields(2, 2, kind).requires_grad_()
    y = IcosahedralUpsample(2, 2, in_type=kind)(x)
    keep = halve(3)
    x0 = coarse.corner_rule(x, kind == "regular")
    expected = torch.zeros_like(y)
    expected[..., keep] = x0
    regular, corners = kind == "regular", set(coarse.corners.tolist())
    index = {int(q): p for p, q in enumerate(keep)}
    for m in set(range(fine.grid.num_points)) - set(index):
        total: Tensor | float = 0.0
        weight = 0
        for d, q in enumerate(fine.near[m].tolist()):
            if q in index and not (regular and index[q] in corners):
                value = x0[..., index[q]].unflatten(1, (-1, SIZE[kind]))
                total = total + (value.roll(-int(fine.turn[m, d]), 2) if regular else value)
                weight += 1
        expected[..., m] = (total / weight).flatten(1)  # type: ignore[union-attr]
    assert close(y, expected)
    g = torch.randn_like(y)
    assert close(*(torch.autograd.grad(out, x, g)[0] for out in (y, expected)))
    if kind == "scalar":
        ones = torch.ones(1, 2, coarse.grid.num_points, dtype=F64)
        torch.testing.assert_close(IcosahedralUpsample(2, 2, in_type=kind)(ones), torch.ones_like(y[:1]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["scalar", "regular"])
def test_norm_is_the_weighted_one(kind: str, training: bool) -> None:
    level, size = 2, SIZE[kind]
    lattice = Lattice.of(level)
    layer = randomise(IcosahedralBatchNorm(3, level, in_type=kind, momentum=0.25).double()).train(training)
    before = copy.deepcopy(layer)
    x = (fields(level, 3, kind) + 2).requires_grad_()
    y = layer(x)
    w = lattice.grid.areas.clone()
    w[lattice.corners] = 0
    w = w / w.sum()
    f = x.unflatten(1, (3, size))
    mean = (f * w).sum(-1).mean((0, 2))
    var = ((f - mean[:, None, None]).square() * w).sum(-1).mean((0, 2))
    if training:
        torch.testing.assert_close(layer.running_mean, 0.75 * before.running_mean + 0.25 * mean.detach())
        torch.testing.assert_close(layer.running_var, 0.75 * before.running_var + 0.25 * var.detach())
    else:
        mean, var = before.running_mean, before.running_var
    column = (slice(None), None, None)
    z = (f - mean[column]) * torch.rsqrt(var[column] + layer.eps)
    z = (z * layer.weight[column] + layer.bias[column]).flatten(1, 2)
    expected = lattice.corner_rule(z, kind == "regular")
    assert close(y, expected)
    g, leaves = torch.randn_like(y), (x, layer.weight, layer.bias)
    for a, b in zip(torch.autograd.grad(y, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True):
        assert close(a, b)


def layers(kind: str) -> list[nn.Module]:
    return [
        IcosahedralConv(2, 3, 3, in_type=kind),
        IcosahedralConv(2, 3, 3, in_type=kind, out_type="scalar", stride=2),
        IcosahedralConv(2, 3, 3, in_type=kind, kernel_size=1, stride=2),
        IcosahedralPool(2, 3, in_type=kind),
        IcosahedralPool(2, 3, in_type=kind, reduce="max"),
        IcosahedralUpsample(2, 3, in_type=kind),
        IcosahedralBatchNorm(2, 3, in_type=kind),
        *([OrientationPool(2, 3), OrientationPool(2, 3, reduce="mean")] if kind == "regular" else []),
    ]


@pytest.mark.parametrize("kind", ["scalar", "regular"])
def test_every_layer_commutes_with_rotations(kind: str) -> None:
    lattices = {level: Lattice.of(level) for level in (2, 3)} | {4: None}
    for layer in layers(kind):
        layer = randomise(layer.double()).train()
        source, target = layer.source, layer.target
        regular = layer.out_type == "regular"
        if target.level == 4:
            lattices[4] = lattices[4] or Lattice.of(4)
        x = fields(3, 2, kind, batch=1)
        y = layer(x)
        for g in (1, 7, 23, 42):
            turned = layer(moved(x, source, lattices[3], g, kind == "regular"))
            assert close(turned, moved(y, target, lattices[target.level], g, regular)), layer


@pytest.mark.parametrize("kind", ["scalar", "regular"])
def test_both_layouts_agree_and_corners_are_not_read(kind: str) -> None:
    corners = Lattice.of(3).corners
    for layer in layers(kind):
        layer = randomise(layer.double()).eval()
        x = fields(3, 2, kind)
        y = layer(x)
        assert close(y, FromCharts(layer.target.level, layer.out_type)(layer(ToCharts(3)(x))))
        x[:, :, corners] = torch.nan
        assert torch.equal(layer(x), y), f"{layer} reads a corner"


def test_a_white_signal_keeps_its_variance() -> None:
    for in_type, out_type in TYPES:
        layer = IcosahedralConv(8, 64, 3, in_type=in_type, out_type=out_type)
        y = layer(fields(3, 8, in_type).float())
        assert 0.8 < y.var() < 1.2, (in_type, out_type)


def test_errors_say_what_came_and_what_to_do() -> None:
    with pytest.raises(ValueError, match="in_type is 'vector'; expected one of 'scalar', 'regular'"):
        IcosahedralConv(1, 1, 3, in_type="vector")
    with pytest.raises(ValueError, match="level is 1; expected an integer >= 2"):
        IcosahedralConv(1, 1, 1, stride=2)
    with pytest.raises(ValueError, match=r"level is 0; expected an integer >= 1: .*corners"):
        ToCharts(0)
    with pytest.raises(ValueError, match="level is 1; expected an integer >= 2"):
        IcosahedralPool(1, 1)
    with pytest.raises(ValueError, match="stride is 3"):
        IcosahedralConv(1, 1, 3, stride=3)
    with pytest.raises(ValueError, match="kernel_size is 5"):
        IcosahedralConv(1, 1, 3, kernel_size=5)
    with pytest.raises(ValueError, match="out_channels is 0; expected an integer >= 1"):
        IcosahedralConv(1, 0, 3)
    with pytest.raises(ValueError, match="reduce is 'sum'; expected one of 'mean', 'max'"):
        OrientationPool(1, 3, reduce="sum")
    for bad in (
        torch.randn(1, 2, 642),
        torch.randn(1, 12, 641),
        torch.randn(1, 12, 5, 8, 8),
        torch.randn(12, 642),
    ):
        with pytest.raises(ValueError, match=r"expected \(batch, 12, 642\).*or \(batch, 12, 5, 8, 16\)"):
            IcosahedralConv(2, 1, 3)(bad)
    with pytest.raises(ValueError, match=r"expected \(batch, 1, 642\)"):
        FromCharts(3)(torch.randn(1, 1, 641))


def test_layers_take_the_grid_or_its_level() -> None:
    grid = Icosahedral(2)
    pairs = [
        (IcosahedralConv(1, 2, grid), IcosahedralConv(1, 2, 2)),
        (IcosahedralBatchNorm(2, grid), IcosahedralBatchNorm(2, 2)),
        (IcosahedralPool(1, grid), IcosahedralPool(1, 2)),
        (IcosahedralUpsample(1, grid), IcosahedralUpsample(1, 2)),
        (OrientationPool(1, grid), OrientationPool(1, 2)),
        (ToCharts(grid), ToCharts(2)),
        (FromCharts(grid), FromCharts(2)),
    ]
    for given, counted in pairs:
        assert given.level == counted.level == 2 and repr(given) == repr(counted)
    with pytest.warns(DeprecationWarning, match="argument level is called grid now"):
        assert ToCharts(level=2).level == 2
    with pytest.raises(ValueError, match=r"level is HEALPix.*or give the grid, Icosahedral\(level\)"):
        ToCharts(HEALPix(2))
