"""Convolutions whose kernel is an equivariant MLP of the relative position."""
