"""``GroupConv2d``: equal to the sum over the group, exact under every element, with as many weights as there are kernels."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.audit.randomise import randomise
from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.groups.planar import cosets
from spheregeo.nn import GroupConv2d, GroupConvTranspose2d
from spheregeo.nn.plane.basis import PlanarBasis
from spheregeo.nn.plane.group.filters import HarmonicFilters

EXACT = ("C1", "C2", "C4", "D1", "D2", "D4")


def images(field_type: str, size: int | tuple[int, int] = 7, batch: int = 2) -> Tensor:
    shape = (size, size) if isinstance(size, int) else size
    return torch.randn(batch, PlanarType.of(field_type).dim, *shape, dtype=torch.float64)


@torch.no_grad()
def error(layer: nn.Module, x: Tensor, into: str, out: str, group: str) -> float:
    """Largest difference between f(T_h x) and T_h f(x) over the elements h, relative to the output."""
    types, y = (PlanarType.of(into), PlanarType.of(out)), layer(x)
    return max(
        float((layer(types[0].act(x, h, group)) - types[1].act(y, h, group)).abs().max() / y.abs().max())
        for h in range(PlanarGroup.of(group).size)
    )


def made(*arguments: object, **options: object) -> GroupConv2d:
    return randomise(GroupConv2d(*arguments, **options)).double().eval()  # type: ignore[arg-type]


def moved(group: PlanarGroup, filters: Tensor, h: int) -> Tensor:
    """(h ψ)[s, u] = ψ[h⁻¹ s, h⁻¹ u], element by element from the definition. Shape: (..., |H|, k, k)."""
    back = [group.product(group.inverse(h), s) for s in range(group.size)]
    return group.turn(filters[..., back, :, :], h)


@pytest.mark.parametrize("name", ["C4", "D4", "D2"])
def test_sum_over_the_group(name: str) -> None:
    """Lifting, group-to-group and projection, weights and inputs' gradients included, by loops over elements."""
    group, n = PlanarGroup.of(name), PlanarGroup.of(name).size
    lift, conv = made("2x0", f"3x{name}", 3, padding=1), made(f"3x{name}", f"2x{name}", 3, padding=1)
    x = images("2x0").requires_grad_()
    y = conv(lift(x))
    psi, phi = lift.weights[0].view(3, 2, 3, 3), conv.weights[0].view(2, 3, n, 3, 3)
    middle = torch.zeros(2, 3, n, 7, 7, dtype=torch.float64)
    for h in range(n):
        middle[:, :, h] = F.conv2d(x, group.turn(psi, h), padding=1) + lift.bias[:, None, None]
    expected = torch.zeros(2, 2, n, 7, 7, dtype=torch.float64)
    for h in range(n):
        turned = moved(group, phi, h)
        for s in range(n):
            expected[:, :, h] = expected[:, :, h] + F.conv2d(middle[:, :, s], turned[:, :, s], padding=1)
        expected[:, :, h] = expected[:, :, h] + conv.bias[:, None, None]
    torch.testing.assert_close(y, expected.flatten(1, 2), rtol=0, atol=1e-12)
    leaves = [x, *lift.parameters(), *conv.parameters()]
    weight = torch.randn_like(y)
    found, want = ((a * weight).sum() for a in (y, expected.flatten(1, 2)))
    for a, b in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(want, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(
    ("into", "out"),
    [("2x0", "2x{}"), ("2x{}", "3x{}"), ("2x{}", "2x0"), ("1x0 + 1x{}", "1x{} + 2x0 + 1x{}/C1")],
)
def test_every_element(name: str, into: str, out: str) -> None:
    into, out = into.format(name, name), out.format(name, name)
    for size, pixels in ((3, 7), (4, 6)):
        conv = made(into, out, size, padding=1)
        assert error(conv, images(into, pixels), into, out, name) < 1e-12


@pytest.mark.parametrize(
    ("into", "out"),
    [("2x0", "2x0"), ("1xD4/C2", "1xD4/D1"), ("1xD4", "1xD4/C4"), ("1xD4/D2", "1xD4"), ("1xD4/C4", "1x0")],
)
def test_quotients_have_every_kernel(into: str, out: str) -> None:
    """Weights of a pair of fields are as many as the kernels that commute, found by linear algebra, and exact."""
    conv = made(into, out, 3, group="D4")
    assert error(conv, images(into), into, out, "D4") < 1e-12
    one = made(*(f"1x{t.split('x')[1]}" for t in (into, out)), 3, group="D4")
    a, b = PlanarType.of(one.in_type), PlanarType.of(one.out_type)
    equations = []
    space = torch.eye(b.dim * a.dim * 9, dtype=torch.float64).view(-1, b.dim, a.dim, 3, 3)
    for h in (1, 4):  # a quarter turn and the reflection generate D4
        rows = one.group.turn(space, h)[:, b.permutation(h, "D4")][:, :, a.permutation(h, "D4")]
        equations.append((rows - space).flatten(1))
    free = int((torch.linalg.svdvals(torch.cat(equations, 1)) < 1e-9).sum())
    assert one.weights[0].numel() == free
    each = one.filters[0][0].expand(torch.eye(free, dtype=torch.float64)[:, None], {"index": one.index0_0})
    assert int(torch.linalg.matrix_rank(each.flatten(1))) == free


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kernel_size": 3, "stride": 2, "padding": 1}, 9),
        ({"kernel_size": 4, "stride": 2, "padding": 1}, 8),
        ({"kernel_size": 3, "dilation": 2, "padding": "same"}, 6),
        ({"kernel_size": 2}, 6),
        ({"kernel_size": 5, "padding": 2, "padding_mode": "reflect"}, 6),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "circular", "groups": 2}, 6),
        ({"kernel_size": 1, "bias": False, "groups": 2}, 5),
    ],
    ids=str,
)
def test_options(options: dict, size: int) -> None:
    """Every option is exact, is that of ``conv2d``, and exports as a plain layer with the same output."""
    conv, x = made("4xD4", "2xD4", **options), images("4xD4", size)
    assert error(conv, x, "4xD4", "2xD4", "D4") < 1e-12
    plain = conv.export()
    assert type(plain) is nn.Conv2d
    torch.testing.assert_close(plain(x), conv(x), rtol=0, atol=1e-13)
    single = copy.deepcopy(conv).float()
    torch.testing.assert_close(single.export()(x.float()), single(x.float()), rtol=0, atol=1e-6)
    assert torch.allclose(copy.deepcopy(conv).train()(x), conv(x), rtol=0, atol=1e-13)


def test_groups_are_two_layers() -> None:
    conv, x = made("4xC4", "2xC4", 3, groups=2), images("4xC4")
    y = conv(x)
    for part in (0, 1):
        alone = GroupConv2d("2xC4", "1xC4", 3, bias=False).double()
        alone.weights[0].data.copy_(conv.weights[0][part : part + 1])
        found = y[:, 4 * part : 4 * part + 4] - conv.bias[part]
        torch.testing.assert_close(alone(x[:, 8 * part : 8 * part + 8]), found, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"stride": 2, "padding": 1}, 10),
        ({"dilation": 2, "bias": False}, 11),
        ({"stride": 2, "groups": 2}, 12),
    ],
)
def test_transposed_is_the_adjoint(options: dict, size: int) -> None:
    """The transpose of a convolution with the same weights, exact under every element; variance kept at first."""
    into, out = "4xD4", "2xD4"
    layer = randomise(GroupConvTranspose2d(into, out, 4, **options)).double().eval()
    x = images(into, 5)
    y = layer(x)
    assert y.shape == (2, 16, size, size)
    conv = made(out, into, 4, **{**options, "bias": False})
    conv.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "bias"})
    other = images(out, size)
    constant = 0 if layer.bias is None else layer.bias[layer.get_buffer("field")][:, None, None]
    torch.testing.assert_close((conv(other) * x).sum(), (other * (y - constant)).sum())
    assert error(layer, x, into, out, "D4") < 1e-12
    torch.testing.assert_close(layer.export()(x), y)
    fresh = GroupConvTranspose2d(into, out, 4, **options).double()
    inside = fresh(torch.randn(64, 32, 9, 9, dtype=torch.float64))[..., 6:-6, 6:-6]
    assert 0.8 < float(inside.detach().var()) < 1.25


def test_rows_and_columns_apart_where_the_group_allows_it() -> None:
    conv = made("2x0", "2xD2", (3, 5), padding=(1, 2))
    assert error(conv, images("2x0", (5, 9)), "2x0", "2xD2", "D2") < 1e-12
    with pytest.raises(ValueError, match=r"kernel_size is \(3, 5\).*quarter turns"):
        GroupConv2d("2x0", "2xD4", (3, 5))


def test_exact_after_training() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        randomise(GroupConv2d("1x0", "3xD4", 3, padding=1)), nn.ReLU(), randomise(GroupConv2d("3xD4", "2xD4", 3)),
    ).double()  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    x = images("1x0")
    for _ in range(10):
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    assert error(network, x, "1x0", "2xD4", "D4") < 1e-12


def test_kernel_kept_in_evaluation_follows_its_weights() -> None:
    conv, x = made("1x0", "2xC4", 3), images("1x0")
    with torch.no_grad():
        first = conv(x)
        assert conv._current() is conv._current()
        conv.weights[0].mul_(2)  # in place
        fresh = copy.deepcopy(conv)
        fresh._cache = None
        torch.testing.assert_close(conv(x), fresh(x), rtol=0, atol=0)
        assert not torch.allclose(conv(x), first)
        conv.load_state_dict({name: value / 2 for name, value in conv.state_dict().items()})
        assert not torch.allclose(conv(x), fresh(x))
    conv(x).sum().backward()
    assert conv.weights[0].grad is not None


def test_second_derivatives() -> None:
    conv, x = made("1xC4", "1xC4", 3), images("1xC4", 4, 1).requires_grad_()
    weight = conv.weights[0].detach().clone().requires_grad_()
    function = lambda w, x: torch.func.functional_call(conv, {"weights.0": w}, x).square()  # noqa: E731
    assert torch.autograd.gradgradcheck(function, (weight, x))


def test_initial_variance() -> None:
    """Squares of a row of the kernel sum to 1 on average, whatever the kinds of fields."""
    torch.manual_seed(0)
    for into, out in (("16xD4", "16xD4"), ("16x0 + 8xD4", "8xD4/C2 + 16xD4"), ("8xC4", "64x0")):
        rows = GroupConv2d(into, out, 3).kernel().detach().square().sum((1, 2, 3))
        assert float(rows.mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("name", "into", "out"),
    [
        ("C8", "1x0", "2xC8"),
        ("C8", "1xC8 + 1x0", "1xC8/C2 + 1x0"),
        ("D8", "1xD8", "1xD8/D2"),
        ("C12", "1xC12/C3", "1xC12"),
        ("D4", "1xD4", "1xD4/D1"),
    ],
)
def test_quarter_turns_of_harmonics_are_exact(name: str, into: str, out: str) -> None:
    group, types = PlanarGroup.of(name), (PlanarType.of(into), PlanarType.of(out))
    conv, x = made(into, out, 5, padding=2, filters="harmonics"), images(into, 9)
    plain = conv.export()
    for h in range(group.n // 4, group.size, group.n // 4):
        m, r = divmod(h, group.n)

        def act(field: PlanarType, f: Tensor, h: int = h, m: int = m, r: int = r) -> Tensor:
            f = f[:, field.permutation(h, name)]
            return torch.rot90(f.flip(-1) if m else f, 4 * r // group.n, (-2, -1))

        y = act(types[1], conv(x))
        torch.testing.assert_close(conv(act(types[0], x)), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(plain(act(types[0], x)), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("out", "into"), [("C2", "C1"), ("D1", "D2"), ("D8", "C4"), (None, None), ("C4", None)]
)
def test_harmonics_to_quotients(out: str | None, into: str | None) -> None:
    """A quotient field that comes out is a regular one that does not tell the elements of a coset apart."""
    group, basis = PlanarGroup.of("D8"), PlanarBasis(5, 0.02)
    few, every = HarmonicFilters(group, out, into, basis), HarmonicFilters(group, "C1", into, basis)
    weight = torch.randn(2, 3, few.count, dtype=torch.float64)
    kernel = few.expand(weight, few.constants)
    whole = every.expand(weight @ few.constants["mix"], every.constants)
    torch.testing.assert_close(whole, kernel[:, cosets(group, out or "D8")[0]], rtol=0, atol=1e-12)
    # and no other regular ones do: the mean over the subgroup keeps as many weights
    mean = torch.zeros(every.count, every.count, dtype=torch.float64)
    unit = every.expand(torch.eye(every.count, dtype=torch.float64)[:, None], every.constants)[:, :, 0]
    for k in group.subgroup(out or "D8"):
        right = [group.product(h, k) for h in range(group.size)]
        mean += torch.linalg.lstsq(unit.flatten(1).T, unit[:, right].flatten(1).T).solution / group.size
    kept = int((torch.linalg.svdvals(mean) > 1e-9).sum())
    assert kept == few.count


@pytest.mark.parametrize(("rectify", "sigma", "bound"), [(False, 2, 4e-3), (True, 3, 1.5e-2)])
@pytest.mark.parametrize(("name", "size"), [("C8", 5), ("C8", 7), ("C16", 5), ("C16", 7)])
def test_turns_between_quarter_turns(name: str, size: int, rectify: bool, sigma: int, bound: float) -> None:
    """Two layers on smooth images, one step of the group: 45 and 22.5 degrees. A rectifier adds edges that pixels cannot hold."""
    torch.manual_seed(0)
    n, fields = 41, PlanarType.of(f"2x{name}")
    lift, conv = (made(t, f"2x{name}", size, padding=size // 2) for t in ("1x0", f"2x{name}"))
    x = ndimage.gaussian_filter(torch.randn(2, 1, n, n).double().numpy(), (0, 0, sigma, sigma), mode="wrap")

    def turned(f: Tensor) -> Tensor:
        angle = 360 / PlanarGroup.of(name).n
        return torch.from_numpy(ndimage.rotate(f.numpy(), angle, (-1, -2), reshape=False, order=5))

    def network(f: Tensor) -> Tensor:
        return conv(torch.relu(lift(f)) if rectify else lift(f))

    with torch.no_grad():
        x = torch.from_numpy(x / x.std())
        found, expected = network(turned(x)), turned(network(x)[:, fields.permutation(1)])
    line = torch.arange(n) - (n - 1) / 2
    inside = torch.hypot(line[:, None], line) < n / 2 - 8
    assert float((found - expected)[..., inside].norm() / expected[..., inside].norm()) < bound


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("2x0", "2x0", 3), {}, "give group"),
        (("2xC4", "2xD4", 3), {}, "one group"),
        (("2xD4", "2xD4", 0), {}, "kernel_size"),
        (("2xD4", "2xD4", 4), {"padding": "same"}, "odd kernel"),
        (("2xD4", "2xD4", 3), {"padding_mode": "zero"}, "padding_mode is 'zero'"),
        (("3xD4", "2xD4", 3), {"groups": 2}, "groups is 2"),
        (("3xC8", "2xC8", 3), {"filters": "pixels"}, "filters is 'pixels' for group C8"),
        (("3xD2", "2xD2", (3, 5)), {"filters": "harmonics"}, "alike for harmonics"),
    ],
)
def test_errors(arguments: tuple, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        GroupConv2d(*arguments, **options)
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 5, 5\); expected \(batch, 16, H, W\)"):
        GroupConv2d("2xD4", "2xD4", 3)(torch.zeros(1, 3, 5, 5))
