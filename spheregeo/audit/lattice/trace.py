"""One pass through a network that notes every operation which moves pixels; convolutions are not computed, only their sizes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils.weak import WeakIdKeyDictionary

from spheregeo.audit.lattice.axis import Adaptive, Axis, Cut, Interpolated, Shuffled, Transposed, Window

Axes = tuple[Axis, Axis]  # of rows and columns


@dataclass(frozen=True)
class TracedStep:
    """An operation that reads pixels of its input, at the sizes of one pass.

    Args:
        module: path of the module that calls the operation; "" for the network itself.
        operation: name of the operation.
        axes: what rows and columns read.
        before: padding that rows and columns go through first; None for none.
        size: rows and columns of the input, before padding.
        out: rows and columns of the output.
        exact: whether the module keeps symmetry by a rule of its own, so that its axes do not count.
    """

    module: str
    operation: str
    axes: Axes | None
    before: Axes | None
    size: tuple[int, int]
    out: tuple[int, int]
    exact: bool = False

    def mirrors(self, axis: int) -> bool:
        """Return whether the rows (0) or the columns (1) may be reversed."""
        if self.axes is None or self._is_empty():
            return True
        return self.axes[axis].is_mirrored(self.size[axis], self.before and self.before[axis])

    def turns_into(self, other: TracedStep) -> bool:
        """Return whether rows read what columns read in another pass, and columns what its rows read.

        Args:
            other: the same operation in a pass whose image has rows and columns exchanged.
        """
        if self.axes is None or other.axes is None:
            return self.axes is other.axes and self.out == other.out[::-1]
        if self.size != other.size[::-1] or self.out != other.out[::-1]:
            return False
        if self._is_empty() and other._is_empty():
            return True
        for one, two in ((0, 1), (1, 0)):
            mine = self.axes[one].read(self.size[one], self.before and self.before[one])
            if not mine.equals(other.axes[two].read(other.size[two], other.before and other.before[two])):
                return False
        return True

    def why(self) -> str:
        """Return why reversing rows or columns changes the output; "" where it does not."""
        if self.axes is None:
            return ""
        for axis, name in ((0, "rows"), (1, "columns")):
            if not self.mirrors(axis):
                reason = self.axes[axis].why(self.size[axis], self.before and self.before[axis])
                return f"{name}: {reason}"
        return ""

    def _is_empty(self) -> bool:
        assert self.axes is not None
        return any(
            axis.read(n, self.before and self.before[k]).is_empty
            for k, (axis, n) in enumerate(zip(self.axes, self.size, strict=True))
        )

    def __str__(self) -> str:
        return f"{self.module or 'network'} ({self.describe()})"

    def describe(self) -> str:
        """Return the operation and its arguments."""
        if self.axes is None:
            return self.operation
        rows, columns = (str(a) for a in self.axes)
        return f"{self.operation} {rows if rows == columns else f'{rows} | {columns}'}".strip()


def _two(value: Any) -> tuple[Any, Any]:
    return (value[0], value[-1]) if isinstance(value, (tuple, list, torch.Size)) else (value, value)


def _windows(kernel: Any, stride: Any, padding: Any, dilation: Any = 1, **more: Any) -> Axes:
    made = [
        Window(int(k), int(s), int(p), int(p), int(d), **more)
        for k, s, p, d in zip(_two(kernel), _two(stride), _two(padding), _two(dilation), strict=True)
    ]
    return made[0], made[1]


def _conv(x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
          groups: int = 1) -> Axes:  # fmt: skip
    kernel = weight.shape[-2:]
    if padding == "valid":
        padding = 0
    if padding == "same":  # one more at the end where the sum is odd
        sums = [d * (k - 1) for k, d in zip(kernel, _two(dilation), strict=True)]
        made = [
            Window(k, 1, p // 2, p - p // 2, d) for k, p, d in zip(kernel, sums, _two(dilation), strict=True)
        ]
        return made[0], made[1]
    return _windows(kernel, stride, padding, dilation)


def _transposed(x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                groups: int = 1, dilation: Any = 1) -> Axes:  # fmt: skip
    arguments = (_two(stride), _two(padding), _two(output_padding), _two(dilation))
    made = [
        Transposed(int(k), *(int(v) for v in rest))
        for k, *rest in zip(weight.shape[-2:], *arguments, strict=True)
    ]
    return made[0], made[1]


def _max_pool(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
              return_indices: bool = False) -> Axes:  # fmt: skip
    return _windows(kernel_size, stride or kernel_size, padding, dilation, ceil=ceil_mode, reduce="set")


def _avg_pool(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
              count_include_pad: bool = True, divisor_override: int | None = None) -> Axes:  # fmt: skip
    reduce = "sum" if divisor_override else "mean" if count_include_pad else "inside"
    return _windows(kernel_size, stride or kernel_size, padding, ceil=ceil_mode, reduce=reduce)


def _lp_pool(
    x: Tensor, norm_type: Any, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Axes:
    return _windows(kernel_size, stride or kernel_size, 0, ceil=ceil_mode, reduce="mean")


def _unfold(x: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Axes:
    return _windows(kernel_size, stride, padding, dilation)


def _adaptive(reduce: str) -> Callable[..., Axes]:
    def found(x: Tensor, output_size: Any, return_indices: bool = False) -> Axes:
        rows, columns = _two(output_size)
        return Adaptive(rows, reduce), Adaptive(columns, reduce)

    return found


def _interpolate(x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: Any = None,
                 recompute_scale_factor: Any = None, antialias: bool = False) -> Axes:  # fmt: skip
    made = [
        Interpolated(n if n is None else int(n), s if s is None else float(s), mode, align_corners, recompute_scale_factor,
                     antialias)
        for n, s in zip(_two(size), _two(scale_factor), strict=True)
    ]  # fmt: skip
    return made[0], made[1]


def _pad(x: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Axes | None:
    pad = [*pad, 0, 0][: max(4, len(pad))]
    if not any(pad[:4]):
        return None
    fill = float(value or 0.0)
    return Cut(int(pad[2]), int(pad[3]), mode, fill), Cut(int(pad[0]), int(pad[1]), mode, fill)


def _getitem(x: Tensor, index: Any) -> Axes | None:
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(i, (Tensor, list)) for i in index):
        return None
    kept = [i for i in index if i is not None]
    if Ellipsis in kept:
        at = kept.index(Ellipsis)
        kept[at : at + 1] = [slice(None)] * (x.ndim - len(kept) + 1)
    kept += [slice(None)] * (x.ndim - len(kept))
    cuts: list[Axis] = []
    for size, part in zip(x.shape[-2:], kept[-2:], strict=True):
        if isinstance(part, int):
            part = slice(part, None if part == -1 else part + 1)
        if not isinstance(part, slice):
            return None
        start, stop, step = part.indices(size)
        count = max(0, -(-(stop - start) // step))
        cuts.append(Cut(-start, min(stop, start + (count - 1) * step + 1) - size, step=step))
    return (cuts[0], cuts[1]) if any(c != Cut() for c in cuts) else None


def _shuffle(up: bool) -> Callable[..., Axes]:
    return lambda x, factor: (Shuffled(factor, up), Shuffled(factor, up))


RULES: dict[Any, Callable[..., Axes | None]] = {
    F.conv2d: _conv, torch.conv2d: _conv,
    F.conv_transpose2d: _transposed, torch.conv_transpose2d: _transposed,
    F.max_pool2d: _max_pool, F.max_pool2d_with_indices: _max_pool, torch.max_pool2d: _max_pool,
    F.avg_pool2d: _avg_pool, F.lp_pool2d: _lp_pool, F.unfold: _unfold,
    F.adaptive_avg_pool2d: _adaptive("inside"),
    F.adaptive_max_pool2d: _adaptive("set"), F.adaptive_max_pool2d_with_indices: _adaptive("set"),
    F.interpolate: _interpolate, F.pad: _pad, Tensor.__getitem__: _getitem,
    F.pixel_shuffle: _shuffle(True), F.pixel_unshuffle: _shuffle(False),
    torch.pixel_shuffle: _shuffle(True), torch.pixel_unshuffle: _shuffle(False),
}  # fmt: skip
CONVOLUTIONS = (_conv, _transposed)
PLAIN = {
    "reshape",
    "view",
    "permute",
    "transpose",
    "flatten",
    "matmul",
    "__matmul__",
    "einsum",
    "expand",
    "unflatten",
}


@dataclass
class Trace:
    """What a pass showed.

    Args:
        steps: operations that read pixels, in their order.
        unknown: operations that change the size of images and have no rule here, with the module that called them.
    """

    steps: list[TracedStep] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class _Watch(TorchFunctionMode):
    def __init__(self, weights: Any) -> None:
        super().__init__()
        self.found = Trace()
        self.modules: list[str] = []
        self.silent = 0  # modules with a rule of their own that are being evaluated
        self.weights = WeakIdKeyDictionary({w: True for w in weights})
        self.padded: Any = WeakIdKeyDictionary()  # output of a padding -> its step

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        image = args[0] if args else kwargs.get("input")
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        of_weights = bool(given) and all(a in self.weights for a in given)
        rule = RULES.get(func)
        if of_weights or not isinstance(image, Tensor) or image.ndim < 3:
            return self._note(func(*args, **kwargs), of_weights)
        if not args:
            args, kwargs = (image,), {k: v for k, v in kwargs.items() if k != "input"}
        axes = rule(*args, **kwargs) if rule and (image.ndim > 3 or rule is not _getitem) else None
        if axes is None:
            out = self._note(func(*args, **kwargs), False)
            if rule is None:
                self._check_size(func, image, out)
            return out
        size = (int(image.shape[-2]), int(image.shape[-1]))
        counts = (axes[0].outputs(size[0]), axes[1].outputs(size[1]))
        if rule in CONVOLUTIONS and min(counts) > 0:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
            width = weight.shape[0] if rule is _conv else weight.shape[1] * groups
            out = image.new_zeros(*image.shape[:-3], width, *counts)
        else:
            out = func(*args, **kwargs)
        if self.silent:
            return out
        name = getattr(func, "__name__", str(func))
        name = {"__getitem__": "slice"}.get(name, name.removesuffix("_with_indices").removeprefix("boolean_"))
        before = None
        if isinstance(axes[0], Window) and image in self.padded:
            pad = self.padded[image]
            before, size = pad.axes, pad.size
            self.found.steps = [s for s in self.found.steps if s is not pad]
        step = TracedStep(self.modules[-1] if self.modules else "", name, axes, before, size, counts)
        self.found.steps.append(step)
        if rule is _pad:
            self.padded[out] = step
        return out

    def _note(self, out: Any, of_weights: bool) -> Any:
        if of_weights:
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(tensor, Tensor):
                    self.weights[tensor] = True
        return out

    def _check_size(self, func: Any, image: Tensor, out: Any) -> None:
        if self.silent or not isinstance(out, Tensor) or image.ndim != 4 or out.ndim != 4:
            return
        name = getattr(func, "__name__", "") or str(resolve_name(func))
        if name in PLAIN or image.shape[-2:] == out.shape[-2:] or 1 in out.shape[-2:]:
            return
        where = self.modules[-1] if self.modules else ""
        text = f"{where or 'network'} ({name})"
        if text not in self.found.unknown:
            self.found.unknown.append(text)


@contextmanager
def _hooks(network: nn.Module, watch: _Watch) -> Iterator[None]:
    handles = []
    mine = weakref.proxy(watch)

    def enter(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: Any, inputs: Any, keywords: Any) -> None:
            mine.modules.append(name)
            if getattr(module, "exact_subsampling", False):
                mine.silent += 1

        return hook

    def leave(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: Any, inputs: Any, keywords: Any, output: Any) -> None:
            mine.modules.pop()
            if not getattr(module, "exact_subsampling", False):
                return
            mine.silent -= 1
            first = output[0] if isinstance(output, tuple) else output
            if not mine.silent:
                given = next(a for a in (*inputs, *keywords.values()) if isinstance(a, Tensor))
                sizes = [(int(t.shape[-2]), int(t.shape[-1])) for t in (given, first)]
                mine.found.steps.append(
                    TracedStep(name, type(module).__name__, None, None, sizes[0], sizes[1], True)
                )

        return hook

    try:
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(enter(name, module), with_kwargs=True))
            handles.append(module.register_forward_hook(leave(name, module), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def trace(network: nn.Module, x: Tensor) -> Trace:
    """Return the operations of a pass that read pixels. Convolutions give zeros: values are not to be used.

    Args:
        network: a network in evaluation mode, called as ``network(x)``.
        x: images, (B, C, H, W).
    """
    watch = _Watch([*network.parameters(), *network.buffers()])
    with _hooks(network, watch), watch:
        network(x)
    return watch.found
