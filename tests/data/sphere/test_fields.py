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
from spheregeo.sampling.missing import is_missing

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


def dataset(variables: dict[str, Any], coordinates: dict[str, Any], path: Path, **options: Any) -> Path:
    """A NetCDF file with attributes: every variable is (dimensions, values, attributes)."""
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    xarray.Dataset(variables, coords=coordinates).to_netcdf(path, **options)
    return path


DEGREES = {"lat": {"units": "degrees_north"}, "lon": {"units": "degrees_east"}}


@pytest.mark.parametrize("order", [("y", "x"), ("x", "y"), ("t", "x", "y"), ("y", "t", "x"), ("x", "y", "t")])
def test_dimensions_come_in_any_order(tmp_path: Path, upright: np.ndarray, order: tuple[str, ...]) -> None:
    sizes = {"y": 36, "x": 72, "t": 1}
    values = bump(LAT, LON)[..., None].transpose(
        [("y", "x", "t").index(d) for d in (*order, *({"t"} - {*order}))]
    )
    dataset(
        {"field": (order, values.reshape([sizes[d] for d in order]))},
        # neither dimension's name says what it is, and another coordinate called y would
        {"y": ("y", LAT, {"standard_name": "latitude"}), "x": ("x", LON, {"units": "degrees_east"})},
        tmp_path / "field.nc",
    )
    np.testing.assert_allclose(on_grid("field.nc:field", tmp_path), upright, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "latitude", "longitude"),
    [
        ("radians", (np.radians(LAT), {"units": "radians"}), (np.radians(LON), {"units": "radian"})),
        ("colatitude", (90 - LAT, {"standard_name": "colatitude", "units": "degrees"}), (LON, DEGREES["lon"])),
        ("radians of colatitude", (np.radians(90 - LAT), {"standard_name": "colatitude", "units": "rad"}), (LON, {})),
        ("degrees south", (-LAT, {"units": "degrees_south"}), (LON, DEGREES["lon"])),
        ("0 to 360, from the south", (LAT, DEGREES["lat"]), ((LON + 360) % 360, DEGREES["lon"])),
    ],
)  # fmt: skip
def test_units_of_coordinates_are_honoured(
    tmp_path: Path, upright: np.ndarray, name: str, latitude: Any, longitude: Any
) -> None:
    coordinates = {"lat": ("lat", *latitude), "lon": ("lon", *longitude)}
    dataset({"field": (("lat", "lon"), bump(LAT, LON))}, coordinates, tmp_path / "field.nc")
    np.testing.assert_allclose(on_grid("field.nc:field", tmp_path), upright, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("latitude", "longitude", "message"),
    [
        (("lat", np.radians(LAT), {}), ("lon", np.radians(LON), {}), "looks like radians"),
        (("lat", np.radians(LAT), DEGREES["lat"]), ("lon", np.radians(LON), DEGREES["lon"]), "looks like radians"),
        (("lat", LAT * 1e5, {"units": "m"}), ("lon", LON * 1e5, {"units": "m"}), "has dimensions lat .36., lon .72. and no"),
        (("lat", LAT, {"standard_name": "grid_latitude"}), ("lon", LON, DEGREES["lon"]), "no latitudes"),
    ],
)  # fmt: skip
def test_units_that_cannot_be_are_refused(
    tmp_path: Path, latitude: Any, longitude: Any, message: str
) -> None:
    path = tmp_path / "field.nc"
    dataset({"field": (("lat", "lon"), bump(LAT, LON))}, {"lat": latitude, "lon": longitude}, path)
    with pytest.raises(ValueError, match=rf"field\.nc: .*{message}"):
        read_field("field.nc:field", tmp_path)


def test_radians_may_be_told(tmp_path: Path, upright: np.ndarray) -> None:
    np.savez(tmp_path / "bare.npz", field=bump(LAT, LON), lat=np.radians(LAT), lon=np.radians(LON))
    with pytest.raises(ValueError, match=r"bare\.npz: .*looks like radians"):
        read_field("bare.npz", tmp_path)
    told = FieldSource("bare.npz", units="radians")
    np.testing.assert_allclose(on_grid(told, tmp_path), upright, atol=1e-6)
    np.savez(tmp_path / "co.npz", field=bump(LAT, LON), colat=90 - LAT, lon=LON)
    np.testing.assert_allclose(on_grid("co.npz:field", tmp_path), upright, atol=1e-6)


def test_dimensions_without_coordinates_are_refused(tmp_path: Path) -> None:
    dataset({"field": (("dim_0", "dim_1"), bump(LAT, LON))}, {}, tmp_path / "numbered.nc")
    with pytest.raises(
        ValueError, match=r"numbered\.nc: field has dimensions dim_0 \(36\), dim_1 \(72\) and no latitudes"
    ):
        read_field("numbered.nc:field", tmp_path)
    np.savetxt(tmp_path / "lat.txt", LAT)
    np.savetxt(tmp_path / "lon.txt", LON)
    given = FieldSource("numbered.nc:field", latitudes="lat.txt", longitudes="lon.txt")
    assert read_field(given, tmp_path).values.shape == (1, 36, 72)


def curvilinear() -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes (48, 96) of a grid whose pole is turned away, as ocean models have them."""
    lat, lon = np.meshgrid(
        np.radians(90 - (np.arange(48) + 0.5) * 3.75), np.radians(np.arange(96) * 3.75), indexing="ij"
    )
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    y, z = np.cos(0.5) * y - np.sin(0.5) * z, np.sin(0.5) * y + np.cos(0.5) * z
    return np.degrees(np.arcsin(z)), np.degrees(np.arctan2(y, x))


def smooth(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    a, b = np.radians(lat), np.radians(lon)
    return np.sin(a) + 0.5 * np.cos(a) * np.cos(b - np.radians(100))


def test_curvilinear_and_unstructured_points_are_resampled(tmp_path: Path, upright: np.ndarray) -> None:
    lat, lon = curvilinear()
    values = smooth(lat, lon)
    coordinates = {
        "nav_lat": (("y", "x"), lat, {"units": "degrees_north"}), "nav_lon": (("y", "x"), lon, {"units": "degrees_east"}),
        "y": ("y", np.arange(48.0)), "x": ("x", np.arange(96.0)),
    }  # fmt: skip
    dataset({"field": (("time", "y", "x"), values[None])}, coordinates, tmp_path / "curved.nc")
    cells = (
        ("cell", lat.ravel(), {"standard_name": "latitude"}),
        ("cell", lon.ravel(), {"standard_name": "longitude"}),
    )
    dataset({"field": (("cell",), values.ravel())}, {"a": cells[0], "b": cells[1]}, tmp_path / "cells.nc")
    np.savez(tmp_path / "curved.npz", field=values, lat=lat, lon=lon)
    for name in ("curved.nc:field", "cells.nc:field", "curved.npz:field"):
        np.testing.assert_allclose(on_grid(name, tmp_path), upright, atol=0.02, err_msg=name)
    plain = np.meshgrid(LAT, LON)  # two-dimensional coordinates of a grid that has axes, columns first
    np.savez(tmp_path / "plain.npz", field=bump(LAT, LON).T, lat=plain[0], lon=plain[1])
    np.testing.assert_allclose(on_grid("plain.npz:field", tmp_path), upright, atol=1e-6)


def test_labels_on_points_are_never_mixed_and_end_at_the_region(tmp_path: Path) -> None:
    lat, lon = (x.ravel() for x in curvilinear())
    north = lat > -20
    np.savez(tmp_path / "a.npz", field=np.where(lon > 0, 7, 3)[north], lat=lat[north], lon=lon[north])
    field = read_field("a.npz:field", tmp_path)
    for size in (SIZE, (45, 90)):  # several points in a cell, and less than one
        label = field.map_to(size).majority(field.values[0].astype(np.int64))
        rows = 90 - (np.arange(size[0]) + 0.5) * 180 / size[0]
        assert set(np.unique(label)) == {3, 7, IGNORE} and (label[rows < -32] == IGNORE).all()
        assert (label[rows > -14] != IGNORE).all()
        east = -180 + (np.arange(size[1]) + 0.5) * 360 / size[1] > 0
        wrong = (label == 7) != east
        assert wrong[(rows > -14) & (rows < 70)].mean() < 0.06
        average = field.map_to(size).average(field.values)[0]
        assert np.isnan(average[rows < -32]).all() and np.nanmax(average) <= 7 and np.nanmin(average) >= 3


def test_gaps_of_points_stay_gaps_and_do_not_spread(tmp_path: Path) -> None:
    lat, lon = curvilinear()
    values = np.where((lat > 0) & (lon > 0), np.nan, smooth(lat, lon) * 0 + 5)
    np.savez(tmp_path / "a.npz", field=values, lat=lat, lon=lon)
    for size in (SIZE, (45, 90)):
        field = read_field("a.npz:field", tmp_path)
        average = field.map_to(size).average(field.values)[0]
        known = np.isfinite(average)
        np.testing.assert_allclose(average[known], 5, rtol=1e-6)  # neither NaN nor zero mixed in
        assert 0.7 < known.mean() < 0.8


def test_fill_values_ranges_and_packing_of_netcdf(tmp_path: Path, upright: np.ndarray) -> None:
    netCDF4 = pytest.importorskip("netCDF4")
    values = bump(LAT, LON)
    packed = np.rint(values / 1e-4).astype(np.int16)
    with netCDF4.Dataset(tmp_path / "packed.nc", "w") as file:
        for name, axis in (("lat", LAT), ("lon", LON)):
            file.createDimension(name, len(axis))
            variable = file.createVariable(name, "f8", (name,))
            variable[:], variable.units = axis, DEGREES[name]["units"]
        field = file.createVariable("field", "i2", ("lat", "lon"), fill_value=-32768)
        field.set_auto_maskandscale(False)
        field.scale_factor, field.missing_value = 1e-4, np.int16(-32767)
        field.valid_range = np.array([-16000, 16000], np.int16)  # packed: -1.6 ... 1.6
        packed[20, 0], packed[20, 1], packed[20, 2] = -32768, -32767, 16001
        field[:] = packed
        lazy = file.createVariable("lazy", "f4", ("lat", "lon"), fill_value=False)
        lazy[:] = np.where(LAT[:, None] > 0, 9.96921e36, 1.0)
        low = file.createVariable("low", "f4", ("lat", "lon"))
        low[:], low.valid_min = values, np.float32(0.0)
    found = read_field("packed.nc:field", tmp_path).values[0]
    assert np.isnan(found[20, :3]).all() and np.isnan(found).sum() == 3
    cells = on_grid("packed.nc:field", tmp_path)
    assert np.isnan(cells).sum() == 1  # the cell of which more than half is missing
    cells[10, :2] = upright[10, :2]  # these are means of what is left
    np.testing.assert_allclose(cells, upright, atol=2e-4)
    assert np.isnan(read_field("packed.nc:lazy", tmp_path).values[0, :18]).all()
    assert np.isnan(read_field("packed.nc:low", tmp_path).values[0]).mean() == pytest.approx(
        (values < 0).mean()
    )


@pytest.mark.parametrize("scale", [0.01, -0.01])
def test_a_negative_scale_swaps_the_limits_of_packed_values(tmp_path: Path, scale: float) -> None:
    netCDF4 = pytest.importorskip("netCDF4")
    packed = np.random.default_rng(0).integers(0, 10001, (36, 72)).astype(np.int16)
    packed[0, 0], packed[0, 1] = 10002, -2
    with netCDF4.Dataset(tmp_path / "packed.nc", "w") as file:
        for name, axis in (("lat", LAT), ("lon", LON)):
            file.createDimension(name, len(axis))
            variable = file.createVariable(name, "f8", (name,))
            variable[:], variable.units = axis, DEGREES[name]["units"]
        field = file.createVariable("field", "i2", ("lat", "lon"))
        field.set_auto_maskandscale(False)
        field.scale_factor, field.valid_range = scale, np.array([0, 10000], np.int16)
        field[:] = packed
    found = read_field("packed.nc:field", tmp_path).values[0]
    assert np.isnan(found[0, :2]).all() and np.isnan(found).sum() == 2


@pytest.mark.parametrize(
    "order",
    [("time", "a", "b"), ("time", "a", "one", "b"), ("lat", "b", "time"), ("b", "lat", "time"), ("a", "b")],
)
def test_coordinates_of_other_files_never_lie_on_time(
    tmp_path: Path, upright: np.ndarray, order: tuple[str, ...]
) -> None:
    field = bump(LAT, LON)
    lengths = {"time": 36, "a": 36, "lat": 36, "b": 72, "one": 1}
    row = "lat" if "lat" in order else "a"
    behind = [d for d in order if d not in (row, "b")]
    values = np.zeros((36, 72, *(lengths[d] for d in behind)))
    values[(..., *[(3 if d == "time" else 0) for d in behind])] = field
    stored = [row, "b", *behind]
    dataset({"field": (order, values.transpose([stored.index(d) for d in order]))}, {}, tmp_path / "f.nc")
    np.savetxt(tmp_path / "lat.txt", LAT)
    np.savetxt(tmp_path / "lon.txt", LON)
    given = FieldSource("f.nc:field", "lat.txt", "lon.txt", level=(3,) if "time" in order else ())
    np.testing.assert_allclose(on_grid(given, tmp_path), upright, atol=1e-6)


def test_coordinates_of_other_files_that_fit_several_dimensions_are_refused(tmp_path: Path) -> None:
    values = np.zeros((72, 36, 36))
    dataset({"field": (("b", "a", "c"), values)}, {}, tmp_path / "f.nc")
    np.savetxt(tmp_path / "lat.txt", LAT)
    np.savetxt(tmp_path / "lon.txt", LON)
    with pytest.raises(
        ValueError, match=r"f\.nc: the 36 latitudes of the field's latitudes fit the dimensions a, c of field"
    ):
        read_field(FieldSource("f.nc:field", "lat.txt", "lon.txt", level=(0,)), tmp_path)


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_of_rows_and_columns_are_no_degrees(tmp_path: Path, first: int) -> None:
    axes = {"y": ("y", np.arange(36) + first), "x": ("x", np.arange(72) + first)}
    dataset({"field": (("y", "x"), bump(LAT, LON))}, axes, tmp_path / "f.nc")
    with pytest.raises(
        ValueError, match=r"f\.nc: coordinate y has no units and runs .* by the field's latitudes"
    ):
        read_field("f.nc:field", tmp_path)
    degrees = read_field(FieldSource("f.nc:field", units="degrees"), tmp_path)
    assert degrees.values.shape == (1, 36, 72)
    np.savez(tmp_path / "f.npz", field=bump(LAT, LON), **{name: axis for name, (_, axis) in axes.items()})
    with pytest.raises(ValueError, match=r"f\.npz: coordinate y has no units and runs"):
        read_field("f.npz:field", tmp_path)
    dataset(
        {"field": (("y", "x"), bump(LAT, LON))}, {"y": ("y", LAT), "x": ("x", LON)}, tmp_path / "plain.nc"
    )
    assert read_field("plain.nc:field", tmp_path).values.shape == (1, 36, 72)


def test_groups_suffixes_and_bounds(tmp_path: Path, upright: np.ndarray) -> None:
    coordinates = {
        "lat": ("lat", LAT, {**DEGREES["lat"], "bounds": "lat_bnds"}),
        "lon": ("lon", LON, DEGREES["lon"]),
    }
    bounds = (("lat", "two"), np.stack([LAT + 2.5, LAT - 2.5], 1))
    field = {"field": (("lat", "lon"), bump(LAT, LON)), "lat_bnds": bounds}
    for name in ("a.nc4", "a.cdf"):
        dataset(field, coordinates, tmp_path / name)
        np.testing.assert_allclose(on_grid(name, tmp_path), upright, atol=1e-6)  # bounds are no second field
    dataset({}, {}, tmp_path / "groups.nc")
    dataset(field, coordinates, tmp_path / "groups.nc", group="ocean/surface", mode="a")
    np.testing.assert_allclose(on_grid("groups.nc:ocean/surface/field", tmp_path), upright, atol=1e-6)
    with pytest.raises(ValueError, match=r"with one of .*ocean/surface/field"):
        read_field("groups.nc", tmp_path)


@pytest.mark.parametrize(("name", "package"), [("a.grib", "cfgrib"), ("a.zarr", "zarr")])
def test_formats_name_the_package_they_need(
    tmp_path: Path, name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xarray")
    (tmp_path / name).mkdir()
    monkeypatch.setattr("spheregeo.data.sphere.gridded.dataset.find_spec", lambda package: None)
    with pytest.raises(ImportError, match=rf"{name} is .*needs {package}: pip install {package}"):
        read_field(f"{name}:field", tmp_path)


def test_several_times_name_the_option(tmp_path: Path) -> None:
    values = np.zeros((3, 1, 36, 72))
    coordinates = {"lat": ("lat", LAT, DEGREES["lat"]), "lon": ("lon", LON, DEGREES["lon"])}
    dataset({"field": (("time", "depth", "lat", "lon"), values)}, coordinates, tmp_path / "a.nc")
    with pytest.raises(
        ValueError, match=r"time \(3\), depth \(1\) before latitude .* level has 0 indices; .*level \[0\]"
    ):
        read_field("a.nc:field", tmp_path)
    assert read_field(FieldSource("a.nc:field", level=(2,)), tmp_path).values.shape == (1, 36, 72)
    assert read_field(FieldSource("a.nc:field", level=(2, 0)), tmp_path).values.shape == (1, 36, 72)


def test_healpy_s_unseen_is_missing(tmp_path: Path) -> None:
    values = bump(LAT, LON)
    values[3, 4], values[5, 6] = -1.6375e30, -1.63751e30  # rounded by another program
    np.savez(tmp_path / "a.npz", field=values, lat=LAT, lon=LON)
    found = read_field("a.npz:field", tmp_path).values[0]
    assert np.isnan(found[3, 4]) and np.isnan(found[5, 6]) and np.isnan(found).sum() == 2
    assert np.array_equal(
        np.isnan(found), is_missing(torch.from_numpy(values))
    )  # one meaning for layers and readers


@pytest.mark.parametrize("point", [False, True])
def test_geotiff_fields_lie_where_their_tags_put_them(
    tmp_path: Path, upright: np.ndarray, point: bool
) -> None:
    values = bump(LAT, LON).astype(np.float32)
    values[5, 6] = -9999
    from PIL import TiffImagePlugin

    tags = TiffImagePlugin.ImageFileDirectory_v2()
    half = 2.5 if point else 0.0  # of a pixel that is a point, the tie is its centre
    east = np.concatenate([values[:, 36:], values[:, :36]], 1)  # from 0 to 360
    for tag, kind, value in (
        (33550, 12, (5.0, 5.0, 0.0)), (33922, 12, (0.0, 0.0, 0.0, half, 90.0 - half, 0.0)), (42113, 2, "-9999"),
        (34735, 3, (1, 1, 0, 2, 1024, 0, 1, 2, 1025, 0, 1, 2 if point else 1)),
    ):  # fmt: skip
        tags.tagtype[tag] = kind
        tags[tag] = value
    Image.fromarray(east).save(tmp_path / "a.tif", tiffinfo=tags)
    field = read_field("a.tif", tmp_path)
    assert np.isnan(field.values).sum() == 1
    np.testing.assert_allclose(
        np.delete(on_grid("a.tif", tmp_path), 3, 1), np.delete(upright, 3, 1), atol=1e-6
    )
    tags[34735] = (1, 1, 0, 1, 1024, 0, 1, 1)
    Image.fromarray(east).save(tmp_path / "b.tif", tiffinfo=tags)
    with pytest.raises(ValueError, match=r"b\.tif has the coordinates of a map projection"):
        read_field("b.tif", tmp_path)


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF3_64BIT_DATA"])
def test_classic_netcdf_is_whole_or_named(tmp_path: Path, upright: np.ndarray, form: Any) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    coordinates = {
        "time": ("time", [0.0, 1.0]),
        "lat": ("lat", LAT, DEGREES["lat"]),
        "lon": ("lon", LON, DEGREES["lon"]),
    }
    values = np.stack([bump(LAT, LON), np.zeros((36, 72))])
    flag = ("time", np.array([1, 2], np.int16))
    made = xarray.Dataset({"field": (("time", "lat", "lon"), values), "flag": flag}, coordinates)
    for unlimited in ([], ["time"]):  # as arrays one after the other, and as records
        made.to_netcdf(tmp_path / "a.nc", format=form, engine="netcdf4", unlimited_dims=unlimited)
        source = FieldSource("a.nc:field", level=(0,))
        np.testing.assert_allclose(on_grid(source, tmp_path), upright, atol=1e-6)
        content = (tmp_path / "a.nc").read_bytes()
        for length in (len(content) - 9, len(content) // 2, 200, 40, 5):
            (tmp_path / "cut.nc").write_bytes(content[:length])
            with pytest.raises(ValueError, match=r"cut\.nc cannot be read as NetCDF"):
                read_field(FieldSource("cut.nc:field", level=(0,)), tmp_path)


def test_a_planet_of_points_is_ready_to_train_on(tmp_path: Path) -> None:
    lat, lon = curvilinear()
    np.savez(tmp_path / "height.npz", height=smooth(lat, lon), lat=lat, lon=lon)
    np.savez(tmp_path / "climate.npz", climate=(smooth(lat, lon) > 0).astype(int), lat=lat, lon=lon)
    item = Fields(tmp_path, ["height.npz:height"], "climate.npz:climate", ["low", "high"], SIZE)[0]
    counted = item["label"] != IGNORE
    assert (
        item["image"].shape == (1, *SIZE)
        and bool(torch.isfinite(item["image"]).all())
        and bool(counted.any())
    )
    agree = (item["image"][0] > 0) == (item["label"] == 1)
    assert float(agree[counted].float().mean()) > 0.97
