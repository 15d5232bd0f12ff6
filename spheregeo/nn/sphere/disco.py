r"""DISCO: discrete-continuous convolution on the sphere, between any two grids.

    y_o(p) = sum_c sum_k W_ock sum_q a_q psi_k(r_pq, phi_pq) x_c(q) + b_o

The filter sum_k W_k psi_k is continuous, the signal a sum over samples q with areas a_q; p may be anywhere.
Reference: Ocampo, Price & McEwen 2023, arXiv:2209.13603, eq. 8-10; the moment correction is this library's
(docs/layers/disco.md).
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.grids import Grid
from spheregeo.kernels import NORMALIZATIONS, Kernel, Rings
from spheregeo.nn.coefficients import disco_map
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.sphere.torch_harmonics import layer_arguments, weights_of, write_weights
from spheregeo.sparse import SparseMap

DEFAULT_SPACINGS = 2.0


class _Disco(ExactBuffers):
    """What a convolution and its transpose share: sizes, weights and the sparse map."""

    _transposed: bool
    map: SparseMap

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        source: Grid,
        target: Grid | None = None,
        *,
        kernel: Kernel | None = None,
        radius: float | None = None,
        spacings: float | None = None,
        groups: int = 1,
        bias: bool = True,
        moments: int | None = 2,
        normalization: str | None = None,
        engine: str | None = None,
        polar: str = "exact",
    ) -> None:
        super().__init__()
        if polar not in ("exact", "averaged"):
            raise ValueError(f"polar is {polar!r}; expected 'exact' or 'averaged'")
        if polar == "averaged" and normalization is not None:
            raise ValueError(f"polar is 'averaged' and normalization {normalization!r}; expected one of them")
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a positive integer")
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups is {groups} but in_channels is {in_channels} and out_channels {out_channels}; "
                "groups must divide both"
            )
        if radius is not None and spacings is not None:
            raise ValueError(f"radius is {radius} and spacings {spacings}; give the cutoff one way only")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.source, self.target = source, source if target is None else target
        self.kernel: Kernel = Rings(3) if kernel is None else kernel
        if radius is None:
            spacings = DEFAULT_SPACINGS if spacings is None else spacings
            radius = min(spacings * max(self.source.spacing, self.target.spacing), math.pi)
        self.radius = float(radius)
        if normalization is not None:
            if normalization not in NORMALIZATIONS:
                raise ValueError(
                    f"normalization is {normalization!r}; expected None or one of {', '.join(NORMALIZATIONS)}"
                )
            moments = None
        self.moments, self.normalization, self.engine, self.polar = moments, normalization, engine, polar
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, self.kernel.num_functions)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.keep("map")
        self.reset_parameters()

    def _build(self, name: str, dtype: torch.dtype) -> SparseMap:
        return disco_map(
            self.source,
            self.target,
            self.kernel,
            self.radius,
            moments=self.moments,
            normalization=self.normalization,
            transposed=self._transposed,
            dtype=dtype,
            engine=self.engine,
            polar=self.polar,
        )

    def reset_parameters(self) -> None:
        """Draw weights so that a white signal of unit variance leaves with unit variance, averaged over points."""
        with torch.no_grad():
            power = self.map.mean_square_rows()  # sum over a row of psi_k^2, averaged over rows: (K,)
            fan_in = self.in_channels // self.groups * self.kernel.num_functions
            limits = torch.finfo(power.dtype)  # a function that meets no sample keeps finite weights
            scale = torch.rsqrt(fan_in * power.clamp_min(max(limits.eps * float(power.max()), limits.tiny)))
            self.weight.normal_().mul_(scale.to(self.weight))
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        shape = self.source.shape
        if x.ndim != 2 + len(shape) or x.shape[1] != self.in_channels or tuple(x.shape[2:]) != tuple(shape):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {self.in_channels}, {', '.join(map(str, shape))}), "
                f"the fields of {self.source!r}"
            )
        y = self.map.mix(x.flatten(2), self.weight, self.groups)
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)[:, None]
        return y.unflatten(2, self.target.shape)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, source={self.source!r}, target={self.target!r}, "
            f"kernel={self.kernel!r}, radius={self.radius:.6g}, groups={self.groups}, bias={self.bias is not None}, "
            f"moments={self.moments}" + (f", polar={self.polar!r}" if self.polar != "exact" else "")
        )

    @classmethod
    def from_torch_harmonics(
        cls,
        module: nn.Module,
        *,
        grid_in: str | None = None,
        grid_out: str | None = None,
        basis_norm_mode: str | None = None,
    ) -> Self:
        """The layer that computes what torch-harmonics' computes, with a copy of its weights.

        Grids and normalisation are found from the module's coefficients; naming them, as torch-harmonics does, narrows
        the search.

        Raises: ValueError for another kind of module, or grids other than "equiangular" and "legendre-gauss".
        """
        arguments = layer_arguments(module, cls._transposed, grid_in, grid_out, basis_norm_mode)
        weight, bias = weights_of(module)
        layer = cls(**arguments).to(weight)
        with torch.no_grad():
            layer.weight.copy_(weight)
            if layer.bias is not None and bias is not None:
                layer.bias.copy_(bias)
        return layer

    def copy_to_torch_harmonics(self, module: nn.Module) -> None:
        """Write this layer's weights into a torch-harmonics layer of the same sizes and basis.

        Raises: ValueError where sizes or bias differ.
        """
        write_weights(
            module, self.weight.detach(), None if self.bias is None else self.bias.detach(), self._transposed
        )

    def flops(self) -> int:
        """Multiplications and additions of one forward pass of one sample, contracting before mixing."""
        k, points = self.kernel.num_functions, self.target.num_points
        boxes = self.map.by_boxes
        nonzeros = (self.map if boxes is None else boxes).num_nonzeros
        contract = 2 * k * self.in_channels * nonzeros
        return contract + 2 * k * self.in_channels * self.out_channels // self.groups * points

    def memory_bytes(self) -> int:
        """Bytes of geometry this layer holds; layers over equal grids and kernels share one copy."""
        return self.map.memory_bytes()


class DiscoConv(_Disco):
    """Convolution on the sphere from samples on one grid to samples on another.

    Args:
        in_channels, out_channels: channels of input and output.
        source: grid of the input.
        target: grid of the output; None for that of the input.
        kernel: filter basis; None for :class:`~spheregeo.kernels.Rings` ``(3)``.
        radius: cutoff in radians.
        spacings: cutoff in spacings of the coarser grid, in place of ``radius``; 2 where neither is given.
        groups: groups of channels that do not mix; it divides both numbers of channels.
        bias: whether to add a learned constant to every output channel.
        moments: degree up to which the discrete moments of every filter are made exact at every point; None for
            plain quadrature. It costs nothing at run time.
        normalization: torch-harmonics' ``basis_norm_mode`` ("none", "nodal", "mean", "support", "geometric" or
            "modal", each with its 1/(4 pi)), for weights trained there; it turns the moment correction off. None leaves
            filters as they are.
        engine: of the sparse backend, see :func:`spheregeo.sparse.engines`; None for the default.
        polar: "exact", or "averaged" to read rows near the poles of lat-lon grids through means over several longitudes
            (docs/layers/disco.md): less work at filters that differ by less than their own radius there. It changes nothing on
            other grids.

    Shape:
        (B, in_channels, *source.shape) -> (B, out_channels, *target.shape); weight (out, in/groups, K).
    Units: radius in radians.
    Equivariance: with an isotropic kernel SO(3), approximate: relative error 1.6e-4 for signals of degree < 8 on
        64x128 at 2 spacings, and falling with resolution. With a directional kernel exact for turns about the z axis
        by whole columns and none beyond: 31 % error for general rotations at radius pi/32 and 58 % at pi/16, at any
        resolution (Morlet(3, 3), degree < 8; docs/guides/equivariance.md).
    Raises: ValueError for sizes, radius or input that do not fit.
    Reference: Ocampo, Price & McEwen 2023, arXiv:2209.13603.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular, HEALPix
        >>> from spheregeo.nn import DiscoConv
        >>> conv = DiscoConv(3, 8, Equiangular(8, 16), HEALPix(4))
        >>> conv(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 8, 192])
    """

    _transposed = False


class DiscoConvTranspose(_Disco):
    """Convolution whose filters are centred at the source points: y(p) = sum_q a_q psi(r_qp, phi_qp) x(q).

    The layer for upsampling: source coarse, target fine. For isotropic kernels it is ``DiscoConv(source, target)``,
    moment correction included; directional filters turn with the frames of the source and stay uncorrected.

    Args:
        in_channels, out_channels: channels of input and output.
        source: grid of the input.
        target: grid of the output; None for that of the input.
        kernel: filter basis; None for :class:`~spheregeo.kernels.Rings` ``(3)``.
        radius: cutoff in radians.
        spacings: cutoff in spacings of the coarser grid, in place of ``radius``; 2 where neither is given.
        groups: groups of channels that do not mix; it divides both numbers of channels.
        bias: whether to add a learned constant to every output channel.
        moments: degree up to which the discrete moments of every filter are made exact at every point; None for
            plain quadrature. It costs nothing at run time.
        normalization: torch-harmonics' ``basis_norm_mode`` ("none", "nodal", "mean", "support", "geometric" or
            "modal", each with its 1/(4 pi)), for weights trained there; it turns the moment correction off. None leaves
            filters as they are.
        engine: of the sparse backend, see :func:`spheregeo.sparse.engines`; None for the default.
        polar: "exact", or "averaged" to read rows near the poles of lat-lon grids through means over several longitudes
            (docs/layers/disco.md): less work at filters that differ by less than their own radius there. It changes nothing on
            other grids.

    Shape: (B, in_channels, *source.shape) -> (B, out_channels, *target.shape); weight (out, in/groups, K).
    Units: radius in radians.
    Equivariance: as for :class:`DiscoConv`.
    Raises: ValueError for sizes, radius or input that do not fit.
    Reference: Ocampo, Price & McEwen 2023, arXiv:2209.13603, section 4.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import DiscoConvTranspose
        >>> DiscoConvTranspose(8, 3, HEALPix(2), HEALPix(4))(torch.randn(2, 8, 48)).shape
        torch.Size([2, 3, 192])
    """

    _transposed = True
