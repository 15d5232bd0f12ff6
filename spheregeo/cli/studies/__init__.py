"""Studies: many small trainings that answer one question, as a table and a plot, resumed where they were interrupted.

A study is a module here and its name in ``NAMES``, with ``SUMMARY``, ``add_arguments(parser)`` and ``run(options, overrides)``.
Its cells are runs of recipes in folders of their own, see :mod:`spheregeo.cli.studies.cells`.
"""

from __future__ import annotations

NAMES = ("augmentation", "compression", "implicit-bias", "rotations", "sampling", "subsampling")
