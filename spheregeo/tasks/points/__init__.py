"""Jobs on point clouds: classification."""
