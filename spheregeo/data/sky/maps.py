"""HEALPix maps of the sky as values: missing pixels as NaN, either order, coordinate frame, units, polarisation convention."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids import HEALPix

__all__ = ["SkyMap"]

FRAMES = {"G": "Galactic", "E": "ecliptic", "C": "celestial (equatorial)"}
CONVENTIONS = ("COSMO", "IAU")
# Factors to microkelvin, by what stands before the K.
MICROKELVIN = {"": 1e6, "m": 1e3, "milli": 1e3, "u": 1.0, "µ": 1.0, "μ": 1.0, "mu": 1.0, "micro": 1.0}
# K_CMB, "mK,thermodynamic", uKcmb: a temperature; K_CMB^2, K*K or MJy/sr is none
TEMPERATURE = re.compile(
    r"(|m|milli|u|µ|μ|mu|micro)(?:K|[Kk]elvin)((?:[ _,(]*(?:cmb|CMB|rj|RJ|[a-z]{5,})[)]?)?)"
)
UNSTATED = ("", "unknown", "none", "unit", "units", "n/a", "-")


def temperature(unit: str) -> tuple[float, str] | None:
    """The factor that takes a unit to µK and what stands behind the K; None for a unit that is no temperature."""
    found = TEMPERATURE.fullmatch(unit.strip())
    return None if found is None else (MICROKELVIN[found[1]], found[2])


def is_unstated(unit: str) -> bool:
    """Whether a file states no unit, be it in words."""
    return unit.strip().lower() in UNSTATED


def frame_rotation(source: str, target: str) -> Tensor:
    """Return the matrix that takes directions of one coordinate frame of the sky to another's.

    Args:
        source: "G" for Galactic, "E" for ecliptic, "C" for celestial coordinates.
        target: the other frame.

    Shape: (3, 3) float64.
    Raises: ValueError for an unknown frame.
    """
    for name, frame in (("source", source), ("target", target)):
        if frame not in FRAMES:
            known = ", ".join(f"{k} ({v})" for k, v in FRAMES.items())
            raise ValueError(f"{name} is {frame!r}; expected one of {known}")
    import healpy

    return torch.from_numpy(np.array(healpy.Rotator(coord=[source, target]).mat))


@dataclass(frozen=True)
class SkyMap:
    """Fields on one HEALPix grid, with what a FITS file says of them.

    Args:
        values: the fields; NaN where missing.
        grid: their grid.
        names: name of each field, such as I_STOKES.
        units: unit of each field, as written; empty where unknown.
        frame: "G" Galactic, "E" ecliptic, "C" celestial; empty where unknown.
        convention: "COSMO" (angles from south towards east, as tangent fields here) or "IAU" (from north towards east);
            empty where unknown, which is read as COSMO.

    Shape: values (F, 12 nside²) float64.
    Raises: ValueError for arrays, names or words that do not fit.

    Example:
        >>> import numpy as np
        >>> from spheregeo.data import SkyMap
        >>> from spheregeo.grids import HEALPix
        >>> SkyMap(np.zeros((1, 192)), HEALPix(4), ("I",), ("mK",), "G").in_frame("E").frame
        'E'
    """

    values: np.ndarray
    grid: HEALPix
    names: tuple[str, ...]
    units: tuple[str, ...] = ()
    frame: str = ""
    convention: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != self.grid.num_points:
            raise ValueError(
                f"values have shape {self.values.shape}; expected (F, {self.grid.num_points}) on {self.grid!r}"
            )
        if len(self.names) != len(self.values) or len(self.units) not in (0, len(self.values)):
            raise ValueError(
                f"there are {len(self.names)} names and {len(self.units)} units for {len(self.values)} fields; expected one each"
            )
        if self.frame not in ("", *FRAMES):
            raise ValueError(f"frame is {self.frame!r}; expected one of {', '.join(FRAMES)}, or nothing")
        if self.convention not in ("", *CONVENTIONS):
            raise ValueError(f"convention is {self.convention!r}; expected COSMO or IAU, or nothing")
        if not self.units:
            object.__setattr__(self, "units", ("",) * len(self.values))

    def select(self, fields: Sequence[int | str]) -> SkyMap:
        """Return some of the fields, by number or by name. Raises: ValueError for a field that is not there."""
        chosen = []
        for field in fields:
            number = (
                field
                if isinstance(field, int)
                else next((k for k, n in enumerate(self.names) if n == field), len(self.names))
            )
            if not 0 <= number < len(self.names):
                raise ValueError(
                    f"fields has {field!r}; expected some of {', '.join(self.names)}, or their numbers"
                )
            chosen.append(number)
        return replace(
            self, values=self.values[chosen], names=tuple(self.names[k] for k in chosen),
            units=tuple(self.units[k] for k in chosen),
        )  # fmt: skip

    def polarisation(self) -> tuple[int, int] | None:
        """Numbers of the fields Q and U, by the first letters of their names; None where there are none."""
        letters = [name.strip().upper()[:1] for name in self.names]
        return (letters.index("Q"), letters.index("U")) if {"Q", "U"} <= set(letters) else None

    def in_convention(self, convention: str) -> SkyMap:
        """Return the map in a convention of polarisation: U changes its sign between COSMO and IAU.

        Args:
            convention: "COSMO" or "IAU".
        """
        found, values = self.polarisation(), self.values
        if found is not None and convention != (self.convention or "COSMO"):
            values = values.copy()
            values[found[1]] *= -1
        return replace(self, values=values, convention=convention)

    def in_order(self, order: str) -> SkyMap:
        """Return the map with its pixels in an order.

        Args:
            order: "ring" or "nested".
        """
        if order == self.grid.order:
            return self
        import healpy

        grid = HEALPix(self.grid.nside, order)
        pixels = np.arange(grid.num_points)
        convert = healpy.ring2nest if order == "ring" else healpy.nest2ring  # where each new pixel stood
        return replace(self, values=self.values[:, convert(grid.nside, pixels)], grid=grid)

    def at_nside(self, nside: int) -> SkyMap:
        """Return the map on coarser or finer pixels: means of the pixels that are there, or copies.

        Args:
            nside: a power of two. A coarse pixel of which less than half is there is missing.

        Raises: ValueError for an nside that does not divide the map's, or is no multiple of it.
        """
        own = self.grid.nside
        if own == nside:
            return self
        if max(own, nside) % min(own, nside) or any(n & (n - 1) for n in (own, nside)):
            raise ValueError(f"nside is {nside} but the map has {own}; expected powers of two")
        nested = self.in_order("nested").values
        if nside > own:
            values = np.repeat(nested, (nside // own) ** 2, axis=1)
        else:
            parts = nested.reshape(len(nested), 12 * nside**2, -1)
            there = np.isfinite(parts)
            count = there.sum(-1)
            total = np.where(there, parts, 0.0).sum(-1)
            values = np.where(2 * count >= parts.shape[-1], total / np.maximum(count, 1), np.nan)
        return replace(self, values=values, grid=HEALPix(nside, "nested")).in_order(self.grid.order)

    def masked(self, mask: SkyMap) -> SkyMap:
        """Return the map in ring order without the pixels where a mask is at most 1/2.

        Args:
            mask: weights from 0 to 1, in either order, at any resolution; turned where it states another frame than the map.
        """
        if mask.frame and self.frame and mask.frame != self.frame:
            mask = mask.in_frame(self.frame)
        weights = mask.in_order("ring").at_nside(self.grid.nside).values[0]
        ring = self.in_order("ring")
        return replace(ring, values=np.where(weights > 0.5, ring.values, np.nan))

    def in_microkelvin(self) -> SkyMap:
        """Return the map with temperatures in µK; fields without a known unit stay what they are."""
        factors, units = [], []
        for unit in self.units:
            factor, ending = temperature(unit) or (1.0, None)
            factors.append(factor)
            units.append(unit if ending is None else f"uK{ending}")
        return replace(self, values=self.values * np.array(factors)[:, None], units=tuple(units))

    def in_frame(self, frame: str) -> SkyMap:
        """Return the map turned into another coordinate frame, by bilinear interpolation between pixels.

        Q and U turn with the frames south and east; pixels with less than half of their weight there are missing.

        Args:
            frame: "G", "E" or "C".

        Raises: ValueError where the map's own frame is unknown.
        """
        if frame == self.frame:
            return self
        if not self.frame:
            raise ValueError(
                "the map does not say its coordinate frame; set it with dataclasses.replace(map, frame='G')"
            )
        return replace(rotate_map(self, frame_rotation(self.frame, frame)), frame=frame)


def rotate_map(sky: SkyMap, rotation: Tensor) -> SkyMap:
    """Return a map turned by a rotation, (R f)(p) = f(R⁻¹p), by bilinear interpolation; Q and U as the tensor that they are.

    Args:
        sky: the map.
        rotation: matrix (3, 3).

    Raises: ValueError where it is no rotation.
    """
    from spheregeo.sampling import rotate

    grid, found = sky.grid, sky.polarisation()
    values = torch.from_numpy(np.ascontiguousarray(sky.values))
    turned = rotate(values, grid, rotation, missing="renormalize").numpy().copy()
    if found is not None:
        sign = -1.0 if sky.convention == "IAU" else 1.0
        south, east = grid.frames.unbind(1)  # (N, 3)
        outer = lambda a, b: a[:, :, None] * b[:, None, :]  # noqa: E731
        q, u = values[found[0]], sign * values[found[1]]
        tensor = q[:, None, None] * (outer(south, south) - outer(east, east))
        tensor = tensor + u[:, None, None] * (outer(south, east) + outer(east, south))  # (N, 3, 3) in space
        parts = rotate(tensor.flatten(1).T.contiguous(), grid, rotation, missing="renormalize").T.unflatten(
            1, (3, 3)
        )
        matrix = rotation.to(parts)
        parts = matrix @ parts @ matrix.T
        new_q = (
            torch.einsum("ni,nij,nj->n", south, parts, south)
            - torch.einsum("ni,nij,nj->n", east, parts, east)
        ) / 2
        new_u = torch.einsum("ni,nij,nj->n", south, parts, east)
        turned[found[0]], turned[found[1]] = new_q.numpy(), sign * new_u.numpy()
    return replace(sky, values=turned)
