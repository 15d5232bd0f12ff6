"""Frames of edges for layers that see their roll, and planar features scaled copy by copy."""

from __future__ import annotations

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


class FrameWays(NamedTuple):
    """What all layers of a network share of the edges' frames: coefficients of the rotation, rows of sources and of targets.

    Example:
        >>> geometry = EdgeGeometry.of(torch.randn(3, 3), torch.tensor([[0, 1, 2], [1, 0, 1]]))
        >>> FrameWays.of(geometry, FrameRotation(Irreps("4x0e + 4x1o")), lmax=1).edges
        3
    """

    coefficients: Tensor
    sources: Rows
    targets: Rows
    edges: int

    @classmethod
    def of(
        cls, geometry: EdgeGeometry, rotation: FrameRotation, lmax: int, *, roll: bool = False
    ) -> FrameWays:
        """The frames of the edges of a geometry.

        Args:
            geometry: the edges.
            rotation: features into the frames and back.
            lmax: largest degree of the features.
            roll: whether what is done in the frames sees their roll, so that its gradient counts.
        """
        vectors = geometry.vectors
        packed = packed_wigner(smooth_quaternions(vectors), lmax) if roll else wigner_to_y(vectors, lmax)
        sources, targets = geometry.rows
        return cls(rotation.coefficients(packed), sources, targets, geometry.num_edges)


def smooth_quaternions(vectors: Tensor) -> Tensor:
    """The shortest rotations that take vectors to the direction ŷ, as unit quaternions (w, x, y, z), with their own gradients.

    :func:`~spheregeo.harmonics.wigner_to_y` has the gradient of what does not see the roll of a frame; here the roll counts. It
    is smooth in the vectors but at −ŷ, where the frame is the half turn about x and the gradient is zero.

    Shape: (E, 3) -> (E, 4).

    Example:
        >>> smooth_quaternions(torch.tensor([[0.0, 2.0, 0.0]]))
        tensor([[1., 0., 0., 0.]])
    """
    square = vectors.square().sum(1)
    apart = square > 0
    x, y, z = (vectors / torch.where(apart, square, 1.0).sqrt()[:, None]).unbind(1)
    y = torch.where(apart, y, 1.0)
    # Half the angle from ŷ, w its cosine, without cancellation: by 1 + y above the equator, by x² + z² below it.
    up = y >= 0
    cosine = torch.where(up, (1 + y) / 2, 1.0).sqrt()
    sine = torch.where(up, 1.0, (1 - y) / 2).sqrt()
    flat = x.square() + z.square()
    pole = flat == 0
    rho = torch.where(pole, 1.0, flat).sqrt()
    w = torch.where(up, cosine, torch.where(pole, 0.0, rho / (2 * sine)))
    factor = torch.where(up, 1 / (2 * cosine), sine / rho)
    axis_x = torch.where(pole & ~up, 1.0, -z * factor)
    return torch.stack([w, axis_x, torch.zeros_like(w), x * factor], 1)


def scaled_orders(x: Tensor, count: int, factors: Tensor, irreps: Irreps, mmax: int | None = None) -> Tensor:
    """Planar features of natural irreps, in ascending order, with each copy times a factor of the edge.

    Shape: planar by order, number of edges E, factors (E, irreps.num_irreps) -> planar by order.
    """
    irs = distinct_irreps(irreps)
    copies = [irreps.count(ir) for ir in irs]
    out, first = [], 0
    for order in orders_of(irs, mmax):
        width, skip = sum(copies[i] for i in order.members), sum(copies[: order.members[0]])
        part = x.narrow(0, count * first, count * order.components * width).view(
            count, order.components, width
        )
        out.append((part * factors[:, None, skip : skip + width]).flatten())
        first += order.components * width
    return torch.cat(out)
