"""A model goes out and comes back the same, from wherever it lies; nothing is overwritten that an export did not write."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import spheregeo as sg
from spheregeo import export, tasks, weights
from spheregeo.cli import main
from spheregeo.cli.checkpoints import best_checkpoint
from spheregeo.cli.export import run as export_run
from spheregeo.export.load import locate
from spheregeo.export.program import difference, export_program
from spheregeo.files import file_digest
from spheregeo.tasks.exported import MODEL, read_description

IMAGE = torch.rand(2, 3, 8, 16, generator=torch.Generator().manual_seed(1))


def randomised(task: tasks.Task) -> tasks.Task:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in [
            *task.network.parameters(),
            *(b for n, b in task.network.named_buffers() if "running_" in n),
        ]:
            tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator))
    return task.eval()


def segmentation() -> tasks.Task:
    """Every time the task of the same weights."""
    torch.manual_seed(0)
    options = {"kernel": "PiecewiseLinear(2, 3)", "position": True}
    names = ["wall", "floor", "other"]
    task = tasks.Segmentation(
        in_channels=3, num_classes=3, grid="Equiangular(8, 16)", class_names=names, width=4, depth=2, options=options,
        mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4],
    )  # fmt: skip
    return randomised(task)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as `spheregeo fit` and `test` leave it, made without the training."""
    folder = tmp_path_factory.mktemp("runs") / "segment-sphere"
    task = segmentation()
    content = {
        "task": "Segmentation",
        "hyper_parameters": dict(task.hparams),
        "state_dict": task.state_dict(),
    }
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(content, folder / "checkpoints" / "best.ckpt")
    recipe = {
        "seed_everything": 3,
        "trainer": {"max_epochs": 2},
        "data": {
            "class_path": "spheregeo.data.RoomsData",
            "init_args": {"train": 4, "cache_dir": "/somewhere/mine"},
        },
        "model": {"class_path": "spheregeo.tasks.Segmentation"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    scores = {
        "miou": 0.5,
        "classes": {"wall": {"iou": 0.7, "recall": None}},
        "checkpoint": "secret/place.ckpt",
        "checkpoint_sha256": file_digest(folder / "checkpoints" / "best.ckpt"),
    }
    for place, found in (
        ("test", scores),
        ("test-attic", {"miou": 0.1}),
    ):  # the last test, of another file, says nothing here
        (folder / place).mkdir()
        (folder / place / "metrics.json").write_text(json.dumps(found))
    (folder / "metrics.json").write_text(json.dumps({"miou": 0.1}))
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "model"
    words = ["export", str(run), "--output", str(folder), "--license", "mit", "--not-for", "photos"]
    assert main(words) == 0
    return folder


def test_a_card_holds_no_scores_of_another_checkpoint(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert export.describe(segmentation(), copy)["metrics"]["miou"] == 0.5
    content = torch.load(copy / "checkpoints" / "best.ckpt", weights_only=True)
    torch.save({**content, "epoch": 7}, copy / "checkpoints" / "last.ckpt")
    last = copy / "checkpoints" / "last.ckpt"
    assert export.describe(segmentation(), copy, checkpoint=last)["metrics"] is None
    export_run(str(last), "safetensors", str(tmp_path / "model"), None, False, {})
    assert "Not scored" in (tmp_path / "model" / "README.md").read_text()
    (copy / "checkpoints" / "best.ckpt").write_bytes(last.read_bytes())  # trained on since the test
    assert export.describe(segmentation(), copy)["metrics"] is None


def answer(task: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = task(IMAGE)
    return found


def test_every_place_gives_the_model(run: Path, exported: Path) -> None:
    wanted = answer(segmentation())
    for place in (run, run / "checkpoints" / "best.ckpt", exported, exported / MODEL, str(exported)):
        task = sg.load(place)
        assert not task.training and torch.equal(answer(task), wanted), place
    assert sg.load(exported, grid="Equiangular(12, 24)").grid.shape == (12, 24)


def test_a_card_holds_what_is_known(exported: Path) -> None:
    text = (exported / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert (
        head["license"] == "mit" and head["library_name"] == "spheregeo" and "segment-sphere" in head["tags"]
    )
    for wanted in (
        "wall, floor, other",
        "test split of `RoomsData`",
        "mean of the classes",
        "azimuthal",
        "not for: photos",
    ):
        assert wanted in text
    assert "/somewhere" not in text and "secret" not in text  # where files lay is nobody's business
    assert read_description(exported)["arguments"]["num_classes"] == 3
    config = json.loads((exported / "config.json").read_text())
    assert config["versions"]["spheregeo"] == sg.__version__ and set(config["files"]) == {MODEL, "README.md"}
    errors = config["equivariance"].values()
    assert errors and all(np.isfinite(error) for error in errors)


def test_the_snippet_of_a_card_works(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    shutil.copytree(exported, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((16, 32, 3), np.uint8)).save("photo.jpg")
    text = (exported / "README.md").read_text()
    exec(text.split("```python\n")[1].split("```")[0], {})
    assert list((tmp_path / "answers").glob("photo*labels.png"))


def test_half_precision_is_a_choice(tmp_path: Path) -> None:
    task = segmentation()
    folder = export.save(task, tmp_path / "small", export.describe(task), dtype="float16")
    small, wanted = answer(sg.load(folder)), answer(task)
    assert not torch.equal(small, wanted) and float((small - wanted).abs().max()) < 5e-3 * float(
        wanted.abs().max()
    )
    with pytest.raises(ValueError, match="int8"):
        export.save(task, tmp_path / "other", {}, dtype="int8")


def test_nothing_of_others_is_replaced(tmp_path: Path) -> None:
    task = segmentation()
    description = export.describe(task)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "README.md").write_text("my own")
    with pytest.raises(ValueError, match=r"mine/README\.md was not written by an export"):
        export.save(task, folder, description)
    assert [path.name for path in folder.iterdir()] == ["README.md"]
    (folder / "README.md").unlink()
    export.save(task, folder, description)
    export.save(task, folder, {**description, "about": "again"})  # its own files it may replace
    (folder / MODEL).write_bytes(b"changed")
    with pytest.raises(ValueError, match="changed since"):
        export.save(task, folder, description)
    with pytest.raises(ValueError, match="is a file"):
        export.save(task, folder / "README.md", description)


def test_bad_sources_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(pickle.dumps(Trap()))
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, str(foreign))
    for path, words in ((bad, "safetensors"), (foreign, "no description of a task")):
        with pytest.raises(ValueError, match=words) as caught:
            sg.load(path)
        assert str(path) in str(caught.value)
    assert not (tmp_path / "sprung").exists()
    for source in ("no-such-name", tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(FileNotFoundError, match="rooms"):
            sg.load(source)
    for source, words in (("http://host/m.safetensors", "https"), ("hf://only-a-user", "hf://user/name")):
        with pytest.raises(ValueError, match=words):
            sg.load(source)
    with pytest.raises(ValueError, match="sha256"):
        sg.load("rooms", sha256="00")
    assert main(["export", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "neither checkpoints nor an exported model" in capsys.readouterr().err


def test_a_folder_goes_before_a_shipped_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = locate("rooms")
    shutil.copytree(run, tmp_path / "rooms")
    assert locate("rooms") == locate(Path("rooms")) == Path("rooms/checkpoints/best.ckpt") != shipped
    shutil.copy(
        shipped, tmp_path / "rooms" / MODEL
    )  # an export beside the run is older than the run's next checkpoint
    assert locate("rooms") == best_checkpoint(Path("rooms")) == Path("rooms/checkpoints/best.ckpt")


def test_addresses(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub
    import pooch

    asked: list[Any] = []

    def retrieve(*given: Any, fname: str, path: Path) -> str:
        asked.append((given, {}))
        path.mkdir(exist_ok=True)
        shutil.copy(exported / MODEL, path / fname)
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: asked.append((a, k)) or str(exported)
    )
    wanted = answer(segmentation())
    assert torch.equal(answer(sg.load("https://host/a/model.safetensors", sha256="ab" * 32)), wanted)
    assert (
        asked[-1][0][:2] == ("https://host/a/model.safetensors", f"sha256:{'ab' * 32}")
        and capsys.readouterr().out == ""
    )
    sg.load("https://host/a/model.safetensors")
    assert asked[-1][0][1] is None and pooch.file_hash(str(exported / MODEL)) in capsys.readouterr().out
    kept = {path: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    assert len(kept) == 2  # a file of a known digest, and one without

    def offline(*_: Any, **__: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(OSError, match="no route"):
        sg.load("https://host/a/model.safetensors")
    assert {path: path.read_bytes() for path in (tmp_path / "cache").iterdir()} == kept
    assert torch.equal(answer(sg.load("hf://user/name@v1")), wanted)
    assert asked[-1][0] == ("user/name",) and asked[-1][1]["revision"] == "v1"


def test_the_hubs_methods(exported: Path, tmp_path: Path) -> None:
    model = export.HubModel.from_pretrained(str(exported))
    assert torch.equal(answer(model), answer(segmentation()))
    assert model.description["license"] == "mit" and model.description["metrics"]["miou"] == 0.5
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(answer(export.HubModel.from_pretrained(str(tmp_path / "again"))), answer(model))
    assert "license: mit" in (tmp_path / "again" / "README.md").read_text()


def test_a_program_loads_after_import_spheregeo_alone(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "program"
    assert main(["export", str(run), "--to", "torch-export", "--output", str(folder), "--no-audit"]) == 0
    torch.save((IMAGE, answer_of_field()), tmp_path / "pair.pt")
    code = (
        "import sys\nfor name in sys.argv[1].split(): __import__(name)\nimport torch\n"
        "assert not any(name.startswith('spheregeo.') and name != 'spheregeo.operators' for name in sys.modules)\n"
        f"image, wanted = torch.load({str(tmp_path / 'pair.pt')!r})\n"
        f"program = torch.export.load({str(folder / 'model.pt2')!r}).module()\n"
        "for size in (1, 2):\n"
        "    found = program(image[:size])\n"
        "    assert float((found - wanted[:size]).abs().max()) <= 1e-6 * float(wanted.abs().max())\n"
    )
    for order in ("spheregeo torch", "torch spheregeo"):
        done = subprocess.run(
            [sys.executable, "-c", code, order], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    config = json.loads((folder / "config.json").read_text())
    assert config["program"]["inputs"]["image"]["shape"] == ["any", 3, 8, 16]


def answer_of_field() -> torch.Tensor:
    """What the program of the segmentation gives: it takes raw values."""
    task: Any = segmentation()
    with torch.no_grad():
        found: torch.Tensor = task(task.normalize(IMAGE))
    return found


def test_import_offers_operators_without_torch() -> None:
    code = "import sys, spheregeo; assert 'torch' not in sys.modules; import torch; print(torch.__spec__.loader)\n"
    code += "assert 'exec_module' not in vars(torch.__spec__.loader); torch.ops.spheregeo.multilinear\n"
    code += "assert not hasattr(torch.ops.spheregeo, 'no_such_operator')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


POINTS = {"num_points": 24, "options": {"width": 4, "counts": [8, 4], "radii": [0.9, 1.8], "k": 6}}


@pytest.mark.parametrize(
    "make",
    [
        lambda: tasks.PointClassification(3, network="steerable-points", **POINTS),
        lambda: tasks.MoleculeRegression(["energy"], ["eV"], network="steerable-molecule", width=4, depth=1),
        lambda: tasks.MoleculeRegression(["energy"], ["eV"], network="schnet", width=4, depth=1),
        lambda: tasks.Depth(in_channels=3, grid="HEALPix(2)", network="healpix", width=4, depth=2),
        lambda: tasks.Classification(3, 4, "HEALPix(2)", width=4, depth=2),
        lambda: tasks.SkyRestoration(3, "HEALPix(2)", [[1.0] * 5], std=[2.0, 3.0, 1.0], width=4, depth=2),
    ],
    ids=["points", "steerable-molecule", "schnet", "depth", "classification", "skies"],
)
def test_programs_equal_their_networks(make: Any) -> None:
    plan = export.plan_of(randomised(make()))
    program = export_program(plan)
    assert difference(program.module(), plan) <= 1e-6


def test_a_molecules_program_takes_another_molecule() -> None:
    task: Any = randomised(tasks.MoleculeRegression(["energy"], ["eV"], width=4, depth=1))
    numbers = torch.tensor([8, 1, 1])
    x = torch.tensor([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    x = x - x.mean(0)
    graph = task.network.neighbors(x, torch.zeros(3).long())
    program = export_program(export.plan_of(task)).module()
    wanted = task({"numbers": numbers, "positions": x, "batch": torch.zeros(3).long()})
    torch.testing.assert_close(program(x, numbers, graph.edge_index), wanted)


def test_tasks_without_a_program_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Forces has no program"):
        export.plan_of(tasks.Forces(width=4, depth=1))
    points = tasks.PointClassification(3, network="vnn-pointnet", width=4)
    with pytest.raises(ValueError, match="PointClassification goes to no ONNX"):
        export.save_onnx(points, tmp_path / "x", {})
    assert weights.names()
