"""The command line: answers at once, trains, resumes, scores, predicts, and says what is wrong in one line."""

from __future__ import annotations

import csv
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from spheregeo import models, recipes
from spheregeo.cli import catalogue, listing, main
from spheregeo.tasks import AtomicCheckpointIO, read_checkpoint

RECIPE = """# tiny rooms
data:
  class_path: spheregeo.data.RoomsData
  init_args: {size: [16, 32], train: 8, val: 4, test: 4, batch_size: 4}
model:
  class_path: spheregeo.tasks.Segmentation
  init_args: {network: sphere-unet-small, width: 4, depth: 2, lr: 0.01}
trainer: {max_epochs: 3, accelerator: cpu}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run and the recipe beside it."""
    place = tmp_path_factory.mktemp("cli")
    (place / "tiny.yaml").write_text(RECIPE)
    assert main(["fit", str(place / "tiny.yaml"), "--output", str(place / "run")]) == 0
    return place


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a faulty call prints; its exit code is 2."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    err = capsys.readouterr().err.strip()
    assert "\n" not in err and err.startswith("spheregeo: error: ")
    return err


def equal_checkpoints(a: Path, b: Path) -> bool:
    """Same epoch and same weights; 1e-6 for sums whose order depends on where the allocator put the arrays."""
    first, second = read_checkpoint(a), read_checkpoint(b)
    weights, others = first["state_dict"], second["state_dict"]
    same = all(torch.allclose(weights[k].double(), others[k].double(), rtol=1e-6, atol=1e-6) for k in weights)
    return same and weights.keys() == others.keys() and first["epoch"] == second["epoch"]


def last_scores(run: Path) -> list[float]:
    """The validation scores of the last epoch in the newest log."""
    logs = sorted(run.glob("logs/version_*/metrics.csv"))
    with open(logs[-1]) as file:
        rows = [r for r in csv.DictReader(file) if r["val/miou"]]
    return [float(rows[-1][k]) for k in ("epoch", "val/loss", "val/miou", "val/accuracy")]


# ---- help and lists


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["fit", "--help"],
        ["fit", "segment-sphere", "--help"],
        ["audit", "fit-md", "--help-all"],
        ["completion", "bash"],
        ["completion", "zsh"],
        ["test", "classify-points", "--print-recipe", "--model.width", "9"],
        *(["list", w] for w in listing.LISTS),
    ],
)
def test_help_and_lists_answer_at_once(arguments: list[str]) -> None:
    code = (
        "import sys; from spheregeo.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'lightning', 'matplotlib'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 1
    assert time.perf_counter() - begin < 2.0


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_and_recipes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from spheregeo.cli import main; main(['completion', 'bash'])"],
        capture_output=True,
        text=True,
    )
    probe = """
    complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _shtab_spheregeo; echo "${COMPREPLY[@]}"; }
    complete_words spheregeo au; complete_words spheregeo fit classify-po; complete_words spheregeo fit segment-sphere --over
    """
    found = subprocess.run(["bash", "-c", done.stdout + probe], capture_output=True, text=True).stdout
    assert [line.strip() for line in found.splitlines()] == ["audit", "classify-points", "--overwrite"]


def test_lists_tell_the_truth() -> None:
    assert catalogue.CATALOGUE.read_text(encoding="utf-8") == catalogue.text(), (
        "run: python -m spheregeo.cli.catalogue"
    )
    assert catalogue.OPTIONS.read_text(encoding="utf-8") == catalogue.options_text(), (
        "run: python -m spheregeo.cli.catalogue"
    )
    assert [n for n, _ in listing.rows("models")] == models.names()
    assert [n for n, _ in listing.rows("recipes")] == recipes.names()
    assert dict(listing.rows("models"))["gauge-unet"].endswith("[in short: gauge]")
    assert {"Equiangular", "HEALPix", "Icosahedral", "Scattered"} <= {n for n, _ in listing.rows("grids")}
    assert "DiscoConv" in {n for n, _ in listing.rows("layers")}
    datasets = dict(listing.rows("datasets"))
    assert {"RoomsData", "FolderData"} <= set(datasets)
    assert {"Segmentation", "Forces"} <= set(dict(listing.rows("tasks")))
    for what in listing.LISTS:
        for name, text in listing.rows(what):
            assert text and not re.search(r":\w+:`|``", text), f"{what}: {name} is described as {text!r}"


# ---- options: their help and their names


@pytest.mark.parametrize("name", recipes.names())
@pytest.mark.parametrize("command", ["fit", "audit"])
def test_help_of_a_recipe_shows_its_own_options_on_a_screen(
    command: str, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    assert main([command, name, "--help"]) == 0
    text = capsys.readouterr().out
    content = yaml.safe_load(recipes.find(name).read_text())
    for section in ("data", "model"):
        for option in content[section]["init_args"]:
            assert f"--{section}.{option} " in text
    assert len(text.splitlines()) <= 62 and all(len(line) <= 110 for line in text.splitlines()[2:])
    assert main([command, name, "--help-all"]) == 0
    everything = capsys.readouterr().out
    assert "--trainer.deterministic" in everything and "--model.weight_decay" in everything


@pytest.mark.parametrize("name", recipes.names())
def test_a_printed_recipe_is_the_recipe(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", name, "--print-recipe", "--model.width", "9", "--data.seed=3"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    expected = yaml.safe_load(recipes.find(name).read_text())
    expected["model"]["init_args"]["width"], expected["data"]["init_args"]["seed"] = 9, 3
    assert {k: v for k, v in printed.items() if v is not None} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.widht", "3"], "model.widht is no option of Segmentation (did you mean 'width'"),
        (["--data.szie=[8, 16]"], "data.szie is no option of RoomsData (did you mean 'size'"),
        (
            ["--trainer.max_epoch", "3"],
            "trainer.max_epoch is no option of the trainer (did you mean 'max_epochs",
        ),
        (["--emma", "0.9"], "no option --emma (did you mean 'ema'"),
        (["--width", "3"], "no option --width (did you mean '--model.width'"),
        (["--model.network", "sphere-unet-smal"], "did you mean 'sphere-unet-small"),
        (
            ["--data", "QM9Data", "--data.targets", "[mu, gapp]"],
            "targets has 'gapp', but the targets of QM9Data are mu,",
        ),
        (
            ["--data", "G2Data", "--data.units={zpev: eV}"],
            "units has 'zpev', but the targets of G2Data are atomization",
        ),
    ],
)
def test_a_wrong_option_is_refused_before_anything_heavy(options: list[str], message: str) -> None:
    code = (
        "import sys; from spheregeo.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'lightning'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else code)"
    )
    call = [sys.executable, "-c", code, "fit", "segment-sphere", *options]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data"], "--data is None; expected a class"),
        (["--model", "3"], "--model is '3'; expected a class"),
        (["--data", "{class_path: RoomsData, init_args: {szie: 3}}"], "data.szie is no option of RoomsData"),
    ],
)
def test_whole_sections_as_options(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_of(capsys, "fit", "segment-sphere", *options)


def test_a_wrong_option_in_a_recipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE.replace("batch_size", "batchsize"))
    text = error_of(capsys, "fit", str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "run"))
    assert "data.batchsize is no option of RoomsData (did you mean 'batch_size" in text
    assert "did you mean 'segment-sphere" in error_of(capsys, "fit", "segment-spere")


# ---- recipes


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_parses_and_its_model_builds(name: str, tmp_path: Path) -> None:
    from lightning.pytorch import LightningDataModule, Trainer
    from lightning.pytorch.cli import LightningArgumentParser

    from spheregeo import tasks
    from spheregeo.data import FieldInfo, FieldLayout
    from spheregeo.grids import Equiangular

    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(tasks.Task, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    content = yaml.safe_load(recipes.find(name).read_text())
    task = getattr(tasks, content["model"]["class_path"].rsplit(".", 1)[1])
    fields = FieldLayout((FieldInfo("h"), FieldInfo("wind", ("u", "v"))), (FieldInfo("h"),))
    linked = {
        "in_channels": 3, "grid": "Equiangular(32, 64)", "num_classes": 5, "num_points": 7, "layout": fields.to_plain(),
        "wiener": [[1.0] * 9],
    }  # fmt: skip
    content["model"]["init_args"].update(
        {k: v for k, v in linked.items() if k in inspect.signature(task).parameters}
    )
    extra = {k: content.pop(k) for k in ("ema", "patience", "precise_bn", "seed_everything") if k in content}
    assert all(isinstance(v, (int, float)) for v in extra.values())
    config: Any = parser.parse_object(content)
    grid = Equiangular(32, 64)
    given = config.model.init_args.as_dict()
    if "size" in config.data.init_args and "grid" in given:  # of panoramas
        nlat, nlon = config.data.init_args.size
        assert nlon == 2 * nlat
        grid = Equiangular(nlat, nlon) if name.startswith("compress") else grid  # deep enough for the network
    if "grid" in config.data.init_args:
        assert tasks.parse_grid(config.data.init_args.grid).is_sphere
    model = task(**({**given, "grid": grid} if "grid" in given else given))
    assert model.network is not None
    assert recipes.summary(name)


@pytest.mark.parametrize("place", ["recipe", "option", "option="])
def test_a_former_name_of_an_option_goes_on_working(place: str, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE + ("settle: 2\n" if place == "recipe" else ""))
    given = {"recipe": [], "option": ["--settle", "2"], "option=": ["--settle=2"]}[place]
    call = ["fit", str(recipe), "--output", str(tmp_path / "run"), "--trainer.max_epochs", "1", *given]
    with pytest.warns(FutureWarning, match="option settle is called precise_bn now"):
        assert main(call) == 0
    recorded = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert recorded["precise_bn"] == 2 and "settle" not in recorded


def test_a_bundled_recipe_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--data.size", "[16, 32]", "--data.train", "4", "--data.val", "2", "--data.test", "2"]
    less = ["--model.width", "4", "--model.depth", "2", "--trainer.max_epochs", "1"]
    out = ["--output", str(tmp_path)]
    assert main(["fit", "depth-sphere", *out, *small, *less, "--ema", "0.9", "--patience", "2"]) == 0
    assert main(["test", "depth-sphere", *out]) == 0
    assert "test/abs_rel" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.json").read_text())["delta3"] >= 0
    checkpoint = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["task"] == "Depth"
    assert (tmp_path / "predictions.png").stat().st_size > 1000


def test_classification_from_fit_to_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--output", str(tmp_path)]
    small = "--data.grid HEALPix(8) --data.train 16 --data.val 8 --data.test 8 --data.batch_size 8"
    less = "--model.width 4 --model.depth 2 --trainer.max_epochs 1 --trainer.accelerator cpu"
    assert main(["fit", "classify-sphere", *out, *small.split(), *less.split()]) == 0
    assert main(["test", "classify-sphere", *out]) == 0
    assert "test/macro_f1" in capsys.readouterr().out
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert sum(map(sum, results["confusion"])) == 8 and len(results["classes"]) == 8
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and rows[1]["truth"] == "ell" and 0 <= float(rows[1]["p(ring)"]) <= 1
    assert {"confusion.png", "predictions.png", "curves.png"} <= {p.name for p in tmp_path.iterdir()}
    ckpt = str(tmp_path / "checkpoints" / "best.ckpt")
    target = tmp_path / "out"
    source = photo(tmp_path / "room.png", 16, 32)
    call = ["predict", "classify-sphere", "--input", source, "--ckpt", ckpt, "--output", str(target)]
    assert main(call) == 0
    with open(target / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["sample"] == "room.png" and rows[0]["truth"] == "" and rows[0]["prediction"]
    capsys.readouterr()
    assert main(["audit", "classify-sphere", *out, "--json", str(tmp_path / "audit.json")]) == 0
    found = json.loads((tmp_path / "audit.json").read_text())["equivariance"]
    assert found["SO(3)"]["method"] == "invariant" and 0 < found["SO(3)"]["error"] < 0.2
    assert found["permutations of the grid"]["error"] < 1e-10


@pytest.mark.parametrize("network", ["gauge", "healpix", "icosahedral", "planar"])
def test_other_networks_by_a_word(network: str, tmp_path: Path) -> None:
    # The recipe's options are filed under disco: other networks take their own.
    small = "--data.size [16,32] --data.train 4 --data.val 2 --data.test 2 --model.width 4 --model.depth 2"
    call = ["fit", "segment-sphere", "--output", str(tmp_path), "--model.network", network, *small.split()]
    assert main([*call, "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]) == 0
    described = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["hyper_parameters"]
    assert described["network"] == f"{network}-unet" and described["options"] is None


# ---- fit, test, audit


def test_a_run_leaves_its_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder / "run"
    assert main(["test", str(folder / "tiny.yaml"), "--output", str(run)]) == 0
    out = capsys.readouterr().out
    assert "test/miou" in out and "mean over classes" in out and "frequency" in out
    expected = {"recipe.yaml", "curves.png", "metrics.json", "confusion.png", "predictions.png", "world.png"}
    assert expected <= {p.name for p in run.iterdir()}
    report = expected - {"recipe.yaml", "curves.png"} | {"predictions.csv"}
    assert {p.name for p in (run / "test").iterdir()} == report
    assert all((run / name).read_bytes() == (run / "test" / name).read_bytes() for name in report)
    assert len((run / "test" / "predictions.csv").read_text().splitlines()) == 5
    results = json.loads((run / "metrics.json").read_text())
    assert 0 <= results["miou"] <= 1 and len(results["classes"]) == len(results["confusion"])
    assert (
        main(
            [
                "validate",
                str(folder / "tiny.yaml"),
                "--output",
                str(run),
                "--ckpt",
                str(run / "checkpoints/last.ckpt"),
            ]
        )
        == 0
    )
    assert "val/miou" in capsys.readouterr().out


def test_audit_prints_a_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, target = str(folder / "tiny.yaml"), tmp_path / "audit.json"
    assert main(["audit", recipe, "--output", str(folder / "run"), "--json", str(target)]) == 0
    assert "SO(3)" in capsys.readouterr().out
    result = json.loads(target.read_text())
    assert result["module"] == "SphericalUNet" and result["parameters"] > 100
    assert 0 < result["equivariance"]["SO(3)"]["error"] < 1
    assert main(["audit", recipe, "--output", str(tmp_path / "none"), "--model.network", "pixel-mlp"]) == 0
    assert "untrained" in capsys.readouterr().out


def test_checkpoints_load_with_weights_only(folder: Path) -> None:
    for name in ("best", "last"):
        content = torch.load(folder / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["task"] == "Segmentation"
        described = content["hyper_parameters"]
        assert (
            described["grid"].startswith("Equiangular(")
            and len(described["class_names"]) == described["num_classes"]
        )
        assert len(described["mean"]) == 3 and described["std"] != [1.0, 1.0, 1.0]


def test_killed_and_resumed_equals_unbroken(folder: Path, tmp_path: Path, programs: Any) -> None:
    run = tmp_path / "run"
    last = run / "checkpoints" / "last.ckpt"
    command = [sys.executable, "-m", "spheregeo", "fit", str(folder / "tiny.yaml"), "--output", str(run)]
    # A worker process too: what it reads ahead must be of the right epoch after a resume.
    process = subprocess.Popen([*command, "--data.num_workers", "1"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read_checkpoint(last)["epoch"] < 2, "the run ended before it could be killed"
    assert programs.run([*command[1:], "--resume"]).returncode == 0
    for name in ("last.ckpt", "best.ckpt"):
        assert equal_checkpoints(run / "checkpoints" / name, folder / "run" / "checkpoints" / name)
    assert last_scores(run) == pytest.approx(last_scores(folder / "run"), rel=1e-5)


def test_resumed_equals_unbroken_where_training_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout draws from the global generator: opening the loader of a resumed run may not move it."""
    from spheregeo.tasks.training.callbacks import EpochSeed

    small = "--data.grid HEALPix(4) --data.train 16 --data.val 8 --data.test 8 --data.batch_size 8 --data.num_workers 1"
    less = "--model.width 4 --model.depth 2 --trainer.max_epochs 2 --trainer.accelerator cpu"
    options = ["--model.options", "{dropout: 0.5}", *small.split(), *less.split()]
    for name in ("unbroken", "broken"):
        call = ["fit", "classify-sphere", "--output", str(tmp_path / name), *options]
        if name == "unbroken":
            assert main(call) == 0
            continue
        own = EpochSeed.on_train_epoch_start

        def stop(self: EpochSeed, trainer: Any, module: Any, own: Any = own) -> None:
            if trainer.current_epoch == 1:
                raise ValueError("the power went out")
            own(self, trainer, module)

        monkeypatch.setattr(EpochSeed, "on_train_epoch_start", stop)
        assert "the power went out" in error_of(capsys, *call)
        monkeypatch.undo()
        assert main([*call[:4], "--resume"]) == 0
    last = Path("checkpoints") / "last.ckpt"
    assert equal_checkpoints(tmp_path / "broken" / last, tmp_path / "unbroken" / last)


def test_a_run_is_not_replaced_by_accident(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(folder / "tiny.yaml")
    assert "--resume to go on" in error_of(capsys, "fit", recipe, "--output", str(folder / "run"))
    assert "nothing to resume" in error_of(capsys, "fit", recipe, "--output", str(tmp_path), "--resume")


def test_resuming_with_another_network_or_grid(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run)
    before = (run / "recipe.yaml").read_text()
    resume = ["fit", str(folder / "tiny.yaml"), "--output", str(run), "--resume"]
    assert "with width 4 but this run has 6" in error_of(capsys, *resume, "--model.width", "6")
    assert "with grid 'Equiangular(nlat=16" in error_of(capsys, *resume, "--data.size", "[32, 64]")
    assert (run / "recipe.yaml").read_text() == before
    validate = ["validate", str(folder / "tiny.yaml"), "--output", str(run), "--data.size", "[32, 64]"]
    assert "image has shape (32, 64) but the grid is" in error_of(capsys, *validate)


def test_a_diverged_run_keeps_its_last_good_checkpoint(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["fit", str(folder / "tiny.yaml"), "--output", str(run)]
    assert main([*arguments, "--trainer.max_epochs", "1"]) == 0
    wild = ["--trainer.max_epochs", "3", "--model.lr", "1e30", "--trainer.gradient_clip_val", "null"]
    assert "the loss is nan" in error_of(capsys, *arguments, "--resume", *wild)
    weights = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert all(bool(torch.isfinite(w).all()) for w in weights.values())


def test_full_disk_in_training(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    real, last = os.fsync, tmp_path / "checkpoints" / "last.ckpt"

    def fills_up(descriptor: int) -> None:
        if last.is_file():  # of the first epoch; then the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fills_up)
    message = error_of(capsys, "fit", str(folder / "tiny.yaml"), "--output", str(tmp_path))
    assert "no space left" in message and "is intact" in message
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["epoch"] == 0
    assert main(["fit", str(folder / "tiny.yaml"), "--output", str(tmp_path), "--resume"]) == 0
    assert equal_checkpoints(
        tmp_path / "checkpoints" / "last.ckpt", folder / "run" / "checkpoints" / "last.ckpt"
    )


# ---- predict


def photo(path: Path, height: int, width: int, mode: str = "RGB") -> str:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
    image.convert(mode).save(path)
    return str(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_predict_a_photo_of_odd_size(folder: Path, tmp_path: Path, mode: str) -> None:
    source = photo(tmp_path / "room.png", 37, 74, mode)
    arguments = ["predict", str(folder / "tiny.yaml"), "--input", source, "--output", str(tmp_path / "out")]
    assert main([*arguments, "--ckpt", str(folder / "run/checkpoints/best.ckpt")]) == 0
    with Image.open(tmp_path / "out" / "room_labels.png") as labels:
        assert labels.size == (74, 37) and labels.mode == "P"
        assert np.asarray(labels).max() < 20
    with Image.open(tmp_path / "out" / "room_overlay.png") as overlay:
        assert overlay.size == (74, 37) and overlay.mode == "RGB"
    assert (tmp_path / "out" / "room_world.png").is_file()


def test_predict_a_folder_does_what_it_can(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    photo(photos / "a.png", 16, 32)
    photo(photos / "b.jpg", 16, 30)
    (photos / "c.png").write_bytes(b"not an image")
    ckpt = str(folder / "run/checkpoints/best.ckpt")
    message = error_of(
        capsys,
        "predict",
        str(folder / "tiny.yaml"),
        "--input",
        str(photos),
        "--ckpt",
        ckpt,
        "--output",
        str(tmp_path / "o"),
    )
    assert "2 of 3 photos failed" in message and "16 x 30" in message and "c.png" in message
    assert (tmp_path / "o" / "a_labels.png").is_file()


def test_predict_faults(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, ckpt = str(folder / "tiny.yaml"), str(folder / "run/checkpoints/best.ckpt")

    def predict(source: str, checkpoint: str = ckpt) -> str:
        return error_of(
            capsys,
            "predict",
            recipe,
            "--input",
            source,
            "--ckpt",
            checkpoint,
            "--output",
            str(tmp_path / "o"),
        )

    good = photo(tmp_path / "good.png", 16, 32)
    torn = tmp_path / "torn.png"
    torn.write_bytes(Path(good).read_bytes()[:200])
    assert "width = 2 x height" in predict(photo(tmp_path / "square.png", 20, 20))
    assert "cannot be read" in predict(str(torn))
    assert "does not exist" in predict(str(tmp_path / "none.png"))
    (tmp_path / "empty").mkdir()
    assert "holds no" in predict(str(tmp_path / "empty"))
    large = tmp_path / "large.png"
    Image.new("L", (8200, 4100)).save(large)
    assert "at most 4096 x 8192" in predict(str(large))
    assert "none.ckpt does not exist; expected a run's folder, a checkpoint" in predict(
        good, str(tmp_path / "none.ckpt")
    )
    assert "no readable checkpoint" in predict(good, good)
    content = read_checkpoint(ckpt)
    from spheregeo.tasks import Segmentation

    task = Segmentation(4, 2, "Equiangular(8, 16)", network="pixel-mlp")
    other: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    task.on_save_checkpoint(other)
    AtomicCheckpointIO().save_checkpoint(other, tmp_path / "four.ckpt")
    assert content["hyper_parameters"]["in_channels"] == 3
    assert "3 channels but the model was trained on 4" in predict(good, str(tmp_path / "four.ckpt"))


# ---- a folder of one's own


@pytest.fixture(scope="module")
def panoramas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten panoramas of patches in three pale colours, the class of each."""
    root, rng = tmp_path_factory.mktemp("panoramas"), np.random.default_rng(0)
    colours = np.array([[200, 140, 140], [140, 200, 150], [150, 145, 210]])
    for name in ("images", "labels"):
        (root / name).mkdir()
    for k in range(10):
        label = np.kron(rng.integers(0, 3, (4, 8)), np.ones((4, 4), int)).astype(np.uint8)
        image = (colours[label] + rng.integers(-20, 20, (16, 32, 3))).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"p{k}.png")
        Image.fromarray(label).save(root / "labels" / f"p{k}.png")
    (root / "classes.txt").write_text("red\ngreen\nblue\n")
    return root


def folder_run(root: Path, output: Path) -> list[str]:
    small = (
        "--data.size [16,32] --model.width 4 --model.depth 2 --trainer.max_epochs 4 --trainer.accelerator cpu"
    )
    return ["fit", "segment-folder", "--output", str(output), "--data.root", str(root), *small.split()]


def test_predict_says_what_validation_said(panoramas: Path, tmp_path: Path) -> None:
    from spheregeo import tasks
    from spheregeo.data import FolderData

    assert main(folder_run(panoramas, tmp_path / "run")) == 0
    ckpt = tmp_path / "run" / "checkpoints" / "best.ckpt"
    data = FolderData(str(panoramas), (16, 32))
    task: Any = tasks.load(ckpt)
    # The photo reaches the network with the statistics of the training images, which are not those of other data.
    assert task.hparams["mean"] == pytest.approx(data.mean) and task.hparams["std"] == pytest.approx(data.std)
    assert max(data.std) < 0.15
    (name,) = data.dataset("val").names  # type: ignore[attr-defined]
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        expected = task(batch["image"]).argmax(1)[0].numpy()
    assert len(np.unique(expected)) > 1
    photo_ = panoramas / "images" / f"{name}.png"
    large = tmp_path / "large.png"
    with Image.open(photo_) as image:
        image.resize((96, 48), Image.Resampling.NEAREST).save(large)
    for path, step in ((photo_, 1), (large, 3)):  # the centre of every 3 x 3 pixels lies on the working grid
        call = ["predict", "segment-folder", "--input", str(path), "--ckpt", str(ckpt)]
        assert main([*call, "--output", str(tmp_path / "out")]) == 0
        with Image.open(tmp_path / "out" / f"{path.stem}_labels.png") as labels:
            np.testing.assert_array_equal(np.asarray(labels)[step // 2 :: step, step // 2 :: step], expected)


def _rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with Image.open(path) as image:
        array = np.array(image)
    Image.fromarray(change(array)).save(path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("images/p3.png", lambda p: p.write_bytes(p.read_bytes()[:300]), "cannot be read as an image"),
        ("images/p3.png", lambda p: _rewrite(p, lambda a: a[:, :30]), "expected width = 2 x height"),
        ("labels/p3.png", lambda p: _rewrite(p, lambda a: a + 5), "expected 0 ... 2 or 255"),
        ("labels/p3.png", lambda p: p.unlink(), "is missing"),
        ("classes.txt", lambda p: p.unlink(), "does not exist"),
    ],
    ids=["truncated", "shape", "range", "label", "classes"],
)
@pytest.mark.parametrize("workers", ["0", "1"])
def test_faults_of_a_folder(
    panoramas: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    change: Callable[[Path], None],
    message: str,
    workers: str,
) -> None:
    root = tmp_path / "root"
    shutil.copytree(panoramas, root)
    change(root / file)
    call = [*folder_run(root, tmp_path / "run"), "--data.num_workers", workers]
    error = error_of(capsys, *call)
    assert str(root / file) in error and message in error
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16"])
def test_kinds_of_png_that_train(panoramas: Path, tmp_path: Path, mode: str) -> None:
    root = tmp_path / "root"
    shutil.copytree(panoramas, root)
    for path in (root / "images").iterdir():
        with Image.open(path) as image:
            other = image.convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            other = Image.fromarray(np.asarray(other).astype(np.uint16) * 257)
        other.save(path)
    for path in (root / "labels").iterdir():
        _rewrite(path, lambda a: a.astype(np.uint16))
    call = [*folder_run(root, tmp_path / "run"), "--trainer.max_epochs", "1"]
    assert main(call) == 0
    source = str(root / "images" / "p0.png")
    assert main(["predict", "segment-folder", "--input", source, "--output", str(tmp_path / "out"),
                 "--ckpt", str(tmp_path / "run" / "checkpoints" / "last.ckpt")]) == 0  # fmt: skip
    with Image.open(tmp_path / "out" / "p0_labels.png") as labels:
        assert labels.size == (32, 16)


# ---- faults of the call


def test_faults_of_the_call(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = str(folder / "tiny.yaml"), ["--output", str(tmp_path / "o")]
    assert "segment-sphere" in error_of(capsys, "fit", "segment-spheer")
    assert "depth" in error_of(capsys, "fit", recipe, *out, "--model.depth", "9")
    assert "colour" in error_of(capsys, "fit", recipe, *out, "--model.colour", "red")
    assert "holds no checkpoint" in error_of(capsys, "test", recipe, *out)
    missing = ["--data.root", str(tmp_path / "nowhere")]
    assert "nowhere" in error_of(capsys, "fit", "segment-folder", *out, *missing)
    assert main(["dance"]) == 2
    assert main(["list", "grids", "--colour"]) == 2


def test_the_process_that_is_left_says_so_in_one_line() -> None:
    from spheregeo.cli.faults import explain

    for text in ("[gloo/pair.cc:553] Connection closed by peer [127.0.0.1]:5", "remote process exited or"):
        assert "another process of this run" in (explain(RuntimeError(text)) or "")
    assert explain(RuntimeError("shapes do not match")) is None


def test_a_lack_of_memory_is_a_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = ["--model.width", str(10**13), "--model.network", "pixel-mlp", "--output", str(tmp_path / "run")]
    assert "not enough memory for an array of" in error_of(capsys, "fit", str(folder / "tiny.yaml"), *wide)
    from spheregeo.cli.faults import explain

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    line = explain(caught.value)
    assert line is not None and "not enough memory" in line and "batch_size" in line


def test_labels_without_a_class_are_named(
    panoramas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(panoramas, root)
    for path in (root / "labels").iterdir():
        _rewrite(path, lambda a: np.full_like(a, 255))
    for weights in ("balanced", "null"):
        error = error_of(capsys, *folder_run(root, tmp_path / weights), "--model.class_weights", weights)
        assert "every label is the ignored one" in error and "diverged" not in error


def test_traceback_on_request(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        main(["fit", "segment-spheer", "--traceback"])
