"""Fields to fields: loss and scores against their formulas, roll-outs, gaps, types, files, the commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spheregeo.audit import measure_equivariance
from spheregeo.cli import main
from spheregeo.data import FieldInfo, FieldLayout, ShallowWaterData
from spheregeo.data.fields.own import read_field_series
from spheregeo.export.program import OfField
from spheregeo.grids import Equiangular, GaussLegendre
from spheregeo.models import GaugeUNet
from spheregeo.spectral import InverseSHT, InverseVectorSHT
from spheregeo.tasks import FieldRegression
from spheregeo.tasks.fields.scores import FieldScores
from spheregeo.tasks.fields.spectra import FieldSpectra
from spheregeo.tasks.fields.step import Step
from spheregeo.tasks.files import read_checkpoint

GRID = Equiangular(8, 16)
FIELDS = (
    FieldInfo("h", units="m", mean=5.0, scale=2.0, change=0.5),
    FieldInfo("wind", ("u", "v"), "m s-1", ("eastward_wind", "northward_wind"), scale=10.0, change=4.0),
)
LAYOUT = FieldLayout((*FIELDS, FieldInfo("f", static=True)), FIELDS, hours=6.0)


def make(layout: FieldLayout = LAYOUT, network: str = "pixel-mlp", **options: object) -> FieldRegression:
    return FieldRegression(layout, GRID, network=network, width=8, depth=2, **options)  # type: ignore[arg-type]


def batch(steps: int = 1, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {
        "image": torch.randn(2, 4, 8, 16, generator=generator),
        "target": torch.randn(2, steps, 3, 8, 16, generator=generator),
    }
    return made if steps == 1 else {**made, "later": torch.randn(2, steps - 1, 4, 8, 16, generator=generator)}


# ---- loss and scores


def test_loss_is_the_mean_square_by_area_in_units_of_the_change() -> None:
    task, given = make(), batch()
    given["target"][0, 0, 0, :3] = torch.nan
    found = task.forward_batch(given)
    network = task.network.network(given["image"])
    change = torch.tensor([0.25, 0.4, 0.4])[:, None, None]
    want = given["image"][:, :3] + change * network
    assert torch.allclose(found["prediction"][:, 0], want, atol=1e-6)
    error = ((want - given["target"][:, 0]) / change) ** 2
    known = torch.isfinite(error)
    weights = GRID.areas.reshape(8, 16).float() * known
    loss = (error.nan_to_num() * weights).sum() / weights.sum()
    assert torch.allclose(found["loss"], loss, rtol=1e-5)
    found["loss"].backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in task.parameters())


def test_spectral_loss_without_power_is_the_mean_square_of_band_limited_fields() -> None:
    grid = GaussLegendre(8, 16)
    spectra = FieldSpectra(FIELDS, grid)
    assert spectra.lmax == 7
    scalar = InverseSHT(grid, 7)(torch.randn(64).double())
    vector = InverseVectorSHT(grid, 7)(torch.randn(2, 64).double())
    x = torch.cat([scalar[None], vector])
    power = spectra(x)
    areas = grid.areas.reshape(grid.shape) / grid.areas.sum()
    assert torch.allclose(power[0].sum(), (areas * scalar**2).sum(), rtol=1e-10)
    vector[:] = InverseVectorSHT(grid, 7)(torch.eye(64).double()[None, 20].expand(2, -1))
    power = spectra(torch.cat([scalar[None], vector]))[1]
    assert torch.allclose(power.sum(), (areas * vector.square().sum(0)).sum(), rtol=1e-10)
    assert power[4] > 0.999 * power.sum()  # coefficient 20 is of degree 4
    tasks = [
        FieldRegression(LAYOUT, grid, network="pixel-mlp", width=8, depth=2, loss=loss, spectral_power=power)
        for loss, power in (("mse", 0.0), ("spectral", 0.0), ("spectral", 1.0))
    ]
    smooth = torch.cat([scalar[None], vector]).float().expand(2, 1, 3, 8, 16)
    losses = [float(task._loss(smooth * 0.5, smooth)) for task in tasks]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and losses[2] != pytest.approx(losses[0], rel=1e-2)


def test_spectra_end_at_the_degree_that_a_grid_resolves() -> None:
    assert FieldSpectra(FIELDS, Equiangular(6, 12)).lmax == 5
    assert FieldSpectra(FIELDS, Equiangular(6, 12, poles=True)).lmax == 4


def test_scores_are_those_of_their_formulas() -> None:
    scores = FieldScores(FIELDS, 8)
    generator = torch.Generator().manual_seed(0)
    truth, noise = (torch.randn(3, 2, 3, 8, 16, generator=generator) for _ in range(2))
    prediction, first = truth + 0.5 * noise, torch.randn(3, 3, 8, 16, generator=generator)
    climatology = 0.2 * torch.randn(3, 8, 16, generator=generator)
    areas = GRID.areas.reshape(8, 16)
    for k in (slice(0, 1), slice(1, 3)):  # in two parts
        scores.update(prediction[k], truth[k], first[k], climatology, areas, FieldSpectra(FIELDS, GRID))
    found = scores.compute()
    w = areas / areas.sum()
    for name, part, scale in (("h", slice(0, 1), 2.0), ("wind", slice(1, 3), 10.0)):
        p, t, c = prediction[:, :, part].double(), truth[:, :, part].double(), climatology[part].double()
        rmse = (w * ((p - t) ** 2).sum(2)).sum((2, 3)).mean(0).sqrt() * scale
        assert found[name]["rmse"] == pytest.approx(rmse.tolist(), rel=1e-9)
        stays = (w * ((first[:, None, part] - t) ** 2).sum(2)).sum((2, 3)).mean(0).sqrt() * scale
        assert found[name]["persistence_rmse"] == pytest.approx(stays.tolist(), rel=1e-9)
        dot = [(w * (a * b).sum(2)).sum((2, 3)) for a, b in ((p - c, t - c), (p - c, p - c), (t - c, t - c))]
        assert found[name]["acc"] == pytest.approx(
            (dot[0] / (dot[1] * dot[2]).sqrt()).mean(0).tolist(), rel=1e-9
        )
    assert len(found["h"]["power"]["truth"]) == 8
    scores.reset()
    holes = truth.clone()
    holes[:, :, 0, :, :8] = torch.nan
    scores.update(
        torch.where(torch.isnan(holes), 1e9, holes + 1), holes, None, torch.zeros_like(climatology), areas
    )
    assert scores.compute()["h"]["rmse"] == pytest.approx([2.0, 2.0], rel=1e-6)


# ---- roll-outs


class Add(nn.Module):
    """A network that predicts what the last channel says."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1:].expand(-1, 3, -1, -1)


def test_a_roll_out_feeds_predictions_and_forcings_back() -> None:
    step = Step(Add(), FieldLayout(LAYOUT.inputs, FIELDS), increment=True)
    given = batch(3)
    found = step.roll_out(given["image"], given["later"], 3)
    change = torch.tensor([0.25, 0.4, 0.4])[:, None, None]
    forcing = [given["image"][:, 3:], given["later"][:, 0, 3:], given["later"][:, 1, 3:]]
    want = given["image"][:, :3]
    for k in range(3):
        want = want + change * forcing[k]
        assert torch.allclose(found[:, k], want, atol=1e-6)


def test_gaps_stay_gaps_in_a_roll_out() -> None:
    gappy = (FieldInfo("h", gaps=True, change=1.0), FIELDS[1])
    layout = FieldLayout(gappy, gappy)
    assert layout.in_channels == 4 and layout.in_type == "1x0 + 1x1 + 1x0"
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return torch.ones_like(x[:, :3])

    values = torch.randn(2, 3, 8, 16)
    values[:, 0, :4] = torch.nan
    image = layout.as_input(values)
    assert torch.equal(image[:, 3, :4], torch.zeros(2, 4, 16)) and bool((image[:, 3, 4:] == 1).all())
    Step(Spy(), layout, increment=True).roll_out(image, None, 2)
    assert bool((seen[1][:, 0, :4] == 0).all()) and torch.equal(seen[1][:, 3], image[:, 3])
    assert torch.allclose(seen[1][:, 0, 4:], image[:, 0, 4:] + 1)


def test_a_step_needs_outputs_that_are_inputs() -> None:
    layout = FieldLayout(LAYOUT.inputs, (FieldInfo("rain"),), lead=0)
    task = make(layout)
    assert not task.network.increment
    assert (
        task.forward_batch({"image": torch.randn(2, 4, 8, 16), "target": torch.randn(2, 1, 1, 8, 16)})["loss"]
        > 0
    )
    with pytest.raises(ValueError, match="steps is 2; expected 1"):
        task.network.roll_out(torch.randn(1, 4, 8, 16), None, 2)
    with pytest.raises(ValueError, match="rain is an output but no input"):
        make(layout, increment=True)
    with pytest.raises(ValueError, match="in_channels is 3 but the layout has 4"):
        make(in_channels=3)
    with pytest.raises(ValueError, match="'mse' or 'spectral'"):
        make(loss="l1")
    with pytest.raises(ValueError, match=r"target has shape \(2, 3, 8, 16\)"):
        make().forward_batch({"image": torch.randn(2, 4, 8, 16), "target": torch.randn(2, 3, 8, 16)})


# ---- types


def test_the_gauge_network_takes_vectors_as_vectors() -> None:
    """Scalars in place of components would have an error of the order of one."""
    errors = []
    for in_type, out_type in (("1x0 + 1x1", "1x0 + 1x1"), (None, None)):
        torch.manual_seed(0)
        network = GaugeUNet(
            3, 3, Equiangular(16, 32), width=4, depth=1, spacings=3.0, in_type=in_type, out_type=out_type
        )
        kinds = {"field_in": "1x0 + 1x1", "field_out": "1x0 + 1x1"}
        found = measure_equivariance(
            network, Equiangular(16, 32), **kinds, lmax=4, num_rotations=1, num_signals=1
        )  # type: ignore[arg-type]
        errors.append(found.error)
    assert errors[0] < 0.05 < 0.5 < errors[1]
    with pytest.raises(ValueError, match="in_type is '2x1' with 4 channels; expected 3 channels"):
        GaugeUNet(3, 3, GRID, width=4, depth=1, in_type="2x1")
    task = make(network="gauge-unet")
    assert (
        str(task.network.network.in_type) == "1x0 + 1x1 + 1x0"
        and str(task.network.network.out_type) == "1x0 + 1x1"
    )


def test_an_exported_step_takes_and_gives_fields_in_their_units() -> None:
    task, values = make().eval(), torch.randn(2, 4, 8, 16)
    with torch.no_grad():
        want = LAYOUT.restore(task.network(LAYOUT.as_input(values)), "outputs")
        assert torch.allclose(OfField(task)(values), want, rtol=1e-5, atol=1e-5)


# ---- files


def test_predicted_files_are_read_as_training_read_them_and_dated_by_their_lead(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    height = FieldInfo("h", scale=2.0, gaps=True, level=(1,), missing=(-999.0,))
    task = make(FieldLayout((height,), (FieldInfo("rain"),), lead=2, hours=12.0)).eval()
    values = np.ones((3, 2, 8, 16), np.float32)
    values[:, 0] = 1e9
    values[:, 1, 2:4] = -999.0
    lat, lon = 90 - (np.arange(8) + 0.5) * 22.5, np.arange(16) * 22.5
    np.savez(tmp_path / "a.npz", time=np.arange(100, 118, 6.0), lat=lat, lon=lon, h=values)
    task.predict(tmp_path / "a.npz", tmp_path / "out")
    image = task.layout.as_input(
        torch.from_numpy(values[:, 1:].copy()).where(torch.from_numpy(values[:, 1:] > 0), torch.nan)
    )
    with torch.no_grad():
        want = task.network(image)[:, 0].numpy()
    with xarray.open_dataset(tmp_path / "out" / "a_prediction.nc", decode_times=False) as data:
        np.testing.assert_allclose(data["rain"].values, want, atol=1e-5)
        assert data["time"].values.tolist() == [112, 118, 124] and data["lead"].values.tolist() == [
            12,
            12,
            12,
        ]
    forced = FieldLayout((FIELDS[0], FieldInfo("sun")), FIELDS[:1], hours=6.0)
    np.savez(tmp_path / "b.npz", time=np.arange(3.0), lat=lat, lon=lon, h=values[:, 1], sun=values[:, 1])
    with pytest.raises(
        ValueError, match="1 steps in 1 hours, in which sun are taken, but the model's step is 6 hours"
    ):
        make(forced, predict_steps=2).predict(tmp_path / "b.npz", tmp_path / "more")


# ---- the commands


def test_own_files_from_fit_to_predict(tmp_path: Path) -> None:
    lat, lon = 90 - (np.arange(8) + 0.5) * 22.5, np.arange(16) * 22.5
    made = {k: np.random.default_rng(i).normal(size=(20, 8, 16)) for i, k in enumerate("zuv")}
    np.savez(tmp_path / "a.npz", time=np.arange(0, 120, 6.0), lat=lat, lon=lon, **made)
    run, answers = tmp_path / "run", tmp_path / "answers"
    small = "--data.size [8,16] --data.test_steps 2 --trainer.max_epochs 1 --trainer.accelerator cpu --model.network pixel-mlp"
    words = [
        *small.split(),
        "--model.options",
        "null",
        "--data.root",
        str(tmp_path / "a.npz"),
        "--data.vectors",
        "[[u, v]]",
    ]
    assert main(["fit", "regress-field-folder", "--output", str(run), *words]) == 0
    assert main(["test", "regress-field-folder", "--output", str(run)]) == 0
    report = json.loads((run / "metrics.json").read_text())
    assert set(report["fields"]) == {"z", "u_v"} and report["hours"] == [6, 12]
    assert main(["predict", "regress-field-folder", "--input", str(tmp_path / "a.npz"), "--output", str(answers),
                 "--ckpt", str(run / "checkpoints" / "best.ckpt")]) == 0  # fmt: skip
    assert (answers / "a_prediction.nc").is_file()


def test_the_job_from_fit_to_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--output", str(tmp_path / "run")]
    small = "--data.size [8,16] --data.lmax 7 --data.train 2 --data.val 1 --data.test 2 --data.frames 4 --data.test_steps 3"
    less = "--model.width 4 --model.depth 1 --trainer.max_epochs 1 --trainer.accelerator cpu --model.predict_steps 2"
    cache = ["--data.cache_dir", str(tmp_path / "cache")]
    assert main(["fit", "regress-field", *out, *small.split(), *less.split(), *cache]) == 0
    assert main(["test", "regress-field", *out]) == 0
    text = capsys.readouterr().out
    assert "test/rmse_wind" in text and "persistence" in text and "18 h" in text
    run = tmp_path / "run"
    report = json.loads((run / "metrics.json").read_text())
    assert report["hours"] == [6, 12, 18] and len(report["fields"]["wind"]["acc"]) == 3
    with open(run / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["field"], r["step"]) for r in rows][:4] == [
        ("height", "1"),
        ("height", "2"),
        ("height", "3"),
        ("wind", "1"),
    ]
    for name in ("leads.png", "rollout.png", "spectra.png", "predictions.csv"):
        assert (run / name).stat().st_size > 20
    # the file of the roll-out is read as any other: truth and prediction of the first sample
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    with xarray.open_dataset(run / "rollout.nc", decode_times=False) as data:
        assert data.attrs["Conventions"] == "CF-1.11" and data["u"].attrs["standard_name"] == "eastward_wind"
        assert data["u"].dims == ("sample", "time", "lat", "lon") and data["time"].values.tolist() == [
            6,
            12,
            18,
        ]
        first = data.isel(sample=0)[["height_truth", "u_truth", "v_truth"]]
        renamed = first.rename({f"{k}_truth": k for k in ("height", "u", "v")})
        renamed["coriolis"] = (
            ("lat", "lon"),
            1e-4 * np.sin(np.radians(data["lat"].values))[:, None] + np.zeros((1, 16)),
        )
        renamed["time"].attrs["units"] = "hours since 2000-01-01"
        (tmp_path / "in").mkdir()
        renamed.to_netcdf(tmp_path / "in" / "start.nc")
    series = read_field_series(["height", "u", "v"], tmp_path / "in" / "start.nc", GRID, [["u", "v"]])
    data_module = ShallowWaterData(
        2, 1, 2, 4, lmax=7, size=(8, 16), test_steps=3, cache_dir=str(tmp_path / "cache")
    )
    errors = [(series.values - one.values[1:, :3]).abs().max() for one in data_module.series("test")]
    assert min(errors) < 1e-3
    assert main(["predict", "regress-field", "--input", str(tmp_path / "in"), *out[:1], str(tmp_path / "answers"),
                 "--ckpt", str(run / "checkpoints" / "best.ckpt")]) == 0  # fmt: skip
    with xarray.open_dataset(tmp_path / "answers" / "start_prediction.nc", decode_times=False) as data:
        assert data["v"].dims == ("time", "lat", "lon") and data["lead"].values.tolist() == [6, 12]
        assert data["time"].values[0] == (30 * 365.25 * 24 - 12) + 18 + 6
    described = read_checkpoint(run / "checkpoints" / "last.ckpt")["hyper_parameters"]
    assert described["network"] == "gauge-unet" and described["layout"]["hours"] == 6
