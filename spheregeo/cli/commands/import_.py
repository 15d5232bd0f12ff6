"""``spheregeo import``: models of other libraries as checkpoints of this one."""

from __future__ import annotations

import argparse

SUMMARY = "make a checkpoint of a model of another library: energies, forces and stress equal its own"
OVERRIDES = False
KINDS = ("mace",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("kind", choices=KINDS, help="library: mace for models of mace-torch")
    parser.add_argument("file", metavar="FILE", help="the model's file, as that library saves it")
    parser.add_argument("--output", metavar="CKPT", required=True, help="checkpoint to write")
    parser.add_argument("--head", metavar="NAME", help="one of several heads (default: the first)")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="open the file although it is a pickle, which can run any code; for files whose origin you know",
    )


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Import."""
    from spheregeo.tasks.molecules.imported import import_mace

    print(import_mace(options.file, options.output, options.head, trust=options.trust))
