from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spheregeo.data import IGNORE, Fields, FieldSource, Koppen, read_field
from spheregeo.data.sphere.fields import in_sector

SIZE = (18, 36)
LAT, LON = 90 - (np.arange(36) + 0.5) * 5, -180 + (np.arange(72) + 0.5) * 5


def bump(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """A field without any symmetry, positive in the north at 100 E."""
    a, b = np.radians(lat)[:, None], np.radians(lon)[None, :]
    return np.sin(a) + 0.5 * np.cos(a) * np.cos(b - np.radians(100))


@pytest.fixture
def upright(tmp_path: Path) -> np.ndarray:
    np.savez(tmp_path / "reference.npz", field=bump(LAT, LON), lat=LAT, lon=LON)
    return on_grid("reference.npz:field", tmp_path)


def on_grid(source: FieldSource | str, root: Path) -> np.ndarray:
    field = read_field(source, root)
    return field.map_to(SIZE).average(field.values)[0]


def netcdf(path: Path, values: np.ndarray, **coordinates: np.ndarray) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    dims = list(coordinates)
    xarray.Dataset({"field": (dims, values), "other": (dims, values + 1)}, coords=coordinates).to_netcdf(path)


def test_the_average_is_that_of_the_function(upright: np.ndarray) -> None:
    want = bump(90 - (np.arange(18) + 0.5) * 10, -180 + (np.arange(36) + 0.5) * 10)
    np.testing.assert_allclose(
        upright[2:-2], want[2:-2], atol=0.005
    )  # cells of 10 degrees: h^2 / 24 of the curvature
    np.testing.assert_allclose(
        upright, want, atol=0.02
    )  # a polar cell is a wedge, its mean lies nearer the pole


def test_every_orientation_gives_the_same_field(tmp_path: Path, upright: np.ndarray) -> None:
    east = np.arange(72) * 5 + 2.5  # 0 ... 360
    halves = np.where(east > 180, east - 360, east)  # 0 ... 180, -180 ... 0
    for name, lat, lon in (
        ("south", LAT[::-1], LON),
        ("east", LAT, east),
        ("both", LAT[::-1], east),
        ("halves", LAT, halves),
        ("westward", LAT, LON[::-1]),
        ("offset", LAT, LON + 360 * 2),
    ):
        np.savez(tmp_path / f"{name}.npz", field=bump(lat, lon), latitude=lat, longitude=lon)
        np.testing.assert_allclose(on_grid(f"{name}.npz", tmp_path), upright, atol=1e-6, err_msg=name)


def test_grids_with_pole_rows_and_a_repeated_meridian(tmp_path: Path, upright: np.ndarray) -> None:
    lat, lon = np.linspace(-90, 90, 73), np.linspace(0, 360, 145)
    np.savez(tmp_path / "poles.npz", field=bump(lat, lon), lat=lat, lon=lon)
    np.testing.assert_allclose(on_grid("poles.npz:field", tmp_path), upright, atol=0.008)
    np.save(tmp_path / "bare.npy", bump(lat, lon))
    bare = FieldSource("bare.npy", north_up=False, west=0.0, cell_centred=False)
    np.testing.assert_allclose(on_grid(bare, tmp_path), upright, atol=0.008)


def test_bare_arrays_lie_as_they_are_said_to(tmp_path: Path, upright: np.ndarray) -> None:
    np.save(tmp_path / "plain.npy", bump(LAT, LON))
    np.testing.assert_allclose(on_grid("plain.npy", tmp_path), upright, atol=1e-6)
    np.save(tmp_path / "turned.npy", bump(LAT[::-1], np.arange(72) * 5 + 2.5))
    turned = FieldSource("turned.npy", north_up=False, west=0.0)
    np.testing.assert_allclose(on_grid(turned, tmp_path), upright, atol=1e-6)
    assert np.abs(on_grid("turned.npy", tmp_path) - upright).max() > 1  # the default would be upside down


def test_netcdf_with_levels(tmp_path: Path, upright: np.ndarray) -> None:
    values = np.stack([np.zeros((36, 72)), bump(LAT, LON)])
    netcdf(tmp_path / "time.nc", values, time=np.arange(2.0), lat=LAT, lon=LON)
    np.testing.assert_allclose(
        on_grid(FieldSource("time.nc:field", level=(1,)), tmp_path), upright, atol=1e-6
    )
    with pytest.raises(ValueError, match="level has 0 indices"):
        read_field("time.nc:field", tmp_path)
    with pytest.raises(ValueError, match=r"level\[0\] is 2; expected 0 ... 1"):
        read_field(FieldSource("time.nc:field", level=(2,)), tmp_path)
    with pytest.raises(ValueError, match="one of field, other"):
        read_field("time.nc:temperature", tmp_path)


def test_netcdf_without_xarray_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "field.nc").write_bytes(b"")
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "xarray":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"spheregeo\[climate\]"):
        read_field("field.nc:field", tmp_path)


def test_text_with_coordinates_in_other_files(tmp_path: Path, upright: np.ndarray) -> None:
    np.savetxt(tmp_path / "data.gz", bump(LAT[::-1], LON))
    np.savetxt(tmp_path / "lats.txt", LAT[::-1])
    np.savetxt(tmp_path / "lons.txt", LON)
    source = FieldSource("data.gz", latitudes="lats.txt", longitudes="lons.txt")
    np.testing.assert_allclose(on_grid(source, tmp_path), upright, atol=1e-5)


def test_missing_values_are_nan(tmp_path: Path) -> None:
    values = bump(LAT, LON)
    values[:20] = -9999
    np.savez(tmp_path / "gaps.npz", field=values, lat=LAT, lon=LON)
    field = read_field(FieldSource("gaps.npz", missing=(-9999.0,)), tmp_path)
    assert np.isnan(field.values[0, :20]).all() and np.isfinite(field.values[0, 20:]).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"field": bump(LAT, LON), "lat": LAT[:-1], "lon": LON}, "36 rows and 72 columns but 35 latitudes"),
        ({"field": bump(LAT, LON).T, "lat": LAT, "lon": LON}, "transposed"),
        ({"field": bump(LAT, LON), "lat": LAT * 2, "lon": LON}, "latitudes run"),
        ({"field": bump(LAT, LON), "lat": LAT, "lon": np.roll(LON, 1) * 7}, "longitudes are not in order"),
        (
            {"a": bump(LAT, LON), "b": bump(LAT, LON)},
            "no variable is named; expected PATH:VARIABLE with one of a, b",
        ),
        ({"field": np.zeros(5), "other": np.zeros((36, 72))}, "level has 0 indices"),
    ],
)
def test_fields_that_do_not_fit_are_named(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_field("bad.npz:field" if "field" in arrays else "bad.npz", tmp_path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_field("nothing.npz:field", tmp_path)
    (tmp_path / "words.txt").write_text("all the world's a stage")
    with pytest.raises(ValueError, match="no table of numbers"):
        read_field("words.txt", tmp_path)


@pytest.mark.parametrize("name", ["torn.npy", "torn.npz", "torn.nc", "torn.gz", "torn.png"])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_torn_files_are_named(tmp_path: Path, name: str, share: float) -> None:
    whole, values = tmp_path / name.replace("torn", "whole"), bump(LAT, LON)
    if name.endswith(".npy"):
        np.save(whole, values)
    elif name.endswith(".npz"):
        np.savez(whole, field=values)
    elif name.endswith(".nc"):
        netcdf(whole, values, lat=LAT, lon=LON)
    elif name.endswith(".gz"):
        np.savetxt(whole, values)
    else:
        Image.fromarray((values * 50 + 100).astype(np.uint8)).save(whole)
    content = whole.read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=f"{name}.*(cannot be read|no table of numbers)"):
        read_field(name, tmp_path)


def test_axes_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", field=bump(LAT, LON), north=LAT)
    with pytest.raises(FileNotFoundError, match=r"lats\.txt does not exist"):
        read_field(FieldSource("a.npz", latitudes="lats.txt"), tmp_path)
    with pytest.raises(
        ValueError, match=r"no variable 'south'; expected PATH:VARIABLE with one of field, north"
    ):
        read_field(FieldSource("a.npz", latitudes="a.npz:south"), tmp_path)


def test_a_channel_without_values_is_numbered(tmp_path: Path) -> None:
    np.save(tmp_path / "full.npy", bump(LAT, LON))
    np.save(tmp_path / "empty.npy", np.full((36, 72), np.nan))
    np.save(tmp_path / "label.npy", np.zeros((36, 72)))
    with pytest.raises(ValueError, match="channel 1 of the image has no finite value"):
        Fields(tmp_path, ["full.npy", "empty.npy"], "label.npy", ["all"], SIZE)


def test_sectors_wrap() -> None:
    lon = np.array([-179.0, -90, 0, 90, 179])
    assert in_sector(lon, [(-60, 60)]).tolist() == [False, False, True, False, False]
    assert in_sector(lon, [(170, -170)]).tolist() == [True, False, False, False, True]
    assert in_sector(lon, [(-180, 180)]).all() and not in_sector(lon, []).any()


@pytest.fixture
def planet(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "height.npz", height=bump(LAT, LON) * 1000, lat=LAT, lon=LON)
    np.savez(tmp_path / "climate.npz", climate=rng.integers(0, 3, (36, 72)), lat=LAT[::-1], lon=LON)
    np.savez(tmp_path / "land.npz", land=(bump(LAT, LON) > 0).astype(float), lat=LAT, lon=LON)
    Image.fromarray(rng.integers(0, 256, (36, 72, 3), dtype=np.uint8)).save(tmp_path / "colour.png")
    return tmp_path


def fields(root: Path, split: str = "train", **options: Any) -> Fields:
    return Fields(
        root,
        ["colour.png", "height.npz:height"],
        "climate.npz:climate",
        ["a", "b", "c"],
        SIZE,
        split,
        **options,
    )


def test_the_splits_share_the_image_and_part_the_label(planet: Path) -> None:
    items = {split: fields(planet, split)[0] for split in ("train", "val", "test")}
    assert items["train"]["image"].shape == (4, *SIZE)
    assert torch.equal(items["train"]["image"], items["test"]["image"])
    counted = torch.stack([item["label"] != IGNORE for item in items.values()])
    assert (counted.sum(0) == 1).all()
    lon = -180 + (np.arange(36) + 0.5) * 10
    columns = {split: lon[(item["label"] != IGNORE).any(0).numpy()] for split, item in items.items()}
    assert columns["test"].min() > -60 and columns["test"].max() < 60 and len(columns["test"]) == 12
    assert columns["val"].min() > -105.1 and columns["val"].max() < -75


def test_statistics_see_the_training_sector_only(planet: Path) -> None:
    data = fields(planet)
    item = data[0]
    weight = np.cos(np.radians(90 - (np.arange(18) + 0.5) * 10))[:, None] * (item["label"] != IGNORE).numpy()
    image = item["image"].double().numpy()
    mean = (image * weight).sum((1, 2)) / weight.sum()
    np.testing.assert_allclose(data.mean, mean, rtol=1e-6)
    std = np.sqrt((((image - mean[:, None, None]) ** 2) * weight).sum((1, 2)) / weight.sum())
    np.testing.assert_allclose(data.std, std, rtol=1e-6)
    assert fields(planet, "test").mean == data.mean


def test_latitudes_mask_and_void_limit_the_label(planet: Path) -> None:
    everywhere = fields(planet)[0]["label"]
    south = fields(planet, latitudes=(-90.0, 0.0))[0]["label"]
    assert (south[:9] == IGNORE).all() and torch.equal(south[9:], everywhere[9:])
    land = fields(planet, mask="land.npz:land")[0]["label"]
    assert (land[-1] == IGNORE).all() and not (land[0] == IGNORE).all()
    assert 1 not in fields(planet, void=[1])[0]["label"]


def test_gaps_in_the_image_take_the_training_mean(planet: Path) -> None:
    values = bump(LAT, LON)
    values[:6] = np.nan
    np.savez(planet / "height.npz", height=values, lat=LAT, lon=LON)
    data = fields(planet)
    assert torch.isfinite(data[0]["image"]).all()
    assert float(data[0]["image"][3, 0, 0]) == pytest.approx(data.mean[3], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_longitudes": [(50.0, 70.0)]}, "overlap"),
        ({"latitudes": (95.0, 96.0)}, "no label at all"),
        ({"void": [0, 1, 2]}, "no label at all"),
        ({"split": "holdout"}, "split is 'holdout'"),
    ],
)
def test_regions_that_cannot_be_are_named(planet: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fields(planet, **options)


def test_labels_beyond_the_class_names_are_named(planet: Path) -> None:
    with pytest.raises(ValueError, match=r"label field holds 2; expected 0 ... 1"):
        Fields(planet, ["height.npz"], "climate.npz", ["a", "b"], SIZE)
    with pytest.raises(ValueError, match="inputs is empty"):
        Fields(planet, [], "climate.npz", ["a", "b", "c"], SIZE)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        Fields(planet / "mars", ["height.npz"], "climate.npz", ["a", "b", "c"], SIZE)


@pytest.mark.realdata
class TestEarth:
    """Each layer of the Earth lies the right way up: they agree about what is land, as they do in no other position."""

    GRID = (180, 360)

    def layer(self, source: FieldSource | str, folder: Path) -> np.ndarray:
        field = read_field(source, folder)
        return field.map_to(self.GRID).average(field.values)

    @pytest.fixture
    def earth(self, real_data: Path) -> Path:
        return real_data / "earth"

    @pytest.fixture
    def land(self, earth: Path) -> np.ndarray:
        return self.layer("land_fraction_0p25deg.npz:land_fraction_u8", earth)[0] > 127

    @pytest.mark.parametrize(("layer", "least"), [("elevation", 0.985), ("climate", 0.975), ("colour", 0.96)])
    def test_it_agrees_with_the_land_fraction(
        self, earth: Path, land: np.ndarray, layer: str, least: float
    ) -> None:
        from spheregeo.data.sphere.koppen import CLIMATE, COLOUR, ELEVATION

        if layer == "elevation":
            found = self.layer(ELEVATION, earth)[0] > 0
        elif layer == "climate":
            climate = read_field(CLIMATE, earth)
            found = climate.map_to(self.GRID).majority(climate.values[0].astype(np.int64)) > 0
        else:
            red, green, blue = self.layer(COLOUR, earth)
            found = ~((blue > red) & (blue > green))
        assert (found == land).mean() > least
        turned = [
            found[::-1],
            found[:, ::-1],
            np.roll(found, 180, 1),
            np.roll(found, 4, 1),
            np.roll(found, 3, 0),
        ]
        assert all((other == land).mean() < (found == land).mean() - 0.01 for other in turned)

    def test_ocean_basins_and_winds_are_read(self, earth: Path, land: np.ndarray) -> None:
        pytest.importorskip("netCDF4")
        basin = self.layer(FieldSource("basin_mask.nc:basin", level=(0,)), earth)[0]
        assert (np.isnan(basin) == land).mean() > 0.95
        wind = self.layer(FieldSource("uwnd_mean.nc:uwnd", level=(0,)), earth)[0]
        assert (
            np.isfinite(wind).all() and wind[30:60].mean() > 10
        )  # January's westerlies at 200 hPa, 30 N ... 60 N
        with pytest.raises(ValueError, match="scattered and geodesic"):
            read_field("C02562.orog.nc:zs", earth)

    def test_koppen_is_ready_to_train_on(self, earth: Path) -> None:
        splits = {split: Koppen(earth, (64, 128), split) for split in ("train", "val", "test")}
        for data in splits.values():
            label = data[0]["label"]
            assert set(label.unique().tolist()) == {0, 1, 2, 3, 4, 5, IGNORE}
        item = splits["train"][0]
        assert item["image"].shape == (4, 64, 128) and torch.isfinite(item["image"]).all()
        assert float(item["image"][3].min()) < -5000 and float(item["image"][3].max()) > 4000
        weight = torch.cos(torch.deg2rad(90 - (torch.arange(64) + 0.5) * 180 / 64))[:, None]
        test = splits["test"][0]["label"]
        ocean = float((weight * (test == 0)).sum() / (weight * (test != IGNORE)).sum())
        assert ocean == pytest.approx(0.62, abs=0.02)
        dry = Koppen(earth, (64, 128), "test", ocean=False)[0]["label"]
        assert 0 not in dry and (dry != IGNORE).any()
