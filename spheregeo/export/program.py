"""Programs of ``torch.export`` and ONNX files: tensors in, tensors out, with what a task does around its network inside."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from spheregeo.export.save import CARD, CONFIG, check_place, write_beside
from spheregeo.export.twins import plain
from spheregeo.files import atomic_path
from spheregeo.tasks import (
    Depth,
    FieldRegression,
    MoleculeRegression,
    PointClassification,
    SkyRestoration,
    SphereTask,
    Task,
)

PROGRAM, ONNX = "model.pt2", "model.onnx"
FROM_NETWORK = "graph tensors are the leaves of network.neighbors(positions, batch)"
TOLERANCE = {PROGRAM: 1e-6, ONNX: 1e-5}


@dataclass(frozen=True)
class Plan:
    """A module of plain tensors with inputs to trace it, their names, and which of their axes may have any length."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    names: tuple[str, ...]
    dynamic: tuple[dict[int, Any] | None, ...]
    output: str
    units: str


class OfField(nn.Module):
    """Fields in their own units to a task's output: standardised as in training, then the network, then depths where asked.

    Shape: (B, in_channels, *grid.shape) -> the network's output; of a :class:`~spheregeo.tasks.Depth` and a
        :class:`~spheregeo.tasks.SkyRestoration` (B, *grid.shape), of a :class:`~spheregeo.tasks.FieldRegression` fields in
        their own units.
    """

    # Names of ONNX files: no op is called like these.
    subtracted: Tensor
    divided_by: Tensor
    added: Tensor
    multiplied_by: Tensor

    def __init__(self, task: SphereTask) -> None:
        super().__init__()
        shape = (-1, *(1 for _ in task.grid.shape))
        self.network = task.network
        self.register_buffer("subtracted", task.image_mean.reshape(shape).clone())
        self.register_buffer("divided_by", task.image_std.reshape(shape).clone())
        self.depth = isinstance(task, Depth)
        self.scale = task.scale if isinstance(task, SkyRestoration) else None
        self.fields = isinstance(task, FieldRegression)
        if isinstance(task, FieldRegression):
            mean, scale = task.layout.statistics("outputs")
            self.register_buffer("added", mean.float().reshape(shape))
            self.register_buffer("multiplied_by", scale.float().reshape(shape))

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.network((image - self.subtracted) / self.divided_by)
        if self.scale is not None:
            return self.scale * output.squeeze(1)
        if self.fields:
            return output * self.multiplied_by + self.added
        return nn.functional.softplus(output).squeeze(1) if self.depth else output


class _Graph:
    """A graph as its tensors, and the way back: leaves that are no tensors stay here."""

    def __init__(self, graph: Any) -> None:
        self.leaves, self.tree = pytree.tree_flatten(graph)
        self.tensors = [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]

    def of(self, tensors: Sequence[Tensor]) -> Any:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        return pytree.tree_unflatten(leaves, self.tree)


class OfCloud(nn.Module):
    """Points of one cloud and the tensors of its graph to logits (1, num_classes)."""

    def __init__(self, task: PointClassification, graph: _Graph, features: bool) -> None:
        super().__init__()
        self.network, self.graph, self.features = task.network, graph, features

    def forward(self, positions: Tensor, *rest: Tensor) -> Tensor:
        features, tensors = (rest[0], rest[1:]) if self.features else (None, rest)
        batch = torch.zeros_like(positions[:, 0], dtype=torch.int64)
        result: Tensor = self.network(positions, features, batch, self.graph.of(tensors), 1)
        return result


class OfMolecule(nn.Module):
    """Atoms of one molecule, centred, and the tensors of its graph to the targets (1, T) in their units, float64."""

    values: Tensor
    constant: Tensor
    scale: Tensor

    def __init__(self, task: MoleculeRegression, graph: _Graph) -> None:
        super().__init__()
        self.network, self.graph = task.network, graph
        for name, value in (("values", task.atom_values), ("constant", task.constant), ("scale", task.scale)):
            self.register_buffer(name, value.clone())

    def forward(self, positions: Tensor, numbers: Tensor, *tensors: Tensor) -> Tensor:
        batch = torch.zeros_like(numbers)
        output = self.network(positions, numbers, batch, self.graph.of(tensors), 1)
        return self.values[numbers].sum(0) + self.constant + self.scale * output.double()


def plan_of(task: Task) -> Plan:
    """Return what a task exports: for the sphere any batch, for points and molecules one sample with its graph.

    Args:
        task: trained task.

    Raises: ValueError for a task that has no program of plain tensors.
    """
    task = task.eval()
    generator = torch.Generator().manual_seed(0)
    if isinstance(task, SphereTask):
        image = torch.rand(2, task.in_channels, *task.grid.shape, generator=generator)
        kinds = ((Depth, "depth"), (SkyRestoration, "map"), (FieldRegression, "fields"))
        output = next((name for kind, name in kinds if isinstance(task, kind)), "logits")
        many = torch.export.Dim("batch", min=1, max=4096)
        units = (
            "bands in µK without monopole, the Wiener filter's answer, the mask"
            if isinstance(task, SkyRestoration)
            else "values as in the files, 0 to 1 for photos; mean and deviation of the training are taken inside"
        )
        return Plan(OfField(task), (image,), ("image",), ({0: many},), output, units)
    if isinstance(task, PointClassification):
        x = torch.randn(task.num_points, 3, generator=generator)
        x = x / x.norm(dim=1).amax()
        features = (torch.randn(len(x), task.in_channels, generator=generator),) if task.in_channels else ()
        graph = _Graph(task.network.neighbors(x, torch.zeros(len(x), dtype=torch.int64)))
        names = ("positions", *(("features",) if features else ()), *_numbered(graph))
        units = f"a cloud of radius 1 about its mean; {FROM_NETWORK}"
        inputs = (x, *features, *graph.tensors)
        module = OfCloud(task, graph, bool(features))
        return Plan(module, inputs, names, tuple(None for _ in inputs), "logits", units)
    if isinstance(task, MoleculeRegression):
        others = [kind for kind in task.kinds if kind != "molecule"]
        if others:
            raise ValueError(
                f"a program gives numbers of molecules alone, but a target is of kind {others[0]!r}"
            )
        known = task.elements.nonzero()[:, 0]
        numbers = (known if len(known) else torch.tensor([1, 6, 8])).repeat(6)[:6]
        x = 1.2 * torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1.1]])
        x = x - x.mean(0)
        graph = _Graph(task.network.neighbors(x, torch.zeros(6, dtype=torch.int64)))
        names = ("positions", "numbers", *_numbered(graph))
        atoms, edges = torch.export.Dim("atoms", min=2), torch.export.Dim("edges", min=2)
        axes = ({0: atoms}, {0: atoms}, *({1 if t.shape[0] == 2 else 0: edges} for t in graph.tensors))
        inputs = (x, numbers, *graph.tensors)
        return Plan(
            OfMolecule(task, graph), inputs, names, axes, "targets", f"Å, centred on the mean; {FROM_NETWORK}"
        )
    raise ValueError(f"{type(task).__name__} has no program of plain tensors; export it as safetensors")


def _numbered(graph: _Graph) -> list[str]:
    return [f"graph{k}" for k in range(len(graph.tensors))]


def export_program(plan: Plan) -> torch.export.ExportedProgram:
    """Return the program of a plan, traced with its axes of any length.

    Args:
        plan: as :func:`plan_of` returns it.

    Raises: ValueError where torch cannot trace the module.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
        try:
            shapes = _shapes(plan)
            return torch.export.export(plan.module, plan.inputs, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{type(plan.module).__name__} cannot be traced by torch.export: {reason}"
            ) from error


def _shapes(plan: Plan) -> Any:
    """The axes as torch.export takes them: extra positional arguments are one entry."""
    if isinstance(plan.module, OfField):
        return plan.dynamic
    fixed = 1 if isinstance(plan.module, OfCloud) else 2
    return (*plan.dynamic[:fixed], tuple(plan.dynamic[fixed:]))


def save_program(task: Task, folder: str | Path, description: Mapping[str, Any]) -> Path:
    """Write a task as ``model.pt2``, with ``config.json`` and a card; returns the folder.

    ``torch.export.load(folder / "model.pt2").module()`` runs it after ``import spheregeo``.

    Args:
        task: trained task.
        folder: new or empty, or one that an earlier export wrote and nobody changed since.
        description: as :func:`spheregeo.export.describe` returns it.

    Raises: ValueError for a task or a network that cannot be traced, or other files in the folder.
    """
    folder = Path(folder)
    check_place(folder, (PROGRAM, CONFIG, CARD))
    plan = plan_of(task)
    program = export_program(plan)
    error = difference(program.module(), plan)
    if not error <= TOLERANCE[PROGRAM]:
        raise ValueError(
            f"the program differs from the network by {error:.1e}; expected at most {TOLERANCE[PROGRAM]:.0e}"
        )
    with atomic_path(folder / PROGRAM) as temporary:
        torch.export.save(program, temporary)
    return write_beside(folder, {**description, "program": _record(plan, error)}, (PROGRAM,))


def save_onnx(task: Task, folder: str | Path, description: Mapping[str, Any]) -> Path:
    """Write a task of the sphere as ``model.onnx``, with ``config.json`` and a card; returns the folder.

    The network is made plain (:func:`spheregeo.export.plain`) and the file is run by onnxruntime before it counts as written.

    Args:
        task: trained task.
        folder: new or empty, or one that an earlier export wrote and nobody changed since.
        description: as :func:`spheregeo.export.describe` returns it.

    Raises: ImportError without the extra ``onnx``; ValueError for a task or a layer that has no plain twin.
    """
    folder = Path(folder)
    if not isinstance(task, SphereTask):
        raise ValueError(
            f"{type(task).__name__} goes to no ONNX file: its edges come with each call; use --to torch-export or safetensors"
        )
    check_place(folder, (ONNX, CONFIG, CARD))
    plan = plan_of(task)
    with atomic_path(folder / ONNX) as temporary:
        temporary.write_bytes(onnx_bytes(plan))
        error = difference(_Session(temporary), plan)
        if not error <= TOLERANCE[ONNX]:
            raise ValueError(
                f"onnxruntime differs from the network by {error:.1e}; expected at most {TOLERANCE[ONNX]:.0e}"
            )
    return write_beside(folder, {**description, "program": _record(plan, error)}, (ONNX,))


def onnx_bytes(plan: Plan) -> bytes:
    """Return the ONNX file of a plan whose module has a plain twin.

    Args:
        plan: as :func:`plan_of` returns it.

    Raises: ImportError without the extra ``onnx``; ValueError, with the layer's name, where an operator has no twin.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("ONNX files need the extra: pip install 'spheregeo[onnx]'") from error
    twin = Plan(plain(plan.module), plan.inputs, plan.names, plan.dynamic, plan.output, plan.units)
    with torch.no_grad():
        program = torch.export.export(twin.module, twin.inputs, dynamic_shapes=twin.dynamic, strict=False)
    for node in program.graph.nodes:
        if "spheregeo" in str(node.target):
            layers = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
            raise ValueError(
                f"layer {layers[-1] if layers else node.name!r} has no plain twin: it calls {node.target}"
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about torchvision and its own future
        made = torch.onnx.export(
            program,
            input_names=list(plan.names),
            output_names=[plan.output],
            dynamo=True,
            verbose=False,
            optimize=False,
        )
    assert made is not None
    content: bytes = made.model_proto.SerializeToString()
    return content


class _Session:
    """An ONNX file as a function of tensors."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("checking ONNX files needs the extra: pip install 'spheregeo[onnx]'") from error
        self.session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def __call__(self, *inputs: Tensor) -> Tensor:
        named = {spec.name: t.numpy() for spec, t in zip(self.session.get_inputs(), inputs, strict=True)}
        return torch.from_numpy(self.session.run(None, named)[0])


@torch.no_grad()
def difference(program: Any, plan: Plan) -> float:
    """Return the largest difference between a program and its module, beside the largest value of the module's output."""
    wanted = plan.module(*plan.inputs)
    found = program(*plan.inputs)
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))


def _record(plan: Plan, error: float) -> dict[str, Any]:
    """Inputs and output of a program, for config.json."""
    free = [set(axes or ()) for axes in plan.dynamic]
    inputs = {
        name: {
            "dtype": str(t.dtype).removeprefix("torch."),
            "shape": ["any" if k in f else n for k, n in enumerate(t.shape)],
        }
        for name, t, f in zip(plan.names, plan.inputs, free, strict=True)
    }
    return {"inputs": inputs, "units": plan.units, "output": plan.output, "difference_from_network": error}
