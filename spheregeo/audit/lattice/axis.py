"""What one axis of a layer reads: for each output the input pixels of its taps, and their weights.

A layer on the plane is a product of its two axes. Reversing an axis commutes with the layer if and only if the pixels that its
outputs read, outputs, taps and pixels all counted from the other end, are the pixels that they read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

NOTHING = -1  # a tap that reads zeros or is left out
CONSTANT = -2  # a tap that reads the number which an image was padded with
TOLERANCE = 1e-9  # of weights, which are computed in float64


@dataclass(frozen=True)
class AxisReading:
    """Pixels and weights of every output along one axis.

    Args:
        pixels: input pixels of the taps, NOTHING or CONSTANT, (outputs, taps).
        weights: their weights, (outputs, taps) float64.
        ordered: whether each tap has a weight of its own, as in a convolution; a maximum or a mean has none.
    """

    pixels: Tensor
    weights: Tensor
    ordered: bool

    def through(self, pixels: Tensor) -> AxisReading:
        """Return the reading of what was cut or padded before, whose pixels are given as pixels of the original."""
        at = torch.where(self.pixels >= 0, pixels[self.pixels.clamp_min(0)], self.pixels)
        return AxisReading(at, self.weights, self.ordered)

    def mirrored(self, size: int) -> AxisReading:
        """Return the reading with outputs, taps and pixels counted from the other end."""
        pixels = self.pixels.flip(0, 1)
        return AxisReading(
            torch.where(pixels >= 0, size - 1 - pixels, pixels), self.weights.flip(0, 1), self.ordered
        )

    def equals(self, other: AxisReading) -> bool:
        """Return whether two readings are one."""
        if self.pixels.shape[0] != other.pixels.shape[0]:
            return False
        (p, a), (q, b) = self._canonical(), other._canonical()
        return p.shape == q.shape and bool((p == q).all()) and bool(((a - b).abs() <= TOLERANCE).all())

    @property
    def is_empty(self) -> bool:
        """Whether no tap reads anything."""
        return bool((self.pixels == NOTHING).all())

    def _canonical(self) -> tuple[Tensor, Tensor]:
        pixels = torch.where(self.weights == 0, torch.full_like(self.pixels, NOTHING), self.pixels)
        weights = torch.where(pixels == NOTHING, torch.zeros_like(self.weights), self.weights)
        if self.ordered or not pixels.shape[1]:
            return pixels, weights
        pixels, order = pixels.sort(dim=1, stable=True)
        return pixels, weights.gather(1, order)


class Axis:
    """One axis of a layer: how many outputs it has, and what they read.

    Example:
        >>> Window(3, stride=2, before=1, after=1).is_mirrored(9), Window(3, stride=2, before=1, after=1).is_mirrored(8)
        (True, False)
    """

    name = ""

    def outputs(self, size: int) -> int:
        """Return the number of outputs of an input of ``size`` pixels."""
        raise NotImplementedError

    def reading(self, size: int) -> AxisReading:
        """Return what the outputs read of an input of ``size`` pixels."""
        raise NotImplementedError

    def is_mirrored(self, size: int, before: Axis | None = None) -> bool:
        """Return whether the axis may be reversed before or after the layer alike.

        Args:
            size: pixels of the input.
            before: cut or padding that the input goes through first.
        """
        found = self.read(size, before)
        return found.equals(found.mirrored(size))

    def read(self, size: int, before: Axis | None = None) -> AxisReading:
        """Return what the outputs read of an input that is cut or padded first."""
        if before is None:
            return self.reading(size)
        pixels = before.reading(size).pixels[:, 0]
        if getattr(before, "value", 0.0) == 0 and getattr(self, "reduce", "taps") != "set":
            pixels = torch.where(
                pixels == CONSTANT, torch.full_like(pixels, NOTHING), pixels
            )  # 0 adds nothing
        return self.reading(before.outputs(size)).through(pixels)

    def why(self, size: int, before: Axis | None = None) -> str:
        """Return in a line why reversing the axis gives another output; for an axis that is not mirrored."""
        found = self.read(size, before)
        back = found.mirrored(size)
        for k in range(found.pixels.shape[0]):
            one, two = (
                AxisReading(r.pixels[k : k + 1], r.weights[k : k + 1], r.ordered) for r in (found, back)
            )
            if not one.equals(two):
                return f"output {k} reads {_text(one)}, in the reversed image {_text(two)}"
        return "its outputs are not their own mirror image"


def _text(reading: AxisReading) -> str:
    names = [
        {NOTHING: "nothing", CONSTANT: "padding"}.get(int(p), f"pixel {int(p)}")
        for p, w in zip(reading.pixels[0], reading.weights[0], strict=True)
        if w != 0
    ]
    return " and ".join(names[:3]) + (" …" if len(names) > 3 else "") if names else "nothing"


@dataclass(frozen=True)
class Window(Axis):
    """A convolution or a pool: windows of ``kernel`` taps, ``stride`` pixels apart.

    Args:
        kernel, stride, dilation: as in torch.
        before, after: padding at the two ends.
        ceil: ``ceil_mode`` of a pool: windows may leave the padded image at its end.
        reduce: "taps" (a weight for each tap), "set" (a maximum), "sum", "mean" (over pixels and padding) or "inside" (over
            pixels alone).
    """

    kernel: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1
    ceil: bool = False
    reduce: str = "taps"

    def outputs(self, size: int) -> int:
        """Return the number of windows."""
        room = size + self.before + self.after - self.dilation * (self.kernel - 1) - 1
        if not self.ceil:
            return max(0, room // self.stride + 1)
        count = -(-room // self.stride) + 1
        if (
            count - 1
        ) * self.stride >= size + self.before:  # a window that would begin in the padding at the end
            count -= 1
        return max(0, count)

    def reading(self, size: int) -> AxisReading:
        """Return the pixels of each window."""
        taps = torch.arange(self.kernel) * self.dilation
        at = torch.arange(self.outputs(size))[:, None] * self.stride - self.before + taps
        inside = (at >= 0) & (at < size)
        pixels = torch.where(inside, at, torch.full_like(at, NOTHING))
        weights = torch.ones(at.shape, dtype=torch.float64)
        if self.reduce == "mean":  # what leaves the padded image is not counted
            weights = weights / (at < size + self.after).sum(1, keepdim=True).clamp_min(1)
        elif self.reduce == "inside":
            weights = weights / inside.sum(1, keepdim=True).clamp_min(1)
        return AxisReading(pixels, weights, self.reduce == "taps")

    def why(self, size: int, before: Axis | None = None) -> str:
        """Return the remainder of the condition of exactness, and where the windows begin and end."""
        room = size + self.before + self.after - self.dilation * (self.kernel - 1) - 1
        if before is not None or self.ceil or self.before != self.after or not room % self.stride:
            return super().why(size, before)
        left = room % self.stride
        return (
            f"({size} + 2·{self.before} - {self.dilation}·({self.kernel} - 1) - 1) mod {self.stride} = {left}, expected 0: "
            f"the windows begin at the first pixel of the padded image and end {left} before its last"
        )

    def __str__(self) -> str:
        pads = f"p{self.before}" if self.before == self.after else f"p{self.before},{self.after}"
        more = f" d{self.dilation}" if self.dilation > 1 else ""
        return f"k{self.kernel} s{self.stride} {pads}{more}" + (" ceil" if self.ceil else "")


@dataclass(frozen=True)
class Transposed(Axis):
    """A transposed convolution, whose arguments are torch's."""

    kernel: int
    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    dilation: int = 1

    def outputs(self, size: int) -> int:
        """Return the number of outputs."""
        return (
            (size - 1) * self.stride
            - 2 * self.padding
            + self.dilation * (self.kernel - 1)
            + self.output_padding
            + 1
        )

    def reading(self, size: int) -> AxisReading:
        """Return the pixel that each tap of an output reads, where there is one."""
        at = (
            torch.arange(self.outputs(size))[:, None]
            + self.padding
            - torch.arange(self.kernel) * self.dilation
        )
        inside = (at % self.stride == 0) & (at >= 0) & (at < size * self.stride)
        pixels = torch.where(inside, at // self.stride, torch.full_like(at, NOTHING))
        return AxisReading(pixels, torch.ones(at.shape, dtype=torch.float64), True)

    def why(self, size: int, before: Axis | None = None) -> str:
        """Return that padding at one end of the output is not mirrored."""
        if self.output_padding:
            return f"output_padding {self.output_padding} lengthens the output at its end alone, expected 0"
        return super().why(size, before)

    def __str__(self) -> str:
        return f"k{self.kernel} s{self.stride} p{self.padding} out{self.output_padding}"


@dataclass(frozen=True)
class Adaptive(Axis):
    """A pool onto a given number of outputs; None keeps the number of pixels.

    Args:
        count: outputs.
        reduce: "set" (a maximum) or "inside" (a mean).
    """

    count: int | None
    reduce: str = "inside"

    def outputs(self, size: int) -> int:
        """Return the number of outputs."""
        return size if self.count is None else self.count

    def reading(self, size: int) -> AxisReading:
        """Return the pixels of each bin: from ⌊j·size/count⌋ to ⌈(j + 1)·size/count⌉."""
        count = self.outputs(size)
        bins = [(j * size // count, -(-(j + 1) * size // count)) for j in range(count)]
        longest = max((b - a for a, b in bins), default=0)
        pixels = torch.tensor([[a + t if a + t < b else NOTHING for t in range(longest)] for a, b in bins])
        weights = torch.ones(pixels.shape, dtype=torch.float64)
        if self.reduce == "inside":
            weights = weights / (pixels >= 0).sum(1, keepdim=True).clamp_min(1)
        return AxisReading(pixels, weights, False)

    def __str__(self) -> str:
        return f"onto {self.count}"


@dataclass(frozen=True)
class Interpolated(Axis):
    """``torch.nn.functional.interpolate`` along one axis; what it reads is its response to single pixels.

    Args:
        count: outputs; None if the scale is given.
        scale: factor of the size; None if the outputs are given.
        mode, align_corners, recompute, antialias: as in torch.
    """

    count: int | None
    scale: float | None
    mode: str = "nearest"
    align_corners: bool | None = None
    recompute: bool | None = None
    antialias: bool = False

    def outputs(self, size: int) -> int:
        """Return the number of outputs."""
        return self.count if self.count is not None else math.floor(size * (self.scale or 1.0))

    def reading(self, size: int) -> AxisReading:
        """Return every output's weights of all pixels."""
        ones = torch.eye(size, dtype=torch.float64)[:, None, :, None]
        count = None if self.count is None else (self.count, 1)
        scale = None if self.scale is None else (self.scale, 1.0)
        out = F.interpolate(
            ones, count, scale, self.mode, self.align_corners, self.recompute, antialias=self.antialias
        )
        weights = out[:, 0, :, 0].T.contiguous()
        weights[weights.abs() < TOLERANCE] = 0.0
        return AxisReading(torch.arange(size).expand(weights.shape), weights, False)

    def __str__(self) -> str:
        return f"{self.mode} " + (f"onto {self.count}" if self.count is not None else f"×{self.scale:g}")


@dataclass(frozen=True)
class Cut(Axis):
    """Padding (``torch.nn.functional.pad``) or slicing: every output is one pixel.

    Args:
        before, after: pixels added at the two ends; negative ones are cut off.
        mode: of padding.
        value: number that a constant padding holds.
        step: of a slice.
    """

    before: int = 0
    after: int = 0
    mode: str = "constant"
    value: float = 0.0
    step: int = 1

    def outputs(self, size: int) -> int:
        """Return the number of outputs."""
        return -(-(size + self.before + self.after) // self.step)

    def reading(self, size: int) -> AxisReading:
        """Return the pixel of each output."""
        at = torch.arange(-self.before, size + self.after, self.step)
        if self.mode == "circular":
            at = at % size
        elif self.mode == "replicate":
            at = at.clamp(0, size - 1)
        elif self.mode == "reflect":
            at = (size - 1 - (at.abs() - (size - 1)).abs()) if size > 1 else at * 0
        else:
            at = torch.where((at >= 0) & (at < size), at, torch.full_like(at, CONSTANT))
        return AxisReading(at[:, None], torch.ones(len(at), 1, dtype=torch.float64), True)

    def why(self, size: int, before: Axis | None = None) -> str:
        """Return what differs at the two ends."""
        if self.step == 1:
            return f"{self.before:+d} pixels at the first end and {self.after:+d} at the other, expected equal numbers"
        return super().why(size, before)

    def __str__(self) -> str:
        return f"{self.before:+d},{self.after:+d}" + (f" step {self.step}" if self.step > 1 else "")


@dataclass(frozen=True)
class Shuffled(Axis):
    """Pixels that become channels, or channels that become pixels, in blocks of ``factor``.

    Args:
        factor: pixels of a block.
        up: whether channels become pixels.
    """

    factor: int
    up: bool = False

    def outputs(self, size: int) -> int:
        """Return the number of outputs."""
        return size * self.factor if self.up else size // self.factor

    def reading(self, size: int) -> AxisReading:
        """Return the first pixel of each block: channels are not exchanged when the image is reversed."""
        at = (
            torch.arange(self.outputs(size)) // self.factor
            if self.up
            else torch.arange(self.outputs(size)) * self.factor
        )
        return AxisReading(at[:, None], torch.ones(len(at), 1, dtype=torch.float64), True)

    def is_mirrored(self, size: int, before: Axis | None = None) -> bool:
        """Return whether nothing moves between pixels and channels."""
        return self.factor == 1 and super().is_mirrored(size, before)

    def why(self, size: int, before: Axis | None = None) -> str:
        """Return that channels would have to change places."""
        return f"the {self.factor} pixels of a block change places with one another, their channels do not"

    def __str__(self) -> str:
        return f"×{self.factor}" if self.up else f"/{self.factor}"
