"""What the networks on surfaces share: scaled inputs, invariants of fields, the geometry of a batch of meshes."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spheregeo.groups import FieldType
from spheregeo.nn import ExactBuffers, OperatorSettings, SurfaceOperators

if TYPE_CHECKING:
    from spheregeo.grids import Grid

OUTPUTS = ("field", "label")


class InputScale(nn.Module):
    """Input fields centred and scaled by statistics of the training data, taken once; never by those of a batch.

    What a whole surface is like is in the means that batch statistics would take away. Until ``fit``, it changes nothing.

    Shape: (B, dim, P) -> the same.
    Equivariance: SO(2) gauge, exact: scalars are shifted and scaled, other fields scaled.
    """

    running_mean: Tensor
    running_var: Tensor
    field_of: Tensor
    is_scalar: Tensor

    def __init__(self, field_type: FieldType) -> None:
        super().__init__()
        self.field_type = field_type
        width = [1 if order == 0 else 2 for _, count, order in field_type.blocks for _ in range(count)]
        self.register_buffer(
            "field_of",
            torch.repeat_interleave(torch.arange(len(width)), torch.tensor(width)),
            persistent=False,
        )
        self.register_buffer("running_mean", torch.zeros(len(width)))
        self.register_buffer("running_var", torch.ones(len(width)))
        self.register_buffer("is_scalar", torch.tensor(width) == 1, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        shift = (self.running_mean * self.is_scalar)[self.field_of, None]
        return (x - shift) * torch.rsqrt(self.running_var + 1e-12)[self.field_of, None]

    @torch.no_grad()
    def fit(self, x: Tensor, areas: Tensor) -> None:
        """Take the statistics of x (B, dim, P), points weighted by areas (P,)."""
        mean = (x @ (areas / areas.sum())).mean(0)  # (dim,)
        mean = torch.where(self.is_scalar[self.field_of], mean, 0.0)
        square = ((x - mean[:, None]).square() @ (areas / areas.sum())).mean(0)
        count = torch.bincount(self.field_of)
        for running, values in ((self.running_mean, mean), (self.running_var, square)):
            running.copy_(torch.zeros_like(running).index_add(0, self.field_of, values) / count)


def invariants(x: Tensor, field_type: FieldType, eps: float = 1e-6) -> Tensor:
    """Scalars as they are, every other field by its length √(c² + s² + eps).

    Shape: (B, dim, P) -> (B, num_fields, P). Equivariance: no turn of a frame changes them, exactly.
    """
    parts = []
    for channels, multiplicity, order in field_type.blocks:
        part = x[:, channels]
        if order:
            part = (part.unflatten(1, (multiplicity, 2)).square().sum(2) + eps).sqrt()
        parts.append(part)
    return torch.cat(parts, 1)


class SurfaceNetwork(ExactBuffers):
    """Base of the networks on surfaces: of one grid, or of batches of meshes whose geometry comes with each call.

    A subclass has ``scale``, an :class:`InputScale` of its input, and defines :meth:`geometry_of`.
    """

    scale: InputScale

    @abstractmethod
    def geometry_of(self, *grids: Grid) -> Any:
        """The geometry of a batch of surfaces, which the forward takes after the features; computed once for each surface."""


class OperatorNetwork(SurfaceNetwork):
    """Base of the networks that act by operators of surfaces.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the surface, a mesh or sphere grid; or None where operators come with each call.
        output: "field" or "label".
        in_type: fields of the input, whose invariants the network sees; scalars if None.
        settings: operators that the network needs.

    Raises: ValueError for another output, a type that does not have ``in_channels`` channels.
    """

    operators: SurfaceOperators | None

    def __init__(
        self, in_channels: int, out_channels: int, grid: Grid | None, output: str, in_type: str | None,
        settings: OperatorSettings,
    ) -> None:  # fmt: skip
        super().__init__()
        if output not in OUTPUTS:
            raise ValueError(f"output is {output!r}; expected 'field' or 'label'")
        first = FieldType.of(in_type) if in_type is not None else FieldType(f"{in_channels}x0")
        if first.dim != in_channels:
            raise ValueError(
                f"in_type is '{first}' with {first.dim} channels but in_channels is {in_channels}"
            )
        self.in_channels, self.out_channels, self.grid, self.output = in_channels, out_channels, grid, output
        self.in_type, self.settings = first, settings
        self.scale = InputScale(first)
        self.operators = None
        if grid is not None:
            self.keep("operators")

    def _build(self, name: str, dtype: torch.dtype) -> SurfaceOperators:
        assert self.grid is not None
        return SurfaceOperators.of(self.grid, self.settings, dtype)

    def geometry_of(self, *grids: Grid) -> SurfaceOperators:
        """The operators of a batch of surfaces, in the network's dtype and on its device. Computed once for each surface."""
        like = self.scale.running_var
        parts = [SurfaceOperators.of(grid, self.settings, like.dtype) for grid in grids]
        return SurfaceOperators.concatenate(parts).to(like.device)

    def enter(self, x: Tensor, operators: SurfaceOperators | None) -> tuple[Tensor, SurfaceOperators]:
        """Scaled invariants (B, num_fields, P) of the input, and the operators. Raises: ValueError for what does not fit."""
        if (operators is None) == (self.operators is None):
            raise ValueError(
                "operators must be given with the call where the network was built without a grid, and only there"
            )
        held = self.operators if operators is None else operators
        assert held is not None
        shape = (held.num_points,) if self.grid is None else tuple(self.grid.shape)
        if x.ndim < 3 or tuple(x.shape[1:]) != (self.in_channels, *shape):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {self.in_channels}, {', '.join(map(str, shape))}), "
                f"fields of type '{self.in_type}'; were the operators built for other surfaces?"
            )
        return invariants(self.scale(x.flatten(2)), self.in_type), held

    def leave(self, y: Tensor) -> Tensor:
        """Points in the grid's shape again."""
        return y if self.grid is None else y.unflatten(2, self.grid.shape)
