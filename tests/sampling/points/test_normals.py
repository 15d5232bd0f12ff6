"""Normals of clouds: true ones on a sphere, motions, order and company, clouds without normals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spheregeo.sampling import estimate_normals, random_rotations


def bent(n: int = 200, seed: int = 0) -> Tensor:
    """A curved surface that no rotation or reflection maps to itself."""
    x, y = torch.rand(2, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
    return torch.stack([x, 1.5 * y, x * x + 0.3 * x * y - 0.4 * y**3 + 0.2], 1)


def plain(points: np.ndarray, k: int) -> np.ndarray:
    """The slow twin: singular vectors, point by point; the sign is that away from the centroid."""
    found = []
    for p in points:
        near = points[np.argsort(np.linalg.norm(points - p, axis=1))[: k + 1]]
        axis = np.linalg.svd(near - near.mean(0))[2][2]
        found.append(axis * np.sign(axis @ (p - points.mean(0))))
    return np.array(found)


def test_equals_singular_vectors_point_by_point() -> None:
    p = bent(60)
    assert np.allclose(estimate_normals(p, 7).numpy(), plain(p.numpy(), 7), atol=1e-10)


def test_of_a_sphere() -> None:
    p = functional.normalize(torch.randn(800, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    n = estimate_normals(p)
    assert n.dtype == torch.float32 and torch.allclose(n.norm(dim=1), torch.ones(800), atol=1e-6)
    assert float((n * p).sum(1).min()) > 0.9
    free = estimate_normals(p, outward=False)
    assert torch.allclose((free * n).sum(1).abs(), torch.ones(800), atol=1e-5)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-11), (torch.float32, 1e-3)])
def test_turn_with_the_cloud(dtype: torch.dtype, tolerance: float) -> None:
    p = bent().to(dtype)
    n = estimate_normals(p)
    for sign in (1.0, -1.0):
        for r in sign * random_rotations(3).to(dtype):
            turned = estimate_normals(p @ r.T + torch.tensor([3.0, -1, 2], dtype=dtype))
            assert float((turned - n @ r.T).abs().max()) < tolerance


def test_order_and_company_do_not_matter() -> None:
    a, b = bent(80), 5 + 3 * bent(50, 1)
    batch = torch.tensor([0] * 80 + [1] * 50)
    assert torch.equal(estimate_normals(torch.cat([a, b]), 9, batch)[80:], estimate_normals(b, 9))
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(estimate_normals(a[order], 9), estimate_normals(a, 9)[order], atol=1e-12)


def test_where_no_direction_is_the_one_there_is_none() -> None:
    """Whatever came out there would turn otherwise than the cloud does."""
    line = torch.linspace(0, 1, 9)[:, None] * torch.tensor([[1.0, 2, 3]])
    flat = torch.cat([torch.rand(40, 2), torch.zeros(40, 1)], 1) @ random_rotations(1)[0].float()
    for p in (torch.zeros(5, 3), torch.ones(1, 3), torch.randn(2, 3), line, flat):
        assert torch.equal(estimate_normals(p), torch.zeros_like(p))
    assert torch.allclose(estimate_normals(flat, outward=False).norm(dim=1), torch.ones(40), atol=1e-6)
    lattice = torch.cartesian_prod(*[torch.arange(5.0)] * 3)
    inner = ((lattice > 0) & (lattice < 4)).all(1)
    for r in random_rotations(3).float():
        assert float(estimate_normals(lattice @ r.T, 6)[inner].norm(dim=1).max()) == 0
    assert estimate_normals(torch.zeros(0, 3)).shape == (0, 3)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="k is 0; expected"):
        estimate_normals(bent(), 0)
    with pytest.raises(ValueError, match="finite coordinates"):
        estimate_normals(bent() / 0)
