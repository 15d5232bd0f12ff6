"""A whole network made plain: every map and every gather inside it is replaced by its plain twin."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from spheregeo.export.twins.attention import PlainAttentionMap
from spheregeo.export.twins.copies import PlainGather, PlainPadding
from spheregeo.export.twins.linear import PlainSparseMap
from spheregeo.export.twins.max_plus import PlainMaxPlusMap
from spheregeo.export.twins.tangent import PlainTangentMap
from spheregeo.nn.sphere.icosahedral.padding import Padding
from spheregeo.sparse import AttentionMap, Coupling, Gather, MaxPlusMap, RowMaps, SparseMap, TangentMap

TWINS: dict[type[nn.Module], Any] = {
    SparseMap: PlainSparseMap,
    Gather: PlainGather,
    TangentMap: PlainTangentMap,
    AttentionMap: PlainAttentionMap,
    Padding: PlainPadding,
    MaxPlusMap: PlainMaxPlusMap,
}
WITHOUT = (Coupling, RowMaps)


def plain(module: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode that computes the same with ordinary ops of torch alone.

    Sparse maps, gathers and tangent maps become padded gathers and matrix products, so that the copy goes to ONNX and runs where
    no operator of this library is known. Layers over equal geometry share one twin of their map. The copy is slower than the
    network, keeps its grid and serves inference.

    Args:
        module: network or layer of the sphere, or of meshes of one geometry.

    Raises: ValueError, with the layer's name, for layers that have no twin: those of points whose edges come with each call.

    Example:
        >>> import torch
        >>> from spheregeo import export, grids, nn
        >>> conv, x = nn.DiscoConv(2, 3, grids.HEALPix(4)), torch.randn(1, 2, 192)
        >>> torch.allclose(export.plain(conv)(x), conv(x), atol=1e-5)
        True
    """
    twin = copy.deepcopy(module).eval()
    made: dict[Any, nn.Module] = {}
    for name, child in list(twin.named_modules()):
        if isinstance(child, WITHOUT):
            owner = name.rpartition(".")[0]
            kind_of_layer = type(twin.get_submodule(owner)).__name__
            raise ValueError(
                f"layer {owner or kind_of_layer!r} ({kind_of_layer}) has no plain twin: its edges come with each call; "
                "export it with --to torch-export"
            )
        kind = next((kind for kind in TWINS if isinstance(child, kind)), None)
        if kind is None:
            continue
        key = (kind, *((table, tensor.data_ptr(), tensor.shape) for table, tensor in child.named_buffers()))
        if key not in made:
            made[key] = TWINS[kind](child)
        if not name:
            return made[key]
        parent, _, attribute = name.rpartition(".")
        try:
            owner_module = twin.get_submodule(parent)
        except AttributeError:  # inside a map that was replaced already
            continue
        owner_module._modules[attribute] = made[key]
    return twin
