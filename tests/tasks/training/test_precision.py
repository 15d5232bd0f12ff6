"""Every recipe that makes its own data trains a step in mixed precision; true precisions train or are refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spheregeo import recipes
from spheregeo.cli import engine, main

ROOMS = [
    "--data.size=[16,32]",
    "--data.train=2",
    "--data.val=1",
    "--data.test=1",
    "--model.width=4",
    "--model.depth=2",
]
TEN = ["--data.train=10", "--data.val=10", "--data.test=10"]
POINTS = [*TEN, "--data.num_points=32"]
STEERABLE = "{steerable-points: {width: 4, counts: [16, 4], radii: [0.6, 1.2], k: 4}}"
SURFACES = "{risurconv: {width: 4, counts: [16, 4], k: [4, 4]}}"
# options that make recipes small
RUNS = {
    "segment-sphere": ROOMS,
    "segment-sphere-base": [*ROOMS, "--data.num_workers=0"],
    "depth-sphere": ROOMS,
    "compress-sphere": [*ROOMS, "--model.depth=1"],
    "classify-sphere": [*TEN, "--data.grid=HEALPix(8)"],
    "segment-points": [*TEN, "--data.num_points=32", f"--model.options={STEERABLE}"],
    # ten clouds, not two: the head takes statistics over clouds, see below
    "classify-points": [*POINTS, "--data.batch_size=10", f"--model.options={SURFACES}"],
    "match-points": [*POINTS, "--data.stored_points=128", "--model.trials=20", f"--model.options={SURFACES}"],
    "regress-molecules": ["--model.width=4", "--model.depth=1"],
    "complete-molecule": ["--model.width=4", "--model.depth=1"],
    "fit-forces": ["--data.train=6", "--data.val=2", "--data.test=2", "--model.width=4", "--model.depth=1"],
    "fit-slabs": [
        "--data.train=2", "--data.val=1", "--data.test=1", "--data.frames=2", "--data.size=[1,1,2]", "--data.metals=[Cu]",
        "--data.adsorbates=[O]", "--model.width=4", "--model.depth=2",
        "--model.options={escn: {lmax: 1, hidden: 8, cutoff: 4.0}}",
    ],
    "segment-glyphs": [*TEN, "--data.grid=HEALPix(8)"],
    "regress-field": [
        "--data.size=[16,32]", "--data.lmax=10", "--data.cache_dir=null", "--data.train=1", "--data.val=1", "--data.test=1",
        "--data.test_steps=2", "--model.width=4",
    ],
    "regress-vectors": ["--data.size=[16,32]", "--data.train=4", "--data.val=2", "--data.test=2", "--model.width=4"],
    "restore-sky": ["--data.nside=8", "--data.train=4", "--data.val=2", "--data.test=2", "--model.width=4", "--model.depth=2"],
    "classify-voxels": [*TEN, "--data.voxels=12", "--model.options={steerable-voxels: {width: 2, depth: 2, lmax: 1}}"],
    "classify-image": [*TEN, "--data.pixels=12", "--model.width=2", "--model.depth=2"],
    "segment-image": [*TEN, "--data.pixels=12", "--model.width=2", "--model.depth=2"],
    "estimate-pose": [*TEN, "--data.pixels=12", "--model.width=2", "--model.depth=2", "--model.options={features: 4, fields: 2}"],
    "model-images": [*TEN, "--data.pixels=8", "--model.width=2", "--model.depth=1"],
    "classify-mesh": [*TEN, "--model.width=2"],
    "segment-mesh": [
        "--data.train=2", "--data.val=1", "--data.test=1", "--data.vertices=[120,150]", "--model.width=2", "--model.depth=1",
    ],
    "correspond-mesh": [
        "--data.train=2", "--data.val=1", "--data.test=1", "--data.vertices=[200,200]", "--data.template_vertices=200",
        "--model.width=2", "--model.depth=2",
    ],
}  # fmt: skip
COMMON = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]
COMMON += [
    "--trainer.limit_val_batches=1",
    "--data.batch_size=2",
    "--ema=0",
    "--precise_bn=0",
]


def options(run: str, precision: str) -> list[str]:
    return [*COMMON, *RUNS[run], f"--trainer.precision={precision}"]


def trained(run: str, precision: str, folder: Path) -> tuple[float, dict[str, torch.Tensor]]:
    found = engine.fit(run, str(folder / precision), False, False, options(run, precision))
    state = torch.load(folder / precision / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return found["train/loss"], state


def test_every_recipe_with_data_of_its_own_is_tried() -> None:
    named = set(RUNS)
    texts = {name: recipes.find(name).read_text() for name in recipes.names()}
    assert named == {name for name, text in texts.items() if "root" not in text}


@pytest.mark.parametrize("run", RUNS)
def test_a_step_in_mixed_precision(run: str, tmp_path: Path) -> None:
    """The loss of the first step is float32's to bfloat16's accuracy; weights stay float32 and finite."""
    loss, _ = trained(run, "32-true", tmp_path)
    mixed, state = trained(run, "bf16-mixed", tmp_path)
    # Batch norm of two pooled samples is the sign of their difference, which rounding can turn.
    assert mixed == pytest.approx(loss, rel=0.5 if run == "classify-sphere" else 0.02)
    assert all(bool(t.isfinite().all()) for t in state.values() if t.is_floating_point())
    assert {t.dtype for t in state.values() if t.is_floating_point()} <= {torch.float32, torch.float64}


@pytest.mark.parametrize(
    ("run", "precision"),
    [("fit-forces", "bf16-true"), ("classify-mesh", "bf16-true"), ("classify-mesh", "64-true")],
)
def test_precisions_that_cannot_are_refused_in_one_line(
    run: str, precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", run, "--output", str(tmp_path), *options(run, precision)]) == 2
    error = capsys.readouterr().err.strip()
    assert f"trainer.precision is '{precision}'" in error and "bf16-mixed" in error and "\n" not in error


@pytest.mark.parametrize(("run", "precision"), [("fit-forces", "64-true"), ("segment-sphere", "64-true")])
def test_double_precision_gives_the_loss_of_single(run: str, precision: str, tmp_path: Path) -> None:
    assert trained(run, precision, tmp_path)[0] == pytest.approx(
        trained(run, "32-true", tmp_path)[0], rel=1e-4
    )
