"""Networks for clouds of points."""
