"""A simulation as the command line asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spheregeo.cli.dynamics.folder import work_folder
from spheregeo.cli.dynamics.inputs import digests, model_files, open_models, read_structures
from spheregeo.files import write_json


def run(options: Any) -> None:
    """Simulate as the command line asks.

    Args:
        options: those of ``spheregeo simulate``.

    Raises: FileNotFoundError, ValueError for what is missing or bad; SimulationError for a simulation that has ended itself.
    """
    from spheregeo.tasks.molecules.dynamics.ensembles import Ensemble
    from spheregeo.tasks.molecules.dynamics.many import simulate_many
    from spheregeo.tasks.molecules.dynamics.simulation import Plan, simulate

    ensemble = Ensemble(
        options.ensemble, options.timestep, options.temperature, options.pressure, options.friction, options.thermostat_time,
        options.barostat_time, options.cell, options.seed,
    )  # fmt: skip
    plan = Plan(
        options.steps, options.every, options.save_every, options.max_temperature, options.stop_deviation,
        options.label_deviation,
    )  # fmt: skip
    frames = read_structures(options.input, None if options.all_frames else str(options.frame))
    files = model_files(options.model)
    folder = Path(options.output)
    frame = "all" if options.all_frames else options.frame
    asked = {
        **vars(ensemble), "every": plan.every, "save_every": plan.save_every, "frame": frame,
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
        calculator = open_models(files, options.device, options.precision, options.trust)
        if options.all_frames:
            task = getattr(calculator, "task", None)
            if task is None:
                raise ValueError(
                    "--all-frames takes one trained model, no committee and none of ASE's potentials"
                )
            found = simulate_many(frames, task, ensemble, plan, folder, resume=options.resume)
        else:
            (atoms,) = frames
            atoms.calc = calculator
            found = simulate(atoms, ensemble, plan, folder, resume=options.resume)
        write_json(folder / "summary.json", found)
        print(", ".join(f"{name} {value:.6g}" for name, value in found.items()))
        print(f"written to {folder}: trajectory.xyz, trajectory.traj, energies.csv, energies.png")
