"""Simulations and relaxations from the command line: models and structures, the folder, what engines are asked."""
