r"""Layers that mix channels degree by degree: y_o,lm = Σ_i w_oi,l f_i,lm, the filters of Driscoll & Healy and of SFNO.

One matrix for each degree commutes with every rotation, for rotations mix the orders m of a degree among themselves, by the
real matrices D^l alike for all channels. Weights that depend on m as well do not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from spheregeo.checks import check_count
from spheregeo.grids import Grid
from spheregeo.nn.sphere.spectral.base import (
    SpectralLayer,
    as_grid,
    check_channels,
    degree_between,
    draw,
    make_analysis,
)
from spheregeo.nn.sphere.spectral.degrees import mix
from spheregeo.spectral import InverseSHT, resolved_degree

OPERATORS = ("dhconv", "diagonal")


class BetweenGrids(SpectralLayer):
    """Transforms between two grids on the sphere."""

    table: Tensor | None

    def _between(self, source: Grid | int, target: Grid | int | None, lmax: int | None) -> None:
        self.source = as_grid("source", source)
        self.target = self.source if target is None else as_grid("target", target)
        self.lmax = degree_between(
            lmax, resolved_degree(self.source, "layer"), resolved_degree(self.target, "layer")
        )

    def _transforms(self) -> None:
        self.analysis = make_analysis(self.source, self.lmax)
        self.synthesis = InverseSHT(self.target, self.lmax)

    def _anchor(self, anchors: int | None) -> int | None:
        """The number of degrees at which a response is learned; the table between them and all degrees."""
        self.table = None
        if anchors is None:
            return None
        anchors = min(check_count("anchors", anchors, 2), self.lmax + 1)
        self.keep("table", interpolation(anchors, self.lmax))
        return anchors

    def _with_bias(self, y: Tensor, bias: Tensor | None) -> Tensor:
        return y if bias is None else y + bias.to(y.dtype).view(-1, *[1] * len(self.target.shape))


def interpolation(anchors: int, lmax: int) -> Tensor:
    """Linear interpolation of a spectrum from evenly spaced degrees to all.

    Args:
        anchors: number of degrees at which the spectrum is given, 0 and lmax among them.
        lmax: largest degree.

    Shape: (anchors, lmax + 1), float64.
    """
    degrees = np.arange(lmax + 1)
    at = np.linspace(0, lmax, anchors)
    rows = [np.interp(degrees, at, np.eye(anchors)[k]) for k in range(anchors)]
    return torch.from_numpy(np.stack(rows))


class ZonalConv(BetweenGrids):
    r"""Convolution with zonal filters, by degrees: one learned value of the filter's spectrum for each, or a few between them.

    As Driscoll and Healy define it, (f * ψ)_lm = 2π √(4π/(2l + 1)) f_lm ψ_l0. The weight is the product of the filter's
    coefficient with the factor, the response to a harmonic of degree l. A spectrum interpolated from few anchors is smooth, so
    that its filter is concentrated about the pole.

    Args:
        in_channels, out_channels: channels of input and output.
        source: grid of the input; a whole number lmax for ``Equiangular(2b, 2b)`` with b = lmax + 1.
        target: grid of the output; that of the input if None.
        lmax: largest degree kept; None for the largest that both grids hold.
        anchors: degrees, evenly from 0 to lmax, at which the response is learned, linear between them; None for all of them.
        bias: whether to add a learned constant to every output channel.

    Shape: (B, in_channels, *source.shape) -> (B, out_channels, *target.shape); weight (out, in, anchors or lmax + 1).
    Equivariance: SO(3) and reflections, exact for band-limited signals on grids whose transform is exact (1e-15 measured in
        float64).
    Raises: ValueError for sizes, degrees or input that do not fit.
    Reference: Driscoll & Healy 1994, theorem 1; Esteves, Allen-Blanchette, Makadia & Daniilidis 2018, arXiv:1711.06721.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import ZonalConv
        >>> ZonalConv(2, 3, HEALPix(4), anchors=4)(torch.randn(1, 2, 192)).shape
        torch.Size([1, 3, 192])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        source: Grid | int,
        target: Grid | int | None = None,
        *,
        lmax: int | None = None,
        anchors: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_channels(in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self._between(source, target, lmax)
        self._transforms()
        self.anchors = self._anchor(anchors)
        count = self.lmax + 1 if self.anchors is None else self.anchors
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, count))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights so that each degree of a signal keeps its variance, on average over filters."""
        draw(self.weight, self.in_channels)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        self._fits(x, self.in_channels, self.source)
        return self._compute(self._convolve, x)

    def _convolve(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        if self.table is not None:
            weight = weight @ self.table.to(x.dtype)
        y = mix(self.analysis(x), weight.permute(2, 0, 1), self.lmax)
        return self._with_bias(self.synthesis(y), self.bias)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.source!r}, {self.target!r}, lmax={self.lmax}, "
            f"anchors={self.anchors}, bias={self.bias is not None}"
        )


class SpectralConv(BetweenGrids):
    """The spectral operator of spherical Fourier neural operators: channels mixed by one matrix for each degree.

    Args:
        in_channels, out_channels: channels of input and output.
        source: grid of the input; a whole number lmax for ``Equiangular(2b, 2b)`` with b = lmax + 1.
        target: grid of the output; that of the input if None.
        lmax: largest degree kept; None for the largest that both grids hold.
        operator: "dhconv" for one real matrix for each degree; "diagonal" for one complex matrix for each (l, m ≥ 0), which has
            lmax / 2 times the weights and breaks the symmetry.
        bias: whether to add a learned constant to every output channel.

    Shape: (B, in_channels, *source.shape) -> (B, out_channels, *target.shape); weight (lmax + 1, out, in) for "dhconv",
        (2, (lmax + 1) (lmax + 2) / 2, out, in) for "diagonal", real and imaginary parts by l, then m.
    Equivariance: "dhconv": SO(3) and reflections, exact for band-limited signals on grids whose transform is exact (1e-15
        measured in float64). "diagonal": only turns about z.
    Raises: ValueError for another operator, or sizes, degrees or input that do not fit.
    Reference: Bonev, Kurth, Hundt, Pathak, Baust, Kashinath & Anandkumar 2023, arXiv:2306.03838, section 4.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.nn import SpectralConv
        >>> SpectralConv(2, 3, GaussLegendre(8, 16))(torch.randn(1, 2, 8, 16)).shape
        torch.Size([1, 3, 8, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        source: Grid | int,
        target: Grid | int | None = None,
        *,
        lmax: int | None = None,
        operator: str = "dhconv",
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_channels(in_channels=in_channels, out_channels=out_channels)
        if operator not in OPERATORS:
            raise ValueError(f"operator is {operator!r}; expected one of {', '.join(map(repr, OPERATORS))}")
        self.in_channels, self.out_channels, self.operator = in_channels, out_channels, operator
        self._between(source, target, lmax)
        self._transforms()
        if operator == "dhconv":
            self.weight = nn.Parameter(torch.empty(self.lmax + 1, out_channels, in_channels))
        else:
            count = (self.lmax + 1) * (self.lmax + 2) // 2
            self.weight = nn.Parameter(torch.empty(2, count, out_channels, in_channels))
            pairs = [(degree, m) for degree in range(self.lmax + 1) for m in range(degree + 1)]
            at = torch.tensor([(degree * (degree + 1) + m, degree * (degree + 1) - m) for degree, m in pairs])
            back = torch.empty((self.lmax + 1) ** 2, dtype=torch.int64)
            back[at[:, 1]] = torch.arange(count) + count
            back[at[:, 0]] = torch.arange(count)
            self.register_buffer("at", at, persistent=False)
            self.register_buffer("back", back, persistent=False)
            self.keep("turns", (at[:, 0] != at[:, 1]).double())  # m = 0 has no imaginary part
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights so that each degree of a signal keeps its variance, on average."""
        draw(self.weight, self.in_channels * (1 if self.operator == "dhconv" else 2))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        self._fits(x, self.in_channels, self.source)
        return self._compute(self._convolve, x)

    def _convolve(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        c = self.analysis(x)
        y = mix(c, weight, self.lmax) if self.operator == "dhconv" else self._diagonal(c, weight)
        return self._with_bias(self.synthesis(y), self.bias)

    def _diagonal(self, c: Tensor, weight: Tensor) -> Tensor:
        at: Tensor = self.at  # type: ignore[assignment]
        cosine, sine = (c.index_select(-1, at[:, k]).permute(2, 1, 0) for k in (0, 1))  # (count, in, B)
        turns: Tensor = self.turns  # type: ignore[assignment]
        real, imaginary = weight[0], weight[1] * turns.to(c.dtype)[:, None, None]
        both = torch.cat([real @ cosine - imaginary @ sine, real @ sine + imaginary @ cosine])
        back: Tensor = self.back  # type: ignore[assignment]
        return both.index_select(0, back).permute(2, 1, 0)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.source!r}, {self.target!r}, lmax={self.lmax}, "
            f"operator={self.operator!r}, bias={self.bias is not None}"
        )


class SpectralPool(BetweenGrids):
    """Fields brought from one grid to another by their coefficients: cut off above a degree, exact where both grids hold it.

    Args:
        source: grid of the input.
        target: grid of the output.
        lmax: largest degree kept; None for the largest that both grids hold.

    Shape: (B, C, *source.shape) -> (B, C, *target.shape).
    Equivariance: SO(3) and reflections, exact for band-limited signals on grids whose transform is exact.
    Raises: ValueError for degrees or input that do not fit.
    Reference: Esteves, Makadia & Daniilidis 2020, arXiv:2006.10731, section 4.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.nn import SpectralPool
        >>> SpectralPool(GaussLegendre(8, 16), GaussLegendre(4, 8))(torch.randn(1, 2, 8, 16)).shape
        torch.Size([1, 2, 4, 8])
    """

    def __init__(self, source: Grid | int, target: Grid | int, *, lmax: int | None = None) -> None:
        super().__init__()
        self._between(source, target, lmax)
        self._transforms()

    def forward(self, x: Tensor) -> Tensor:
        self._fits(x, None, self.source)
        return self._compute(lambda x: self.synthesis(self.analysis(x)), x)

    def extra_repr(self) -> str:
        return f"{self.source!r}, {self.target!r}, lmax={self.lmax}"
