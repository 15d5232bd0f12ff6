"""Jobs on images of things whose pose is asked for."""
