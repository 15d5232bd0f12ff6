"""Point clouds: folders, ModelNet, ScanObjectNN, generated primitives."""
