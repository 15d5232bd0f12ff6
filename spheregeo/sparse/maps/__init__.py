"""Modules over fixed structures: what layers are made of."""
