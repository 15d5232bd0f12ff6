"""Images of the plane: one class each, or a class for every pixel."""
