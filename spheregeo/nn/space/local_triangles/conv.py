"""The convolution of RISurConv: neighbours' triangles and features in, the largest of each channel out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.nn.dtypes import in_dtype
from spheregeo.nn.space.local_triangles.attention import OffsetAttention
from spheregeo.nn.space.local_triangles.features import FEATURES
from spheregeo.nn.space.vector_neurons import StatisticsNorm


class RISurConv(nn.Module):
    """Rotation-invariant surface convolution: triangles' features are embedded, attend to one another and are joined with the
    neighbours' features; the largest value of each channel over the neighbours is the point's.

    Args:
        in_channels: features of the sources, 0 for none.
        out_channels: features of the targets.
        embedding: widths of the two layers that embed the triangles' features.
        attention: whether the neighbours of a point attend to one another (:class:`OffsetAttention`).

    Shape: surface (M, k, 14) as :func:`triangle_features` gives it, neighbors (M, k) int64 among the sources, x (N, in_channels)
        or None -> (M, out_channels).
    Equivariance: invariant to rotations and translations, for ``surface`` is; the order of the neighbours does not matter.
    Raises: ValueError for other shapes.
    Reference: Zhang, Yang & Xiang 2024, arXiv:2408.06110, section 3.2.

    Example:
        >>> import torch
        >>> from spheregeo.nn.space.local_triangles import RISurConv
        >>> layer = RISurConv(4, 16, embedding=(8, 8))
        >>> layer(torch.randn(5, 6, 14), torch.randint(20, (5, 6)), torch.randn(20, 4)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, embedding: Sequence[int] = (32, 64), attention: bool = True
    ) -> None:  # fmt: skip
        super().__init__()
        if in_channels < 0 or min(out_channels, *embedding) < 1 or len(embedding) != 2:
            raise ValueError(
                f"in_channels is {in_channels}, out_channels {out_channels} and embedding {embedding}; "
                "expected 0 or more, at least 1, and two widths"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        first, second = embedding
        self.embed = nn.ModuleList(
            [nn.Linear(FEATURES, first, bias=False), nn.Linear(first, second, bias=False)]
        )
        self.norms = nn.ModuleList([StatisticsNorm(first), StatisticsNorm(second)])
        self.attention = OffsetAttention(second) if attention else None
        self.join = nn.Linear(second, out_channels)
        self.source = nn.Linear(in_channels, out_channels, bias=False) if in_channels else None
        self.norm = StatisticsNorm(out_channels)

    def forward(self, surface: Tensor, neighbors: Tensor, x: Tensor | None = None) -> Tensor:
        check_tensor(surface, "surface")
        if surface.ndim != 3 or surface.shape[2] != FEATURES or neighbors.shape != surface.shape[:2]:
            raise ValueError(
                f"surface has shape {tuple(surface.shape)} and neighbors {tuple(neighbors.shape)}; "
                f"expected (M, k, {FEATURES}) and (M, k)"
            )
        found = 0 if x is None else x.shape[-1]
        if found != self.in_channels:
            raise ValueError(f"x has {found} channels; expected {self.in_channels}")
        points, k = neighbors.shape
        if not points or not k:
            return surface.new_zeros(points, self.out_channels)
        y = surface.flatten(0, 1)
        for linear, norm in zip(self.embed, self.norms, strict=True):
            y = norm(in_dtype(linear, y))
        y = y.relu()
        if self.attention is not None:
            y = self.attention(y.view(points, k, -1)).flatten(0, 1)
        y = in_dtype(self.join, y)
        if x is not None and self.source is not None:
            y = y + in_dtype(self.source, x).index_select(0, neighbors.flatten())
        result: Tensor = self.norm(y).relu().view(points, k, -1).amax(1)
        return result
