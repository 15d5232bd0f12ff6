r"""Maps of tangent vectors at a point that commute with every turn of the frame: complex-linear ones.

Between layers vectors are (B, C, 2 P) with components of point p at 2 p and 2 p + 1, as sparse maps give them; in memory channels
are last, so that no map copies. A tangent field of type "Cx1", as other layers have it, is (B, 2 C, P).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class VectorMix(nn.Module):
    """v -> (A + B J) v at each point, with J the turn by 90°; B is left out where frames may be mirrored.

    Args:
        in_channels, out_channels: vectors of input and output.
        oriented: whether there is B.

    Shape: (B, in_channels, 2 P) -> (B, out_channels, 2 P).
    Equivariance: SO(2) gauge, exact; reflections of frames too without ``oriented``.
    """

    def __init__(self, in_channels: int, out_channels: int, oriented: bool = True) -> None:
        super().__init__()
        self.oriented = oriented
        self.weight = nn.Parameter(torch.empty(1 + oriented, out_channels, in_channels))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights by which unit inputs give unit outputs."""
        self.weight.normal_(std=1 / math.sqrt(self.weight.shape[0] * self.weight.shape[2]))

    def forward(self, v: Tensor) -> Tensor:
        weight = self.weight.to(v.dtype)
        rows = v.mT  # (B, 2 P, C)
        if not self.oriented:
            return (rows @ weight[0].T).mT
        both = (rows @ weight.flatten(0, 1).T).unflatten(1, (-1, 2))  # (B, P, 2, 2 O)
        straight, turned = both.chunk(2, 3)
        x, y = straight.unbind(2)
        jx, jy = turned.unbind(2)
        return torch.stack([x - jy, y + jx], 2).flatten(1, 2).mT


def components(v: Tensor) -> tuple[Tensor, Tensor]:
    """Both components of vectors. Shape: (B, C, 2 P) -> (B, C, P) twice, channels last in memory."""
    first, second = v.mT.unflatten(1, (-1, 2)).unbind(2)
    return first.mT, second.mT


def joined(first: Tensor, second: Tensor) -> Tensor:
    """Vectors of components. Shape: (B, C, P) twice -> (B, C, 2 P)."""
    return torch.stack([first.mT, second.mT], 2).flatten(1, 2).mT


def from_field(x: Tensor) -> Tensor:
    """A tangent field of type "Cx1" as vectors between layers. Shape: (B, 2 C, P) -> (B, C, 2 P)."""
    first, second = x.unflatten(1, (-1, 2)).unbind(2)
    return joined(first, second)


def to_field(v: Tensor) -> Tensor:
    """Vectors between layers as a tangent field of type "Cx1". Shape: (B, C, 2 P) -> (B, 2 C, P)."""
    return torch.stack(components(v), 2).flatten(1, 2)
