"""Operators in plain torch, on any device and in any real floating type: the engine "torch"."""
