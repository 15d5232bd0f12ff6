"""Stacks in place of rows: every layer gives with either what it gives with the other, gradients and random masks included."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.nn import ImplicitConv, SteerableConv
from spheregeo.nn.irreps import (
    FromStacks,
    IrrepsBatchNorm,
    IrrepsDropout,
    IrrepsGate,
    IrrepsInstanceNorm,
    IrrepsLayerNorm,
    IrrepsLinear,
    NormActivation,
    SeparableSphereActivation,
    SphereActivation,
    SphereMLP,
    Stacks,
    ToStacks,
)

IRREPS = ["4x0e + 3x1o + 2x2e", "3x1o + 2x0e + 4x1o + 5x0o + 3x0e + 2x1e", "4x1o + 2x2e"]
NATURAL = "3x0e + 3x1o + 3x2e"


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def made(layer: nn.Module) -> nn.Module:
    """Every parameter random, running statistics too."""
    torch.manual_seed(0)
    for p in layer.parameters():
        nn.init.normal_(p)
    for name, buffer in layer.named_buffers():
        if name == "running_var":
            buffer.uniform_(0.5, 2)
    return layer


POINTWISE: dict[str, Callable[[str], nn.Module]] = {
    "linear": lambda irreps: IrrepsLinear(irreps, "4x2e + 2x1o + 6x0e + 1x3o + 2x1o"),
    "gate": IrrepsGate,
    "gated odd scalars": lambda irreps: IrrepsGate(irreps, odd_act=None),
    "each": lambda irreps: IrrepsLayerNorm(irreps, share="each"),
    "separable": lambda irreps: IrrepsLayerNorm(irreps, share="separable"),
    "all": lambda irreps: IrrepsLayerNorm(irreps, share="all"),
    "no weights": lambda irreps: IrrepsLayerNorm(irreps, affine=False),
    "batch": IrrepsBatchNorm,
    "component": NormActivation,
    "norm": lambda irreps: NormActivation(irreps, normalization="norm", bias=False),
    "dropout": lambda irreps: IrrepsDropout(irreps, 0.3),
}


def irreps_of(layer: nn.Module) -> tuple[Irreps, Irreps]:
    given = getattr(layer, "irreps_in", None) or layer.irreps
    return given, getattr(layer, "irreps_out", None) or given  # type: ignore[return-value]


def compare(layer: nn.Module, x: Tensor, *where: object) -> None:
    """Output, gradients of input and parameters, and the gradient of the gradient."""
    given, returned = irreps_of(layer)
    results = []
    for one, call in (
        (layer, lambda m, t: m(t, *where)),
        (copy.deepcopy(layer), lambda m, t: m(Stacks.from_mul_ir(t, given), *where).to_mul_ir(returned)),
    ):
        leaf = x.clone().requires_grad_()
        torch.manual_seed(3)
        y = call(one, leaf)
        g = torch.linspace(-1, 1, y.numel()).view_as(y)
        parameters = [p for p in one.parameters() if p.requires_grad]
        grads = torch.autograd.grad(y, [leaf, *parameters], g, create_graph=True, allow_unused=True)
        results.append([y, *grads])
        if grads[0] is not None and grads[0].requires_grad:
            second = torch.autograd.grad(grads[0].square().sum(), [leaf, *parameters], allow_unused=True)
            results[-1] += second
        results[-1] += list(one.buffers())
    for a, b in zip(*results, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("irreps", IRREPS)
@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("training", [True, False])
def test_layers_give_with_stacks_what_they_give_with_rows(name: str, irreps: str, training: bool) -> None:
    layer = made(POINTWISE[name](irreps)).train(training)
    compare(layer, torch.randn(7, irreps_of(layer)[0].dim))


@pytest.mark.parametrize(
    "kind", [SphereActivation, SeparableSphereActivation, lambda i: SphereMLP(i, [5], 4)]
)
def test_activations_on_the_sphere(kind: Callable[[str], nn.Module]) -> None:
    compare(made(kind(NATURAL)), torch.randn(5, Irreps(NATURAL).dim))


@pytest.mark.parametrize("irreps", IRREPS)
def test_instance_norm(irreps: str) -> None:
    layer = made(IrrepsInstanceNorm(irreps))
    x, batch = torch.randn(7, Irreps(irreps).dim), torch.tensor([0, 0, 0, 2, 2, 3, 3])
    compare(layer, x, batch, 4)
    single = layer(x[:3], batch[:3], 1)
    torch.testing.assert_close(layer(x, batch, 4)[:3], single)  # a graph does not depend on its batch


@pytest.mark.parametrize("irreps", IRREPS)
@pytest.mark.parametrize(
    "conv",
    [
        lambda a, b: SteerableConv(a, b, lmax=2),
        lambda a, b: SteerableConv(a, b, lmax=2, edge_dim=2, method="so2"),
        lambda a, b: SteerableConv(a, b, lmax=2, edge_dim=2, depthwise=True, chunk=4),
        lambda a, b: SteerableConv(a, b, lmax=2, method="tensor"),
        lambda a, b: ImplicitConv(a, b, hidden=2),
        lambda a, b: ImplicitConv(a, b, hidden=2, attributes="2x0e", nonlinearity="product", chunk=4),
        lambda a, b: ImplicitConv(a, b, hidden=2, group="octahedral", reduce="sum", num_neighbors=3.0),
    ],
)
def test_convolutions(conv: Callable[[str, str], nn.Module], irreps: str) -> None:
    layer = made(conv(irreps, "2x1o + 3x0e + 1x2e + 2x1o + 1x4e"))
    generator = torch.Generator().manual_seed(0)
    positions, edges = torch.randn(6, 3, generator=generator), torch.randint(5, (2, 12), generator=generator)
    extra = getattr(layer, "edge_dim", None) or (2 if getattr(layer, "attributes", None) else None)
    features = [] if extra is None else [torch.randn(12, extra, generator=generator)]
    compare(layer, torch.randn(6, Irreps(irreps).dim), positions, edges, *features)


@pytest.mark.parametrize("irreps", IRREPS)
def test_there_and_back(irreps: str) -> None:
    x = torch.randn(2, 3, Irreps(irreps).dim)
    stacks = Stacks.from_mul_ir(x, irreps)
    assert stacks.shape == (2, 3) and torch.equal(stacks.to_mul_ir(irreps), x)
    assert torch.equal(FromStacks(irreps)(ToStacks(irreps)(x)), x)
    flat = Stacks.from_mul_ir(x[0], irreps)
    again = Stacks.from_planar(flat.planar(), flat.terms, 3)
    assert torch.equal(again.to_mul_ir(irreps), x[0])
    assert Stacks(flat.parts, irreps).terms == flat.terms == again.terms


def test_arithmetic() -> None:
    x, y = (Stacks.from_mul_ir(torch.randn(4, 14), "3x0e + 2x1o + 1x2e") for _ in range(2))
    both = Stacks.cat([x, y])
    assert str(both.irreps) == "6x0e+4x1o+2x2e"
    torch.testing.assert_close(both["1o"], torch.cat([x["1o"], y["1o"]], 2))
    torch.testing.assert_close((x + y).to_mul_ir(), x.to_mul_ir() + y.to_mul_ir())
    dot = x.dot(y)
    torch.testing.assert_close(dot[:, 3:5], (x["1o"] * y["1o"]).sum(1))
    torch.testing.assert_close(x.scale(dot)["2e"], x["2e"] * dot[:, None, 5:])
    assert torch.equal(x.rows(torch.tensor([2, 0]))["0e"], x["0e"][[2, 0]])
    taken = x.take("2e", "0e")
    assert str(taken.irreps) == "1x2e+3x0e" and torch.equal(taken["0e"], x["0e"])


def test_what_does_not_fit_is_named() -> None:
    x = Stacks.from_mul_ir(torch.randn(4, 5), "2x0e + 1x1o")
    with pytest.raises(ValueError, match=r"x has stacks of 2x0e\+1x1o; expected 1x1o\+2x0e, in this order"):
        IrrepsLinear("1x1o + 2x0e", "2x0e")(x)
    with pytest.raises(ValueError, match=r"x has shape \(4, 5\); expected \(..., 4\)"):
        Stacks.from_mul_ir(torch.randn(4, 5), "1x0e + 1x1o")
    with pytest.raises(ValueError, match="irreps is 1x0e"):
        x.to_mul_ir("1x0e + 1x1o")
    with pytest.raises(ValueError, match="parts have shapes"):
        Stacks(x.parts, "2x0e + 2x1o")
    with pytest.raises(KeyError, match="no stack of 2e"):
        x["2e"]
    with pytest.raises(ValueError, match="irreps are"):
        x + x.take("0e")
    with pytest.raises(ValueError, match=r"x has \(4,\) points; expected \(3,\)"):
        SteerableConv("2x0e + 1x1o", "1x0e", lmax=1)(x, torch.randn(3, 3), torch.tensor([[0], [1]]))


@pytest.mark.parametrize("name", POINTWISE)
def test_compiles_in_one_graph(name: str) -> None:
    layer = made(POINTWISE[name](IRREPS[1])).eval()
    given, returned = irreps_of(layer)
    network = nn.Sequential(ToStacks(given), layer, FromStacks(returned))
    x = torch.randn(5, given.dim)
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), network(x))
