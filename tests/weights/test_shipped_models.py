"""Shipped models: small, whole, described, as good as their cards say, and found by `predict` where there is no run."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import spheregeo as sg
from spheregeo import weights
from spheregeo.cli import listing, main

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 2_000_000  # bytes


@pytest.mark.parametrize("name", weights.names())
def test_a_folder_is_whole_and_small(name: str) -> None:
    folder = weights.find(name)
    config = json.loads((folder / "config.json").read_text())
    assert sum(path.stat().st_size for path in folder.iterdir()) < LARGEST
    for file, digest in config["files"].items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest, (
            f"{file} was changed by hand"
        )
    head = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert head["license"] == config["license"] == "mit"
    assert config["metrics"] and config["data"]["digest"] and config["equivariance"] and config["commands"]
    assert name in dict(listing.rows("weights")) and config["not_for"] in weights.note(name)


def test_the_script_makes_all_of_them() -> None:
    spec = importlib.util.spec_from_file_location("make_weights", ROOT / "datasets" / "make_weights.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert sorted(module.MODELS) == weights.names()
    for name, (recipe, *_) in module.MODELS.items():
        assert weights.for_recipe(recipe) == name
    assert weights.for_recipe("segment-folder") is None


@torch.no_grad()
def test_rooms_are_labelled() -> None:
    model: Any = sg.load("rooms")
    rooms = sg.data.Rooms(3, size=(64, 128), seed=77)
    images = torch.stack([rooms[k]["image"] for k in range(3)])
    labels = torch.stack([rooms[k]["label"] for k in range(3)])
    right = (model(model.normalize(images)).argmax(1) == labels).float()
    assert float((right * model.areas).sum() / (3 * model.areas.sum())) > 0.8


@torch.no_grad()
def test_water_has_its_zero_point_energy() -> None:
    model: Any = sg.load("molecules")
    x = torch.tensor([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    found = model({"numbers": torch.tensor([8, 1, 1]), "positions": x, "batch": torch.zeros(3).long()})
    assert abs(float(found[0, model.targets.index("zpve")]) - 13.2) < 2.0  # kcal/mol


def test_predict_works_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import trimesh
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((32, 64, 3), 128, np.uint8)).save("photo.png")
    trimesh.creation.torus(1.0, 0.3).export("ring.off")
    assert main(["predict", "segment-sphere", "--input", "photo.png", "--output", "labels"]) == 0
    said = capsys.readouterr().out
    assert "shipped model 'rooms'" in said and "ceiling" in said and "not for" in said
    assert list(Path("labels").glob("photo*labels.png"))
    assert main(["predict", "classify-points", "--input", "ring.off", "--output", "classes"]) == 0
    assert "ring.off: torus" in capsys.readouterr().out
    assert main(["predict", "segment-folder", "--input", "photo.png"]) == 2  # nothing ships for it
    assert "no checkpoint" in capsys.readouterr().err
    assert (
        main(["predict", "segment-sphere", "--ckpt", "rooms", "--input", "photo.png", "--output", "again"])
        == 0
    )


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="molecules, primitives, rooms"):
        weights.find("ocean")
