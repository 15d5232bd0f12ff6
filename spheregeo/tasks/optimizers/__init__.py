"""Optimisers that torch does not have."""

from spheregeo.tasks.optimizers.soap import SOAP, Block, matrix_blocks

__all__ = ["SOAP", "Block", "matrix_blocks"]
