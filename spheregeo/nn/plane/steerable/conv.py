r"""``SteerableConv2d``: convolution between fields on images, with all the kernels that commute with turns.

    K(u) = Σ_{μ, j, i} w_{μji} R_{μj}(|u|) (A_{μi} cos μφ_u + B_{μi} sin μφ_u)

(A, B) run over all pairs that the group leaves alone, profiles R over those of :class:`~spheregeo.nn.plane.basis.PlanarBasis`.
Reference: Weiler & Cesa 2019, arXiv:1911.08251.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spheregeo.groups import FieldType, PlanarGroup, PlanarType
from spheregeo.groups.plane_fields import (
    PlaneSymmetry,
    field_kinds,
    invariant_vectors,
    plane_type,
    steerable_matrices,
)
from spheregeo.nn.plane.basis import PlanarBasis, TapBasis
from spheregeo.nn.plane.expanded import ExpandedConv2d

Block = tuple[int, Tensor, tuple[int, int], tuple[slice, slice]]


class SteerableConv2d(ExpandedConv2d):
    """Steerable convolution on images for SO(2), O(2), C_n or D_n, between fields of orders, regular and quotient fields.

    A field of order m is a pair of channels that a turn of the image by a also turns, by m·a; see
    :class:`~spheregeo.groups.FieldType`. x is to the right, y upwards, angles counter-clockwise; the reflection is x → −x.

    Args:
        in_type, out_type: fields: ``"8x0 + 4x1"``, 8 scalars and 4 vectors (``"2x0o"`` for scalars that change sign in a mirror);
            or ``"3x0 + 16xC8"``, fields of a finite group, see :class:`~spheregeo.groups.PlanarType`.
        kernel_size: taps along each side.
        group: "SO2", "O2", or a finite group such as "C8" or "D8", for which fields of orders have more kernels. None for the
            group of the types, or "SO2".
        stride: step of the output; with ``antialias`` behind a Gaussian low-pass whose windows lie symmetrically whatever the
            size, so that ⌈size / stride⌉ pixels come out.
        antialias: whether a stride comes after a low-pass.
        padding: pixels on each side; "same" keeps the size, or divides it by the stride.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        bias: a learned constant on what the group does not change: scalars, and the mean of regular fields.
        basis: profiles and frequencies of kernels; None for ``PlanarBasis(kernel_size)``. A basis of larger tolerance has more.

    Shape: (B, in_type.dim, H, W) -> (B, out_type.dim, H', W').
    Equivariance: quarter turns and, for O2 and D_n, reflections: exact (1e-15 in float64), an anti-aliased stride included.
        Other turns: relative error at 45° of two layers of regular C8 fields (C16 at 22.5° alike), random weights, on images
        smoothed by σ = 2 pixels: 1e-3 (kernel size 5, 7 and 9), with a ReLU between 1.0e-2, 1.1e-2 and 1.5e-2.
    Raises: ValueError for types or a basis without a common kernel, and images of another number of channels.
    Reference: Weiler & Cesa 2019, arXiv:1911.08251.

    Example:
        >>> conv = SteerableConv2d("3x0", "8x0 + 4x1", 5)
        >>> conv(torch.randn(1, 3, 9, 9)).shape
        torch.Size([1, 16, 9, 9])
    """

    def __init__(
        self,
        in_type: str | FieldType | PlanarType,
        out_type: str | FieldType | PlanarType,
        kernel_size: int = 5,
        *,
        group: str | PlanarGroup | None = None,
        stride: int = 1,
        antialias: bool = True,
        padding: int | str = "same",
        padding_mode: str = "zeros",
        bias: bool = True,
        basis: TapBasis | None = None,
    ) -> None:
        self_in, self_out = plane_type(in_type), plane_type(out_type)
        super().__init__((self_in.dim, self_out.dim), kernel_size, stride, antialias, padding, padding_mode)
        self.in_type, self.out_type = self_in, self_out
        self.group = _group(self_in, self_out, group)
        self.basis: TapBasis = PlanarBasis(kernel_size) if basis is None else basis
        if self.basis.size != kernel_size:
            raise ValueError(f"basis has size {self.basis.size}; expected kernel_size {kernel_size}")
        self.keep("functions", self.basis.functions().flatten(1))
        self._inside, self._outside = [
            [(number, kind, kind.width) for number, kind in field_kinds(fields)]
            for fields in (self_in, self_out)
        ]
        # for each term of out_type and of in_type: (frequency, matrices, profiles) of the frequencies that the pair has
        self._parts: list[list[list[tuple[int, int, int]]]] = []
        self._profiles = [self.basis.count(frequency) for frequency in range(self.basis.top + 1)]
        for o, (_, out, _) in enumerate(self._outside):
            self._parts.append([])
            for i, (_, into, _) in enumerate(self._inside):
                parts = []
                for frequency, profiles in enumerate(self._profiles):
                    matrices = steerable_matrices(into, out, self.group, frequency)
                    if len(matrices):
                        self.keep(f"matrices{o}_{i}_{frequency}", matrices.flatten(1))
                        parts.append((frequency, len(matrices), profiles))
                self._parts[-1].append(parts)
            if not any(self._parts[-1]):
                raise ValueError(
                    f"out_type '{self_out}' has fields that no kernel of size {kernel_size} makes of in_type '{self_in}' for "
                    f"group {self.group} (frequencies up to {self.basis.top}); take a larger kernel, or a basis of larger "
                    "tolerance"
                )
        self.weights = nn.ParameterList(
            torch.empty(
                sum(n * j * copies for (copies, _, _), parts in zip(self._inside, row) for _, n, j in parts),
                number,
            )
            for (number, _, _), row in zip(self._outside, self._parts)
        )
        constants = torch.block_diag(
            *[invariant_vectors(kind, self.group) for number, kind, _ in self._outside for _ in range(number)]
        )
        self.keep("constants", constants)
        self.bias = nn.Parameter(torch.empty(len(constants))) if bias and len(constants) else None
        self.reset_parameters()

    @property
    def num_elements(self) -> int:
        """Dimension of the space of kernels, that is, the number of weights without the bias."""
        return sum(weight.numel() for weight in self.weights)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights: independent input of unit variance gives output of unit variance. Zero bias."""
        for weight, (_, _, width) in zip(self.weights, self._outside):
            weight.normal_(std=math.sqrt(width / len(weight)))  # elements have unit norm over all entries
        if self.bias is not None:
            self.bias.zero_()

    def coefficients(self) -> Tensor:
        """The kernel as a mixture of the functions of the basis. Shape: (functions, out_type.dim, in_type.dim)."""
        rows = []
        for o, ((number, _, width), weight) in enumerate(zip(self._outside, self.weights)):
            row, start = [], 0
            for i, (copies, _, depth) in enumerate(self._inside):
                sizes = {frequency: (n, j) for frequency, n, j in self._parts[o][i]}
                found = []
                for frequency, profiles in enumerate(self._profiles):
                    waves = 2 if frequency else 1
                    if frequency not in sizes:
                        found.append(weight.new_zeros(profiles * waves, number * width, copies * depth))
                        continue
                    n, j = sizes[frequency]
                    part = weight.narrow(0, start, n * j * copies).view(n, -1)
                    start += n * j * copies
                    mixed = part.T @ self.get_buffer(f"matrices{o}_{i}_{frequency}").to(weight.dtype)
                    mixed = mixed.view(j, copies, number, waves, width, depth).permute(0, 3, 2, 4, 1, 5)
                    found.append(mixed.reshape(j * waves, number * width, copies * depth))
                row.append(torch.cat(found))
            rows.append(torch.cat(row, 2))
        return torch.cat(rows, 1)

    def blocks(self) -> Iterator[list[Block]]:
        """For each weight: first row, kernels, (fields out, fields in) and (channels out, channels in) of each pair of terms.

        Kernels are (elements, width out, width in, kernel_size, kernel_size) float64; each takes as many rows as there are
        fields in.
        """
        functions = self.exact("functions").unflatten(1, (self.kernel_size, self.kernel_size))
        firsts = [0]
        for profiles in self._profiles:
            firsts.append(firsts[-1] + profiles * (2 if len(firsts) > 1 else 1))
        below = 0
        for o, (number, _, width) in enumerate(self._outside):
            found: list[Block] = []
            start = left = 0
            rows = slice(below, below + number * width)
            below = rows.stop
            for i, (copies, _, depth) in enumerate(self._inside):
                elements = [functions.new_zeros(0, width, depth, *functions.shape[1:])]
                for frequency, _, profiles in self._parts[o][i]:
                    waves = functions[firsts[frequency] : firsts[frequency + 1]].unflatten(0, (profiles, -1))
                    matrices = self.exact(f"matrices{o}_{i}_{frequency}").unflatten(1, (-1, width, depth))
                    elements.append(torch.einsum("ncab,jcxy->njabxy", matrices, waves).flatten(0, 1))
                columns = slice(left, left + copies * depth)
                left = columns.stop
                found.append((start, torch.cat(elements), (number, copies), (rows, columns)))
                start += len(found[-1][1]) * copies
            yield found

    def kernel(self) -> Tensor:
        """The expanded kernel. Shape: (out_type.dim, in_type.dim, kernel_size, kernel_size)."""
        mixture = self.coefficients()
        whole = mixture.flatten(1).T @ self.get_buffer("functions").to(mixture.dtype)
        return whole.view(self.sizes[1], self.sizes[0], self.kernel_size, self.kernel_size)

    def constant(self) -> Tensor | None:
        return None if self.bias is None else self.bias @ self.get_buffer("constants").to(self.bias.dtype)

    def extra_repr(self) -> str:
        return f"'{self.in_type}', '{self.out_type}', {super().extra_repr()}, group={self.group}"


def _group(
    in_type: FieldType | PlanarType, out_type: FieldType | PlanarType, given: str | PlanarGroup | None
) -> PlaneSymmetry:
    """The group of two types. Raises: ValueError where they have two, or another than the given one."""
    named = {
        PlaneSymmetry.of(fields.group)
        for fields in (in_type, out_type)
        if isinstance(fields, PlanarType) and fields.group is not None
    }
    asked = None if given is None else PlaneSymmetry.of(given)
    if len(named | ({asked} if asked else set())) > 1:
        raise ValueError(
            f"in_type is '{in_type}', out_type '{out_type}' and group {asked}; expected one group"
        )
    return asked or (named.pop() if named else PlaneSymmetry.of("SO2"))
