"""Distance, direction and transport on the sphere equal the table in meshes/transports."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import torch

from spheregeo.grids import Scattered
from spheregeo.sampling import neighbors

TABLE = Path(__file__).parents[2] / "meshes" / "transports" / "pairs.csv"


def test_every_pair_of_the_table() -> None:
    with open(TABLE) as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    count = 12
    assert len(rows) == count * (count - 1)
    theta = torch.tensor([row["colatitude_p"] for row in rows[:: count - 1]], dtype=torch.float64)
    phi = torch.tensor([row["longitude_p"] for row in rows[:: count - 1]], dtype=torch.float64)
    points = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], dim=1)
    near = neighbors(Scattered(points), Scattered(points), math.pi)
    other = (near.rows != near.indices).numpy()
    for name in ("distance", "angle", "transport"):
        found = getattr(near, name).numpy()[other]
        gap = found - np.array([row[name] for row in rows])
        assert np.abs(np.mod(gap + math.pi, 2 * math.pi) - math.pi).max() < 1e-13, name
