r"""The geometry of gauge-equivariant layers: pairs of points, coefficients by frequency, transports and areas.

A coefficient is :math:`c_{jk}(p, q) = a_q\, \theta_c^{-2}\, \psi_{jk}(r / \theta_c)\, e^{ij\phi_{pq}}`: a quadrature weight times
a polar kernel, so a layer's result does not depend on how densely a surface is sampled, nor on its units.
On the sphere the discrete moments of every function are made the continuous ones (:mod:`spheregeo.kernels.moments`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.grids.cache import geometry
from spheregeo.kernels import CircularHarmonics, Kernel, PolarKernel
from spheregeo.nn.coefficients import coefficients
from spheregeo.sampling.neighbors import Neighborhood
from spheregeo.sampling.surface import surface_neighbors
from spheregeo.sparse import CSRPattern, Pattern, TangentMap

SPHERE_SPACINGS = 3.0
SURFACE_SPACINGS = 2.0
SPHERE_MOMENTS = 3


class GaugeGeometry(nn.Module):
    """Pairs of two sets of points as gauge-equivariant layers read them; built by :meth:`of` or :meth:`from_neighborhood`.

    One geometry serves all layers between its points whose orders add up to at most ``frequency``. Tensors are non-persistent
    buffers, shared by all geometries of equal grids and settings.

    Args:
        map_: :class:`~spheregeo.sparse.TangentMap` between fields in the frames of sources and targets, kept as ``map``.
        areas: (P,) areas of the target points, by which norms and pools weight.
        counts: points of each target surface in a batch of several; None for one surface.
        same_points: whether sources and targets are the same points.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import GaugeGeometry
        >>> GaugeGeometry.of(HEALPix(2)).areas.shape
        torch.Size([48])
    """

    areas: Tensor

    def __init__(
        self, map_: TangentMap, areas: Tensor, counts: tuple[int, ...] | None = None, same_points: bool = True
    ) -> None:
        super().__init__()
        self.same_points = same_points
        self.map = map_
        self.counts = (map_.num_target,) if counts is None else counts
        self.register_buffer("areas", areas, persistent=False)

    @property
    def rings(self) -> int:
        """Radial profiles R."""
        return self.map.rings

    @property
    def frequency(self) -> int:
        """Highest sum of input and output orders served."""
        return self.map.frequency

    @property
    def batch(self) -> Tensor:
        """Surface of each target point, (P,)."""
        device = self.areas.device
        return torch.cat([torch.full((count,), i, device=device) for i, count in enumerate(self.counts)])

    @classmethod
    def of(
        cls,
        source: Grid,
        target: Grid | None = None,
        *,
        radius: float | None = None,
        spacings: float | None = None,
        num_rings: int = 2,
        frequency: int = 4,
        kernel: Kernel | None = None,
        smooth: bool = True,
        moments: int | str | None = "auto",
        log_map: str = "chord",
        transport: str = "normals",
        dtype: torch.dtype | None = None,
        engine: str | None = None,
    ) -> GaugeGeometry:
        """The geometry between two grids, kept by their values.

        Args:
            source, target: sphere grids, or meshes; ``target=None`` keeps the source.
            radius: cutoff, in radians on a sphere and in the mesh's units on a mesh; or
            spacings: cutoff in spacings of the coarser grid: 3 on spheres and 2 on meshes unless said otherwise.
            num_rings: radial profiles of the default kernel, windowed Legendre polynomials.
            frequency: highest sum of input and output orders.
            kernel: isotropic kernel whose functions are the radial profiles, such as ``Rings(5)`` or ``GaussianRings(3)``.
            smooth: whether frequency j vanishes as r^j at the centre; ``False`` as in published mesh networks.
            moments: degree of the moment correction on spheres (3), ``None`` for plain quadrature; meshes take none.
            log_map, transport: of meshes, see :func:`spheregeo.sampling.surface_neighbors`.
            dtype: of the coefficients kept, torch's default if None; computed in float64, and a float64 layer wants them so.
            engine: of the sparse backend.

        Raises: ValueError for settings that do not fit the grids.
        """
        for name, grid in (("source", source), ("target", source if target is None else target)):
            if not isinstance(grid, Grid):
                raise TypeError(f"{name} is {type(grid).__name__}; expected a sphere grid or a TriangleMesh")
        target = source if target is None else target
        dtype = torch.get_default_dtype() if dtype is None else dtype
        for name, value in (("radius", radius), ("spacings", spacings)):
            if value is not None and not (isinstance(value, Real) and 0 < value < math.inf):
                raise ValueError(f"{name} is {value!r}; expected a positive number")
        if radius is not None and spacings is not None:
            raise ValueError(f"radius is {radius} and spacings {spacings}; give the cutoff one way only")
        sphere = source.is_sphere and target.is_sphere
        if source.is_sphere != target.is_sphere:
            raise ValueError(
                f"source is {source!r} and target {target!r}; expected two spheres or two meshes"
            )
        if radius is None:
            spacings = (
                (SPHERE_SPACINGS if sphere else SURFACE_SPACINGS) if spacings is None else float(spacings)
            )
            radius = spacings * max(source.spacing, target.spacing)
            radius = min(radius, math.pi) if sphere else radius
        if moments == "auto":
            moments = SPHERE_MOMENTS if sphere else None
        if moments is not None and (not sphere or not isinstance(moments, int)):
            raise ValueError(
                f"moments is {moments!r}; expected a degree on spheres, None on meshes, or 'auto'"
            )
        if sphere and (log_map, transport) != ("chord", "normals"):
            raise ValueError(
                f"log_map is {log_map!r} and transport {transport!r}; on spheres both are exact, leave them out"
            )
        polar = polar_kernel(kernel, num_rings, frequency, smooth)
        radius = float(radius)
        key = ("gauge", source, target, radius, polar, moments, log_map, transport, dtype)

        def build() -> GaugeGeometry:
            if sphere:
                return _on_sphere(source, target, polar, radius, moments, dtype)  # type: ignore[arg-type]
            same = target == source
            near = surface_neighbors(
                source,
                None if same else target,
                radius=radius,
                log_map=log_map,
                transport=transport,
            )  # type: ignore[arg-type]
            _warn_if_sparse(near, source, radius)
            return cls.from_neighborhood(
                near,
                source.areas,
                radius,
                kernel=polar,
                target_areas=None if same else target.areas,
                dtype=dtype,
            )

        return geometry.get(key, build).shared(engine)

    @classmethod
    def from_neighborhood(
        cls,
        near: Neighborhood,
        areas: Tensor,
        radius: float,
        *,
        kernel: PolarKernel | CircularHarmonics | None = None,
        num_rings: int = 2,
        frequency: int = 4,
        smooth: bool = True,
        target_areas: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> GaugeGeometry:
        """The geometry of any pairs of points: distances, angles and transports need not come from a surface.

        Shape: areas (Q,) quadrature weights of the source points.
        Raises: ValueError for areas that do not match.
        """
        polar = polar_kernel(None, num_rings, frequency, smooth) if kernel is None else kernel
        if areas.ndim != 1 or (len(near.indices) and int(near.indices.max()) >= len(areas)):
            raise ValueError(
                f"areas has shape {tuple(areas.shape)}; expected one number for each source point"
            )
        own = areas if target_areas is None else target_areas
        if len(own) != len(near.indptr) - 1 or own.ndim != 1:
            raise ValueError(
                f"target_areas has shape {tuple(own.shape)}; expected ({len(near.indptr) - 1},), one number per row"
            )
        dtype = torch.get_default_dtype() if dtype is None else dtype
        values = polar(near.distance, near.angle, radius) * (areas.double()[near.indices] / radius**2)
        pattern = CSRPattern.of(near.indptr, near.indices, len(areas))
        return _assemble(pattern, values, near.transport, polar, own, dtype, target_areas is None)

    @classmethod
    def concatenate(cls, geometries: Sequence[GaugeGeometry]) -> GaugeGeometry:
        """One geometry of several surfaces side by side, points one after another: a ragged batch.

        Raises: ValueError for none, or geometries that differ in rings, frequency or dtype.
        """
        if len(geometries) == 1:
            return geometries[0].shared()
        map_ = TangentMap.concatenate([g.map for g in geometries])
        counts = tuple(count for g in geometries for count in g.counts)
        same = all(g.same_points for g in geometries)
        return cls(map_, torch.cat([g.areas for g in geometries]), counts, same)

    def shared(self, engine: str | None = None) -> GaugeGeometry:
        """The same tensors in a module of its own, which may be moved without moving this one."""
        return GaugeGeometry(self.map.shared(engine), self.areas, self.counts, self.same_points)

    def __deepcopy__(self, memo: dict[int, Any]) -> GaugeGeometry:
        return memo.setdefault(id(self), self.shared())  # type: ignore[no-any-return]

    def memory_bytes(self) -> int:
        """Bytes held."""
        return self.map.memory_bytes() + self.areas.numel() * self.areas.element_size()


FEWEST = 4  # neighbours, the point itself included, below which a sum over them is no integral


def _warn_if_sparse(near: Neighborhood, source: Grid, radius: float) -> None:
    """Warn where the radius is too small for the surface: quadrature over one or two vertices depends on their areas."""
    thin = float((near.indptr.diff() < FEWEST).double().mean())
    if thin > 0.1:
        warnings.warn(
            f"{thin:.0%} of the points have fewer than {FEWEST} neighbours within radius {radius:.3g} (the points' spacing is "
            f"{source.spacing:.3g}); take a larger radius or spacings, or a mesh of more even edges",
            stacklevel=4,
        )


def polar_kernel(
    profile: Kernel | None, num_rings: int, frequency: int, smooth: bool
) -> PolarKernel | CircularHarmonics:
    """The functions of a gauge layer: radial profiles times the harmonics up to ``frequency``."""
    if profile is None and smooth:
        return CircularHarmonics(num_rings, frequency)
    return PolarKernel(CircularHarmonics(num_rings, 0) if profile is None else profile, frequency, smooth)


def _on_sphere(
    source: Grid,
    target: Grid,
    polar: PolarKernel | CircularHarmonics,
    radius: float,
    moments: int | None,
    dtype: torch.dtype,
) -> GaugeGeometry:
    found, values = coefficients(source, target, polar, radius, moments, None, False, transport=True)
    return _assemble(
        found.pattern,
        values / radius**2,
        found.neighborhood.transport,
        polar,
        target.areas,
        dtype,
        source == target,
    )


def _assemble(
    pattern: Pattern,
    values: Tensor,
    transport: Tensor,
    polar: PolarKernel | CircularHarmonics,
    areas: Tensor,
    dtype: torch.dtype,
    same_points: bool,
) -> GaugeGeometry:
    """Leave out pairs without coefficients and build the map."""
    keep = (values != 0).any(0)
    if not bool(keep.all()):
        pattern, values, transport = pattern.prune(keep), values[:, keep], transport[keep]
    rings = polar.num_functions // (2 * polar.max_order + 1)
    map_ = TangentMap(pattern, values, transport, rings=rings, dtype=dtype)
    return GaugeGeometry(map_, areas.to(dtype), same_points=same_points)
