"""Networks for points in space: clouds and molecules."""
