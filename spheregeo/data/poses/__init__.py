"""Images of things with the rotation in which each thing stands."""
