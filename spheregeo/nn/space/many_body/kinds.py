"""Points sorted by kind, such as atoms by element: for layers whose weights depend on the kind."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.nn.space.many_body.polynomial import is_compiled


class Kinds(NamedTuple):
    """Which kinds some points have, made once and shared by all layers of a network.

    Args:
        present: the kinds that occur, ascending; None for all of them, where compilers follow and on GPUs.
        which: of each point, its place in ``present``.

    Shape: present (K,), which (N,) int64.

    Example:
        >>> Kinds.of(torch.tensor([8, 1, 1]), 10).present
        tensor([1, 8])
    """

    present: Tensor | None
    which: Tensor

    @property
    def num_points(self) -> int:
        return self.which.shape[0]

    @classmethod
    def of(cls, kinds: Tensor, num_kinds: int) -> Kinds:
        """Kinds (N,) int64, each below ``num_kinds``.

        Raises: ValueError for another shape or type, or a kind outside the range.
        """
        if kinds.ndim != 1 or kinds.dtype != torch.int64:
            raise ValueError(
                f"kinds has shape {tuple(kinds.shape)} and type {kinds.dtype}; expected (points,) int64"
            )
        if not is_compiled(kinds):
            return cls(None, kinds)
        if len(kinds) and (int(kinds.min()) < 0 or int(kinds.max()) >= num_kinds):
            raise ValueError(
                f"kinds run from {int(kinds.min())} to {int(kinds.max())}; expected 0 to {num_kinds - 1}"
            )
        present, which = torch.unique(kinds, return_inverse=True)
        return cls(present, which)


def as_kinds(kinds: Tensor | Kinds, num_kinds: int, num_points: int) -> Kinds:
    """The kinds of some points. Raises: ValueError for another number of points."""
    made = kinds if isinstance(kinds, Kinds) else Kinds.of(kinds, num_kinds)
    if made.num_points != num_points:
        raise ValueError(f"kinds has {made.num_points} points; expected {num_points}, those of x")
    return made
