"""``GroupConvTranspose2d``: the adjoint of a group convolution on images, with weights of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_tensor
from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.nn.plane.group.conv import GroupConv2d


class GroupConvTranspose2d(GroupConv2d):
    """Transposed group convolution: each pixel adds its filters, in all poses, to an image ``stride`` times as fine.

    Its map is the transpose of that of a :class:`GroupConv2d` from ``out_type`` to ``in_type``, whose kernel it has.

    Args:
        in_type, out_type: fields, as for :class:`GroupConv2d`.
        kernel_size: taps along each side.
        stride: pixels of the output for each of the input.
        padding: pixels cut off on each side of the output.
        dilation: distance between taps.
        groups: blocks of fields that see one another alone.
        bias: a learned constant for each field.
        group: the group, where both types have trivial fields alone.
        filters, tolerance: as for :class:`GroupConv2d`.

    Shape: (B, in_type.dim, H, W) -> (B, out_type.dim, H', W'), H' = (H − 1) stride − 2 padding + dilation (kernel_size − 1) + 1.
    Equivariance: as :class:`GroupConv2d`, exact for every size: the windows lie alike from both borders. There is no output
        padding, which would add pixels at one border alone; a kernel larger by as many gives the same size.
    Raises: ValueError as :class:`GroupConv2d`.
    Reference: Cohen & Welling 2016, arXiv:1602.07576.

    Example:
        >>> conv = GroupConvTranspose2d("8xD4", "4xD4", 4, stride=2, padding=1)
        >>> conv(torch.randn(1, 64, 5, 5)).shape
        torch.Size([1, 32, 10, 10])
    """

    def __init__(
        self,
        in_type: str | PlanarType,
        out_type: str | PlanarType,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        group: str | PlanarGroup | None = None,
        filters: str | None = None,
        tolerance: float = 0.01,
    ) -> None:
        if isinstance(padding, str):
            raise ValueError(f"padding is {padding!r}; expected numbers of pixels")
        super().__init__(
            out_type, in_type, kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=False,
            group=group, filters=filters, tolerance=tolerance,
        )  # fmt: skip
        self.in_type, self.out_type = self.out_type, self.in_type
        self.sizes = (self.in_type.dim, self.out_type.dim)
        widths = torch.tensor(self.out_type.widths)
        self.register_buffer("field", torch.arange(len(widths)).repeat_interleave(widths), persistent=False)
        self.bias = nn.Parameter(torch.zeros(len(widths))) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Normal weights: independent input of unit variance gives output of unit variance, away from borders. Zero bias.

        Args:
            generator: source of random numbers.
        """
        super().reset_parameters(generator)
        # a convolution's sums run over what is here the output, and a pixel of it sees one tap of stride²
        seen = self.stride[0] * self.stride[1]
        factor = (self.kernel().square().sum((0, 2, 3)).mean() / (seen * self.groups)).rsqrt()
        for weight in self.weights:
            weight.mul_(factor)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim != 4 or x.shape[1] != self.sizes[0]:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.sizes[0]}, H, W)")
        kernel = self._current().to(x.dtype)
        bias = None if self.bias is None else self.bias.index_select(0, self.get_buffer("field")).to(x.dtype)
        return F.conv_transpose2d(x, kernel, bias, self.stride, self.padding, 0, self.groups, self.dilation)

    @torch.no_grad()
    def export(self) -> nn.ConvTranspose2d:  # type: ignore[override]
        """A plain ``torch.nn.ConvTranspose2d`` with the same output, which holds the expanded kernel."""
        kernel = self.kernel()
        plain = nn.ConvTranspose2d(
            *self.sizes, self.kernel_size, self.stride, self.padding, 0, self.groups, self.bias is not None, self.dilation,
            device=kernel.device, dtype=kernel.dtype,
        )  # fmt: skip
        plain.weight.copy_(kernel)
        if plain.bias is not None and self.bias is not None:
            plain.bias.copy_(self.bias[self.get_buffer("field")])
        return plain.train(self.training)
