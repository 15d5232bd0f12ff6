"""``spheregeo test``: score on the test split."""

from __future__ import annotations

import argparse

from spheregeo.cli.commands import add_checkpoint, add_recipe

SUMMARY = "score on the test split"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    add_recipe(parser)
    add_checkpoint(parser)


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Score."""
    from spheregeo.cli import engine

    engine.score("test", options.recipe, options.ckpt, options.output, overrides)
