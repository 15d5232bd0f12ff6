"""``spheregeo relax``: structures at rest by a trained model, their elastic constants, phonons and vibrations."""

from __future__ import annotations

import argparse

from spheregeo.cli.commands.simulate import add_model

SUMMARY = "relax structures with a trained model; elastic constants, phonons, vibrations"
OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    add_model(parser, "runs/relaxation")
    parser.add_argument("--optimizer", choices=("bfgs", "fire"), default="bfgs", help="ASE's optimiser")
    parser.add_argument(
        "--fmax", type=float, default=0.01, metavar="N", help="largest force at rest, eV/Å (default: 0.01)"
    )
    parser.add_argument("--steps", type=int, default=500, metavar="N", help="most steps (default: 500)")
    parser.add_argument(
        "--cell",
        choices=("none", "isotropic", "full"),
        default="none",
        help="how the cell changes (default: none)",
    )
    parser.add_argument(
        "--pressure", type=float, default=0.0, metavar="N", help="on a cell that changes, GPa (default: 0)"
    )
    parser.add_argument(
        "--frames",
        metavar="K",
        help="which structures of the input: a number or a slice such as 0:10 (default: all)",
    )
    parser.add_argument(
        "--elastic", action="store_true", help="elastic constants of crystals, by finite strains"
    )
    parser.add_argument(
        "--phonons", type=int, metavar="N", help="phonons of crystals, in supercells of N x N x N"
    )
    parser.add_argument("--vibrations", action="store_true", help="frequencies of molecules")


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Relax."""
    from spheregeo.cli.dynamics import relax

    relax.run(options)
