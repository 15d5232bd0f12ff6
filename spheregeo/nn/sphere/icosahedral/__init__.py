"""Gauge-equivariant convolution on icosahedral grids: five charts, one ``conv2d`` a layer.

Every layer takes points layout (B, channels, N) and answers in it; in a network put :class:`ToCharts` first and
:class:`FromCharts` last, and all layers between stay in chart layout, without a conversion. What holds at the twelve
corners is described in :mod:`.charts`.
"""

from spheregeo.nn.sphere.icosahedral.charts import FromCharts, ToCharts
from spheregeo.nn.sphere.icosahedral.conv import IcosahedralConv
from spheregeo.nn.sphere.icosahedral.norm import IcosahedralBatchNorm
from spheregeo.nn.sphere.icosahedral.pooling import IcosahedralPool, IcosahedralUpsample, OrientationPool

IcosahedralNorm = IcosahedralBatchNorm  # the former name

__all__ = [
    "FromCharts",
    "IcosahedralBatchNorm",
    "IcosahedralConv",
    "IcosahedralPool",
    "IcosahedralUpsample",
    "OrientationPool",
    "ToCharts",
]
