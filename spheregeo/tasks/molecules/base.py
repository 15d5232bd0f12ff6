"""What the tasks on molecules share: checks of a batch, graphs found once for each molecule, references of the elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from spheregeo import models
from spheregeo.data.molecules.molecules import MAX_NUMBER, TOO_CLOSE, Molecules, symbol
from spheregeo.models.space.molecule_graph import MoleculeGraph, join_graphs, split_graph
from spheregeo.tasks.base import Batch, Task

LOSSES = ("l1", "l2", "huber")


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that autograd takes: Lightning evaluates in inference mode, whose tensors it refuses."""
    return tensor.clone() if tensor.is_inference() else tensor


def penalty(error: Tensor, kind: str, delta: float) -> Tensor:
    """|e|, e², or Huber's function of the errors, element by element."""
    if kind == "l1":
        return error.abs()
    if kind == "l2":
        return error.square()
    return huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def check_loss_options(loss: str, huber_delta: float) -> None:
    """Raises: ValueError for an unknown loss, or a turning point that is not positive."""
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; expected one of {', '.join(LOSSES)}")
    if not huber_delta > 0:
        raise ValueError(f"huber_delta is {huber_delta}; expected a positive number")


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

    def of(self, network: Any, batch: Batch, positions: Tensor, counts: Tensor) -> Any:
        """The batch's graph: joined from known ones, or searched, split and kept."""
        keys = self._keys(batch, counts)
        known = [self._graphs.get(k) for k in keys]
        if all(g is not None for g in known):
            return join_graphs(known, counts)  # type: ignore[arg-type]
        graph = network.neighbors(positions, batch["batch"], batch.get("cell"), batch.get("pbc"))
        if isinstance(graph, MoleculeGraph):
            self._graphs.update(zip(keys, split_graph(graph, counts)))
        return graph


class MoleculeTask(Task):
    """Base of the tasks on molecules: network, checks, neighbour lists.

    Shape: batches as :mod:`spheregeo.data.molecules.molecules` has them.
    Equivariance: that of the network; those of the package are invariant to motions and reflections.
    Raises: ValueError for atoms that the training has not seen, NaN positions, molecules without atoms.
    """

    output: ClassVar[str] = "label"
    elements: Tensor

    def __init__(
        self, out_channels: int, *, network: str, width: int | None, depth: int | None,
        options: dict[str, Any] | None, keep_graphs: bool, lr: float, weight_decay: float, warmup: float,
        settings: dict[str, Any],
    ) -> None:  # fmt: skip
        name = models.resolve(network, self.output, "molecule")
        own = models.options_of(name, options)
        super().__init__(
            lr=lr, weight_decay=weight_decay, warmup=warmup,
            settings={
                "network": name, "width": width, "depth": depth, "options": own or None,
                "keep_graphs": keep_graphs, **settings,
            },
        )  # fmt: skip
        chosen = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        self.network: Any = models.create(name, MAX_NUMBER + 1, out_channels, None, **chosen)
        self.register_buffer("elements", torch.zeros(MAX_NUMBER + 1, dtype=torch.bool))
        self._graphs = GraphCache() if keep_graphs else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Tables of energies stay in float64 whatever the weights are: they are 10⁴ times what is learnt."""
        exact = {name: t for name, t in self._buffers.items() if t is not None and t.dtype == torch.float64}
        super()._apply(fn, recurse)
        for name, before in exact.items():
            now = self._buffers[name]
            if now is not None and now.dtype != torch.float64:
                self._buffers[name] = before.to(now.device)
        return self

    # ---- batches in

    @property
    def dtype_of_weights(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def check_atoms(self, batch: Batch) -> int:
        """How many molecules the batch holds. Raises: ValueError as the class says."""
        numbers, positions, index = (self.take(batch, k) for k in ("numbers", "positions", "batch"))
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
        if bool(self.elements.any()):
            unknown = numbers[~self.elements[numbers]].unique()
            if len(unknown):
                seen = ", ".join(symbol(int(z)) for z in self.elements.nonzero()[:, 0])
                raise ValueError(
                    f"the molecules contain {', '.join(symbol(int(z)) for z in unknown)}, but the training had only {seen}; "
                    "what the network says of other elements would be chance"
                )
        return count

    def prepare(self, batch: Batch, keep: bool = False) -> tuple[Tensor, Tensor, Tensor, Any, int]:
        """Positions in the weights' type, numbers, batch, graph and number of molecules; none of them in inference mode.

        ``keep`` the graphs of these molecules, because they come again.
        """
        count = self.check_atoms(batch)
        with torch.inference_mode(False), torch.no_grad():
            batch = {k: ordinary(v) if isinstance(v, Tensor) else v for k, v in batch.items()}
            numbers, positions, index = batch["numbers"], batch["positions"], batch["batch"]
            counts = torch.bincount(index, minlength=count)
            # Centred in float64: far from the origin float32 would round the distances.
            centre = positions.new_zeros(count, 3).index_add(0, index, positions) / counts[:, None]
            positions = positions - centre[index]
            if self._graphs is not None and keep:
                graph = self._graphs.of(self.network, batch, positions, counts)
            else:
                graph = self.network.neighbors(positions, index, batch.get("cell"), batch.get("pbc"))
            self._check_apart(graph, positions)
            return positions.to(self.dtype_of_weights), numbers, index, graph, count

    @staticmethod
    def _check_apart(graph: Any, positions: Tensor) -> None:
        if isinstance(graph, MoleculeGraph) and graph.edge_index.shape[1]:
            nearest = float(graph.vectors(positions).square().sum(1).min())
            if nearest < TOO_CLOSE**2:
                raise ValueError(
                    f"two atoms are {nearest**0.5:.1e} Å apart; expected atoms at different places: is one listed twice?"
                )

    # ---- what the training data say

    @property
    def training_molecules(self) -> Molecules:
        """The molecules that train."""
        found = getattr(self.trainer.datamodule, "molecules", None)  # type: ignore[attr-defined]
        if found is None:
            raise ValueError(
                f"{type(self).__name__} needs data of molecules, such as G2Data or ExtXYZData, not "
                f"{type(self.trainer.datamodule).__name__}"  # type: ignore[attr-defined]
            )
        molecules: Molecules = found("train")
        return molecules

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """References and scales from the training molecules, the same in every process and after every resume."""
        molecules = self.training_molecules
        self.elements.zero_()
        self.elements[molecules.elements] = True
        self.fit_scales(molecules)

    def fit_scales(self, molecules: Molecules) -> None:
        """Set references and scales by the training molecules."""
        raise NotImplementedError


def per_element(given: dict[Any, float], needed: Sequence[int], what: str) -> Tensor:
    """A table (119,) of values by atomic number or symbol. Raises: ValueError for an element that is needed and not given."""
    from spheregeo.data.molecules.files import atomic_number

    table = torch.zeros(MAX_NUMBER + 1, dtype=torch.float64)
    found = set()
    for key, value in given.items():
        number = int(key) if isinstance(key, int) or str(key).isdigit() else atomic_number(str(key), what)
        table[number] = value
        found.add(number)
    missing = [symbol(z) for z in needed if z not in found]
    if missing:
        raise ValueError(
            f"{what} are given for {', '.join(symbol(z) for z in sorted(found)) or 'no element'} but the molecules also contain "
            f"{', '.join(missing)}; add them, or choose references: fit"
        )
    return table
