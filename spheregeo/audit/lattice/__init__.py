"""Which pixels the layers of a planar network read, axis by axis, and whether these pixels are their own mirror image."""

from __future__ import annotations

from spheregeo.audit.lattice.axis import Adaptive, Axis, Cut, Interpolated, Shuffled, Transposed, Window
from spheregeo.audit.lattice.trace import TracedStep, trace

__all__ = [
    "Adaptive",
    "Axis",
    "Cut",
    "Interpolated",
    "Shuffled",
    "TracedStep",
    "Transposed",
    "Window",
    "trace",
]
