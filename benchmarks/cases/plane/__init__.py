"""Cases of layers and networks of images."""
