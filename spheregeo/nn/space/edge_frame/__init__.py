"""Products of features with spherical harmonics, worked out in the frames of edges."""

from spheregeo.nn.space.edge_frame.frame_product import FrameProduct
from spheregeo.nn.space.edge_frame.gate import FrameGate
from spheregeo.nn.space.edge_frame.products import FrameRotation, PointProduct

__all__ = ["FrameGate", "FrameProduct", "FrameRotation", "PointProduct"]
