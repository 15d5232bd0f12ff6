"""Icosahedral U-Net and classifier: all 60 rotations with everything random, training, sizes, errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spheregeo.audit import randomise
from spheregeo.grids import HEALPix, Icosahedral
from spheregeo.models import IcosahedralClassifier, IcosahedralUNet
from spheregeo.nn import IcosahedralConv

GRID = Icosahedral(3)


def turned(x: Tensor) -> list[Tensor]:
    """The field under each of the 60 rotations."""
    assert GRID.symmetry is not None
    return [torch.empty_like(x).index_copy_(2, go, x) for go in GRID.symmetry.permutations]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_unet_commutes_with_the_60_rotations(norm: str, training: bool) -> None:
    x = torch.randn(2, 2, GRID.num_points, dtype=torch.float64)
    model = IcosahedralUNet(2, 3, GRID, width=3, depth=3, norm=norm).double()
    model = randomise(model, x=x).train(training)
    y = model(x)
    step = 1 if norm == "batch" and not training else 7
    for moved, expected in list(zip(turned(x), turned(y), strict=True))[::step]:
        assert (model(moved) - expected).norm() / expected.norm() < 1e-12
    assert y.std(-1).min() > 1e-3 * y.abs().max()  # it is a field, not a constant


def test_classifier_does_not_see_the_60_rotations() -> None:
    x = torch.randn(2, 2, GRID.num_points, dtype=torch.float64)
    model = randomise(IcosahedralClassifier(2, 5, GRID, width=3, depth=3).double(), x=x).eval()
    y = model(x)
    for moved in turned(x):
        assert (model(moved) - y).norm() / y.norm() < 1e-12
    assert (y[0] - y[1]).norm() / y.norm() > 1e-3  # but it does see what is drawn on it


def test_classifier_has_the_published_sizes() -> None:
    model = IcosahedralClassifier(1, 10, Icosahedral(4))
    convs = [m for m in model.modules() if isinstance(m, IcosahedralConv)]
    assert [m.out_channels for m in convs] == [8, 16, 16, 24, 24, 32, 64]
    assert [m.stride for m in convs] == [1, 2, 1, 2, 1, 2, 1]
    assert [m.in_type for m in convs] == ["scalar"] + ["regular"] * 6
    assert [m.weight.shape[-1] for m in convs] == [7] + [42] * 6


def test_unet_learns_the_size_of_a_gradient() -> None:
    grid = Icosahedral(2)
    z = grid.points.float().T
    form = torch.randn(16, 3, 3)
    f = torch.einsum("bij,ip,jp->bp", form, z, z)
    gradient = torch.einsum("bij,jp->bip", form + form.transpose(1, 2), z)
    target = (gradient - (gradient * z).sum(1, keepdim=True) * z).norm(dim=1)
    target = (target - target.mean()) / target.std()
    model = IcosahedralUNet(1, 1, grid, width=4, depth=2)
    optimiser = torch.optim.Adam(model.parameters(), 3e-2)
    for _ in range(50):
        loss = (model(f[:, None])[:, 0] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.detach() < 0.2  # of a variance of 1; three seeds gave 0.02


def test_weights_serve_at_another_level() -> None:
    small = IcosahedralUNet(2, 3, Icosahedral(3), width=2, depth=2)
    large = IcosahedralUNet(2, 3, Icosahedral(4), width=2, depth=2)
    large.load_state_dict(small.state_dict())
    assert large(torch.randn(1, 2, 2562)).shape == (1, 3, 2562)


def test_errors_say_what_came_and_what_to_do() -> None:
    for build, name in (
        (IcosahedralUNet, "icosahedral-unet"),
        (IcosahedralClassifier, "icosahedral-classifier"),
    ):
        with pytest.raises(ValueError, match=rf"HEALPix.*resample the field.*create\('{name}'"):
            build(1, 2, HEALPix(4))
        with pytest.raises(ValueError, match=r"depth is 4.*expected 1 <= depth <= 3"):
            build(1, 2, GRID)
        with pytest.raises(ValueError, match="width is 0"):
            build(1, 2, GRID, depth=2, width=0)
        with pytest.raises(ValueError, match="norm is 'group'; choose batch or none"):
            build(1, 2, GRID, depth=2, norm="group")
        with pytest.raises(ValueError, match=r"\(1, 2, 162\)"):
            build(2, 2, GRID, depth=2)(torch.randn(1, 2, 162))
    with pytest.raises(ValueError, match="blocks is -1"):
        IcosahedralUNet(1, 2, GRID, depth=2, blocks=-1)
    with pytest.raises(ValueError, match="dropout is 1"):
        IcosahedralClassifier(1, 2, GRID, depth=2, dropout=1)
