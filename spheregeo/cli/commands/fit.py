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
    parser.add_argument(
        "--init",
        metavar="FILE_OR_RUN",
        help="start from the weights of a checkpoint or a run; parts of another shape stay new",
    )
    parser.add_argument(
        "--freeze",
        metavar="PATTERN",
        action="append",
        default=[],
        help="keep the parameters whose names match, such as 'network.encoder.*'; may be given several times",
    )
    parser.add_argument(
        "--profile",
        choices=("simple", "advanced", "pytorch"),
        help="measure where the time goes; the table goes to the run's folder",
    )


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train."""
    from spheregeo.cli import engine

    engine.fit(
        options.recipe, options.output, options.resume, options.overwrite, overrides,
        init=options.init, freeze=options.freeze, profile=options.profile,
    )  # fmt: skip
