"""A task of one's own, in a module of one's own, is served by the command line like those of the package."""

from __future__ import annotations

import ast
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import spheregeo
from spheregeo import tasks
from spheregeo.cli import main
from spheregeo.grids import HEALPix
from spheregeo.tasks import Segmentation, Task

MODULE = '''
"""A task that learns the mean colour of an image."""
from pathlib import Path

import torch

from spheregeo.tasks import Task


class MeanColour(Task):
    """Learn the mean of each channel."""

    artifacts = ("colour.txt",)
    linked_from_data = ("in_channels", "batch_size")

    def __init__(self, in_channels: int, batch_size: int, bias: bool = True, **common):
        assert batch_size == 2, batch_size
        super().__init__(in_channels=in_channels, batch_size=batch_size, bias=bias, **common)
        self.network = torch.nn.Linear(in_channels, in_channels, bias=bias)

    def forward_batch(self, batch):
        truth = batch["image"].flatten(2).mean(2)
        prediction = self.network(truth)
        return {"truth": truth, "prediction": prediction, "loss": (prediction - truth).square().mean()}

    def update_metrics(self, outputs):
        self.error = float((outputs["prediction"] - outputs["truth"]).abs().mean())
        return outputs

    def compute_metrics(self):
        return {"error": self.error}

    def report(self):
        return {"error": self.error}

    def plot(self, folder: Path, examples):
        (folder / "colour.txt").write_text("grey")

    def predict(self, source: Path, output: Path):
        output.mkdir(parents=True)
        (output / "answer.txt").write_text(source.name)

    def audit(self):
        return {"parameters": sum(p.numel() for p in self.parameters())}
'''
RECIPE = """# mean colours of tiny rooms
data:
  class_path: spheregeo.data.RoomsData
  init_args: {size: [8, 16], train: 4, val: 2, test: 2, batch_size: 2}
model:
  class_path: mean_colour_task.MeanColour
  init_args: {lr: 0.01}
trainer: {max_epochs: 1, accelerator: cpu}
"""


def test_the_command_line_serves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mean_colour_task.py").write_text(MODULE)
    (tmp_path / "colours.yaml").write_text(RECIPE)
    monkeypatch.syspath_prepend(tmp_path)
    recipe, run = str(tmp_path / "colours.yaml"), tmp_path / "run"
    assert main(["fit", recipe, "--output", str(run)]) == 2
    assert "mean_colour_task.MeanColour, which is code from outside" in capsys.readouterr().err
    assert "mean_colour_task" not in sys.modules, "a module that is not trusted is not imported"
    trust = "--trust-recipe"
    assert main(["fit", recipe, "--output", str(run), trust]) == 0
    sys.modules.pop("mean_colour_task")
    assert main(["test", recipe, "--output", str(run)]) == 2
    assert "recipe.yaml names mean_colour_task.MeanColour" in capsys.readouterr().err
    assert "mean_colour_task" not in sys.modules, "nor from the recipe that a run recorded"
    assert main(["test", recipe, "--output", str(run), trust]) == 0
    assert json.loads((run / "metrics.json").read_text())["error"] > 0
    assert (run / "colour.txt").read_text() == "grey"
    best = str(run / "checkpoints" / "best.ckpt")
    answer = ["--input", "photo.png", "--ckpt", best, "--output", str(tmp_path / "out")]
    assert main(["predict", recipe, *answer, trust]) == 0
    assert (tmp_path / "out" / "answer.txt").read_text() == "photo.png"
    assert main(["audit", recipe, "--output", str(run), "--json", str(tmp_path / "audit.json"), trust]) == 0
    assert json.loads((tmp_path / "audit.json").read_text()) == {"parameters": 12}
    assert main(["fit", recipe, "--output", str(run), "--overwrite", trust]) == 0
    assert not (run / "colour.txt").exists(), "a new run removes what the earlier one left"


def test_the_command_line_names_no_task() -> None:
    """No list of tasks, of their files or of their arguments: a new task needs no line in ``cli/``."""
    kinds = {kind.__name__ for kind in tasks.kinds()} - {"Task"}
    files = {name for kind in tasks.kinds() for name in kind.artifacts}
    files |= {"mean", "std", "num_classes", "class_names", "feature_irreps"}
    for path in (Path(spheregeo.__file__).parent / "cli").glob("*.py"):
        if path.stem == "demo":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Name, ast.Attribute)):
                name = node.id if isinstance(node, ast.Name) else node.attr
                assert name not in kinds, f"{path.name}:{node.lineno} names {name}"
            elif isinstance(node, ast.Constant):
                assert node.value not in files, f"{path.name}:{node.lineno} names {node.value!r}"


def test_what_a_task_does_not_do_is_said() -> None:
    task = tasks.MeshClassification(3, width=2, depth=1, options={"radius": 0.3, "blocks": 1})
    with pytest.raises(ValueError, match="no audit of MeshClassification"):
        Task.audit(task)
    with pytest.raises(ValueError, match="MeshClassification predicts no files"):
        Task.predict(task, Path("a"), Path("b"))


def test_former_names_of_methods_go_on_working() -> None:
    batch = {"image": torch.randn(2, 3, 192), "label": torch.zeros(2, 192).long()}
    task = Segmentation(3, 2, HEALPix(4), network="pixel-mlp", width=4).eval()
    with pytest.warns(DeprecationWarning, match=r"Segmentation\.run is called forward_batch now"):
        loss = task.run(batch)["loss"]  # type: ignore[attr-defined]
    assert torch.equal(loss, task.forward_batch(batch)["loss"])
    with pytest.warns(DeprecationWarning, match=r"Twice\.run is called forward_batch now"):

        class Twice(Segmentation):
            def run(self, batch: dict[str, Any]) -> dict[str, Any]:
                outputs = super().run(batch)  # type: ignore[misc]
                return {**outputs, "loss": 2 * outputs["loss"]}

    twice = Twice(3, 2, HEALPix(4), network="pixel-mlp", width=4).eval()
    twice.load_state_dict(task.state_dict())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        twice.validation_step(batch, 0)
    assert float(twice.mean_loss.compute()) == pytest.approx(2 * float(loss.detach()))
