"""The former name of :class:`spheregeo.sparse.engines.LinearEngine`."""

from spheregeo.sparse.engines.linear import Adjoint
from spheregeo.sparse.engines.linear import LinearEngine as Gradients

__all__ = ["Adjoint", "Gradients"]
