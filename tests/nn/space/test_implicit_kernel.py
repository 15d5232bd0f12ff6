"""The kernels of ``ImplicitConv`` obey κ(g r, g a) = ρ_out(g) κ(r, a) ρ_in(g)⁻¹, and nothing more than that."""

from __future__ import annotations

import pytest
import torch
from e3nn.o3 import Irreps, wigner_3j
from torch import Tensor

from spheregeo.audit.randomise import randomise
from spheregeo.groups import random_rotations
from spheregeo.harmonics import component_harmonics, wigner_D
from spheregeo.nn import ImplicitConv
from spheregeo.nn.irreps.solid_harmonics import SolidHarmonics
from spheregeo.nn.space.implicit.gated_kernel import shell_mean_square
from spheregeo.nn.space.implicit.regular_kernel import finite_group

IN, OUT = Irreps("2x0e + 2x1o + 1x0o + 1x2e + 1x0e"), Irreps("1x0e + 2x1e + 2x1o + 1x2e + 1x2o")
TURNING = "2x0e + 1x1o + 1x1e + 1x0o"
CASES = [
    {},
    {"attributes": "3x0e"},
    {"attributes": TURNING},
    {"nonlinearity": "product", "layers": 1},
    {"group": "SO3"},
    {"group": "SO3", "attributes": "2x0o"},
    {"group": "SO3", "attributes": TURNING},
    {"group": "tetrahedral", "attributes": TURNING},
    {"group": "octahedral"},
    {"group": "icosahedral", "hidden": 2},
    {"group": "C5"},
    {"group": "D3", "layers": 3},
    {"group": "octahedral with inversion", "hidden": 2},
]


def elements(group: str | Tensor) -> Tensor:
    if isinstance(group, Tensor):
        return group
    if group in ("O3", "SO3"):
        turns = random_rotations(20, torch.Generator().manual_seed(1))
        if group == "O3":
            turns[::2] *= -1
            turns[0] = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
        return turns
    return finite_group(group)


def build(case: dict, **more: object) -> ImplicitConv:
    options = {"hidden": 3, **case, **more}
    if options.get("group") == "octahedral with inversion":
        turns = finite_group("octahedral")
        options["group"] = torch.cat([turns, -turns])
    conv = ImplicitConv(IN, OUT, radius=1.5, **options)
    return randomise(conv, torch.Generator().manual_seed(0)).double()


def offsets(conv: ImplicitConv, count: int = 9) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(2)
    r = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    r[0] = 0
    r[1] = torch.tensor([0.0, 1.0, 0.0])
    if conv.attributes is None:
        return r, None
    return r, torch.randn(count, conv.attributes.dim, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_constraint(case: dict) -> None:
    conv = build(case)
    group = elements(conv.group if "matrices" not in conv.group else build_group(case))
    r, a = offsets(conv)
    with torch.no_grad():
        before = conv.kernel(r, a)
        assert before.abs().amax((1, 2)).min() > 1e-6  # at r = 0 too
        worst = 0.0
        for g in group[torch.randperm(len(group))[:20]]:
            turned = None if a is None else a @ wigner_D(conv.attributes, g).T
            after = conv.kernel(r @ g.T, turned)
            expected = wigner_D(OUT, g) @ before @ wigner_D(IN, g).T
            worst = max(worst, float((after - expected).abs().max() / before.abs().max()))
    assert worst < 1e-12, worst


def build_group(case: dict) -> Tensor:
    turns = finite_group("octahedral")
    return torch.cat([turns, -turns])


@pytest.mark.parametrize("case", [CASES[4], CASES[7], CASES[9], CASES[10]], ids=str)
def test_no_more_symmetry_than_asked_for(case: dict) -> None:
    conv = build(case)
    r, a = offsets(conv)
    g = -torch.eye(3, dtype=torch.float64) if conv.group == "SO3" else random_rotations(1)[0]
    turned = None if a is None else a @ wigner_D(conv.attributes, g).T
    with torch.no_grad():
        before, after = conv.kernel(r, a), conv.kernel(r @ g.T, turned)
    assert (after - wigner_D(OUT, g) @ before @ wigner_D(IN, g).T).abs().max() > 0.05 * before.abs().max()


def test_without_attributes_a_kernel_is_scalars_times_harmonics() -> None:
    conv = randomise(ImplicitConv("1x1o", "1x1o + 1x2e", hidden=4)).double()
    r = torch.randn(5, 3, dtype=torch.float64)
    kernel = conv.kernel(r).detach()
    # |l1 - l3| ... l1 + l3 with parity (-1)^l: 1 -> 1 has l = 0, 2; 1 -> 2 has l = 1, 3
    for rows, l3, degrees in ((slice(0, 3), 1, (0, 2)), (slice(3, 8), 2, (1, 3))):
        y = component_harmonics(r, 3)
        basis = [
            torch.einsum(
                "abm,em->eba", wigner_3j(1, l3, l, dtype=torch.float64), y[:, l * l : (l + 1) ** 2]
            ).flatten(1)
            for l in degrees
        ]
        for e in range(5):
            columns = torch.stack([b[e] for b in basis], 1)
            target = kernel[e, rows].flatten()[:, None]
            found = torch.linalg.lstsq(columns, target)
            assert (columns @ found.solution - target).abs().max() < 1e-12
            assert found.solution.abs().min() > 1e-4


@pytest.mark.parametrize("lmax", [0, 1, 2, 6])
def test_solid_harmonics(lmax: int) -> None:
    t = torch.randn(20, 3, dtype=torch.float64)
    expected = component_harmonics(t, lmax, normalize=False)
    error = (SolidHarmonics(lmax).double()(t) - expected).abs() / t.norm(dim=1, keepdim=True).clamp(
        min=1
    ) ** lmax
    assert error.max() < 1e-13


def test_change_of_basis_is_orthogonal() -> None:
    # the kernel has the norm of its irreps, whatever the degrees: all weights alike on one path
    conv = ImplicitConv("1x2e", "1x1o", hidden=1).double()
    h = torch.randn(4, conv.coupling.starts[-1], 1, dtype=torch.float64)
    with torch.no_grad():
        conv.coupling.weights[0].fill_(1.0)
        kernel = conv.coupling.kernel(h)
    torch.testing.assert_close(kernel.square().sum((1, 2)), h.square().sum((1, 2)), atol=0, rtol=1e-12)


@pytest.mark.parametrize("case", [{"attributes": TURNING}, {"group": "SO3", "attributes": "1x1e"}], ids=str)
def test_pseudo_kernels_come_from_attributes(case: dict) -> None:
    conv = randomise(ImplicitConv("1x0e", "1x1e", hidden=4, **case)).double()
    r, a = offsets(conv)
    a_other = a.clone()
    a_other[:, -2:] += 1
    with torch.no_grad():
        kernel, other = conv.kernel(r, a), conv.kernel(r, a_other)
    assert kernel.abs().max() > 1e-2
    assert (kernel - other).abs().max() > 1e-3


def test_kernel_that_must_vanish_is_refused() -> None:
    with pytest.raises(ValueError, match=r"irreps_out is 1x1e; expected some irrep"):
        ImplicitConv("4x0e", "1x1e")
    ImplicitConv("4x0e", "1x1e", attributes="1x1e")
    ImplicitConv("4x0e", "1x1e", group="SO3")


@pytest.mark.parametrize("group", ["O3", "octahedral"])
def test_shell_and_its_width(group: str) -> None:
    conv = randomise(ImplicitConv("1x0e", "1x0e", group=group, radius=2.0)).double()
    far = torch.tensor([[0.0, 0.0, 6.0]], dtype=torch.float64)
    with torch.no_grad():
        conv.network.log_sigma.fill_(-1.2)
        near_zero = conv.kernel(far).abs().max()
        conv.network.log_sigma.fill_(1.0)
        wide = conv.kernel(far).abs().max()
    assert near_zero < 1e-12 < 1e-4 < wide


def test_envelope_ends_the_kernel_smoothly() -> None:
    conv = randomise(ImplicitConv("1x0e", "1x0e + 1x1o", envelope=True, radius=2.0)).double()
    with torch.no_grad():
        assert (
            conv.kernel(torch.tensor([[0.0, 2.0, 0.0], [5.0, 0.0, 0.0]], dtype=torch.float64)).abs().max()
            == 0
        )
        # value of third order in the distance from the end
        close, closer = (
            conv.kernel(torch.tensor([[0.0, 2.0 - h, 0.0]], dtype=torch.float64)).abs().max()
            for h in (1e-2, 5e-3)
        )
    assert 7 < float(close / closer) < 9


def test_mean_square_of_the_shell() -> None:
    r = torch.rand(400_000, dtype=torch.float64) ** (1 / 3)
    for degree, envelope in ((0, False), (2, False), (3, True)):
        values = r**degree * torch.exp(-(r**2) / (2 * 0.25)) * ((1 - r**2) ** 3 if envelope else 1)
        assert shell_mean_square(degree, 0.5, envelope) == pytest.approx(
            float(values.square().mean()), rel=0.02
        )


@pytest.mark.parametrize("case", [{}, {"nonlinearity": "product"}, {"group": "tetrahedral"}], ids=str)
def test_initial_output_has_about_unit_variance(case: dict) -> None:
    conv = ImplicitConv("16x0e + 16x1o + 8x2e", "16x0e + 16x1o + 8x2e", hidden=16, **case)
    r = torch.randn(300, 3)
    r = r / r.norm(dim=1, keepdim=True) * torch.rand(300, 1) ** (1 / 3)  # evenly in the unit ball
    with torch.no_grad():
        out = torch.einsum("eij,ej->ei", conv.kernel(r), torch.randn(300, conv.irreps_in.dim))
    for part in out.split([16, 48, 40], 1):
        assert 0.4 < float(part.square().mean()) < 3


@pytest.mark.parametrize(
    "group", ["C0", "tetra", torch.eye(3)[None, :2], 2 * torch.eye(3)[None], finite_group("C5")[:3]], ids=str
)
def test_group_that_is_none(group: str | Tensor) -> None:
    with pytest.raises(ValueError, match=r"group|closed"):
        ImplicitConv("1x0e", "1x0e", group=group)
