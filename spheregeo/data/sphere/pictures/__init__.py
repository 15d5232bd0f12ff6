"""Pictures of any kind as arrays: decoding, colours of labels, views that show a part of the sphere."""
