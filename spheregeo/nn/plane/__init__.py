"""Layers on images, whose channels are fields of a planar group or irreps of SO(2) and O(2)."""

__all__: list[str] = []


def __dir__() -> list[str]:
    """The layers, without the files that they are written in."""
    return __all__
