"""``spheregeo demo``: three jobs in a few minutes."""

from __future__ import annotations

import argparse

SUMMARY = "train a small network for each of three jobs, beside a baseline; draw a sheet"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("--output", metavar="DIR", default="runs/demo", help="folder (default: runs/demo)")


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train, score and draw."""
    from spheregeo.cli import demo

    demo.run(options.output, overrides)
