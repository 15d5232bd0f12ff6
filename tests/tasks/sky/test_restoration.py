"""Restoration of skies: what trains and counts, scores by degree, the filter beside the network, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.data import GeneratedSkiesData, SkyMap, read_sky_map, write_sky_map
from spheregeo.grids import HEALPix
from spheregeo.tasks import SkyRestoration
from spheregeo.tasks.pictures.sky import sky_panorama
from spheregeo.tasks.sky.predict import prepare_sky


def make(data: GeneratedSkiesData, **options: object) -> SkyRestoration:
    options = {"width": 4, "depth": 2, **options}
    return SkyRestoration(data.in_channels, data.grid, data.wiener, mean=data.mean, std=data.std, **options)  # type: ignore[arg-type]


def skies(**options: object) -> GeneratedSkiesData:
    return GeneratedSkiesData(**{"nside": 4, "train": 4, "val": 2, "test": 2, **options})  # type: ignore[arg-type]


def test_training_step_ignores_what_is_masked() -> None:
    data = skies(masked=0.3)
    task, batch = make(data), next(iter(data.train_dataloader()))
    task.log = lambda *a, **k: None  # type: ignore[assignment,method-assign]
    loss = task.training_step(batch, 0)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in task.parameters())
    other = torch.where(batch["image"][:, -1] > 0, batch["target"], 1e6)
    assert torch.allclose(
        task.eval().forward_batch(batch)["loss"], task.forward_batch({**batch, "target": other})["loss"]
    )
    with pytest.raises(ValueError, match="needs 'target'"):
        task.forward_batch({"image": batch["image"]})


def test_scores_are_errors_by_area_and_by_degree() -> None:
    data = skies(masked=0.2)
    task = make(data).eval()
    with torch.no_grad():
        task.network.strength.zero_()  # type: ignore[union-attr]
    batch = next(iter(data.test_dataloader()))
    outputs = task.update_metrics(task.forward_batch(batch))
    scores = task.compute_metrics()
    # with nothing to correct, the network's answer is the filter's
    assert scores["error_ratio"] == pytest.approx(1) and scores["rmse"] == pytest.approx(
        scores["wiener_rmse"]
    )
    seen = batch["image"][:, -1] > 0
    error = (outputs["wiener"] - batch["target"])[seen].square().mean().sqrt()
    assert scores["rmse"] == pytest.approx(float(error), rel=1e-5)
    report = task.report()
    assert len(report["spectrum_truth"]) == 9 and report["correlation"] == pytest.approx(
        report["wiener_correlation"]
    )
    l = np.arange(9)
    power = float(((2 * l + 1) * np.array(report["spectrum_residual"])).sum() / (4 * np.pi))
    assert power == pytest.approx(scores["rmse"] ** 2, rel=0.3)  # all but what lies beyond the largest degree
    assert "squared error 1.000 of the filter's" in task.summary()
    assert task.example_error(next(iter(task.examples(outputs)))) > 0


def test_a_little_training_beats_the_filter(tmp_path: Path) -> None:
    """Foregrounds in patches, at a tiny size: what a filter cannot know."""
    data = skies(nside=8, train=8, foreground=80.0, noise=5.0)
    task = make(data, lr=0.01)
    batch = next(iter(data.train_dataloader()))
    optimizer = torch.optim.Adam(task.parameters(), 0.02)
    for _ in range(25):
        optimizer.zero_grad()
        task.forward_batch(batch)["loss"].backward()
        optimizer.step()
    task.eval()
    with torch.no_grad():
        for part in data.train_dataloader():
            outputs = task.update_metrics(task.forward_batch(part))
    assert task.compute_metrics()["error_ratio"] < 0.9
    task._by_sample = [["a", 1.0]]
    task.plot(tmp_path, list(task.examples(outputs))[:2])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(task.artifacts)


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="wiener has 1 bands for 4 channels"):
        SkyRestoration(4, HEALPix(4), [[1.0] * 9], network="pixel-mlp")
    coarse = SkyRestoration(3, HEALPix(2), [[1.0] * 9], network="pixel-mlp")  # moved to coarser pixels
    assert coarse.gains.shape == (1, 5)


def test_maps_are_made_ready(tmp_path: Path) -> None:
    data = skies()
    task = make(data, network="pixel-mlp").eval()
    values = data.skies("test")[0]["observed"].numpy().astype(float)
    sky = SkyMap(values, HEALPix(4), ("T",), ("uK",), "G")
    ready = prepare_sky(task, sky)
    assert np.allclose(ready.sky.values, values) and bool((ready.mask == 1).all()) and not ready.note
    for other in (
        sky.in_order("nested"), sky.at_nside(8), replace(sky, values=values / 1e3, units=("mK,thermodynamic",)),
        replace(sky, values=values / 1e6, units=("K_CMB",)), replace(sky, values=values / 1e3, units=("",)),
    ):  # fmt: skip
        again = prepare_sky(task, other)
        assert np.allclose(again.sky.values, values)
        assert again.note == ("" if other.units[0] else "; states no unit, taken to be in mK")
    with pytest.raises(ValueError, match="T in 'MJy/sr'; expected a temperature"):
        prepare_sky(task, replace(sky, units=("MJy/sr",)))
    mask = SkyMap((np.arange(192) > 60)[None].astype(float), HEALPix(4), ("MASK",))
    masked = prepare_sky(task, sky.at_nside(8), mask.in_order("nested"))
    assert np.array_equal(masked.mask, mask.values[0])
    for wrong, match in (
        (sky.at_nside(2), "has nside 2 but the model works at 4"),
        (sky.select([]), "has 0 fields"),
    ):
        with pytest.raises(ValueError, match=match):
            prepare_sky(task, wrong)
    nested = SkyRestoration(3, HEALPix(4, "nested"), [[1.0] * 9], network="pixel-mlp")
    with pytest.raises(ValueError, match="expected HEALPix in ring order"):
        prepare_sky(nested, sky)
    with pytest.raises(ValueError, match="no pixel that is seen"):
        prepare_sky(task, sky, replace(mask, values=0 * mask.values))


def test_prediction_writes_maps_without_nan_where_seen(tmp_path: Path) -> None:
    data = skies()
    task = make(data).eval()
    values = data.skies("test")[0]["observed"].numpy().astype(float)
    (tmp_path / "in" / "masks").mkdir(parents=True)
    write_sky_map(
        tmp_path / "in" / "a.fits", SkyMap(values, HEALPix(4), ("T",), ("uK",), "G").in_order("nested")
    )
    mask = (np.arange(192) > 30).astype(float)
    write_sky_map(tmp_path / "in" / "masks" / "mask.fits", SkyMap(mask[None], HEALPix(4), ("MASK",)))
    task.predict(tmp_path / "in", tmp_path / "out")
    found = read_sky_map(tmp_path / "out" / "a_restored.fits")
    assert found.frame == "G" and found.units == ("uK",)
    assert np.array_equal(np.isfinite(found.values[0]), mask > 0)
    image = task.preparation(torch.from_numpy(values).float(), torch.from_numpy(mask).float())
    with torch.no_grad():
        answer = task.decide(task.network(image[None]))[0]
    assert np.allclose(found.values[0][mask > 0], answer.numpy()[mask > 0], atol=1e-2)
    assert {"a_maps.png", "a_spectra.png", "predictions.csv"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }


def test_panoramas_of_skies_are_seen_from_inside() -> None:
    grid = HEALPix(16)
    longitude = torch.atan2(grid.points[:, 1], grid.points[:, 0]).numpy()
    picture = sky_panorama(longitude, grid, 32)
    assert picture.shape == (32, 64) and abs(picture[16, 31:33]).max() < 0.1
    assert picture[16, 16] == pytest.approx(np.pi / 2, abs=0.1)  # east lies to the left


@pytest.mark.realdata
def test_wmap_with_its_mask_comes_out_without_nan(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "cmb_healpix"
    (tmp_path / "masks").mkdir()
    name = "wmap_band_iqumap_r9_7yr_W_v4_udgraded32.fits"
    (tmp_path / name).write_bytes((folder / name).read_bytes())
    mask = folder / "wmap_temperature_analysis_mask_r9_7yr_v4_udgraded32.fits"
    (tmp_path / "masks" / name).write_bytes(mask.read_bytes())
    data = GeneratedSkiesData(nside=32, train=2, val=1, test=1)
    make(data).predict(tmp_path / name, tmp_path / "out")
    found = read_sky_map(tmp_path / "out" / name.replace(".fits", "_restored.fits"))
    seen = read_sky_map(mask).values[0] > 0
    assert np.array_equal(np.isfinite(found.values[0]), seen)
    assert np.nanstd(found.values) < 400  # µK: the file says no unit, its values are mK
