"""``spheregeo new``: a recipe for the user's own data."""

from __future__ import annotations

import argparse

KINDS = ("segment-sphere", "depth-sphere", "classify-points", "classify-mesh", "regress-molecules", "fit-md")
SUMMARY = "look at your own data, tell what is there and what is odd, write a recipe for it"
OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("kind", metavar="JOB", choices=KINDS, help=f"one of {', '.join(KINDS)}")
    parser.add_argument("--data", required=True, metavar="FILE_OR_DIR", help="the data")
    parser.add_argument("--output", metavar="FILE", help="the recipe (default: JOB-NAME.yaml here)")
    parser.add_argument("--classes", default="", metavar="A,B,...", help="names of classes, for classes.txt")
    parser.add_argument("--overwrite", action="store_true", help="replace a recipe that is there")


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Look and write."""
    from spheregeo.cli import new

    classes = [name.strip() for name in options.classes.split(",") if name.strip()]
    new.run(options.kind, options.data, options.output, classes, options.overwrite)
