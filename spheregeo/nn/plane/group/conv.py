r"""``GroupConv2d``: convolution of fields of a planar group, one ``conv2d`` with a kernel that is its filters in all poses.

    K[o, t, c, s, u] = ψ[o, c, t⁻¹ s, t⁻¹ u]

Reference: Cohen & Welling 2016, arXiv:1602.07576; Weiler, Hamprecht & Storath 2018, arXiv:1711.07289.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.autograd import is_watched
from spheregeo.checks import check_count, check_tensor
from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.plane.group.filters import Pair, PixelFilters

MODES = ("zeros", "reflect", "replicate", "circular")


def pair(name: str, value: int | Sequence[int], least: int = 1) -> Pair:
    """One whole number for each axis. Raises: ValueError for other counts, or numbers below ``least``."""
    found = (value,) * 2 if isinstance(value, int) else tuple(value)
    if len(found) != 2:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}, or two")
    return check_count(name, found[0], least), check_count(name, found[1], least)


def common_group(in_type: PlanarType, out_type: PlanarType, group: str | PlanarGroup | None) -> PlanarGroup:
    """The group of two types. Raises: ValueError where there is none, or more than one."""
    given = None if group is None else PlanarGroup.of(group)
    named = {g for g in (in_type.group, out_type.group, given) if g is not None}
    if len(named) != 1:
        raise ValueError(
            f"in_type is '{in_type}', out_type '{out_type}' and group {given}; expected one group"
            + ("" if named else ": with trivial fields alone give group, such as 'D4'")
        )
    return named.pop()


class GroupConv2d(ExactBuffers):
    """Group convolution on images: lifting, between regular or quotient fields, and projection to trivial ones.

    Args:
        in_type, out_type: fields, such as ``"3x0"`` (three plain channels), ``"16xD4"`` (regular fields), ``"4xD4/C2"``
            (quotient fields), or sums of such terms of one group; see :class:`~spheregeo.groups.PlanarType`.
        kernel_size: taps along each side, odd or even; for rows and columns apart only where the group has no quarter turns.
        stride: step of the output; rotations stay exact where (size + 2 padding − dilation (kernel_size − 1) − 1) is a multiple.
        padding: pixels added on each side, or ``"same"``, which takes an odd kernel and stride 1.
        dilation: distance between taps.
        groups: blocks of fields that see one another alone, as for ``torch.nn.Conv2d``; in_type and out_type of one kind each.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        bias: a learned constant for each field.
        group: the group, where both types have trivial fields alone.

    Shape: (B, in_type.dim, H, W) -> (B, out_type.dim, H', W'); elements of the group fastest among channels.
    Equivariance: C_n and D_n with n in 1, 2, 4: exact (1e-15 in float64) on square images.
    Raises: ValueError for types of two groups, kernels that a quarter turn does not map to themselves, and other inputs.
    Reference: Cohen & Welling 2016, arXiv:1602.07576.

    Example:
        >>> lift, conv = GroupConv2d("3x0", "8xD4", 3, padding=1), GroupConv2d("8xD4", "8xD4", 3, padding=1)
        >>> conv(lift(torch.randn(1, 3, 9, 9))).shape
        torch.Size([1, 64, 9, 9])
    """

    def __init__(
        self,
        in_type: str | PlanarType,
        out_type: str | PlanarType,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        bias: bool = True,
        group: str | PlanarGroup | None = None,
    ) -> None:
        super().__init__()
        self.in_type, self.out_type = PlanarType.of(in_type), PlanarType.of(out_type)
        self.group = common_group(self.in_type, self.out_type, group)
        self.kernel_size, self.stride = pair("kernel_size", kernel_size), pair("stride", stride)
        self.dilation, self.groups = pair("dilation", dilation), check_count("groups", groups)
        self.padding = self._padding(padding)
        if padding_mode not in MODES:
            raise ValueError(f"padding_mode is {padding_mode!r}; expected one of {', '.join(MODES)}")
        self.padding_mode = padding_mode
        if self.group.n not in (1, 2):
            for name in ("kernel_size", "stride", "padding", "dilation"):
                rows, columns = getattr(self, name)
                if rows != columns:
                    raise ValueError(
                        f"{name} is {(rows, columns)}; expected rows and columns alike for group {self.group}, "
                        "which has quarter turns"
                    )
        kinds = (self.in_type.terms, self.out_type.terms)
        if groups > 1 and (any(len(terms) > 1 or terms[0][0] % groups for terms in kinds)):
            raise ValueError(
                f"groups is {groups} with in_type '{self.in_type}' and out_type '{self.out_type}'; expected types of "
                "one kind of fields, and numbers of fields that groups divides"
            )
        # sizes apart: compilers read numbers, not types
        self.sizes = (self.in_type.dim, self.out_type.dim)
        self.counts = tuple([number for number, _ in terms] for terms in kinds)
        self.filters = [
            [PixelFilters(self.group, out, into, self.kernel_size) for _, into in kinds[0]]
            for _, out in kinds[1]
        ]
        self.weights = nn.ParameterList()
        for o, row in enumerate(self.filters):
            for i, filters in enumerate(row):
                self.weights.append(
                    torch.empty(self.counts[1][o], self.counts[0][i] // groups, filters.count)
                )
                for name, value in filters.constants.items():
                    self.register_buffer(f"{name}{o}_{i}", value, persistent=False)
        widths = torch.tensor(self.out_type.widths)
        self.register_buffer("field", torch.arange(len(widths)).repeat_interleave(widths), persistent=False)
        self.bias = nn.Parameter(torch.empty(len(widths))) if bias else None
        self._cache: tuple[tuple[object, ...], Tensor] | None = None
        self.reset_parameters()

    def _padding(self, padding: int | Sequence[int] | str) -> Pair:
        if not isinstance(padding, str):
            return pair("padding", padding, 0)
        if padding != "same" or self.stride != (1, 1) or any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(
                f"padding is {padding!r} with kernel_size {self.kernel_size} and stride {self.stride}; expected numbers, "
                "or 'same' with an odd kernel and stride 1"
            )
        (rows, columns), (down, right) = self.kernel_size, self.dilation
        return down * (rows - 1) // 2, right * (columns - 1) // 2

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights: independent input of unit variance gives output of unit variance. Zero bias."""
        dim = self.sizes[0] // self.groups
        k = 0
        for row in self.filters:
            for filters in row:
                weight = self.weights[k]
                share = weight.shape[1] * filters.shape[1] / dim  # of the output's variance
                weight.normal_(std=math.sqrt(share / (weight.shape[1] * filters.energy)))
                k += 1
        if self.bias is not None:
            self.bias.zero_()

    def kernel(self) -> Tensor:
        """The expanded kernel. Shape: (out_type.dim, in_type.dim / groups, *kernel_size)."""
        rows, k = [], 0
        for o, row in enumerate(self.filters):
            parts = []
            for i, filters in enumerate(row):
                constants = {name: self.get_buffer(f"{name}{o}_{i}") for name in filters.constants}
                part = filters.expand(self.weights[k], constants)
                parts.append(part.reshape(part.shape[0] * part.shape[1], -1, math.prod(self.kernel_size)))
                k += 1
            rows.append(parts[0] if len(parts) == 1 else torch.cat(parts, 1))
        whole = rows[0] if len(rows) == 1 else torch.cat(rows)
        return whole.unflatten(2, self.kernel_size)

    def _current(self) -> Tensor:
        """The kernel, kept in evaluation until a weight changes."""
        needed = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.weights)
        if self.training or needed or is_watched():
            return self.kernel()
        state = tuple((weight._version, weight.data_ptr(), weight.dtype) for weight in self.weights)
        if self._cache is None or self._cache[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                self._cache = (state, self.kernel())
        return self._cache[1]

    def train(self, mode: bool = True) -> GroupConv2d:
        self._cache = None
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim != 4 or x.shape[1] != self.sizes[0]:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.sizes[0]}, H, W)")
        kernel = self._current().to(x.dtype)
        bias = None if self.bias is None else self.bias.index_select(0, self.get_buffer("field")).to(x.dtype)
        padding = self.padding
        if self.padding_mode != "zeros":
            (down, right), padding = padding, (0, 0)
            x = F.pad(x, (right, right, down, down), self.padding_mode)
        return F.conv2d(x, kernel, bias, self.stride, padding, self.dilation, self.groups)

    @torch.no_grad()
    def export(self) -> nn.Conv2d:
        """A plain ``torch.nn.Conv2d`` with the same output, which holds the expanded kernel."""
        kernel = self.kernel()
        plain = nn.Conv2d(
            *self.sizes, self.kernel_size, self.stride, self.padding, self.dilation, self.groups,
            self.bias is not None, self.padding_mode, device=kernel.device, dtype=kernel.dtype,
        )  # fmt: skip
        plain.weight.copy_(kernel)
        if plain.bias is not None and self.bias is not None:
            plain.bias.copy_(self.bias[self.get_buffer("field")])
        return plain.train(self.training)

    def extra_repr(self) -> str:
        return (
            f"{self.in_type}, {self.out_type}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
            + (f", groups={self.groups}" if self.groups > 1 else "")
            + ("" if self.bias is not None else ", bias=False")
        )
