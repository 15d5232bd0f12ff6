"""``spheregeo fit``: train a model."""

from __future__ import annotations

import argparse

from spheregeo.cli.commands import add_recipe

SUMMARY = "train a model"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a run that is already in the folder"
    )


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train."""
    from spheregeo.cli import engine

    engine.fit(options.recipe, options.output, options.resume, options.overwrite, overrides)
