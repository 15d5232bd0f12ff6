r"""Tight frames of needlets on the sphere and on SO(3): fields cut into bands of scales, each sampled as coarsely as it may be.

Band j of a field with coefficients a is v_j = Σ b_j(l) a_lm S_lm, on a grid whose quadrature is exact for products of two bands.
The frame's coefficients are √w_k v_j(x_k) = ⟨f, ψ_jk⟩: their squares add up to ∫ f², and Σ_jk ⟨f, ψ_jk⟩ ψ_jk = f.
Reference: Narcowich, Petrushev & Ward 2006, SIAM J. Math. Anal. 38; Yi et al. 2022, arXiv:2206.10385 (on SO(3)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count
from spheregeo.constants import on
from spheregeo.grids import GaussLegendre, Grid, HEALPix
from spheregeo.harmonics import framelet_windows, needlet_windows
from spheregeo.spectral.sht import SHT, InverseSHT
from spheregeo.spectral.so3 import InverseSO3Transform, SO3Grid, SO3Transform

WINDOWS = ("needlet", "framelet")
_SMALL = 1 << 18  # entries of a transform's matrix up to which the product with it is quicker than the stages


def make_windows(lmax: int, B: float, windows: str | Tensor, lowest: int = 0) -> Tensor:
    """Return windows (scales, lmax + 1) by name, or check those that are given.

    Raises: ValueError for another name, B other than 2 for framelets, or given windows whose squares do not add up to 1.
    """
    if isinstance(windows, Tensor):
        given = windows.detach().to("cpu", torch.float64)
        if given.ndim != 2 or given.shape[1] != lmax + 1:
            raise ValueError(f"windows has shape {tuple(given.shape)}; expected (scales, {lmax + 1})")
        worst = float((given.square().sum(0) - 1).abs().max())
        if not worst < 1e-10:
            raise ValueError(
                f"the squares of windows add up to 1 only within {worst:.1e}; expected a partition of unity"
            )
        return given
    if windows == "needlet":
        return needlet_windows(lmax, B, lowest)
    if windows == "framelet":
        if B != 2:
            raise ValueError(f"B is {B}; framelets halve the degrees from level to level, expected 2")
        return framelet_windows(lmax, lowest)
    raise ValueError(f"windows is {windows!r}; expected {' or '.join(map(repr, WINDOWS))} or a tensor")


class Bands(nn.Module):
    """Windows of a frame: which degrees each scale holds, and how many independent coefficients that is.

    Windows stay in float64 on the CPU and are cast where they are used.
    """

    _areas: list[Tensor]

    def __init__(self, lmax: int, B: float, windows: str | Tensor, lowest: int, copies: int) -> None:
        super().__init__()
        self.lmax, self.B = check_count("lmax", lmax, 0), B
        table = make_windows(self.lmax, B, windows, lowest)
        degrees = torch.arange(lmax + 1, dtype=torch.float64)
        self.largest = [int(degrees[row != 0].max()) if bool((row != 0).any()) else 0 for row in table]
        self.windows = table
        self.freedom: list[float] = (table.square() @ (2 * degrees + 1) ** copies).tolist()

    @property
    def num_scales(self) -> int:
        """Number of bands, the coarse one included."""
        return len(self.largest)

    def window(self, scale: int, like: Tensor, copies: int) -> Tensor:
        """b_j(l) for each coefficient up to the band's largest degree, ``copies`` · (2l + 1) of a degree."""
        top = self.largest[scale]
        degrees = 2 * torch.arange(top + 1, device=like.device) + 1
        row = on(self.windows, like, like.dtype)[scale, : top + 1]
        return row.repeat_interleave(degrees**copies, output_size=_size(top, copies))

    def areas(self, scale: int, like: Tensor) -> Tensor:
        """Weights of a scale's points, as a field of the dtype and device of ``like``: sums to 4π, or 8π² on SO(3)."""
        return on(self._areas[scale], like, like.dtype)

    def check(self, coefficients: Tensor, copies: int) -> None:
        """Raises: ValueError unless the last axis holds the coefficients of all degrees."""
        size = _size(self.lmax, copies)
        if coefficients.ndim < 1 or coefficients.shape[-1] != size:
            raise ValueError(
                f"coefficients has shape {tuple(coefficients.shape)}; expected (..., {size}) for lmax {self.lmax}"
            )

    def check_bands(self, bands: Sequence[Tensor]) -> None:
        """Raises: ValueError unless there is a band for each scale."""
        if len(bands) != self.num_scales:
            raise ValueError(
                f"bands holds {len(bands)} fields; expected {self.num_scales}, one for each scale"
            )


def _size(lmax: int, copies: int) -> int:
    """Number of coefficients up to lmax: Σ (2l + 1)^copies, for 1 on the sphere and 2 on SO(3)."""
    return (lmax + 1) ** 2 if copies == 1 else (lmax + 1) * (2 * lmax + 1) * (2 * lmax + 3) // 3


def _total(parts: list[Tensor], size: int) -> Tensor:
    """Sum of coefficients of several largest degrees, each padded by zeros at the end."""
    total = nn.functional.pad(parts[0], (0, size - parts[0].shape[-1]))
    for part in parts[1:]:
        total = total + nn.functional.pad(part, (0, size - part.shape[-1]))
    return total


class _Matrix(nn.Module):
    """A transform as one matrix, for grids so small that a product is quicker than the transform's stages.

    The matrix stays in float64 on the CPU and is cast where it is used.
    """

    def __init__(self, transform: SHT | InverseSHT, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        super().__init__()
        unit = torch.eye(math.prod(before), dtype=torch.float64).reshape(-1, *before)
        self.matrix = transform(unit).reshape(len(unit), math.prod(after))
        self.axes, self.after = len(before), after

    def forward(self, x: Tensor) -> Tensor:
        wide = x.dtype if x.dtype == torch.float64 else torch.float32
        flat = x.flatten(x.ndim - self.axes).to(wide)
        with torch.autocast(x.device.type, enabled=False):
            y = flat @ on(self.matrix, x, wide)
        return y.unflatten(-1, self.after).to(x.dtype)


class NeedletFrame(Bands):
    """Tight frame of needlets on the sphere: a field's coefficients to one field for each scale, and back.

    Args:
        lmax: largest degree of the fields.
        B: dilation above 1; a band spans degrees from B^{j−1} to B^{j+1}.
        grids: where the bands live: None for Gauss–Legendre grids just fine enough, "healpix" for HEALPix ones with nside =
            largest degree + 1, one grid for all, or one for each scale.
        windows: "needlet", "framelet" (a low pass and two high passes a level), or a table (scales, lmax + 1) whose squares add
            up to 1 at every degree.
        lowest: scale of the first detail band; what lies below is scale 0.
        oversampling: how many times finer than needed the grids of None and "healpix" are; more makes nonlinearities between
            decomposition and reconstruction commute with rotations better.
        spin: order of the tangent fields; 0 for scalars.
        iterations: of the analysis on HEALPix grids.

    Shape: coefficients (..., (lmax + 1)²) <-> list of fields (..., *grids[j].shape), scale 0 the coarsest; with spin an axis of 2
        before the last one, as :class:`~spheregeo.spectral.SHT` has it.
    Equivariance: exact: the rotated field's bands are the rotated bands. Reconstruction: 6e-15 on Gauss–Legendre grids, 1e-13 on
        HEALPix ones with nside = largest degree + 1 and three iterations.
    Raises: ValueError for windows that are no partition of unity, grids of another number, or other shapes.
    Reference: Narcowich, Petrushev & Ward 2006.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import NeedletFrame
        >>> [tuple(band.shape) for band in NeedletFrame(4).decompose(torch.randn(25))]
        [(2, 4), (2, 4), (4, 8), (5, 12)]
    """

    def __init__(
        self,
        lmax: int,
        B: float = 2.0,
        grids: str | Grid | Sequence[Grid] | None = None,
        windows: str | Tensor = "needlet",
        *,
        lowest: int = 0,
        oversampling: float = 1.0,
        spin: int = 0,
        iterations: int = 3,
    ) -> None:
        super().__init__(lmax, B, windows, lowest, copies=1)
        self.spin = spin
        self.grids = self._place(grids, oversampling)
        self._areas = [grid.areas.reshape(grid.shape) for grid in self.grids]
        places = list(zip(self.grids, self.largest))
        more: dict[str, Any] = {"iterations": iterations, "weights": "ring"}
        synthesis = [InverseSHT(g, top, spin) for g, top in places]
        analysis = [SHT(g, top, spin, **(more if isinstance(g, HEALPix) else {})) for g, top in places]
        self.synthesis, self.analysis = nn.ModuleList(), nn.ModuleList()
        for to_grid, to_degrees, (grid, top) in zip(synthesis, analysis, places):
            size, small = (top + 1) ** 2, spin == 0 and (top + 1) ** 2 * grid.num_points <= _SMALL
            self.synthesis.append(_Matrix(to_grid, (size,), grid.shape) if small else to_grid)
            self.analysis.append(_Matrix(to_degrees, grid.shape, (size,)) if small else to_degrees)

    def _place(self, grids: str | Grid | Sequence[Grid] | None, oversampling: float) -> tuple[Grid, ...]:
        if not (math.isfinite(oversampling) and oversampling >= 1):
            raise ValueError(f"oversampling is {oversampling}; expected 1 or more")
        fine = [math.ceil(oversampling * (top + 1)) for top in self.largest]
        if grids is None:  # columns in fours: a quarter turn about the poles permutes them
            return tuple(GaussLegendre(max(n, 2), 4 * ((n + 1) // 2)) for n in fine)
        if isinstance(grids, str):
            if grids != "healpix":
                raise ValueError(
                    f"grids is {grids!r}; expected 'healpix', None, a grid or one for each scale"
                )
            return tuple(HEALPix(n) for n in fine)
        found = (grids,) * self.num_scales if isinstance(grids, Grid) else tuple(grids)
        if len(found) != self.num_scales:
            raise ValueError(
                f"grids holds {len(found)} grids; expected {self.num_scales}, one for each scale"
            )
        return found

    def decompose(self, coefficients: Tensor) -> list[Tensor]:
        """The field's bands, coarse to fine, each on its grid. Shape: (..., (lmax + 1)²) -> list of (..., *grids[j].shape)."""
        self.check(coefficients, 1)
        bands = []
        for scale, synthesis in enumerate(self.synthesis):
            window = self.window(scale, coefficients, 1)
            bands.append(synthesis(coefficients[..., : len(window)] * window))
        return bands

    def reconstruct(self, bands: Sequence[Tensor]) -> Tensor:
        """The coefficients of the field whose bands are given. Shape: list of (..., *grids[j].shape) -> (..., (lmax + 1)²)."""
        self.check_bands(bands)
        return self.combine([analysis(band) for band, analysis in zip(bands, self.analysis)])

    def combine(self, spectra: Sequence[Tensor]) -> Tensor:
        """Σ_j b_j(l) c_j,lm from the bands' coefficients. Shape: list of (..., (largest[j] + 1)²) -> (..., (lmax + 1)²)."""
        parts = [part * self.window(scale, part, 1) for scale, part in enumerate(spectra)]
        return _total(parts, _size(self.lmax, 1))

    def energies(self, bands: Sequence[Tensor]) -> Tensor:
        """∫ v_j² of each band; they add up to ∫ f². Shape: list of (..., *grids[j].shape) -> (..., scales)."""
        self.check_bands(bands)
        found = []
        for scale, band in enumerate(bands):
            weighted = band.square() * self.areas(scale, band)
            found.append(weighted.flatten(band.ndim - len(self.grids[scale].shape)).sum(-1))
        energy = torch.stack(found, -1)
        return energy.sum(-2) if self.spin else energy

    def forward(self, coefficients: Tensor) -> list[Tensor]:
        """The field's bands, see :meth:`decompose`."""
        return self.decompose(coefficients)

    def extra_repr(self) -> str:
        return f"lmax={self.lmax}, B={self.B}, scales={self.num_scales}, spin={self.spin}"


class SO3NeedletFrame(Bands):
    """Tight frame of needlets on SO(3): coefficients of a function to one function for each scale, on its own grid, and back.

    The needlet of scale j is Σ_l b_j(l) (2l + 1)/8π² χ_l(R_k⁻¹R), χ_l the character of degree l.

    Args:
        lmax: largest degree of the functions.
        B: dilation above 1; a band spans degrees from B^{j−1} to B^{j+1}.
        windows: "needlet", "framelet", or a table (scales, lmax + 1) whose squares add up to 1 at every degree.
        lowest: scale of the first detail band; what lies below is scale 0.
        oversampling: how many times finer than needed the grids are in each angle; more makes nonlinearities between
            decomposition and reconstruction commute with rotations better.

    Shape: coefficients (..., Σ_l (2l + 1)²) <-> list of functions (..., 2b_j, 2b_j, 2b_j), b_j = largest degree + 1 without
        oversampling; see :class:`~spheregeo.spectral.SO3Transform`.
    Equivariance: exact: the bands of h(Q⁻¹R) are those of h, at Q⁻¹R. Reconstruction: 1e-14; energy: 1e-15.
    Raises: ValueError for windows that are no partition of unity, or other shapes.
    Reference: Yi et al. 2022, arXiv:2206.10385.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import SO3NeedletFrame
        >>> [tuple(band.shape) for band in SO3NeedletFrame(2).decompose(torch.randn(35))]
        [(2, 2, 2), (4, 4, 4), (6, 6, 6)]
    """

    def __init__(
        self,
        lmax: int,
        B: float = 2.0,
        windows: str | Tensor = "needlet",
        *,
        lowest: int = 0,
        oversampling: float = 1.0,
    ) -> None:
        super().__init__(lmax, B, windows, lowest, copies=2)
        if not (math.isfinite(oversampling) and oversampling >= 1):
            raise ValueError(f"oversampling is {oversampling}; expected 1 or more")
        self.grids = [SO3Grid(math.ceil(oversampling * (top + 1))) for top in self.largest]
        places = list(zip(self.grids, self.largest))
        self.synthesis = nn.ModuleList(InverseSO3Transform(top, grid) for grid, top in places)
        self.analysis = nn.ModuleList(SO3Transform(top, grid) for grid, top in places)
        self._areas = [grid.weights[:, None, None].expand(grid.shape) for grid in self.grids]

    def decompose(self, coefficients: Tensor) -> list[Tensor]:
        """The function's bands, coarse to fine. Shape: (..., Σ_l (2l + 1)²) -> list of (..., 2b_j, 2b_j, 2b_j)."""
        self.check(coefficients, 2)
        bands = []
        for scale, synthesis in enumerate(self.synthesis):
            window = self.window(scale, coefficients, 2)
            bands.append(synthesis(coefficients[..., : len(window)] * window))
        return bands

    def reconstruct(self, bands: Sequence[Tensor]) -> Tensor:
        """The coefficients of the function whose bands are given; see :meth:`decompose` for shapes."""
        self.check_bands(bands)
        return self.combine([analysis(band) for band, analysis in zip(bands, self.analysis)])

    def combine(self, spectra: Sequence[Tensor]) -> Tensor:
        """Σ_j b_j(l) h_j^l from the bands' coefficients, each up to its largest degree."""
        parts = [part * self.window(scale, part, 2) for scale, part in enumerate(spectra)]
        return _total(parts, _size(self.lmax, 2))

    def energies(self, bands: Sequence[Tensor]) -> Tensor:
        """∫ v_j² of each band; they add up to ∫ h². Shape: list of (..., 2b_j, 2b_j, 2b_j) -> (..., scales)."""
        self.check_bands(bands)
        found = [(band.square() * self.areas(j, band)).sum((-3, -2, -1)) for j, band in enumerate(bands)]
        return torch.stack(found, -1)

    def forward(self, coefficients: Tensor) -> list[Tensor]:
        """The function's bands, see :meth:`decompose`."""
        return self.decompose(coefficients)

    def extra_repr(self) -> str:
        return f"lmax={self.lmax}, B={self.B}, scales={self.num_scales}"


__all__ = ["NeedletFrame", "SO3NeedletFrame", "make_windows"]
