"""Field types of SO(2) and O(2): text, channels, actions, and what the reflection mask leaves."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from spheregeo.groups import FieldType, Term, kernel_space, kernel_space_dimension, reflection_mask

TEXTS = ["16x0", "16x0 + 8x1 + 4x2", "2x1 + 3x0 + 1x4", "4x0e + 2x0o + 1x3"]


def angles(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64) * 20 - 10


def test_text_and_sizes() -> None:
    kind = FieldType("16x0 + 8x1+4x2")
    assert str(kind) == "16x0 + 8x1 + 4x2" and repr(kind) == "FieldType('16x0 + 8x1 + 4x2')"
    assert kind.terms == (Term(16, 0), Term(8, 1), Term(4, 2))
    assert (kind.dim, kind.max_order, kind.num_fields) == (40, 2, 28)
    assert kind.blocks == ((slice(0, 16), 16, 0), (slice(16, 32), 8, 1), (slice(32, 40), 4, 2))
    assert [kind.multiplicity(n) for n in range(4)] == [16, 8, 4, 0]
    assert FieldType.of(kind) is kind and FieldType.of("2x1") == FieldType("2x1")
    assert FieldType.full(3, 2) == FieldType("3x0 + 3x1 + 3x2")


@pytest.mark.parametrize("text", TEXTS)
def test_a_type_is_a_value(text: str) -> None:
    kind = FieldType(text)
    assert FieldType(str(kind)) == kind == eval(repr(kind)) == FieldType(kind) == FieldType(kind.terms)
    assert len({kind, FieldType(text), copy.deepcopy(kind), pickle.loads(pickle.dumps(kind))}) == 1
    with pytest.raises(AttributeError):
        kind.terms = ()  # type: ignore[misc]


def test_equal_channels_are_equal_types() -> None:
    assert FieldType("4x0 + 4x0e + 1x1") == FieldType("8x0 + 1x1")
    assert FieldType("4x0 + 4x0o") != FieldType("8x0")
    assert FieldType("4x0 + 1x1") != FieldType("1x1 + 4x0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("16", "'16' cannot be read; expected a sum of MULTIPLICITYxORDER"),
        ("16x0 + ", "its term '' cannot be read"),
        ("16x0, 8x1", "'16x0, 8x1' cannot be read"),
        ("4x-1", "cannot be read"),
        ("4x1o", "only order 0 has one"),
        ("0x1", "multiplicity is 0; expected at least 1"),
        ("4xC6", "cannot be read"),
    ],
)
def test_bad_text(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FieldType(text)


def test_bad_terms_and_input() -> None:
    for bad in [(1, -1), (1, 1, -1), (1, 0, 0)]:
        with pytest.raises(ValueError, match="expected"):
            Term(*bad)
    with pytest.raises(ValueError, match="at least one term"):
        FieldType([])
    with pytest.raises(TypeError, match="expected text such as"):
        FieldType([3])  # type: ignore[list-item]
    kind = FieldType("2x0 + 1x1")
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 5\) and angle \(5,\); expected x \(..., 4"):
        kind.turn(torch.zeros(1, 3, 5), torch.zeros(5))
    with pytest.raises(ValueError, match="expected x"):
        kind.turn(torch.zeros(1, 4, 5), torch.zeros(6))
    with pytest.raises(ValueError, match="x has 3 channels on axis 1; expected 4"):
        kind.reflect(torch.zeros(1, 3, 5))


@pytest.mark.parametrize("text", TEXTS)
def test_actions_are_representations(text: str) -> None:
    kind = FieldType(text)
    a, b = angles(7), angles(7)
    rho = kind.representation
    identity = torch.eye(kind.dim, dtype=torch.float64)
    assert (rho(a) @ rho(b) - rho(a + b)).abs().max() < 1e-13
    assert (rho(a).mT - rho(-a)).abs().max() == 0
    assert (rho(a) @ rho(a).mT - identity).abs().max() < 1e-14
    x = torch.randn(3, 2, kind.dim, 7, dtype=torch.float64)
    expected = torch.einsum("nij,...jn->...in", rho(a), x)
    assert (kind.transport(x, a) - expected).abs().max() < 1e-14
    assert (kind.turn(x, a) - kind.transport(x, -a)).abs().max() == 0
    s = torch.diag(torch.tensor(kind.signs).double())
    assert (s @ rho(a) @ s - rho(-a)).abs().max() == 0
    assert (kind.reflect(x[0]) - torch.einsum("ij,bjn->bin", s, x[0])).abs().max() == 0
    on_grid = kind.turn(x[0].unflatten(-1, (7, 1)), a[:, None])
    assert (on_grid.flatten(-2) - kind.turn(x[0], a)).abs().max() == 0


def test_the_complex_number_turns_back() -> None:
    """F = c + i s becomes exp(−i m α) F in a frame turned by +α: a fixed vector's angle shrinks by α."""
    kind = FieldType("1x1 + 1x3")
    x, a = torch.randn(4, 1, dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    y = kind.turn(x, a)
    for i, m in ((0, 1), (2, 3)):
        before, after = (complex(float(t[i]), float(t[i + 1])) for t in (x, y))
        assert abs(after - before * complex(math.cos(m * 0.3), -math.sin(m * 0.3))) < 1e-15


def test_actions_keep_dtype_pass_gradients_and_trace() -> None:
    kind = FieldType("2x0 + 3x1 + 1x2")
    x = torch.randn(2, kind.dim, 5, requires_grad=True)
    a = angles(5)
    y = kind.turn(x, a)
    assert y.dtype == torch.float32
    (g,) = torch.autograd.grad(y, x, upstream := torch.randn_like(y))
    torch.testing.assert_close(g, kind.turn(upstream, -a))
    compiled = torch.compile(lambda x, a: kind.turn(kind.reflect(x), a), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, a), kind.turn(kind.reflect(x), a))


@pytest.mark.parametrize("out_order", range(4))
@pytest.mark.parametrize("in_order", range(4))
def test_kernel_space_is_the_numeric_null_space(in_order: int, out_order: int) -> None:
    inside, outside = FieldType(f"1x{in_order}"), FieldType(f"1x{out_order}")
    assert kernel_space_dimension(inside, outside) == inside.dim * outside.dim
    basis = kernel_space(inside, outside, margin=2)  # and none of a higher frequency
    assert len(basis) == inside.dim * outside.dim
    top = (basis.shape[1] - 1) // 2
    if in_order + out_order < top:
        assert basis[:, 2 * (in_order + out_order) + 1 :].abs().max() < 1e-8
    # kernels ρ_out(θ) W ρ_in(−θ) for every W lie in that space: as many, so they are all of it
    theta = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
    waves = [torch.ones_like(theta)]
    for n in range(1, top + 1):
        waves += [torch.cos(n * theta), torch.sin(n * theta)]
    values = torch.einsum("tf,kfij->ktij", torch.stack(waves, -1), basis).flatten(1)
    for w in torch.eye(inside.dim * outside.dim, dtype=torch.float64):
        kernel = (
            outside.representation(theta) @ w.view(outside.dim, inside.dim) @ inside.representation(-theta)
        )
        solution = torch.linalg.lstsq(values.T, kernel.flatten()[:, None]).solution
        assert (values.T @ solution - kernel.flatten()[:, None]).abs().max() < 1e-9


@pytest.mark.parametrize("out_text", ["1x0e", "1x0o", "1x1", "1x2", "1x3"])
@pytest.mark.parametrize("in_text", ["1x0e", "1x0o", "1x1", "1x2", "1x3"])
def test_reflection_mask_leaves_the_o2_kernels(in_text: str, out_text: str) -> None:
    mask = reflection_mask(in_text, out_text)
    assert mask.shape == (FieldType(out_text).dim, FieldType(in_text).dim) and mask.dtype == torch.bool
    assert kernel_space_dimension(in_text, out_text, reflections=True) == int(mask.sum())


def test_kernel_space_of_stacks() -> None:
    inside, outside = "1x0 + 1x1 + 1x2", "1x0o + 2x1"
    assert kernel_space_dimension(inside, outside) == 5 * 5
    assert kernel_space_dimension(inside, outside, reflections=True) == int(
        reflection_mask(inside, outside).sum()
    )
    # the published count 1 + 2 M_i + 2 M_o + 4 M_i M_o
    assert kernel_space_dimension("1x0 + 1x1", "1x0 + 1x1 + 1x2") == 1 + 2 + 4 + 8


def test_kernel_space_at_the_centre() -> None:
    for n in range(4):
        for m in range(4):
            expected = 0 if n != m else 1 if n == 0 else 2
            assert kernel_space_dimension(f"1x{n}", f"1x{m}", centre=True) == expected
            expected = 0 if n != m else 1
            assert kernel_space_dimension(f"1x{n}", f"1x{m}", centre=True, reflections=True) == expected
    assert kernel_space_dimension("1x0e", "1x0o", centre=True, reflections=True) == 0


def test_masked_kernels_obey_the_reflection() -> None:
    inside, outside = FieldType("1x0 + 1x0o + 1x1"), FieldType("1x0o + 1x2")
    w = torch.randn(outside.dim, inside.dim, dtype=torch.float64) * reflection_mask(inside, outside)
    theta = angles(9)

    def kernel(theta: Tensor) -> Tensor:
        return outside.representation(theta) @ w @ inside.representation(-theta)

    s_out, s_in = (torch.diag(torch.tensor(kind.signs).double()) for kind in (outside, inside))
    assert (kernel(-theta) - s_out @ kernel(theta) @ s_in).abs().max() < 1e-14
