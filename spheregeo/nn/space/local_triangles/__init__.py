"""RISurConv: convolutions of clouds by rotation-invariant numbers of the triangles that a point makes with its neighbours."""

from spheregeo.nn.space.local_triangles.attention import OffsetAttention
from spheregeo.nn.space.local_triangles.conv import RISurConv
from spheregeo.nn.space.local_triangles.features import FEATURES, order_around, triangle_features

__all__ = ["FEATURES", "OffsetAttention", "RISurConv", "order_around", "triangle_features"]
