r"""Normalisation of tangent fields: statistics that no choice of frames changes.

Scalars are normalised as usual, by mean and variance. A field of order >= 1, or an odd scalar, has no invariant mean but
zero; it is divided by the root mean square of its components, times a learned scale, and gets no shift. With areas, means
over points are quadratures, each point counting by its share.
Reference: Ioffe & Szegedy 2015, arXiv:1502.03167; Worrall, Garbin, Turmukhambetov & Brostow 2017, arXiv:1612.04642; Weiler & Cesa
2019, arXiv:1911.08251.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.groups import FieldType, check_field
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.surface.stacks import even_scalars, fields, stacks
from spheregeo.nn.surface.statistics import FieldNorm


class FieldBatchNorm(FieldNorm):
    """Batch norm of tangent fields: scalars as usual, every other field divided by the RMS of its components.

    A pair of independent components of variance 1 so keeps its size; its RMS magnitude becomes √2. Learned: a scale for each
    field, a shift for each even scalar. Statistics weigh points by the areas given to the call, or by the grid's, or equally.
    Running ones serve in evaluation; no Bessel correction. On a ragged batch (1, dim, V₁ + V₂ + …) areas weigh large meshes
    more: divide each mesh's by its sum where that is not wanted.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        grid: the points that the fields live on; without it, points weigh alike unless areas come with the call.
        eps: added to the variance.
        momentum: share of a batch in the running statistics; None for the mean of all batches.
        affine: whether to learn a scale and a shift.
        track_running_stats: whether to keep running statistics for evaluation.

    Shape: (B, dim, *points), areas (P,) or (B, P) with P points, or shaped as the points -> (B, dim, *points).
    Equivariance: SO(2) gauge and reflections, exact (1e-15 measured in float64); to rotations of a grid as its quadrature is.
    Raises: ValueError for input of another type, or areas that do not fit.
    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167; Weiler & Cesa 2019, arXiv:1911.08251.

    Example:
        >>> import torch
        >>> from spheregeo.nn import FieldBatchNorm
        >>> FieldBatchNorm("2x0 + 1x1")(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    def __init__(
        self,
        field_type: str | FieldType,
        grid: Grid | None = None,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        sets = fields(FieldType.of(field_type))
        super().__init__(
            field_type, sets, [*map(len, sets)], grid, eps, momentum, affine, track_running_stats, False
        )


class FieldInstanceNorm(FieldNorm):
    """:class:`FieldBatchNorm` with the statistics of each sample by itself, and none kept.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        grid: the points that the fields live on; without it, points weigh alike unless areas come with the call.
        eps: added to the variance.
        affine: whether to learn scales and shifts.

    Shape: (B, dim, *points), areas (P,) or (B, P) with P points, or shaped as the points -> (B, dim, *points).
    Equivariance: as for :class:`FieldBatchNorm`.
    Raises: ValueError as for :class:`FieldBatchNorm`.
    Reference: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.

    Example:
        >>> import torch
        >>> from spheregeo.nn import FieldInstanceNorm
        >>> FieldInstanceNorm("2x0 + 1x1")(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    def __init__(
        self, field_type: str | FieldType, grid: Grid | None = None, *, eps: float = 1e-5, affine: bool = True
    ) -> None:
        sets = fields(FieldType.of(field_type))
        super().__init__(field_type, sets, [*map(len, sets)], grid, eps, None, affine, False, True)


class RegularBatchNorm(FieldNorm):
    """Batch norm over points and samples of the functions of direction that :class:`RegularNonlinearity` acts on.

    The samples' mean is the order-0 component and their mean square Σ|x|² over the orders (Parseval), so no samples are
    needed, and nothing is aliased: all orders of a channel share one scale, its scalar alone is shifted.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        grid: the points that the fields live on; without it, points weigh alike unless areas come with the call.
        eps: added to the variance.
        momentum: share of a batch in the running statistics; None for the mean of all batches.
        affine: whether to learn a scale and a shift.
        track_running_stats: whether to keep running statistics for evaluation.

    Shape: (B, dim, *points), areas (P,) or (B, P) with P points, or shaped as the points -> (B, dim, *points).
    Equivariance: as for :class:`FieldBatchNorm`.
    Raises: ValueError for odd scalars, input of another type, or areas that do not fit.
    Reference: de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425.

    Example:
        >>> import torch
        >>> from spheregeo.nn import RegularBatchNorm
        >>> RegularBatchNorm("2x0 + 1x1")(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    def __init__(
        self,
        field_type: str | FieldType,
        grid: Grid | None = None,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        sets = [channels for _, members in stacks(FieldType.of(field_type)) for channels in members]
        super().__init__(
            field_type, sets, [1] * len(sets), grid, eps, momentum, affine, track_running_stats, False
        )


class FieldLayerNorm(ExactBuffers):
    """Layer norm at each point: even scalars by mean and variance among them, each other order by its fields' RMS.

    Nothing is averaged over points or samples, so it serves ragged batches and batches of one.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        eps: added to the variance.
        affine: whether to learn a scale for each field and a shift for each even scalar.

    Shape: (B, dim, *points) -> the same.
    Equivariance: SO(2) gauge and reflections, exact (1e-15 measured in float64); SO(3) as far as the input is.
    Raises: ValueError for input of another type.
    Reference: Ba, Kiros & Hinton 2016, arXiv:1607.06450; over fields, as in Liao & Smidt 2023, arXiv:2206.11990.

    Example:
        >>> import torch
        >>> from spheregeo.nn import FieldLayerNorm
        >>> FieldLayerNorm("2x0 + 1x1")(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    average: Tensor
    set_of: Tensor
    field_of: Tensor
    mean: Tensor
    even: Tensor

    def __init__(self, field_type: str | FieldType, *, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.field_type, self.eps, self.affine = FieldType.of(field_type), eps, affine
        kinds: dict[tuple[int, int], list[int]] = {}
        for term, (channels, _, order) in zip(self.field_type.terms, self.field_type.blocks, strict=True):
            kinds.setdefault((order, term.parity), []).extend(range(channels.start, channels.stop))
        average = torch.zeros(len(kinds), self.field_type.dim, dtype=torch.float64)
        set_of = torch.zeros(self.field_type.dim, dtype=torch.int64)
        for i, kind in enumerate(kinds.values()):
            average[i, kind] = 1 / len(kind)
            set_of[kind] = i
        each = fields(self.field_type)
        field_of = torch.zeros_like(set_of)
        for i, field in enumerate(each):
            field_of[field] = i
        even = even_scalars(self.field_type)
        mean = torch.zeros(self.field_type.dim, dtype=torch.float64)
        mean[even] = 1 / max(len(even), 1)
        self.keep("average", average)
        self.register_buffer("set_of", set_of, persistent=False)
        self.register_buffer("field_of", field_of, persistent=False)
        self.keep("mean", mean)
        self.register_buffer("even", torch.tensor(even, dtype=torch.int64), persistent=False)
        self.weight = nn.Parameter(torch.ones(len(each))) if affine else None
        self.bias = nn.Parameter(torch.zeros(len(even))) if affine and even else None

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.field_type)
        dtype = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        with torch.autocast(x.device.type, enabled=False):
            t = x.flatten(2).to(dtype).transpose(1, 2)  # (B, P, dim)
            mean = self.mean.to(dtype)
            t = t - (t @ mean)[..., None] * (mean > 0)
            y = t * torch.rsqrt(t.square() @ self.average.to(dtype).T + self.eps)[..., self.set_of]
            if self.weight is not None:
                y = y * self.weight.to(dtype)[self.field_of]
            if self.bias is not None:
                y = y + y.new_zeros(y.shape[-1]).index_copy(0, self.even, self.bias.to(dtype))
        return y.transpose(1, 2).to(x.dtype).reshape(x.shape)

    def extra_repr(self) -> str:
        return f"'{self.field_type}', eps={self.eps}, affine={self.affine}"
