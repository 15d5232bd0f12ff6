"""Short names of networks: each gives what the task wants, on any grid, and takes the options filed under it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spheregeo import models
from spheregeo.grids import Equiangular, Grid, HEALPix
from spheregeo.models import ALIASES, options_of, resolve
from spheregeo.tasks import Classification, Depth, Segmentation


@pytest.mark.parametrize("output", ["field", "label"])
@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_every_alias_names_a_model_of_each_kind(alias: str, output: str) -> None:
    assert models.output_of(resolve(alias, output)) == output


def test_what_the_task_cannot_use_is_refused() -> None:
    assert resolve("sphere-unet-base") == "sphere-unet-base"
    with pytest.raises(
        ValueError, match=r"'disco-classifier' does not give a value at every point.*in short .*disco"
    ):
        resolve("disco-classifier", "field")
    with pytest.raises(ValueError, match=r"'sphere-unet' does not give one label.*disco-classifier"):
        resolve("sphere-unet", "label")
    with pytest.raises(
        ValueError, match=r"no model is named 'resnet'; those for this task are .*, or in short"
    ):
        resolve("resnet")
    with pytest.raises(ValueError, match="output is 'two words'; expected one word"):
        models.register("new", output="two words")


def test_a_task_of_a_new_kind_finds_its_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and aliases are open: nothing but the decorator names them."""
    monkeypatch.setattr(models.registry, "_ENTRIES", dict(models.registry._ENTRIES))

    @models.register("image-codec", output="image", alias="disco")
    def build(in_channels: int, out_channels: int, grid: None) -> torch.nn.Module:
        return torch.nn.Linear(in_channels, out_channels)

    assert resolve("disco", "image") == "image-codec" and resolve("disco") == "sphere-unet-small"
    assert models.aliases()["disco"]["image"] == "image-codec"
    assert options_of("image-codec", {"disco": {"position": True}}) == {"position": True}
    with pytest.raises(
        ValueError, match=r"'gauge-unet' does not give 'image'.*are image-codec, or in short disco"
    ):
        resolve("gauge-unet", "image")
    with pytest.raises(ValueError, match="alias 'disco' stands for another model"):
        models.register("second", output="image", alias="disco")(torch.nn.Identity)


def test_options_filed_under_a_name_hold_for_its_networks_alone() -> None:
    options = {"norm": "group", "disco": {"position": True}, "planar-unet": {"norm": "none"}, "gauge": None}
    assert options_of("sphere-unet-small", options) == {"norm": "group", "position": True}
    assert options_of("sphere-unet-base", options) == {"norm": "group", "position": True}
    assert options_of("planar-unet", options) == {"norm": "none"}
    assert options_of("gauge-unet", options) == {"norm": "group"} == options_of("pixel-mlp", options)
    assert options_of("pixel-mlp", None) == {}
    with pytest.raises(ValueError, match=r"options of 'disco' are 3; expected a mapping"):
        options_of("pixel-mlp", {"disco": 3})


def batch(grid: Grid) -> dict[str, torch.Tensor]:
    label = torch.randint(0, 4, (2, *grid.shape))
    return {"image": torch.randn(2, 3, *grid.shape), "label": label, "depth": torch.rand(2, *grid.shape) + 1}


@pytest.mark.parametrize("grid", [Equiangular(16, 32), HEALPix(4)], ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_every_alias_trains_in_every_task(alias: str, grid: Grid) -> None:
    common: dict[str, Any] = {"grid": grid, "network": alias, "width": 4, "depth": 2}
    fields = batch(grid)
    tasks = [
        (Segmentation(3, 4, **common), fields),
        (Depth(3, **common), fields),
        (Classification(3, 4, **common), {**fields, "label": torch.tensor([0, 3])}),
    ]
    for task, data in tasks:
        optimizer = task.configure_optimizers()
        before = [p.detach().clone() for p in task.network.parameters()]
        loss = task.forward_batch(data)["loss"]
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
        assert all(p.grad is not None for p in task.network.parameters())
        assert any(not torch.equal(p, q) for p, q in zip(before, task.network.parameters(), strict=True))
        assert task.hparams["network"] == resolve(alias, task.output)
