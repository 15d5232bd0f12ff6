"""Networks of poses: torchvision's layout, what turns of images and the icosahedron's rotations change, steps of training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from spheregeo import audit, models
from spheregeo.groups import FiniteGroup, icosahedral, random_rotations
from spheregeo.models import Image2Icosahedron, Image2Sphere, PoseCNN, ResNetFeatures
from spheregeo.models.poses.image2icosahedron import icosahedral_sites
from spheregeo.models.poses.resnet import LAYOUTS


def layout(kind: str, blocks: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's residual networks, written out from its documentation of the architecture."""
    found: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name: str, width: int) -> None:
        found.update(
            {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
        )
        found[f"{name}.num_batches_tracked"] = ()

    norm("bn1", 64)
    before = 64
    for k, count in enumerate(blocks):
        width, out = 64 * 2**k, 64 * 2**k * (4 if kind == "bottleneck" else 1)
        for i in range(count):
            at = f"layer{k + 1}.{i}"
            shapes = [(width, before, 3, 3), (width, width, 3, 3)]
            if kind == "bottleneck":
                shapes = [(width, before, 1, 1), (width, width, 3, 3), (out, width, 1, 1)]
            for j, shape in enumerate(shapes):
                found[f"{at}.conv{j + 1}.weight"] = shape
                norm(f"{at}.bn{j + 1}", shape[0])
            if not i and (k or before != out):
                found[f"{at}.downsample.0.weight"] = (out, before, 1, 1)
                norm(f"{at}.downsample.1", out)
            before = out
    return {**found, "fc.weight": (1000, before), "fc.bias": (1000,)}


@pytest.mark.parametrize("name", LAYOUTS)
def test_weights_of_torchvision_s_layout_load(name: str) -> None:
    expected = layout(*LAYOUTS[name])
    with torch.device("meta"):
        features = ResNetFeatures.named(name)
    own = {key: tuple(value.shape) for key, value in features.state_dict().items()}
    assert own == {key: shape for key, shape in expected.items() if not key.startswith("fc.")}


def test_random_weights_from_a_file(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    given = {k: 0.1 * torch.rand(s, generator=generator) for k, s in layout(*LAYOUTS["resnet18"]).items()}
    torch.save(given, tmp_path / "weights.pth")
    features = Image2Sphere(
        3, 1, backbone="resnet18", weights=str(tmp_path / "weights.pth"), features=4, lmax=2
    ).backbone
    assert all(
        torch.equal(value, given[key]) for key, value in features.state_dict().items() if "tracked" not in key
    )
    assert features.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 512, 2, 2)
    for wrong, message in (
        ({**given, "conv1.weight": torch.zeros(64, 1, 7, 7)}, r"conv1.weight of shape \(64, 1, 7, 7\)"),
        ({k: v for k, v in given.items() if k != "bn1.weight"}, "lacks bn1.weight"),
        ({**given, "extra": torch.zeros(1)}, "has extra beyond"),
    ):
        with pytest.raises(ValueError, match=message):
            features.load(wrong)
    (tmp_path / "torn.pth").write_bytes((tmp_path / "weights.pth").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"torn\.pth cannot be read as a state dict"):
        features.load(tmp_path / "torn.pth")
    with pytest.raises(ValueError, match="backbone is 'vgg'"):
        PoseCNN(3, 1, backbone="vgg")


def test_a_symmetric_network_turns_with_its_images() -> None:
    options = {"width": 4, "depth": 2, "features": 4, "fields": 2, "lmax": 3}
    model = Image2Sphere(1, 1, symmetric=True, **options).double()
    found = audit.measure_poses(model, 14, 1, num=2)
    assert found["quarter turns"] < 1e-6 and found["half turns"] < 1e-6 and found["pose"] < 0.5
    plain = audit.measure_poses(Image2Sphere(1, 1, **options), 14, 1, num=2)
    assert plain["quarter turns"] > 0.05


def test_the_sixty_rotations_permute_features_and_turn_the_density() -> None:
    group, elements = FiniteGroup.of("I"), icosahedral()
    assert group.order == 60 and torch.equal(group.table.sort(1).values, torch.arange(60).expand(60, 60))
    assert torch.equal(
        group.table.gather(1, group.inverse[:, None])[:, 0], torch.zeros(60, dtype=torch.int64)
    )
    assert (elements[group.table] - elements[:, None] @ elements).abs().max() < 1e-14  # closed
    model = Image2Icosahedron(1, 1, width=4, depth=2, features=3, fields=2, layers=1).double().eval()
    audit.randomise(model, torch.Generator().manual_seed(0))
    places = [icosahedral_sites(order)[1] for order in (5, 3)]
    assert [len(p) for p in places] == [12, 20]
    maps = [torch.randn(2, 3, len(p), dtype=torch.float64) for p in places]
    rotations = random_rotations(7)
    before = model.density(model.on_group(maps).flatten(1))
    for g in (7, 31):

        def moved(x: Tensor, p: Tensor, g: int = g) -> Tensor:
            from_where = ((p @ elements[g])[:, None] - p).norm(dim=2).argmin(1)  # (g f)(p) = f(g⁻¹ p)
            return x[:, :, from_where]

        after = model.density(
            model.on_group([moved(x, p) for x, p in zip(maps, places, strict=True)]).flatten(1)
        )
        expected = before.log_prob(rotations.expand(2, 7, 3, 3))
        found = after.log_prob((elements[g] @ rotations).expand(2, 7, 3, 3))
        assert (expected - found).abs().max() < 1e-4  # densities are made in float32


@pytest.mark.parametrize("name", models.names(domain="poses"))
def test_steps_of_training_lower_the_loss(name: str) -> None:
    torch.manual_seed(0)
    small = {} if name == "pose-cnn" else {"features": 4, "fields": 2}
    model = models.create(name, 1, 1, None, width=4, depth=2, **small)
    image, truth = torch.randn(4, 1, 12, 12), random_rotations(4).float()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(8):
        loss = model.density(model(image)).loss(truth).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
