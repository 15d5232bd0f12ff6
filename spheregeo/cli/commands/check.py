"""``spheregeo check``: read all of a recipe's data once, and name every bad file."""

from __future__ import annotations

import argparse
import os

from spheregeo.cli.commands import RECIPE_HELP, add_trust

SUMMARY = "read all of the data once, in parallel, and name every bad file"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("recipe", metavar="RECIPE", help=RECIPE_HELP)
    add_trust(parser)
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), metavar="N", help="processes that read"
    )
    parser.add_argument("--json", metavar="FILE", help="write what was found as JSON too")


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Read and report."""
    from spheregeo.cli import check

    check.run(options.recipe, options.workers, options.json, overrides)
