"""Jobs on the sphere: segmentation, depth, classification; prediction of photos."""
