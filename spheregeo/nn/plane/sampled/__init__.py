"""Group convolutions at poses chosen by the similarity of their features."""

from spheregeo.nn.plane.sampled.conv import SampledGroupConv2d
from spheregeo.nn.plane.sampled.cover import feature_cover

__all__ = ["SampledGroupConv2d", "feature_cover"]
