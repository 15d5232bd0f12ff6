r"""Batch norm on the charts: one mean and one variance per field, over samples, points and all six orientations.

With area shares w_p (sum 1, zero at the twelve corners),

    mu = mean_{b, rho} sum_p w_p x_rho(p),   var = mean_{b, rho} sum_p w_p (x_rho(p) - mu)^2,
    y = gamma (x - mu) / sqrt(var + eps) + beta.

Statistics of single orientations would know the charts' frames; these do not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from spheregeo.checks import check_count
from spheregeo.deprecation import renamed_arguments
from spheregeo.grids import Icosahedral
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.sphere.icosahedral.charts import OnCharts, check_level, corners, orientations
from spheregeo.nn.statistics import ChannelSets, normalize, working_dtype


class IcosahedralBatchNorm(OnCharts, ExactBuffers, _NormBase):
    """Batch norm of scalar or regular fields, with area-weighted statistics and running ones for evaluation.

    Running variances are the weighted ones, without Bessel's correction.

    Args:
        num_features: fields, each with a mean and a variance of its own.
        grid: of the input, an ``Icosahedral`` or its level.
        in_type: "scalar" or "regular", six channels per field.
        eps: added to the variance.
        momentum: share of a batch in the running statistics; None for the mean of all batches.
        affine: whether to learn a scale and a shift.
        track_running_stats: whether to keep running statistics for evaluation.

    Shape: (B, num_features [· 6], N) -> the same, or likewise in chart layout.
    Equivariance: exact under the 60 rotations of the icosahedron, in training and in evaluation.
    Raises: ValueError for a level below 1, another type, or an input that does not fit.
    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167; Cohen et al. 2019, arXiv:1902.04615, section 5.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn import IcosahedralBatchNorm
        >>> IcosahedralBatchNorm(4, Icosahedral(2))(torch.randn(1, 24, 162)).shape
        torch.Size([1, 24, 162])
    """

    share: Tensor
    field: Tensor
    part: Tensor

    @renamed_arguments(level="grid")
    def __init__(
        self,
        num_features: int,
        grid: Icosahedral | int,
        *,
        in_type: str = "regular",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        self._size = orientations("in_type", in_type)
        level = check_level(grid)
        _NormBase.__init__(
            self, check_count("num_features", num_features), eps, momentum, affine, track_running_stats
        )
        self._between(level, level, num_features * self._size, in_type)
        self.in_type = in_type
        self.keep("share")
        self.register_buffer(
            "field", torch.arange(num_features).repeat_interleave(self._size), persistent=False
        )
        self.keep("part", torch.full((num_features * self._size,), 1 / self._size, dtype=torch.float64))

    def _build(self, name: str, dtype: torch.dtype) -> Tensor:
        areas = Icosahedral(self.level).areas[:-2].clone()
        areas[corners(self.level).owned] = 0
        return areas / areas.sum()

    def on_charts(self, x: Tensor) -> Tensor:
        dtype = working_dtype(x)
        points = x.permute(0, 2, 3, 4, 1)  # (B, 5, n, 2n, C)
        b = x.shape[0]  # len() would fix the batch of an exported program
        w = self.share.to(dtype).repeat(b) / b
        sets = ChannelSets(self.field, self.part, self.part, self.num_features)
        learned = (None if t is None else t[self.field] for t in (self.weight, self.bias))
        with torch.autocast(x.device.type, enabled=False):
            rows = points.flatten(0, 3).to(dtype)  # (B 5 n 2n, C), samples side by side
            y = normalize(
                rows.T[None], w, *learned, sets=None if self._size == 1 else sets, eps=self.eps, norm=self,
                mass=b,
            )  # fmt: skip
        return y.squeeze(0).T.reshape(points.shape).to(x.dtype).permute(0, 4, 1, 2, 3)

    def extra_repr(self) -> str:
        return f"{_NormBase.extra_repr(self)}, level={self.level}, in_type={self.in_type!r}"
