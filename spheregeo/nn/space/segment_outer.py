"""Outer products over pairs; see :mod:`spheregeo.sparse.maps.segment`."""

from spheregeo.sparse import segment_apply, segment_outer

__all__ = ["segment_apply", "segment_outer"]
