"""DISCO layers that take over torch-harmonics 0.9.3's weights compute what torch-harmonics computes."""

from __future__ import annotations

import math

import pytest
import torch

from spheregeo.grids import Equiangular, GaussLegendre, HEALPix
from spheregeo.kernels import NORMALIZATIONS
from spheregeo.nn import DiscoConv, DiscoConvTranspose

th = pytest.importorskip("torch_harmonics")

Shape = tuple[int, int]
EQUIANGULAR, LEGENDRE = "equiangular", "legendre-gauss"
BASES = [("piecewise linear", s) for s in (2, 3, (3, 3), (4, 3))]
BASES += [("harmonic", (3, 3)), ("zernike", 3), ("fourier-bessel", (2, 2))]
PAIRS = [
    (EQUIANGULAR, (13, 24), EQUIANGULAR, (13, 24)),
    (LEGENDRE, (12, 24), LEGENDRE, (12, 24)),
    (EQUIANGULAR, (13, 24), EQUIANGULAR, (7, 12)),
    (LEGENDRE, (12, 24), LEGENDRE, (6, 8)),
    (EQUIANGULAR, (13, 24), LEGENDRE, (7, 4)),
    (LEGENDRE, (12, 24), EQUIANGULAR, (7, 24)),
]


def compare(module: torch.nn.Module, layer: torch.nn.Module, shape: Shape, rows: slice = slice(None)) -> None:
    """Outputs, input gradients and weight gradients of both."""
    x = torch.randn(2, 4, *shape, dtype=torch.float64)
    outputs, gradients = [], []
    for each in (module, layer):
        each.double().zero_grad()
        at = x.clone().requires_grad_()
        y = each(at)[:, :, rows]
        cotangent = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view_as(y)
        (y * cotangent).sum().backward()
        outputs.append(y.detach())
        gradients.append((at.grad, each.weight.grad, each.bias.grad))
    scale = float(outputs[0].abs().max())
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-9 * scale)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-9 * float(a.abs().max()))


def randomise(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()


# Every basis and pair of grids, every mode on every pair and with every basis; coefficients are tested in full elsewhere.
CASES = [
    (*pair, *basis, NORMALIZATIONS[(i + j) % 6])
    for i, pair in enumerate(PAIRS)
    for j, basis in enumerate(BASES)
]
CASES += [(*PAIRS[1], "piecewise linear", (4, 3), mode) for mode in NORMALIZATIONS]


@pytest.mark.parametrize(("grid_in", "in_shape", "grid_out", "out_shape", "basis", "shape", "mode"), CASES)
def test_convolution(
    grid_in: str, in_shape: Shape, grid_out: str, out_shape: Shape, basis: str, shape: int | Shape, mode: str
) -> None:
    if grid_in == grid_out == EQUIANGULAR and shape == (4, 3):
        pytest.skip(
            "hats of an even number of rings depend on the angle at distance 0, which at poles is rounding"
        )
    module = th.DiscreteContinuousConvS2(
        4,
        6,
        in_shape,
        out_shape,
        shape,
        basis,
        mode,
        groups=2,
        grid_in=grid_in,
        grid_out=grid_out,
        theta_cutoff=2.3 * math.pi / (out_shape[0] - 1),
        optimized_kernel=False,
    )
    randomise(module)
    layer = DiscoConv.from_torch_harmonics(module, grid_in=grid_in, grid_out=grid_out, basis_norm_mode=mode)
    assert layer.source.shape == in_shape and layer.target.shape == out_shape and layer.groups == 2
    # Two pole rows meet in points whose angle is rounding in theirs; it decides which angular hats such a point counts to.
    poles = grid_in == grid_out == EQUIANGULAR and shape == (3, 3) and mode in ("support", "modal")
    compare(module, layer, in_shape, slice(1, -1) if poles and basis == "piecewise linear" else slice(None))


@pytest.mark.parametrize("mode", NORMALIZATIONS)
@pytest.mark.parametrize(("basis", "shape"), [("piecewise linear", 3), ("piecewise linear", (3, 3))])
@pytest.mark.parametrize(
    ("grid", "coarse", "fine"), [(EQUIANGULAR, (7, 12), (13, 24)), (LEGENDRE, (6, 8), (12, 24))]
)
def test_transposed_convolution(
    grid: str, coarse: Shape, fine: Shape, basis: str, shape: int | Shape, mode: str
) -> None:
    module = th.DiscreteContinuousConvTransposeS2(
        4,
        6,
        coarse,
        fine,
        shape,
        basis,
        mode,
        groups=2,
        grid_in=grid,
        grid_out=grid,
        theta_cutoff=2.3 * math.pi / (coarse[0] - 1),
        optimized_kernel=False,
    )
    randomise(module)
    layer = DiscoConvTranspose.from_torch_harmonics(module, grid_in=grid, grid_out=grid, basis_norm_mode=mode)
    assert layer.source.shape == coarse and layer.target.shape == fine
    # In these modes the fine pole rows of theirs hang on the angle of a coincident point, which is rounding; so does what
    # the south pole's filters count as their support, as far as they reach.
    rows = {"nodal": slice(1, -1), "support": slice(1, -6), "modal": slice(1, -6)}
    poles = grid == EQUIANGULAR and shape != 3
    compare(module, layer, coarse, rows.get(mode, slice(None)) if poles else slice(None))


@pytest.mark.parametrize(
    ("grid_in", "in_shape", "grid_out", "out_shape", "mode"),
    [(*PAIRS[i % 6], mode) for i, mode in enumerate(NORMALIZATIONS)],
)
def test_grids_and_mode_are_found(
    grid_in: str, in_shape: Shape, grid_out: str, out_shape: Shape, mode: str
) -> None:
    module = th.DiscreteContinuousConvS2(
        4, 2, in_shape, out_shape, (3, 3), "piecewise linear", mode, 1, grid_in, grid_out, theta_cutoff=0.5
    )
    layer = DiscoConv.from_torch_harmonics(module)
    grids = {EQUIANGULAR: lambda s: Equiangular(*s, poles=True), LEGENDRE: lambda s: GaussLegendre(*s)}
    assert layer.source == grids[grid_in](in_shape) and layer.target == grids[grid_out](out_shape)
    assert layer.normalization == mode and layer.moments is None
    assert layer.weight.dtype == module.weight.dtype and layer.weight is not module.weight
    randomise(module)
    layer = DiscoConv.from_torch_harmonics(module)
    # The south pole's row sees points on the borders of angular hats, which rounding counts in or out in theirs.
    compare(module, layer, in_shape, slice(0, -1) if mode == "modal" else slice(None))


def test_transposed_grids_and_mode_are_found() -> None:
    module = th.DiscreteContinuousConvTransposeS2(
        4, 2, (6, 8), (13, 24), 3, "harmonic", "mean", 1, LEGENDRE, EQUIANGULAR, theta_cutoff=0.9
    )
    layer = DiscoConvTranspose.from_torch_harmonics(module)
    assert layer.source == GaussLegendre(6, 8) and layer.target == Equiangular(13, 24, poles=True)
    assert layer.normalization == "mean"
    compare(module, layer, (6, 8))


def test_a_module_in_float32() -> None:
    module = th.DiscreteContinuousConvS2(4, 2, (9, 16), (9, 16), (3, 3), bias=False).float()
    layer = DiscoConv.from_torch_harmonics(module)
    assert layer.bias is None and layer.weight.dtype == layer.map.values.dtype == torch.float32
    x = torch.randn(2, 4, 9, 16)
    torch.testing.assert_close(layer(x), module(x), rtol=1e-4, atol=1e-4)


def test_weights_travel_back() -> None:
    make = lambda: th.DiscreteContinuousConvS2(4, 2, (9, 16), (9, 16), (3, 3), "harmonic")  # noqa: E731
    module = make()
    layer = DiscoConv.from_torch_harmonics(module)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    layer.copy_to_torch_harmonics(module)
    compare(module, layer, (9, 16))
    again = DiscoConv.from_torch_harmonics(module)
    assert torch.equal(again.weight, layer.weight) and torch.equal(again.bias, layer.bias)


def test_errors() -> None:
    shapes = ((9, 16), (9, 16), 3)
    module = th.DiscreteContinuousConvS2(
        4, 2, *shapes, grid_in="lobatto", grid_out="lobatto", theta_cutoff=0.8
    )
    with pytest.raises(ValueError, match="Lobatto and trapezoidal grids are not supported"):
        DiscoConv.from_torch_harmonics(module)
    module = th.DiscreteContinuousConvS2(4, 2, *shapes)
    with pytest.raises(ValueError, match="grid is 'lobatto'"):
        DiscoConv.from_torch_harmonics(module, grid_in="lobatto")
    with pytest.raises(ValueError, match="basis_norm_mode is 'individual'"):
        DiscoConv.from_torch_harmonics(module, basis_norm_mode="individual")
    with pytest.raises(ValueError, match="module has coefficients that differ"):
        DiscoConv.from_torch_harmonics(module, basis_norm_mode="none")
    with pytest.raises(ValueError, match="expected torch-harmonics' DiscreteContinuousConvTransposeS2"):
        DiscoConvTranspose.from_torch_harmonics(module)
    with pytest.raises(ValueError, match="module is a Linear"):
        DiscoConv.from_torch_harmonics(torch.nn.Linear(2, 2))
    layer = DiscoConv(4, 3, HEALPix(2))
    with pytest.raises(ValueError, match="expected the same sizes"):
        layer.copy_to_torch_harmonics(module)
    with pytest.raises(ValueError, match="normalization is 'individual'"):
        DiscoConv(4, 3, HEALPix(2), normalization="individual")
