"""Group convolutions at poses chosen by the similarity of their features."""

from spheregeo.nn.feature_cover import feature_cover
from spheregeo.nn.plane.sampled.conv import SampledGroupConv2d

__all__ = ["SampledGroupConv2d", "feature_cover"]
