"""What engines for the linear form have in common: which method a partial derivative is, one from another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.forms.linear import G, LinearStructure, V, W, X
from spheregeo.sparse.patterns import Pattern

Adjoint = tuple[Pattern, Tensor]
"""A transposed pattern and, for each column of its table, the column of the table it copies."""


class LinearEngine(ABC):
    """Base of engines for ``"linear"``: three methods of their own, the gradients one after another unless they know better."""

    def __call__(
        self, structure: LinearStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
    ) -> list[Tensor]:
        """Partial derivatives in the slots ``wanted``."""
        x, w, v, g = arguments
        pattern, groups = structure.pattern, structure.groups
        found: dict[int, Tensor] = {}
        if G in wanted:
            assert x is not None and v is not None
            found[G] = self.apply(pattern, v, w, x, groups)
        if X in wanted and W in wanted:
            assert x is not None and w is not None and v is not None and g is not None
            found[X], found[W] = self.both(structure, v, w, x, g)
        elif X in wanted:
            assert g is not None and v is not None
            found[X] = self.input_gradient((structure.adjoint, structure.order), v, w, g, groups)
        elif W in wanted:
            assert x is not None and v is not None and g is not None
            found[W] = self.weights_alone(structure, v, x, g)
        if V in wanted:
            assert x is not None and g is not None
            found[V] = self.value_gradient(pattern, w, x, g, groups)
        return [found[slot] for slot in wanted]

    @abstractmethod
    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor:
        """dF/dg: (B, O, P)."""

    @abstractmethod
    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor:
        """dF/dw: (O, C/groups, K)."""

    @abstractmethod
    def value_gradient(self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int) -> Tensor:
        """dF/dv: (K, num_values)."""

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

    def both(
        self, structure: LinearStructure, v: Tensor, w: Tensor, x: Tensor, g: Tensor
    ) -> tuple[Tensor, Tensor]:
        """dF/dx and dF/dw together."""
        gx = self.input_gradient((structure.adjoint, structure.order), v, w, g, structure.groups)
        return gx, self.weights_alone(structure, v, x, g)

    def weights_alone(self, structure: LinearStructure, v: Tensor, x: Tensor, g: Tensor) -> Tensor:
        """dF/dw without dF/dx."""
        return self.weight_gradient(structure.pattern, v, x, g, structure.groups)


def mix(z: Tensor, w: Tensor | None, groups: int) -> Tensor:
    """(B, C, K, P) -> (B, O, P) by w (O, C/groups, K); without w the K functions become channels."""
    if w is None:
        return z.flatten(1, 2)
    batch, channels, k, points = z.shape
    z = z.reshape(batch, groups, channels // groups, k, points)
    w = w.view(groups, -1, channels // groups, k)
    return torch.einsum("gock,bgckp->bgop", w, z).flatten(1, 2)


def unmix(g: Tensor, w: Tensor | None, groups: int, channels: int) -> Tensor:
    """Adjoint of :func:`mix` in z: (B, O, P) -> (B, C, K, P)."""
    batch, _, points = g.shape
    if w is None:
        return g.view(batch, channels, -1, points)
    w = w.view(groups, -1, channels // groups, w.shape[2])
    g = g.reshape(batch, groups, -1, points)
    return torch.einsum("gock,bgop->bgckp", w, g).flatten(1, 2)
