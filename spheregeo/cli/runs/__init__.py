"""A run's folder: which files are the run's own, who may write there, how a run that is stopped ends."""
