r"""Fourier transforms of real functions on SO(3) between a grid of Euler angles and coefficients of the real matrices D^l.

h(R) = Σ_l Σ_mn h^l_mn D^l_mn(R), with D^l the orthogonal matrices that turn the real harmonics, S_l(R x) = D^l(R) S_l(x).
By Peter and Weyl's theorem h^l_mn = (2l + 1)/8π² ∫ h D^l_mn dR.
Reference: Kostelec & Rockmore 2008, "FFTs on the rotation group", J. Fourier Anal. Appl. 14; stages and signs are those of
:mod:`.tables`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count, check_tensor
from spheregeo.constants import on
from spheregeo.spectral.so3.grid import SO3Grid
from spheregeo.spectral.so3.stages import project, synthesise
from spheregeo.spectral.so3.tables import block_offsets


class _SO3Module(nn.Module):
    """What the transform and its inverse share: sizes, checks, and the flattening of leading axes."""

    def __init__(self, lmax: int, grid: SO3Grid | None = None, nmax: int | None = None) -> None:
        super().__init__()
        self.lmax = check_count("lmax", lmax, 0)
        self.nmax = self.lmax if nmax is None else min(check_count("nmax", nmax, 0), self.lmax)
        self.grid = SO3Grid(self.lmax + 1, 2 * self.nmax + 2) if grid is None else grid
        if self.grid.bandwidth <= self.lmax:
            raise ValueError(
                f"grid has bandwidth {self.grid.bandwidth}; expected at least lmax + 1 = {self.lmax + 1}"
            )
        if self.grid.num_gamma <= 2 * self.nmax:
            raise ValueError(
                f"grid has {self.grid.num_gamma} angles gamma; expected more than 2 nmax = {2 * self.nmax}"
            )
        self.size = int(block_offsets(self.lmax, self.nmax)[-1])

    def extra_repr(self) -> str:
        """Arguments of the constructor."""
        return f"lmax={self.lmax}, grid={self.grid}, nmax={self.nmax}"

    def _synthesise(self, coefficients: Tensor) -> Tensor:
        check_tensor(coefficients, "coefficients")
        if coefficients.ndim < 1 or coefficients.shape[-1] != self.size:
            raise ValueError(
                f"coefficients has shape {tuple(coefficients.shape)}; expected (..., {self.size})"
            )
        flat = _computed(coefficients).reshape(math.prod(coefficients.shape[:-1]), self.size)
        with torch.autocast(flat.device.type, enabled=False):
            x = synthesise(flat, self.lmax, self.nmax, self.grid.bandwidth, self.grid.num_gamma)
        return x.reshape(*coefficients.shape[:-1], *self.grid.shape).to(coefficients.dtype)

    def _project(self, x: Tensor, weights: Tensor | None) -> Tensor:
        check_tensor(x)
        if x.shape[-3:] != self.grid.shape:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (..., {', '.join(map(str, self.grid.shape))})"
            )
        flat = _computed(x).reshape(math.prod(x.shape[:-3]), *self.grid.shape)
        if weights is not None:
            flat = flat * weights.to(flat)[:, None, None]
        with torch.autocast(flat.device.type, enabled=False):
            c = project(flat, self.lmax, self.nmax, self.grid.bandwidth, self.grid.num_gamma)
        return c.reshape(*x.shape[:-3], self.size).to(x.dtype)


class InverseSO3Transform(_SO3Module):
    """Synthesis: the function on SO(3) whose coefficients are given, on a grid of Euler angles.

    Args:
        lmax: largest degree.
        grid: where the function is evaluated; a grid of bandwidth lmax + 1 where absent.
        nmax: largest order |n|, of the right index; lmax where absent. Coefficients then are the columns |n| ≤ nmax of each
            matrix, and the grid that stands for an absent one has 2 (nmax + 1) angles γ.

    Shape: (..., Σ_l (2l + 1)²), blocks by degree, each (2l + 1, 2l + 1) row by row, rows m and columns n from −l to l,
        -> (..., 2b, 2b, num_gamma), axes β, α, γ.
    Equivariance: exact; the function h(Q⁻¹R) has the coefficients D^l(Q) h^l.
    Raises: ValueError for other shapes, and for grids too coarse for lmax or nmax.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import InverseSO3Transform
        >>> InverseSO3Transform(3)(torch.randn(2, 84)).shape
        torch.Size([2, 8, 8, 8])
    """

    def forward(self, coefficients: Tensor) -> Tensor:
        """The function with these coefficients."""
        return self._synthesise(coefficients)

    def adjoint(self, x: Tensor) -> Tensor:
        """The transpose of the synthesis: sums Σ_R x(R) D^l_mn(R) over the grid, without weights."""
        return self._project(x, None)


class SO3Transform(_SO3Module):
    """Analysis: the coefficients of a function on SO(3) sampled on a grid of Euler angles.

    Args:
        lmax: largest degree.
        grid: where the function is given; a grid of bandwidth lmax + 1 where absent.
        nmax: largest order |n|; see :class:`InverseSO3Transform`.

    Shape: (..., 2b, 2b, num_gamma), axes β, α, γ, -> (..., Σ_l (2l + 1)²), as :class:`InverseSO3Transform` has them.
    Equivariance: exact for functions of degrees below 2b − lmax.
    Raises: ValueError for other shapes, and for grids too coarse for lmax or nmax.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import SO3Transform
        >>> SO3Transform(3)(torch.randn(2, 8, 8, 8)).shape
        torch.Size([2, 84])
    """

    def __init__(self, lmax: int, grid: SO3Grid | None = None, nmax: int | None = None) -> None:
        super().__init__(lmax, grid, nmax)
        degrees = torch.arange(self.lmax + 1, dtype=torch.float64)
        counts = torch.from_numpy(block_offsets(self.lmax, self.nmax)).diff()
        self._exact = ((2 * degrees + 1) / (8 * math.pi**2)).repeat_interleave(counts), self.grid.weights

    def _factors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Factor of each coefficient and weight of each β, from float64 to the type and device of ``like``."""
        norms, weights = (on(t, like, like.dtype) for t in self._exact)
        return norms, weights

    def forward(self, x: Tensor) -> Tensor:
        """The function's coefficients."""
        check_tensor(x)
        norms, weights = self._factors(_computed(x))
        return (self._project(x, weights) * norms).to(x.dtype)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """The transpose of the analysis."""
        check_tensor(coefficients, "coefficients")
        norms, weights = self._factors(_computed(coefficients))
        return (self._synthesise(coefficients * norms) * weights[:, None, None]).to(coefficients.dtype)


def _computed(t: Tensor) -> Tensor:
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t
