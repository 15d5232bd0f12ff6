"""Functions of other libraries under their own names and arguments, for code that was written for them."""

from __future__ import annotations

from spheregeo.compat import torch_cluster

__all__ = ["torch_cluster"]
