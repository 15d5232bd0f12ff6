"""Series from files: every orientation and format gives one set of fields; vectors keep their directions at the poles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spheregeo.data import FieldSeriesData, FieldSource, FieldWindows
from spheregeo.data.fields.files import hours_of, read_frames
from spheregeo.data.fields.own import _undeclared, read_field_series
from spheregeo.grids import Equiangular

LAT, LON = 90 - (np.arange(24) + 0.5) * 7.5, np.arange(48) * 7.5
GRID = Equiangular(12, 24)
HOURS = np.arange(10) * 6.0


def fields(lat: np.ndarray, lon: np.ndarray) -> dict[str, np.ndarray]:
    """A scalar, and the tangent part of a constant vector (1, 2, 3) times a factor of time: no component is smooth at a pole."""
    a, b = np.radians(lat)[:, None], np.radians(lon)[None, :]
    t = (1 + 0.1 * np.arange(len(HOURS)))[:, None, None]
    z = np.sin(a) + 0.5 * np.cos(a) * np.cos(b - 1)
    u = -np.sin(b) + 2 * np.cos(b) + 0 * a
    v = -np.sin(a) * np.cos(b) - 2 * np.sin(a) * np.sin(b) + 3 * np.cos(a)
    return {"z": t * z, "u": t * u, "v": t * v, "land": (z > 0.3).astype(float)}


def netcdf(path: Path, lat: np.ndarray, lon: np.ndarray, **attributes: Any) -> Path:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    units = {
        "time": {"units": "hours since 2000-01-01"},
        "lat": {"units": "degrees_north"},
        "lon": {"units": "degrees_east"},
    }
    made = fields(lat, lon)
    data = {k: (("time", "lat", "lon"), v, {"units": "m"}) for k, v in made.items() if k != "land"}
    xarray.Dataset(
        {**data, "land": (("lat", "lon"), made["land"])},
        coords={
            "time": ("time", HOURS, units["time"]),
            "lat": ("lat", lat, units["lat"]),
            "lon": ("lon", lon, units["lon"]),
        },
    ).to_netcdf(path)
    return path


def npz(path: Path, lat: np.ndarray, lon: np.ndarray) -> Path:
    np.savez(path, time=HOURS, lat=lat, lon=lon, **fields(lat, lon))
    return path


def exact() -> tuple[np.ndarray, np.ndarray]:
    """Scalar and tangent vector (south, east) of the first frame at the working grid's points."""
    points, frames = GRID.points.numpy(), GRID.frames.numpy()
    a = np.degrees(np.arcsin(points[:, 2])).reshape(GRID.shape)[:, 0]
    scalar = fields(a, np.degrees(GRID.longitudes.numpy()))["z"][0]
    vector = np.einsum("nkc,c->kn", frames, [1.0, 2.0, 3.0]).reshape(2, *GRID.shape)
    return scalar, vector


def test_vectors_and_scalars_of_every_orientation(tmp_path: Path) -> None:
    scalar, vector = exact()
    half = np.where(LON > 180, LON - 360, LON)
    names = ["z", "u", "v", "land"]
    for name, lat, lon in (
        ("plain", LAT, LON), ("south first", LAT[::-1], LON), ("halves", LAT, half), ("rolled", LAT, np.sort(half)),
        ("westward", LAT[::-1], LON[::-1]),
    ):  # fmt: skip
        series = read_field_series(names, npz(tmp_path / "a.npz", lat, lon), GRID, [["u", "v"]])
        assert [f.name for f in series.fields] == ["z", "u_v", "land"] and series.values.shape == (
            10,
            4,
            12,
            24,
        )
        assert [f.static for f in series.fields] == [False, False, True]
        np.testing.assert_allclose(series.values[0, 0], scalar, atol=0.045, err_msg=name)
        got = series.values[:, 1:3]
        np.testing.assert_allclose(got[0, :, 1:-1], vector[:, 1:-1], atol=0.037, err_msg=name)
        # the mean of a polar cell lies nearer the equator than its middle row: 10 degrees from the pole, not 7.5
        np.testing.assert_allclose(
            got[0], vector, atol=3.3 * (np.sin(np.pi / 18) - np.sin(np.pi / 24)), err_msg=name
        )
        np.testing.assert_allclose(got[9], 1.9 * got[0], atol=1e-5, err_msg=name)


def test_a_grid_equal_to_the_working_one_keeps_every_value(tmp_path: Path) -> None:
    lat, lon = 90 - (np.arange(12) + 0.5) * 15, np.arange(24) * 15.0
    made = fields(lat, lon)
    series = read_field_series(["z", "u", "v"], npz(tmp_path / "a.npz", lat, lon), GRID, [["u", "v"]])
    np.testing.assert_allclose(series.values[:, 0], made["z"], atol=1e-6)
    np.testing.assert_allclose(series.values[:, 1], -made["v"], atol=2e-6)
    np.testing.assert_allclose(series.values[:, 2], made["u"], atol=2e-6)


def test_netcdf_in_several_files_and_zarr(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    whole = netcdf(tmp_path / "all.nc", LAT[::-1], LON)
    with xarray.open_dataset(whole, decode_times=False) as data:
        for k, part in enumerate((slice(5, 10), slice(0, 6))):  # out of order, one frame twice
            data.isel(time=part).to_netcdf(tmp_path / f"part_{k}.nc")
    want = read_field_series(["z", "u", "v"], whole, GRID, [["u", "v"]])
    got = read_field_series(["part_*.nc:z", "part_*.nc:u", "part_*.nc:v"], tmp_path, GRID, [["u", "v"]])
    assert torch.equal(got.values, want.values) and np.array_equal(got.hours, want.hours)
    assert want.hours[0] == 30 * 365.25 * 24 - 12 and want.fields[0].units == "m"
    plain = read_field_series(["z", "u", "v"], npz(tmp_path / "a.npz", LAT, LON), GRID, [["u", "v"]])
    np.testing.assert_allclose(plain.values, want.values, atol=1e-6)
    if __import__("importlib.util").util.find_spec("zarr"):
        with xarray.open_dataset(whole, decode_times=False) as data:
            data.to_zarr(tmp_path / "all.zarr")
        stored = read_field_series(["z", "u", "v"], tmp_path / "all.zarr", GRID, [["u", "v"]])
        assert torch.equal(stored.values, want.values)


def test_single_times_and_levels(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    whole = netcdf(tmp_path / "all.nc", LAT, LON)
    with xarray.open_dataset(whole, decode_times=False) as data:
        for k in (2, 0, 1):  # one time in each file, a coordinate without dimension
            data[["z"]].isel(time=k).to_netcdf(tmp_path / f"one_{k}.nc")
        data[["land"]].expand_dims(time=[-1e5]).to_netcdf(tmp_path / "mask.nc")  # long before
        data[["z"]].isel(time=[0]).assign_coords(time=[1e6]).to_netcdf(tmp_path / "late.nc")
        tall = xarray.concat([data[["z"]] + 100, data[["z"]]], "level", coords="minimal").transpose(
            "time", "level", "lat", "lon"
        )
        tall.to_netcdf(tmp_path / "tall.nc")
        data[["v"]].assign(v=lambda d: d.v.assign_attrs(units="knots")).to_netcdf(tmp_path / "v.nc")
    series = read_field_series(["one_*.nc:z", "all.nc:u", "mask.nc:land"], tmp_path, GRID)
    want = read_field_series(["z", "land"], whole, GRID)
    assert torch.equal(series.values[:, 0], want.values[:3, 0]) and [f.static for f in series.fields] == [
        False,
        False,
        True,
    ]
    assert torch.equal(series.values[:, 2], want.values[:3, 1])
    chosen = FieldSource("tall.nc:z", level=(1,), missing=(-1.0,))
    series = read_field_series([chosen], tmp_path, GRID)
    assert torch.equal(series.values[:, 0], want.values[:, 0])
    assert series.fields[0].level == (1,) and series.fields[0].missing == (-1.0,)
    assert torch.equal(
        read_field_series([FieldSource("all.nc:z", level=(1,))], tmp_path, GRID).values, want.values[:, :1]
    )
    with pytest.raises(
        ValueError, match=r"no time in common \(z 2000-01-01T00:00:00 \.\.\. 2000-01-03T06:00:00, zz 2114"
    ):
        data = np.load(npz(tmp_path / "a.npz", LAT, LON))
        np.savez(tmp_path / "b.npz", time=HOURS + 1e6 + 262968, lat=LAT, lon=LON, zz=data["z"])
        read_field_series(["all.nc:z", "b.npz:zz"], tmp_path, GRID)
    with pytest.raises(ValueError, match=r"u is in 'm' and v\.nc:v in 'knots'"):
        read_field_series(["all.nc:u", "v.nc:v"], tmp_path, GRID, [["u", "v"]])
    with pytest.raises(ValueError, match="latitudes or longitudes from another file"):
        read_field_series([FieldSource("all.nc:z", latitudes="lat.npy")], tmp_path, GRID)


def test_names_of_components() -> None:
    for u in (
        "u",
        "U10M",
        "uas",
        "ugos",
        "water_u",
        "10m_u_component_of_wind",
        "vozocrtx",
        "zonal_wind",
        "eastward_current",
    ):
        v = {
            "vozocrtx": "vomecrty",
            "zonal_wind": "meridional_wind",
            "eastward_current": "northward_current",
        }.get(u)
        v = v or {"water_u": "water_v"}.get(u) or u.replace("u_comp", "v_comp").replace("U1", "V1")
        v = v if v != u else "v" + u[1:]
        assert _undeclared(["z", v, u], {}) == (u, v)
    assert _undeclared(["uv", "z", "sun", "svn", "cloud"], {}) is None


def test_missing_values_become_gaps(tmp_path: Path) -> None:
    made = fields(LAT, LON)
    land = made["land"] > 0
    z, u = np.where(land, -999.0, made["z"]), np.where(land, np.nan, made["u"])
    np.savez(tmp_path / "a.npz", time=HOURS, lat=LAT, lon=LON, z=z, u=u, v=made["v"])
    data = FieldSeriesData(
        str(tmp_path), [FieldSource("a.npz:z", missing=(-999.0,)), "a.npz:u", "a.npz:v"], [["u", "v"]],
        size=(12, 24), test_steps=1, batch_size=2,
    )  # fmt: skip
    item = data.dataset("train")[0]
    assert data.fields.in_type == "1x0 + 1x1 + 2x0" and data.in_channels == 5
    gaps = torch.isnan(item["target"][0])
    assert 0.2 < float(gaps.float().mean()) < 0.6 and torch.equal(gaps[1], gaps[2])
    assert torch.isfinite(item["image"]).all() and torch.equal(item["image"][3] == 0, gaps[0])
    assert bool((item["image"][:3][gaps] == 0).all())


def test_splits_windows_and_statistics(tmp_path: Path) -> None:
    root = str(npz(tmp_path / "a.npz", LAT, LON))
    data = FieldSeriesData(
        root, ["z", "u", "v"], [["u", "v"]], size=(12, 24), val=0.2, test=0.4, lead=1, test_steps=3
    )
    assert data.bounds == {"train": (0, 4), "val": (4, 6), "test": (6, 10)}
    assert [len(data.dataset(s)) for s in ("train", "val", "test")] == [3, 1, 1]
    assert data.dataset("test")[0]["target"].shape == (3, 3, 12, 24)
    z, wind = data.fields.outputs
    areas = GRID.areas.reshape(GRID.shape)
    train = data.whole.values[:4].double()
    assert z.mean == pytest.approx(float((train[:, 0] * areas).sum((1, 2)).mean() / areas.sum()), abs=1e-6)
    assert wind.mean == 0 and wind.scale == pytest.approx(
        float(((train[:, 1:3] ** 2 * areas).sum((2, 3)).mean() / areas.sum()).sqrt()), rel=1e-6
    )
    change = ((train[1:, 0] - train[:-1, 0]) ** 2 * areas).sum((1, 2)).mean() / areas.sum()
    assert z.change == pytest.approx(float(change.sqrt()), rel=1e-6) and data.fields.hours == 6
    dated = FieldSeriesData(root, ["z"], size=(12, 24), val_from="1970-01-02", test_from="1970-01-02T12:00")
    assert dated.bounds == {"train": (0, 4), "val": (4, 6), "test": (6, 10)}
    same_time = FieldSeriesData(
        root, ["z", "u", "v"], [["u", "v"]], inputs=["z"], outputs=["u_v"], lead=0, size=(12, 24)
    )
    assert len(same_time.dataset("train")) == 7 and same_time.dataset("test")[0]["target"].shape == (
        1,
        2,
        12,
        24,
    )


def test_windows_do_not_cross_holes_in_time(tmp_path: Path) -> None:
    hours = np.array([0, 6, 12, 30, 36, 42, 48, 54.0])
    np.savez(tmp_path / "a.npz", time=hours, lat=LAT, lon=LON, z=fields(LAT, LON)["z"][:8])
    data = FieldSeriesData(str(tmp_path / "a.npz"), ["z"], size=(12, 24), val=0, test=0, lead=2)
    windows = FieldWindows(data.series("train"), data.fields)
    assert [start for _, start in windows.windows] == [0, 3, 4, 5]
    months = 24 * np.cumsum([0, 31, 28, 31, 30, 31, 30, 31.0])  # steps of a calendar are even
    np.savez(tmp_path / "b.npz", time=months, lat=LAT, lon=LON, z=fields(LAT, LON)["z"][:8])
    monthly = FieldSeriesData(str(tmp_path / "b.npz"), ["z"], size=(12, 24), val=0, test=0)
    assert len(FieldWindows(monthly.series("train"), monthly.fields)) == 7


def test_faults_are_named(tmp_path: Path) -> None:
    root = npz(tmp_path / "a.npz", LAT, LON)
    with pytest.raises(ValueError, match=r"u and v look like components of a vector.*vectors '\[\[u, v\]\]'"):
        read_field_series(["z", "u", "v"], root, GRID)
    assert len(read_field_series(["z", "u", "v"], root, GRID, []).fields) == 3
    with pytest.raises(ValueError, match=r"vectors has \['u', 'w'\]"):
        read_field_series(["u", "v"], root, GRID, [["u", "w"]])
    with pytest.raises(ValueError, match="is no field"):
        FieldSeriesData(str(root), ["z"], outputs=["zz"], size=(12, 24)).dataset("train")
    with pytest.raises(ValueError, match="the longest series has 2 frames"):
        FieldSeriesData(str(root), ["z"], size=(12, 24), test_steps=3).dataset("test")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        FieldSeriesData(str(tmp_path / "b.nc"), size=(12, 24)).dataset("train")
    with pytest.raises(ValueError, match="no lat"):
        np.savez(tmp_path / "bare.npz", z=np.zeros((3, 24, 48)))
        read_frames("bare.npz:z", tmp_path, GRID)
    path = Path("a.nc")
    assert hours_of(path, "t", np.array([1, 2]), {"units": "days since 1970-01-02 06:00:00"}).tolist() == [
        54,
        78,
    ]
    assert hours_of(path, "t", np.array(["1970-01-02"], "M8[D]"), {}).tolist() == [24]
    with pytest.raises(ValueError, match="'fortnights'"):
        hours_of(path, "t", np.array([1.0]), {"units": "fortnights"})
