"""From signals on SO(3) to numbers and to signals on the sphere; their normalisation and pooling."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from spheregeo.checks import check_count
from spheregeo.grids import Grid
from spheregeo.harmonics import fejer1
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.sphere.spectral.base import (
    SpectralLayer,
    as_grid,
    check_channels,
    degree_between,
    draw,
    make_analysis,
    rotation_slice,
)
from spheregeo.nn.sphere.spectral.degrees import project
from spheregeo.nn.sphere.spectral.kernels import SpectralKernel
from spheregeo.nn.statistics import normalize, working_dtype
from spheregeo.spectral import (
    InverseSHT,
    InverseSO3Transform,
    SO3Grid,
    SO3Transform,
    degrees,
    resolved_degree,
)


def haar_shares(lmax: int) -> Tensor:
    """Weights of the rotations of :class:`~spheregeo.spectral.SO3Transform` in a mean over SO(3), by β; those of a β are equal.

    Args:
        lmax: of the transform, with 2b = 2 (lmax + 1) angles of each kind.

    Shape: (2b,), with sum 1 / (2b)², float64.
    """
    size = 2 * (lmax + 1)
    weights = fejer1(size)[1]
    return weights / weights.sum() / size**2


class SO3Integrate(SpectralLayer):
    """Mean over all rotations, by Haar's measure with total 1: what no rotation of the input changes.

    Args:
        lmax: largest degree of the signals' grid, 2b × 2b × 2b rotations with b = lmax + 1.

    Shape: (B, C, 2b, 2b, 2b) -> (B, C).
    Equivariance: invariant to SO(3), exactly for signals of degree ≤ 2 lmax + 1, beyond what the grid's transform keeps.
    Raises: ValueError for an input of another shape.
    Reference: Cohen et al. 2018, arXiv:1801.10130, section 5; integrals by s2cnn's ``so3_integrate`` are 8π² times as large.

    Example:
        >>> import torch
        >>> from spheregeo.nn import SO3Integrate
        >>> SO3Integrate(2)(torch.ones(1, 3, 6, 6, 6))
        tensor([[1., 1., 1.]])
    """

    share: Tensor

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = check_count("lmax", lmax, 0)
        self.keep("share", haar_shares(lmax))

    def forward(self, x: Tensor) -> Tensor:
        self._fits(x, None, self.lmax)
        return self._compute(lambda x: x.sum((-1, -2)) @ self.share.to(x.dtype), x)

    def extra_repr(self) -> str:
        return f"{self.lmax}"


class SO3ToS2(SpectralLayer):
    r"""A signal on the sphere from one on SO(3): the mean over turns about each point, or a learned projection.

    With a kernel of point masses w_k at p_k, y(R e_z) is the mean over γ of Σ_k w_k h(R R_z(γ) Q_k⁻¹) with Q_k e_z = p_k:

        y_lm = Σ_n h^l_mn c_ln,    c_ln = 4π/(2l + 1) Σ_k w_k S_ln(p_k).

    Args:
        in_channels, out_channels: channels of input and output, equal without a kernel.
        lmax_in: largest degree of the input's grid, 2b × 2b × 2b rotations with b = lmax_in + 1.
        target: grid of the output; None for ``Equiangular(2b, 2b)``, the input's own points.
        lmax: largest degree kept; None for the largest that both grids hold.
        kernel: a kernel on the sphere, of which each pair of channels learns the weights; None for the plain mean over γ.
        bias: whether to add a learned constant to every output channel, with a kernel.

    Shape: (B, in_channels, 2b, 2b, 2b) -> (B, out_channels, *target.shape).
    Equivariance: SO(3), exact for band-limited signals (1e-15 measured in float64).
    Raises: ValueError for channels, degrees or input that do not fit.
    Reference: Gerken, Carlsson, Linander, Ohlsson, Petersson & Persson 2022, arXiv:2202.03990; its Σ_n h^l_mn has complex
        harmonics, of whose sum the real part is that over even n alone; a learned c_ln holds all.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import SO3ToS2
        >>> SO3ToS2(3, 3, 2, HEALPix(2))(torch.randn(1, 3, 6, 6, 6)).shape
        torch.Size([1, 3, 48])
    """

    table: Tensor | None
    scale: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        lmax_in: int,
        target: Grid | int | None = None,
        *,
        lmax: int | None = None,
        kernel: SpectralKernel | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_channels(in_channels=in_channels, out_channels=out_channels)
        if kernel is None and in_channels != out_channels:
            raise ValueError(
                f"in_channels is {in_channels} and out_channels {out_channels}; expected equal ones for the mean over γ, "
                "or a kernel"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.lmax_in = check_count("lmax_in", lmax_in, 0)
        self.target = rotation_slice(lmax_in) if target is None else as_grid("target", target)
        self.lmax = degree_between(lmax, self.lmax_in, resolved_degree(self.target, "layer"))
        self.kernel = kernel
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        self.analysis: nn.Module
        if kernel is None:
            self.analysis = make_analysis(rotation_slice(self.lmax_in), self.lmax)
        else:
            self.analysis = SO3Transform(self.lmax, SO3Grid(self.lmax_in + 1))
            table = kernel.on_sphere(self.lmax)
            # mean over γ: D^l_m0 = √(4π/(2l + 1)) S_lm; a point mass at the pole has S_l0 = √((2l + 1)/4π)
            scale = 4 * math.pi / (2 * degrees(self.lmax).double() + 1)
            weights = len(scale if table is None else table)
            self.table = self.scale = None
            if table is None:
                self.keep("scale", scale.sqrt())  # each degree keeps its variance
            else:
                self.keep("table", table * scale)
            self.weight = nn.Parameter(torch.empty(out_channels, in_channels, weights))
            self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
            self._fan_in = in_channels * (1 if table is None else weights)
            self.reset_parameters()
        self.synthesis = InverseSHT(self.target, self.lmax)

    def reset_parameters(self) -> None:
        """Draw weights so that a signal of unit variance leaves with about unit variance at most."""
        if self.weight is not None:
            draw(self.weight, self._fan_in)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        self._fits(x, self.in_channels, self.lmax_in)
        return self._compute(self._project, x)

    def _project(self, x: Tensor) -> Tensor:
        if self.weight is None:
            y: Tensor = self.synthesis(self.analysis(x.mean(-1)))
            return y
        weight = self.weight.to(x.dtype)
        if self.table is not None:
            weight = weight @ self.table.to(x.dtype)
        elif self.scale is not None:
            weight = weight * self.scale.to(x.dtype)
        y = self.synthesis(project(self.analysis(x), weight, self.lmax))
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, *[1] * len(self.target.shape))

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.lmax_in}, {self.target!r}, lmax={self.lmax}, "
            f"kernel={self.kernel!r}, bias={self.bias is not None}"
        )


class SO3BatchNorm(_NormBase, ExactBuffers):
    """Batch norm of signals on SO(3): each rotation counts by Haar's measure, so that no rotation changes the statistics.

    Running variances are the weighted ones, without Bessel's correction.

    Args:
        num_features: channels.
        lmax: largest degree of the signals' grid, 2b × 2b × 2b rotations with b = lmax + 1.
        eps: added to the variance.
        momentum: share of a batch in the running statistics; None for the mean of all batches.
        affine: whether to learn a scale and a shift.
        track_running_stats: whether to keep running statistics for evaluation.

    Shape: (B, num_features, 2b, 2b, 2b) -> the same.
    Equivariance: SO(3), exact: the statistics are integrals that the grid's rule has exactly.
    Raises: ValueError for an input of another shape.
    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.

    Example:
        >>> import torch
        >>> from spheregeo.nn import SO3BatchNorm
        >>> SO3BatchNorm(3, 2)(torch.randn(2, 3, 6, 6, 6)).shape
        torch.Size([2, 3, 6, 6, 6])
    """

    share: Tensor

    def __init__(
        self,
        num_features: int,
        lmax: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        _NormBase.__init__(self, num_features, eps, momentum, affine, track_running_stats)
        self.lmax = check_count("lmax", lmax, 0)
        self.keep("share", haar_shares(lmax).repeat_interleave((2 * (lmax + 1)) ** 2))

    def forward(self, x: Tensor) -> Tensor:
        SpectralLayer._fits(self, x, self.num_features, self.lmax)  # type: ignore[arg-type]
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            flat = x.flatten(2).to(dtype)
            y = normalize(flat, self.share.to(dtype), self.weight, self.bias, eps=self.eps, norm=self)
        return y.to(x.dtype).view(x.shape)

    def extra_repr(self) -> str:
        return f"{_NormBase.extra_repr(self)}, lmax={self.lmax}"


class SO3SpectralPool(SpectralLayer):
    """Signals on SO(3) brought to another grid by their coefficients: cut off above a lower degree, or exact on a finer grid.

    Args:
        lmax_in: largest degree of the input's grid, 2b × 2b × 2b rotations with b = lmax_in + 1.
        lmax_out: largest degree of the output's grid.

    Shape: (B, C, 2b, 2b, 2b) -> (B, C, 2b', 2b', 2b').
    Equivariance: SO(3), exact for band-limited signals.
    Raises: ValueError for an input of another shape.
    Reference: Esteves, Makadia & Daniilidis 2020, arXiv:2006.10731.

    Example:
        >>> import torch
        >>> from spheregeo.nn import SO3SpectralPool
        >>> SO3SpectralPool(3, 1)(torch.randn(1, 2, 8, 8, 8)).shape
        torch.Size([1, 2, 4, 4, 4])
    """

    def __init__(self, lmax_in: int, lmax_out: int) -> None:
        super().__init__()
        self.lmax_in, self.lmax_out = check_count("lmax_in", lmax_in, 0), check_count("lmax_out", lmax_out, 0)
        lmax = min(self.lmax_in, self.lmax_out)
        self.analysis = SO3Transform(lmax, SO3Grid(lmax_in + 1))
        self.synthesis = InverseSO3Transform(lmax, SO3Grid(lmax_out + 1))

    def forward(self, x: Tensor) -> Tensor:
        self._fits(x, None, self.lmax_in)
        return self._compute(lambda x: self.synthesis(self.analysis(x)), x)

    def extra_repr(self) -> str:
        return f"{self.lmax_in}, {self.lmax_out}"
