"""``spheregeo list``: what there is."""

from __future__ import annotations

import argparse

from spheregeo.cli import listing

SUMMARY = "show what there is"
OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("what", choices=listing.LISTS)


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Print the list."""
    print(listing.table(options.what))
