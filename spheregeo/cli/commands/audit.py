"""``spheregeo audit``: measure equivariance error, cost and memory."""

from __future__ import annotations

import argparse

from spheregeo.cli.commands import add_checkpoint, add_recipe

SUMMARY = "measure equivariance error, cost and memory"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    add_recipe(parser)
    add_checkpoint(parser, "the run's best, else an untrained model")
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON too")
    parser.add_argument(
        "--plot", metavar="FILE", help="of images: draw the error by angle as a polar plot, such as polar.png"
    )


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Measure."""
    from spheregeo.cli import engine

    engine.audit(options.recipe, options.ckpt, options.output, options.json, overrides, options.plot)
