"""From a batch of molecules to what a network takes: checks, centred positions, neighbours found once for each molecule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spheregeo.data.molecules.molecules import MAX_NUMBER, TOO_CLOSE, symbol
from spheregeo.models.space.molecule_graph import MoleculeGraph, join_graphs, split_graph
from spheregeo.tasks.checks import Batch, take


def without_inference_mode(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd accepts: a clone of one that was created in inference mode, others as they are."""
    return tensor.clone() if tensor.is_inference() else tensor


@dataclass(frozen=True)
class Atoms:
    """Checked molecules, as networks take them.

    Args:
        positions: offsets from the molecule's centre in Å, in the network's type, (P, 3).
        numbers: atomic numbers, (P,).
        index: number of the molecule of each atom, (P,).
        graph: neighbours, as the network's ``neighbors`` gives them.
        count: number of molecules.
    """

    positions: Tensor
    numbers: Tensor
    index: Tensor
    graph: Any
    count: int


class GraphCache:
    """Graphs of molecules that come again, by the exact places of their atoms and the cell."""

    def __init__(self) -> None:
        self._graphs: dict[bytes, MoleculeGraph] = {}

    def _keys(self, batch: Batch, counts: Tensor) -> list[bytes]:
        parts = [p.contiguous().numpy().tobytes() for p in batch["positions"].cpu().split(counts.tolist())]
        if "cell" in batch:
            cells = [c.numpy().tobytes() for c in batch["cell"].cpu()]
            flags = [f.numpy().tobytes() for f in batch["pbc"].cpu()]
            parts = [b"".join(three) for three in zip(parts, cells, flags)]
        return parts

    def graph(self, network: Any, batch: Batch, positions: Tensor, counts: Tensor) -> Any:
        """Return the batch's graph: joined from known ones, or searched, split and kept.

        Args:
            network: network whose ``neighbors`` are asked for.
            batch: the molecules.
            positions: their centred positions, (P, 3).
            counts: atoms of each molecule, (B,).
        """
        keys = self._keys(batch, counts)
        known = [self._graphs.get(k) for k in keys]
        if all(g is not None for g in known):
            return join_graphs(known, counts)  # type: ignore[arg-type]
        graph = network.neighbors(positions, batch["batch"], batch.get("cell"), batch.get("pbc"))
        if isinstance(graph, MoleculeGraph):
            self._graphs.update(zip(keys, split_graph(graph, counts)))
        return graph


def check_atoms(task: Any, batch: Batch, elements: Tensor) -> int:
    """Check the atoms of a batch and return the number of its molecules.

    Args:
        task: the task that needs them, for messages.
        batch: the molecules.
        elements: whether the training had each element, (119,); all False where that is unknown.

    Raises: ValueError for shapes that do not fit, molecules without atoms, NaN positions, unknown elements.
    """
    numbers, positions, index = (take(task, batch, k) for k in ("numbers", "positions", "batch"))
    if numbers.ndim != 1 or tuple(positions.shape) != (len(numbers), 3) or index.shape != numbers.shape:
        raise ValueError(
            f"numbers, positions and batch have shapes {tuple(numbers.shape)}, {tuple(positions.shape)} and "
            f"{tuple(index.shape)}; expected (P,), (P, 3) and (P,)"
        )
    count = len(batch["index"]) if "index" in batch else (int(index[-1]) + 1 if len(index) else 0)
    present = torch.bincount(index, minlength=count)
    if not count or not bool((present > 0).all()):
        raise ValueError("the batch holds a molecule without atoms; expected at least one atom in each")
    if not bool(torch.isfinite(positions).all()):
        raise ValueError("positions hold NaN or infinite values; check the files")
    if int(numbers.min()) < 1 or int(numbers.max()) > MAX_NUMBER:
        raise ValueError(
            f"atomic numbers run from {int(numbers.min())} to {int(numbers.max())}; expected 1 to {MAX_NUMBER}"
        )
    if bool(elements.any()):
        unknown = numbers[~elements[numbers]].unique()
        if len(unknown):
            seen = ", ".join(symbol(int(z)) for z in elements.nonzero()[:, 0])
            raise ValueError(
                f"the molecules contain {', '.join(symbol(int(z)) for z in unknown)}, but the training had only {seen}; "
                "what the network says of other elements would be chance"
            )
    return count


def check_apart(graph: Any, positions: Tensor) -> None:
    """Raises: ValueError where two atoms of a graph are at the same place."""
    if isinstance(graph, MoleculeGraph) and graph.edge_index.shape[1]:
        nearest = float(graph.vectors(positions).square().sum(1).min())
        if nearest < TOO_CLOSE**2:
            raise ValueError(
                f"two atoms are {nearest**0.5:.1e} Å apart; expected atoms at different places: is one listed twice?"
            )


def prepare_atoms(task: Any, batch: Batch, network: Any, elements: Tensor, kept: GraphCache | None) -> Atoms:
    """Check the molecules of a batch and find their neighbours; no tensor of the result is in inference mode.

    Args:
        task: the task that needs them, for messages.
        batch: the molecules, as :mod:`spheregeo.data.molecules.molecules` has them.
        network: the network that takes them.
        elements: whether the training had each element, (119,).
        kept: graphs of molecules that come again; None to search anew.

    Raises: ValueError as :func:`check_atoms` and :func:`check_apart`.
    """
    count = check_atoms(task, batch, elements)
    with torch.inference_mode(False), torch.no_grad():
        batch = {k: without_inference_mode(v) if isinstance(v, Tensor) else v for k, v in batch.items()}
        numbers, positions, index = batch["numbers"], batch["positions"], batch["batch"]
        counts = torch.bincount(index, minlength=count)
        # Centred in float64: far from the origin float32 would round the distances.
        centre = positions.new_zeros(count, 3).index_add(0, index, positions) / counts[:, None]
        positions = positions - centre[index]
        if kept is not None:
            graph = kept.graph(network, batch, positions, counts)
        else:
            graph = network.neighbors(positions, index, batch.get("cell"), batch.get("pbc"))
        check_apart(graph, positions)
        dtype = next(network.parameters()).dtype
        return Atoms(positions.to(dtype), numbers, index, graph, count)
