"""``SteerableVoxelConv`` and the anti-aliased stride: exact under the cube's 48 symmetries, with as many kernels as there are."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from e3nn.o3 import Irreps
from torch import Tensor

from spheregeo.audit.randomise import randomise
from spheregeo.groups import axis_angle, octahedral
from spheregeo.harmonics import wigner_D
from spheregeo.nn import IrrepsGate, LowPassDownsample, SteerableVoxelConv

IN, OUT = Irreps("2x0e + 1x1o + 1x2e + 1x0e"), Irreps("1x0e + 2x1o + 1x1e + 1x2e")
SMALL_IN, SMALL_OUT = Irreps("1x0e + 1x1o"), Irreps("1x0e + 1x1o + 1x2e")


def cube() -> Tensor:
    """All 48 rotations and reflections, rotations first."""
    turns = octahedral()
    return torch.cat([turns, -turns])


def turn(x: Tensor, g: Tensor, irreps: Irreps) -> Tensor:
    """(g f)(p) = D(g) f(g⁻¹ p) on a cubic volume with axes x, y, z. Shape: (B, irreps.dim, n, n, n)."""
    x = torch.einsum("ij,bjxyz->bixyz", wigner_D(irreps, g), x)
    x = x.permute(0, 1, *(2 + g.abs().argmax(1)).tolist())
    return x.flip([2 + a for a in range(3) if g[a].sum() < 0])


def error(layer: torch.nn.Module, size: int, irreps_in: Irreps, irreps_out: Irreps, group: Tensor) -> float:
    x = torch.randn(2, irreps_in.dim, size, size, size, dtype=torch.float64)
    with torch.no_grad():
        y = layer(x)
        return max(
            float((layer(turn(x, g, irreps_in)) - turn(y, g, irreps_out)).abs().max() / y.abs().max())
            for g in group
        )


def test_turning_a_volume() -> None:
    g = axis_angle((0.0, 0.0, 1.0), torch.pi / 2).round()  # x to y
    x = torch.zeros(1, 4, 3, 3, 3, dtype=torch.float64)
    x[0, 1, 2, 1, 1] = 1  # a vector along x at (1, 0, 0)
    expected = torch.zeros_like(x)
    expected[0, 2, 1, 2, 1] = 1
    assert torch.equal(turn(x, g, SMALL_IN), expected)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kernel_size": 5}, 6),
        ({"kernel_size": 3}, 5),
        ({"kernel_size": 1}, 4),
        ({"kernel_size": 3, "padding": 0}, 5),
        ({"kernel_size": 4, "padding": 2}, 5),
        ({"kernel_size": 3, "stride": 2}, 6),
        ({"kernel_size": 3, "stride": 2}, 7),
        ({"kernel_size": 4, "stride": 3}, 8),
        ({"kernel_size": 4, "stride": 2, "antialias": False}, 6),
        ({"kernel_size": 3, "stride": 2, "antialias": False}, 7),
        ({"kernel_size": 3, "group": "SO3"}, 5),
        ({"kernel_size": 3, "spacing": (0.5, 0.5, 0.5)}, 5),
        ({"kernel_size": 3, "rings": (0.0, 1.2), "sigma": 0.7, "cutoff": 3}, 5),
    ],
    ids=str,
)
def test_rotations_and_reflections_of_the_cube(options: dict, size: int) -> None:
    pair = (Irreps("1x0e"), Irreps("2x0e")) if options["kernel_size"] == 1 else (SMALL_IN, SMALL_OUT)
    conv = randomise(SteerableVoxelConv(*pair, **options)).double().eval()
    group = cube() if conv.group == "O3" else octahedral()
    assert error(conv, size, *pair, group) < 1e-12
    if conv.group == "SO3":
        assert error(conv, size, *pair, -octahedral()) > 1e-2
    if options.get("stride", 1) > 1:
        x = torch.randn(1, pair[0].dim, size, size, size, dtype=torch.float64)
        assert conv(x).shape[2:] == (-(-size // options["stride"]),) * 3


def test_every_irrep_and_single_precision() -> None:
    conv = randomise(SteerableVoxelConv(IN, OUT, 5)).double().eval()
    assert error(conv, 5, IN, OUT, cube()[::5]) < 1e-12
    x = torch.randn(1, IN.dim, 5, 5, 5, dtype=torch.float64)
    single = copy.deepcopy(conv).float()
    torch.testing.assert_close(single(x.float()).double(), conv(x), rtol=0, atol=2e-5)
    again = single.double()
    again.load_state_dict(conv.state_dict())
    torch.testing.assert_close(again(x), conv(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("group", ["O3", "SO3"])
@pytest.mark.parametrize(
    ("into", "out"), [("1x0e", "1x2e"), ("1x1o", "1x1o"), ("1x1e", "1x2o"), ("1x2e", "1x1e")]
)
def test_number_of_kernels(into: str, out: str, group: str) -> None:
    """On one shell a kernel is fixed by its value at the pole, which must commute with all that leave the pole where it is."""
    conv = SteerableVoxelConv(into, out, 9, rings=(3.0,), cutoff=6, group=group)
    stays = [axis_angle((0.0, 1.0, 0.0), a) for a in (0.7, 2.0)]
    if group == "O3":
        stays.append(torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)))
    equations = []
    for s in stays:
        left, right = wigner_D(Irreps(out), s), wigner_D(Irreps(into), s)
        equations.append(torch.kron(left, right) - torch.eye(len(left) * len(right), dtype=torch.float64))
    values = torch.linalg.svdvals(torch.cat(equations))
    assert conv.num_elements == int((values < 1e-9).sum())


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
def test_default_kernels_are_independent(size: int) -> None:
    conv = SteerableVoxelConv(
        "1x0e + 1x1o + 1x2e", "1x0e + 1x1o" if size < 4 else "1x0e + 1x1o + 1x2e", size, padding=0
    ).double()
    for o, counts in enumerate(conv.counts):
        for i, count in enumerate(counts):
            if count:
                basis = conv.get_buffer(f"basis{o}_{i}")
                assert int(torch.linalg.matrix_rank(basis, rtol=1e-6)) == count
                norms = basis.square().sum(1)
                torch.testing.assert_close(norms, torch.ones_like(norms))


def test_corners_are_windowed() -> None:
    for size in (3, 5):
        conv = SteerableVoxelConv("1x0e", "1x0e + 1x1o", size)
        kernel = conv.kernel()
        assert kernel[:, :, 0, 0, 0].abs().max() == 0 and kernel[:, :, 0, 0, -1].abs().max() == 0
        middle = size // 2
        assert kernel[:, :, 0, middle, middle].abs().max() > 0


def test_initial_variance() -> None:
    irreps = Irreps("16x0e + 16x1o + 16x2e")
    x = torch.randn(4, irreps.dim, 12, 12, 12)
    for options in ({"kernel_size": 5, "padding": 0}, {"kernel_size": 3, "padding": 0, "group": "SO3"}):
        with torch.no_grad():
            y = SteerableVoxelConv(irreps, irreps, **options)(x)
        for part in y.split([16, 48, 80], 1):
            assert float(part.var()) == pytest.approx(1, abs=0.1)


def test_anisotropic_voxels() -> None:
    """Twice as long along z: two voxels of z count as much as four of x, and turns about z remain exact."""
    conv = (
        randomise(SteerableVoxelConv(SMALL_IN, SMALL_OUT, (5, 5, 3), spacing=(1.0, 1.0, 2.0))).double().eval()
    )
    group = [g for g in cube() if g[2, 2].abs() == 1]
    assert len(group) == 16 and error(conv, 6, SMALL_IN, SMALL_OUT, torch.stack(group)) < 1e-12
    scalar = SteerableVoxelConv("1x0e", "1x0e", (5, 5, 3), spacing=(1.0, 1.0, 2.0)).kernel()[0, 0]
    torch.testing.assert_close(scalar[2, 2, 2], scalar[4, 2, 1])  # both two units from the centre
    # a quarter turn about x exchanges axes of different steps: not exact
    assert error(conv, 6, SMALL_IN, SMALL_OUT, axis_angle((1.0, 0.0, 0.0), torch.pi / 2).round()[None]) > 1e-2


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"kernel_size": 4, "stride": 2, "antialias": False}], ids=str
)
def test_evaluation_and_export(options: dict) -> None:
    conv = randomise(SteerableVoxelConv(IN, OUT, **{"kernel_size": 3, "cutoff": 3, **options})).double()
    x = torch.randn(2, IN.dim, 6, 6, 6, dtype=torch.float64)
    trained = conv.train()(x)
    plain = conv.export_conv3d(6)
    assert type(plain) is torch.nn.Conv3d
    conv.eval()
    with torch.no_grad():
        first, second = conv(x), conv(x)
        assert conv._cache is not None and torch.equal(first, second)
        torch.testing.assert_close(first, trained, rtol=0, atol=1e-12)
        torch.testing.assert_close(plain(x), trained, rtol=0, atol=1e-12)
        conv.weights[0].mul_(2)  # a changed weight is seen
        assert (conv(x) - first).abs().max() > 1e-3
        with torch.inference_mode():
            conv(x)
    for weight in conv.weights:
        weight.requires_grad_(False)
    leaf = x.clone().requires_grad_()
    conv(leaf).sum().backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all()


def test_gradients() -> None:
    conv = SteerableVoxelConv("1x0e + 1x1o", "1x0e + 1x1o", 3, stride=2).double()
    x = torch.randn(1, 4, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(conv, x, fast_mode=True)
    conv(x).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in conv.weights)


@pytest.mark.parametrize(("stride", "size"), [(2, 6), (2, 7), (3, 8), (4, 9), (1, 5)])
def test_low_pass(stride: int, size: int) -> None:
    layer, scalars = LowPassDownsample(stride), Irreps("2x0e")
    assert error(layer, size, scalars, scalars, cube()) < 1e-13
    constant = torch.full((1, 1, size, size, size), 3.0, dtype=torch.float64)
    out = layer(constant)
    assert out.shape[2:] == (-(-size // stride),) * 3
    torch.testing.assert_close(out, torch.full_like(out, 3.0))


def test_low_pass_removes_what_the_stride_would_fold() -> None:
    x = torch.arange(32, dtype=torch.float64)
    waves = torch.stack([torch.cos(2 * torch.pi * x / period) for period in (16, 2.2)])[
        None, :, :, None, None
    ]
    inner = LowPassDownsample((2, 1, 1))(waves)[0, :, 4:-4, 0, 0]
    assert inner[0].abs().max() > 0.9 and inner[1].abs().max() < 0.08
    with pytest.raises(ValueError, match="stride is 0"):
        LowPassDownsample(0)
    with pytest.raises(ValueError, match="x has shape"):
        LowPassDownsample(2)(torch.zeros(3, 3, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 4}, "even kernel"),
        ({"kernel_size": 0}, "kernel_size is 0"),
        ({"kernel_size": (3, 3)}, "kernel_size is"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing is"),
        ({"group": "O2"}, "group is 'O2'"),
        ({"stride": 2, "padding": 1}, "antialias"),
        ({"padding": -1}, "padding is -1"),
        ({"rings": ()}, "rings is"),
        ({"sigma": (1.0, 2.0)}, "sigma is"),
        ({"kernel_size": 1}, "larger kernel"),
        ({"irreps_out": "1x0o"}, "larger kernel or cutoff, or leave it out"),
    ],
    ids=str,
)
def test_choices_that_do_not_fit(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SteerableVoxelConv(**{"irreps_in": "1x0e", "irreps_out": "1x1o", "kernel_size": 5, **arguments})


def test_volumes_that_do_not_fit() -> None:
    conv = SteerableVoxelConv("1x0e", "1x1o", 3, stride=2, antialias=False)
    with pytest.raises(ValueError, match=r"8 voxels along axis 0.*antialias=True.*even"):
        conv(torch.zeros(1, 1, 8, 9, 9))
    with pytest.raises(ValueError, match="x has shape"):
        conv(torch.zeros(1, 2, 9, 9, 9))
    with pytest.raises(ValueError, match="size is None"):
        SteerableVoxelConv("1x0e", "1x1o", 3, stride=2).export_conv3d()
    with pytest.raises(ValueError, match="expected at least 5"):
        SteerableVoxelConv("1x0e", "1x1o", 5, padding=0)(torch.zeros(1, 1, 4, 5, 5))


@pytest.mark.realdata
def test_two_layers_on_measured_shapes(real_data: Path) -> None:
    """Adrenal glands: invariant features of a shape and of its 48 turned copies agree."""
    with np.load(real_data / "adrenalmnist3d" / "adrenal64_train_val.npz") as file:
        name = next(key for key in file.files if "val" in key and file[key].ndim == 4)
        volumes = torch.from_numpy(np.unpackbits(file[name][:1], axis=-1)).double()[:, None]
    assert volumes.shape == (1, 1, 64, 64, 64) and 0 < volumes.mean() < 0.2
    gate = IrrepsGate("8x0e + 2x1o")
    first = SteerableVoxelConv("1x0e", gate.irreps_in, 3, stride=4)
    second = SteerableVoxelConv(gate.irreps_out, "4x0e", 3, stride=2)
    layers = randomise(torch.nn.ModuleList([first, gate, second])).double().eval()

    def network(x: Tensor) -> Tensor:
        return layers[2](layers[1](layers[0](x).movedim(1, -1)).movedim(-1, 1))

    scalars = Irreps("1x0e")
    with torch.no_grad():
        features = network(volumes).amax((2, 3, 4))
        assert features.std() > 1e-3
        for g in cube()[[1, 7, 20, 24, 40]]:
            turned = network(turn(volumes, g, scalars)).amax((2, 3, 4))
            assert (turned - features).abs().max() < 1e-12 * features.abs().max()


def test_compiles_and_exports() -> None:
    conv = SteerableVoxelConv(SMALL_IN, SMALL_OUT, 3, stride=2)
    x = torch.randn(1, SMALL_IN.dim, 6, 6, 6)
    y = conv(x)
    torch.testing.assert_close(torch.compile(conv, fullgraph=True, backend="aot_eager")(x), y)
    torch.testing.assert_close(torch.export.export(conv.eval(), (x,)).module()(x), y)
