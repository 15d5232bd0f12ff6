"""What comes from strangers: recipes run no foreign code, checkpoints that cannot be right are refused in one line."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from spheregeo import tasks
from spheregeo.cli import main
from spheregeo.cli.trust import parse_recipe
from spheregeo.tasks import read_checkpoint

RECIPE = """# tiny rooms
data:
  class_path: spheregeo.data.RoomsData
  init_args: {size: [8, 16], train: 4, val: 2, test: 2, batch_size: 2}
model:
  class_path: spheregeo.tasks.Segmentation
  init_args: {network: pixel-mlp, width: 4, depth: 2, lr: 0.01}
trainer: {max_epochs: 1, accelerator: cpu}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    (folder / "tiny.yaml").write_text(RECIPE)
    assert main(["fit", str(folder / "tiny.yaml"), "--output", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    shutil.copytree(place / "run", tmp_path / "run")
    return tmp_path / "run"


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("spheregeo: error: ") and captured.err.count("\n") == 1
    return captured.err


# ---- recipes

CALLS: list[Any] = []


def foreign(*arguments: Any) -> None:
    """What a recipe from a stranger would call."""
    CALLS.append(arguments)


def lambda_callback(path: str) -> dict[str, Any]:
    return {"trainer": {"callbacks": [{"class_path": "LambdaCallback", "init_args": {"on_fit_start": path}}]}}


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "data of a module": ({"data": {"class_path": "foreign_module.Data"}}, "foreign_module.Data"),
    "data in short": ({"data": "foreign_module.Data"}, "foreign_module.Data"),
    "task of a module": ({"model": {"class_path": "foreign_module.Task"}}, "foreign_module.Task"),
    "logger of a module": ({"trainer": {"logger": {"class_path": "foreign_module.Logger"}}}, "foreign_module.Logger"),
    "exec": (lambda_callback("builtins.exec"), "builtins.exec"),
    "system": (lambda_callback("os.system"), "os.system"),
    "system through torch": (lambda_callback("torch.os.system"), "system"),
    "a function of torch": (lambda_callback("torch.hub.load"), "torch.hub.load"),
    "a function here": (lambda_callback(f"{__name__}.foreign"), "foreign"),
    "a class through torch": ({"trainer": {"profiler": {"class_path": "torch.utils.cpp_extension.subprocess.Popen"}}}, "Popen"),
    "deep": (
        {"model": {"init_args": {"options": {"norm": {"class_path": "foreign_module.Norm"}}}}}, "foreign_module.Norm",
    ),
}  # fmt: skip


def merged(base: Any, change: Any) -> Any:
    if isinstance(base, dict) and isinstance(change, dict):
        return {**base, **{k: merged(base.get(k), v) for k, v in change.items()}}
    return change


@pytest.mark.parametrize("kind", HOSTILE)
def test_foreign_code_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change, named = HOSTILE[kind]
    (tmp_path / "foreign_module.py").write_text("raise SystemExit('code from a stranger has run')")
    monkeypatch.syspath_prepend(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(merged(yaml.safe_load(RECIPE), change)))
    error = error_of(capsys, "fit", str(recipe), "--output", str(tmp_path / "run"))
    assert named in error and "--trust-recipe" in error and str(recipe) in error
    if "data" in change:
        assert named in error_of(capsys, "check", str(recipe), "--workers", "0")
    assert "foreign_module" not in sys.modules and not CALLS
    assert not (tmp_path / "run").exists()


def test_a_recorded_recipe_is_no_way_round(
    run: Path,
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "foreign_module.py").write_text("raise SystemExit('code from a stranger has run')")
    monkeypatch.syspath_prepend(tmp_path)
    content = yaml.safe_load((run / "recipe.yaml").read_text())
    content["data"]["class_path"] = "foreign_module.Data"
    (run / "recipe.yaml").write_text(yaml.safe_dump(content))
    for command, options in (("test", []), ("validate", []), ("fit", ["--resume"])):
        error = error_of(capsys, command, str(place / "tiny.yaml"), "--output", str(run), *options)
        assert "foreign_module.Data" in error and str(run / "recipe.yaml") in error


def test_what_is_trusted_runs(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    path = f"{__name__}.foreign"
    recipe.write_text(yaml.safe_dump(merged(yaml.safe_load(RECIPE), lambda_callback(path))))
    assert main(["fit", str(recipe), "--output", str(tmp_path / "run"), "--trust-recipe"]) == 0
    assert len(sys.modules[__name__].CALLS) == 1
    CALLS.clear()


def test_recipes_show_no_other_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("password: [hunter2\n")
    recipe = tmp_path / "recipe.yaml"
    base = yaml.safe_load(RECIPE)
    link = tmp_path / "link.yaml"
    link.symlink_to(secret)
    for change in (
        {"config": str(secret)}, {"data": str(secret)}, {"model": str(secret)}, {"trainer": str(secret)},
        {"data": {"init_args": str(secret)}}, {"model": {"init_args": str(secret)}},
        {"trainer": {"callbacks": str(secret)}}, {"trainer": {"logger": str(secret)}},
        {"trainer": {"plugins": str(secret)}}, {"model": {"init_args": {"options": str(secret)}}},
    ):  # fmt: skip
        recipe.write_text(yaml.safe_dump(merged(base, change)))
        assert "hunter2" not in error_of(capsys, "fit", str(recipe), "--output", str(tmp_path / "run")), (
            change
        )
    assert "hunter2" not in error_of(capsys, "fit", str(link), "--output", str(tmp_path / "run"))
    assert "is no YAML (line" in error_of(capsys, "fit", str(link), "--output", str(tmp_path / "run"))


def test_anchors_do_not_explode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 8)]
    recipe = tmp_path / "bomb.yaml"
    recipe.write_text("\n".join(lines))
    begin = time.perf_counter()
    with pytest.raises(ValueError, match="more than 100000 entries"):
        parse_recipe(recipe.read_text(), recipe)
    assert time.perf_counter() - begin < 1
    assert "bomb.yaml has more than" in error_of(
        capsys, "fit", str(recipe), "--output", str(tmp_path / "run")
    )
    with pytest.raises(ValueError, match="holds itself"):
        parse_recipe("a: &a [*a]", recipe)
    with pytest.raises(ValueError, match="RecursionError"):
        parse_recipe("[" * 5000, recipe)


def test_the_recipe_that_is_used_is_named(
    run: Path,
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks.Segmentation, "plot", lambda *arguments: None)  # pictures take seconds

    def used(recipe: Path, *options: str) -> tuple[str, str]:
        capsys.readouterr()
        assert main(["test", str(recipe), "--output", str(run), *options]) == 0
        return capsys.readouterr().out, json.loads((run / "metrics.json").read_text())["recipe"]

    out, named = used(place / "tiny.yaml")
    assert "using the recipe" not in out and named == str(place / "tiny.yaml")
    other = tmp_path / "other.yaml"
    other.write_text(RECIPE.replace("width: 4", "width: 8"))
    out, named = used(other)
    record = run / "recipe.yaml"
    assert (
        f"using the recipe that the run recorded, {record}, which is not that of {other}" in out
        and named == str(record)
    )
    # A run of an earlier version did not say which recipe it began with.
    manifest = run / ".spheregeo-run.json"
    kept = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**kept, "source": ""}))
    assert used(place / "tiny.yaml")[1] == str(place / "tiny.yaml") and used(other)[1] == str(record)
    resume = ["--output", str(run), "--resume", "--trainer.max_epochs"]
    manifest.write_text(json.dumps(kept))
    assert main(["fit", str(place / "tiny.yaml"), *resume, "2"]) == 0
    assert (
        "using the recipe" not in capsys.readouterr().out
        and "using the recipe" not in used(place / "tiny.yaml")[0]
    )
    assert main(["fit", str(other), *resume, "3"]) == 0
    assert "using the recipe that the run recorded" in capsys.readouterr().out


# ---- checkpoints


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = read_checkpoint(path)
    edit(content)
    torch.save(content, path)


def renamed(content: dict[str, Any]) -> None:
    content["hyper_parameters"]["breadth"] = content["hyper_parameters"].pop("width")


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "missing": lambda c: c["hyper_parameters"].pop("num_classes"),
    "unknown": renamed,
    "kind": lambda c: c["hyper_parameters"].update(width="wide"),
    "size": lambda c: c["hyper_parameters"].update(width=10**13),
    "shape": lambda c: c["state_dict"].update({next(iter(c["state_dict"])): torch.zeros(2, 3, 4, 5)}),
    "no settings": lambda c: c.pop("hyper_parameters"),
    "settings of another kind": lambda c: c.update(hyper_parameters=[1]),
    "weights of another kind": lambda c: c["state_dict"].update({next(iter(c["state_dict"])): "text"}),
    "absent weight": lambda c: c["state_dict"].pop(next(iter(c["state_dict"]))),
    "version": lambda c: (c.update(versions={"spheregeo": "9.9"}), renamed(c)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_checkpoint_that_does_not_fit(
    kind: str, run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = run / "checkpoints" / "best.ckpt"
    change(best, DAMAGE[kind])
    with pytest.raises(ValueError, match=r"best\.ckpt.*(Segmentation|where weights belong)") as caught:
        tasks.load(best)
    text = str(caught.value)
    assert (
        kind == "weights of another kind"
        or (
            "written by spheregeo 9.9"
            if kind == "version"
            else f"this is {tasks.files.versions()['spheregeo']}"
        )
        in text
    )
    error = error_of(capsys, "test", str(place / "tiny.yaml"), "--output", str(run))
    assert str(best) in error and len(error) < 700


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.98])
def test_a_cut_checkpoint_names_its_file(
    share: float, run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        path = run / "checkpoints" / name
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    recipe = str(place / "tiny.yaml")
    assert str(run / "checkpoints" / "best.ckpt") in error_of(capsys, "test", recipe, "--output", str(run))
    assert str(run / "checkpoints" / "last.ckpt") in error_of(
        capsys, "fit", recipe, "--output", str(run), "--resume"
    )


def test_weights_that_are_not_finite_are_refused(
    run: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = run / "checkpoints" / "best.ckpt"
    name = next(iter(read_checkpoint(best)["state_dict"]))
    recipe, photo = str(place / "tiny.yaml"), tmp_path / "photo.png"
    photo.write_bytes(b"")
    for value in (float("nan"), float("inf")):
        change(best, lambda c, v=value: c["state_dict"][name].view(-1)[:2].fill_(v))
        for call in (
            ["test", recipe, "--output", str(run)],
            ["audit", recipe, "--output", str(run)],
            [
                "predict",
                recipe,
                "--input",
                str(photo),
                "--ckpt",
                str(best),
                "--output",
                str(tmp_path / "out"),
            ],
        ):
            error = error_of(capsys, *call)
            assert str(best) in error and f"not finite: {name} has 2 of" in error


def test_versions_and_data_are_recorded(run: Path) -> None:
    content = read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert content["versions"] == tasks.files.versions() and set(content["versions"]) == {
        "spheregeo",
        "torch",
        "lightning",
    }
    assert content["data"]["kind"] == "RoomsData" and content["data"]["counts"]["train"] == 4
    assert content["data"]["settings"]["seed"] == 0
    header = (run / "recipe.yaml").read_text().split("seed_everything")[0]
    assert f"torch {torch.__version__}" in header and "data: RoomsData, train 4" in header


def test_other_data_are_noticed(run: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resume = ["fit", str(place / "tiny.yaml"), "--output", str(run), "--resume", "--trainer.max_epochs"]
    assert main([*resume, "2"]) == 0
    assert "warning" not in capsys.readouterr().out
    assert main([*resume, "3", "--data.train", "6", "--data.seed", "5", "--data.batch_size", "3"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert line == (
        "warning: the data differ from those of the checkpoint: batch_size 2 then, 3 now; seed 0 then, 5 now; "
        "train 4 then, 6 now"
    )


def test_files_are_described_by_content_not_by_place(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from spheregeo.data.record import data_differences, describe_data

    for name in ("a", "b"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "images" / "one.png").write_bytes(b"12345")
    first, second = (describe_data(SimpleNamespace(), {"root": str(tmp_path / name)}) for name in "ab")
    assert data_differences(first, second) == [] and str(tmp_path) not in str(first)
    (tmp_path / "b" / "images" / "two.png").write_bytes(b"1")
    third = describe_data(SimpleNamespace(), {"root": str(tmp_path / "b")})
    assert data_differences(first, third) == ["root 1 files of 5 bytes then, 2 files of 6 bytes now"]
    (tmp_path / "b" / "runs").mkdir()
    for name in (".spheregeo-run.json", "curves.png"):
        (tmp_path / "b" / "runs" / name).write_text("{}")
    assert describe_data(SimpleNamespace(), {"root": str(tmp_path / "b")}) == third, (
        "a run is no part of the data beside it"
    )
    (tmp_path / "a" / "images" / "one.png").rename(tmp_path / "a" / "images" / "other.png")
    assert data_differences(first, describe_data(SimpleNamespace(), {"root": str(tmp_path / "a")})) == [
        "names of files in root"
    ]
