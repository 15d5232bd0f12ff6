"""``spheregeo simulate``: molecular dynamics with a trained model."""

from __future__ import annotations

import argparse

SUMMARY = "molecular dynamics with a trained model: NVE, Langevin, NVT, NPT; goes on where it was killed"
OVERRIDES = False
MODEL_HELP = (
    "run's folder, checkpoint or recipe of fit-forces, fit-md or fit-slabs; several are a committee; "
    "a compiled forces.pt2 with --trust; emt or lj for ASE's own potentials"
)
INPUT_HELP = "structures, in extended XYZ or any format that ASE reads"


def add_model(parser: argparse.ArgumentParser, output: str) -> None:
    """Add the arguments that simulations and relaxations share.

    Args:
        parser: parser of the command.
        output: default folder.
    """
    parser.add_argument("model", metavar="MODEL", nargs="+", help=MODEL_HELP)
    parser.add_argument("--input", required=True, metavar="FILE", help=INPUT_HELP)
    parser.add_argument(
        "--output", metavar="DIR", default=output, help=f"folder of the answers (default: {output})"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is already in the folder")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="open a compiled force field (forces.pt2 of spheregeo export), which is code for this machine",
    )
    parser.add_argument("--device", help="where to compute, such as cpu or cuda")
    parser.add_argument(
        "--precision", choices=("64", "32"), default="64", help="bits of the model's numbers (default: 64)"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    add_model(parser, "runs/simulation")
    numbers = (
        ("--steps", int, 1000, "number of steps"),
        ("--timestep", float, 0.5, "length of a step, fs"),
        (
            "--temperature",
            float,
            300.0,
            "of the thermostat, and of the velocities where the input has none, K",
        ),
        ("--pressure", float, 0.0, "of npt, GPa"),
        ("--friction", float, 0.01, "of langevin, 1/fs"),
        ("--thermostat-time", float, 100.0, "time scale of the thermostat of nvt and npt, fs"),
        ("--barostat-time", float, 1000.0, "time scale of the barostat of npt, fs"),
        ("--seed", int, 0, "seed of velocities and noise"),
        ("--frame", int, 0, "which structure of the input"),
        ("--every", int, 10, "steps between two frames"),
        ("--save-every", int, 10, "frames between two states, from which --resume goes on"),
        ("--max-temperature", float, 10_000.0, "temperature at which the simulation ends itself, K"),
    )
    parser.add_argument(
        "--ensemble", choices=("nve", "langevin", "nvt", "npt"), default="nve", help="what is held constant"
    )
    for name, kind, default, text in numbers:
        parser.add_argument(
            name, type=kind, default=default, metavar="N", help=f"{text} (default: {default:g})"
        )
    parser.add_argument(
        "--all-frames",
        action="store_true",
        help="simulate all structures of the input at once, by one call of the network a step (nve, langevin)",
    )
    parser.add_argument(
        "--cell", choices=("isotropic", "full"), default="isotropic", help="how npt changes the cell"
    )
    parser.add_argument(
        "--stop-deviation",
        type=float,
        metavar="N",
        help="end where a committee's forces on an atom differ by as much, eV/Å",
    )
    parser.add_argument(
        "--label-deviation",
        type=float,
        metavar="N",
        help="also write frames to to_label.xyz where they differ by as much, eV/Å",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the folder's last state, bit by bit as without a stop",
    )


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Simulate."""
    from spheregeo.cli.dynamics import simulate

    simulate.run(options)
