"""Networks for fields on the sphere."""
