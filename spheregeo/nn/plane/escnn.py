"""Weights of e2cnn's and escnn's planar convolutions, converted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spheregeo.groups import FieldType, PlanarGroup, PlanarType
from spheregeo.groups.plane_fields import PlaneSymmetry, field_kinds, plane_type
from spheregeo.nn.plane.basis import GaussianTapBasis, TapBasis
from spheregeo.nn.plane.steerable.conv import SteerableConv2d

TOLERANCE = 1e-4  # of the kernel's norm: float32 basis functions


def from_escnn(
    source: Any,
    in_type: str | FieldType | PlanarType,
    out_type: str | FieldType | PlanarType,
    *,
    group: str | PlanarGroup | None = None,
    padding: int | str = "same",
    stride: int = 1,
    padding_mode: str = "zeros",
    basis: TapBasis | None = None,
) -> SteerableConv2d:
    """Return the layer with the kernel and the bias of an ``R2Conv`` of e2cnn or escnn.

    Channels keep their order: regular fields of C_n and D_n have the same elements in the same sequence there, where the
    reflection is the default one, x → −x. Components of odd orders of O(2) and D_n are turned by 90°, as
    :func:`escnn_components` says.

    Args:
        source: the layer, or its ``state_dict()`` in evaluation mode, which holds ``filter`` and ``expanded_bias``.
        in_type, out_type: its types in this package's words, such as ``"2x0"`` and ``"4xC8"``, or ``"1x0 + 1x1"``.
        group: the group, where the types do not name it; ``None`` means SO2 then.
        padding, stride, padding_mode: as the layer has them.
        basis: rings and frequencies of the layer; None for the default ones of its kernel size.

    Raises: ValueError for sizes that do not fit, and kernels outside the span of the basis.
    """
    kernel, bias = _expanded(source)
    inside, outside = plane_type(in_type), plane_type(out_type)
    size = kernel.shape[-1]
    if kernel.ndim != 4 or kernel.shape[:3] != (outside.dim, inside.dim, size):
        raise ValueError(
            f"source has a filter of shape {tuple(kernel.shape)}; expected ({outside.dim}, {inside.dim}, size, size) for types "
            f"'{inside}' and '{outside}'"
        )
    layer = SteerableConv2d(
        inside, outside, size, group=group, padding=padding, stride=stride, antialias=False, padding_mode=padding_mode,
        bias=bias is not None, basis=GaussianTapBasis(size) if basis is None else basis,
    )  # fmt: skip
    left, right = (escnn_components(fields, layer.group) for fields in (outside, inside))
    kernel = torch.einsum("ab,bcij,dc->adij", left, kernel, right)
    _fit(layer, kernel)
    if layer.bias is not None and bias is not None:
        solved = torch.linalg.lstsq(layer.exact("constants").T, (left @ bias)[:, None])
        with torch.no_grad():
            layer.bias.copy_(solved.solution[:, 0])
    return layer


def escnn_components(
    field_type: str | FieldType | PlanarType, group: str | PlanarGroup | PlaneSymmetry
) -> Tensor:
    """Matrix that takes components of fields in e2cnn's and escnn's bases to those here.

    Their reflection acts on order m as diag(1, −1), here x → −x does as (−1)^m diag(1, −1): odd orders are turned by 90°. Without
    reflections nothing differs.

    Args:
        field_type: the fields.
        group: the group.

    Shape: (dim, dim) float64.
    """
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    blocks = []
    for number, kind in field_kinds(plane_type(field_type)):
        odd = PlaneSymmetry.of(group).reflections and (kind.order or 0) % 2 == 1
        blocks += [quarter if odd else torch.eye(kind.width, dtype=torch.float64)] * number
    return torch.block_diag(*blocks)


def _expanded(source: Any) -> tuple[Tensor, Tensor | None]:
    """Kernel and bias in float64."""
    if isinstance(source, Mapping):
        if "filter" not in source:
            raise ValueError(
                f"source has {', '.join(map(str, source))}; expected 'filter', which a layer has in evaluation: call "
                ".eval() before .state_dict()"
            )
        kernel, bias = source["filter"], source.get("expanded_bias")
    else:
        if not hasattr(source, "expand_parameters"):
            raise ValueError(
                f"source is {type(source).__name__}; expected an R2Conv of e2cnn or escnn, or its state dict"
            )
        kernel, bias = source.expand_parameters()
    return kernel.detach().cpu().double(), None if bias is None else bias.detach().cpu().double()


@torch.no_grad()
def _fit(layer: SteerableConv2d, kernel: Tensor) -> None:
    """Set the weights by least squares. Raises: ValueError for a kernel that the layer cannot have."""
    scale = float(kernel.norm())
    for weight, blocks in zip(layer.weights, layer.blocks()):
        for start, elements, (number, copies), (rows, columns) in blocks:
            target = kernel[rows, columns].unflatten(0, (number, -1)).unflatten(2, (copies, -1))
            target = target.permute(1, 3, 4, 5, 2, 0).flatten(0, 3).flatten(1)  # (entries, copies · number)
            if not len(elements):
                rest, solved = target, target[:0]
            else:
                solved = torch.linalg.lstsq(elements.flatten(1).T, target).solution
                rest = elements.flatten(1).T @ solved - target
            if rest.norm() > TOLERANCE * scale:
                raise ValueError(
                    f"source has a filter that is {float(rest.norm()) / scale:.1e} of its size off all kernels from "
                    f"'{layer.in_type}' to '{layer.out_type}' for group {layer.group}; give the basis (rings, widths, cutoffs) "
                    "and the types of the layer"
                )
            weight[start : start + len(elements) * copies] = solved.reshape(-1, number).to(weight)
