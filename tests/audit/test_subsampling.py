"""The checker of subsampling against brute force, its report, and images brought to exact sizes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo import audit, models
from spheregeo.audit.lattice.subsampling import ExactSize, crop_to_exact, pad_to_exact
from spheregeo.nn.plane import CosetSubsample2d, fit_size

Cases = Iterator[tuple[nn.Module, int]]
ELEMENTS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda t: torch.rot90(t, 1, (-2, -1)),
    lambda t: t.flip(-1),
    lambda t: t.flip(-2),
)


class Turned(nn.Module):
    """A convolution whose kernel can be turned, as all copies of a filter are in a group convolution."""

    def __init__(self, call: Callable[..., Tensor], kernel: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 1, *kernel, dtype=torch.float64))
        self.call = call

    def forward(self, x: Tensor, element: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        return self.call(x, self.weight if element is None else element(self.weight))


def brute_force(layer: nn.Module, size: tuple[int, int]) -> list[bool]:
    """Whether quarter turns, and reversals of columns and rows, commute with a layer for a random image and all single pixels."""
    random = (
        torch.randn(1, 1, *size, dtype=torch.float64) + 0.3
    )  # a maximum may hide that a pixel is not read
    x = torch.cat([random, torch.eye(size[0] * size[1], dtype=torch.float64).view(-1, 1, *size)])
    found = []
    with torch.no_grad():
        y = layer(x)
        for element in ELEMENTS:
            moved = layer(element(x), element) if isinstance(layer, Turned) else layer(element(x))
            expected = element(y)
            # windows without pixels give -inf at both places
            found.append(
                moved.shape == expected.shape and torch.allclose(moved, expected, rtol=0, atol=1e-11)
            )
    return found


def convolutions(sizes: range, kernels: range, strides: range, pads: range, dilations: range) -> Cases:
    for size, k, s, p, d in itertools.product(sizes, kernels, strides, pads, dilations):
        if size + 2 * p >= d * (k - 1) + 1:
            yield Turned(lambda x, w, a=(s, p, d): F.conv2d(x, w, None, *a), (k, k)), size


def transposed(sizes: range) -> Cases:
    for size, k, s, p, more, d in itertools.product(
        sizes, (1, 2, 3, 4), (1, 2, 3), (0, 1), (0, 1, 2), (1, 2)
    ):
        if more < max(s, d) and (size - 1) * s - 2 * p + d * (k - 1) + more + 1 > 0:
            yield (
                Turned(lambda x, w, a=(s, p, more, 1, d): F.conv_transpose2d(x, w, None, *a), (k, k)),
                size,
            )


def pools(sizes: range, kernels: range, strides: range) -> Cases:
    for size, k, s, ceil in itertools.product(sizes, kernels, strides, (False, True)):
        for p in range(k // 2 + 1):
            for d in (1, 2):
                if size + 2 * p >= d * (k - 1) + 1:
                    yield nn.MaxPool2d(k, s, p, d, ceil_mode=ceil), size
            for inside, divisor in ((True, None), (False, None), (True, 3)):
                if size + 2 * p >= k:
                    yield nn.AvgPool2d(k, s, p, ceil, inside, divisor), size


def resizes(sizes: range) -> Cases:
    for size, out in itertools.product(sizes, range(1, 8)):
        yield nn.AdaptiveAvgPool2d(out), size
        yield nn.AdaptiveMaxPool2d(out), size
        for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area"):
            corners = {"align_corners": out % 2 == 0} if mode in ("bilinear", "bicubic") else {}
            yield nn.Upsample(size=(out, out), mode=mode, **corners), size
            yield nn.Upsample(scale_factor=out / 2 if out > 1 else 1.0, mode=mode, **corners), size


def disagreements(cases: Cases) -> tuple[int, list[str]]:
    """The number of cases, and those in which the checker's word is another than brute force's."""
    count, wrong = 0, []
    for layer, size in cases:
        count += 1
        found = audit.subsampling(layer, size, channels=1, reach=0)
        turns, columns, rows = brute_force(layer, (size, size))
        judged = [(step.turns, step.columns, step.rows) for step in found.layers] or [(True, True, True)]
        if judged != [(turns, columns, rows)]:
            wrong.append(f"{layer} {size}: {judged}, brute force {(turns, columns, rows)}: {found}")
    return count, wrong


def test_checker_agrees_with_brute_force() -> None:
    torch.manual_seed(0)
    cases = itertools.chain(
        itertools.islice(
            convolutions(range(5, 8), range(1, 5), range(1, 4), range(2), range(1, 3)), 0, None, 2
        ),
        itertools.islice(transposed(range(3, 5)), 0, None, 5),
        itertools.islice(pools(range(4, 8), range(2, 4), range(1, 4)), 0, None, 3),
        itertools.islice(resizes(range(5, 8)), 0, None, 5),
    )
    count, wrong = disagreements(cases)
    assert count > 200
    assert not wrong, wrong[0]


def test_checker_on_long_thin_images() -> None:
    torch.manual_seed(1)
    layers = [
        (Turned(lambda x, w: F.conv2d(x, w, None, 2, 1), (3, 3)), (9, 13)),
        (Turned(lambda x, w: F.conv2d(x, w, None, 2, 1), (3, 3)), (9, 12)),
        (Turned(lambda x, w: F.conv2d(x, w, None, (1, 2), 1), (3, 3)), (9, 13)),
        (Turned(lambda x, w: F.conv2d(x, w, None, 1, (2, 1)), (3, 3)), (9, 13)),
        (nn.MaxPool2d((2, 3)), (8, 9)),
        (nn.AdaptiveAvgPool2d((3, 5)), (8, 9)),
        (nn.AdaptiveAvgPool2d((None, 5)), (8, 9)),
        (nn.Upsample(size=(16, 18), mode="bilinear"), (8, 9)),
        (nn.Upsample(scale_factor=2.0, mode="nearest"), (8, 9)),
    ]
    for layer, size in layers:
        turns, columns, rows = brute_force(layer, size)
        found = audit.subsampling(layer, size, channels=1, reach=0)
        (step,) = found.layers
        assert (step.turns, step.columns, step.rows) == (turns, columns, rows), f"{layer} {size}"
        assert found.exact == turns and found.reflections == (rows and columns)
        assert bool(step.why) != step.exact


class Functional(nn.Module):
    """Pads, slices and pools by functions, keeps a bank of filters, and has a layer that is exact by its own rule."""

    def __init__(self, pad: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.pad = pad
        self.weight = nn.Parameter(torch.randn(2, 4, 1, 3, 3))
        self.coset = CosetSubsample2d(2, return_pose=False)

    def forward(self, x: Tensor) -> Tensor:
        bank = F.pad(self.weight.flatten(0, 1)[..., 1:], (0, 1))  # no image: not judged
        x = F.conv2d(F.pad(x, self.pad, mode="circular"), bank, stride=2)
        return self.coset(x)[..., 1:-1, 1:-1].amax((-2, -1))


def test_functions_are_followed_and_weights_are_not() -> None:
    found = audit.subsampling(Functional((1, 1, 1, 1)), 17, channels=1, reach=4)
    assert found.exact and not found.unknown
    assert [s.operation.split()[0] for s in found.layers] == ["conv2d", "CosetSubsample2d", "slice"]
    assert found.layers[0].size == (17, 17) and found.layers[1].module == "coset"
    assert found.heights == (13, 15, 17, 19, 21)
    uneven = audit.subsampling(Functional((0, 1, 0, 1)), 16, channels=1, reach=0)
    assert not uneven.exact and uneven.first is not None and uneven.first.operation.startswith("conv2d")


def test_residual_network_and_its_report() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, 2, 1)
            self.short = nn.Conv2d(2, 2, 1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x) + self.short(x))

    net = nn.Sequential(
        nn.Conv2d(3, 2, 7, 2, 3), nn.MaxPool2d(3, 2, 1), Block(), Block(), nn.AdaptiveAvgPool2d(1)
    )
    net[2].conv.weight.requires_grad_(False)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    found = audit.subsampling(net, 32)
    assert net.training and all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert not found.exact and found.first is not None and found.first.module == "0"
    assert "(32 + 2·3 - 1·(7 - 1) - 1) mod 2 = 1" in found.first.why
    assert found.heights == found.widths == (1, 3, 17, 33, 49, 65)
    assert "2.conv" in str(found) and "exact heights nearby: 1, 3, 17, 33, 49, 65" in str(found)
    assert json.loads(json.dumps(found.as_dict()))["exact"] is False
    assert audit.subsampling(net, 33).first is None
    with pytest.raises(ValueError, match="size is"):
        audit.subsampling(net, 0)
    with pytest.raises(TypeError, match="expected a torch module"):
        audit.subsampling(F.relu, 4)  # type: ignore[arg-type]


def test_networks_of_one_size_are_walked() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 4, 4), nn.Flatten(), nn.Linear(2 * 16, 3))
    found = audit.subsampling(net, 16)
    assert found.exact and found.heights == (16,)
    grid = torch.zeros(1, 5, 5, 2)

    class Sampler(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.grid_sample(x, grid, align_corners=False)

    assert audit.subsampling(Sampler(), 7, channels=1, reach=0).unknown == ("network (grid_sample)",)


@pytest.mark.parametrize("how", ["pad", "crop"])
@pytest.mark.parametrize("size", [(10, 10), (9, 11), (12, 9)])
def test_networks_become_exact(how: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    symmetric = torch.randn(3, 3, dtype=torch.float64)
    symmetric = sum(torch.rot90(s, k) for s in (symmetric, symmetric.T) for k in range(4))  # type: ignore[assignment]

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            w = symmetric[None, None]
            y = F.relu(F.conv2d(x, w, torch.ones(1).double(), 2, 1))
            return F.interpolate(y, (x.shape[-2], x.shape[-1]), mode="bilinear", align_corners=True)

    net = Net()
    x = torch.randn(2, 1, *size, dtype=torch.float64)
    exact = (pad_to_exact if how == "pad" else crop_to_exact)(net, channels=1)
    target = exact.target(*size)
    assert all(
        n % 2 == 1 and (n >= old if how == "pad" else n <= old) for n, old in zip(target, size, strict=True)
    )
    assert exact(x).shape == x.shape
    for element in ELEMENTS:
        torch.testing.assert_close(exact(element(x)), element(exact(x)), rtol=0, atol=1e-12)
    if 10 in size or 12 in size:
        assert not audit.subsampling(net, size, channels=1, reach=0).exact
        assert (net(x.flip(-2)) - net(x).flip(-2)).abs().max() > 1e-3


def test_exact_size_prefers_plain_padding() -> None:
    pooled = ExactSize(nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2)))
    assert pooled.target(28, 30) == (28, 32)
    assert pooled(torch.rand(1, 3, 28, 30)).shape == (1, 3, 7, 8)  # a coarser map stays as it is
    with pytest.raises(ValueError, match="expected 'pad' or 'crop'"):
        ExactSize(nn.Identity(), "stretch")
    with pytest.raises(ValueError, match="no height within 3"):
        ExactSize(nn.ConvTranspose2d(1, 1, 3, 2, 1, 1), reach=3)(torch.rand(1, 1, 8, 8))


def test_size_is_fitted_about_the_centre() -> None:
    x = torch.rand(2, 3, 4, 6, 7, dtype=torch.float64)
    for size in ((6, 7), (8, 9), (7, 8), (9, 5), (3, 4), (6, 12)):
        assert fit_size(x, size).shape == (2, 3, 4, *size)
        turned = fit_size(torch.rot90(x, 1, (-2, -1)), size[::-1])
        torch.testing.assert_close(turned, torch.rot90(fit_size(x, size), 1, (-2, -1)), rtol=0, atol=1e-15)
        torch.testing.assert_close(fit_size(x.flip(-1), size), fit_size(x, size).flip(-1), rtol=0, atol=1e-15)
    torch.testing.assert_close(fit_size(fit_size(x, (10, 11)), (6, 7)), x)
    one = torch.ones(1, 1, 6, 6)
    assert torch.equal(fit_size(one, (7, 5)), torch.ones(1, 1, 7, 5))
    with pytest.raises(ValueError, match="size is"):
        fit_size(x, (0, 3))


def test_one_pixel_decides_in_the_networks_of_the_study() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 12, 12, dtype=torch.float64)
    errors = []
    for extra in (0, 1):
        net = models.create("strided-group-cnn", 1, 3, None, width=2, extra=extra).double().eval()
        audit.randomise(net, torch.Generator().manual_seed(1), x)
        with torch.no_grad():
            y, turned = net(x), torch.stack([net(element(x)) for element in ELEMENTS])
        errors.append(float((turned - y).abs().max() / y.abs().max()))
        assert audit.subsampling(net, 12, reach=0).exact == (extra == 0)
    assert errors[0] < 1e-12 < 1e-3 < errors[1]
