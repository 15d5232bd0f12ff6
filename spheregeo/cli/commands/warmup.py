"""``spheregeo warmup``: compile what networks need, before the first run does."""

from __future__ import annotations

import argparse

SUMMARY = "compile the kernels of recipes into the cache, so that first runs start at once"
OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    from spheregeo.cli.warmup import RECIPES

    parser.add_argument(
        "recipes",
        metavar="RECIPE",
        nargs="*",
        default=list(RECIPES),
        help="names or paths of recipes whose data are at hand (default: those with generated data)",
    )


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Compile."""
    from spheregeo.cli import warmup

    warmup.run(options.recipes)
