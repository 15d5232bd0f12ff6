"""``spheregeo new`` writes recipes that check and fit as they are, and names what is odd in the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from spheregeo.cli import main
from spheregeo.cli.commands.new import KINDS

TINY = ["--model.width", "4", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]


def panoramas(root: Path, kind: str) -> Path:
    """Thirty panoramas of noise with labels of two classes, or depths."""
    rng = np.random.default_rng(0)
    for name in ("images", kind):
        (root / name).mkdir(parents=True)
    for k in range(30):
        Image.fromarray(rng.integers(0, 255, (32, 64, 3), np.uint8)).save(root / "images" / f"{k:02d}.png")
        if kind == "labels":
            Image.fromarray(rng.integers(0, 2, (32, 64), np.uint8)).save(root / kind / f"{k:02d}.png")
        else:
            np.save(root / kind / f"{k:02d}.npy", rng.uniform(1, 3, (32, 64)).astype(np.float32))
    return root


def clouds(root: Path, kind: str) -> Path:
    """Ten clouds, or tetrahedra, of each of two classes."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (root / name).mkdir(parents=True)
        for k in range(12):
            points = rng.standard_normal((40, 3))
            if kind == "classify-points":
                np.savetxt(root / name / f"{k:02d}.xyz", points)
            else:
                text = "OFF\n4 4 0\n0 0 0\n{} 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 1 2 3\n3 0 3 2\n"
                (root / name / f"{k:02d}.off").write_text(text.format(1 + k))
    return root


def frames(path: Path, extra: str = "") -> Path:
    """Thirty frames of a stretched H2 with energy, gap and forces."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(30):
        d = rng.uniform(0.6, 0.9)
        lines += [
            "2",
            f'Properties=species:S:1:pos:R:3:forces:R:3 energy={-30 + d} gap_eV={d} {extra}pbc="F F F"',
        ]
        lines += ["H 0 0 0 0 0 1", f"H 0 0 {d} 0 0 -1"]
    path.write_text("\n".join(lines) + "\n")
    return path


def data_of(kind: str, place: Path) -> Path:
    if kind in ("segment-sphere", "depth-sphere"):
        root = panoramas(place / "mine", {"segment-sphere": "labels", "depth-sphere": "depth"}[kind])
        if kind == "segment-sphere":
            (root / "classes.txt").write_text("floor\nwall\n")
        return root
    return clouds(place / "mine", kind) if kind.startswith("classify") else frames(place / "mine.xyz")


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_recipe_checks_and_fits(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root, recipe = data_of(kind, tmp_path), tmp_path / f"{kind}-mine.yaml"
    assert main(["new", kind, "--data", str(root)]) == 0
    assert str(recipe.name) in capsys.readouterr().out
    content = yaml.safe_load(recipe.read_text())
    assert content["data"]["init_args"]["root"] == str(root)
    assert main(["check", str(recipe), "--workers", "0"]) == 0
    if kind == "classify-mesh":  # tetrahedra are no surface for the default network
        return
    small = {"classify-points": ["--data.num_points", "16", "--model.network", "pointnet"]}.get(kind, [])
    if "molecule" in kind or kind == "fit-md":
        small = ["--model.network", "schnet", "--model.depth", "1"]
    if "sphere" in kind:
        small = ["--model.depth", "2", "--data.size", "[8, 16]"]
    call = ["fit", str(recipe), "--output", str(tmp_path / "run"), *TINY, *small]
    assert main(call) == 0, capsys.readouterr().err


def test_oddities_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = panoramas(tmp_path / "mine", "labels")
    call = ["new", "segment-sphere", "--data", str(root), "--output", str(tmp_path / "a.yaml")]
    assert main(call) == 2
    assert "the labels hold the values 0, 1" in capsys.readouterr().err
    assert main([*call, "--classes", "floor,wall,sky"]) == 0
    assert (root / "classes.txt").read_text() == "floor\nwall\nsky\n"
    assert "odd: class sky is in none of the labels" in capsys.readouterr().out
    assert main(call) == 2 and "exists already" in capsys.readouterr().err

    (root / "labels" / "03.png").unlink()
    Image.new("RGB", (40, 32)).save(root / "images" / "04.png")
    (root / "images" / "05.png").write_bytes(b"")
    Image.fromarray(np.full((32, 64), 9, np.uint8)).save(root / "labels" / "06.png")
    assert main([*call, "--overwrite"]) == 0
    out = capsys.readouterr().out
    for text in ("1 images have no file in labels/: 03.png", "1 images are not twice as wide as high: 04.png",
                 "1 images cannot be opened: 05.png", "labels hold values without a name: 9"):  # fmt: skip
        assert f"odd: {text}" in out
        assert f"# odd: {text}" in (tmp_path / "a.yaml").read_text()

    deep = np.full((32, 64), 300, np.uint16)
    deep[:16], deep[16] = 65535, 0
    Image.fromarray(deep).save(root / "labels" / "06.png")
    for name in ("07", "08"):
        (root / "labels" / f"{name}.png").unlink()
        Image.fromarray(np.zeros((32, 64), np.uint8)).save(root / "labels" / f"{name}.jpg")
    assert main([*call, "--overwrite"]) == 0
    out = capsys.readouterr().out
    assert "values without a name: 300;" in out and "void (65535): " in out
    assert "class_weights: balanced is set" in out  # whatever the classes' sizes are
    assert out.count("JPEG") == 1 and "odd: 2 label files are JPEG" in out

    both = frames(tmp_path / "both.xyz", "REF_energy=-1.0 ")
    assert main(["new", "fit-md", "--data", str(both), "--output", str(tmp_path / "b.yaml")]) == 0
    assert "REF_energy and energy could be meant" in capsys.readouterr().out
    assert main(["new", "fit-md", "--data", str(tmp_path / "nowhere")]) == 2
    capsys.readouterr()
    assert (
        main(["new", "fit-md", "--data", str(both), "--output", str(tmp_path / "c.yaml"), "--classes", "a,b"])
        == 2
    )
    assert "leave --classes out" in capsys.readouterr().err
