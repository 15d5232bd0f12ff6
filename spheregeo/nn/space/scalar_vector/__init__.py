"""Scalars and vectors of points in one tensor (points, 4, channels): PaiNN's message, its update, and its tensor head's block."""

from spheregeo.nn.space.scalar_vector.blocks import GatedEquivariantBlock, ScalarVectorUpdate
from spheregeo.nn.space.scalar_vector.message import ScalarVectorMessage

__all__ = ["GatedEquivariantBlock", "ScalarVectorMessage", "ScalarVectorUpdate"]
