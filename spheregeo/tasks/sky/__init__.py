"""Restoration of maps of the sky."""
