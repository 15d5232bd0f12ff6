"""Every registered model passes the compliance suite."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from spheregeo import models
from spheregeo.audit import measure_invariance
from spheregeo.grids import Equiangular
from spheregeo.groups import axis_angle
from spheregeo.testing import check_model

GRID = Equiangular(8, 16)
QUARTER = axis_angle((0, 0, 1), math.pi / 2)  # maps the grid and its coarser levels to themselves
# largest error under a quarter turn about z, where networks are not exact: sampled nonlinearities, interpolation to icosahedra,
# a network that reads the image as it stands
BOUNDS = {"gauge": 1e-2, "gem": 5e-2, "icosahedral": 1.0, "planar-cnn": 1.0}
# bandwidths whose grids on SO(3) a quarter turn permutes
BANDS: dict[str, dict[str, Any]] = {
    "s2cnn-classifier": {"bandwidths": (4, 4)},
    "s2cnn-unet": {"bandwidth": 5},
}
VNN: dict[str, Any] = {"width": 3, "k": 4}
CLOUD = {"width": 4, "depth": 2, "k": 4}
MOLECULE = {"width": 4, "depth": 2}
# options that make networks small, by the beginning of their name
SMALL: dict[str, dict[str, Any]] = {
    "mace": {"width": 4, "lmax": 2, "hidden": (8, 8), "readout_width": 4},
    "vnn-dgcnn-base": {"widths": (3, 3), "embedding": 5, "k": 4},
    "vnn-dgcnn": {**VNN, "depth": 2, "embedding": 5},
    "vnn-pointnet": VNN,
    "pointnet": {"width": 4},
    "scn": {"width": 4, "hidden": 8, "depth": 2, "taps": 24, "oversampling": 3.0, "num_neighbors": 4.0},
    "escn": {"width": 4, "hidden": 8, "depth": 2, "lmax": 1, "oversampling": 3.0, "num_neighbors": 4.0},
    "equiformer-v2": {"width": 4, "heads": 2, "hidden": 8, "depth": 2, "lmax": 1, "oversampling": 3.0},
    "prin": {"width": 2, "depth": 2, "bandwidth": 12, "shells": 3, "lmax": 2, "window": 0.8},
    "sprin": {"width": 4, "k": 4, "counts": (6, 3)},
    "risurconv": {
        "width": 4,
        "counts": (6, 4),
        "k": (4, 3),
        "embedding": (4, 8),
        "hidden": (8,),
        "normal_k": 5,
    },
    "steerable-points": {"width": 4, "k": 4, "counts": (6, 3), "radii": (1.5, 3.0)},
}
UPRIGHT: dict[str, Any] = {"image-": {"so3": 10.0}}  # networks of images that promise nothing
THRESHOLDED = {"sphere-molecule": 1e-2, "prin": 3e-2}  # thresholds on the points of spheres
PROPER = (
    "vnn-pointnet-base",
    "scn",
    "risurconv",
    "risurconv-base",
)  # cross products, perceptrons in edge frames see reflections
TURNED = ("pointnet",)  # a baseline that sees coordinates: its error is asserted to be large below


def family(name: str, table: dict[str, Any], default: Any) -> Any:
    return next((value for key, value in table.items() if name.startswith(key)), default)


CODECS = models.names("codec", "grid")  # held in tests/models/sphere/test_oslo.py


@pytest.mark.parametrize("name", [name for name in models.names(domain="grid") if name not in CODECS])
def test_on_grids(name: str) -> None:
    model = models.create(name, 2, 3, GRID, width=4, depth=2, **family(name, BANDS, {}))
    check_model(
        model,
        GRID,
        in_channels=2,
        out_shape=(2, 3, *GRID.shape) if models.output_of(name) == "field" else (2, 3),
        equivariance={"so3": family(name, BOUNDS, 1e-6)},
        equivariance_options={"rotations": QUARTER, "lmax": 2},
        skip=["compile"],  # takes seconds for each; models that promise it are compiled in their own tests
    )


@pytest.mark.parametrize("name", models.names(domain="images"))
def test_on_images(name: str) -> None:
    model = models.create(name, 2, 3, None, width=4, depth=2, **family(name, SMALL, {}))
    check_model(
        model,
        (9, 9),
        in_channels=2,
        out_shape=(2, 3, 9, 9) if models.output_of(name) == "field" else (2, 3),
        equivariance=family(name, UPRIGHT, {"so3": 1e-9}),  # under quarter turns, which move pixels only
        skip=["compile"],
    )


POINTS = [(name, "label") for name in models.names("label", "points")]
POINTS += [(name, "field") for name in models.names("field", "points") if not name.endswith("-base")]
POINTS += [(name, "") for name in models.names(domain="molecule")]


@pytest.mark.parametrize(("name", "output"), POINTS)
def test_on_points(name: str, output: str) -> None:
    molecule = models.domain_of(name) == "molecule"
    options = family(name, SMALL, MOLECULE if molecule else CLOUD)
    options = {**options, "output": output} if output == "field" else options
    model = models.create(name, 20 if molecule else 0, 3, None, **options)
    generator = torch.Generator().manual_seed(0)
    cloud = torch.stack(torch.meshgrid(*[torch.arange(2.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = torch.cat([cloud, cloud]) + 0.15 * torch.randn(16, 3, generator=generator)
    positions *= 1.3 if molecule else 0.5
    check_model(
        model,
        positions.double(),
        in_channels=None if molecule else 0,
        features=torch.tensor([1, 6, 8, 1, 1, 6, 7, 1]).repeat(2) if molecule else None,
        batch=torch.arange(2).repeat_interleave(8),
        out_shape=(16 if output == "field" else 2, 3),
        equivariance={"so3" if name in PROPER else "o3": family(name, THRESHOLDED, 1e-7)},
        untrained=["pool.direction.weight"],  # it chooses: the value that is compared passes no gradient
        skip=["compile", *(["equivariance"] if name in TURNED else [])],
    )


@pytest.mark.parametrize("name", TURNED)
def test_baselines_without_invariance_are_seen_as_such(name: str) -> None:
    """In a cloud's own coordinates: permutations and translations change nothing, rotations do."""
    for output in models.outputs_of(name):
        model = models.create(name, 0, 3, None, output=output, **family(name, SMALL, CLOUD))
        found = measure_invariance(model, torch.randn(32, 3), batch=torch.arange(2).repeat_interleave(16))
        assert found["rotations"] > 0.1 * found["spread"] > 0
        assert max(found["permutations"], found["translations"]) < 1e-9
