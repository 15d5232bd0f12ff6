"""Graphs on images: pixels with orientations, which are samples of SE(2), and pixels alone.

x points to the right and y up, lengths are pixels, and the centre of the image is the origin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from scipy.sparse import csr_array, identity, kron
from torch import Tensor

from spheregeo.groups import se2_inverse, se2_log, se2_product
from spheregeo.nn.plane.lie_graph.base import LieGraph, check_metric, weighted_norm


def _offsets(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (coarse, fine), in coarse pixels, of the pixels of an axis from those of the axis with half as many."""
    coarse = -(-size // 2)
    at = (np.arange(size) - (size - 1) / 2) / 2 + (coarse - 1) / 2
    return np.abs(at[None] - np.arange(coarse)[:, None]), at


def _pool_axis(size: int) -> csr_array:
    distance, _ = _offsets(size)
    weight = (distance < 0.5) + 0.5 * (distance == 0.5)  # a pixel between two cells belongs to both
    return csr_array(weight / weight.sum(1, keepdims=True))


def _unpool_axis(size: int) -> csr_array:
    distance, _ = _offsets(size)
    weight = np.maximum(0, 1 - distance).T
    return csr_array(weight / weight.sum(1, keepdims=True))


@dataclass(frozen=True)
class _ImageGraph(LieGraph):
    """What both graphs on images share."""

    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, side in (("height", self.height), ("width", self.width)):
            if side is not None and (not isinstance(side, int) or side < 1):
                raise ValueError(f"{name} is {side!r}; expected a positive integer, or None for any image")
        if (self.height is None) != (self.width is None):
            raise ValueError(f"height is {self.height} and width {self.width}; expected both or neither")

    @property
    def orientations(self) -> int:
        return 1

    @property
    def places(self) -> tuple[int, int]:
        if self.height is None or self.width is None:
            raise ValueError(f"{self!r} has no size; expected height and width, or .at(height, width)")
        return self.height, self.width

    @property
    def is_sized(self) -> bool:
        return self.height is not None

    def at(self, height: int, width: int) -> Self:
        """This graph on images of another size.

        Args:
            height: rows of the image.
            width: columns of the image.
        """
        return replace(self, height=int(height), width=int(width))

    def coarsen(self) -> Self:
        height, width = self.places
        return replace(self, height=-(-height // 2), width=-(-width // 2))

    def pixels(self) -> Tensor:
        """Places (H W, 2) of the pixels, in float64."""
        height, width = self.places
        y = (height - 1) / 2 - torch.arange(height, dtype=torch.float64)
        x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
        return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).flatten(0, 1)

    def pooling(self) -> csr_array:
        height, width = self.places
        cells = kron(_pool_axis(height), _pool_axis(width), format="csr")
        return csr_array(kron(identity(self.orientations), cells, format="csr"))

    def unpooling(self) -> csr_array:
        height, width = self.places
        cells = kron(_unpool_axis(height), _unpool_axis(width), format="csr")
        return csr_array(kron(identity(self.orientations), cells, format="csr"))


@dataclass(frozen=True)
class R2Graph(_ImageGraph):
    """Pixels joined to the nearest ones by their distance: the isotropic graph of an image.

    Args:
        height: rows of the image; None with ``width`` None for images of any size.
        width: columns of the image.
        neighbors: how many nearest pixels each pixel is joined to; ties are all taken.

    Units: pixels.
    Raises: ValueError for sizes below 1.

    Example:
        >>> from spheregeo.nn.plane.lie_graph import R2Graph
        >>> R2Graph(9, 9, neighbors=8).laplacian().to_dense().shape
        torch.Size([1, 81, 81])
    """

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        points = self.pixels().numpy()
        length: np.ndarray = np.sqrt(((points[a] - points[b]) ** 2).sum(-1))
        return length

    def embedding(self) -> np.ndarray:
        return self.pixels().numpy()


@dataclass(frozen=True)
class SE2Graph(_ImageGraph):
    """Pixels with orientations, joined by the anisotropic left-invariant distance of SE(2).

    A vertex stands at a pixel and looks along the angle θ_i = 2π i/n, counter-clockwise from the right. A step along the main
    axis costs its length, one along the other axis ``anisotropy`` times as much, and a turn by one radian ``turn`` pixels.

    Args:
        height: rows of the image; None with ``width`` None for images of any size.
        width: columns of the image.
        directions: number n of orientations over each pixel.
        main: which steps are cheap: "along" the orientation, for lines, or "across" it, for edges seen from the side.
        anisotropy: cost of a step off the main axis, 1 or more.
        turn: cost of a turn by one radian.
        directed: whether θ and θ + π differ; if not, the n orientations are θ_i = π i/n, and a vertex stands for both.
        neighbors: how many nearest vertices each vertex is joined to; ties are all taken.

    Units: pixels, radians.
    Equivariance: on square images, turns by 90° permute the graph where n is a multiple of 4 (of 2 if not ``directed``).
    Raises: ValueError for sizes, a main axis or costs that do not fit.
    Reference: Aguettaz, Bekkers & Defferrard 2021, arXiv:2111.12139, section 4.

    Example:
        >>> from spheregeo.nn.plane.lie_graph import SE2Graph
        >>> SE2Graph(5, 5, 8, main="along", anisotropy=4.0).num_vertices
        200
    """

    directions: int = 8
    main: str = "along"
    anisotropy: float = 4.0
    turn: float = 2.0
    directed: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_metric(self.main, self.anisotropy, self.turn, self.directions)

    @property
    def orientations(self) -> int:
        return self.directions

    def angles(self) -> Tensor:
        """Angles (n,) of the orientations, in float64."""
        turn = 2 * torch.pi if self.directed else torch.pi
        return torch.arange(self.directions, dtype=torch.float64) * (turn / self.directions)

    def elements(self) -> Tensor:
        """The vertices as motions (V, 3): x, y and θ, in float64."""
        pixels, angles = self.pixels(), self.angles()
        places = pixels.expand(len(angles), -1, -1)
        turned = angles[:, None, None].expand(-1, len(pixels), 1)
        return torch.cat([places, turned], 2).flatten(0, 1)

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        elements = self.elements()
        g, h = elements[torch.from_numpy(a)], elements[torch.from_numpy(b)]
        relative = se2_product(se2_inverse(g), h)
        length = self._length(relative)
        if not self.directed:
            length = torch.minimum(length, self._length(relative + relative.new_tensor([0, 0, torch.pi])))
        return length.numpy()

    def _length(self, relative: Tensor) -> Tensor:
        main, other = (0, 1) if self.main == "along" else (1, 0)
        return weighted_norm(se2_log(relative), main, other, self.anisotropy, self.turn)

    def embedding(self) -> np.ndarray:
        """Pixels and a circle of orientations: chords are shorter than arcs, and pixels at least 1 away."""
        x, y, angle = self.elements().numpy().T
        times = 1 if self.directed else 2
        radius = self.turn / times
        return np.stack([x, y, radius * np.cos(times * angle), radius * np.sin(times * angle)], 1)
