"""Cases of the compliance suite: each layer built small, with an input. A file for each room of ``spheregeo.nn``."""
