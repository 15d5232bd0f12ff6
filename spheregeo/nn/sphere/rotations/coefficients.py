r"""Layers between coefficients of functions on the sphere and on SO(3), all degrees up to one lmax.

Coefficients on SO(3) are those of :class:`~spheregeo.spectral.SO3Transform`: blocks h^l_mn by degree, m the index on which
rotations act from the left. All layers but :class:`SO3Rectifier` are products within degrees and commute with SO(3) to rounding.
Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130; Klee, Biza, Platt & Walters 2023, arXiv:2302.13926.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count, check_tensor
from spheregeo.grids import Grid
from spheregeo.grids.cache import geometry
from spheregeo.harmonics import real_harmonics
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.sphere.spectral.base import check_channels, draw
from spheregeo.nn.sphere.spectral.degrees import correlate, lift, rotation_sizes
from spheregeo.nn.sphere.spectral.kernels import NearIdentity, SpectralKernel
from spheregeo.nn.statistics import working_dtype
from spheregeo.spectral import InverseSO3Transform, SO3Grid, SO3Transform


def _check(x: Tensor, channels: int | None, size: int, what: str) -> None:
    """Raises: ValueError unless x is (B, channels, size)."""
    check_tensor(x)
    if x.ndim != 3 or x.shape[2] != size or (channels is not None and x.shape[1] != channels):
        raise ValueError(
            f"x has shape {tuple(x.shape)}; expected (B, {'channels' if channels is None else channels}, {size}), {what}"
        )


class SphereCoefficients(ExactBuffers):
    """Coefficients of functions on a grid of the sphere, by its quadrature weights: c_lm = Σ_p a_p f(p) S_lm(p).

    Args:
        grid: where the functions are given.
        lmax: largest degree.

    Shape: (B, C, *grid.shape) -> (B, C, (lmax + 1)²).
    Equivariance: rotations that permute the grid, exact; others up to its quadrature.
    Raises: ValueError for input of another shape.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import SphereCoefficients
        >>> SphereCoefficients(HEALPix(2), 3)(torch.randn(1, 4, 48)).shape
        torch.Size([1, 4, 16])
    """

    table: Tensor

    def __init__(self, grid: Grid, lmax: int) -> None:
        super().__init__()
        self.grid, self.lmax = grid, check_count("lmax", lmax, 0)
        self.keep("table", grid.areas.reshape(-1, 1) * real_harmonics(grid.points.reshape(-1, 3), lmax))

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if tuple(x.shape[2:]) != tuple(self.grid.shape):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (B, C, {', '.join(map(str, self.grid.shape))}) on {self.grid!r}"
            )
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            return (x.to(dtype).flatten(2) @ self.table.to(dtype)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.grid!r}, {self.lmax}"


class SO3Lift(nn.Module):
    """Correlation of functions on the sphere with learned filters of any shape, global ones: h^l_mn = Σ_i f_i,lm ψ_oi,ln.

    Args:
        in_channels, out_channels: channels of input and output.
        lmax: largest degree.

    Shape: (B, in_channels, (lmax + 1)²) -> (B, out_channels, Σ (2l + 1)²); weight (out, in, (lmax + 1)²).
    Equivariance: SO(3), exact (1e-15 measured in float64).
    Raises: ValueError for sizes or input that do not fit.

    Example:
        >>> import torch
        >>> from spheregeo.nn import SO3Lift
        >>> SO3Lift(4, 2, 3)(torch.randn(1, 4, 16)).shape
        torch.Size([1, 2, 84])
    """

    def __init__(self, in_channels: int, out_channels: int, lmax: int) -> None:
        super().__init__()
        check_channels(in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.lmax = check_count("lmax", lmax, 0)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, (self.lmax + 1) ** 2))
        draw(self.weight, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        _check(x, self.in_channels, (self.lmax + 1) ** 2, f"coefficients on the sphere to degree {self.lmax}")
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            return lift(x.to(dtype), self.weight.to(dtype), self.lmax).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, lmax={self.lmax}"


class SO3Rectifier(nn.Module):
    """ReLU of functions on SO(3), on a grid of rotations, with a learned threshold for each channel.

    Args:
        channels: channels of input and output.
        lmax: largest degree.
        oversampling: bandwidth of the grid in units of lmax + 1, rounded up to an even number.

    Shape: (B, channels, Σ (2l + 1)²) -> the same.
    Equivariance: SO(3) up to what the ReLU aliases: for white coefficients to degree 6 the relative error is 9 % at oversampling
        1 (bandwidth 8), 2.0 % at 1.5 (12), 1.1 % at 2 (14); quarter turns about z from the left are exact.
    Raises: ValueError for sizes or input that do not fit.

    Example:
        >>> import torch
        >>> from spheregeo.nn import SO3Rectifier
        >>> SO3Rectifier(2, 3)(torch.randn(1, 2, 84)).shape
        torch.Size([1, 2, 84])
    """

    def __init__(self, channels: int, lmax: int, *, oversampling: float = 1.5) -> None:
        super().__init__()
        check_channels(channels=channels)
        if not oversampling >= 1:
            raise ValueError(f"oversampling is {oversampling}; expected at least 1")
        self.channels, self.lmax, self.oversampling = channels, check_count("lmax", lmax, 0), oversampling
        bandwidth = math.ceil(round(oversampling * (self.lmax + 1), 9))
        grid = SO3Grid(bandwidth + bandwidth % 2)  # an even one is permuted by quarter turns
        self.synthesis, self.analysis = InverseSO3Transform(self.lmax, grid), SO3Transform(self.lmax, grid)
        self.threshold = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        _check(x, self.channels, self.analysis.size, f"coefficients on SO(3) to degree {self.lmax}")
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            samples = self.synthesis(x.to(dtype)) + self.threshold.to(dtype)[:, None, None, None]
            y: Tensor = self.analysis(samples.relu())
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, lmax={self.lmax}, oversampling={self.oversampling}"


class SO3Correlation(ExactBuffers):
    """Correlation of functions on SO(3) with learned filters, localised ones as a rule: out^l_mk = Σ_i Σ_n h_i^l_mn ψ_oi^l_kn.

    Args:
        in_channels, out_channels: channels of input and output.
        lmax: largest degree.
        kernel: :class:`~spheregeo.nn.NearIdentity`, :class:`~spheregeo.nn.Equatorial` or
            :class:`~spheregeo.nn.FullSpectrum`; None for the first, with 8 · 3 · 8 rotations whose axes move by at most π/8.

    Shape: (B, in_channels, Σ (2l + 1)²) -> (B, out_channels, Σ (2l + 1)²); weight (out, in, K).
    Equivariance: SO(3), exact (1e-15 measured in float64).
    Raises: ValueError for sizes or input that do not fit.

    Example:
        >>> import torch
        >>> from spheregeo.nn import SO3Correlation
        >>> SO3Correlation(2, 1, 3)(torch.randn(1, 2, 84)).shape
        torch.Size([1, 1, 84])
    """

    table: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, lmax: int, *, kernel: SpectralKernel | None = None
    ) -> None:
        super().__init__()
        check_channels(in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.lmax, self.kernel = check_count("lmax", lmax, 0), NearIdentity() if kernel is None else kernel
        self.keep("table")
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, len(self.table)))
        draw(self.weight, in_channels * (len(self.table) if self.kernel.tabulated else 1))

    def _build(self, name: str, dtype: torch.dtype) -> Tensor:
        def make() -> Tensor:
            table = self.kernel.on_rotations(self.lmax)
            if table is None:  # each weight is a coefficient
                scale = [torch.full((n,), n**-0.25, dtype=torch.float64) for n in rotation_sizes(self.lmax)]
                return torch.diag(torch.cat(scale))
            return table

        return geometry.get(("filters on rotations", self.kernel, self.lmax), make).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        size = sum(rotation_sizes(self.lmax))
        _check(x, self.in_channels, size, f"coefficients on SO(3) to degree {self.lmax}")
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            filters = self.weight.to(dtype) @ self.table.to(dtype)
            return correlate(x.to(dtype).contiguous(), filters, self.lmax).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, lmax={self.lmax}, kernel={self.kernel!r}"
