"""Products of many features of one point, with weights for each kind of point: the layers of the atomic cluster expansion."""

from spheregeo.nn.space.many_body.basis import product_basis
from spheregeo.nn.space.many_body.kinds import Kinds
from spheregeo.nn.space.many_body.symmetric_contraction import SymmetricContraction

__all__ = ["Kinds", "SymmetricContraction", "product_basis"]
