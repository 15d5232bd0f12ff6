"""Networks from images to distributions of rotations."""
