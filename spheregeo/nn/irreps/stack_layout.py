"""Where the stacks of irreps lie in rows of either layout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.nn.irreps.layout import distinct_irreps, join_rows, places_of, split_rows, stack_index


class StackLayout(nn.Module):
    """Rows (..., irreps.dim) to one stack (..., 2l + 1, copies) for each distinct irrep, and back.

    Args:
        irreps: what the rows are.
        layout: how components lie in them, "mul_ir" or "ir_mul".

    ``order`` says which component of a row comes next when stacks are counted one after another, ``inverse`` the opposite.
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, irreps: Irreps, layout: str = "mul_ir") -> None:
        super().__init__()
        self.irs, self.layout = distinct_irreps(irreps), layout
        self.places = places_of(irreps)
        indices = [stack_index(irreps, ir, layout) for ir in self.irs]
        order = torch.cat(indices)
        self.in_order = bool((order == torch.arange(irreps.dim)).all())
        self.widths = [len(index) for index in indices]
        self.copies = [width // ir.dim for width, ir in zip(self.widths, self.irs, strict=True)]
        self.starts = [sum(self.widths[:i]) for i in range(len(self.widths))]
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", torch.argsort(order), persistent=False)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``order`` and ``inverse``."""
        return self.order, self.inverse

    def split(self, x: Tensor) -> list[Tensor]:
        """The stacks of rows (..., irreps.dim)."""
        return split_rows(x, self.places, self.layout)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Rows of stacks."""
        return join_rows(parts, self.places, self.layout)
