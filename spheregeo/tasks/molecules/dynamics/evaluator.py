"""Energy, forces and virial of one system that moves: what stays the same from step to step is made once."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from spheregeo.autograd import versions
from spheregeo.data.molecules.files import from_frames
from spheregeo.models import MoleculeGraph, molecule_graph
from spheregeo.nn import SteerableConv
from spheregeo.tasks.molecules.atoms import check_apart, check_atoms

SLACK = 1.15  # edges for which a compiled network has room, in those at hand
SMALL = 4096  # edges up to which a compiler does better with products written out than with our loops
AGREEMENT = {torch.float64: 1e-8, torch.float32: 1e-3}  # of compiled and eager forces, in the largest one


def single(atoms: Atoms) -> dict[str, Tensor]:
    """One system as a batch of :mod:`spheregeo.data.molecules.molecules`, without its number: it will not come again.

    Raises: ValueError as :class:`~spheregeo.data.molecules.molecules.Molecules`.
    """
    return from_frames([atoms]).batch([0])


class _Start(NamedTuple):
    """A system as it was when its neighbours were found."""

    key: tuple[bytes, bytes, bytes]
    weights: Any  # which they were
    places: np.ndarray  # (P, 3) float64
    centre: np.ndarray  # (3,)
    numbers: Tensor
    owner: Tensor  # zeros: one molecule
    graph: MoleculeGraph  # of the cutoff and the skin
    free: Tensor  # energy of the free atoms, float64 (), and what the network gives for them, ()
    alone: Tensor


def system_key(atoms: Atoms) -> tuple[bytes, bytes, bytes]:
    """What neighbours depend on beside the places of the atoms: elements, cell, periods."""
    return atoms.numbers.tobytes(), atoms.cell.array.tobytes(), atoms.pbc.tobytes()


def within_skin(atoms: Atoms, places: np.ndarray, skin: float) -> bool:
    """Whether no atom is further than half the skin from where it was; False for a skin of zero, and for NaN."""
    return bool(skin) and float(np.square(atoms.positions - places).sum(1).max()) <= (skin / 2) ** 2


@contextmanager
def frozen(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Inside, parameters need no gradient: no graph is kept for them."""
    learned = [p for p in parameters if p.requires_grad]
    for p in learned:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learned:
            p.requires_grad_(True)


class Evaluator:
    """Energy, forces and virial of a system, again and again as its atoms move.

    Neighbours are found within the cutoff and a skin, and found anew once an atom has moved by half the skin, or elements, cell
    or periods are others; of those at hand a step takes the pairs within the cutoff, so that the skin changes no result but by
    rounding. Energies of free atoms are computed once for each set of elements, and no graph is kept for the weights.

    What is compiled is a copy of the network, made anew when a weight changes. It takes pairs beyond the cutoff too, on which its
    envelopes vanish, and as many pairs of an atom with itself far away as fill its fixed number of edges. Its first forces are
    compared with those of the network itself.

    Args:
        task: the trained task, :class:`~spheregeo.tasks.Forces`, in evaluation; its device and type are those of the computation.
        skin: width of the skin in Å; 0 finds neighbours at each step.
        compile: whether the network is compiled, once for each number of atoms and room for edges: many seconds at the first
            step; for small systems and networks of many small operators, see the page of molecules.

    Units: Å, eV.
    Raises: ValueError for a skin that is not zero or positive; a compiled network of forces of its own, or without a
        :class:`~spheregeo.models.MoleculeGraph`.

    Example:
        >>> from ase import Atoms
        >>> from spheregeo.tasks import Forces
        >>> evaluator = Evaluator(Forces(network="schnet", width=8, depth=1).eval())
        >>> evaluator(Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]))["forces"].shape
        torch.Size([2, 3])
    """

    def __init__(self, task: Any, skin: float = 0.5, compile: bool = False) -> None:
        if not (skin >= 0 and math.isfinite(skin)):
            raise ValueError(f"skin is {skin}; expected zero or a positive length in Å")
        self.task, self.skin = task, float(skin)
        network: Any = task.network
        # Other networks find their own neighbours, which may count atoms or stand for more than pairs.
        self.by_pairs = bool(getattr(network, "by_pairs", False)) and not task.direct
        if compile and not self.by_pairs:
            raise ValueError(
                f"compile is True, but {type(network).__name__} has "
                f"{'forces of its own' if task.direct else 'a graph of another kind'}; expected energies of pairs of atoms"
            )
        self.compile = compile
        self.compiled: Callable[..., Tensor] | None = None
        self._parameters = [*task.parameters(), *task.buffers()]  # whatever an energy comes from
        self.searches = 0  # how often neighbours were found
        self._start: _Start | None = None
        self._room, self._compared = 0, False
        self._state: Any = None  # of the weights that were compiled

    def __call__(self, atoms: Atoms, stress: bool = False) -> dict[str, Tensor]:
        """Return what a system has at present.

        Args:
            atoms: the system.
            stress: whether the virial is wanted.

        Returns ``energy`` () float64, ``forces`` (P, 3), and with ``stress`` also ``virial`` (3, 3), dE/dε.

        Raises: ValueError as :func:`~spheregeo.tasks.molecules.atoms.prepare_atoms`.
        """
        if not self.by_pairs:
            with frozen(self._parameters):
                found = self.task.derive(self._batch(atoms), stress=stress)
            found["energy"] = found["energy"][0]
            return found
        with torch.inference_mode(False), frozen(self._parameters):
            start = self._at(atoms)
            network: Any = self.task.network
            dtype = next(network.parameters()).dtype
            positions = torch.from_numpy(atoms.positions - start.centre).to(self.task.scale.device, dtype)
            with torch.no_grad():
                graph, far = start.graph, start.graph
                vectors = graph.vectors(positions)
                squares = vectors.square().sum(1)
                near = (squares <= network.cutoff**2).nonzero()[:, 0]
                if self.skin and len(near) < len(squares):
                    graph = MoleculeGraph(
                        graph.edge_index.index_select(1, near),
                        None if graph.offset is None else graph.offset.index_select(0, near),
                    )
                if len(squares):
                    check_apart(graph, positions)
            if not self.compile:
                return self._derive(network, positions, start, graph, stress)
            found = self._derive(self._padded(far, len(positions)), positions, start, far, stress)
            if not self._compared:
                self._compare(found, self._derive(network, positions, start, graph, stress))
            return found

    def forget(self) -> None:
        """Forget the neighbours of earlier steps; what is compiled stays."""
        self._start = None

    def _derive(
        self,
        network: Callable[..., Tensor],
        positions: Tensor,
        start: _Start,
        graph: MoleculeGraph,
        stress: bool,
    ) -> dict[str, Tensor]:
        with torch.enable_grad():
            positions.requires_grad_()
            inputs, moved = [positions], positions
            if stress:
                strain = positions.new_zeros(3, 3, requires_grad=True)
                symmetric = (strain + strain.mT) / 2
                moved = positions + positions @ symmetric
                graph = graph.deformed(symmetric)
                inputs.append(strain)
            output = network(moved, start.numbers, start.owner, graph, 1)
            bound = (output[0, 0] - start.alone) * self.task.scale.to(output)
            gradients: Sequence[Tensor | None] = [None] * len(inputs)  # of lone atoms
            if bound.requires_grad:
                gradients = torch.autograd.grad(bound, inputs, allow_unused=True)
        first, *more = [
            torch.zeros_like(x) if g is None else g for x, g in zip(inputs, gradients, strict=True)
        ]
        found = {"energy": start.free + bound.detach().double(), "forces": -first}
        return found | ({"virial": more[0]} if stress else {})

    # ---- what stays

    def _batch(self, atoms: Atoms) -> dict[str, Tensor]:
        return {k: v.to(self.task.scale.device) for k, v in single(atoms).items()}

    def _at(self, atoms: Atoms) -> _Start:
        """The system as it was when its neighbours were found, which is now where it has moved too far since."""
        key = system_key(atoms)
        start = self._start
        weights = versions(self._parameters)
        if start is not None and start.key == key and start.weights == weights:
            if within_skin(atoms, start.places, self.skin):
                return start
        self._start = self._search(atoms, key, weights)
        return self._start

    @torch.no_grad()
    def _search(self, atoms: Atoms, key: tuple[bytes, bytes, bytes], weights: Any) -> _Start:
        task, network = self.task, self.task.network
        batch = self._batch(atoms)
        check_atoms(task, batch, task.elements)
        places = atoms.positions.copy()
        centre = places.mean(0)
        positions = batch["positions"] - torch.from_numpy(centre).to(batch["positions"])
        graph = molecule_graph(
            positions, network.cutoff + self.skin, batch["batch"], batch.get("cell"), batch.get("pbc")
        )
        dtype = next(network.parameters()).dtype
        if graph.offset is not None:
            graph = MoleculeGraph(graph.edge_index, graph.offset.to(dtype))
        numbers, owner = batch["numbers"], torch.zeros_like(batch["numbers"])
        kinds, which = numbers.unique(return_inverse=True)
        nothing = MoleculeGraph(graph.edge_index[:, :0])
        alone = network(
            positions.new_zeros(len(kinds), 3).to(dtype),
            kinds,
            torch.arange(len(kinds)).to(kinds),
            nothing,
            len(kinds),
        )[:, 0]
        self.searches += 1
        free = task.atom_energy.double()[numbers].sum()
        return _Start(key, weights, places, centre, numbers, owner, graph, free, alone[which].sum())

    # ---- a compiled network

    def _padded(self, graph: MoleculeGraph, atoms: int) -> Callable[..., Tensor]:
        """The compiled network, with edges that do nothing up to its room."""
        count = graph.edge_index.shape[1]
        assert self._start is not None
        if self._state != self._start.weights:
            self.compiled, self._state, self._room = None, self._start.weights, 0
        if not self._room or count > self._room:
            self._room = math.ceil(SLACK * count / 16) * 16 + 16
            self.compiled = None
        if self.compiled is None:
            self.compiled, self._compared = self._compile(), False
        more, last = self._room - count, atoms - 1
        padding = graph.edge_index.new_full((2, more), last)  # the last target: edges are sorted by it
        edges = torch.cat([graph.edge_index, padding], 1)
        far = torch.zeros(more, 3, dtype=self.task.scale.dtype, device=edges.device)
        far[:, 0] = 2 * self.task.network.cutoff
        compiled = self.compiled
        assert compiled is not None

        def run(positions: Tensor, numbers: Tensor, index: Tensor, graph: MoleculeGraph, one: int) -> Tensor:
            offset = positions.new_zeros(count, 3) if graph.offset is None else graph.offset
            offset = torch.cat([offset, far.to(positions)])
            return compiled(positions, numbers, index, edges, offset)

        return run

    def _compile(self) -> Callable[..., Tensor]:
        """A copy of the network with its weights as they are, written for a compiler where systems are small."""
        network = copy.deepcopy(self.task.network).requires_grad_(False)
        if self._room <= SMALL:
            for module in network.modules():
                if isinstance(module, SteerableConv):
                    module.unroll()
        options: Any = {"cpp_wrapper": True} if self.task.scale.device.type == "cpu" else None
        compiled: Callable[..., Tensor] = torch.compile(
            _Padded(network), fullgraph=True, dynamic=False, options=options
        )
        return compiled

    def _compare(self, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
        """Raises: RuntimeError where the compiled network gives other forces."""
        largest = max(float(expected["forces"].abs().max()), 1e-3)
        error = float((found["forces"] - expected["forces"]).abs().max()) / largest
        bound = AGREEMENT.get(found["forces"].dtype, 1e-2)
        if not error <= bound:
            raise RuntimeError(
                f"forces of the compiled {type(self.task.network).__name__} differ by {error:.1e} of the largest from those of "
                f"the network itself; expected {bound:.0e}: compute with compile=False"
            )
        self._compared = True


class _Padded(nn.Module):
    """A network as a function of tensors alone. Its parameters are the network's."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, positions: Tensor, numbers: Tensor, index: Tensor, edge_index: Tensor, offset: Tensor
    ) -> Tensor:
        found: Tensor = self.network(positions, numbers, index, MoleculeGraph(edge_index, offset), 1)
        return found
