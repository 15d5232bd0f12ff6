"""Loops of the Triton engine: gather rows of features, multiply, sum a stretch of sorted entries; no atomics anywhere.

Each program owns what it writes and adds in a fixed order, so that two runs are equal bit by bit. Loops take the part of the
language that Triton 3.6 to 3.8 share; tests run them in Triton's interpreter and compile them for two architectures.
"""
