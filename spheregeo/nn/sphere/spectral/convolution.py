r"""Convolution on the sphere and on SO(3) by products of coefficients.

On the sphere and on SO(3) the correlation with a filter ψ is

    (f ⋆ ψ)(R) = ∫ f(x) ψ(R⁻¹x) dx:    h^l_mn = f_lm ψ_ln
    (h ⋆ ψ)(R) = ∫ h(Q) ψ(R⁻¹Q) dQ:    out^l_mk = 8π²/(2l + 1) Σ_n h^l_mn ψ^l_kn

in real harmonics and the real Wigner matrices of :class:`~spheregeo.spectral.SO3Transform`. A rotation of the input multiplies
f_lm and h^l_mn by D^l from the left, on the index m, which the filter leaves alone.
Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130, eq. 4-10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count
from spheregeo.grids import Grid
from spheregeo.grids.cache import geometry
from spheregeo.nn.sphere.spectral.base import (
    SpectralLayer,
    as_grid,
    check_channels,
    degree_between,
    draw,
    make_analysis,
)
from spheregeo.nn.sphere.spectral.degrees import correlate, lift, rotation_sizes
from spheregeo.nn.sphere.spectral.kernels import NearIdentity, SpectralKernel
from spheregeo.spectral import InverseSO3Transform, SO3Grid, SO3Transform, resolved_degree


class _Convolution(SpectralLayer):
    """Weights, bias and synthesis on SO(3)."""

    table: Tensor | None
    scale: Tensor | None
    synthesis: nn.Module

    def _set(
        self, in_channels: int, out_channels: int, kernel: SpectralKernel | None, bias: bool, lmax_out: int
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel = NearIdentity() if kernel is None else kernel
        self.lmax_out = check_count("lmax_out", lmax_out, 0)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.table = self.scale = None

    def _filters(self) -> Tensor | None:
        """Table from weights to coefficients, None where the weights are coefficients."""
        raise NotImplementedError

    def _build(self, name: str, dtype: torch.dtype) -> Tensor:
        table = self._filters()
        assert table is not None
        return table.to(dtype)

    def _place(self, scale: Tensor) -> None:
        if not self.kernel.tabulated:
            self.keep("scale", scale)
            weights = len(scale)
        else:
            self.keep(
                "table"
            )  # made anew for another dtype: in float64 as well it would take three times the memory
            assert self.table is not None
            weights = len(self.table)
        self.weight = nn.Parameter(torch.empty(self.out_channels, self.in_channels, weights))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights so that a signal of unit variance leaves with unit variance, on average over filters."""
        fan_in = self.in_channels * (self.weight.shape[2] if self.table is not None else 1)
        draw(self.weight, fan_in)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def spectrum(self, dtype: torch.dtype | None = None) -> Tensor:
        """The filters' coefficients, as they are multiplied with the signal's. Shape: (out, in, coefficients).

        Args:
            dtype: of the result; that of the weights if None.
        """
        weight = self.weight if dtype is None else self.weight.to(dtype)
        if self.table is not None:
            return weight @ self.table.to(weight.dtype)
        assert self.scale is not None
        return weight * self.scale.to(weight.dtype)

    def _samples(self, h: Tensor) -> Tensor:
        y: Tensor = self.synthesis(h)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None, None]


class S2Conv(_Convolution):
    """Correlation of signals on the sphere with learned filters; the output is a signal on SO(3), one value for each rotation.

    Args:
        in_channels, out_channels: channels of input and output.
        source: grid of the input; a whole number lmax for s2cnn's ``Equiangular(2b, 2b)`` with b = lmax + 1.
        lmax_out: largest degree of the output's grid, 2b × 2b × 2b rotations (β, α, γ) with b = lmax_out + 1, see
            :class:`~spheregeo.spectral.SO3Transform`.
        lmax: largest degree kept; None for the largest that both grids hold. A pointwise nonlinearity after the layer aliases
            less where lmax is below lmax_out.
        kernel: :class:`NearIdentity`, :class:`Equatorial` or :class:`FullSpectrum`; None for the first on its defaults.
        bias: whether to add a learned constant to every output channel.

    Shape: (B, in_channels, *source.shape) -> (B, out_channels, 2b, 2b, 2b); weight (out, in, K).
    Equivariance: SO(3), exact for band-limited signals on grids whose transform is exact (6e-16 measured in float64).
    Raises: ValueError for sizes, degrees or input that do not fit.
    Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130, eq. 4.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.nn import S2Conv
        >>> S2Conv(2, 3, GaussLegendre(8, 16), 3)(torch.randn(1, 2, 8, 16)).shape
        torch.Size([1, 3, 8, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        source: Grid | int,
        lmax_out: int,
        *,
        lmax: int | None = None,
        kernel: SpectralKernel | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self._set(in_channels, out_channels, kernel, bias, lmax_out)
        self.source = as_grid("source", source)
        self.lmax = degree_between(lmax, resolved_degree(self.source, "layer"), self.lmax_out)
        self.analysis = make_analysis(self.source, self.lmax)
        self.synthesis = InverseSO3Transform(self.lmax, SO3Grid(self.lmax_out + 1))
        size = (self.lmax + 1) ** 2
        scale = torch.full((size,), 1 / math.sqrt(4 * math.pi), dtype=torch.float64)
        self._place(scale)

    def _filters(self) -> Tensor | None:
        return geometry.get(
            ("kernel on the sphere", self.kernel, self.lmax), lambda: self.kernel.on_sphere(self.lmax)
        )

    def forward(self, x: Tensor) -> Tensor:
        self._fits(x, self.in_channels, self.source)
        return self._compute(self._convolve, x)

    def _convolve(self, x: Tensor) -> Tensor:
        return self._samples(lift(self.analysis(x), self.spectrum(x.dtype), self.lmax))

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.source!r}, {self.lmax_out}, lmax={self.lmax}, "
            f"kernel={self.kernel!r}, bias={self.bias is not None}"
        )


class SO3Conv(_Convolution):
    """Correlation of signals on SO(3) with learned filters.

    Args:
        in_channels, out_channels: channels of input and output.
        lmax_in: largest degree of the input's grid, 2b × 2b × 2b rotations (β, α, γ) with b = lmax_in + 1.
        lmax_out: largest degree of the output's grid; ``lmax_in`` if None.
        lmax: largest degree kept; None for the lesser of both. A pointwise nonlinearity aliases less where lmax is below the
            degrees of the grids beside it.
        kernel: :class:`NearIdentity`, :class:`Equatorial` or :class:`FullSpectrum`; None for the first on its defaults.
        bias: whether to add a learned constant to every output channel.

    Shape: (B, in_channels, 2b, 2b, 2b) -> (B, out_channels, 2b', 2b', 2b'); weight (out, in, K).
    Equivariance: SO(3), exact for band-limited signals (1e-15 measured in float64). With a ReLU before it: see the guide.
    Raises: ValueError for sizes, degrees or input that do not fit.
    Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130, eq. 8.

    Example:
        >>> import torch
        >>> from spheregeo.nn import SO3Conv
        >>> SO3Conv(2, 3, 3, 2)(torch.randn(1, 2, 8, 8, 8)).shape
        torch.Size([1, 3, 6, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        lmax_in: int,
        lmax_out: int | None = None,
        *,
        lmax: int | None = None,
        kernel: SpectralKernel | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.lmax_in = check_count("lmax_in", lmax_in, 0)
        self._set(in_channels, out_channels, kernel, bias, self.lmax_in if lmax_out is None else lmax_out)
        self.lmax = degree_between(lmax, self.lmax_in, self.lmax_out)
        self.analysis = SO3Transform(self.lmax, SO3Grid(self.lmax_in + 1))
        self.synthesis = InverseSO3Transform(self.lmax, SO3Grid(self.lmax_out + 1))
        scale = [
            torch.full((size,), size**-0.25, dtype=torch.float64) for size in rotation_sizes(self.lmax)
        ]  # 1 / √(2l + 1)
        self._place(torch.cat(scale))

    def _filters(self) -> Tensor | None:
        return geometry.get(
            ("kernel on rotations", self.kernel, self.lmax), lambda: self.kernel.on_rotations(self.lmax)
        )

    def forward(self, x: Tensor) -> Tensor:
        self._fits(x, self.in_channels, self.lmax_in)
        return self._compute(self._convolve, x)

    def _convolve(self, x: Tensor) -> Tensor:
        return self._samples(correlate(self.analysis(x), self.spectrum(x.dtype), self.lmax))

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.lmax_in}, {self.lmax_out}, lmax={self.lmax}, "
            f"kernel={self.kernel!r}, bias={self.bias is not None}"
        )
