"""Convolutions whose kernel is an equivariant MLP of the relative position."""

from spheregeo.nn.space.implicit.conv import ImplicitConv

__all__ = ["ImplicitConv"]
