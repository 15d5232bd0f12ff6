"""Damaged files: whatever is changed in a file, its reader returns, or names the file in one line, in time.

A reader joins by a line in ``SHAPES``, ``TABLES`` or ``PICTURES``: its name, the function of a path, and what writes a sound file
into a folder and gives its path. The suite changes each file 200 times, or as often as the reader's line says. As a script, any
number of times, each reader in a process of its own, so that crashes and endless loops are counted, too::

    python tests/data/test_reading_fuzz.py --mutations 2000 [--only off --only ply]
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import spheregeo.data as sgd
from spheregeo.data.digits import read_digits, read_idx
from spheregeo.data.fields.files import gridded_variables
from spheregeo.data.files import read_array, read_class_names, read_class_table
from spheregeo.data.meshes.faust import FaustSet
from spheregeo.data.meshes.files import sound_mesh
from spheregeo.data.meshes.folder import read_classes
from spheregeo.data.meshes.parts import read_numbers
from spheregeo.data.molecules.files import isolated_atoms, read_extxyz
from spheregeo.data.molecules.qm7 import read_qm7
from spheregeo.data.molecules.qm9 import read_qm9, uncharacterised
from spheregeo.data.molecules.tables import numeric, read_npz, read_sdf_csv, read_table
from spheregeo.data.poses.folder import read_rotations
from spheregeo.data.poses.layouts import read_pose_arrays
from spheregeo.data.sphere.field import read_field
from spheregeo.data.sphere.stanford2d3ds import read_label_table
from spheregeo.mesh import load_arrays

MUTATIONS, SECONDS = 200, 5.0
VERTICES = np.array([[0, 0, 0], [1.5, 0, 0], [0, 1.25, 0], [0, 0, 1], [1, 1, 1.5]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 4], [2, 0, 3], [1, 4, 3], [2, 3, 4]])
POINTS = np.random.default_rng(0).normal(size=(12, 3)).round(3)
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)


class Reader(NamedTuple):
    """A reader of files: its name, what reads a path, and what writes a sound file into a folder."""

    name: str
    read: Callable[[Path], Any]
    make: Callable[[Path], Path]
    mutations: int = MUTATIONS  # in the suite; fewer where each needs a process of its own


# ---- meshes, clouds and arrays


def exported(name: str) -> Callable[[Path], Path]:
    """Write the mesh by trimesh in the format of the suffix."""

    def make(folder: Path) -> Path:
        import trimesh

        trimesh.Trimesh(VERTICES, FACES, process=False).export(folder / name)
        return folder / name

    return make


def gltf(folder: Path) -> Path:
    import trimesh

    files = trimesh.exchange.gltf.export_gltf(
        trimesh.Scene(trimesh.Trimesh(VERTICES, FACES, process=False)), embed_buffers=True
    )
    (folder / "a.gltf").write_bytes(files["model.gltf"])
    return folder / "a.gltf"


def written(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return make


def lines(*columns: np.ndarray, apart: str = " ") -> str:
    return "".join(apart.join(f"{v:.6g}" for v in row) + "\n" for row in np.concatenate(columns, 1))


STL = "solid a\n" + "".join(
    "facet normal 0 0 1\nouter loop\n" + "".join(f"vertex {x} {y} {z}\n" for x, y, z in VERTICES[face])
    + "endloop\nendfacet\n" for face in FACES
) + "endsolid a\n"  # fmt: skip
PLY = (
    f"ply\nformat ascii 1.0\nelement vertex {len(VERTICES)}\nproperty float x\nproperty float y\nproperty float z\n"
    f"element face {len(FACES)}\nproperty list uchar int vertex_indices\nend_header\n"
    + lines(VERTICES) + "".join(f"3 {a} {b} {c}\n" for a, b, c in FACES)
)  # fmt: skip
PLY_CLOUD = (
    f"ply\nformat KIND 1.0\nelement vertex {len(POINTS)}\n"
    + "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz")) + "end_header\n"
)  # fmt: skip
PCD = (
    "VERSION 0.7\nFIELDS x y z normal_x normal_y normal_z\nSIZE 4 4 4 4 4 4\nTYPE F F F F F F\nCOUNT 1 1 1 1 1 1\n"
    f"WIDTH {len(POINTS)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(POINTS)}\nDATA KIND\n"
)
ROWS = np.concatenate([POINTS, NORMALS], 1).astype("<f4").tobytes()
COLUMNS = (
    np.concatenate([POINTS, NORMALS], 1).T.astype("<f4").tobytes()
)  # 288 bytes in runs of 32 as they stand: LZF
PACKED = b"".join(b"\x1f" + COLUMNS[k : k + 32] for k in range(0, len(COLUMNS), 32))
BLOCK = "".join(f"v {x} {y} {z} \\\n 1 0 0\n" for x, y, z in VERTICES)
OBJ = (
    f"# two\n{BLOCK}g a\n"
    + "".join(f"f -{5 - a}/1 -{5 - b}//2 -{5 - c}\n" for a, b, c in FACES)
    + BLOCK
    + "f -1 -2 -3 -4\n"
)
POLYGONS = ([0, 1, 2, 3], [1, 2, 4], [2, 3, 4], [0, 1, 4], [0, 4, 3], [2, 1, 0, 4])
MIXED = (PLY[: PLY.index("end_header")].replace("ascii", "binary_big_endian") + "end_header\n").encode() + (
    VERTICES.astype(">f4").tobytes() + b"".join(bytes([len(p)]) + np.array(p, ">i4").tobytes() for p in POLYGONS)
)  # fmt: skip


def modelnet_npz(folder: Path) -> Path:
    for split in ("train", "test"):
        np.savez_compressed(
            folder / f"m_{split}.npz", points_int16=(POINTS[None] * 5000).astype(np.int16).repeat(4, 0),
            label=np.array([0, 1, 0, 1]), classes=np.array(["cup", "pot"]), name=np.array(list("abcd")),
        )  # fmt: skip
    return folder / "m_train.npz"


def modelnet_hdf5(folder: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    (folder / "shape_names.txt").write_text("cup\npot\n")
    for split in ("train", "test"):
        with h5py.File(folder / f"ply_data_{split}0.h5", "w") as file:
            file.create_dataset("data", data=POINTS[None].repeat(4, 0).astype(np.float32), compression="gzip")
            file["label"] = np.array([[0], [1], [0], [1]], np.uint8)
            file["normal"] = NORMALS[None].repeat(4, 0).astype(np.float32)
    return folder / "ply_data_train0.h5"


def scans(folder: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    for word in ("training", "test"):
        with h5py.File(folder / f"{word}_objectdataset.h5", "w") as file:
            file["data"], file["label"] = POINTS[None].repeat(4, 0), np.array([0, 1, 2, 3])
            file["mask"] = np.ones((4, len(POINTS)), int)
    return folder / "training_objectdataset.h5"


def stored_array(folder: Path) -> Path:
    np.save(folder / "a.npy", POINTS)
    return folder / "a.npy"


def stored_arrays(folder: Path) -> Path:
    np.savez(folder / "a.npz", points=POINTS, label=np.arange(5))
    return folder / "a.npz"


def faust(folder: Path) -> Path:
    np.savez(
        folder / "faust.npz", verts=np.tile(VERTICES, (2, 1)), faces=np.tile(FACES, (2, 1)), nv=np.full(2, 5), nf=np.full(2, 6),
        corr=np.tile(np.arange(1, 5), 2), nc=np.full(2, 4),
    )  # fmt: skip
    return folder / "faust.npz"


def read_faust(path: Path) -> Any:
    source = FaustSet(path)
    return [sgd.Faust(source, [0])[k] for k in range(len(source.numbers))]


def faust_points(folder: Path) -> Path:
    exported("tr_reg_000.off")(folder)
    return written("tr_reg_000.vts", "1\n2\n3\n5\n")(folder)


SHAPES = [
    *(Reader(f"mesh{s}", load_arrays, exported(f"a{s}")) for s in (".off", ".obj", ".ply", ".stl", ".glb")),
    Reader("mesh ASCII PLY", load_arrays, written("a.ply", PLY)),
    Reader("mesh ASCII STL", load_arrays, written("a.stl", STL)),
    Reader("mesh GLTF", load_arrays, gltf),
    Reader("mesh OBJ in blocks", load_arrays, written("a.obj", OBJ)),
    Reader("mesh PLY of polygons", load_arrays, written("a.ply", MIXED)),
    Reader("sound mesh", sound_mesh, exported("a.off")),
    Reader("labels of elements", read_numbers, written("a.seg", "1\n2\n2\n3.0\n-1\n")),
    *(Reader(f"cloud of {s}", lambda p: sgd.read_cloud(p, 30), exported(f"a{s}")) for s in (".off", ".obj", ".ply", ".stl")),
    Reader("cloud of points in OFF", sgd.read_cloud, written("a.off", f"OFF\n{len(POINTS)} 0 0\n" + lines(POINTS))),
    Reader("cloud ASCII PLY", sgd.read_cloud, written("a.ply", PLY_CLOUD.replace("KIND", "ascii") + lines(POINTS, NORMALS))),
    Reader("cloud PLY", sgd.read_cloud, written("a.ply", PLY_CLOUD.replace("KIND", "binary_little_endian").encode() + ROWS)),
    Reader("cloud XYZ", sgd.read_cloud, written("a.xyz", lines(POINTS, NORMALS))),
    Reader("cloud text", sgd.read_cloud, written("a.txt", "# x,y,z\n" + lines(POINTS, apart=","))),
    Reader("cloud ASCII PCD", sgd.read_cloud, written("a.pcd", PCD.replace("KIND", "ascii") + lines(POINTS, NORMALS))),
    Reader("cloud PCD", sgd.read_cloud, written("a.pcd", PCD.replace("KIND", "binary").encode() + ROWS)),
    Reader("cloud packed PCD", sgd.read_cloud, written(
        "a.pcd", PCD.replace("KIND", "binary_compressed").encode() + struct.pack("<II", len(PACKED), len(COLUMNS)) + PACKED)),
    Reader("cloud of scans", lambda p: sgd.read_cloud(p, columns="x y z _ _ _", drop_nan=True), written(
        "a.txt", "x;y;z;a;b;c\n" + lines(POINTS, 9 * NORMALS, apart=";").replace("0.126", "nan", 1))),
    Reader("npy", read_array, stored_array),
    Reader("npz", read_array, stored_arrays),
    Reader("ModelNet npz", lambda p: sgd.read_modelnet(p.parent), modelnet_npz),
    Reader("ModelNet HDF5", lambda p: sgd.read_modelnet(p.parent), modelnet_hdf5),
    Reader("ScanObjectNN", lambda p: sgd.read_scanobjectnn(p.parent, variant="objectdataset"), scans),
    Reader("FAUST archive", read_faust, faust),
    Reader("FAUST points", lambda p: sgd.Faust(FaustSet(p.parent), [0])[0], faust_points),
    Reader("SHREC classes", read_classes, written("a.cla", "PSB 1\n2 4\n\nant 0 2\n1\n2\n\nlamp 0 2\n3\n4\n")),
    Reader("class names", read_class_names, written("classes.txt", "# two\nfloor\ndining table\n")),
]  # fmt: skip

# ---- tables and molecules

XYZ = """3
Properties=species:S:1:pos:R:3:forces:R:3:q:R:1 energy=-14.5 gap=0.5 mu="0.0 0.0 1.85" pbc="F F F"
O 0.0 0.0 0.12 0.0 0.0 0.1 -0.6
H 0.0 0.76 -0.48 0.0 0.2 -0.05 0.3
H 0.0 -0.76 -0.48 0.0 -0.2 -0.05 0.3
2
Properties=species:S:1:pos:R:3:forces:R:3:q:R:1 energy=-30.25 gap=1.5 mu="0.1 0.0 0.0" Lattice="5 0 0 0.5 6 0 0 0 7" pbc="T T F"
C 0.0 0.0 0.0 0.1 0.0 0.0 0.2
O 1.13 0.0 0.0 -0.1 0.0 0.0 -0.2
"""
PLAIN = "3\nwater\nO 0.0 0.0 0.12\nH 0.0 0.76 -0.48\nH 0.0 -0.76 -0.48\n2\n\nC 0 0 0\nO 1.13 0 0\n"
FREE = "1\nenergy=-13.6\nH 0 0 0\n1\nenergy=-1029.5\nC 0 0 0\n3\n" + XYZ.split("\n", 1)[1]
V2000 = """water
  by hand

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.1200 O   0  0
    0.0000    0.7600   -0.4800 H   0  0
    0.0000   -0.7600   -0.4800 H   0  0
  1  2  1  0
  1  3  1  0
M  END
> <gap>
0.5

$$$$
"""
V3000 = """water
  by hand

  0  0  0     0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 3 2 0 0 0
M  V30 BEGIN ATOM
M  V30 1 O 0.0 0.0 0.12 0
M  V30 2 H 0.0 0.76 -
M  V30 -0.48 0
M  V30 3 H 0.0 -0.76 -0.48 0
M  V30 END ATOM
M  V30 BEGIN BOND
M  V30 1 1 1 2
M  V30 2 1 1 3
M  V30 END BOND
M  V30 END CTAB
M  END
$$$$
"""
NUMBERS = "799.5 437.9 282.9 1.8511 6.31 -0.2928 0.0687 0.3615 19.0002 0.021375 -76.404702 -76.401867 -76.400922 -76.422349 6.002"
RAW = (
    "3\ngdb 3\t" + NUMBERS.replace(" ", "\t") + "\nO\t-0.0344\t0.9775\t0.0076\t-0.5897\nH\t0.0648\t0.0206\t1.5*^-6\t0.2949\n"
    "H\t0.8718\t1.3008\t0.0007\t0.2949\n1671.4\t3803.6\t3907.7\nO\tO\nInChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2\n"
)  # fmt: skip
CSV = 'name,gap,"mu\n[D]"\nwater,0.5,1.85\n"carbon, monoxide",1.5,\nair,-0.25,0.11\n'


def read_sdf_file(path: Path) -> Any:
    path.with_suffix(".csv").write_text("gap\n0.5\n1.5\n")
    return read_sdf_csv(path, path.with_suffix(".csv"), {"gap": "eV"})


def molecules_npz(folder: Path) -> Path:
    places = np.array(
        [[[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]], [[0, 0, 0], [1.13, 0, 0], [0, 0, 0]]]
    )
    np.savez(
        folder / "a.npz", Z=np.array([[8, 1, 1], [6, 8, 0]]), R=places, gap_eV=np.array([0.5, 1.5]), id=np.array(["a", "b"]),
        props=np.ones((2, 1)), prop_names=np.array(["mu_D"]),
    )  # fmt: skip
    return folder / "a.npz"


def qm7_mat(folder: Path) -> Path:
    from scipy.io import savemat

    places = np.zeros((10, 3, 3))
    places[:, 1, 0] = 2.1
    z, folds = np.tile([6, 8, 0], (10, 1)), np.arange(10).reshape(5, 2)
    savemat(folder / "qm7.mat", {"R": places, "Z": z, "T": -np.arange(10.0)[None], "P": folds})
    return folder / "qm7.mat"


TARGETS = {"gap": "eV", "mu": "D", "q": "1"}
TABLES = [
    Reader("extended XYZ", lambda p: read_extxyz(p, targets=TARGETS, forces=True), written("a.xyz", XYZ)),
    Reader("extended XYZ of a folder", lambda p: read_extxyz(p.parent, forces=True), written("a.extxyz", XYZ)),
    Reader("plain XYZ", read_extxyz, written("a.xyz", PLAIN)),
    Reader("free atoms", isolated_atoms, written("a.xyz", FREE)),
    Reader("SDF V2000", read_sdf_file, written("a.sdf", V2000 * 2)),
    Reader("SDF V3000", read_sdf_file, written("a.sdf", V2000 + V3000)),
    Reader("CSV", lambda p: numeric(read_table(p), "gap", p), written("a.csv", CSV)),
    Reader("molecules npz", read_npz, molecules_npz),
    Reader("QM9 raw", lambda p: read_qm9(p.parent), written("dsgdb9nsd_000003.xyz", RAW)),
    Reader("QM9 uncharacterised", uncharacterised, written("uncharacterized.txt", "3 molecules\n  2 C#N x\n  5 CC 1 2\n")),
    Reader("QM7 mat", lambda p: read_qm7(p), qm7_mat, mutations=4),
]  # fmt: skip

# ---- pictures and fields

PIXELS = np.random.default_rng(1).integers(0, 256, (6, 12, 3), dtype=np.uint8)
DEEP = PIXELS[..., 0].astype(np.uint16) * 200
LATITUDES, LONGITUDES = 75.0 - 30 * np.arange(6), -165.0 + 30 * np.arange(12)


def pictured(name: str, array: np.ndarray, mode: str | None = None, **options: Any) -> Callable[[Path], Path]:
    """Write an array as a picture in the format of the suffix."""

    def make(folder: Path) -> Path:
        from PIL import Image

        image = Image.fromarray(array)
        (image.convert(mode) if mode else image).save(folder / name, **options)
        return folder / name

    return make


def deep_colours(folder: Path) -> Path:
    """A PNG of three channels of 16 bits, which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in PIXELS.astype(np.uint16) * 257)
    header = b"IHDR" + b"".join(n.to_bytes(4, "big") for n in (12, 6)) + bytes([16, 2, 0, 0, 0])
    chunks = [header, b"IDAT" + zlib.compress(rows), b"IEND"]
    packed = [(len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks]
    return written("a.png", b"\x89PNG\r\n\x1a\n" + b"".join(packed))(folder)


def netcdf(folder: Path) -> Path:
    return stored_netcdf(folder, "NETCDF3_CLASSIC")


def netcdf4(folder: Path) -> Path:
    return stored_netcdf(folder, "NETCDF4")


def stored_netcdf(folder: Path, form: str) -> Path:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    xarray.Dataset(
        {"field": (("lat", "lon"), PIXELS[..., 0].astype(float))},
        {"lat": ("lat", LATITUDES, {"units": "degrees_north"}), "lon": ("lon", LONGITUDES, {"units": "degrees_east"})},
    ).to_netcdf(folder / "a.nc", format=form, engine="netcdf4")  # fmt: skip
    return folder / "a.nc"


def field_npz(folder: Path) -> Path:
    np.savez(folder / "a.npz", field=PIXELS[..., 0], lat=LATITUDES, lon=LONGITUDES)
    return folder / "a.npz"


def read_planet(path: Path) -> Any:
    field = read_field(path.name, path.parent)
    return field.map_to((4, 8)).average(field.values)


def stored_depth(folder: Path) -> Path:
    np.save(folder / "a.npy", DEEP / 4000 + 0.5)
    return folder / "a.npy"


def semantic_list(folder: Path) -> Path:
    return written("semantic_labels.json", '["<UNK>_0_0_0_0", "chair_1_office_3_1", "wall_12_hallway_2_4"]')(
        folder
    )


def read_series(path: Path) -> Any:
    from spheregeo.grids import Equiangular

    gridded_variables(path)
    return sgd.read_field_series(["z", "u", "v"], path, Equiangular(4, 8), [["u", "v"]]).values


def series_arrays() -> dict[str, np.ndarray]:
    z = np.arange(64.0).reshape(2, 4, 8)
    return {"z": z, "u": np.sin(z), "v": np.cos(z)}


def series_netcdf(folder: Path) -> Path:
    from scipy.io import netcdf_file

    axes = {"time": np.arange(2.0), "lat": np.array([67.5, 22.5, -22.5, -67.5]), "lon": np.arange(8) * 45.0}
    with netcdf_file(str(folder / "a.nc"), "w") as file:
        for name, values in axes.items():
            file.createDimension(name, len(values))
            file.createVariable(name, "f8", (name,))[:] = values
        file.variables["time"].units = "days since 2001-01-01"
        for name, values in series_arrays().items():
            file.createVariable(name, "f4", tuple(axes))[:] = values
    return folder / "a.nc"


def series_npz(folder: Path) -> Path:
    lat, time = np.array([67.5, 22.5, -22.5, -67.5]), np.array(["2001-01-01", "2001-01-02"], "M8[h]")
    np.savez(folder / "a.npz", time=time, lat=lat, lon=np.arange(8) * 45.0, **series_arrays())
    return folder / "a.npz"


def sky_map(**options: Any) -> Callable[[Path], Path]:
    """Write a FITS map of I, Q and U at nside 4 by healpy."""

    def make(folder: Path) -> Path:
        import healpy

        maps = np.random.default_rng(2).normal(size=(3, 192)).astype(np.float32)
        maps[:, 5] = healpy.UNSEEN
        healpy.write_map(
            str(folder / "a.fits"), list(maps), coord="G", column_units="mK", dtype=np.float32, **options
        )
        return folder / "a.fits"

    return make


def sky_spectrum(folder: Path) -> Path:
    return sgd.write_spectrum(folder / "cl.fits", {"TT": np.arange(8.0), "EE": np.ones(8)})


def tiff_bands(folder: Path) -> Path:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        folder / "a.tif",
        np.stack([DEEP, DEEP, DEEP, DEEP, DEEP]),
        photometric="minisblack",
        compression="zlib",
    )
    return folder / "a.tif"


def medmnist(folder: Path) -> Path:
    np.savez(
        folder / "a.npz",
        train_images=PIXELS[:, :4, 0].repeat(2, 0)[:, :, None],
        train_labels=np.arange(12)[:, None] % 3,
    )
    return folder / "a.npz"


def cifar(folder: Path) -> Path:
    rows = np.zeros((4, 3074), np.uint8)
    rows[:, 1] = np.arange(4)
    for part in ("train", "test"):
        (folder / f"{part}.bin").write_bytes(rows.tobytes())
    return folder / "train.bin"


def stl10(folder: Path) -> Path:
    for part in ("train", "test"):
        (folder / f"{part}_X.bin").write_bytes(bytes(2 * 3 * 96 * 96))
        (folder / f"{part}_y.bin").write_bytes(bytes([1, 10]))
    return folder / "train_y.bin"


def digits_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", x=PIXELS[:, :6, 0].reshape(1, 6, 6).repeat(4, 0), y=np.arange(4))
    return folder / "a.npz"


IDX = struct.pack(">HBBIII", 0, 8, 3, 2, 3, 4) + bytes(24)


def poses_csv(folder: Path) -> Path:
    head = ",".join(f"r{i}{j}" for i in range(3) for j in range(3))
    rows = ["a.png,1,0,0,0,1,0,0,0,1,cup", "b.png,0,-1,0,1,0,0,0,0,1,ball"]
    (folder / "rotations.csv").write_text("\n".join([f"name,{head},class", *rows]) + "\n")
    return folder / "rotations.csv"


def poses_npz(folder: Path) -> Path:
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    np.savez(folder / "a.npz", imgs=images, rots=np.tile(np.eye(3), (2, 1, 1)), cat_ids=np.arange(2))
    return folder / "a.npz"


PICTURES = [
    Reader("rotations of a folder", lambda p: read_rotations(p.parent, "opengl"), poses_csv, mutations=100),
    Reader("images and rotations", lambda p: read_pose_arrays(p, "opencv"), poses_npz, mutations=100),
    Reader("TIFF of bands", sgd.read_picture, tiff_bands, mutations=100),
    Reader("image npy", sgd.read_picture, stored_depth),
    Reader("image of pixels", sgd.read_picture, pictured("b.png", PIXELS)),
    Reader("MedMNIST", lambda p: sgd.MedMNIST(p)[0], medmnist),
    Reader("CIFAR", lambda p: sgd.BinaryImages(p.parent)[0], cifar, mutations=100),
    Reader("STL-10", lambda p: sgd.BinaryImages(p.parent)[0], stl10, mutations=100),
    Reader("digits npz", read_digits, digits_npz),
    Reader("IDX", read_idx, written("a-idx3-ubyte", IDX)),
    Reader("IDX packed", read_idx, written("a-idx3-ubyte.gz", gzip.compress(IDX))),
    *(Reader(f"image{s}", sgd.read_image, pictured(f"a{s}", PIXELS)) for s in (".png", ".jpg", ".tif", ".webp", ".bmp", ".gif")),
    Reader("image TIFF packed", sgd.read_image, pictured("a.tif", PIXELS, compression="tiff_lzw")),
    Reader("image of 16 bits", sgd.read_image, pictured("a.png", DEEP)),
    Reader("image of 16-bit colours", sgd.read_image, deep_colours),
    Reader("image with palette", sgd.read_image, pictured("a.png", PIXELS, mode="P")),
    Reader("image CMYK", sgd.read_image, pictured("a.jpg", PIXELS, mode="CMYK")),
    Reader("labels", lambda p: sgd.read_labels(p, 256), pictured("a.png", PIXELS[..., 0])),
    Reader("depth", lambda p: sgd.read_depth(p, "mm"), pictured("a.png", DEEP)),
    Reader("depth npy", sgd.read_depth, stored_depth),
    Reader("semantic list", read_label_table, semantic_list),
    Reader("classes with colours", read_class_table, written("classes.txt", "floor 1 2 3\nwall, 4, 5, 6\n")),
    Reader("field NetCDF", read_planet, netcdf),
    Reader("field NetCDF 4", read_planet, netcdf4),
    Reader("field npz", read_planet, field_npz),
    Reader("series NetCDF", read_series, series_netcdf, mutations=80),
    Reader("series npz", read_series, series_npz),
    Reader("field text", read_planet, written("a.txt", lines(PIXELS[..., 0].astype(float)))),
    Reader("sky map", sgd.read_sky_map, sky_map()),
    Reader("sky map nested", lambda p: sgd.read_sky_map(p).in_order("ring"), sky_map(nest=True)),
    Reader("sky map cut", sgd.read_sky_map, sky_map(partial=True)),
    Reader("sky spectrum", sgd.read_spectrum, sky_spectrum),
    Reader("field picture", read_planet, pictured("a.png", PIXELS)),
]  # fmt: skip

READERS = {reader.name: reader for reader in (*SHAPES, *TABLES, *PICTURES)}

# ---- damage

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
ODD_NUMBERS = (
    b"0", b"-1", b"1", b"2", b"7", b"0.5", b"-0.0", b"1e200", b"1e400", b"nan", b"inf", b"1,5", b"2147483648", b"999999999999",
    b"18446744073709551616", b"", b"x", b"1_0", b"0x10", b"--1", b"1e", "\u0663".encode(), b"9" * 400,
)  # fmt: skip
ODD_BYTES = (
    b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"\n", b"\r", b"\t", b" ", b"#", b"\\\n",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9", b"\x1a", b"\x00" * 64, b"\n\n\n", b'"', b",", b"/", b"-", b"nan ", b"\xc2\x85",
)  # fmt: skip


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three changes: bytes flipped or overwritten, a cut, stretches or lines doubled, moved or lost, odd numbers."""
    for _ in range(1 + int(rng.integers(3)) * int(rng.integers(2))):
        at, end = sorted(int(k) for k in rng.integers(0, len(content) + 1, 2))
        near = min(len(content), at + 1 + int(rng.integers(16)))
        odd = ODD_BYTES[rng.integers(len(ODD_BYTES))]
        kind = int(rng.integers(9))
        if kind == 0 and at < len(content):
            content = content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at]
        elif kind == 2:
            content = content[:end] + content[at:]
        elif kind == 3:
            content = content[:at] + content[near:]
        elif kind == 4:
            content = content[:at] + odd + content[at:]
        elif kind == 5:
            content = content[:at] + odd + content[at + len(odd) :]
        elif kind == 6:
            content = content[:at] + rng.bytes(near - at) + content[near:]
        elif kind == 7:
            rows = content.split(b"\n")
            i, j = rng.integers(0, len(rows), 2)
            rows[i], rows[j] = rows[j], rows[i] if rng.integers(2) else rows[j]
            content = b"\n".join(rows)
        else:
            found = list(NUMBER.finditer(content[: 1 << 16]))
            if found:
                old = found[rng.integers(len(found))]
                new = ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))]
                content = content[: old.start()] + new + content[old.end() :]
    return content


class Late(BaseException):
    """Raised by the clock; no reader catches it."""


@contextmanager
def clock(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(reader: Reader, path: Path) -> tuple[str, str]:
    """What reading a file ends in (accepted, named, unnamed, raw or hang), and the message."""
    try:
        with clock(SECONDS):
            reader.read(path)
    except Late:
        return "hang", f"not done in {SECONDS} s"
    except (ValueError, OSError) as error:
        text = " ".join(str(error).split())
        return ("named" if str(path) in text else "unnamed"), f"{type(error).__name__}: {text}"
    except Exception as error:
        return "raw", f"{type(error).__name__}: {error}"
    return "accepted", ""


def cases(reader: Reader, folder: Path, numbers: range) -> Iterator[tuple[int, str, str]]:
    """The outcome of each damaged file; number -1 is the sound one."""
    path = reader.make(folder)
    sound = path.read_bytes()
    for k in numbers:
        rng = np.random.default_rng([zlib.crc32(reader.name.encode()), k + 1])
        path.write_bytes(sound if k < 0 else damaged(sound, rng))
        yield (k, *outcome(reader, path))


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_named(name: str, tmp_path: Path) -> None:
    found = list(cases(READERS[name], tmp_path, range(-1, READERS[name].mutations)))
    assert found[0][1] == "accepted", f"the sound file: {found[0][2]}"
    bad = [f"{k} {kind}: {text[:300]}" for k, kind, text in found if kind not in ("accepted", "named")]
    assert not bad, f"{len(bad)} of {READERS[name].mutations}\n" + "\n".join(bad[:10])


# ---- the campaign


def work(name: str, start: int, stop: int) -> None:
    """Print a line for each case; the last one is missing when this process dies."""
    resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for k, kind, text in cases(READERS[name], Path(folder), range(start, stop)):
            print(k, kind, " ".join(text.split())[:400], flush=True)


def campaign(name: str, mutations: int) -> tuple[Counter[str], list[str]]:
    """Count the outcomes of a reader; a worker that dies or is silent for long is started again behind the case."""
    count: Counter[str] = Counter()
    examples, at = [], -1
    while at < mutations:
        options = ["--worker", name, str(at), str(mutations)]
        process = subprocess.Popen([sys.executable, __file__, *options], stdout=subprocess.PIPE)
        assert process.stdout is not None
        patience, pending = 60.0, b""  # the first line waits for the imports
        while True:
            ready, _, _ = select.select([process.stdout], [], [], patience)
            chunk = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not chunk:
                break
            patience, pending = 4 * SECONDS, pending + chunk
            *done, pending = pending.split(b"\n")
            for line in done:
                number, kind, text = [*line.decode(errors="replace").split(" ", 2), ""][:3]
                at = int(number) + 1
                count[kind] += 1
                if kind not in ("accepted", "named") or (number == "-1" and kind != "accepted"):
                    examples.append(f"{name} {number} {kind}: {text}")
        silent = process.poll() is None and not chunk and not ready
        process.kill()
        process.wait()
        if at < mutations:
            kind = "hang" if silent else "crash"
            count[kind] += 1
            examples.append(f"{name} {at} {kind}: exit {process.returncode}")
            at += 1
    return count, examples


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mutations", type=int, default=2000, help="damaged files for each reader")
    parser.add_argument("--only", action="append", help="name of a reader; all if not given")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return work(given.worker[0], int(given.worker[1]), int(given.worker[2]))
    kinds = ("accepted", "named", "unnamed", "raw", "hang", "crash")
    total: Counter[str] = Counter()
    print(f"{'reader':28}{'cases':>8}" + "".join(f"{kind:>10}" for kind in kinds))
    for name in given.only or READERS:
        count, examples = campaign(name, given.mutations)
        total += count
        print(f"{name:28}{count.total():8}" + "".join(f"{count[kind]:10}" for kind in kinds), flush=True)
        print("".join(f"    {line}\n" for line in examples[:5]), end="", flush=True)
    print(f"{'all':28}{total.total():8}" + "".join(f"{total[kind]:10}" for kind in kinds))


if __name__ == "__main__":
    main()
