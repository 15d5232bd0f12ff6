"""Relaxations done again under their former name; :mod:`spheregeo.tasks.molecules.dynamics.relaxation` has them."""

from spheregeo.tasks.molecules.dynamics.relaxation import relax_again

__all__ = ["relax_again"]
