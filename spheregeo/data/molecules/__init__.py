"""Molecules: QM7, QM9, G2, own files, energies and forces."""
