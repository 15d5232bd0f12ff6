"""Models of mace-torch as plain data and back, and what they gave; run beside mace-torch, this file writes mace_models.npz."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

FILE = Path(__file__).with_name("mace_models.npz")
_LISTS = {"ModuleList": nn.ModuleList, "ParameterList": nn.ParameterList}
CASES: dict[str, dict[str, Any]] = {
    "molecule": {"hidden": "2x0e + 2x1o"},
    "crystal": {
        "first": "",
        "lmax": 2,
        "hidden": "2x0e + 2x1o",
        "repulsion": True,
        "agnesi": True,
        "crystal": True,
    },
    "heads": {"kind": "Density", "lmax": 1, "hidden": "2x0e + 2x1o", "heads": ["a", "b"], "correlation": 2},
    "plain": {
        "lmax": 2,
        "hidden": "2x0e + 2x1o + 2x2e",
        "scaled": False,
        "elements": [8],
        "correlation": 2,
        "crystal": True,
    },
}


def positions_and_cell(crystal: bool) -> tuple[np.ndarray, np.ndarray | None]:
    rng = np.random.default_rng(3)
    if not crystal:
        return rng.normal(size=(5, 3)) * 1.5, None
    return rng.uniform(size=(3, 3)) * 3.0, np.eye(3) * 3.1 + rng.normal(size=(3, 3)) * 0.2


# ---- data and back


def describe(module: nn.Module, arrays: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """A module as names and numbers: class, own tensors (put into ``arrays``), plain attributes, parts."""
    kind = type(module).__name__
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for key, value in own:
        if "output_mask" not in key and "w3j" not in key:
            arrays[f"{name}.{key}"] = value.detach().numpy()
    plain: dict[str, Any] = {}
    for key, value in vars(module).items():
        if key.startswith("_") or key == "training":
            continue
        if key == "instructions":
            fields = ("i_in", "i_in1", "i_in2", "i_out", "path_shape", "path_weight")
            plain[key] = [{f: getattr(step, f) for f in fields if hasattr(step, f)} for step in value]
        elif isinstance(value, Irreps):
            plain[key] = {"irreps": str(value)}
        elif isinstance(value, (bool, int, float, str)) or (
            key in ("hs", "heads") and isinstance(value, list)
        ):
            plain[key] = value
    parts = {
        key: describe(part, arrays, f"{name}.{key}")
        for key, part in module.named_children()
        if not key.startswith(("_compiled", "contractions_", "graph_opt", "reshape", "spherical_harmonics"))
    }
    trained = [key for key, value in module.named_parameters(recurse=False) if value.requires_grad]
    return {"kind": kind, "plain": plain, "parts": parts, "own": [key for key, _ in own], "trained": trained}


def rebuild(facts: dict[str, Any], arrays: Any, name: str) -> nn.Module:
    """A module with a class of the same name, the same attributes, and no forward but that of activations."""
    kind = facts["kind"]
    if kind in _LISTS:
        if kind == "ParameterList":
            return nn.ParameterList(torch.from_numpy(arrays[f"{name}.{key}"].copy()) for key in facts["own"])
        return nn.ModuleList(rebuild(part, arrays, f"{name}.{key}") for key, part in facts["parts"].items())
    made: Any = type(kind, (nn.Module,), {})()
    for key, value in facts["plain"].items():
        if key == "instructions":
            value = [SimpleNamespace(**step) for step in value]
        elif isinstance(value, dict):
            value = Irreps(value["irreps"])
        setattr(made, key, value)
    if kind == "normalize2mom":
        type(made).forward = lambda self, x: self.cst * nn.functional.silu(x)  # type: ignore[attr-defined]
    for key in facts["own"]:
        if f"{name}.{key}" in arrays:
            value = torch.from_numpy(arrays[f"{name}.{key}"].copy())
            if key in facts["trained"]:
                made.register_parameter(key, nn.Parameter(value))
            else:
                made.register_buffer(key, value)
    for key, part in facts["parts"].items():
        made.add_module(key, rebuild(part, arrays, f"{name}.{key}"))
    return made


def loss_of(energy: Tensor, forces: Tensor, stress: Tensor | None) -> Tensor:
    """A loss of energies, forces and stress with fixed weights."""
    pattern = torch.linspace(-1, 1, forces.numel(), dtype=forces.dtype).view_as(forces)
    loss = 0.3 * energy.sum() + (forces * pattern).sum() + forces.square().sum()
    return loss if stress is None else loss + 10 * stress.square().sum()


# ---- mace-torch


def make(
    kind: str = "",
    first: str = "Residual",
    lmax: int = 3,
    hidden: str = "2x0e + 2x1o",
    correlation: int = 3,
    elements: Any = (1, 6, 8),
    heads: list[str] | None = None,
    scaled: bool = True,
    repulsion: bool = False,
    agnesi: bool = False,
    crystal: bool = False,
) -> nn.Module:
    """A model of mace-torch with random weights."""
    from e3nn import o3
    from mace import modules

    torch.manual_seed(1)
    count = len(heads) if heads else 1
    energies = np.arange(count * len(elements), dtype=float).reshape(count, -1) - 2.5
    arguments: dict[str, Any] = {
        "r_max": 3.5, "num_bessel": 4, "num_polynomial_cutoff": 5, "max_ell": lmax,
        "interaction_cls": getattr(modules, f"RealAgnostic{kind}ResidualInteractionBlock"),
        "interaction_cls_first": getattr(modules, f"RealAgnostic{kind}{first}InteractionBlock"),
        "num_interactions": 2, "num_elements": len(elements), "hidden_irreps": o3.Irreps(hidden),
        "MLP_irreps": o3.Irreps("3x0e"), "atomic_energies": energies if heads else energies[0],
        "avg_num_neighbors": 5.3, "atomic_numbers": list(elements), "correlation": correlation,
        "gate": torch.nn.functional.silu, "heads": heads, "pair_repulsion": repulsion,
        "distance_transform": "Agnesi" if agnesi else "None", "radial_MLP": [5, 4],
    }  # fmt: skip
    if not scaled:
        return modules.MACE(**arguments)
    scale, shift = ([0.7, 1.3], [0.2, -0.4]) if heads else (0.7, 0.2)
    return modules.ScaleShiftMACE(atomic_inter_scale=scale, atomic_inter_shift=shift, **arguments)


def evaluate(model: Any, crystal: bool, head: str | None) -> dict[str, np.ndarray]:
    """Energy, forces, stress, and the gradients of a loss of them to all weights, by mace-torch."""
    import ase
    from mace import data, tools
    from mace.tools import torch_geometric

    positions, cell = positions_and_cell(crystal)
    elements = [int(z) for z in model.atomic_numbers]
    numbers = [elements[k % len(elements)] for k in range(len(positions))]
    atoms = ase.Atoms(numbers, positions=positions, cell=cell, pbc=crystal)
    config = data.config_from_atoms(atoms)
    config.head = head or model.heads[0]
    table = tools.AtomicNumberTable(elements)
    item = data.AtomicData.from_config(config, z_table=table, cutoff=float(model.r_max), heads=model.heads)
    loader = torch_geometric.dataloader.DataLoader([item], batch_size=1, shuffle=False)
    found = model(next(iter(loader)).to_dict(), training=True, compute_stress=crystal)
    stress = found["stress"][0] if crystal else None
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    loss = loss_of(found["energy"], found["forces"], stress)
    slopes = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    result = {
        "energy": found["energy"],
        "forces": found["forces"],
        **({} if stress is None else {"stress": stress}),
    }
    for (name, p), slope in zip(trained.items(), slopes, strict=True):
        result[f"slope.{name}"] = torch.zeros_like(p) if slope is None else slope
    return {"numbers": np.array(numbers), **{name: value.detach().numpy() for name, value in result.items()}}


def main() -> None:
    torch.set_default_dtype(torch.float64)
    arrays: dict[str, np.ndarray] = {}
    facts = {}
    for name, options in CASES.items():
        model = make(**options)
        facts[name] = describe(model, arrays, name)
        head = "b" if options.get("heads") else None
        for key, value in evaluate(model, options.get("crystal", False), head).items():
            arrays[f"{name}/{key}"] = value
    arrays["facts"] = np.array(json.dumps(facts))
    np.savez_compressed(FILE, **arrays)  # type: ignore[arg-type]
    print(FILE, FILE.stat().st_size)


if __name__ == "__main__":
    main()
