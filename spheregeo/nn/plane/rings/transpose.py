"""``GMRConvTranspose1d``, ``GMRConvTranspose2d``, ``GMRConvTranspose3d``: isotropic kernels that spread onto finer grids.

Reference: Du et al. 2025, arXiv:2504.02819 (the kernels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.nn.low_pass import gaussian_taps
from spheregeo.nn.plane.rings.base import RingConv, Several, each_axis, plain_conv
from spheregeo.nn.plane.rings.masks import CONV

_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class _GMRConvTranspose(RingConv):
    transposed = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Several, stride: Several = 1, padding: Several = 0,
        output_padding: Several = 0, groups: int = 1, bias: bool = True, dilation: Several = 1, *, width: float = 0.85,
        antialias: bool = True, form: str = "auto",
    ) -> None:  # fmt: skip
        if isinstance(padding, str):
            raise ValueError(f"padding is {padding!r}; expected whole numbers")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            width,
            antialias,
            form,
        )
        self.output_padding = each_axis("output_padding", output_padding, self.dims, 0)
        for more, step, spacing in zip(self.output_padding, self.stride, self.dilation):
            if more and more >= max(step, spacing):
                raise ValueError(
                    f"output_padding is {output_padding!r}; expected less than the stride {self.stride} or dilation"
                )

    def _sizes(self, shape: Sequence[int], output_size: Several | None) -> tuple[int, ...]:
        """Pixels of the output along each axis."""
        least = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(shape, self.stride, self.padding, self.span)]
        if output_size is None:
            found = tuple(n + more for n, more in zip(least, self.output_padding))
            if min(found) < 1:
                raise ValueError(f"x has {tuple(shape)} pixels, too few for padding {self.padding}")
            return found
        found = each_axis("output_size", output_size, self.dims, 1)
        for size, low, step, spacing in zip(found, least, self.stride, self.dilation):
            if not 0 <= size - low < max(step, spacing):
                raise ValueError(
                    f"output_size is {found}; expected {tuple(least)} and up to "
                    f"{tuple(max(s, d) - 1 for s, d in zip(self.stride, self.dilation))} more"
                )
        return found

    def _crops(
        self, shape: Sequence[int], sizes: Sequence[int]
    ) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
        """Low-pass taps, what is cut off on each side, and what is added on the last, for one size of input and output."""
        taps: list[tuple[float, ...]] = []
        crops, more = [], []
        for n, size, step, pad, span in zip(shape, sizes, self.stride, self.padding, self.span):
            over = size - ((n - 1) * step - 2 * pad + span)
            if not self.antialias or step == 1:
                taps.append((1.0,))
                crops.append(pad)
                more.append(over)
                continue
            row = gaussian_taps(step, over % 2 == 1)
            taps.append(tuple(row))
            crops.append((len(row) - 1 + 2 * pad - over) // 2)
            more.append(0)
        return tuple(taps), tuple(crops), tuple(more)

    def forward(self, x: Tensor, output_size: Several | None = None) -> Tensor:
        """Return the output.

        Args:
            x: the input.
            output_size: pixels of the output along each axis, where the stride leaves a choice; None for ``output_padding``.

        Shape: (B, in_channels, ...) -> (B, out_channels, ...).
        """
        self._check(x)
        taps, crops, more = self._crops(x.shape[2:], self._sizes(x.shape[2:], output_size))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        dilation = (1,) * self.dims if self.antialias else self.dilation
        spread = _TRANSPOSE[self.dims]
        if self.chosen_form() == "direct":
            kernel = self._kept(("direct", taps, x.dtype), lambda: self.kernel(taps).to(x.dtype))
            return spread(x, kernel, bias, self.stride, crops, more, self.groups, dilation)
        maps = CONV[self.dims](x, self._mix(x.dtype), None, 1, 0, 1, self.groups)
        masks = self._kept(("rings", taps, x.dtype), lambda: self._rows(taps).to(x.dtype))
        return spread(maps, masks, bias, self.stride, crops, more, self.out_channels, dilation)

    def _mix(self, dtype: Any) -> Tensor:
        """Weights to the rings of each output channel. Shape: (out_channels · rings, in_channels // groups, 1, ...)."""

        def make() -> Tensor:
            parts = self.weight.to(dtype).unflatten(0, (self.groups, -1))  # (groups, in, out, rings)
            mixed = parts.permute(0, 2, 3, 1).flatten(0, 2)
            return mixed.reshape(*mixed.shape, *(1,) * self.dims)

        found: Tensor = self._kept(("mix", dtype), make)
        return found

    def _rows(self, taps: Any) -> Tensor:
        """The masks, once for each output channel. Shape: (out_channels · rings, 1, ...)."""
        masks = self._made(self.masks.spread, False, taps)
        return masks[None].expand(self.out_channels, *masks.shape).flatten(0, 1)[:, None]

    def export(self, size: Several | None = None, output_size: Several | None = None) -> Any:
        """Return torch's own transposed convolution with the present weights; a stride's low-pass is folded into its kernel.

        Args:
            size: pixels along each axis of the input, needed with ``output_size``.
            output_size: pixels of the output along each axis, where the stride leaves a choice; None for ``output_padding``.

        Raises: ValueError where ``output_size`` is given without ``size``.
        """
        if output_size is not None and size is None:
            raise ValueError("size is None; expected the input's size beside output_size")
        shape = tuple(self.span) if size is None else each_axis("size", size, self.dims, 1)
        taps, crops, more = self._crops(shape, self._sizes(shape, output_size))
        kind = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[self.dims]
        return plain_conv(self, kind, self.kernel(taps), crops, output_padding=more)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, output_padding={self.output_padding}"


class GMRConvTranspose2d(_GMRConvTranspose):
    """Transposed convolution of images with isotropic kernels; drop-in for ``torch.nn.ConvTranspose2d``.

    Args:
        in_channels, out_channels: channels.
        kernel_size: taps along each axis, odd or even.
        stride: factor by which the grid becomes finer; a low-pass follows, as part of the kernel, and windows lie symmetrically.
        padding: what is cut off on each side.
        output_padding: what is added to the size, where the stride leaves a choice.
        groups, bias, dilation, width, antialias, form: as of :class:`GMRConv2d`.

    Shape: (B, in_channels, H, W) -> (B, out_channels, H', W'), as ``torch.nn.ConvTranspose2d``; an ``output_size``
        may be given in the call.
    Units: ``width`` in spacings of the taps.
    Equivariance: quarter turns and reflections exact (1e-14 in float64), a stride
        and its ``output_padding`` included; without ``antialias`` only where ``output_padding`` is zero.
    Raises: ValueError for unfit arguments and an output size that the stride does not allow.
    Reference: Du et al. 2025, arXiv:2504.02819 (the kernels).

    Example:
        >>> import torch
        >>> up = GMRConvTranspose2d(4, 2, 3, stride=2, padding=1)
        >>> up(torch.randn(1, 4, 5, 5), output_size=10).shape
        torch.Size([1, 2, 10, 10])
    """

    dims = 2


class GMRConvTranspose1d(_GMRConvTranspose):
    """Transposed convolution of sequences with isotropic kernels; drop-in for ``torch.nn.ConvTranspose1d``.

    Args:
        in_channels, out_channels: channels.
        kernel_size: taps along each axis, odd or even.
        stride: factor by which the grid becomes finer; a low-pass follows, as part of the kernel, and windows lie symmetrically.
        padding: what is cut off on each side.
        output_padding: what is added to the size, where the stride leaves a choice.
        groups, bias, dilation, width, antialias, form: as of :class:`GMRConv2d`.

    Shape: (B, in_channels, L) -> (B, out_channels, L'), as ``torch.nn.ConvTranspose1d``; an ``output_size``
        may be given in the call.
    Units: ``width`` in spacings of the taps.
    Equivariance: reversal of the sequence exact (1e-14 in float64), a stride
        and its ``output_padding`` included; without ``antialias`` only where ``output_padding`` is zero.
    Raises: ValueError for unfit arguments and an output size that the stride does not allow.
    Reference: Du et al. 2025, arXiv:2504.02819 (the kernels).

    Example:
        >>> import torch
        >>> up = GMRConvTranspose1d(4, 2, 3, stride=2, padding=1)
        >>> up(torch.randn(1, 4, 5), output_size=10).shape
        torch.Size([1, 2, 10])
    """

    dims = 1


class GMRConvTranspose3d(_GMRConvTranspose):
    """Transposed convolution of volumes with isotropic kernels; drop-in for ``torch.nn.ConvTranspose3d``.

    Args:
        in_channels, out_channels: channels.
        kernel_size: taps along each axis, odd or even.
        stride: factor by which the grid becomes finer; a low-pass follows, as part of the kernel, and windows lie symmetrically.
        padding: what is cut off on each side.
        output_padding: what is added to the size, where the stride leaves a choice.
        groups, bias, dilation, width, antialias, form: as of :class:`GMRConv2d`.

    Shape: (B, in_channels, D, H, W) -> (B, out_channels, D', H', W'), as ``torch.nn.ConvTranspose3d``; an ``output_size``
        may be given in the call.
    Units: ``width`` in spacings of the taps.
    Equivariance: the 48 rotations and reflections of the cube exact (1e-14 in float64), a stride
        and its ``output_padding`` included; without ``antialias`` only where ``output_padding`` is zero.
    Raises: ValueError for unfit arguments and an output size that the stride does not allow.
    Reference: Du et al. 2025, arXiv:2504.02819 (the kernels).

    Example:
        >>> import torch
        >>> up = GMRConvTranspose3d(4, 2, 3, stride=2, padding=1)
        >>> up(torch.randn(1, 4, 5, 5, 5), output_size=10).shape
        torch.Size([1, 2, 10, 10, 10])
    """

    dims = 3
