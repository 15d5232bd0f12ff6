"""Atoms that move by a trained model: an ASE calculator, dynamics, relaxations."""
