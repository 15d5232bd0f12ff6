"""Jobs on point clouds: classification, segmentation into parts, registration."""
