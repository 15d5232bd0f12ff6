"""Images sampled on the grid of a warp, and convolutions behind it: equivariant to the warp's transforms.

Reference: Henriques & Vedaldi 2017, Warped Convolutions: Efficient Invariance to Spatial Transformations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_tensor
from spheregeo.constants import table
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.plane.warps import Warp


class Warp2d(ExactBuffers):
    """Sample images on the grid of a warp, so that the warp's transforms become shifts.

    Args:
        warp: the warp.
        mode: "bilinear", "bicubic" or "nearest", as in ``torch.nn.functional.grid_sample``.
        padding: what points outside the image show: "zeros", "border" or "reflection".

    The area that a pixel of the warped image stands for (:meth:`Warp.jacobian`) is left to the filters that follow.

    Shape: (B, C, H, W) -> (B, C, *warp.size).
    Equivariance: the warp's transforms by whole steps shift the output, to the error of interpolation: 1e-2 of the output's norm
        for smooth images of 64 × 64 and bilinear weights (1e-12 for images given as functions); quarter turns under
        :class:`LogPolarWarp` with a multiple of four angles are exact.
    Raises: TypeError for what is no warp, ValueError for other modes, and inputs of other shapes.

    Example:
        >>> from spheregeo.nn import LogPolarWarp
        >>> Warp2d(LogPolarWarp((16, 32)))(torch.rand(1, 3, 28, 28)).shape
        torch.Size([1, 3, 16, 32])
    """

    grid: Tensor

    def __init__(self, warp: Warp, *, mode: str = "bilinear", padding: str = "zeros") -> None:
        super().__init__()
        if not isinstance(warp, Warp):
            raise TypeError(f"warp is {type(warp).__name__}, expected a warp such as LogPolarWarp((16, 32))")
        for name, value, known in (
            ("mode", mode, ("bilinear", "bicubic", "nearest")),
            ("padding", padding, ("zeros", "border", "reflection")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")
        self.warp, self.mode, self.padding = warp, mode, padding
        self.keep("grid", warp.points() * torch.tensor([1.0, -1.0]))  # rows run downwards

    def forward(self, x: Tensor) -> Tensor:
        """Return the warped images.

        Args:
            x: images.
        """
        check_tensor(x)
        if x.ndim != 4:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected images (B, C, H, W)")
        height, width = x.shape[-2:]
        shorter = min(height, width)
        dtype = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
        grid = (self.grid if self.grid.dtype == dtype else self.exact("grid")).to(x.device, dtype)
        if height != width:
            grid = grid * table([shorter / width, shorter / height], x, dtype)
        grid = grid.expand(x.shape[0], -1, -1, -1)
        out = F.grid_sample(x.to(dtype), grid, self.mode, self.padding, align_corners=False)
        return out.to(x.dtype)

    def extra_repr(self) -> str:
        """The warp and how images are sampled."""
        return f"{self.warp}, mode={self.mode!r}, padding={self.padding!r}"


class PeriodicConv2d(nn.Conv2d):
    """A convolution whose input closes along some axes: padding is circular there and zero along the others.

    Args:
        in_channels, out_channels, kernel_size, stride, dilation, groups, bias: as in ``torch.nn.Conv2d``.
        periodic: whether rows and columns close.
        padding: pixels at each end, of rows and columns; half the kernel's reach if None, so that stride 1 keeps the size.

    Shape: (B, C, H, W) -> (B, O, H', W').
    Equivariance: cyclic shifts along periodic axes by multiples of the stride are exact, where the stride divides the axis.
    Raises: ValueError for inputs of other shapes.

    Example:
        >>> PeriodicConv2d(1, 2, 3)(torch.rand(1, 1, 8, 16)).shape
        torch.Size([1, 2, 8, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        *,
        periodic: tuple[bool, bool] = (False, True),
        padding: int | tuple[int, int] | None = None,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias)
        if padding is None:
            reach = [d * (k - 1) // 2 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
            padding = (reach[0], reach[1])
        self.periodic = (bool(periodic[0]), bool(periodic[1]))
        self.pads = (padding, padding) if isinstance(padding, int) else (padding[0], padding[1])

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolved features.

        Args:
            input: features.
        """
        x = input
        check_tensor(x, "input")
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"input has shape {tuple(x.shape)}, expected (B, {self.in_channels}, H, W)")
        rows, columns = self.pads
        for pad, closes in (
            ((0, 0, rows, rows), self.periodic[0]),
            ((columns, columns, 0, 0), self.periodic[1]),
        ):
            if any(pad):
                x = F.pad(x, pad, "circular" if closes else "constant")
        if torch.is_autocast_enabled(x.device.type):
            return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.conv2d(x, weight, bias, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """The convolution's arguments and which axes close."""
        return f"{super().extra_repr()}, periodic={self.periodic}, pads={self.pads}"


class WarpedConv2d(nn.Module):
    """A convolution over a two-parameter group of transforms of the image: one warp, then an ordinary convolution.

    Args:
        in_channels, out_channels, kernel_size, stride: of the convolution, as in ``torch.nn.Conv2d``.
        warp: the warp; its periodic axes are padded circularly, the others by zeros.
        mode, padding: of sampling, as for :class:`Warp2d`.
        bias: whether outputs have a bias.

    Layers that follow are :class:`PeriodicConv2d` of the same ``periodic``.

    Shape: (B, C, H, W) -> (B, O, H', W'), ``warp.size`` for stride 1.
    Equivariance: as :class:`Warp2d`.
    Raises: TypeError for what is no warp, ValueError for inputs of other shapes.
    Reference: Henriques & Vedaldi 2017.

    Example:
        >>> from spheregeo.nn import LogPolarWarp
        >>> WarpedConv2d(1, 4, 3, warp=LogPolarWarp((16, 32)))(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 4, 16, 32])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        *,
        warp: Warp,
        mode: str = "bilinear",
        padding: str = "zeros",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.sample = Warp2d(warp, mode=mode, padding=padding)
        self.conv = PeriodicConv2d(
            in_channels, out_channels, kernel_size, stride, periodic=warp.periodic, bias=bias
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features over the group.

        Args:
            x: images.
        """
        out: Tensor = self.conv(self.sample(x))
        return out
