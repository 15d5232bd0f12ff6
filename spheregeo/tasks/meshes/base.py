"""What the tasks on meshes share: inputs from the shape alone, ragged batches, geometry kept for each mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo import audit, models
from spheregeo.data.meshes.generated import Creatures
from spheregeo.mesh import TriangleMesh
from spheregeo.models.meshes.base import SurfaceNetwork
from spheregeo.models.registry import takers_of
from spheregeo.nn.surface.inputs import surface_input_type, surface_inputs
from spheregeo.tasks.base import Task
from spheregeo.tasks.checks import check_precision

STATISTICS_MESHES = 32  # as many training meshes give mean and scale of the inputs
AUDITED = 500  # vertices, about, of the mesh that audits measure on
DEFAULT_FEATURES = ("matrix", "whole", "position")


def check_meshes(meshes: Any) -> list[TriangleMesh]:
    """Return the meshes of a batch as a list, once found to be some.

    Args:
        meshes: list of meshes.

    Raises: ValueError for anything but a list of at least one TriangleMesh.
    """
    if not isinstance(meshes, (list, tuple)) or not meshes:
        raise ValueError(
            f"mesh is of type {type(meshes).__name__}; expected a list of at least one TriangleMesh"
        )
    wrong = [m for m in meshes if not isinstance(m, TriangleMesh)]
    if wrong:
        raise ValueError(f"the batch holds a {type(wrong[0]).__name__}; expected TriangleMesh objects")
    return list(meshes)


class MeshTask(Task):
    """Base of the tasks on meshes: network, inputs by name, levels of a batch.

    Shape: batches hold mesh, a list of B meshes of any sizes.
    Equivariance: frames do not matter, to the error of the network's nonlinearities (1e-3); motions of a mesh change nothing,
        unless "xyz" is among the features.
    Raises: ValueError for an unknown feature, or a batch without meshes.

    Args:
        out_channels: channels of the network's output.
        network: name of a model, see ``spheregeo list models``.
        features: inputs of the network, some of matrix, whole, position, heat, xyz.
        feature_radius: radius of "matrix", in units of the square root of the mesh's area.
        width: width of the network; its own default if None.
        depth: levels of the network; its own default if None.
        options: further options of the network, such as {"radius": 0.05, "max_order": 2}.
        lr: peak learning rate of AdamW.
        common: arguments of :class:`~spheregeo.tasks.Task`.
    """

    output: ClassVar[str] = "label"
    network: SurfaceNetwork

    def __init__(
        self, out_channels: int, *, network: str, features: Sequence[str] = DEFAULT_FEATURES,
        feature_radius: float = 0.05, width: int | None = None, depth: int | None = None,
        options: dict[str, Any] | None = None, lr: float = 5e-3, **common: Any,
    ) -> None:  # fmt: skip
        in_type = surface_input_type(features)
        name = models.resolve(network, self.output)
        own = models.options_of(name, options)
        # recipes may file them with the options of a network
        filed = (own.pop("width", None), own.pop("depth", None))
        width, depth = (a if b is None else b for a, b in zip(filed, (width, depth), strict=True))
        super().__init__(
            network=name, features=list(features), feature_radius=feature_radius, width=width, depth=depth,
            options=own or None, lr=lr, **common,
        )  # fmt: skip
        self.features, self.feature_radius = tuple(features), feature_radius
        chosen = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        kinds = [taker for taker in takers_of(name) if isinstance(taker, type)]
        fits = not kinds or any(issubclass(kind, SurfaceNetwork) for kind in kinds)
        built = (
            models.create(name, in_type.dim, out_channels, None, in_type=str(in_type), **chosen)
            if fits
            else None
        )
        if not isinstance(built, SurfaceNetwork):
            raise ValueError(
                f"network is {network!r}; expected one for meshes, such as gem-cnn, diffusion or delta"
            )
        self.network = built

    # ---- meshes in

    def prepare(self, meshes: Sequence[TriangleMesh]) -> tuple[Tensor, Any]:
        """Return inputs (1, C, V_1 + V_2 + ...) and geometry of meshes, on the network's device; kept for each mesh."""
        geometry = self.network.geometry_of(*meshes)
        parts = [surface_inputs(mesh, self.features, self.feature_radius) for mesh in meshes]
        return torch.cat(parts, 1)[None].to(self.network.scale.running_var), geometry

    def forward(self, meshes: Sequence[TriangleMesh]) -> Tensor:
        x, geometry = self.prepare(check_meshes(meshes))
        result: Tensor = self.network(x, geometry)
        return result

    def audit(self) -> dict[str, Any]:
        """Measure what frames, motions and the vertices' order change, on a generated mesh, and its cost; prints a table."""

        def run(module: torch.nn.Module, mesh: TriangleMesh) -> Tensor:
            network: Any = module
            x = surface_inputs(mesh, self.features, self.feature_radius)[None].to(network.scale.running_var)
            result: Tensor = network(x, network.geometry_of(mesh))
            return result

        mesh = Creatures(1, (AUDITED, AUDITED))[0]["mesh"]
        result = audit.report_meshes(self.network.eval(), run, mesh)
        audit.print_meshes(result)
        return result

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Fit mean and scale of the inputs to some training meshes, the same in every process and after every resume."""
        refused = ("bf16-true", "16-true", "64-true")
        check_precision(
            self.trainer, refused, "in which Lightning takes batches of tensors alone, not of meshes"
        )
        dataset: Any = self.trainer.datamodule.train_dataloader().dataset  # type: ignore[attr-defined]
        chosen = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), STATISTICS_MESHES)).astype(int))
        meshes = [dataset[int(k)]["mesh"] for k in chosen]
        x = [surface_inputs(mesh, self.features, self.feature_radius) for mesh in meshes]
        share = torch.cat([mesh.areas / mesh.areas.sum() for mesh in meshes])
        like = self.network.scale.running_var
        self.network.scale.fit(torch.cat(x, 1)[None].to(like), share.to(like))
