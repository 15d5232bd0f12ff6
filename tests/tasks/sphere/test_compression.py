"""Compression as a job: scores against slow twins, files that another process reads alike, and faults in one line."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spheregeo.cli import main
from spheregeo.coding import read_compressed
from spheregeo.grids import Equiangular, HEALPix
from spheregeo.tasks import Codec, Compression
from spheregeo.tasks.sphere.fidelity import bd_rate, psnr, ws_weights
from spheregeo.tasks.sphere.predict import row_areas

GRID = Equiangular(32, 64)


def task(network: str = "oslo", noise: float = 0.05) -> Compression:
    torch.manual_seed(0)
    made = Compression(3, GRID, network, width=4, depth=1, mean=[0.5] * 3, std=[0.2] * 3).eval()
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter += noise * torch.randn_like(parameter)
    return made


def photo(height: int = 32) -> torch.Tensor:
    across, down = torch.arange(2 * height) * math.pi / height, torch.arange(height) * math.pi / height
    waves = torch.stack(
        [torch.sin(k * across)[None] * torch.cos((k + 1) * down)[:, None] for k in range(1, 4)]
    )
    return 0.5 + 0.4 * waves


def test_ratios_against_the_definition() -> None:
    image, truth = torch.rand(2, 3, 8, 16), torch.rand(2, 3, 8, 16)
    weights = ws_weights(8, 16)
    found = psnr(image, truth, weights)
    total, over = 0.0, 0.0
    for i in range(8):
        w = math.cos((i + 0.5 - 4) * math.pi / 8)
        for j in range(16):
            total += w * float((image[1, :, i, j] - truth[1, :, i, j]).square().mean())
            over += w
    assert float(found[1]) == pytest.approx(10 * math.log10(over / total), abs=1e-5)
    assert psnr(truth, truth).tolist() == [100.0, 100.0]
    ratio = ws_weights(64, 128)[:, 0].numpy() / row_areas(64)
    assert np.allclose(ratio, ratio[0])  # exactly the pixels' areas


def test_differences_of_rates() -> None:
    scores = [30.0, 32.0, 35.0, 39.0]
    base = [1.0, 2.0, 3.5, 9.0]
    assert bd_rate([0.87 * r for r in base], scores, base, scores) == pytest.approx(-0.13)
    # shorter by 20 % below 34 dB, by 10 % above: between the two
    assert -0.2 < bd_rate([0.8, 1.6, 3.15, 8.1], scores, base, scores) < -0.1
    assert math.isnan(bd_rate([1, 2], [10, 20], base, scores))
    with pytest.raises(ValueError, match="got 1 rates"):
        bd_rate([1], [30], base, scores)


@pytest.mark.parametrize("network", ["oslo", "oslo-planar"])
def test_the_loss_is_rate_and_error_by_area(network: str) -> None:
    made = task(network)
    image = made.normalize(torch.stack([photo(), photo().flip(-1)]))
    with torch.no_grad():
        outputs = made.forward_batch({"image": image})
    field, decoded = outputs["field"], outputs["decoded"]
    areas = made.coding_grid.areas.reshape(made.coding_grid.shape)
    error = ((decoded - field) * 0.2).square().mean(1)
    mse = float((error * areas).sum() / (2 * areas.sum()))
    expected = float(outputs["bits"].mean()) / made.coding_grid.num_points + 0.01 * 255**2 * mse
    assert float(outputs["loss"]) == pytest.approx(expected, rel=1e-4)
    made.update_metrics(outputs)
    scores = made.compute_metrics()
    assert scores["bits_per_steradian"] == pytest.approx(
        float(outputs["bits"].mean()) / (4 * math.pi), rel=1e-5
    )
    assert scores["ws_psnr"] == pytest.approx(scores["s_psnr"], abs=3.0)  # errors differ by latitude
    assert set(scores) == set(made.report()) - {"lmbda", "coding_grid"}
    assert made(image).shape == image.shape


def test_lengths_are_within_a_percent_and_files_hold_the_latents() -> None:
    for network in ("oslo", "oslo-planar"):
        codec = Codec(task(network, noise=0.01))
        encoded = codec.encode(photo(64))
        made, y, z = codec.latents(encoded.file)
        assert encoded.symbol_bits == pytest.approx(encoded.estimate, rel=0.01)
        assert encoded.bits - encoded.symbol_bits < 8 * 40
        assert made.scale_indices(z).shape == y.shape and made.grid.num_points > GRID.num_points
        assert codec.decode(encoded.file).shape == (64, 128, 3)
        assert codec.decode(encoded.file, (16, 32)).dtype == np.uint8


READ = """
import sys, numpy as np, torch
torch.set_num_threads(int(sys.argv[3]))
from spheregeo import tasks
from spheregeo.coding import read_compressed
codec = tasks.Codec(tasks.load(sys.argv[1]))
file = read_compressed(sys.argv[2])
np.savez(sys.argv[4], picture=codec.decode(file), y=codec.latents(file)[1])
"""


def test_another_process_with_other_threads_reads_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run.ckpt")
    made = task()
    checkpoint = {"state_dict": made.state_dict(), "hyper_parameters": dict(made.hparams)}
    made.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, run)
    pixels = (photo() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    ours = ["--checkpoint", run]
    assert main(["encode", str(tmp_path / "photo.png"), *ours, "--check"]) == 0
    assert "WS-PSNR" in capsys.readouterr().out
    file = tmp_path / "photo.sgc"
    assert main(["decode", str(file), *ours, "--output", str(tmp_path / "found.png")]) == 0
    arguments = [run, str(file), "2", str(tmp_path / "there.npz")]
    subprocess.run(
        [sys.executable, "-c", READ, *arguments], check=True, env={**os.environ, "OMP_NUM_THREADS": "2"}
    )
    with np.load(tmp_path / "there.npz") as there:
        assert np.array_equal(there["picture"], np.array(Image.open(tmp_path / "found.png")))
    # what is refused, each in one line
    capsys.readouterr()
    assert main(["decode", str(file), *ours, "--output", str(tmp_path / "found.png")]) == 2
    assert "found.png exists" in capsys.readouterr().err
    cut = tmp_path / "cut.sgc"
    cut.write_bytes(file.read_bytes()[:-1])
    assert main(["decode", str(cut), *ours]) == 2
    error = capsys.readouterr().err
    assert "cut.sgc cannot be read as a compressed panorama" in error and error.count("\n") == 1
    assert not (tmp_path / "cut.png").exists()


def test_files_of_other_models_and_sizes_are_refused() -> None:
    codec = Codec(task())
    file = codec.encode(photo()).file
    other = task()
    with torch.no_grad():
        next(iter(other.network.synthesis.parameters())).add_(1)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="written with a model of digest"):
        Codec(other).decode(file)
    with pytest.raises(ValueError, match=r"size is \(10, 30\)"):
        codec.decode(file, (10, 30))
    with pytest.raises(ValueError, match="photo has shape"):
        codec.encode(torch.rand(1, 32, 64))
    with pytest.raises(ValueError, match="does not work"):
        codec.encode(photo(), GRID)
    with pytest.raises(ValueError, match="lmbda is 0"):
        Compression(3, GRID, lmbda=0)
    with pytest.raises(ValueError, match="coding_grid is"):
        Compression(3, GRID, "oslo-planar", coding_grid=HEALPix(8))


def test_a_folder_goes_on_after_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from spheregeo.cli.commands import coding

    (tmp_path / "bad.sgc").write_bytes(b"SGC1 but no more")
    (tmp_path / "good.sgc").write_bytes(b"")
    done = []

    def do(path: Path, target: Path) -> str:
        if path.stem == "bad":
            read_compressed(path)
        done.append(path.name)
        return "fine"

    with pytest.raises(ValueError, match="1 of 2 files failed"):
        coding._each(
            [(tmp_path / "bad.sgc", tmp_path / "bad.png"), (tmp_path / "good.sgc", tmp_path / "good.png")], do
        )
    assert done == ["good.sgc"]
