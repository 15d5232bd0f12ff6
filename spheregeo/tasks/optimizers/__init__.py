"""Optimisers that torch does not have."""

from spheregeo.tasks.optimizers.soap import SOAP, MatrixBlock, matrix_blocks

__all__ = ["SOAP", "MatrixBlock", "matrix_blocks"]
