"""Jobs on images of the plane."""
