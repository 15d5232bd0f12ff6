"""Frames of edges for layers that see their roll, and planar features scaled copy by copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from spheregeo.harmonics import packed_wigner, wigner_to_y
from spheregeo.nn.irreps.layout import distinct_irreps
from spheregeo.nn.space.edge_frame import FrameRotation
from spheregeo.nn.space.edge_frame.products import orders_of
from spheregeo.nn.space.geometry import EdgeGeometry
from spheregeo.sparse import Rows

BAND = 0.5  # of the cosine with ŷ: between -BAND and BAND two frames count


class FrameWays(NamedTuple):
    """What all layers of a network share of the edges' frames.

    Attributes:
        coefficients: of the rotation into the frames.
        sources: rows of the points that edges come from.
        targets: rows of the points that edges lead to.
        edges: number of edges.
        other: cosine and sine of the turn to a second frame, and its weight, (E, 3); None where nothing sees the roll of frames.

    Example:
        >>> geometry = EdgeGeometry.of(torch.randn(3, 3), torch.tensor([[0, 1, 2], [1, 0, 1]]))
        >>> FrameWays.of(geometry, FrameRotation(Irreps("4x0e + 4x1o")), lmax=1).edges
        3
    """

    coefficients: Tensor
    sources: Rows
    targets: Rows
    edges: int
    other: Tensor | None = None

    @classmethod
    def of(
        cls, geometry: EdgeGeometry, rotation: FrameRotation, lmax: int, *, roll: bool = False
    ) -> FrameWays:
        """The frames of the edges of a geometry.

        Args:
            geometry: the edges.
            rotation: features into the frames and back.
            lmax: largest degree of the features.
            roll: whether what is done in the frames sees their roll, so that its gradient counts, and two frames are needed.
        """
        sources, targets = geometry.rows
        if not roll:
            packed = wigner_to_y(geometry.vectors, lmax)
            return cls(rotation.coefficients(packed), sources, targets, geometry.num_edges)
        quaternions, other = two_frames(geometry.vectors)
        packed = packed_wigner(quaternions, lmax)
        return cls(rotation.coefficients(packed), sources, targets, geometry.num_edges, other)


def two_frames(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """A frame of each edge, with the gradient of its roll, and where a second one lies that takes over towards the first one's
    end.

    No frame that takes every direction to ŷ is smooth everywhere. Frame A is the shortest rotation, smooth but at −ŷ; frame B
    is the shortest rotation to −ŷ and a half turn about x, smooth but at ŷ. Above the equator A is given, below it B. The
    weight of A rises from 0 to 1 as the cosine with ŷ goes from -1/2 to 1/2, with two derivatives, so that means over both are
    smooth.

    Shape: (E, 3) -> quaternions (w, x, y, z) of the frame that is given (E, 4); cosine and sine of the turn about ŷ from it to
        the other frame, and the weight of the other frame (E, 3).

    Example:
        >>> quaternions, other = two_frames(torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0]]))
        >>> other[:, 2]
        tensor([0.0000, 0.5000])
    """
    square = vectors.square().sum(1)
    apart = square > 0
    x, y, z = (vectors / torch.where(apart, square, 1.0).sqrt()[:, None]).unbind(1)
    y = torch.where(apart, y, 1.0)
    up, zero = y >= 0, torch.zeros_like(y)
    height = torch.where(up, y, -y)  # not abs(), whose slope at the equator is 0
    half = ((1 + height) / 2).sqrt()  # at least √½
    p, q = x / (2 * half), z / (2 * half)
    quaternions = torch.where(
        up[:, None], torch.stack([half, -q, zero, p], 1), torch.stack([-q, half, p, zero], 1)
    )
    within = height < BAND
    flat = torch.where(within, x.square() + z.square(), 1.0)
    cosine = torch.where(within, (z.square() - x.square()) / flat, 1.0)
    sine = torch.where(within, 2 * x * z / flat, 0.0)
    t = (0.5 - height / (2 * BAND)).clamp_min(0.0)  # 0 where the other frame begins, 1/2 at the equator
    weight = t**3 * (10 - t * (15 - 6 * t))
    return quaternions, torch.stack([cosine, torch.where(up, -sine, sine), weight], 1)


class OrderColumns(NamedTuple):
    """Where the copies of one order lie among the copies of all irreps."""

    components: int  # 1, or 2 for ±m
    skip: int  # copies of irreps before the first that has the order
    width: int  # copies of irreps that have it


def order_columns(irreps: Irreps, mmax: int | None = None) -> tuple[OrderColumns, ...]:
    """The columns of each order of natural irreps in ascending order, as numbers alone, which compilers can follow."""
    irs = distinct_irreps(irreps)
    copies = [irreps.count(ir) for ir in irs]
    return tuple(
        OrderColumns(order.components, sum(copies[: order.members[0]]), sum(copies[i] for i in order.members))
        for order in orders_of(irs, mmax)
    )


def scaled_orders(x: Tensor, count: int, factors: Tensor, columns: Sequence[OrderColumns]) -> Tensor:
    """Planar features with each copy times a factor of the edge.

    Shape: planar by order, number of edges E, factors (E, copies of all irreps) -> planar by order.
    """
    out, first = [], 0
    for components, skip, width in columns:
        part = x.narrow(0, count * first, count * components * width).view(count, components, width)
        out.append((part * factors[:, None, skip : skip + width]).flatten())
        first += components * width
    return torch.cat(out)
