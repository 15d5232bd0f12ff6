"""The ASE calculator under its former name; :mod:`spheregeo.tasks.molecules.dynamics.calculator` has it."""

from spheregeo.tasks.molecules.dynamics.calculator import SpheregeoCalculator
from spheregeo.tasks.molecules.dynamics.evaluator import single

__all__ = ["SpheregeoCalculator", "single"]
