"""Base of convolutions on images whose kernel is made from other weights: one ``conv2d`` with the made kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_count, check_tensor
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.kept import KeptInEvaluation
from spheregeo.nn.low_pass import low_pass, pad_sides, windows

MODES = ("zeros", "reflect", "replicate", "circular")
Pair = tuple[int, int]


def check_border(shape: Sequence[int], pads: Sequence[int], mode: str) -> None:
    """Raises: ValueError for images with fewer pixels than a border of this padding mode takes from them."""
    least = 1 if mode == "reflect" else 0
    for axis, (size, pad) in enumerate(zip(shape, pads)):
        if mode != "replicate" and pad > size - least:
            raise ValueError(
                f"x has {size} pixels along axis {axis}; expected at least {pad + least} for padding_mode {mode!r}"
            )


class ExpandedConv2d(KeptInEvaluation, ExactBuffers):
    """Square kernels, made in every step of training and kept in evaluation until a weight changes; strides behind a low-pass.

    A layer makes its kernel in :meth:`kernel` and its bias in :meth:`constant`.

    Args:
        sizes: channels in and out.
        kernel_size: taps along each side.
        stride: step of the output.
        antialias: whether a stride comes after a Gaussian low-pass, with windows symmetric about the middle of the image.
        padding: pixels on each side, or "same".
        padding_mode: what is beyond the image.
    """

    def __init__(
        self,
        sizes: Pair,
        kernel_size: int,
        stride: int,
        antialias: bool,
        padding: int | str,
        padding_mode: str,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.kernel_size = check_count("kernel_size", kernel_size, 1)
        self.stride = check_count("stride", stride, 1)
        self.antialias = antialias and stride > 1
        if padding_mode not in MODES:
            raise ValueError(f"padding_mode is {padding_mode!r}; expected one of {', '.join(MODES)}")
        self.padding_mode: Any = padding_mode
        if padding == "same":
            if kernel_size % 2 == 0 and not self.antialias:
                raise ValueError(
                    f"kernel_size is {kernel_size} and padding 'same'; expected an odd kernel, or padding in pixels: an "
                    "even kernel lies between pixels and changes the size by one"
                )
            self.padding = (kernel_size - 1) // 2
        elif isinstance(padding, str):
            raise ValueError(f"padding is {padding!r}; expected a number of pixels, or 'same'")
        elif self.antialias:
            raise ValueError(
                f"padding is {padding!r} with stride {stride}; with antialias it follows from the size: leave it out"
            )
        else:
            self.padding = check_count("padding", padding, 0)

    def kernel(self) -> Tensor:
        """The expanded kernel. Shape: (out, in, kernel_size, kernel_size)."""
        raise NotImplementedError

    def constant(self) -> Tensor | None:
        """The bias of each channel. Shape: (out,)."""
        raise NotImplementedError

    def _current(self) -> tuple[Tensor, Tensor | None]:
        """The kernel and the bias, kept in evaluation until a parameter changes."""
        return self.kept("kernel", lambda: (self.kernel(), self.constant()), self.parameters())

    def _windows(self, shape: Sequence[int]) -> tuple[list[list[float]], list[int]]:
        """Low-pass taps and padding of each axis, for one size of image."""
        return windows(shape, (self.stride,) * 2, (self.kernel_size,) * 2)

    def _pad(self, x: Tensor, pads: Sequence[int]) -> Tensor:
        if self.padding_mode == "zeros":
            return pad_sides(x, pads)
        check_border(x.shape[2:], pads, self.padding_mode)
        return F.pad(x, (pads[1], pads[1], pads[0], pads[0]), self.padding_mode)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim != 4 or x.shape[1] != self.sizes[0]:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.sizes[0]}, H, W)")
        kernel, bias = self._current()
        kernel, bias = kernel.to(x.dtype), None if bias is None else bias.to(x.dtype)
        if self.antialias:
            taps, pads = self._windows(x.shape[2:])
            return F.conv2d(low_pass(self._pad(x, pads), taps), kernel, bias, self.stride)
        if self.padding_mode != "zeros" and self.padding:
            return F.conv2d(self._pad(x, (self.padding,) * 2), kernel, bias, self.stride)
        return F.conv2d(x, kernel, bias, self.stride, self.padding)

    @torch.no_grad()
    def export(self, size: int | Sequence[int] | None = None) -> nn.Conv2d:
        """A plain ``torch.nn.Conv2d`` with the same output; the low-pass of a stride is folded into its kernel.

        Args:
            size: of the images, height and width or one for both, which places the windows of an anti-aliased stride; other
                layers do not need it.

        Raises: ValueError where it is needed and missing.
        """
        kernel, bias = self.kernel(), self.constant()
        pads = [self.padding] * 2
        if self.antialias:
            if size is None:
                raise ValueError(
                    "size is None; expected the images' size, by which the stride's windows are placed"
                )
            taps, pads = self._windows((size, size) if isinstance(size, int) else size)
            kernel = low_pass(pad_sides(kernel, [len(row) - 1 for row in taps]), taps)
        plain = nn.Conv2d(
            *self.sizes, (kernel.shape[2], kernel.shape[3]), self.stride, (pads[0], pads[1]), bias=bias is not None,
            padding_mode=self.padding_mode, device=kernel.device, dtype=kernel.dtype,
        )  # fmt: skip
        plain.weight.copy_(kernel)
        if plain.bias is not None and bias is not None:
            plain.bias.copy_(bias)
        return plain.train(self.training)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}"
            + (f", antialias={self.antialias}" if self.stride > 1 else f", padding={self.padding}")
            + ("" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode!r}")
        )
