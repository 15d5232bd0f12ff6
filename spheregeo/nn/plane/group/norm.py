"""Norms, pooling over the group and dropout of planar fields: what belongs to a field is shared by its channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_tensor
from spheregeo.groups import PlanarType
from spheregeo.nn.batch_norm import BatchNorm, SampleDropout


class _OnFields(nn.Module):
    """What acts on the fields of a type, kind by kind."""

    def __init__(self, field_type: str | PlanarType) -> None:
        super().__init__()
        self.field_type = PlanarType.of(field_type)
        # sizes apart: compilers read numbers, not types
        self.dim, self.num_fields = self.field_type.dim, self.field_type.num_fields
        self.kinds = [(number, self.field_type.width(sub)) for number, sub in self.field_type.terms]
        widths = torch.tensor(self.field_type.widths)
        self.register_buffer("field", torch.arange(len(widths)).repeat_interleave(widths), persistent=False)

    def _check(self, x: Tensor) -> None:
        check_tensor(x)
        if x.ndim < 2 or x.shape[1] != self.dim:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.dim}, ...)")

    def _each(self, x: Tensor, functions: list[Callable[[Tensor], Tensor]]) -> Tensor:
        """Kinds of fields through a function each. Shape: (B, dim, *) by way of (B, fields, width, *)."""
        parts = x.split([number * width for number, width in self.kinds], 1) if len(self.kinds) > 1 else (x,)
        found = [f(part.unflatten(1, kind)) for f, part, kind in zip(functions, parts, self.kinds)]
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def _of_fields(self, values: Tensor) -> Tensor:
        """One number for each channel from one for each field. Shape: (num_fields,) -> (dim,)."""
        return values.index_select(0, self.get_buffer("field"))

    def extra_repr(self) -> str:
        return str(self.field_type)


class GroupBatchNorm2d(_OnFields):
    """Batch norm of planar fields: one mean, variance, scale and shift for each field, over its elements, batch and space.

    In a training with several processes statistics are those of all; see :class:`~spheregeo.nn.BatchNorm`.

    Args:
        field_type: of input and output, such as ``"16xD4"``.
        eps: added to the variance.
        momentum: share of a batch in the running statistics; None for the mean of all batches.
        affine: whether to learn a scale and a shift.
        track_running_stats: whether to keep running statistics for evaluation.

    Shape: (B, dim, *) -> the same.
    Equivariance: exact for every element of the group.
    Raises: ValueError for other channels.
    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167; Cohen & Welling 2016, arXiv:1602.07576, section 6.

    Example:
        >>> norm = GroupBatchNorm2d("4xD4")
        >>> norm(torch.randn(2, 32, 9, 9)).shape, norm.norms[0].weight.shape
        (torch.Size([2, 32, 9, 9]), torch.Size([4]))
    """

    def __init__(
        self,
        field_type: str | PlanarType,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(field_type)
        self.norms = nn.ModuleList(
            BatchNorm(number, eps, momentum, affine, track_running_stats) for number, _ in self.kinds
        )

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return self._each(x, [lambda part, norm=norm: norm(part).flatten(1, 2) for norm in self.norms])  # type: ignore[misc]

    @torch.no_grad()
    def export(self) -> nn.BatchNorm2d:
        """A plain ``torch.nn.BatchNorm2d`` with the same output in evaluation.

        Raises: ValueError for a norm without running statistics.
        """
        first: Any = self.norms[0]
        if first.running_mean is None:
            raise ValueError(
                "track_running_stats is False; expected running statistics, which evaluation takes"
            )
        plain = nn.BatchNorm2d(
            self.dim, first.eps, first.momentum, first.affine, device=first.running_mean.device, dtype=first.running_mean.dtype
        )  # fmt: skip
        for name in ("running_mean", "running_var", "weight", "bias"):
            if getattr(first, name) is not None:
                getattr(plain, name).copy_(
                    self._of_fields(torch.cat([getattr(norm, name) for norm in self.norms]))
                )
        return plain.eval()


class FieldGroupNorm2d(_OnFields):
    """Group norm of planar fields: blocks of fields share the statistics of one sample; a field has a scale and a shift.

    With as many blocks as fields it is an instance norm, with one a layer norm over all channels and pixels.

    Args:
        num_groups: blocks of fields; more than 1 only for a type of one kind of fields, whose number they divide.
        field_type: of input and output, such as ``"16xD4"``.
        eps: added to the variance.
        affine: whether to learn a scale and a shift.

    Shape: (B, dim, *) -> the same.
    Equivariance: exact for every element of the group.
    Raises: ValueError for other channels, and blocks that do not divide the fields.
    Reference: Wu & He 2018, arXiv:1803.08494, eq. 7.

    Example:
        >>> FieldGroupNorm2d(2, "4xD4")(torch.randn(2, 32, 9, 9)).shape
        torch.Size([2, 32, 9, 9])
    """

    def __init__(
        self, num_groups: int, field_type: str | PlanarType, *, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__(field_type)
        if num_groups < 1 or self.num_fields % num_groups or (num_groups > 1 and len(self.kinds) > 1):
            raise ValueError(
                f"num_groups is {num_groups} with field_type '{self.field_type}'; expected 1, or a divisor of the number of "
                "fields of one kind"
            )
        self.num_groups, self.eps = num_groups, eps
        self.weight = nn.Parameter(torch.ones(self.num_fields)) if affine else None
        self.bias = nn.Parameter(torch.zeros(self.num_fields)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = (
                None if p is None else self._of_fields(p.to(wide.dtype)) for p in (self.weight, self.bias)
            )
            return F.group_norm(wide, self.num_groups, weight, bias, self.eps).to(x.dtype)

    @torch.no_grad()
    def export(self) -> nn.GroupNorm:
        """A plain ``torch.nn.GroupNorm`` with the same output."""
        plain = nn.GroupNorm(self.num_groups, self.dim, self.eps, self.weight is not None)
        if self.weight is not None and self.bias is not None:
            plain = plain.to(self.weight)
            plain.weight.copy_(self._of_fields(self.weight))
            plain.bias.copy_(self._of_fields(self.bias))
        return plain.train(self.training)


class GroupPool(_OnFields):
    """Pooling over the elements of the group: each field becomes one invariant channel.

    Args:
        field_type: of the input, such as ``"16xD4"``; trivial fields stay as they are.
        mode: "max" or "mean" over the channels of a field.

    Shape: (B, dim, *) -> (B, num_fields, *).
    Equivariance: exact; the output has trivial fields alone.
    Raises: ValueError for another mode or other channels.
    Reference: Cohen & Welling 2016, arXiv:1602.07576, section 6.3.

    Example:
        >>> GroupPool("4xD4 + 2x0")(torch.randn(2, 34, 9, 9)).shape
        torch.Size([2, 6, 9, 9])
    """

    def __init__(self, field_type: str | PlanarType, mode: str = "max") -> None:
        super().__init__(field_type)
        if mode not in ("max", "mean"):
            raise ValueError(f"mode is {mode!r}; expected 'max' or 'mean'")
        self.mode = mode

    @property
    def out_type(self) -> PlanarType:
        """The trivial fields that come out."""
        return PlanarType.of(f"{self.num_fields}x0")

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return self._each(x, [_maximum if self.mode == "max" else _mean] * len(self.kinds))

    def export(self) -> nn.Module:
        """Plain layers with the same output on maps (B, dim, H, W)."""
        widest = max(width for _, width in self.kinds)
        if self.mode == "mean":
            conv = nn.Conv2d(self.dim, self.num_fields, 1, bias=False)
            rows = torch.zeros(self.num_fields, self.dim)
            start = 0
            for row, width in enumerate(self.field_type.widths):
                rows[row, start : start + width] = 1 / width
                start += width
            conv.weight = nn.Parameter(rows[:, :, None, None], requires_grad=False)
            return conv
        parts: list[nn.Module] = []
        if any(width != widest for _, width in self.kinds):  # channels repeated until all fields are as wide
            start, wanted = 0, []
            for width in self.field_type.widths:
                wanted += [start + j % width for j in range(widest)]
                start += width
            repeat = nn.Conv2d(self.dim, len(wanted), 1, bias=False)
            repeat.weight = nn.Parameter(torch.eye(self.dim)[wanted][:, :, None, None], requires_grad=False)
            parts.append(repeat)
        fields = nn.Unflatten(1, (self.num_fields, widest))
        return nn.Sequential(*parts, fields, nn.MaxPool3d((widest, 1, 1)), nn.Flatten(1, 2))

    def extra_repr(self) -> str:
        return f"{self.field_type}, mode={self.mode!r}"


def _maximum(part: Tensor) -> Tensor:
    return part.amax(2)


def _mean(part: Tensor) -> Tensor:
    return part.mean(2)


class GroupDropout(_OnFields):
    """Dropout of whole fields of a planar group: all elements and pixels of a field together.

    In a training with several processes the mask is that of one process; see :class:`~spheregeo.nn.SampleDropout`.

    Args:
        field_type: of input and output, such as ``"16xD4"``.
        p: probability that a field of a sample is set to zero, in training; what stays is divided by 1 − p.

    Shape: (B, dim, *) -> the same.
    Equivariance: exact for every element of the group.
    Raises: ValueError for other channels, and a probability outside [0, 1].
    Reference: Tompson et al. 2015, arXiv:1411.4280 (dropout of feature maps).

    Example:
        >>> GroupDropout("4xD4", 0.2)(torch.randn(2, 32, 9, 9)).shape
        torch.Size([2, 32, 9, 9])
    """

    def __init__(self, field_type: str | PlanarType, p: float = 0.5) -> None:
        super().__init__(field_type)
        self.drop = SampleDropout(p)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        if not self.training or self.drop.p == 0:
            return x
        kept = self.drop(x.new_ones(len(x), self.num_fields))
        mask = kept.index_select(1, self.get_buffer("field"))
        return x * mask.view(*mask.shape, *[1] * (x.ndim - 2))

    def export(self) -> nn.Identity:
        """What the layer is in evaluation: nothing."""
        return nn.Identity()
