"""Constants of layers are right to the last digit whichever way a layer got its dtype, device and copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spheregeo.grids import Equiangular, Fibonacci, HEALPix, Icosahedral
from spheregeo.nn import (
    AreaBatchNorm,
    AreaGroupNorm,
    ChebConv,
    DiscoConv,
    DiscoConvTranspose,
    ExactBuffers,
    FieldBatchNorm,
    FieldInstanceNorm,
    FieldLayerNorm,
    FieldPool,
    FieldUnpool,
    GaugeConv,
    GlobalPool,
    IcosahedralBatchNorm,
    ImplicitConv,
    IrrepsBatchNorm,
    Pool,
    RegularBatchNorm,
    RegularNonlinearity,
    Resample,
    SphereActivation,
    SphereMLP,
    SteerableVoxelConv,
    Unpool,
)

LATLON, HEALPIX, ICOSAHEDRAL, SCATTERED = Equiangular(8, 16), HEALPix(4), Icosahedral(2), Fibonacci(80)
FIELDS, IRREPS = "3x0 + 3x1 + 3x2", "3x0e + 3x1o + 3x2e"
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "AreaBatchNorm": lambda: AreaBatchNorm(3, LATLON),
    "AreaGroupNorm": lambda: AreaGroupNorm(2, 6, LATLON),
    "ChebConv": lambda: ChebConv(2, 3, HEALPIX),
    "DiscoConv": lambda: DiscoConv(2, 3, LATLON),
    "DiscoConvTranspose": lambda: DiscoConvTranspose(2, 3, SCATTERED, LATLON),
    "FieldBatchNorm": lambda: FieldBatchNorm(FIELDS, LATLON),
    "FieldInstanceNorm": lambda: FieldInstanceNorm(FIELDS, LATLON),
    "FieldLayerNorm": lambda: FieldLayerNorm(FIELDS),
    "FieldPool": lambda: FieldPool(FIELDS, HEALPIX),
    "FieldUnpool": lambda: FieldUnpool(FIELDS, HEALPIX),
    "GaugeConv": lambda: GaugeConv(FIELDS, FIELDS, HEALPIX),
    "GlobalPool": lambda: GlobalPool(LATLON),
    "IcosahedralBatchNorm": lambda: IcosahedralBatchNorm(3, 2),
    "ImplicitConv": lambda: ImplicitConv(IRREPS, IRREPS, radius=1.0),
    "IrrepsBatchNorm": lambda: IrrepsBatchNorm(IRREPS),
    "Pool": lambda: Pool(LATLON, "area"),
    "RegularBatchNorm": lambda: RegularBatchNorm(FIELDS, LATLON),
    "RegularNonlinearity": lambda: RegularNonlinearity(FIELDS),
    "Resample": lambda: Resample(SCATTERED, LATLON),
    "SphereActivation": lambda: SphereActivation(IRREPS),
    "SphereMLP": lambda: SphereMLP(IRREPS, [4]),
    "SteerableVoxelConv": lambda: SteerableVoxelConv(IRREPS, IRREPS, 3),
    "Unpool": lambda: Unpool(ICOSAHEDRAL, "linear"),
}


def in_double(build: Callable[[], nn.Module]) -> nn.Module:
    """The slow twin: built in float64 from the start."""
    torch.set_default_dtype(torch.float64)
    try:
        return build()
    finally:
        torch.set_default_dtype(torch.float32)


def constants(layer: nn.Module) -> dict[str, Tensor]:
    """All buffers that are no part of the state dict."""
    state = layer.state_dict()
    return {name: t for name, t in layer.named_buffers() if name not in state}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """The same values to the last digit, in the same order; zeros and ones may have another dtype."""
    return list(a) == list(b) and all(torch.equal(a[name].double(), b[name].double()) for name in a)


@pytest.mark.parametrize("name", LAYERS)
def test_constants_follow_every_move(name: str) -> None:
    build = LAYERS[name]
    single, double = constants(build()), constants(in_double(build))
    floats = [key for key, t in double.items() if t.dtype == torch.float64]
    assert floats
    assert any(
        not torch.equal(single[key].double(), double[key]) for key in floats
    )  # float32 does round them
    layer = build()
    assert same(constants(layer.double()), double)
    assert same(constants(layer.float()), single)
    assert same(constants(layer.half()), single)  # sums over many points need float32
    assert same(constants(layer.bfloat16().double()), double)
    assert same(constants(layer.to("cpu", torch.float32)), single)
    state = layer.state_dict()
    assert all(t.is_meta for t in constants(layer.to("meta")).values())
    assert same_floats(constants(layer.to_empty(device="cpu").double()), double)
    layer.load_state_dict(state)
    for twin in (copy.deepcopy(build()), pickle.loads(pickle.dumps(build()))):
        assert same(constants(twin), single)
        assert same(constants(twin.half().double()), double)


def same_floats(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Tables of integers are plain buffers, which the meta device empties."""
    return all(torch.equal(a[key], b[key]) for key in b if b[key].dtype == torch.float64)


def test_a_copy_has_constants_of_its_own() -> None:
    layer = GlobalPool(LATLON)
    twin = copy.deepcopy(layer).double()
    assert layer.share.dtype == torch.float32 and twin.share.dtype == torch.float64


class Scaled(ExactBuffers):
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.keep("scale", torch.tensor(1 / 3, dtype=torch.float64), persistent=True)


def test_persistent_constants_stay_in_float64() -> None:
    layer = Scaled()
    layer.scale.fill_(2 / 3)
    for move in (layer.half, layer.float, layer.double, layer.bfloat16):
        assert float(move().scale) == 2 / 3
    assert list(layer.state_dict()) == ["weight", "scale"]
    other = Scaled().half()
    other.load_state_dict(layer.state_dict())
    assert float(pickle.loads(pickle.dumps(copy.deepcopy(other))).float().scale) == 2 / 3
    assert layer.to("meta").to_empty(device="cpu").scale.dtype == torch.float64


def test_rebuild_reads_the_layer_as_it_is_now() -> None:
    layer, other = DiscoConv(1, 1, LATLON).double(), DiscoConv(1, 1, LATLON, SCATTERED, radius=0.8)
    layer.target, layer.radius = SCATTERED, 0.8
    layer.rebuild("map")
    assert same(constants(layer), constants(other.double()))


def test_a_failed_move_leaves_the_constants() -> None:
    layer = GlobalPool(LATLON)
    layer.register_parameter("weight", nn.Parameter(torch.ones(1)))
    before = layer.share.clone()

    def fail(t: Tensor) -> Tensor:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        layer._apply(fail)
    assert torch.equal(layer.share, before)


def test_built_on_the_meta_device() -> None:
    with torch.device("meta"):
        layer = DiscoConv(1, 2, LATLON)
    assert layer.weight.is_meta
    assert same_floats(
        constants(layer.to_empty(device="cpu").double()), constants(DiscoConv(1, 2, LATLON).double())
    )
