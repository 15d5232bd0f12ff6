r"""``GroupConv2d``: convolution of fields of a planar group, one ``conv2d`` with a kernel that is its filters in all poses.

    K[o, t, c, s, u] = ψ[o, c, t⁻¹ s, t⁻¹ u]

Reference: Cohen & Welling 2016, arXiv:1602.07576; Weiler, Hamprecht & Storath 2018, arXiv:1711.07289.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_count, check_tensor
from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.kept import KeptInEvaluation
from spheregeo.nn.plane.basis import PlanarBasis
from spheregeo.nn.plane.group.filters import HarmonicFilters, Pair, PixelFilters

MODES = ("zeros", "reflect", "replicate", "circular")


def pair(name: str, value: int | Sequence[int], least: int = 1) -> Pair:
    """One whole number for each axis. Raises: ValueError for other counts, or numbers below ``least``."""
    found = tuple(value) if isinstance(value, Sequence) else (value,) * 2
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


class GroupConv2d(KeptInEvaluation, ExactBuffers):
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
        filters: ``"pixels"``, a weight for each tap, for groups of 1, 2 or 4 turns; ``"harmonics"``, circular harmonics, which
            any element turns by their phase; None for pixels where the group has them.
        tolerance: of harmonics, the greatest error of turning of one function, as for ``PlanarBasis``. A larger one gives more
            functions: with 0.01 there are 4 of size 3, 11 of size 5, 27 of size 7; with 0.02 there are 6, 22 and 50.

    Shape: (B, in_type.dim, H, W) -> (B, out_type.dim, H', W'); elements of the group fastest among channels.
    Equivariance: C_n and D_n with n in 1, 2, 4, and quarter turns of groups that have them: exact (1e-15 in float64) on square
        images. Other elements: approximate inside the image; two layers by 45° (C8) and 22.5° (C16), relative, random parameters,
        images smoothed by σ = 2 pixels: 1e-3 to 4e-3 for sizes 3 to 9, and with a ReLU between 1.3e-2 to 1.9e-2.
    Raises: ValueError for types of two groups, kernels that a quarter turn does not map to themselves, pixels for a group of
        other turns, and other inputs.
    Reference: Cohen & Welling 2016, arXiv:1602.07576; Weiler, Hamprecht & Storath 2018, arXiv:1711.07289.

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
        filters: str | None = None,
        tolerance: float = 0.01,
    ) -> None:
        super().__init__()
        self.in_type, self.out_type = PlanarType.of(in_type), PlanarType.of(out_type)
        self.group = common_group(self.in_type, self.out_type, group)
        self.kernel_size, self.stride = pair("kernel_size", kernel_size), pair("stride", stride)
        self.dilation, self.groups = pair("dilation", dilation), check_count("groups", groups)
        self.padding = self._padding(padding)
        if padding_mode not in MODES:
            raise ValueError(f"padding_mode is {padding_mode!r}; expected one of {', '.join(MODES)}")
        self.padding_mode: Any = padding_mode
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
        basis = self._basis(filters, tolerance)
        self.filters = [
            [
                PixelFilters(self.group, out, into, self.kernel_size)
                if basis is None
                else HarmonicFilters(self.group, out, into, basis)
                for _, into in kinds[0]
            ]
            for _, out in kinds[1]
        ]
        self.weights = nn.ParameterList()
        for o, row in enumerate(self.filters):
            for i, space in enumerate(row):
                self.weights.append(torch.empty(self.counts[1][o], self.counts[0][i] // groups, space.count))
                for name, value in space.constants.items():
                    if value.is_floating_point():
                        self.keep(f"{name}{o}_{i}", value)
                    else:
                        self.register_buffer(f"{name}{o}_{i}", value, persistent=False)
        widths = torch.tensor(self.out_type.widths)
        self.register_buffer("field", torch.arange(len(widths)).repeat_interleave(widths), persistent=False)
        self.bias = nn.Parameter(torch.empty(len(widths))) if bias else None
        self.reset_parameters()

    def _basis(self, filters: str | None, tolerance: float) -> PlanarBasis | None:
        if filters not in (None, "pixels", "harmonics"):
            raise ValueError(f"filters is {filters!r}; expected 'pixels' or 'harmonics'")
        if filters is None:
            filters = "pixels" if self.group.is_exact else "harmonics"
        if filters == "pixels" and not self.group.is_exact:
            raise ValueError(
                f"filters is 'pixels' for group {self.group}; expected 'harmonics': its turns do not map pixels onto pixels"
            )
        if filters == "pixels":
            return None
        if self.kernel_size[0] != self.kernel_size[1]:
            raise ValueError(
                f"kernel_size is {self.kernel_size}; expected rows and columns alike for harmonics"
            )
        return PlanarBasis(self.kernel_size[0], tolerance)

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
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Normal weights: independent input of unit variance gives output of unit variance. Zero bias.

        Args:
            generator: source of random numbers.
        """
        dim = self.sizes[0] // self.groups
        k = 0
        for row in self.filters:
            for space in row:  # each pair of fields by its share in the channels that go in
                self.weights[k].normal_(
                    std=math.sqrt(space.shape[1] / (dim * space.energy)), generator=generator
                )
                k += 1
        if self.bias is not None:
            self.bias.zero_()

    def kernel(self) -> Tensor:
        """The expanded kernel. Shape: (out_type.dim, in_type.dim / groups, *kernel_size)."""
        rows, k = [], 0
        with torch.autocast(self.weights[0].device.type, enabled=False):
            for o, row in enumerate(self.filters):
                parts = []
                for i, space in enumerate(row):
                    constants = {name: self.get_buffer(f"{name}{o}_{i}") for name in space.constants}
                    part = space.expand(self.weights[k], constants)
                    parts.append(part.reshape(part.shape[0] * part.shape[1], -1, space.shape[2]))
                    k += 1
                rows.append(parts[0] if len(parts) == 1 else torch.cat(parts, 1))
        whole = rows[0] if len(rows) == 1 else torch.cat(rows)
        return whole.unflatten(2, self.kernel_size)

    def _current(self) -> Tensor:
        """The kernel, kept in evaluation until a weight changes."""
        return self.kept("kernel", self.kernel, self.weights)

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
