"""Global pooling: one number per channel from a field on the sphere."""

from __future__ import annotations

from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.nn.area import AreaWeighted

REDUCE = ("mean", "max")


class GlobalPool(AreaWeighted):
    """Area-weighted mean over the sphere, or the maximum over its points.

    Args:
        grid: the points that the fields live on.
        reduce: "mean", weighted by areas, or "max".

    Shape: (B, C, *grid.shape) -> (B, C).
    Equivariance: invariant to SO(3): exactly for rotations that permute the grid; for others the mean to the accuracy
        of the quadrature, the maximum to the spacing of the points.
    Raises: ValueError for another ``reduce`` or an input that is not on the grid.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import GlobalPool
        >>> GlobalPool(HEALPix(4))(torch.randn(2, 3, 192)).shape
        torch.Size([2, 3])
    """

    def __init__(self, grid: Grid, reduce: str = "mean") -> None:
        if reduce not in REDUCE:
            raise ValueError(f"reduce is {reduce!r}; expected one of {', '.join(map(repr, REDUCE))}")
        super().__init__(grid)
        self.reduce = reduce

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        if self.reduce == "max":
            return x.flatten(2).amax(2)
        return x.flatten(2) @ self.share.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.grid!r}, reduce={self.reduce!r}"
