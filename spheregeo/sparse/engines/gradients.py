"""Input and weight gradients together, in terms of an engine's own ``apply`` and ``weight_gradient``."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from spheregeo.sparse.pattern import Pattern

Adjoint = tuple[Pattern, Tensor]
"""A transposed pattern and, for each column of its table, the column of the table it copies."""


class Gradients(ABC):
    """Base of engines: the two gradients of a layer, one after the other unless an engine knows better."""

    @abstractmethod
    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor: ...

    @abstractmethod
    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor: ...

    def input_gradient(self, adjoint: Adjoint, v: Tensor, w: Tensor | None, g: Tensor, groups: int) -> Tensor:
        """dF/dx: the transposed map on g, with the weights of inputs and outputs exchanged."""
        pattern, order = adjoint
        v = v[:, order]
        if w is not None:
            per_group = w.shape[0] // groups
            turned = w.view(groups, per_group, w.shape[1], w.shape[2]).transpose(1, 2)
            return self.apply(pattern, v, turned.reshape(-1, per_group, w.shape[2]), g, groups)
        k = v.shape[0]
        if k == 1:
            return self.apply(pattern, v, None, g, groups)
        channels = g.shape[1] // k
        identity = torch.eye(k, dtype=v.dtype, device=v.device).expand(channels, k, k).contiguous()
        return self.apply(pattern, v, identity, g, channels)

    def gradients(
        self,
        pattern: Pattern,
        adjoint: Adjoint,
        v: Tensor,
        w: Tensor,
        x: Tensor,
        g: Tensor,
        groups: int,
        need_x: bool,
    ) -> tuple[Tensor | None, Tensor]:
        """(dF/dx or None, dF/dw)."""
        gx = self.input_gradient(adjoint, v, w, g, groups) if need_x else None
        return gx, self.weight_gradient(pattern, v, x, g, groups)
