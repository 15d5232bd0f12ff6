"""Kernels as plain text."""

from __future__ import annotations

from spheregeo import kernels, plain_text
from spheregeo.kernels.kernel import Kernel


def parse_kernel(text: str) -> Kernel:
    """Return the kernel whose ``repr`` is ``text``, without evaluating code.

    Args:
        text: name of a class of kernels, called with numbers and words.

    Raises: ValueError when the text is no kernel with literal arguments.

    Example:
        >>> parse_kernel("Rings(3)")
        Rings(num_rings=3)
    """
    found: Kernel = plain_text.parse(text, kernels, "kernel")
    return found
