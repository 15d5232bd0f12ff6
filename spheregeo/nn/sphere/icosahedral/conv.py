r"""Hexagonal convolution on the icosahedron, one ``conv2d`` a layer.

With regular features in and out, in the directions of the chart,

    y_o[rho](p) = b_o + sum_c sum_rho' sum_tap W[o, c, tap - rho, rho' - rho] x_c[rho'](p + tap)

where tap is the point itself or one of the six directions (mod 6; the centre tap stays). The sum over c, rho', tap is a
3 x 3 convolution of 6 C channels whose kernel is W expanded; two of its nine taps, (-1, -1) and (+1, +1), are zero. A scalar
has no rho: W[o, c, tap - rho] from scalars to regular fields, W[o, c, tap - rho'] from regular fields to scalars, and one
weight for the centre and one for the ring between scalars.
Reference: Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615, section 5.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count
from spheregeo.deprecation import renamed_arguments
from spheregeo.grids import Icosahedral
from spheregeo.nn.sphere.icosahedral.charts import (
    ORIENTATIONS,
    OnCharts,
    check_level,
    clear,
    orientations,
)
from spheregeo.nn.sphere.icosahedral.padding import Padding

DIRECTIONS = ((0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1), (1, 0))  # (i, j), counter-clockwise from outside


@lru_cache(maxsize=8)
def expansion(in_orientations: int, out_orientations: int, taps: int) -> Tensor:
    """Zeros and ones that take the weights of a pair of fields to their kernel.

    Shape: (weights, out_orientations · side · side · in_orientations), side 3 or, for one tap, 1; float64.
    """
    side = 3 if taps == 7 else 1
    index = torch.full((out_orientations, side, side, in_orientations), -1)
    per_tap = in_orientations if out_orientations > 1 else 1
    for out in range(out_orientations):
        for r in range(in_orientations):
            # the orientation that the weights are counted from; scalars on both sides have none
            zero = out if out_orientations > 1 else r
            relative = (r - out) % ORIENTATIONS if per_tap > 1 else 0
            index[out, side // 2, side // 2, r] = relative
            for d, (i, j) in enumerate(DIRECTIONS if taps == 7 else ()):
                ring = (d - zero) % ORIENTATIONS if in_orientations * out_orientations > 1 else 0
                index[out, 1 + i, 1 + j, r] = (1 + ring) * per_tap + relative
    table = torch.zeros(int(index.max()) + 1, index.numel(), dtype=torch.float64)
    used = index.flatten() >= 0
    table[index.flatten()[used], used.nonzero()[:, 0]] = 1
    return table


class IcosahedralConv(OnCharts):
    """Gauge-equivariant convolution over a point and its six neighbours.

    Args:
        in_channels, out_channels: numbers of fields; a regular field is six channels of the tensor.
        grid: of the input, an ``Icosahedral`` or its level.
        in_type, out_type: "scalar" or "regular".
        stride: 1, or 2 for outputs on the next coarser grid, every second row and column of each chart.
        kernel_size: 3 for the seven points; 1 for the point itself, which mixes fields and orientations.
        bias: one number for each output field, the same for all its orientations.

    Shape:
        (B, in_channels [· 6], N) -> (B, out_channels [· 6], N'), or the same in chart layout (B, ., 5, n, 2n); weight
        (out, in, P) with P = 2 between scalars, 7 between scalars and regular fields, 42 between regular fields.
    Equivariance: exact under the 60 rotations of the icosahedron, 3e-16 in float64. For others none is promised: two layers
        with a ReLU between and random weights have 8, 4, 2 and 0.8 % relative error at levels 3 to 6 for signals of degree
        < 8, and 8 and 6 % at levels 3 and 4 for degree < 2^level (docs/guides/equivariance.md).
    Raises: ValueError for sizes, types, stride or input that do not fit.
    Reference: Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615, section 5.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import IcosahedralConv
        >>> IcosahedralConv(3, 4, Icosahedral(2), in_type="scalar")(torch.randn(1, 3, 162)).shape
        torch.Size([1, 24, 162])
    """

    expand: Tensor

    @renamed_arguments(level="grid")
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Icosahedral | int,
        *,
        in_type: str = "regular",
        out_type: str = "regular",
        stride: int = 1,
        kernel_size: int = 3,
        bias: bool = True,
    ) -> None:
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        if stride not in (1, 2):
            raise ValueError(f"stride is {stride!r}; expected 1 or 2")
        if kernel_size not in (1, 3):
            raise ValueError(f"kernel_size is {kernel_size!r}; expected 3 (seven points) or 1 (one)")
        self._sizes = (orientations("in_type", in_type), orientations("out_type", out_type))
        level = check_level(grid, stride, "the output's grid must have points that are no corners")
        super().__init__(level, level - stride + 1, in_channels * self._sizes[0], out_type)
        self.in_type, self.stride, self.kernel_size = in_type, stride, kernel_size
        table = expansion(*self._sizes, 7 if kernel_size == 3 else 1)
        self.register_buffer("expand", table.to(torch.get_default_dtype()), persistent=False)
        self.padding = Padding(level, self._sizes[0], stride == 2) if kernel_size == 3 else None
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, len(table)))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights so that a white signal of unit variance leaves with unit variance; biases are zero."""
        taps = 7 if self.kernel_size == 3 else 1
        nn.init.normal_(self.weight, std=(self._in * taps) ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def kernel(self) -> Tensor:
        """The weights as a kernel of ``conv2d``. Shape: (out [· 6], in [· 6], side, side), channel-last in memory."""
        o, c, p = self.weight.shape
        side = self.kernel_size
        full = (self.weight.view(o * c, p) @ self.expand).view(
            o, c, self._sizes[1], side, side, self._sizes[0]
        )
        return full.permute(0, 2, 3, 4, 1, 5).reshape(-1, side, side, self._in).permute(0, 3, 1, 2)

    def on_charts(self, x: Tensor) -> Tensor:
        if self.padding is not None:
            charts = self.padding(x)  # (B, 5, rows, columns, C)
        else:
            charts = x.permute(0, 2, 3, 4, 1)
            charts = charts[:, :, 1::2, ::2] if self.stride == 2 else charts
        bias: Tensor | None = None if self.bias is None else self.bias.to(x.dtype)
        if bias is not None and self._sizes[1] > 1:
            bias = bias.repeat_interleave(self._sizes[1])
        stride = self.stride if self.padding is not None else 1
        images = charts.flatten(0, 1).permute(0, 3, 1, 2)  # (5 B, C, rows, columns)
        y = clear(nn.functional.conv2d(images, self.kernel().to(x.dtype), bias, stride), 2)
        return y.unflatten(0, (x.shape[0], 5)).transpose(1, 2)

    def flops(self) -> int:
        """Multiplications and additions of one forward pass of one sample, masked taps not counted."""
        taps = 7 if self.kernel_size == 3 else 1
        return 2 * taps * self._in * self.out_channels * self._sizes[1] * 10 * 4**self.out_level

    def memory_bytes(self) -> int:
        """Bytes of index tables this layer holds; layers of one level share them on the CPU."""
        return sum(table.nbytes for table in self.buffers())

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, level={self.level}, in_type={self.in_type!r}, "
            f"out_type={self.out_type!r}, stride={self.stride}, kernel_size={self.kernel_size}, "
            f"bias={self.bias is not None}"
        )
