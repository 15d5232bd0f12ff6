"""Engines: interchangeable ways to evaluate the Legendre stage of harmonic transforms. To add one is to write one file.

An engine is a module or object with two functions, which take a structure (:class:`spheregeo.spectral.legendre.Legendre`) and
plain tensors, float32 or float64, without autograd (backward passes are made of such calls):

    def synthesis(structure, a):       # (T, K) -> (M, R, K)
    def analysis(structure, values):   # (M, R, K) -> (T, K), the transpose of synthesis

K columns are contiguous, 2 times the number of maps: real and imaginary parts alternate. What an engine prepares from a
structure it keeps in the bounded cache of geometry, under ``structure.key``. Ours are ``"cpu"`` (compiled
loops), ``"portable"`` (plain torch, any device) and ``"ducc0"`` (that library, where it is installed; GPL-2, so that "auto" never
takes it). ``"auto"`` takes the first that runs on the device; an engine that is named is obeyed: where it does not run, the call
raises.
"""

from spheregeo.spectral.engines.registry import LegendreEngine, check_engine, engines, get_engine

__all__ = ["LegendreEngine", "check_engine", "engines", "get_engine"]
