"""What the ring convolutions and their transposes share: arguments, masks, weights, the choice of a form, the kept kernel."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count, check_tensor
from spheregeo.nn.kept import KeptInEvaluation
from spheregeo.nn.plane.rings.masks import RingMasks, dilated, smoothed

FORMS = ("auto", "direct", "rings")
# Work of a multiply-add of a depthwise convolution and of a mix of channels, in multiply-adds of a full convolution, and of
# a number that is written and read again; from timings of float32 on one core (benchmarks/cases/plane/rings.py).
_DEPTHWISE, _MIX, _NUMBER = 2.5, 2.0, 150.0

Several = int | Sequence[int]


def each_axis(name: str, value: Several, dims: int, least: int) -> tuple[int, ...]:
    """One whole number for each axis.

    Args:
        name: of the argument, for the message.
        value: one number for all axes, or one for each.
        dims: axes.
        least: smallest number.

    Raises: ValueError for other counts and numbers.
    """
    found = (value,) * dims if isinstance(value, int) else tuple(value)
    if len(found) != dims or not all(
        isinstance(v, int) and not isinstance(v, bool) and v >= least for v in found
    ):
        more = "" if dims == 1 else f", or {dims}"
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}{more}")
    return found


class RingConv(KeptInEvaluation):
    """Base of the ring convolutions and their transposes."""

    dims: ClassVar[int] = 2
    transposed: ClassVar[bool] = False

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Several, stride: Several, padding: Several | str,
        dilation: Several, groups: int, bias: bool, width: float, antialias: bool, form: str,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            check_count(name, channels)
            if channels % check_count("groups", groups):
                raise ValueError(f"{name} is {channels}; expected a multiple of groups, which is {groups}")
        sizes = each_axis("kernel_size", kernel_size, self.dims, 1)
        if len(set(sizes)) > 1:
            raise ValueError(f"kernel_size is {kernel_size!r}; rings are round: expected one number")
        if form not in FORMS:
            raise ValueError(f"form is {form!r}; expected one of {', '.join(FORMS)}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.form = sizes[0], form
        self.stride = each_axis("stride", stride, self.dims, 1)
        self.dilation = each_axis("dilation", dilation, self.dims, 1)
        self.span = tuple(d * (sizes[0] - 1) + 1 for d in self.dilation)  # pixels under the kernel
        self.padding = self._padding(padding)
        self.antialias = bool(antialias) and any(s > 1 for s in self.stride)
        self.masks = RingMasks(sizes[0], self.dims, width)
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = nn.Parameter(torch.empty(first, second // groups, self.masks.rings))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def _padding(self, padding: Several | str) -> tuple[int, ...]:
        if padding == "valid":
            return (0,) * self.dims
        if padding == "same":
            if any(s > 1 for s in self.stride):
                raise ValueError(f"padding is 'same' and stride {self.stride}; expected a stride of 1")
            if any(span % 2 == 0 for span in self.span):
                raise ValueError(
                    f"padding is 'same' and the kernel spans {self.span} pixels; expected odd numbers, as an even kernel lies "
                    "between pixels"
                )
            return tuple(span // 2 for span in self.span)
        if isinstance(padding, str):
            raise ValueError(f"padding is {padding!r}; expected whole numbers, 'same' or 'valid'")
        return each_axis("padding", padding, self.dims, 0)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Uniform weights and biases of the variance of torch's own layers; widths at their start."""
        fan_in = self.in_channels // self.groups * self.masks.rings
        self.weight.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        if self.bias is not None:
            self.bias.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        self.masks.spread.zero_()

    @property
    def widths(self) -> Tensor:
        """Standard deviation of each ring, in spacings of the taps. Shape: (rings,)."""
        return self.masks.widths()

    def _axis(self, size: int, axis: int) -> tuple[list[float], int]:
        """Low-pass taps and padding of one axis for one size of input."""
        raise NotImplementedError

    def places(self, shape: Sequence[int]) -> tuple[tuple[tuple[float, ...], ...], tuple[int, ...]]:
        found = [self._axis(size, axis) for axis, size in enumerate(shape)]
        return tuple(tuple(taps) for taps, _ in found), tuple(pad for _, pad in found)

    def _made(self, spread: Tensor, slopes: bool, taps: Sequence[Sequence[float]]) -> Tensor:
        """Masks as they meet the input: with the low-pass, and then with zeros between taps for a dilation."""
        with torch.autocast(spread.device.type, enabled=False):
            masks = self.masks(spread, slopes)
            if self.antialias:
                masks = smoothed(dilated(masks, self.dilation), taps)
                return masks * math.prod(self.stride) if self.transposed else masks
            return masks

    def kernel(self, taps: Sequence[Sequence[float]] = ()) -> Tensor:
        """Return the expanded kernel with the present weights.

        Args:
            taps: low-pass taps of each axis.

        Shape: -> (out_channels, in_channels // groups, ...), as the weight of torch's own layer; the transpose's likewise.
        """
        masks = self._made(self.masks.spread, False, taps)
        with torch.autocast(masks.device.type, enabled=False):
            dtype = torch.promote_types(self.weight.dtype, masks.dtype)
            whole = self.weight.to(dtype).flatten(0, 1) @ masks.to(dtype).flatten(1)
        return whole.view(*self.weight.shape[:2], *masks.shape[1:])

    def _kept(self, name: Hashable, make: Any) -> Any:
        """What ``make`` gives, kept in evaluation until a weight changes."""
        return self.kept(name, make, [self.weight, self.masks.spread])

    def chosen_form(self) -> str:
        """Return "direct" or "rings": the form asked for, or that of the least estimated work."""
        if self.form != "auto":
            return self.form
        taps = math.prod(self.span if self.antialias else (self.kernel_size,) * self.dims)
        pairs = self.in_channels * self.out_channels // self.groups
        maps = self.masks.rings * (self.out_channels if self.transposed else self.in_channels)
        rings = maps * (taps * _DEPTHWISE + _NUMBER) + self.masks.rings * pairs * _MIX
        return "rings" if rings < pairs * taps else "direct"

    def _check(self, x: Tensor) -> None:
        check_tensor(x)
        if x.ndim != self.dims + 2 or x.shape[1] != self.in_channels:
            axes = ", ".join("DHW"[3 - self.dims :]) if self.dims > 1 else "L"
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.in_channels}, {axes})")

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}, "
            f"antialias={self.antialias}, form={self.form!r}"
        )


def export_places(
    layer: RingConv, size: Several | None
) -> tuple[tuple[tuple[float, ...], ...], tuple[int, ...]]:
    """Low-pass taps and padding of a layer that is exported, for one size of input. Raises: ValueError without a needed size."""
    if not layer.antialias:
        return (), layer.padding
    if size is None:
        raise ValueError("size is None; expected the input's size, by which the stride's windows are placed")
    return layer.places(each_axis("size", size, layer.dims, 1))


@torch.no_grad()
def plain_conv(layer: RingConv, kind: Any, kernel: Tensor, pads: Sequence[int], **more: Any) -> nn.Module:
    """A convolution of torch with a kernel and this layer's bias."""
    conv: Any = kind(
        layer.in_channels, layer.out_channels, tuple(kernel.shape[2:]), layer.stride, tuple(pads),
        dilation=1 if layer.antialias else layer.dilation, groups=layer.groups, bias=layer.bias is not None, **more,
    ).to(layer.weight)  # fmt: skip
    conv.weight.copy_(kernel)
    if layer.bias is not None:
        conv.bias.copy_(layer.bias)
    conv.train(layer.training)
    return conv  # type: ignore[no-any-return]
