"""Weak lensing of the sky: a map seen along directions that a potential's gradient has deflected, T̃(n) = T(n + ∇φ).

The displaced direction lies on the geodesic from n along the deflection, at the distance of the deflection's length; tangent
fields are carried back along that geodesic, by which their components turn.
Reference: Lewis & Challinor 2006, Phys. Rep. 429, arXiv astro-ph/0601594; Challinor & Lewis 2005, arXiv astro-ph/0502425.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.spectral.operators import gradient, largest_degree
from spheregeo.spectral.scattered import angles_of, synthesis_at
from spheregeo.spectral.sht import InverseSHT

__all__ = ["deflection_field", "displaced", "lens", "turn_between"]


def deflection_field(potential: Tensor, grid: Grid) -> Tensor:
    """Deflection ∇φ of a lensing potential.

    Args:
        potential: coefficients of the potential φ.
        grid: where the deflection is evaluated.

    Shape: (..., (lmax + 1)²) -> (..., 2, *grid.shape), components along south and east.
    Units: radians.
    Equivariance: exact.
    Raises: ValueError for other shapes.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.spectral import deflection_field
        >>> deflection_field(torch.zeros(25), HEALPix(4)).shape
        torch.Size([2, 192])
    """
    synthesis = InverseSHT(grid, largest_degree(potential), spin=1).to(potential.device)
    field: Tensor = synthesis(gradient(potential))
    return field


def _frames(points: Tensor) -> tuple[Tensor, Tensor]:
    """South and east at directions (..., 3), those at poles along their stored longitude."""
    theta, phi = angles_of(points)
    south = torch.stack([theta.cos() * phi.cos(), theta.cos() * phi.sin(), -theta.sin()], -1)
    return south, torch.stack([-phi.sin(), phi.cos(), torch.zeros_like(phi)], -1)


def displaced(deflection: Tensor, grid: Grid) -> Tensor:
    """Directions at which a deflected observer looks: the end of the geodesic that leaves each point along the deflection.

    Args:
        deflection: components along south and east, in radians.
        grid: the deflection's grid.

    Shape: (..., 2, *grid.shape) -> (..., N, 3) float64.
    Raises: ValueError for another shape.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.spectral import displaced
        >>> bool(torch.allclose(displaced(torch.zeros(2, 192), HEALPix(4)), HEALPix(4).points))
        True
    """
    expected = (2, *grid.shape)
    if tuple(deflection.shape[-len(expected) :]) != expected:
        raise ValueError(
            f"deflection has shape {tuple(deflection.shape)}; expected (..., {', '.join(map(str, expected))})"
        )
    flat = deflection.double().flatten(-len(grid.shape))  # (..., 2, N)
    points, frames = grid.points.to(flat.device), grid.frames.to(flat.device)
    length = flat.norm(dim=-2)[..., None]  # (..., N, 1)
    tangent = flat[..., 0, :, None] * frames[:, 0] + flat[..., 1, :, None] * frames[:, 1]
    return length.cos() * points + torch.sinc(length / torch.pi) * tangent


def turn_between(source: Tensor, points: Tensor, frames: Tensor) -> Tensor:
    """Angle by which components turn when a vector is carried along the geodesic from one direction to another.

    Args:
        source: directions at which vectors stand, in frames (south, east).
        points: directions to which they are carried.
        frames: unit tangent vectors (south, east) there.

    Shape: source (..., N, 3), points (N, 3), frames (N, 2, 3) -> (..., N).
    Units: radians.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.spectral import turn_between
        >>> grid = HEALPix(1)
        >>> float(turn_between(grid.points, grid.points, grid.frames).abs().max()) < 1e-12
        True
    """
    south, _ = _frames(source)
    both = source + points
    share = (points * south).sum(-1, keepdim=True) / (1 + (points * source).sum(-1, keepdim=True))
    carried = (
        south - share * both
    )  # the least rotation from source to point, of a vector tangent at the source
    return torch.atan2((frames[..., 1, :] * carried).sum(-1), (frames[..., 0, :] * carried).sum(-1))


def lens(
    coefficients: Tensor, deflection: Tensor, grid: Grid, spin: int = 0, accuracy: float | None = None
) -> Tensor:
    """Lensed field: the field of given coefficients, read at deflected directions. Differentiable in both, in
    deflections save where they lead to a pole.

    Args:
        coefficients: coefficients of the unlensed field, as :class:`InverseSHT` takes them.
        deflection: deflection at each point of the grid, such as :func:`deflection_field` gives.
        grid: grid of the deflection and of the lensed field.
        spin: order of the tangent field, 2 for polarisation; 0 for scalars.
        accuracy: error of the reading relative to the field's size, as in :func:`synthesis_at`.

    Shape: scalars (..., (lmax + 1)²), tangent fields (..., 2, (lmax + 1)²); deflection (2, *grid.shape) for all of them, or
        (..., 2, *grid.shape) with the same leading axes -> (..., *grid.shape) or (..., 2, *grid.shape).
    Units: deflection in radians.
    Equivariance: exact to ``accuracy``.
    Raises: ValueError for shapes that do not fit.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.spectral import lens
        >>> lens(torch.randn(3, 25), torch.zeros(2, 192), HEALPix(4)).shape
        torch.Size([3, 192])
    """
    looked = displaced(deflection, grid)
    inner = 1 if spin == 0 else 2
    leading = coefficients.shape[:-inner]
    if looked.ndim > 2 and looked.shape[:-2] != leading:
        raise ValueError(
            f"deflection has leading axes {tuple(looked.shape[:-2])} but coefficients have {tuple(leading)}; expected equal ones"
        )
    if looked.ndim == 2:
        found = synthesis_at(coefficients, looked, spin, accuracy)
    else:
        pairs = zip(coefficients.flatten(0, -inner - 1), looked.flatten(0, -3), strict=True)
        found = torch.stack([synthesis_at(one, there, spin, accuracy) for one, there in pairs])
        found = found.unflatten(0, leading)
    if spin:
        points, frames = grid.points.to(looked.device), grid.frames.to(looked.device)
        turn = spin * turn_between(looked, points, frames)
        cos, sin = turn.cos().to(found.dtype), turn.sin().to(found.dtype)
        first, second = found.unbind(-2)
        found = torch.stack([cos * first - sin * second, sin * first + cos * second], -2)
    return found.unflatten(-1, grid.shape)
