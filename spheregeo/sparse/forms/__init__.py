"""The forms of the sparse backend, one a module: formula, structure, shapes; :mod:`spheregeo.sparse.multilinear` has the rest."""

from spheregeo.sparse.forms.coupling import COUPLING
from spheregeo.sparse.forms.gather import GATHER
from spheregeo.sparse.forms.linear import LINEAR
from spheregeo.sparse.forms.rows import ROWS
from spheregeo.sparse.forms.segment import SEGMENT
from spheregeo.sparse.forms.tangent import TANGENT

__all__ = ["COUPLING", "GATHER", "LINEAR", "ROWS", "SEGMENT", "TANGENT"]
