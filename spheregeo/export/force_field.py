"""Force fields as compiled files: energy, forces and virial of any number of atoms, run by torch without this library."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.export.save import CARD, CONFIG, check_place, write_beside
from spheregeo.files import atomic_path
from spheregeo.harmonics.irrep_harmonics import plain_operations
from spheregeo.models import MoleculeGraph
from spheregeo.nn import SteerableConv
from spheregeo.tasks import Forces, Task
from spheregeo.tasks.molecules.dynamics.program import FORCES, METADATA, Frame

MOST_ATOMS, MOST_EDGES = 20_000, 2_000_000  # of one system, in which the compiler may believe
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


class OfBound(nn.Module):
    """A system to the network's part of its energy, scaled, without that of its lone atoms; () float64."""

    free: Tensor
    scale: Tensor

    def __init__(self, task: Forces) -> None:
        super().__init__()
        self.network: Any = task.network
        self.register_buffer("free", _free(task))
        self.register_buffer("scale", task.scale.double())

    def forward(self, positions: Tensor, numbers: Tensor, edge_index: Tensor, offset: Tensor) -> Tensor:
        graph = MoleculeGraph(edge_index, offset)
        output = self.network(positions, numbers, torch.zeros_like(numbers), graph, 1)[0, 0]
        return self.free.index_select(0, numbers).sum() + self.scale * output.double()


def export_force_field(task: Task) -> torch.export.ExportedProgram:
    """Return the program of a force field: a system to its energy, forces and virial, by operators of torch alone.

    Inputs: positions (P, 3) in Å, atomic numbers (P,) int64, edge_index (2, E) int64 with targets in ascending order, and the
    offset (E, 3) in Å that each edge's source is moved by, zeros without a cell; P and E are free from 2 on. Outputs: energy ()
    float64 in eV, forces (P, 3) in eV/Å, virial dE/dε (3, 3) in eV.

    Args:
        task: trained force field, whose forces are its energy's gradient.

    Raises: ValueError for another task, direct forces, a network whose graph is of another kind or that torch cannot trace.
    """
    task = _checked(task)
    if task.direct or not getattr(task.network, "by_pairs", False):
        kind = "forces of its own" if task.direct else "a graph of another kind"
        raise ValueError(
            f"{type(task.network).__name__} has {kind}; expected energies of pairs of atoms, as of steerable-molecule, "
            "mace, nequip, painn or schnet"
        )
    module = OfBound(copy.deepcopy(task).eval()).requires_grad_(False)
    for layer in module.modules():
        if isinstance(layer, SteerableConv):
            layer.unroll()
    given = _example(task)
    atoms = torch.export.Dim("atoms", min=2, max=MOST_ATOMS)
    edges = torch.export.Dim("edges", min=2, max=MOST_EDGES)
    shapes = ({0: atoms}, {0: atoms}, {1: edges}, {0: edges})
    with _tracing(type(task.network).__name__):
        energy = torch.export.export(module, given, dynamic_shapes=shapes, strict=False).module()

        def derive(
            positions: Tensor, numbers: Tensor, edge_index: Tensor, offset: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            leaf = positions.detach().requires_grad_()
            strain = torch.zeros(3, 3, dtype=leaf.dtype, requires_grad=True)
            symmetric = (strain + strain.mT) / 2
            found = energy(leaf + leaf @ symmetric, numbers, edge_index, offset + offset @ symmetric)
            slope, virial = torch.autograd.grad(found, [leaf, strain])
            return found.detach(), -slope, virial

        from torch.fx.experimental.proxy_tensor import make_fx

        with torch.enable_grad():
            graph = make_fx(derive, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*given)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        program = torch.export.export(graph, given, dynamic_shapes=shapes, strict=False)
    own = {str(node.target) for node in program.graph.nodes if "spheregeo" in str(node.target)}
    if own:
        raise ValueError(
            f"{type(task.network).__name__} calls {', '.join(sorted(own))}, which no file without this library can; "
            "expected a network of torch's operators, as steerable-molecule, mace, nequip, painn or schnet become"
        )
    return program


def save_force_field(
    task: Task,
    folder: str | Path,
    description: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write a force field as ``forces.pt2``, compiled for this kind of machine, with ``config.json`` and a card.

    ``torch._inductor.aoti_load_package("forces.pt2")`` runs it in a process that imports torch alone, and
    :class:`~spheregeo.tasks.molecules.dynamics.program.ProgramCalculator` is an ASE calculator of it. The compiler takes a
    minute or a few.

    Args:
        task: trained force field; the computation is of the type of its weights, on the device of its weights.
        folder: new or empty, or one that an earlier export wrote and nobody changed since.
        description: as :func:`spheregeo.export.describe` returns it.
        options: of torch's compiler, such as ``{"aot_inductor.compile_wrapper_opt_level": "O0"}``.

    Returns the folder.

    Raises: ValueError for a network that cannot be traced, a program that differs from it, or other files in the folder.
    """
    folder = Path(folder)
    check_place(folder, (FORCES, CONFIG, CARD))
    task = _checked(task)
    program = export_force_field(task)
    dtype = _dtype(task)
    frame = Frame(
        cutoff=float(task.network.cutoff),
        dtype=str(dtype).removeprefix("torch."),
        elements=[int(z) for z in task.elements.nonzero()[:, 0]],
    )
    configs = {"aot_inductor.metadata": {METADATA: json.dumps(frame._asdict())}, **(options or {})}
    with atomic_path(folder / FORCES) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's compiler, about itself
        # the compiler asks for a name that ends as its files do
        made = torch._inductor.aoti_compile_and_package(
            program, package_path=f"{temporary}.pt2", inductor_configs=configs
        )
        Path(made).replace(temporary)
    error = _difference(task, folder / FORCES)
    if not error <= TOLERANCE.get(dtype, 1e-2):
        (folder / FORCES).unlink()
        raise ValueError(
            f"the compiled file differs from the network by {error:.1e}; expected at most {TOLERANCE.get(dtype, 1e-2):.0e}"
        )
    record = {
        "inputs": "positions (P, 3) Å, numbers (P,) int64, edge_index (2, E) int64 by target, offset (E, 3) Å of each source",
        "output": "energy () eV, forces (P, 3) eV/Å, virial dE/dε (3, 3) eV",
        "difference_from_network": error,
        **frame._asdict(),
    }
    return write_beside(folder, {**description, "program": record}, (FORCES,))


def _checked(task: Task) -> Forces:
    if not isinstance(task, Forces):
        raise ValueError(
            f"the model is a {type(task).__name__}; expected one of energies and forces: use --to torch-export or safetensors"
        )
    return task


def _dtype(task: Forces) -> torch.dtype:
    """Type of the network's weights, which is that of its positions."""
    return next(task.network.parameters()).dtype


def _free(task: Forces) -> Tensor:
    """What each element's free atom has in the task's reference, beyond what the network gives it alone; float64."""
    known = task.elements.nonzero()[:, 0]
    network: Any = task.network
    nothing = MoleculeGraph(torch.zeros(2, 0, dtype=torch.int64, device=known.device))
    with torch.no_grad():
        places = torch.zeros(len(known), 3, dtype=_dtype(task), device=known.device)
        alone = network(places, known, torch.arange(len(known), device=known.device), nothing, len(known))
    free = task.atom_energy.double().clone()
    free[known] -= task.scale.double() * alone[:, 0].double()
    return free


def _example(task: Forces) -> tuple[Tensor, ...]:
    """Nine atoms of the elements that the task knows, no two distances alike, and their edges."""
    known = task.elements.nonzero()[:, 0].cpu()
    numbers = (known if len(known) else torch.tensor([1])).repeat(9)[:9]
    places = torch.tensor(
        [[i, j, k] for i in range(3) for j in range(3) for k in range(1)], dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(0)
    places = 1.4 * places + 0.2 * torch.rand(9, 3, generator=generator, dtype=torch.float64)
    network: Any = task.network
    graph = network.neighbors(places, torch.zeros(9, dtype=torch.int64))
    offset = torch.zeros(graph.edge_index.shape[1], 3)
    device, dtype = task.scale.device, _dtype(task)
    return (
        (places - places.mean(0)).to(device, dtype),
        numbers.to(device),
        graph.edge_index.to(device),
        offset.to(device, dtype),
    )


def _difference(task: Forces, path: Path) -> float:
    """Largest difference of the forces of a file from the task's, in the largest one."""
    positions, numbers = (given := _example(task))[:2]
    batch = {"positions": positions, "numbers": numbers, "batch": torch.zeros_like(numbers)}
    expected = task.derive(batch)["forces"]
    found = torch._inductor.aoti_load_package(str(path))(*given)[1]
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-3))


@contextmanager
def _tracing(name: str) -> Iterator[None]:
    """Inside, harmonics are torch's operators, and what cannot be traced is told in one line."""
    with plain_operations(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{name} cannot be traced for any number of atoms: {reason}") from error
