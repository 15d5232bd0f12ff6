"""Coding of latents: learned densities, bits, tables of whole numbers, an entropy coder, and files that are checked."""

from spheregeo.coding.bounds import at_least, quantise
from spheregeo.coding.container import Compressed, pack, read_compressed, unpack, write_compressed
from spheregeo.coding.exact import exact_copy
from spheregeo.coding.gaussian import GaussianConditional, scale_table
from spheregeo.coding.prior import FactorizedPrior
from spheregeo.coding.stream import SymbolReader, SymbolWriter

__all__ = [
    "Compressed",
    "FactorizedPrior",
    "GaussianConditional",
    "SymbolReader",
    "SymbolWriter",
    "at_least",
    "exact_copy",
    "pack",
    "quantise",
    "read_compressed",
    "scale_table",
    "unpack",
    "write_compressed",
]
