"""Functions on the sphere about each point: messages in the frames of edges, updates and readouts at samples of the sphere."""

from spheregeo.nn.space.spherical_channels.activation import FrameSphereActivation
from spheregeo.nn.space.spherical_channels.attention import EdgeFrameAttention, smooth_attention
from spheregeo.nn.space.spherical_channels.frames import FrameWays, two_frames
from spheregeo.nn.space.spherical_channels.messages import StrictMessage, TapMessage, channel_irreps
from spheregeo.nn.space.spherical_channels.sphere_mean import SphereMean

__all__ = [
    "EdgeFrameAttention",
    "FrameSphereActivation",
    "FrameWays",
    "SphereMean",
    "StrictMessage",
    "TapMessage",
    "channel_irreps",
    "smooth_attention",
    "two_frames",
]
