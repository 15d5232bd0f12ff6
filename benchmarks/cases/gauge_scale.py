"""One gauge-equivariant layer on a mesh of ten thousand vertices and on one of a million: 16 channels of orders 0 and 1."""

from __future__ import annotations

from collections.abc import Callable

from cases.configuration import Configuration
from cases.gauge import torus
from cases.layers import work
from measure import Work
from spheregeo.groups import FieldType
from spheregeo.kernels import CircularHarmonics
from spheregeo.mesh import TriangleMesh
from spheregeo.nn import GaugeConv, GaugeGeometry

KIND, FREQUENCY = FieldType.full(16, 1), 2


class OnMesh(Configuration):
    """A configuration that counts the pairs of the layer's own geometry."""

    def count(self) -> int:
        assert isinstance(self.grid, TriangleMesh)
        return GaugeGeometry.of(self.grid, frequency=FREQUENCY).map.num_nonzeros


def ours(mesh: TriangleMesh) -> Callable[[], Work]:
    def build() -> Work:
        layer = GaugeConv(KIND, KIND, mesh)
        return work(layer, list(layer.parameters()), (1, KIND.dim, mesh.num_points))

    return build


def cases() -> list[Configuration]:
    kernel = CircularHarmonics(2, FREQUENCY)
    found: list[Configuration] = []
    for side in (20, 100, 1000):
        mesh = torus(side, side)
        small = found[0] if found else None
        found.append(
            OnMesh("gauge_scale", mesh, kernel, 2 * mesh.spacing, KIND.dim, {"spheregeo": ours(mesh)}, small)
        )
    return found[1:]
