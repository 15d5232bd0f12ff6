"""Group convolutions: layers of fields of C_n and D_n on images."""

from spheregeo.nn.plane.group.conv import GroupConv2d
from spheregeo.nn.plane.group.norm import FieldGroupNorm2d, GroupBatchNorm2d, GroupDropout, GroupPool
from spheregeo.nn.plane.group.transpose import GroupConvTranspose2d

__all__ = [
    "FieldGroupNorm2d",
    "GroupBatchNorm2d",
    "GroupConv2d",
    "GroupConvTranspose2d",
    "GroupDropout",
    "GroupPool",
]


def __dir__() -> list[str]:
    """The layers, without the files that they are written in."""
    return __all__
