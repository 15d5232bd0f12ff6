"""To and from PyTorch Geometric: items and batches of clouds, molecules and meshes as ``Data`` and ``Batch``.

=================  ===================  ======================================================================
here               there                note
=================  ===================  ======================================================================
``positions``      ``pos``              clouds and molecules
``features``       ``x``                clouds; normals under ``normal`` are read too
``numbers``        ``z``                molecules
``label``          ``y`` (1,)           clouds and meshes
``target`` (B, T)  ``y`` (1, T)         molecules
``vectors``        ``vectors``          molecules, (1, V, 3)
``atomic``         ``atomic``           molecules, (P, A)
``energy``         ``energy`` (1,)      molecules
``forces``         ``force``            molecules; NaN where they are not known
``cell``, ``pbc``  the same, (1, ...)   molecules
``stress``         ``stress``           molecules, (1, 3, 3)
``tags``           ``tags``             molecules
``fixed``          ``fixed``            molecules
``mesh``           ``pos``, ``face``    faces (3, F) there, (F, 3) in ``TriangleMesh.faces``
``target`` (V,)    ``target``           meshes
``index``          ``idx``              a name that ends in "index" is counted on by a ``Batch``
=================  ===================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spheregeo.data.batches import collate
from spheregeo.mesh import TriangleMesh

if TYPE_CHECKING:
    from torch_geometric.data import Batch, Data

__all__ = ["from_pyg", "to_pyg"]

_PER_MOLECULE = {
    "target": "y", "vectors": "vectors", "energy": "energy", "stress": "stress",
    "weight": "label_weight", "type": "config_type", "replayed": "replayed", "cell": "cell", "pbc": "pbc", "index": "idx",
}  # fmt: skip
_PER_ATOM = {"forces": "force", "atomic": "atomic", "tags": "tags", "fixed": "fixed"}
_KINDS = {
    "tags": torch.int64,
    "fixed": torch.bool,
    "pbc": torch.bool,
    "type": torch.int64,
    "replayed": torch.bool,
}


def to_pyg(item: Mapping[str, Any]) -> Data | Batch:
    """Convert an item or a batch to PyTorch Geometric, by what the item holds; no edges are made.

    Args:
        item: a cloud (:class:`Views`) or a mesh, as their datasets return one, or a batch of clouds, molecules or meshes as
            :func:`collate` makes it. Molecules are always a batch, which may hold one.

    Returns: a ``Data`` for an item, a ``Batch`` for a batch, with the names of the table at the head of this module.
    Shape: positions (P, 3) -> pos (P, 3); mesh -> pos (V, 3) float64, face (3, F) int64.
    Units: as they are.
    Raises: ModuleNotFoundError without torch_geometric; TypeError for an item of another kind; ValueError for a batch with
        several ``votes`` per cloud.

    Example:
        >>> from spheregeo.data import PrimitiveClouds, Views, to_pyg
        >>> to_pyg(Views(PrimitiveClouds(1, 50), 20)[0]).pos.shape
        torch.Size([20, 3])
    """
    from torch_geometric.data import Batch

    if not isinstance(item, Mapping) or not ({"mesh", "positions"} & item.keys()):
        held = ", ".join(map(repr, item)) if isinstance(item, Mapping) else type(item).__name__
        raise TypeError(f"item is or holds {held}; expected a dict with 'mesh' or 'positions'")
    if "mesh" in item:
        if isinstance(item["mesh"], TriangleMesh):
            return _mesh(item)
        return Batch.from_data_list([_mesh(one) for one in _meshes(item)])
    if "batch" not in item:
        return _cloud(item)
    if "votes" in item:
        raise ValueError(f"item has votes {item['votes']}; expected one view per cloud: set votes to 1")
    count = len(item["index"])
    parts = [item["batch"] == k for k in range(count)]
    if "numbers" in item:
        return Batch.from_data_list([_molecule(item, part, k) for k, part in enumerate(parts)])
    singles = [
        {
            **{key: item[key][part] for key in ("positions", "features") if key in item},
            **{key: item[key][k] for key in ("label", "index") if key in item},
        }
        for k, part in enumerate(parts)
    ]
    return Batch.from_data_list([_cloud(one) for one in singles])


def _meshes(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    sizes = [mesh.num_points for mesh in batch["mesh"]]
    ends = torch.tensor(sizes).cumsum(0).tolist()
    found = []
    for k, mesh in enumerate(batch["mesh"]):
        one = {"mesh": mesh, **{key: batch[key][k] for key in ("label", "index") if key in batch}}
        if "target" in batch:
            one["target"] = batch["target"][ends[k] - sizes[k] : ends[k]]
        found.append(one)
    return found


def _single(item: Mapping[str, Any]) -> dict[str, Tensor]:
    names = {"label": "y", "index": "idx"}
    return {names[key]: torch.as_tensor(item[key]).reshape(1) for key in names if key in item}


def _mesh(item: Mapping[str, Any]) -> Data:
    from torch_geometric.data import Data

    mesh: TriangleMesh = item["mesh"]
    more = {"target": torch.as_tensor(item["target"])} if "target" in item else {}
    return Data(pos=mesh.points.clone(), face=mesh.faces.T.contiguous().long(), **_single(item), **more)


def _cloud(item: Mapping[str, Any]) -> Data:
    from torch_geometric.data import Data

    features = {"x": item["features"]} if "features" in item else {}
    return Data(pos=item["positions"], **features, **_single(item))


def _molecule(batch: Mapping[str, Tensor], part: Tensor, k: int) -> Data:
    from torch_geometric.data import Data

    atoms = {there: batch[here][part] for here, there in _PER_ATOM.items() if here in batch}
    rows = {there: batch[here][k : k + 1] for here, there in _PER_MOLECULE.items() if here in batch}
    return Data(z=batch["numbers"][part], pos=batch["positions"][part], **atoms, **rows)


def from_pyg(data: Data | Batch) -> dict[str, Any]:
    """Convert a ``Data`` or a ``Batch`` of PyTorch Geometric to an item or a batch, the inverse of :func:`to_pyg`.

    What has faces becomes a mesh, what has atomic numbers ``z`` a batch of molecules (in float64), other points a cloud. Edges
    are left out: layers here find neighbours themselves, or take ``data.edge_index`` as it is.

    Args:
        data: a ``Data``, or a ``Batch`` of several.

    Returns: an item; a batch as :func:`collate` makes it for a ``Batch``, and for molecules in either case. Where ``idx`` is not
        given, items are numbered from 0.
    Raises: TypeError for what is no ``Data``, and for a batch of clouds without a class ``y`` each; ValueError for a ``Data``
        without positions, or a mesh that is none.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from spheregeo.data import from_pyg
        >>> from_pyg(Data(z=torch.tensor([8, 1, 1]), pos=torch.eye(3)))["numbers"]
        tensor([8, 1, 1])
    """
    from torch_geometric.data import Batch, Data

    if not isinstance(data, Data):
        raise TypeError(f"data is a {type(data).__name__}; expected torch_geometric's Data or Batch")
    if not isinstance(data, Batch):
        return _item(data, 0)
    found: dict[str, Any] = collate([_item(one, k) for k, one in enumerate(data.to_data_list())])
    return found


def _item(data: Data, number: int) -> dict[str, Any]:
    held = data.to_dict()
    if held.get("pos") is None:
        raise ValueError(
            f"data holds {', '.join(map(repr, held)) or 'nothing'}; expected 'pos', the positions"
        )
    number = int(held["idx"]) if "idx" in held else number
    if held.get("z") is not None:
        return _atoms(held, number)
    y = held.get("y")
    label = {"label": int(y)} if y is not None and y.numel() == 1 else {}
    if held.get("face") is not None:
        mesh = TriangleMesh(held["pos"].double().numpy(force=True), held["face"].T.numpy(force=True))
        target = {"target": held["target"]} if "target" in held else {}
        return {"mesh": mesh, **label, **target, "index": number}
    x = held.get("x", held.get("normal"))
    features = {} if x is None else {"features": x}
    labels = {key: torch.tensor(value) for key, value in label.items()}
    return {"positions": held["pos"], **features, **labels, "index": torch.tensor(number)}


def _atoms(held: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    numbers, positions = held["z"].long().reshape(-1), held["pos"].double()
    found = {
        "numbers": numbers,
        "positions": positions,
        "batch": torch.zeros_like(numbers),
        "index": torch.tensor([number]),
    }
    for here, there in _PER_ATOM.items():
        if there in held:
            found[here] = held[there].to(_KINDS.get(here, torch.float64))
    for here, there in _PER_MOLECULE.items():
        if there in held and here != "index":
            value = held[there].to(_KINDS.get(here, torch.float64))
            width = {
                "target": (1, -1), "vectors": (1, -1, 3), "energy": (1,), "stress": (1, 3, 3), "weight": (1, 3), "type": (1,),
                "replayed": (1,), "cell": (1, 3, 3), "pbc": (1, 3),
            }[here]  # fmt: skip
            found[here] = value.reshape(width)
    return found
