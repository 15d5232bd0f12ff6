"""From items to batches: one function per domain, and ``collate``, which chooses among them by what the items hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

__all__ = ["collate", "collate_clouds", "collate_meshes", "collate_molecules"]

PER_ATOM = ("numbers", "positions", "forces", "atomic", "tags", "fixed")
PER_MOLECULE = ("index", "target", "vectors", "energy", "stress", "weight", "type", "replayed", "cell", "pbc")


def _check_items(items: Any, wanted: tuple[str, ...], what: str) -> None:
    """Raises: ValueError for no items, TypeError for items that are no dicts with the wanted keys."""
    if not len(items):
        raise ValueError(f"items is empty; expected at least one {what}")
    for k, item in enumerate(items):
        if not isinstance(item, Mapping) or not all(key in item for key in wanted):
            raise TypeError(
                f"items[{k}] {_held(item)}; expected a {what}, a dict with {', '.join(map(repr, wanted))}"
            )


def _held(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"has the keys {', '.join(map(repr, item)) or 'none'}"
    return f"is a {type(item).__name__}"


def collate_meshes(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join items of meshes to a ragged batch: meshes as a list, numbers as tensors, targets end to end.

    Args:
        items: dicts with ``mesh``, ``index`` and, in all of them or none, ``label``, ``target`` and ``part``.

    Shape: target and part (V_1,), (V_2,), ... -> (V_1 + V_2 + ...,); label and index () -> (B,).
    Raises: ValueError for no items; TypeError for items that are no meshes.

    Example:
        >>> from spheregeo.data import Primitives, collate_meshes
        >>> shapes = Primitives(2, vertices=(100, 120))
        >>> collate_meshes([shapes[0], shapes[1]])["label"]
        tensor([0, 1])
    """
    _check_items(items, ("mesh", "index"), "mesh")
    batch: dict[str, Any] = {
        "mesh": [item["mesh"] for item in items],
        "index": torch.tensor([item["index"] for item in items]),
    }
    if all("label" in item for item in items):
        batch["label"] = torch.tensor([item["label"] for item in items])
    for key in ("target", "part"):
        if all(key in item for item in items):
            batch[key] = torch.cat([torch.as_tensor(item[key]) for item in items])
    return batch


def collate_clouds(items: Sequence[Mapping[str, Any] | list[Any]]) -> dict[str, Any]:
    """Join views of clouds to a ragged batch: points end to end, with the number of each point's cloud.

    Args:
        items: dicts with ``positions``, ``label``, ``index`` and perhaps ``features`` and ``part``; or lists with several such
            views of one cloud each, as many in every list. The batch then says how many: ``votes``.

    Shape: positions and features (P_1, 3), (P_2, 3), ... -> (P_1 + P_2 + ..., 3), batch and part (P_1 + P_2 + ...,), label and
        index (B,).
    Raises: ValueError for no items; TypeError for items that are no views of clouds.

    Example:
        >>> from spheregeo.data import PrimitiveClouds, Views, collate_clouds
        >>> views = Views(PrimitiveClouds(2, 50), 3)
        >>> collate_clouds([views[0], views[1]])["batch"]
        tensor([0, 0, 0, 1, 1, 1])
    """
    groups = [item if isinstance(item, list) else [item] for item in items]
    flat = [view for group in groups for view in group]
    _check_items(flat, ("positions", "label", "index"), "view of a cloud")
    sizes = torch.tensor([len(view["positions"]) for view in flat])
    batch: dict[str, Any] = {
        "positions": torch.cat([view["positions"] for view in flat]),
        "batch": torch.repeat_interleave(torch.arange(len(flat)), sizes),
        "label": torch.tensor([int(group[0]["label"]) for group in groups]),
        "index": torch.tensor([int(group[0]["index"]) for group in groups]),
    }
    if "features" in flat[0]:
        batch["features"] = torch.cat([view["features"] for view in flat])
    if "part" in flat[0]:
        batch["part"] = torch.cat([view["part"] for view in flat])
    if len(flat) > len(groups):
        batch["votes"] = len(groups[0])
    return batch


def collate_molecules(items: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join batches of molecules, of one molecule or more each, to one batch: atoms end to end.

    Args:
        items: dicts as :meth:`~spheregeo.data.Molecules.batch` makes them. One such dict is a batch already and comes back as it
            is. Molecules that are not periodic may stand beside periodic ones.

    Shape: numbers (P_1,), (P_2,), ... -> (P_1 + P_2 + ...,), likewise positions, forces, atomic, tags and fixed; batch counts
        the molecules on; index, target, vectors, energy, stress, weight, type, replayed, cell and pbc have one row per molecule.
    Units: Å, eV and eV/Å; targets keep theirs.
    Raises: ValueError for no items, or where only some have energies, forces or targets; TypeError for items that are none.

    Example:
        >>> from spheregeo.data import Molecules, collate_molecules
        >>> source = Molecules.of([[2], [10]], [[[0, 0, 0]], [[0, 0, 0]]])
        >>> collate_molecules([source.batch([1]), source.batch([0])])["numbers"]
        tensor([10,  2])
    """
    if isinstance(items, Mapping):
        _check_items([items], ("numbers", "positions", "batch", "index"), "batch of molecules")
        return dict(items)
    _check_items(items, ("numbers", "positions", "batch", "index"), "batch of molecules")
    counts = torch.tensor([len(item["index"]) for item in items])
    first = counts.cumsum(0) - counts
    found = {"batch": torch.cat([item["batch"] + int(k) for item, k in zip(items, first, strict=True)])}
    if any("cell" in item for item in items):
        items = [{**_no_cell(item), **item} for item in items]
    for key in (*PER_ATOM, *PER_MOLECULE):
        have = [key in item for item in items]
        if any(have) and not all(have):
            raise ValueError(
                f"items[{have.index(False)}] has no {key!r} but others have; expected all or none"
            )
        if all(have):
            found[key] = torch.cat([item[key] for item in items])
    return found


def _no_cell(item: Mapping[str, Tensor]) -> dict[str, Tensor]:
    count = len(item["index"])
    return {
        "cell": item["positions"].new_zeros(count, 3, 3),
        "pbc": torch.zeros(count, 3, dtype=torch.bool, device=item["positions"].device),
    }


def collate(items: Any) -> dict[str, Any]:
    """Join items of any dataset of this package to a batch, by what the items hold.

    Items with a ``mesh`` go to :func:`collate_meshes`, with ``numbers`` and ``positions`` to :func:`collate_molecules`, with
    ``positions`` alone to :func:`collate_clouds`; items with an ``image`` are stacked by torch's own function.

    Args:
        items: the items, as a torch loader hands them to its ``collate_fn``.

    Raises: ValueError for no items; TypeError for items of no such kind, or of two kinds.

    Example:
        >>> from spheregeo.data import Primitives, collate
        >>> shapes = Primitives(2, vertices=(100, 120))
        >>> sorted(collate([shapes[0], shapes[1]]))
        ['index', 'label', 'mesh']
    """
    if isinstance(items, Mapping):
        return collate_molecules(items)
    if not len(items):
        raise ValueError("items is empty; expected at least one item")
    first = items[0][0] if isinstance(items[0], list) and items[0] else items[0]
    keys = first if isinstance(first, Mapping) else {}
    if "mesh" in keys:
        return collate_meshes(items)
    if "numbers" in keys and "positions" in keys:
        return collate_molecules(items)
    if "positions" in keys:
        return collate_clouds(items)
    if "image" in keys:
        stacked: dict[str, Any] = default_collate(list(items))
        return stacked
    raise TypeError(
        f"items[0] {_held(first)}; expected a dict with 'image', 'mesh', 'positions', or 'numbers' and 'positions'. "
        "For items of another kind give the data module a collate of its own"
    )
