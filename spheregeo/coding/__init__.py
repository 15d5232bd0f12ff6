"""Coding of latents: learned densities, bits, tables of whole numbers, an entropy coder, and files that are checked."""

from spheregeo.coding.bounds import at_least, quantise
from spheregeo.coding.exact import exact_copy
from spheregeo.coding.gaussian import GaussianConditional, scale_table
from spheregeo.coding.prior import FactorizedPrior

__all__ = ["FactorizedPrior", "GaussianConditional", "at_least", "exact_copy", "quantise", "scale_table"]
