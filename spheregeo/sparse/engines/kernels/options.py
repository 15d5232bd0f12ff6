"""Options of numba that all loops of the CPU engine are compiled with."""

OPTIONS = {"fastmath": True, "nogil": True, "boundscheck": False, "error_model": "numpy"}
