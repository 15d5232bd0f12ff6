"""Operators by compiled loops: the engine "cpu". Its modules import numba."""
