"""Steerable convolutions: one convolution, computed from products, by SO(2), or by e3nn's tensor product."""
