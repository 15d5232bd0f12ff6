"""Classification and segmentation of images from the command line: fit, test, predict, audit, export."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spheregeo.cli import main
from spheregeo.tasks import ImageClassification, ImageDensity, ImageSegmentation

TINY = [
    "--data.train", "10", "--data.val", "5", "--data.test", "6", "--data.pixels", "12", "--data.batch_size", "5",
    "--model.width", "4", "--model.depth", "2", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--precise_bn", "0",
]  # fmt: skip
PICTURES = {
    "classify-image": {"confusion.png", "predictions.csv", "predictions.png"},
    "segment-image": {"confusion.png", "predictions.csv", "predictions.png"},
}


@pytest.fixture(scope="module", params=list(PICTURES))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("images") / "run"
    assert main(["fit", request.param, "--output", str(folder), *TINY]) == 0
    return request.param, folder


def test_a_test_writes_its_report(run: tuple[str, Path]) -> None:
    recipe, folder = run
    assert main(["test", recipe, "--output", str(folder)]) == 0
    assert PICTURES[recipe] <= {p.name for p in folder.iterdir()}
    with open(folder / "predictions.csv") as file:
        assert len(list(csv.DictReader(file))) == 6


def test_prediction_of_files(
    run: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = run
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for k in range(2):
        Image.fromarray(rng.integers(0, 256, (12 + k, 14, 3), np.uint8)).save(tmp_path / "in" / f"{k}.png")
    np.save(tmp_path / "in" / "2.npy", rng.standard_normal((12, 12)).astype(np.float32))
    np.save(tmp_path / "in" / "3.npy", np.zeros((4, 9, 9)))
    call = ["predict", recipe, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main([*call, "--ckpt", str(folder / "checkpoints" / "best.ckpt")]) == 2
    assert "3.npy has 4 channels; expected 1" in capsys.readouterr().err
    with open(tmp_path / "out" / "predictions.csv") as file:
        assert [row["sample"] for row in csv.DictReader(file)] == ["0.png", "1.png", "2.npy"]
    if recipe == "segment-image":
        labels = np.asarray(Image.open(tmp_path / "out" / "1_labels.png"))
        assert labels.shape == (13, 14) and labels.max() < 6
        assert np.asarray(Image.open(tmp_path / "out" / "1_overlay.png")).shape == (13, 14, 3)
    else:
        assert (tmp_path / "out" / "predictions.png").stat().st_size > 1000


def test_audit_draws_errors_by_angle(
    run: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = run
    if recipe == "segment-image":
        pytest.skip("the same command")
    call = [
        "audit",
        recipe,
        "--output",
        str(folder),
        "--json",
        str(tmp_path / "a.json"),
        "--plot",
        str(tmp_path / "a.png"),
    ]
    assert main(call) == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert (
        found["invariance"]["randomised"]["quarter turns and flips"] < 1e-9
        and len(found["by_angle"]["as they are"]["errors"]) == 23
    )
    assert (
        "error under turns by any angle" in capsys.readouterr().out
        and (tmp_path / "a.png").stat().st_size > 10_000
    )


def test_export(run: tuple[str, Path], tmp_path: Path) -> None:
    call = ["export", str(run[1]), "--to", "safetensors", "--output", str(tmp_path / "out")]
    assert main(call) == 0
    assert "image.png" in (tmp_path / "out" / "README.md").read_text()


def test_what_does_not_fit_is_named() -> None:
    segment = ImageSegmentation(3, network="image-unet", width=2, depth=1)
    image = torch.zeros(2, 1, 5, 5)
    for mask, message in (
        (torch.zeros(2, 5, 4).long(), r"mask has shape \(2, 5, 4\)"), (torch.zeros(2, 5, 5), "float32"),
        (torch.full((2, 5, 5), 3), "mask holds 3; expected 0 ... 2, or 255"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            segment.forward_batch({"image": image, "mask": mask})
    with pytest.raises(ValueError, match="NaN"):
        segment.forward_batch({"image": image * torch.nan, "mask": torch.zeros(2, 5, 5).long()})
    with pytest.raises(ValueError, match="mean has 2 numbers but in_channels is 1"):
        ImageClassification(3, mean=[0.0, 1.0])
    with pytest.raises(ValueError, match="does not give one label"):
        ImageClassification(3, network="image-unet")


def test_void_pixels_neither_train_nor_count() -> None:
    torch.manual_seed(0)
    task = ImageSegmentation(3, network="image-unet", width=2, depth=1, class_weights=[1.0, 2.0, 1.0]).eval()
    image, mask = torch.randn(2, 1, 6, 6), torch.randint(0, 3, (2, 6, 6))
    mask[:, :3] = 255
    logits = task(image).movedim(1, -1)[:, 3:].reshape(-1, 3)
    weights = torch.tensor([1.0, 2.0, 1.0])
    expected = torch.nn.functional.cross_entropy(logits, mask[:, 3:].flatten(), weights)
    assert torch.allclose(task.forward_batch({"image": image, "mask": mask})["loss"], expected)
    task.update_metrics(task.forward_batch({"image": image, "mask": mask}))
    assert int(task.confusion.compute().sum()) == 36


# ---- densities


def test_bits_per_dimension_do_not_see_turns_and_samples_are_drawn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = ImageDensity(1, (8, 8), width=2, depth=2, low=-1, high=1).eval()
    batch = {"image": torch.randn(6, 1, 8, 8)}
    with torch.no_grad():
        outputs = task.forward_batch(batch)
        assert torch.equal(task(batch["image"]), outputs["bits"])
        plain = task.network.bits_per_dim(task.grey(batch["image"]), 32, torch.Generator().manual_seed(0))
    assert (outputs["bits"] - outputs["turned"]).abs().max() < 1e-4
    assert (outputs["bits"] - plain).abs().max() < 1e-5
    assert float(outputs["loss"]) == pytest.approx(float(outputs["bits"].mean()))
    grey = outputs["truth"]
    assert float(grey.min()) == 0 and float(grey.max()) == 1 and torch.equal((grey * 31).round() / 31, grey)
    task.update_metrics(outputs)
    assert task.compute_metrics()["bits_per_dim"] == pytest.approx(float(outputs["bits"].mean()), rel=1e-5)
    assert "bits per dimension" in task.summary() and task.report()["levels"] == 32
    task.plot(tmp_path, list(task.examples(outputs)))
    assert (tmp_path / "samples.png").stat().st_size > 5_000
    with pytest.raises(ValueError, match="image has shape"):
        task(torch.zeros(1, 1, 9, 9))
    with pytest.raises(ValueError, match="expected multiples of 4"):
        ImageDensity(1, (9, 9))
    with pytest.raises(ValueError, match="expected low < high"):
        ImageDensity(1, (8, 8), low=1)
