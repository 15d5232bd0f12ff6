"""Probabilities as whole numbers, so that writer and reader of a file share them to the last digit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SCALE = 1 << 24  # that a table's counts sum to, about: the coder divides by their sum


def counts_of(probabilities: NDArray[np.float64], escape: float) -> NDArray[np.int32]:
    """Return probabilities as counts, the escape's after the others; none below 0, the escape's at least 1.

    Args:
        probabilities: of the symbols of a table.
        escape: probability of all values outside the table.

    Shape: (n,) -> (n + 1,) int32.
    """
    row = np.rint(np.append(probabilities, escape) * SCALE)
    row[-1] = max(row[-1], 1)
    return np.clip(row, 0, SCALE).astype(np.int32)
