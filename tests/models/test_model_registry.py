"""Models by name: every one of them builds, runs and trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spheregeo import models
from spheregeo.grids import Equiangular


@pytest.mark.parametrize("name", [*models.names("field", "grid"), *models.names("label", "grid")])
def test_every_model(name: str) -> None:
    model = models.create(name, 2, 3, Equiangular(16, 32), width=4, depth=3)
    y = model(torch.randn(2, 2, 16, 32))
    assert y.shape == ((2, 3, 16, 32) if name in models.names("field") else (2, 3))
    y.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    again = models.create(name, 2, 3, Equiangular(16, 32), width=4, depth=3)
    again.load_state_dict(model.state_dict())


def test_unknown_names_and_options() -> None:
    with pytest.raises(ValueError, match=r"no model is named 'resnet'.*sphere-unet"):
        models.create("resnet", 2, 3, Equiangular(8, 16))
    with pytest.raises(ValueError, match="takes no option 'colour'; its options are width"):
        models.create("pixel-mlp", 2, 3, Equiangular(8, 16), colour=1)
    with pytest.raises(ValueError, match="exists already"):
        models.register("pixel-mlp")(torch.nn.Identity)


def test_domains_keep_apart_what_takes_other_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.registry, "_ENTRIES", dict(models.registry._ENTRIES))

    @models.register("cloud", output="label", domain="points")
    def build(in_channels: int, out_channels: int, grid: None, *, width: int = 3) -> torch.nn.Module:
        return torch.nn.Linear(in_channels, out_channels * width)

    assert models.domain_of("cloud") == "points" and models.domain_of("pixel-mlp") == "grid"
    assert "cloud" in models.names() and "cloud" in models.names("label", "points")
    assert "cloud" not in models.names("label", "grid") and "cloud" not in models.names(domain="molecule")
    assert set(models.names("field", "grid")) <= set(models.names("field"))
    assert models.create("cloud", 2, 3, None, width=2)(torch.zeros(1, 2)).shape == (1, 6)
    assert models.resolve("cloud", "label", "points") == "cloud"
    with pytest.raises(
        ValueError, match=r"grid is Equiangular.* but model 'cloud' works on 'points'; expected None"
    ):
        models.create("cloud", 2, 3, Equiangular(8, 16))
    with pytest.raises(ValueError, match="takes no option 'native'"):
        models.create("cloud", 2, 3, None, native=Equiangular(8, 16))
    with pytest.raises(
        ValueError, match=r"'cloud' works on clouds of points, this task on signals on grids; those"
    ):
        models.resolve("cloud", "label")
    with pytest.raises(
        ValueError, match=r"'pixel-mlp' works on signals on grids, this task on clouds of points"
    ):
        models.resolve("pixel-mlp", "label", "points")
    with pytest.raises(ValueError, match="domain is 'a mesh'; expected one word"):
        models.register("new", domain="a mesh")
    with pytest.raises(ValueError, match="only models on grids"):
        models.register("new", domain="points", native=lambda grid: grid)


def test_a_network_of_clouds_gives_labels_and_fields_under_one_name() -> None:
    for name in models.names(domain="points"):
        assert models.outputs_of(name) == ("label", "field") and models.output_of(name) == "label", name
        assert models.resolve(name, "field", "points") == name
    assert models.outputs_of("pixel-mlp") == ("field",)
    with pytest.raises(ValueError, match="output is 'mesh'; expected one of 'label', 'field'"):
        models.create("pointnet", 0, 2, None, output="mesh")
    coarse: Any = models.create("sprin", 0, 2, None, width=4, counts=(4,), k=3)
    positions = torch.randn(9, 3)
    with pytest.raises(ValueError, match="SPRIN with output 'label' has no features of all points"):
        coarse.point_features(positions, None, None, coarse.neighbors(positions))


@pytest.mark.parametrize("name", ["steerable-points", "steerable-points-base", "gem-classifier"])
def test_options_that_are_handed_on_are_checked_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"model '{name}' takes no option 'colour'; its options are .*width"):
        models.create(name, 2, 3, None, colour=1)


def test_options_of_every_builder_are_known() -> None:
    """A builder that passes options on says to what, so that a misspelt option is an error for every model."""
    for name in models.names():
        grid = Equiangular(8, 16) if models.domain_of(name) == "grid" else None
        with pytest.raises(ValueError, match="takes no option 'colour'"):
            models.create(name, 2, 3, grid, colour=1)


@pytest.mark.parametrize("name", ["steerable-molecule", "tfn", "segnn", "implicit-molecule"])
def test_options_of_earlier_recipes_and_checkpoints(name: str) -> None:
    torch.manual_seed(0)
    with pytest.warns(DeprecationWarning, match="degree is called num_neighbors"):
        former = models.create(name, 10, 1, None, width=8, depth=1, degree=5.0)
    torch.manual_seed(0)
    today = models.create(name, 10, 1, None, width=8, depth=1, num_neighbors=5.0)
    positions, numbers, batch = (
        torch.randn(4, 3),
        torch.tensor([1, 6, 8, 1]),
        torch.zeros(4, dtype=torch.int64),
    )
    graph = today.neighbors(positions, batch)  # type: ignore[operator]
    torch.testing.assert_close(
        *(m(positions, numbers, batch, graph) for m in (former, today)), rtol=0, atol=0
    )
