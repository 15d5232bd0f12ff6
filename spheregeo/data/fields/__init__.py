"""Global fields in time: flows on the sphere that are solved for, series of files, pairs of inputs and outputs."""
