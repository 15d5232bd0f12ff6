"""A simulation as the command line asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spheregeo.cli.dynamics.folder import work_folder
from spheregeo.cli.dynamics.inputs import digests, model_files, open_models, read_structures
from spheregeo.files import write_json


def run(options: Any) -> None:
    """Simulate as the command line asks. Raises: as the engine."""
    from spheregeo.tasks.molecules.dynamics.ensembles import Ensemble
    from spheregeo.tasks.molecules.dynamics.simulation import Plan, simulate

    ensemble = Ensemble(
        options.ensemble, options.timestep, options.temperature, options.pressure, options.friction, options.thermostat_time,
        options.barostat_time, options.cell, options.seed,
    )  # fmt: skip
    plan = Plan(
        options.steps, options.every, options.save_every, options.max_temperature, options.stop_deviation,
        options.label_deviation,
    )  # fmt: skip
    (atoms,) = read_structures(options.input, str(options.frame))
    files = model_files(options.model)
    folder = Path(options.output)
    asked = {
        **vars(ensemble), "every": plan.every, "save_every": plan.save_every, "frame": options.frame,
        "precision": options.precision, "label_deviation": plan.label_deviation, **digests(files, options.input),
    }  # fmt: skip
    ours = (
        "state.npz",
        "trajectory.xyz",
        "trajectory.traj",
        "energies.csv",
        "energies.png",
        "to_label.xyz",
        "summary.json",
    )
    with work_folder(folder, "simulation", "simulation.json", asked, ours, options.resume, options.overwrite):
        atoms.calc = open_models(files, options.device, options.precision)
        found = simulate(atoms, ensemble, plan, folder, resume=options.resume)
        write_json(folder / "summary.json", found)
        print(", ".join(f"{name} {value:.6g}" for name, value in found.items()))
        print(f"written to {folder}: trajectory.xyz, trajectory.traj, energies.csv, energies.png")
