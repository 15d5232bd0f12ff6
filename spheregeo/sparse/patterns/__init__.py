"""Where the nonzeros of a sparse map sit, stored once for each symmetry class rather than once for each nonzero.

``CSRPattern``: each row lists its source points; ``start[p]`` says where its coefficients begin, so rows that a rotation of the
grid carries into each other share one stretch of the table.

``RingPattern``: source and target are rings of M equidistant points and the map commutes with their rotation (it is
block-circulant), so an entry is (ring, shift) and serves all M points of its target ring. A ring of s*M points is s interleaved
rings, which covers strides: ring r's j-th point is ``base[r] + stride[r] * j``.

``BoxedRingPattern``: the same, entries reading sums over neighbours along their ring, for rows that are crowded near a pole.

``BandsPattern``: rows of rings that are too wide to go tap by tap, as Fourier coefficients in longitude; its coefficients are its
own and no columns of the table.

``BlockPattern``: a sum of patterns between stretches of the target and stretches of the source.
"""

from spheregeo.sparse.patterns.bands import BandsPattern
from spheregeo.sparse.patterns.base import KINDS, Pattern, pack, unpack
from spheregeo.sparse.patterns.blocks import Block, BlockPattern
from spheregeo.sparse.patterns.csr import CSRPattern
from spheregeo.sparse.patterns.rings import BoxedRingPattern, RingPattern

for _kind in (CSRPattern, RingPattern, BandsPattern, BlockPattern, BoxedRingPattern):
    KINDS[_kind.kind] = _kind

__all__ = [
    "KINDS",
    "BandsPattern",
    "Block",
    "BlockPattern",
    "BoxedRingPattern",
    "CSRPattern",
    "Pattern",
    "RingPattern",
    "pack",
    "unpack",
]
