from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image

from spheregeo.data import (
    IGNORE,
    FieldsData,
    FolderData,
    KoppenData,
    RoomsData,
)
from spheregeo.grids import Equiangular

SIZE = (16, 32)


def rooms(**options: Any) -> RoomsData:
    return RoomsData(**{"size": SIZE, "train": 5, "val": 2, "test": 3, "batch_size": 2, **options})


def all_images(loader: torch.utils.data.DataLoader) -> torch.Tensor:
    return torch.cat([batch["image"] for batch in loader])


@pytest.mark.parametrize("augment", ["none", "azimuth", "so3"])
def test_batches_are_normalised_and_complete(augment: str) -> None:
    data = rooms(augment=augment, jitter=0.0)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, *SIZE) and batch["image"].dtype == torch.float32
    assert batch["label"].shape == (2, *SIZE) and batch["depth"].dtype == torch.float32
    images = all_images(data.train_dataloader())
    assert len(images) == 5
    assert float(images.mean().abs()) < 0.6 and 0.5 < float(images.std()) < 1.6


def test_constants_say_what_the_task_needs() -> None:
    data = rooms()
    assert data.grid == Equiangular(*SIZE) and data.num_classes == 12 == len(data.class_names)
    assert data.in_channels == 3 == len(data.mean) == len(data.std) and data.ignore_index == IGNORE


def test_the_rooms_constants_are_those_of_the_rooms() -> None:
    raw = RoomsData(size=SIZE, train=30, val=1, test=1)
    rows = torch.cos((torch.arange(16) + 0.5) * torch.pi / 16 - torch.pi / 2)[:, None]
    images = torch.stack([raw.dataset("train")[k]["image"] for k in range(30)])
    weight = rows.expand(*SIZE) / (30 * rows.expand(*SIZE).sum())
    mean = (images * weight).sum((0, 2, 3))
    std = ((images - mean[:, None, None]) ** 2 * weight).sum((0, 2, 3)).sqrt()
    assert torch.allclose(mean, torch.tensor(raw.mean), atol=0.06)  # 30 rooms scatter by 0.1 / sqrt(30) each
    assert torch.allclose(std, torch.tensor(raw.std), atol=0.04)


class Watcher(pl.LightningModule):
    """Trains nothing; writes down what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[float]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        self.seen[-1] += batch["image"].mean((1, 2, 3)).tolist()
        return self.weight**2

    def validation_step(self, batch: dict[str, torch.Tensor], index: int) -> None:
        assert not self.training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.`:FutureWarning"
)  # lightning on newer torch
def test_lightning_moves_the_epoch_on() -> None:
    def seen(epochs: int) -> list[list[float]]:
        watcher = Watcher()
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(watcher, datamodule=rooms(augment="so3"))
        return watcher.seen

    views = seen(3)
    assert views == seen(3) and len(views) == 3 and all(len(epoch) == 5 for epoch in views)
    assert len({value for epoch in views for value in epoch}) == 15  # no view comes twice


def test_validation_is_upright_and_the_same_every_time() -> None:
    data = rooms(augment="so3")
    one, two = all_images(data.val_dataloader()), all_images(data.val_dataloader())
    assert torch.equal(one, two)
    mean, std = (torch.tensor(v)[:, None, None] for v in (data.mean, data.std))
    assert torch.allclose(one[0] * std + mean, data.dataset("val")[0]["image"], atol=1e-5)


def test_training_views_change_with_the_epoch_and_repeat_with_the_seed() -> None:
    def views(epoch: int, seed: int = 0) -> torch.Tensor:
        loader = rooms(augment="so3", seed=seed).train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return all_images(loader)

    assert torch.equal(views(1), views(1))
    assert not torch.equal(views(1), views(2))


def test_rotate_test_turns_each_room_by_its_own_fixed_rotation() -> None:
    data = rooms(rotate_test=2)
    turned = all_images(data.test_dataloader())
    assert len(turned) == 6 and torch.equal(turned, all_images(data.test_dataloader()))
    upright = all_images(rooms().test_dataloader())
    assert not any(torch.allclose(turned[k], upright[k % 3], atol=0.1) for k in range(6))
    assert not torch.allclose(turned[0], turned[3], atol=0.1)


def test_the_state_holds_plain_constants_and_guards_the_classes() -> None:
    data = rooms()
    state = data.state_dict()
    assert state["mean"] == list(data.mean) and state["class_names"][0] == "floor"
    data.load_state_dict(state)
    with pytest.raises(ValueError, match="trained with class_names cat but the data have floor"):
        data.load_state_dict(state | {"class_names": ["cat"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": "flip"}, "augment is 'flip'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"jitter": 1.5}, "jitter is 1.5"),
        ({"rotate_test": -1}, "rotate_test is -1"),
        ({"size": (16, 16)}, "nlon = 2 nlat"),
        ({"val": 0}, "val is 0"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rooms(**options)


def test_a_folder_gives_its_own_constants(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for k in range(12):
        Image.fromarray(rng.integers(0, 100, (*SIZE, 3), dtype=np.uint8)).save(
            tmp_path / "images" / f"{k:02d}.png"
        )
        Image.fromarray(rng.integers(0, 4, SIZE, dtype=np.uint8)).save(tmp_path / "labels" / f"{k:02d}.png")
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\n")
    data = FolderData(str(tmp_path), SIZE, augment="none", jitter=0.0)
    assert data.num_classes == 4
    assert np.allclose(data.mean, 49.5 / 255, atol=0.01) and np.allclose(data.std, 28.9 / 255, atol=0.01)
    images = all_images(data.train_dataloader())
    assert len(images) == 10 and abs(float(images.mean())) < 0.1 and abs(float(images.std()) - 1) < 0.1
    assert len(all_images(data.test_dataloader())) == 1


def test_one_planet_gives_as_many_views_as_asked(tmp_path: Path) -> None:
    lat, lon = 90 - (np.arange(32) + 0.5) * 180 / 32, -180 + (np.arange(64) + 0.5) * 360 / 64
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "x.npz",
        height=rng.random((32, 64)),
        climate=rng.integers(0, 3, (32, 64)),
        lat=lat,
        lon=lon,
    )
    data = FieldsData(
        str(tmp_path),
        ["x.npz:height"],
        "x.npz:climate",
        ["a", "b", "c"],
        SIZE,
        samples_per_epoch=6,
        augment="so3",
    )
    assert data.in_channels == 1 and data.num_classes == 3
    images = all_images(data.train_dataloader())
    assert images.shape == (6, 1, *SIZE) and not torch.equal(images[0], images[1])
    batch = next(iter(data.test_dataloader()))
    assert IGNORE in batch["label"] and len(all_images(data.test_dataloader())) == 1


@pytest.mark.realdata
def test_the_earth_as_a_data_module(real_data: Path) -> None:
    data = KoppenData(str(real_data / "earth"), SIZE, samples_per_epoch=3, augment="azimuth")
    assert data.in_channels == 4 == len(data.mean) and data.class_names[0] == "ocean"
    images = all_images(data.train_dataloader())
    assert images.shape == (3, 4, *SIZE) and 0.5 < float(images.std()) < 2
